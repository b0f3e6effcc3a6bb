"""Which interpreters `make test-pythons` finds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).parents[2] / "scripts/test_pythons.py"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, on a machine whose interpreters are below ``tmp_path``."""
    spec = importlib.util.spec_from_file_location("pythons_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pythons_script", module)  # where dataclasses look it up
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SYSTEM", tmp_path / "system")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return module


def interpreter(path: Path, version: str) -> Path:
    """A program that answers like an interpreter of that version; it fails if ``version`` is empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n[ '{version}' ] && echo '{path}' && echo '{version}'\n")
    path.chmod(0o755)
    return path


def test_each_interpreter_is_found_once(script: Any, tmp_path: Path) -> None:
    pyenv = [
        interpreter(tmp_path / "pyenv/versions/3.13.0/bin/python3.13", "3.13.0"),
        interpreter(tmp_path / "pyenv/versions/3.11.7/bin/python3.11", "3.11.7"),
    ]
    system = interpreter(tmp_path / "system/python3.11", "3.11.2")
    interpreter(tmp_path / "system/python3.10", "3.10.0")  # not supported
    interpreter(tmp_path / "bin/python3.12", "")  # a shim of pyenv's without a version
    (tmp_path / "bin/python3.13").symlink_to(pyenv[0])
    found = script.find()
    assert [(one.path, one.version) for one in found] == [
        (pyenv[1], "3.11.7"),
        (system, "3.11.2"),
        (pyenv[0], "3.13.0"),
    ]
    assert len({one.venv for one in found}) == 3


def test_versions_that_are_missing_are_named(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interpreter(tmp_path / "system/python3.12", "3.12.1")
    interpreter(tmp_path / "system/python3.13", "3.13.0")
    outcomes = {"3.12.1": (True, "9 passed"), "3.13.0": (False, "1 failed")}
    monkeypatch.setattr(script, "run", lambda found, arguments: outcomes[found.version])
    assert script.main([]) == 1
    table = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert [(line[0], " ".join(line[2:])) for line in table] == [
        ("3.12.1", "9 passed"),
        ("3.13.0", "1 failed"),
        ("3.11", "not found"),
        ("3.14", "not found"),
    ]
    outcomes["3.13.0"] = (True, "9 passed")
    assert script.main([]) == 0


def test_it_fails_where_no_interpreter_is_found(script: Any) -> None:
    assert script.find() == []
    assert script.main([]) == 1
