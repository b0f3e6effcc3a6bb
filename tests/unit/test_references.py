"""What documents, comments and docstrings refer to exists: links, paths, make targets, commands and flags."""

from __future__ import annotations

import ast
import io
import re
import shlex
import subprocess
import sys
import tokenize
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import typer

from tests.markdown import ROOT, anchors_of, blocks_of, documents, files, folders, links_of, prose_of, spans_of
from thingmint.access.administration.policies import MANAGED_POLICIES
from thingmint.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE = ROOT / "src" / "thingmint"
DOCUMENTS = documents()
SOURCES = files("*.py")
OTHERS = [*files("*.toml", "*.yaml", "*.yml", "*.sh", "*.sql", "*.service"), ROOT / "Makefile", ROOT / ".ci/run"]

# Hosts that are reserved for examples, are this machine, or are the addresses that real clients have built in.
KNOWN_HOSTS = re.compile(
    r"localhost|127\.0\.0\.1|192\.0\.2\.\d+|192\.168\.\d+\.\d+|(?:[\w-]+\.)*example\.(?:com|org|net)"
    r"|iot\.us-east-1\.amazonaws\.com|(?:[\w-]+\.)*api\.cloud\.yandex\.net"
)
# Folders whose files documents name by their paths in the repository.
TOP = {folder.name for folder in folders()}
_FILE = re.compile(r"(?:[\w.-]+/)*[\w.-]+\.(?:py|md|toml|sql|sh|txt|binpb|yaml)")


def _names(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=_names)
def test_links_have_targets(document: Path) -> None:
    wrong = []
    for link in links_of(document.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists():
            wrong.append(f"{link}: there is no such file")
        elif anchor and anchor not in anchors_of(target.read_text()):
            wrong.append(f"{link}: there is no such heading")
    assert wrong == []


def test_every_page_is_linked_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links_of(index.read_text())}
    pages = {path.resolve() for path in (ROOT / "docs").rglob("*.md")} - {index.resolve()}
    assert sorted(map(_names, pages - linked)) == []
    assert "docs/README.md" in links_of((ROOT / "README.md").read_text())


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("document", [*DOCUMENTS, *OTHERS], ids=_names)
def test_addresses_are_known(document: Path) -> None:
    """A new host has to be added to those above after a look whether it exists."""
    urls = re.findall(r"\b(?:https?|mqtts?|wss?|grpcs?)://[^\s`'\"<>)|]+", document.read_text())
    hosts = {urlsplit(url).hostname for url in urls if not re.search(r"://[A-Z$]", url)}  # a placeholder in capitals
    assert {host for host in hosts if host and not KNOWN_HOSTS.fullmatch(host)} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=_names)
def test_paths_in_documents_exist(document: Path) -> None:
    assert [span for span in spans_of(document.read_text()) if _is_path(span) and not _exists(span, document)] == []


def _is_path(span: str) -> bool:
    """Whether this looks like the path of a file or folder of the repository."""
    if not re.fullmatch(r"[\w./<>*{}-]+", span) or span.startswith(("/", "./")) or span in MANAGED_POLICIES:
        return False
    first, slash, _ = span.partition("/")
    return bool(slash) and (first in TOP or (PACKAGE / first).is_dir())


def _exists(span: str, document: Path) -> bool:
    """From the root, from the package or from the document; ``<noun>`` and ``*`` stand for anything."""
    pattern = re.sub(r"<[^>]*>|\{[^}]*\}", "*", span).rstrip("/")
    return any(
        next(folder.glob(f"{pattern}{suffix}"), None) is not None
        for folder in (ROOT, PACKAGE, document.parent)
        for suffix in ("", ".py")
    )


