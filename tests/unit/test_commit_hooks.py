"""The hooks of pre-commit run what `make install` installs, and download nothing."""

from __future__ import annotations

import re
import sys
from pathlib import Path

TEXT = (Path(__file__).resolve().parents[2] / ".pre-commit-config.yaml").read_text()


def test_all_hooks_are_local() -> None:
    assert set(re.findall(r"repo: (\S+)", TEXT)) == {"local"}
    assert set(re.findall(r"language: (\S+)", TEXT)) == {"pygrep", "system"}
    assert "additional_dependencies" not in TEXT


def test_the_programs_of_hooks_are_installed() -> None:
    programs = re.findall(r"entry: \.venv/bin/(\S+)", TEXT)
    assert len(programs) == TEXT.count("language: system")
    assert [name for name in programs if not (Path(sys.executable).parent / name).exists()] == []
