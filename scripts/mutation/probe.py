"""Records, inside the processes of the tests, which probed statements ran and which tests failed.

The sandbox puts a copy of this file on their path as `mutants_probe`, and reads the files that it writes beside that
copy. Environment variables would not work: some tests start programs with another environment.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_FOLDER = Path(__file__).resolve().parent
_seen: set[int] = set()
_open, _write, _close = os.open, os.write, os.close  # a test may replace the functions of `os`


def hit(number: int) -> None:
    if number not in _seen:
        _seen.add(number)
        _append("hits", str(number))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _append("failures", report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _append("failures", report.nodeid)


def _append(name: str, line: str) -> None:
    try:
        descriptor = _open(f"{_FOLDER}/{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _write(descriptor, f"{line}\n".encode())
        finally:
            _close(descriptor)
    except OSError:
        pass  # a test has removed the permission to write