@cache
def _targets() -> set[str]:
    return set(re.findall(r"(?m)^([a-z][a-z-]*):", (ROOT / "Makefile").read_text()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=_names)
def test_make_targets_exist(document: Path) -> None:
    text = document.read_text()
    code = [*spans_of(text), *(block.text for block in blocks_of(text) if block.language == "sh")]
    named = [word for part in code for word in _make_targets(part)]
    assert [name for name in named if name not in _targets()] == []


def _make_targets(code: str) -> Iterator[str]:
    """The words behind ``make`` where that is the command."""
    for match in re.finditer(r"(?m)(?:^|[;&|(]\s*|[A-Z]+=\S+ )make((?: [\w=./-]+)+)", code):
        for word in match[1].split():
            if "=" not in word and not word.startswith("-"):
                yield word


@pytest.mark.parametrize("document", DOCUMENTS, ids=_names)
def test_commands_exist(document: Path) -> None:
    text = document.read_text()
    wrong = [problem for span in spans_of(text) for problem in _problems(span, whole=False)]
    for block in blocks_of(text):
        if block.language in ("sh", "text", ""):
            wrong += _problems(block.text, whole=True)
    assert wrong == []


def _problems(code: str, *, whole: bool) -> Iterator[str]:
    """What is wrong with the ``thingmint`` commands in it. Only ``whole`` ones have to say everything."""
    joined = code.replace("\\\n", " ")
    for match in re.finditer(r"(?m)(?:^|[;&|(/]\s*|\b[A-Z_]+=\S+ )thingmint (?=[a-z-])([^\n;&|)>#]*)", joined):
        yield from _problems_of(match[1], whole=whole)


@cache
def _cli() -> Any:
    return typer.main.get_command(app)


def _problems_of(arguments: str, *, whole: bool) -> Iterator[str]:
    command = _cli()
    path = ["thingmint"]
    flags: list[str] = []
    for word in _words(arguments):
        if word.startswith("-"):
            flags.append(word.partition("=")[0])
        elif not hasattr(command, "commands") or word.isupper() or not re.fullmatch(r"[a-z-]+", word):
            continue
        elif word in command.commands:
            command = command.commands[word]
            path.append(word)
        else:
            yield f"{' '.join(path)} has no command {word}"
            return
    if whole and hasattr(command, "commands") and not {"--help", "--version"} & set(flags):
        yield f"{' '.join(path)} is no whole command"
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    for flag in flags:
        if flag not in known:
            yield f"{' '.join(path)} has no {flag}"


def _words(arguments: str) -> list[str]:
    try:
        return shlex.split(arguments)
    except ValueError:  # a quote that ends behind a character at which the command was cut
        return arguments.split()


# Programs whose flags are named in prose without a command around them.
OTHER_FLAGS = {"--limit": "yc", "--basetemp": "pytest", "--check": "scripts", "--upgrade": "scripts/lock.py"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=_names)
def test_flags_in_prose_exist(document: Path) -> None:
    flags = {span.partition(" ")[0].partition("=")[0] for span in spans_of(document.read_text())}
    assert {flag for flag in flags if flag.startswith("--")} - _all_flags() - set(OTHER_FLAGS) == set()


@cache
def _all_flags() -> frozenset[str]:
    found = {"--help"}
    waiting = [_cli()]
    while waiting:
        command = waiting.pop()
        found.update(option for parameter in command.params for option in parameter.opts)
        waiting += getattr(command, "commands", {}).values()
    return frozenset(found)


def test_files_that_comments_name_exist() -> None:
    wrong = []
    for source in SOURCES:
        for line, text in _comments_and_docstrings(source):
            wrong += [f"{_names(source)}:{line}: {name}" for name in _missing_files(text, source)]
    for file in OTHERS:
        wrong += [f"{_names(file)}: {name}" for name in _missing_files(_comments_of_lines(file), file)]
    assert wrong == []


def _missing_files(text: str, source: Path) -> Iterator[str]:
    """Names of files of the repository in it that no file has."""
    for match in _FILE.finditer(re.sub(r"\w+://\S+", "", text)):
        name = match[0]
        if not (name.startswith((*(f"{top}/" for top in TOP), *(f"{p.name}/" for p in _packages()))) or _is_page(name)):
            continue
        if not any((folder / name).exists() for folder in (ROOT, PACKAGE, ROOT / "docs", source.parent)):
            yield name


@cache
def _packages() -> list[Path]:
    return [path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"]


def _is_page(name: str) -> bool:
    return name.endswith(".md") and "/" not in name


def _comments_of_lines(file: Path) -> str:
    mark = "--" if file.suffix == ".sql" else "#"
    return "\n".join(re.findall(rf"(?m){mark}(.*)$", file.read_text()))


def _comments_and_docstrings(source: Path) -> Iterator[tuple[int, str]]:
    text = source.read_text()
    if _FILE.search(text) is None:
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def test_the_tables_of_what_is_served_are_what_the_code_serves() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/served.py", "--check"], cwd=ROOT, capture_output=True, check=False, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr


# That these checks see what is wrong.


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("thingmint acces user list", "thingmint has no command acces"),  # codespell:ignore
        ("thingmint access user lst", "thingmint access user has no command lst"),
        ("thingmint serve --data-dirs data", "thingmint serve has no --data-dirs"),
        ("FOO=1 thingmint init --host=x", "thingmint init has no --host"),
        ("/opt/thingmint/bin/thingmint serve --prot 1", "thingmint serve has no --prot"),
        ("true; thingmint access", "thingmint access is no whole command"),
    ],
)
def test_a_wrong_command_is_seen(code: str, problem: str) -> None:
    assert list(_problems(code, whole=True)) == [problem]


def test_a_wrong_path_target_or_anchor_is_seen() -> None:
    readme = ROOT / "README.md"
    assert _is_path("docs/no-such-page.md")
    assert not _exists("docs/no-such-page.md", readme)
    assert _is_path("services/no_such_module.py")
    assert not _exists("services/no_such_module.py", readme)
    assert _exists("services/<noun>.py", readme)
    assert not _is_path("thingmint/ReadOnly")
    assert list(_make_targets("make PYTHON=python3 no-such-target")) == ["no-such-target"]
    assert list(_missing_files("see docs/no-such-page.md, NOTHING.md and README.md", readme)) == [
        "docs/no-such-page.md",
        "NOTHING.md",
    ]
    assert anchors_of("# A `b` c, d\n## Twice\n## Twice\n```sh\n# no heading\n```\n") == {"a-b-c-d", "twice", "twice-1"}
    assert links_of("[a](b.md#c) `[no](link)`\n```text\n[no](link)\n```\n[d]: e.md\n") == ["b.md#c", "e.md"]
    assert prose_of("a\n```sh\nb\n```\nc\n").count("\n") == 5
