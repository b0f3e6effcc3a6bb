"""A file that takes up room beside the database, and is given back when the disk is full."""

from __future__ import annotations

import errno
import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


# What has to be free besides the reserve before it is made again: or the next change would find the disk full.
_MARGIN = 2 * 1024 * 1024  # bytes
_LOW = 1024 * 1024  # bytes
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_PAGE = bytes(4096)

FULL = "the disk is full"


@dataclass(frozen=True, slots=True)
class DiskReserve:
    """``size`` is in bytes. The file is removed to give the room back."""

    path: Path
    size: int

    @property
    def held(self) -> bool:
        return self.path.exists() and self.path.stat().st_size == self.size

    @property
    def low(self) -> bool:
        """Whether so little is free that the next changes may not fit."""
        return free_bytes(self.path.parent) < _LOW

    def make(self) -> bool:
        """Takes the room, unless there is too little. Raises OSError for other reasons."""
        if self.held:
            return True
        if free_bytes(self.path.parent) < self.size + _MARGIN:
            return False  # asking for more than there is would take all of it for a moment
        temporary = self.path.with_name(f".{self.path.name}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            # Allocated and not only counted: quotas limit what statvfs calls free.
            os.posix_fallocate(descriptor, 0, self.size + _MARGIN)
            os.ftruncate(descriptor, self.size)
            temporary.rename(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno in _NO_ROOM:
                return False
            raise
        finally:
            os.close(descriptor)
        return True

    def release(self) -> bool:
        """Whether it was held."""
        if not self.path.exists():
            return False
        self.path.unlink()
        return True


def free_bytes(directory: Path) -> int:
    """What this process may still write to the disk of ``directory``; some of it may be for root alone."""
    disk = os.statvfs(directory)
    return (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize


def why_not_writable(file: Path) -> str | None:
    """Why ``file`` cannot grow, found out with another one in its directory; None if that can be written."""
    try:
        end = file.stat().st_size if file.exists() else 0
        with tempfile.TemporaryFile(dir=file.parent) as probe:
            os.pwrite(probe.fileno(), _PAGE, end)
    except OSError as error:
        return FULL if error.errno in _NO_ROOM else f"files cannot be written: {error.strerror}"
    return None
