"""Runs the command line as a user does."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from thingmint.cli import main

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AWS", "bare_environment", "in_process", "thingmint"]

AWS = Path(sys.executable).with_name("aws")


def thingmint(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `thingmint ARGUMENTS` without a terminal, with ``env`` added to the environment of the tests."""
    return subprocess.run(
        [sys.executable, "-m", "thingmint", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | dict(env or {}),
        cwd=cwd,
        check=False,
    )


def in_process(*arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The same in this process, because starting a process takes longer than most commands."""
    command = ["thingmint", *map(str, arguments)]
    output, errors = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", command),
        mock.patch.dict(os.environ, env or {}),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main.run()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
    return subprocess.CompletedProcess(command, status, output.getvalue(), errors.getvalue())


def bare_environment(**variables: str) -> dict[str, str]:
    """The few variables that a program needs (PATH and such, faketime, coverage), and ``variables``."""
    kept = ("PATH", "PYTHONPATH", "TMPDIR", "LD_PRELOAD")
    return {
        name: value for name, value in os.environ.items() if name in kept or name.startswith(("FAKETIME", "COVERAGE_"))
    } | variables
