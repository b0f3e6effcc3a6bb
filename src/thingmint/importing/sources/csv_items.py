"""Makes items of the rows of a table of devices. csv_columns.py describes the columns."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from thingmint.domain.certificates import parse_certificate, parse_fingerprint, parse_issued_certificate
from thingmint.domain.errors import DomainError, Invalid
from thingmint.domain.keys import FLEET_KEYS
from thingmint.domain.status import Status
from thingmint.importing.batches import MAX_BYTES, MAX_ITEMS, MAX_ROWS, Batch
from thingmint.importing.sources.csv_columns import ATTRIBUTE, SERIAL_ATTRIBUTE
from thingmint.importing.sources.json_rows import micros_of
from thingmint.services.imports import Result
from thingmint.services.things import AttributeChange, check_count, check_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from thingmint.importing.batches import Item, Place
    from thingmint.importing.sources.scratch import Scratch

_KEPT = (Status.ACTIVE, Status.INACTIVE, Status.REVOKED)
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0", "")
_MAX_PEM = 64 * 1024
_ID_DIGITS = b"0123456789abcdefghijklmnopqrstuv"


class Refused(Exception):
    """A row cannot come. ``noun`` says what of it."""

    def __init__(self, noun: str, reason: str) -> None:
        super().__init__(reason)
        self.noun = noun
        self.reason = reason


@dataclass
class Gathered:
    """The items of one batch: those of a kind together, as the importer adds them at once."""

    things: list[Item] = field(default_factory=list)
    certificates: list[Item] = field(default_factory=list)
    devices: list[dict[str, Any]] = field(default_factory=list)
    members: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    weight: int = 0

    def fits(self, other: Gathered) -> bool:
        """True if a batch can have both. The rows of one device are one item, so they are never divided."""
        if self._continues(other):
            return True
        count = sum(len(each.things) + len(each.certificates) + len(each.devices) for each in (self, other))
        groups = self.members.keys() | other.members.keys()
        return (
            count + len(groups) <= MAX_ITEMS
            and self.size + other.size <= MAX_BYTES
            and self.weight + other.weight <= MAX_ROWS
        )

    def add(self, other: Gathered) -> None:
        self.things += other.things
        self.certificates += other.certificates
        if self._continues(other):
            self.devices[-1]["certificates"] += other.devices[0]["certificates"]
        else:
            self.devices += other.devices
        for group, names in other.members.items():
            self.members.setdefault(group, []).extend(names)
        self.results += other.results
        self.rows += other.rows
        self.size += other.size
        self.weight += other.weight

    def _continues(self, other: Gathered) -> bool:
        return bool(self.devices and other.devices and self.devices[-1]["id"] == other.devices[0]["id"])

    def batch(self, place: Place) -> Batch:
        members = [
            {"kind": "members", "region": region, "group": group, "things": names}
            for (region, group), names in self.members.items()
        ]
        items = [*self.things, *self.certificates, *members, *self.devices]
        return Batch(items, place, self.results, self.rows)


class RowReader:
    """Makes items of rows. ``scratch`` remembers what earlier rows had; ``salt`` makes ids for devices without one."""

    def __init__(self, folder: Path, region: str, scratch: Scratch, salt: str) -> None:
        self._folder = folder
        self._region = region
        self._scratch = scratch
        self._salt = salt
        self._device_before = ""

    def gathered(self, cells: Mapping[str, str], number: int, flaw: str | None, *, is_done: bool) -> Gathered:
        """The items of a row. Of a row that is done, only its names are remembered."""
        gathered = Gathered(rows=1, weight=1)
        about = f"row {number}: {(cells.get('name') or cells.get('device_id') or '')[:100]}".rstrip(": ")
        add = self._device if cells.get("registry") else self._thing
        try:
            if flaw is None:
                add(gathered, cells, about, is_done=is_done)
                return gathered
            refused = Result("row", "refused", about, f"it {flaw}")
        except Refused as error:
            refused = Result(error.noun, "refused", about, error.reason)
        except DomainError as error:
            refused = Result("row", "refused", about, str(error))
        return Gathered(rows=1, weight=1, results=[refused])

    def _thing(self, gathered: Gathered, cells: Mapping[str, str], about: str, *, is_done: bool) -> None:
        name, region = cells.get("name", ""), cells.get("region") or self._region
        groups = cells.get("groups", "").split()
        if name:
            item = self._thing_item(cells, name, region)
            repeated = self._seen_thing(item, groups, region, has_certificate=bool(cells.get("certificate")))
            if not repeated and not is_done:
                gathered.things.append(item)
                gathered.weight += 1 + len(item["attributes"])
                gathered.size += len(orjson.dumps(item))
                for group in groups:
                    gathered.members[region, check_name(group, "groups")] = [name]
                    gathered.weight += 1
        elif not cells.get("certificate"):
            raise Refused("row", "it has no name and no certificate")
        if not cells.get("certificate"):
            for column in ("policies", "status", "ca"):
                if cells.get(column):
                    raise Refused("row", f"it has no certificate, to which its {column} would belong")
            return
        self._see_certificate(gathered, cells, region, name, about)
        if is_done:
            return
        if (status := _status(cells)) not in _KEPT:
            gathered.results.append(Result("certificate", "noted", about, f"it is INACTIVE here instead of {status}"))
        item = self._certificate_item(cells, name, region, about)
        gathered.certificates.append(item)
        gathered.weight += 6 + len(item["policies"])
        gathered.size += len(orjson.dumps(item))

    def _thing_item(self, cells: Mapping[str, str], name: str, region: str) -> dict[str, Any]:
        check_name(name, "name")
        attributes = _object(cells, "attributes")
        for column, value in cells.items():
            if column.startswith(ATTRIBUTE) and value:
                attributes[column.removeprefix(ATTRIBUTE)] = value
        if (serial := cells.get("serial")) and attributes.setdefault(SERIAL_ATTRIBUTE, serial) != serial:
            raise Refused("thing", f"its serial and its attribute {SERIAL_ATTRIBUTE} differ")
        attributes = AttributeChange(attributes).applied({})
        check_count(attributes)
        return {
            "kind": "thing",
            "region": region,
            "name": name,
            "type": cells.get("type") or None,
            "attributes": attributes,
        }

    def _seen_thing(
        self, item: Mapping[str, Any], groups: Sequence[str], region: str, *, has_certificate: bool
    ) -> bool:
        """True if an earlier row has the thing, for another certificate. Raises Refused."""
        name = item["name"]
        content = hashlib.sha256(orjson.dumps([item, sorted(groups)], option=orjson.OPT_SORT_KEYS)).digest()[:16]
        seen = self._scratch.seen(f"thing {region} {name}", content)
        if seen == "other":
            raise Refused("thing", "an earlier row has the same name, with another type, other attributes or groups")
        if seen == "same":
            if not has_certificate:
                raise Refused("thing", "an earlier row has the same name")
            return True
        serial = item["attributes"].get(SERIAL_ATTRIBUTE)
        if serial and self._scratch.seen(f"serial {region} {serial}", b"") != "new":
            raise Refused("thing", f"an earlier row has the same serial number, {serial[:100]}")
        return False

    def _see_certificate(
        self,
        gathered: Gathered,
        cells: Mapping[str, str],
        region: str,
        name: str,
        about: str,
    ) -> None:
        """Raises Refused if an earlier row has the certificate for the same thing, or with another status."""
        cell = hashlib.sha256(cells["certificate"].encode()).hexdigest()
        kept = "\n".join(cells.get(column, "") for column in ("status", "policies", "ca", "mode"))
        seen = self._scratch.seen(f"certificate {region} {cell}", hashlib.sha256(kept.encode()).digest()[:16])
        if seen == "other":
            raise Refused(
                "certificate", "an earlier row has the same certificate, with another status or other policies"
            )
        if self._scratch.seen(f"attachment {region} {cell} {name}", b"") != "new":
            raise Refused("certificate", "an earlier row has the same certificate")
        if seen == "same":
            reason = "an earlier row has the same certificate for another thing: it is attached to both"
            gathered.results.append(Result("certificate", "noted", about, reason))

    def _certificate_item(self, cells: Mapping[str, str], name: str, region: str, about: str) -> dict[str, Any]:
        pem = self._pem(cells["certificate"])
        parse_issued_certificate(pem, "certificate", FLEET_KEYS)
        status = _status(cells)
        exclusive = cells.get("exclusive", "").lower()
        if exclusive not in (*_YES, *_NO):
            raise Refused("certificate", "exclusive must be true or false")
        ca = parse_fingerprint(cells["ca"], "ca") if cells.get("ca") else None
        mode = cells.get("mode", "").upper() or "SNI_ONLY"
        if mode not in ("DEFAULT", "SNI_ONLY"):
            raise Refused("certificate", "mode must be DEFAULT or SNI_ONLY")
        return {
            "kind": "certificate",
            "region": region,
            "name": about,  # what its results are about
            "pem": pem,
            "status": status if status in _KEPT else Status.INACTIVE,
            "mode": mode if ca is not None else "SNI_ONLY",
            "ca": ca,
            "created_at": _time(cells),
            "policies": cells.get("policies", "").split(),
            "things": [{"name": name, "exclusive": exclusive in _YES}] if name else [],
        }

    def _device(self, gathered: Gathered, cells: Mapping[str, str], about: str, *, is_done: bool) -> None:
        registry, name = cells["registry"], cells.get("name", "")
        id = cells.get("device_id") or _new_id(f"{self._salt} {registry} {name}" if name else f"{self._salt} {about}")
        kept = "\n".join(cells.get(column, "") for column in ("name", "attributes", "description", "topic_aliases"))
        seen = self._scratch.seen(f"device {id}", hashlib.sha256(f"{registry}\n{kept}".encode()).digest()[:16])
        if seen == "other":
            raise Refused("device", "an earlier row has the same device, with other content")
        if seen == "same" and (not cells.get("certificate") or id != self._device_before):
            raise Refused("device", "an earlier row has the same device: its rows must follow one another")
        if seen == "new" and name and self._scratch.seen(f"device name {registry} {name}", b"") != "new":
            raise Refused("device", "an earlier row has the same name in the registry")
        self._device_before = id
        created_at = _time(cells)
        certificates = []
        if cells.get("certificate"):
            cell = hashlib.sha256(cells["certificate"].encode()).hexdigest()
            if self._scratch.seen(f"bound {cell}", b"") != "new":
                raise Refused("certificate", "an earlier row has the same certificate")
            if (status := _status(cells)) is not Status.ACTIVE:
                reason = f"its status is {status}, and a device's certificate can only come ACTIVE: it was left out"
                gathered.results.append(Result("certificate", "refused", about, reason))
            elif not is_done:
                pem = self._pem(cells["certificate"])
                parse_certificate(pem, "certificate", FLEET_KEYS, bound=True)
                certificates = [{"pem": pem, "fingerprint": None, "created_at": created_at}]
        if is_done:
            return
        aliases = _object(cells, "topic_aliases")
        item = {
            "kind": "device",
            "id": id,
            "registry": registry,
            "name": name,
            "description": cells.get("description", ""),
            "labels": _object(cells, "attributes"),
            "created_at": created_at,
            "topic_aliases": aliases,
            "certificates": certificates,
        }
        gathered.devices.append(item)
        gathered.weight += 1 + 5 * len(certificates) + len(aliases)
        gathered.size += len(orjson.dumps(item))

    def _pem(self, cell: str) -> str:
        """The PEM in a cell, or in the file that it names. Raises Refused."""
        if "-----BEGIN" in cell:
            return cell
        try:
            path = (self._folder / cell).resolve()
            if not path.is_relative_to(self._folder.resolve()):
                raise Refused("certificate", "its file is not in the directory of the table, or a link leads out of it")
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or "it is no path"
            raise Refused("certificate", f"its file {cell[:200]} cannot be read: {reason}") from None
        try:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            content = os.read(descriptor, _MAX_PEM + 1) if is_file else b""
        finally:
            os.close(descriptor)
        if not is_file:
            raise Refused("certificate", f"{cell[:200]} is no file")
        if len(content) > _MAX_PEM:
            raise Refused("certificate", f"its file {cell[:200]} is larger than {_MAX_PEM // 1024} KiB")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise Refused("certificate", f"its file {cell[:200]} is no PEM: it is not text") from None


def _object(cells: Mapping[str, str], column: str) -> dict[str, str]:
    """A cell that is a JSON object of texts. Raises Invalid."""
    if not cells.get(column):
        return {}
    try:
        value = orjson.loads(cells[column])
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise Invalid(column, 'must be a JSON object whose values are texts, such as {"site": "north"}')
    return value


def _status(cells: Mapping[str, str]) -> Status:
    """The status of the certificate, ACTIVE if there is none. Raises Refused."""
    try:
        return Status(cells.get("status", "").upper() or Status.ACTIVE)
    except ValueError:
        raise Refused("certificate", f"its status must be one of {', '.join(_KEPT)}") from None


def _time(cells: Mapping[str, str]) -> int | None:
    if not cells.get("created_at"):
        return None
    micros = micros_of(cells["created_at"])
    if micros is None:
        raise Invalid("created_at", "must be a time such as 2026-12-01T10:00:00Z")
    return micros


def _new_id(content: str) -> str:
    """An id for a device that has none in the table: the same when the import goes on."""
    digest = hashlib.sha256(content.encode()).digest()[:17]
    return "are" + bytes(_ID_DIGITS[byte & 31] for byte in digest).decode()
