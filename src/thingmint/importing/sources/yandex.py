"""Reads an export of Yandex IoT Core: the files that Yandex's migration guide has people write with ``yc iot``."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import orjson

from thingmint.importing.batches import SourceError, in_batches
from thingmint.importing.sources.json_rows import Damaged, in_snake_case, micros_of, small_rows
from thingmint.importing.sources.scratch import Scratch
from thingmint.importing.sources.yandex_layout import Layout, rows_in
from thingmint.services.imports import Result

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from thingmint.importing.batches import Batch, Item, Place
    from thingmint.importing.sources.json_rows import Row
    from thingmint.importing.sources.yandex_layout import ListKind

    _Entry = tuple[Item | None, Sequence[Result], Place, int]

_ID = re.compile(r"[a-z0-9]{20}")
_CUT_AT = 1000  # rows after which `yc` stops without --limit, and does not say that there are more
_MAX_OWNERS = 100_000  # registries or brokers, which are kept in memory
_MAX_LEFT = 1000  # aliases of devices that are not in the export, of one registry
_CUT = (
    "it has exactly 1,000 rows, and yc stops there without --limit: export it again with --limit 1000000 if there "
    "are more"
)
_CERTIFICATE_FIELDS = frozenset(
    {"registry_id", "device_id", "broker_id", "fingerprint", "certificate_data", "created_at"}
)
_COMMON = frozenset({"id", "created_at", "name", "description", "labels"})
_FIELDS: Mapping[ListKind, frozenset[str]] = {
    "registries": _COMMON | {"folder_id", "status", "log_group_id", "log_options"},
    "brokers": _COMMON | {"folder_id", "status", "log_group_id", "log_options"},
    "devices": _COMMON | {"registry_id", "topic_aliases", "status", "monitoring_data"},
    "registry-certs": _CERTIFICATE_FIELDS,
    "broker-certs": _CERTIFICATE_FIELDS,
    "aliases": frozenset({"device_id", "topic_prefix", "alias"}),
}


class YandexExport:
    """A Source. With ``partial``, what can be read of damaged files comes; else damage ends the import."""

    name = "yandex"

    def __init__(self, root: Path, *, partial: bool = False) -> None:
        self._layout = Layout.find(root)
        self._partial = partial
        self._total: int | None = None
        self._warnings: list[Result] = []
        self._unknown_fields: set[tuple[str, str]] = set()
        self.origin = str(root.absolute())

    def identity(self) -> str:
        return self._layout.identity()

    def total(self) -> int | None:
        return self._total

    def check(self) -> Iterator[int]:
        """Read all lists once, before anything is changed. Yields now and then how many rows were read.

        Raises SourceError for a damaged list.
        """
        total = 0
        for kind, path in self._layout.all_lists():
            rows = 0
            try:
                for _ in rows_in(path, kind):
                    rows += 1
                    if rows % 1000 == 0:
                        yield rows
            except Damaged as error:
                if not self._partial:
                    advice = "export it again, or take what can be read of it with --partial"
                    raise SourceError(f"{error}; {advice}") from None
                self._warn(path, "refused", f"{error}: the {rows} rows before that were read")
            if rows == _CUT_AT and kind in ("registries", "brokers", "devices", "aliases"):
                self._warn(path, "noted", _CUT)
            if kind in ("registries", "brokers", "devices"):
                total += rows
        for path in self._layout.unknown[:_MAX_LEFT]:
            self._warn(path, "noted", "it is not part of an export, or its name lacks the registry's id: not read")
        self._total = total

    def batches(self, place: Place) -> Generator[Batch]:
        return in_batches(self._entries(place))

    def _entries(self, place: Place) -> Iterator[_Entry]:
        section, row = place.get("section", 0), place.get("row", 0)
        scratch = Scratch()
        try:
            if section == 0:
                yield from self._owners(scratch, row)
                row = 0
            for number, (registry, path) in enumerate(self._layout.device_lists(), 1):
                if number >= section:
                    yield from self._devices(scratch, registry, path, number, row if number == section else 0)
        finally:
            scratch.close()

    # Registries, brokers and their folders

    def _owners(self, scratch: Scratch, done: int) -> Iterator[_Entry]:
        folders: set[str] = set()
        number = 0
        if done == 0 and self._warnings:
            yield None, self._warnings, {"section": 0, "row": 0}, 0
        for kind, noun in (("registries", "registry"), ("brokers", "broker")):
            for path in self._layout.lists.get(kind, ()):  # type: ignore[call-overload]
                for row in self._readable(path, kind):  # type: ignore[arg-type]
                    number += 1
                    if number > _MAX_OWNERS:
                        raise SourceError(f"{path} has more than {_MAX_OWNERS} rows")
                    results = self._unknown(kind, row)  # type: ignore[arg-type]
                    folder = str(row.get("folder_id"))
                    is_new = folder not in folders
                    folders.add(folder)
                    if number <= done:
                        continue
                    if is_new:
                        yield {"kind": "folder", "id": folder}, (), {"section": 0, "row": number - 1}, 1
                    item, found = self._owner(scratch, noun, row)
                    place = {"section": 0, "row": number}
                    yield item, [*results, *found], place, 1 + 5 * len(item["certificates"] if item else ())

    def _owner(self, scratch: Scratch, noun: str, row: Row) -> tuple[Item | None, list[Result]]:
        id = row.get("id")
        refusal = self._refusal(scratch, noun, row, "")
        if refusal is not None:
            return None, [refusal]
        certificates, results = self._certificates_in(scratch, noun, str(id))
        status = str(row.get("status", "ACTIVE")).upper()
        if status in ("DELETING", "3"):
            return None, [*results, Result(noun, "refused", str(id), "it was being deleted when it was exported")]
        item = {
            "kind": noun,
            **_common(row, results, noun),
            "folder": row.get("folder_id"),
            "log_options": in_snake_case(options) if isinstance(options := row.get("log_options"), dict) else options,
            "certificates": certificates,
        }
        if noun == "registry":
            item["disabled"] = status in ("DISABLED", "4")
        return item, results

    def _certificates_in(self, scratch: Scratch, noun: str, id: str) -> tuple[list[Row], list[Result]]:
        kind: ListKind = "registry-certs" if noun == "registry" else "broker-certs"
        found: list[Row] = []
        for path in self._layout.of.get(kind, {}).get(id, ()):
            found += self._readable(path, kind)
        return self._certificates(scratch, noun, id, found)

    # Devices

    def _devices(self, scratch: Scratch, registry: str, path: Path, section: int, done: int) -> Iterator[_Entry]:
        for aliases in self._layout.of.get("aliases", {}).get(registry, ()):
            scratch.keep_aliases(_alias_rows(self._readable(aliases, "aliases")))
        number = 0
        for number, row in enumerate(self._readable(path, "devices"), 1):
            if number <= done:
                self._refusal(scratch, "device", row, registry)
                scratch.take_aliases(str(row.get("id")))
                continue
            results = self._unknown("devices", row)
            item, found = self._device(scratch, registry, row)
            weight = 1
            if item is not None:
                weight += 5 * len(item["certificates"]) + len(item["topic_aliases"] or ())
            yield item, [*results, *found], {"section": section, "row": number}, weight
        left = []
        for count, (device, alias) in enumerate(scratch.left_aliases(), 1):
            if count <= _MAX_LEFT:
                reason = "its device is not in the export"
                left.append(Result("alias", "refused", f"device {device[:50]}: {alias[:100]}", reason))
        yield None, left, {"section": section, "row": number}, 0

    def _device(self, scratch: Scratch, registry: str, row: Row) -> tuple[Item | None, list[Result]]:
        refusal = self._refusal(scratch, "device", row, registry)
        if refusal is not None:
            return None, [refusal]
        id = str(row["id"])
        listed = scratch.take_aliases(id)
        results: list[Result] = []
        try:
            given = self._device_certificates(registry, id, results)
        except Damaged as error:
            if not self._partial:
                advice = "export it again and repeat the import, or take the device without it with --partial"
                return None, [Result("device", "refused", id, f"{error}; {advice}")]
            results.append(Result("file", "refused", f"device {id}", str(error)))
            given = []
        certificates, refused = self._certificates(scratch, "device", id, given)
        own = row.get("registry_id")
        if own not in (None, registry):
            reason = f"its list is that of registry {registry}, and it says that it is of another: that one was taken"
            results.append(Result("device", "noted", id, reason))
        return {
            "kind": "device",
            **_common(row, results, "device"),
            "registry": own or registry,
            "topic_aliases": _aliases(id, row, listed, results),
            "certificates": certificates,
        }, [*results, *refused]

    def _device_certificates(self, registry: str, id: str, results: list[Result]) -> list[Row]:
        """Raises Damaged."""
        directories = self._layout.certificates.get(registry, ())
        for directory in directories:
            try:
                return small_rows(directory / f"{id}.json", "certificates")
            except FileNotFoundError:
                continue
        if directories:
            results.append(Result("file", "noted", f"device {id}", "the export has no file with its certificates"))
        return []

    # What all have

    def _refusal(self, scratch: Scratch, noun: str, row: Row, registry: str) -> Result | None:
        """A result for a row without an id, and for one whose id or name was there before."""
        id = row.get("id")
        if not isinstance(id, str) or not _ID.fullmatch(id):
            return Result(noun, "refused", str(id)[:50], "its id is not one of Yandex Cloud")
        seen = scratch.seen(f"{noun} {id}", _digest(row))
        if seen == "same":
            return Result(noun, "noted", id, "it is in the export twice, with the same content")
        if seen == "other":
            return Result(noun, "refused", id, "it is in the export twice, with different content: the first was taken")
        name = row.get("name")
        if name and scratch.seen(f"{noun} name {registry or row.get('folder_id')} {name}", b"") != "new":
            return Result(noun, "refused", id, f"another one in the export has its name, {str(name)[:63]}")
        return None

    def _certificates(
        self, scratch: Scratch, noun: str, id: str, rows: Sequence[Row]
    ) -> tuple[list[Row], list[Result]]:
        certificates, results = [], []
        for number, row in enumerate(rows, 1):
            pem, shown = row.get("certificate_data"), row.get("fingerprint")
            subject = f"{noun} {id}: {str(shown or f'number {number}')[:64]}"
            if not isinstance(pem, str) or not pem.strip():
                results.append(Result("certificate", "refused", subject, "the export has no certificate for it"))
                continue
            if scratch.seen(f"pem {hashlib.sha256(pem.strip().encode('utf-8', 'replace')).hexdigest()}", b"") != "new":
                reason = "it is in the export twice: the first was taken"
                results.append(Result("certificate", "refused", subject, reason))
                continue
            certificates.append({"pem": pem, "fingerprint": shown, "created_at": micros_of(row.get("created_at"))})
        return certificates, results

    def _readable(self, path: Path, kind: ListKind) -> Iterator[Row]:
        """The rows of a list. With ``partial``, those before the damage; ``check`` has told of it."""
        try:
            yield from rows_in(path, kind)
        except Damaged:
            if not self._partial:
                raise

    def _unknown(self, kind: ListKind, row: Row) -> list[Result]:
        """A result for each field that is not known, the first time that it comes."""
        new = [(kind, name) for name in row.keys() - _FIELDS[kind] if (kind, name) not in self._unknown_fields]
        self._unknown_fields |= set(new)
        reason = "the field is not known here: it was left out"
        return [Result("file", "noted", f"{kind}: {name[:100]}", reason) for _, name in sorted(new)]

    def _warn(self, path: Path, outcome: Any, reason: str) -> None:
        self._warnings.append(Result("file", outcome, self._layout.shown(path), reason))


def _common(row: Row, results: list[Result], noun: str) -> dict[str, Any]:
    created_at = micros_of(row.get("created_at"))
    if created_at is None:
        reason = "the export does not say when it was created: the time of the import was taken"
        results.append(Result(noun, "noted", str(row["id"]), reason))
    return {
        "id": row["id"],
        "name": row.get("name"),
        "description": row.get("description"),
        "labels": row.get("labels"),
        "created_at": created_at,
    }


def _aliases(id: str, row: Row, listed: Sequence[tuple[str, str]], results: list[Result]) -> Any:
    """The aliases of the device's own row, and those of the list of aliases."""
    own = row.get("topic_aliases") or {}
    if not isinstance(own, dict):
        return own  # the importer refuses it
    merged = dict(own)
    for alias, target in listed:
        known = merged.setdefault(alias, target)
        if known != target:
            reason = "the list of aliases has another topic for it than the device: that of the device was taken"
            results.append(Result("alias", "noted", f"device {id}: {alias[:100]}", reason))
    return merged


def _alias_rows(rows: Iterator[Row]) -> Iterator[tuple[str, str, str]]:
    for row in rows:
        device, alias, target = (row.get(name) for name in ("device_id", "alias", "topic_prefix"))
        if isinstance(device, str) and isinstance(alias, str) and isinstance(target, str):
            yield device, alias, target


def _digest(row: Row) -> bytes:
    return hashlib.sha256(orjson.dumps(row, option=orjson.OPT_SORT_KEYS)).digest()[:8]
