"""Finds the files of an export of Yandex IoT Core.

Yandex's migration guide has people write lists that are named after what they hold and after the registry or broker
that they are of: ``devices-<registry>.json``. Directories may hold the export of one folder each, or of one registry
each; then the names may lack the id: it is the directory's name, or that of the only registry in the directory's own
list.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from thingmint.importing.batches import SourceError
from thingmint.importing.sources.json_rows import Damaged, rows_of, small_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thingmint.importing.sources.json_rows import Row

_DEPTH = 3
_ID = r"[a-z0-9]{20}"
_LIST = re.compile(
    rf"(registries|registry|brokers|broker|devices|registry-certs|broker-certs|aliases)(?:-({_ID}))?\.json"
)
_CERTIFICATES = re.compile(rf"device-certs(?:-({_ID}))?")
_KINDS = {"registry": "registries", "broker": "brokers"}

ListKind = Literal["registries", "brokers", "devices", "registry-certs", "broker-certs", "aliases"]
LISTS: dict[str, str] = {
    "registries": "registries",
    "brokers": "brokers",
    "devices": "devices",
    "registry-certs": "certificates",
    "broker-certs": "certificates",
    "aliases": "aliases",
}
"""The key of each list in the service's own answers."""


@dataclass
class Layout:
    """``of`` has the files of registries and brokers by their ids, ``certificates`` the directories of device-certs."""

    root: Path
    lists: dict[ListKind, list[Path]] = field(default_factory=dict)
    of: dict[ListKind, dict[str, list[Path]]] = field(default_factory=dict)
    certificates: dict[str, list[Path]] = field(default_factory=dict)
    unknown: list[Path] = field(default_factory=list)

    @classmethod
    def find(cls, root: Path) -> Layout:
        """Raises SourceError if there is no export."""
        layout = cls(root)
        try:
            if not root.is_dir():
                raise SourceError(f"{root} is not a directory: give the one that the export was written to")
            layout._look(root, _DEPTH)
        except OSError as error:
            raise SourceError(f"{error.filename} cannot be read: {error.strerror}") from None
        if not layout.lists and not layout.of:
            raise SourceError(f"{root} has no registries.json and no devices-<registry>.json: it is no export")
        return layout

    def _look(self, directory: Path, depth: int) -> None:
        own = _only_registry(directory)
        for path in sorted(directory.iterdir()):
            if path.is_dir():
                match = _CERTIFICATES.fullmatch(path.name)
                if match is not None and (id := match[1] or own) is not None:
                    self.certificates.setdefault(id, []).append(path)
                elif depth:
                    self._look(path, depth - 1)
                continue
            match = _LIST.fullmatch(path.name)
            if match is None:
                self.unknown.append(path)
                continue
            kind: ListKind = _KINDS.get(match[1], match[1])  # type: ignore[assignment]
            if kind in ("registries", "brokers"):
                self.lists.setdefault(kind, []).append(path)
            elif (id := match[2] or own) is not None:
                self.of.setdefault(kind, {}).setdefault(id, []).append(path)
            else:
                self.unknown.append(path)

    def all_lists(self) -> Iterator[tuple[ListKind, Path]]:
        """All files except the certificates of devices, of which there may be a million."""
        for kind, paths in self.lists.items():
            yield from ((kind, path) for path in paths)
        for kind, by_id in self.of.items():
            yield from ((kind, path) for paths in by_id.values() for path in paths)

    def device_lists(self) -> list[tuple[str, Path]]:
        """The lists of devices with their registries, always in the same order."""
        return [(id, path) for id, paths in sorted(self.of.get("devices", {}).items()) for path in paths]

    def shown(self, path: Path) -> str:
        return str(path.relative_to(self.root))

    def identity(self) -> str:
        """A hash that changes with the names, sizes and times of the files."""
        digest = hashlib.sha256(str(self.root.absolute()).encode("utf-8", "surrogateescape"))
        for _, path in self.all_lists():
            about = path.stat()
            digest.update(
                f"{self.shown(path)} {about.st_size} {about.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
            )
        return digest.hexdigest()


def rows_in(path: Path, kind: ListKind) -> Iterator[Row]:
    """The rows of a list. Raises Damaged."""
    if path.stem in _KINDS:  # `yc iot registry get` writes one object
        return iter(small_rows(path, LISTS[kind]))
    return rows_of(path, LISTS[kind])


def _only_registry(directory: Path) -> str | None:
    """The id of the registry that a directory is of."""
    if re.fullmatch(_ID, directory.name):
        return directory.name
    for name in ("registry.json", "registries.json"):
        try:
            rows = small_rows(directory / name, LISTS["registries"])
        except (Damaged, FileNotFoundError):
            continue
        id = rows[0].get("id") if len(rows) == 1 else None
        return id if isinstance(id, str) and re.fullmatch(_ID, id) else None
    return None
