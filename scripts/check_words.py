"""Find words that this project does not use, in identifiers, log events, comments, docstrings and documents.

    python scripts/check_words.py             # all files that git knows
    python scripts/check_words.py FILE ...    # some of them

The words, and what to write instead, are in scripts/words.toml.
"""

from __future__ import annotations

import ast
import io
import keyword
import re
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROOT = Path(__file__).parent.parent
WORDS = ROOT / "scripts" / "words.toml"

# Files in which a word is allowed, because it means something else there: the list of words, and leaves of trees.
EXCEPTIONS: Mapping[str, frozenset[str]] = {
    "src/thingmint/aws/contract/routing.py": frozenset({"leaf"}),
    "src/thingmint/yandex/contract/transcoding.py": frozenset({"leaf"}),
    "tests/unit/test_check_words.py": frozenset({"*"}),
}

_YANDEX_PASSPORT = re.compile("yandex_?passport", re.IGNORECASE)  # a product of Yandex, in the name of a field
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_EVENT = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LEVELS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
_CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"``[^`]+``|`[^`]+`|https?://\S+")


class Words(NamedTuple):
    """The words that are not used, with the words to use instead."""

    in_identifiers: Mapping[str, str]
    in_prose: Mapping[str, str]

    @classmethod
    def read(cls) -> Words:
        tables = tomllib.loads(WORDS.read_text("utf-8"))
        return cls(tables["both"] | tables["identifiers"], tables["both"] | tables["prose"])


class Finding(NamedTuple):
    path: str
    line: int
    word: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word!r}: {self.instead}"


def in_prose(text: str, words: Mapping[str, str]) -> Iterator[tuple[int, str, str]]:
    """(line from 0, word, word to use instead) for each finding in the text, without its code."""
    plain = _CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    for word, instead in words.items():
        for match in re.finditer(rf"(?<![\w-]){re.escape(word)}(s|'s)?(?![\w-])", plain, re.IGNORECASE):
            yield plain.count("\n", 0, match.start()), word, instead


def in_identifier(name: str, words: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(word, word to use instead) for each word that is a part, or several parts, of the name."""
    parts = "_".join(_PARTS.findall(_YANDEX_PASSPORT.sub("", name))).lower()
    for word, instead in words.items():
        if re.search(rf"(?<![a-z]){word}s?(?![a-z])", parts):
            yield word, instead


def of_python(path: str, source: str, words: Words) -> Iterator[Finding]:
    """The findings in identifiers, comments, docstrings and log events."""
    seen: set[str] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string) and token.string not in seen:
            seen.add(token.string)
            for word, instead in in_identifier(token.string, words.in_identifiers):
                yield Finding(path, token.start[0], word, f"{instead} (in {token.string})")
        elif token.type == tokenize.COMMENT:
            for _, word, instead in in_prose(token.string, words.in_prose):
                yield Finding(path, token.start[0], word, instead)
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str() as text)):
                yield from _in_text(path, node.lineno, text, words)
            case ast.Constant(value=str() as text) if path.startswith("src/") and " " in text:  # users read these texts
                yield from _in_text(path, node.lineno, text, words)
            case ast.Call(func=ast.Attribute(attr=attr, value=logger), args=[ast.Constant(value=str() as event), *_]):
                name = ast.unparse(logger).lower()
                if attr in _LEVELS and name.endswith(("log", "logger")) and not _EVENT.fullmatch(event):
                    yield Finding(path, node.lineno, event, "a log event is an identifier, and its facts are fields")


def _in_text(path: str, line: int, text: str, words: Words) -> Iterator[Finding]:
    for offset, word, instead in in_prose(text, words.in_prose):
        yield Finding(path, line + offset, word, instead)


def of_markdown(path: str, text: str, words: Words) -> Iterator[Finding]:
    prose = _CODE_BLOCK.sub(lambda match: "\n" * match[0].count("\n"), text)
    for line, word, instead in in_prose(prose, words.in_prose):
        yield Finding(path, line + 1, word, instead)


def findings(paths: Iterable[str], words: Words) -> Iterator[Finding]:
    for path in paths:
        if path in EXCEPTIONS and "*" in EXCEPTIONS[path]:
            continue
        text = (ROOT / path).read_text("utf-8")
        found = of_python(path, text, words) if path.endswith(".py") else of_markdown(path, text, words)
        excepted = EXCEPTIONS.get(path, frozenset())
        yield from (one for one in found if one.word not in excepted)


def main() -> int:
    paths = (
        sys.argv[1:]
        or subprocess.check_output(["git", "ls-files", "--", "*.py", "*.md"], cwd=ROOT, text=True).splitlines()
    )
    found = sorted(set(findings(paths, Words.read())))
    for one in found:
        print(one)
    if found:
        print(f"{len(found)} words of scripts/words.toml. The terms to write are in docs/glossary.md.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
