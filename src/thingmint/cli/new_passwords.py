"""The file of new passwords that an import makes for devices without certificates."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from thingmint.services.password_hashing import new_password
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thingmint.cli.reaching import Reached
    from thingmint.importing.batches import Item

_HEAD = b"device,password\n"


class PasswordFile:
    """A line for each device. A line is durable before its password is; ``size`` is the size with the lines so far.

    ``kept`` is the size that the import's place has: lines behind it are of a batch that did not come. None for a new
    file: one that exists must have no password.
    """

    def __init__(self, path: Path, kept: int | None) -> None:
        try:
            self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
        except OSError as error:
            raise ConfigError("new-passwords", f"{path} cannot be written: {error.strerror}") from None
        self._path = path
        begins_as_ours = _HEAD.startswith(self._file.read(len(_HEAD)))
        size = os.fstat(self._file.fileno()).st_size
        reason = None
        if kept is None and (size > len(_HEAD) or not begins_as_ours):
            reason = f"{path} exists: give the name of a new file, so that no password is lost"
        elif kept is not None and (size < kept or not begins_as_ours):
            reason = f"{path} is not the file of the interrupted import: give that one, or begin again with --again"
        if reason is not None:
            self._file.close()
            raise ConfigError("new-passwords", reason)
        os.fchmod(self._file.fileno(), 0o600)
        self._file.truncate(kept or 0)
        self._file.seek(kept or 0)
        if kept is None:
            self._file.write(_HEAD)
        self._keep()

    async def give(self, local: Reached, items: Sequence[Item], account: str) -> Sequence[Item]:
        """The items, with passwords for the devices that are new and have no certificate."""
        without = [item for item in items if item["kind"] == "device" and not item["certificates"]]
        if not without:
            return items
        answer = await local.call(
            "import.apply", id="", after={}, place={}, items=without, dry_run=True, account=account
        )
        new = {subject for kind, outcome, subject, _ in answer["results"] if (kind, outcome) == ("device", "new")}
        passwords = {item["id"]: new_password() for item in without if item["id"] in new}
        self._file.writelines(f"{device},{password}\n".encode() for device, password in passwords.items())
        self._keep()
        return [{**item, "password": passwords[item["id"]]} if item.get("id") in passwords else item for item in items]

    def _keep(self) -> None:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ConfigError("new-passwords", f"{self._path} cannot be written: {error.strerror}") from None
        self.size = self._file.tell()

    def count(self) -> int:
        """How many devices have passwords in the file."""
        self._file.seek(0)
        lines = sum(1 for _ in self._file)
        return lines - 1

    def close(self) -> None:
        self._file.close()
