"""Writes files that survive a power failure, readable by their owner only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Write a file in one step. Its name is durable only after ``sync_folder``.

    The temporary file has a fixed name, so that one which a kill left behind is written again. The caller makes sure
    that no other process writes the file.
    """
    temporary = path.with_name(f".{path.name}.new")
    with open_private(temporary) as descriptor:
        write_all(descriptor, content)
        os.fsync(descriptor)
    temporary.replace(path)


class open_private:  # noqa: N801 - a context manager, used like a function
    """A descriptor of a new or emptied file of mode 0600; with ``append``, one whose content stays."""

    def __init__(self, path: Path, *, append: bool = False) -> None:
        self._path = path
        self._flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | (0 if append else os.O_TRUNC)

    def __enter__(self) -> int:
        self._descriptor = os.open(self._path, self._flags, 0o600)
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write everything, also if the system takes it in pieces."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
