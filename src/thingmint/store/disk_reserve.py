"""The disk reserve: a file beside the database that is deleted when the disk is full, to free its space."""

from __future__ import annotations

import errno
import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


# Space that must stay free when the reserve is made. Without it, the disk would be full at the next change.
_MARGIN = 2 * 1024 * 1024  # bytes
_LOW = 1024 * 1024  # bytes
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_PAGE = bytes(4096)

FULL = "the disk is full"


@dataclass(frozen=True, slots=True)
class DiskReserve:
    """``size`` is in bytes."""

    path: Path
    size: int

    @property
    def held(self) -> bool:
        return self.path.exists() and self.path.stat().st_size == self.size

    @property
    def low(self) -> bool:
        """True if so little space is free that the next changes may not fit."""
        return free_bytes(self.path.parent) < _LOW

    def make(self) -> bool:
        """Makes the file if it is missing or has another size.

        False if there is too little space. Other failures raise OSError.
        """
        if self.held:
            return True
        if free_bytes(self.path.parent) < self.size + _MARGIN:
            return False  # an attempt would fill the disk for a moment
        temporary = self.path.with_name(f".{self.path.name}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            # Allocate the margin too, to be sure: quotas can allow less than statvfs reports as free.
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
        """Deletes the file; True if there was one."""
        if not self.path.exists():
            return False
        self.path.unlink()
        return True


def free_bytes(directory: Path) -> int:
    """The space that this process can use on the disk of ``directory``. Disks can have space that only root can use."""
    disk = os.statvfs(directory)
    return (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize


def why_not_writable(file: Path) -> str | None:
    """The reason why ``file`` cannot grow, or None. Writes to a temporary file in the same directory to find out."""
    try:
        end = file.stat().st_size if file.exists() else 0
        with tempfile.TemporaryFile(dir=file.parent) as probe:
            os.pwrite(probe.fileno(), _PAGE, end)
    except OSError as error:
        return FULL if error.errno in _NO_ROOM else f"files cannot be written: {error.strerror}"
    return None
