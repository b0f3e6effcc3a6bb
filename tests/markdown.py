"""Reading the project's Markdown: its files, blocks, headings, links and code spans."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_FENCED = r"(?ms)(?:^<!-- test: (?P<directive>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$"
_BLOCK = re.compile(_FENCED)
GENERATED = re.compile(r"\.git|\.venvs?|\..*_cache|\.hypothesis|build|data|dist|.*\.egg-info|__pycache__")
"""Folders that are not part of the repository."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, and what the comment above it tells the tests."""

    line: int
    language: str
    text: str
    directive: str

    @property
    def reason_to_skip(self) -> str | None:
        return self.directive.removeprefix("skip because ") if self.directive.startswith("skip because ") else None


def documents() -> list[Path]:
    """All Markdown files of the repository."""
    return files("*.md")


def files(*patterns: str) -> list[Path]:
    """The files of the repository whose names match."""
    found = {path for folder in folders() for pattern in patterns for path in folder.rglob(pattern)}
    found |= {path for pattern in patterns for path in ROOT.glob(pattern)}
    return sorted(path for path in found if path.is_file() and not _is_generated(path))


def folders() -> list[Path]:
    """Those at the top of the repository."""
    return [path for path in ROOT.iterdir() if path.is_dir() and not GENERATED.fullmatch(path.name)]


def _is_generated(path: Path) -> bool:
    return any(GENERATED.fullmatch(part) for part in path.relative_to(ROOT).parts)


def blocks_of(text: str) -> list[Block]:
    return [
        Block(text.count("\n", 0, match.start()) + 1, match["language"], match["text"], match["directive"] or "")
        for match in _BLOCK.finditer(text)
    ]


def prose_of(text: str) -> str:
    """The text without its fenced blocks, whose lines are left empty so that line numbers stay right."""
    return _BLOCK.sub(lambda match: "\n" * match[0].count("\n"), text)


def spans_of(text: str) -> list[str]:
    """What is in backticks in the prose; one that goes on in the next line has a blank there."""
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose_of(text))]


def links_of(text: str) -> list[str]:
    """The targets of links and images, ``[text](target)`` and ``[name]: target``, code spans aside."""
    plain = re.sub(r"`[^`]+`", lambda match: re.sub(r"[\[\]()]", "", match[0]), prose_of(text))
    return re.findall(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)", plain) + re.findall(r"(?m)^\[[^\]]+\]:\s+(\S+)", plain)


def images_of(text: str) -> list[str]:
    """The files of the pictures, ``![text](file)`` and those of HTML, that are not of other hosts."""
    prose = prose_of(text)
    found = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", prose) + re.findall(r'\bsrc(?:set)?="([^"]+)"', prose)
    return [target for target in found if "://" not in target]


def anchors_of(text: str) -> set[str]:
    """The fragments that GitHub gives to the headings; a heading that comes again has ``-1``, ``-2`` behind it."""
    anchors: set[str] = set()
    for heading in re.findall(r"(?m)^#{1,6} +(.*?) *#*$", prose_of(text)):
        slug = _slug(heading)
        number = 0
        while (f"{slug}-{number}" if number else slug) in anchors:
            number += 1
        anchors.add(f"{slug}-{number}" if number else slug)
    return anchors


def _slug(heading: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
