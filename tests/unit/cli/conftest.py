"""The commands of `thingmint`, run within the tests' process."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.unit.cli.shell import Cli, Shell
from thingmint import logs
from thingmint.instance.create import create
from thingmint.instance.layout import DataDirectory
from thingmint.services.certificates import utc_now

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs commands in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")  # as `serve` sets it
    monkeypatch.setattr(logs, "configure", lambda log_format: None)
    return Cli(monkeypatch, capsys)


_made: list[Path] = []


@pytest.fixture
def shell(cli: Cli, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Runs commands with an instance in ``data``, a copy of a shared one."""
    if not _made:
        first = DataDirectory(tmp_path_factory.mktemp("instance"))
        first.root.chmod(0o700)
        making = create(
            first,
            hostnames=["localhost"],
            regions=["us-east-1"],
            root_key="p256",
            passphrase=None,
            master_keys=None,
            now=utc_now(),  # as the command line, which reads the real clock
        )
        asyncio.run(making)
        _made.append(first.root)
    shutil.copytree(_made[0], tmp_path / "data")
    return Shell(cli, DataDirectory(tmp_path / "data"))
