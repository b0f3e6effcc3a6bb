"""Helpers that run commands and read what they leave."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.unit.vectors import FakeClock
from thingmint.access.audit_sealer import Sealer
from thingmint.cli import main
from thingmint.instance.create import Instance

if TYPE_CHECKING:
    from thingmint.instance.layout import DataDirectory

__all__ = ["Cli", "Shell"]


@dataclass
class Cli:
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object, expect: int = 0) -> str:
        """The output of `thingmint`, or its errors if it is expected to fail."""
        printed, status = self.ended(*arguments)
        assert status == expect, printed
        return printed

    def ended(self, *arguments: object) -> tuple[str, int]:
        """The output of `thingmint`, or its errors if it failed, and the exit status."""
        self.monkeypatch.setattr("sys.argv", ["thingmint", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main.run()
        printed, status = self.capsys.readouterr(), int(ended.value.code or 0)
        return printed.err if status else printed.out, status

    def refused(self, *arguments: object, status: int = 2) -> str:
        """The one line on standard error that a command ends with, without the program's name."""
        printed = self(*arguments, expect=status)
        assert printed.startswith("thingmint: ")
        assert printed.endswith("\n")
        assert printed.count("\n") == 1, printed
        return printed.removeprefix("thingmint: ").rstrip("\n")


@dataclass
class Shell:
    cli: Cli
    directory: DataDirectory

    @property
    def monkeypatch(self) -> pytest.MonkeyPatch:
        return self.cli.monkeypatch

    def __call__(self, *arguments: str, expect: int = 0) -> str:
        return self.cli(*arguments, expect=expect)

    def access(self, *arguments: str) -> Any:
        return orjson.loads(self("access", *arguments, "--data-dir", str(self.directory.root), "--output", "json"))

    def audit(self, *arguments: str, expect: int = 0) -> str:
        return self("audit", *arguments, "--data-dir", str(self.directory.root), expect=expect)

    def seal(self) -> None:
        async def work() -> None:
            instance = await Instance.open(self.directory, lambda: None, None)
            key = load_pem_private_key(self.directory.audit_key.read_bytes(), None)
            clock = FakeClock()
            await Sealer(instance.store, key, self.directory.audit_checkpoints, clock).close()  # type: ignore[arg-type]
            await instance.store.close()

        asyncio.run(work())

    def edit(self, statement: str) -> None:
        with contextlib.closing(sqlite3.connect(self.directory.database)) as connection, connection:
            connection.execute(statement)
