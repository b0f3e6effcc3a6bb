"""requirements/*.txt lock what pyproject.toml asks for, and pyproject.toml asks for what is imported."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTHONS = [text.rpartition(" ")[2] for text in PROJECT["project"]["classifiers"] if ":: Python :: 3." in text]
FILES = sorted(path.name for path in REQUIREMENTS.iterdir())


def group(name: str) -> list[Requirement]:
    """What a dependency group asks for, with the groups that it includes."""
    found: list[Requirement] = []
    for entry in PROJECT["dependency-groups"][name]:
        found += [Requirement(entry)] if isinstance(entry, str) else group(entry["include-group"])
    return found


RUNTIME = [Requirement(entry) for entry in PROJECT["project"]["dependencies"]]
ASKED = {
    "runtime.txt": RUNTIME,
    "dev.txt": [*RUNTIME, *group("dev")],
    "clients.txt": group("clients"),
    "build.txt": group("build"),
    "audit.txt": group("audit"),
}


def entries(name: str) -> dict[str, str]:
    """The file's pins, each with the lines that follow it: its hashes, and what it is needed by."""
    blocks = re.split(r"(?m)^(?=\w)", (REQUIREMENTS / name).read_text())[1:]
    return dict(re.split(r" \\\n", block, maxsplit=1) for block in blocks)


def pins(name: str, python: str = "3.11") -> list[tuple[str, str]]:
    """Name and version of what the file locks for a version of Python."""
    found: list[tuple[str, str]] = []
    for entry in entries(name):
        pin = Requirement(entry)
        if pin.marker is None or pin.marker.evaluate({"python_version": python, "python_full_version": f"{python}.0"}):
            found.append((canonicalize_name(pin.name), str(pin.specifier).removeprefix("==")))
    return found


def test_each_file_is_compiled_from_a_part_of_the_project() -> None:
    assert set(FILES) == set(ASKED)


@pytest.mark.parametrize("name", FILES)
def test_direct_dependencies_are_locked_within_their_bounds(name: str) -> None:
    versions = dict(pins(name))
    for requirement in ASKED[name]:
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: {version} is locked"


@pytest.mark.parametrize("name", FILES)
def test_the_file_was_compiled_from_these_dependencies(name: str) -> None:
    """A dependency that was removed from pyproject.toml is removed from the file by `make lock`."""
    direct = {Requirement(pin).name for pin, rest in entries(name).items() if "thingmint (pyproject.toml" in rest}
    assert direct == {canonicalize_name(requirement.name) for requirement in ASKED[name]}


@pytest.mark.parametrize("name", FILES)
def test_pins_have_hashes_and_name_no_host(name: str) -> None:
    text = (REQUIREMENTS / name).read_text()
    assert "://" not in text
    assert not re.search(r"(?m)^-", text), "an option such as --index-url"
    for pin, rest in entries(name).items():
        assert re.fullmatch(r"[a-z0-9-]+==[^ ;]+( ; .+)?", pin), pin
        assert "--hash=sha256:" in rest, pin


@pytest.mark.parametrize("name", FILES)
def test_no_package_is_locked_twice_for_one_python(name: str) -> None:
    for python in PYTHONS:
        names = [package for package, _ in pins(name, python)]
        assert len(names) == len(set(names)), python


@pytest.mark.parametrize("name", ["build.txt", "clients.txt", "runtime.txt"])
def test_the_tests_run_with_what_users_install(name: str) -> None:
    for python in PYTHONS:
        assert set(pins(name, python)) <= set(pins("dev.txt", python))


def imported(folder: str) -> Iterator[tuple[str, str]]:
    """Top-level packages that are imported at run time, also inside of functions, each with the file."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        nodes: list[ast.AST] = [ast.parse(path.read_text())]
        while nodes:
            node = nodes.pop()
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                nodes += node.orelse
                continue
            nodes += ast.iter_child_nodes(node)
            if isinstance(node, ast.Import):
                yield from ((alias.name.partition(".")[0], str(path.relative_to(ROOT))) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0], str(path.relative_to(ROOT))


@pytest.mark.parametrize("folder", ["src", "scripts", "tests"])
def test_what_is_imported_is_a_direct_dependency(folder: str) -> None:
    direct = {
        canonicalize_name(requirement.name) for requirement in ASKED["runtime.txt" if folder == "src" else "dev.txt"]
    }
    owners = importlib.metadata.packages_distributions()
    own = {"thingmint", "tests", *(path.stem for path in (ROOT / "scripts").iterdir())}
    missing = {
        package: file
        for package, file in imported(folder)
        if package not in sys.stdlib_module_names | own
        and direct.isdisjoint(canonicalize_name(owner) for owner in owners.get(package, ()))
    }
    assert missing == {}
