"""The files of a data directory, which are written so that no reader ever sees half of a file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class DirectoryInUse(Exception):
    """Another process holds the data directory."""


class DirectoryUnusable(Exception):
    """The data directory cannot be made or opened."""


@dataclass(frozen=True, slots=True)
class DataDirectory:
    root: Path

    @property
    def ca(self) -> Path:
        return self.root / "ca.pem"

    @property
    def ca_key(self) -> Path:
        return self.root / "ca.key"

    @property
    def device_ca(self) -> Path:
        return self.root / "device-ca.pem"

    @property
    def device_ca_key(self) -> Path:
        return self.root / "device-ca.key"

    @property
    def audit_key(self) -> Path:
        return self.root / "audit.key"

    @property
    def audit_public_key(self) -> Path:
        return self.root / "audit.pem"

    @property
    def audit_key_changes(self) -> Path:
        """A line for each replacement of the audit key."""
        return self.root / "audit-keys.jsonl"

    @property
    def audit_checkpoints(self) -> Path:
        """A copy of the audit log's checkpoints, outside of the store."""
        return self.root / "audit-checkpoints.jsonl"

    @property
    def master_key(self) -> Path:
        return self.root / "master.key"

    @property
    def database(self) -> Path:
        return self.root / "thingmint.db"

    @property
    def database_timelines(self) -> Path:
        """The timelines of PostgreSQL's primaries, to recognize a primary that was replaced."""
        return self.root / "database-timelines.json"

    @property
    def disk_reserve(self) -> Path:
        """Occupies disk space, which is released when the disk is full."""
        return self.root / "reserve"

    @property
    def last_backup(self) -> Path:
        """An empty file, whose time of modification is that of the last backup. The operator's script touches it."""
        return self.root / "last-backup"

    @property
    def listeners(self) -> Path:
        return self.root / "listeners.json"

    @property
    def admin_socket(self) -> Path:
        return self.root / "admin.sock"

    @property
    def grpc_socket(self) -> Path:
        return self.root / "grpc.sock"

    @property
    def clients(self) -> Path:
        return self.root / "clients"

    @property
    def aws_env(self) -> Path:
        return self.clients / "aws.env"

    @property
    def yandex_env(self) -> Path:
        return self.clients / "yandex.env"

    @property
    def yandex_service_account(self) -> Path:
        return self.clients / "yandex-sa.json"

    @property
    def token(self) -> Path:
        return self.clients / "token"

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Locks the directory, and makes it if it is missing. Raises DirectoryInUse and DirectoryUnusable."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DirectoryUnusable(f"{self.root} cannot be used: {error.strerror}") from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DirectoryInUse(str(self.root)) from None
            yield
        finally:
            os.close(descriptor)


def make_private(directory: DataDirectory) -> list[Path]:
    """Removes the permissions of group and others from the directory and its files. Returns the paths that had any."""
    corrected = []
    for path in (directory.root, *sorted(directory.root.rglob("*"))):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode & 0o077 and not path.is_symlink():
            path.chmod(mode & 0o700)
            corrected.append(path)
    return corrected


def write_private(path: Path, content: bytes) -> None:
    """Writes a file of mode 0600 in one step: readers see the old content or the new, also after a crash."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
