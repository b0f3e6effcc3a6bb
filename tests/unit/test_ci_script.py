"""What .ci/run says when it goes on without the services that some tests need."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("apt-get", "bash", "cut", "dirname", "id", "paste", "sed")
SERVICES = ("mosquitto", "mosquitto_sub", "rabbitmq-server", "certtool", "gcc", "faketime")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a copy of it, where no programs are but those that it calls, and `make` fails for one target."""
    (tmp_path / "bin").mkdir()
    for name in (".ci/run", "scripts/services.sh"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(ROOT / name, tmp_path / name)

    def program(name: str, text: str) -> None:
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)

    for tool in TOOLS:
        program(tool, f'#!/bin/sh\nexec {shutil.which(tool) or "false"} "$@"\n')

    def of(*, failing: str = "", services: tuple[str, ...] = (), user: int = 0) -> subprocess.CompletedProcess[str]:
        program("make", f'#!/bin/sh\necho "make $*"\n[ "$*" != "{failing}" ]\n')
        program("id", f"#!/bin/sh\necho {user}\n")
        for service in services:
            program(service, "#!/bin/sh\n")
        return subprocess.run(
            [tmp_path / "bin/bash", tmp_path / ".ci/run"],
            env={"PATH": str(tmp_path / "bin")},
            capture_output=True,
            text=True,
            check=False,
        )

    return of


def test_missing_services_are_named_before_the_tests_and_at_the_end(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run(failing="services", services=("gcc", "faketime"))
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    at = lines.index("make check test test-slow")
    assert ".ci/run:   certtool is missing. Skipped: the certificates of GnuTLS in tests/e2e/corpus" in lines[:at]
    assert "make test-later" in lines[at:]
    assert re.fullmatch(r"\.ci/run: passed without .*\bcerttool\b.* \(make services failed\)", lines[-1])


def test_services_are_not_installed_without_root(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run(user=1000)
    assert "make services" not in done.stdout.splitlines()
    assert "make test-later" not in done.stdout.splitlines()  # without faketime
    assert done.stdout.endswith("(make services was not run: it needs root and apt-get)\n")


def test_the_last_line_tells_of_a_failure(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run(failing="check test test-slow", services=SERVICES)
    assert done.returncode != 0
    assert "make test-later" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith(".ci/run: FAILED")
