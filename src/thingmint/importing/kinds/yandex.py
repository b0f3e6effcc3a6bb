"""The kinds of items that come from Yandex IoT Core: folders, registries, brokers, devices.

- ``folder``: id.
- ``registry`` and ``broker``: id, folder, name, description, labels, created_at, log_options, certificates; a registry
  has ``disabled``, too.
- ``device``: id, registry, name, description, labels, created_at, topic_aliases (targets by alias), certificates, and
  perhaps ``password``.
- A certificate: pem, fingerprint (as the export shows it: 40 or 64 digits, or none), created_at.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from thingmint.domain.errors import Invalid, InvalidCertificate
from thingmint.domain.ids import IOT, new_id
from thingmint.importing.kinds.declaring import kind, text_in, texts_in
from thingmint.services.bindings import parse_submitted
from thingmint.services.bulk_bindings import DatedCertificate
from thingmint.services.bulk_devices import Imported, add_devices, add_folder, add_in_folder
from thingmint.services.device_registry import BROKERS, REGISTRIES, Broker, Device, DeviceRegistry, Folder
from thingmint.services.imports import Result
from thingmint.services.password_hashing import SHA256, NewPassword, is_generated, sha256
from thingmint.services.topic_aliases import flaw_of
from thingmint.store.table import from_micros

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from thingmint.importing.batches import Item
    from thingmint.services.change import Change
    from thingmint.store.engine import Transaction

_ID = re.compile(r"[A-Za-z0-9_-]{1,50}")
_MAX_LABELS = 64  # Yandex's limit
_MAX_ALIASES = 200
_MAX_TOPIC = 1024
_MAX_TIME = 253_402_300_799_999_999  # microseconds: the end of the year 9999


def _subject(item: Item) -> str:
    return str(item.get("id"))[:50]


def _id_in(item: Item, name: str) -> str:
    value = text_in(item, name)
    if not _ID.fullmatch(value):
        raise Invalid(name, "is not an id of Yandex Cloud")
    return value


def _time_in(item: Item, default: datetime) -> datetime:
    value = item.get("created_at")
    if value is None:
        return default
    if not isinstance(value, int) or not 0 <= value <= _MAX_TIME:
        raise Invalid("created_at", "must be microseconds since 1970")
    return from_micros(value)


def _common(change: Change, item: Item) -> dict[str, Any]:
    return {
        "id": _id_in(item, "id"),
        "account": change.account,
        "name": text_in(item, "name", 63),
        "description": text_in(item, "description", 1024),
        "labels": texts_in(item, "labels", _MAX_LABELS),
        "created_at": _time_in(item, change.now),
    }


def _certificates(change: Change, item: Item, kind: str) -> tuple[list[DatedCertificate], list[Result]]:
    """The certificates that can come, and results for those that cannot."""
    good: list[DatedCertificate] = []
    results = []
    given = item.get("certificates") or []
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise Invalid("certificates", "must be a list of objects")
    for number, each in enumerate(given, 1):
        shown = each.get("fingerprint") or f"number {number}"
        subject = f"{kind} {item['id']}: {str(shown)[:64]}"
        try:
            submitted = parse_submitted(change, text_in(each, "pem", 65_536), "certificate")
            _check_fingerprint(each.get("fingerprint"), submitted.certificate.fingerprint, submitted.certificate.sha1)
            good.append(DatedCertificate(submitted, _time_in(each, change.now)))
        except (Invalid, InvalidCertificate) as error:
            results.append(Result("certificate", "refused", subject, str(error)))
    return good, results


def _check_fingerprint(shown: object, sha256: str, sha1: str) -> None:
    """Raises Invalid if the export shows the fingerprint of another certificate."""
    if not shown:
        return
    if not isinstance(shown, str) or shown.replace(":", "").lower() not in (sha256, sha1):
        raise Invalid("fingerprint", f"is not that of the certificate, {sha1}: the file was changed or mixed up")


def _prepare_folder(change: Change, item: Item) -> Folder:
    id = _id_in(item, "id")
    return Folder(id, change.account, text_in(item, "name", 63) or id, change.now)


def _prepare_registry(change: Change, item: Item) -> Imported:
    registry = DeviceRegistry(
        **_common(change, item),
        folder=_id_in(item, "folder"),
        log_options=_log_options(item),
        disabled=item.get("disabled") is True,
    )
    return _imported(registry, change, item)


def _prepare_broker(change: Change, item: Item) -> Imported:
    broker = Broker(**_common(change, item), folder=_id_in(item, "folder"), log_options=_log_options(item))
    return _imported(broker, change, item)


def _prepare_device(change: Change, item: Item) -> Imported:
    common = _common(change, item)
    aliases, results = _aliases(common["id"], texts_in(item, "topic_aliases", _MAX_ALIASES, _MAX_TOPIC))
    device = Device(**common, folder="", registry=_id_in(item, "registry"), topic_aliases=aliases)
    return _imported(device, change, item, results)


def _aliases(device: str, given: dict[str, str]) -> tuple[dict[str, str], list[Result]]:
    """The aliases that can come, and results for those that cannot."""
    if flaw_of(given, device) is None:
        return given, []
    good: dict[str, str] = {}
    results = []
    for alias, target in given.items():
        flaw = flaw_of({**good, alias: target}, device)
        if flaw is None:
            good[alias] = target
        else:
            results.append(Result("alias", "refused", f"device {device}: {alias[:100]}", f"its aliases {flaw}"))
    return good, results


def _imported(
    owner: Device | DeviceRegistry | Broker, change: Change, item: Item, results: Sequence[Result] = ()
) -> Imported:
    certificates, refused = _certificates(change, item, owner.kind)
    password = item.get("password")
    new = None
    if password is not None:
        # Only passwords that cannot be guessed: others take too long to hash for a whole fleet.
        if not isinstance(password, str) or not is_generated(password):
            raise Invalid("password", "must be one that thingmint has made")
        new = NewPassword(new_id(IOT), SHA256, sha256(owner.id, password))
    return Imported(owner, certificates, new, [*results, *refused], dated=item.get("created_at") is not None)


def _log_options(item: Item) -> dict[str, Any]:
    value = item.get("log_options")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Invalid("log_options", "must be an object")
    return value


@kind("folder", _prepare_folder, _subject)
async def _folders(tx: Transaction, change: Change, folders: Sequence[Folder], *, dry_run: bool) -> list[list[Result]]:
    return [[await add_folder(tx, change, folder, dry_run=dry_run)] for folder in folders]


@kind("registry", _prepare_registry, _subject)
async def _registries(
    tx: Transaction, change: Change, registries: Sequence[Imported], *, dry_run: bool
) -> list[list[Result]]:
    return [await add_in_folder(tx, change, REGISTRIES, registry, dry_run=dry_run) for registry in registries]


@kind("broker", _prepare_broker, _subject)
async def _brokers(
    tx: Transaction, change: Change, brokers: Sequence[Imported], *, dry_run: bool
) -> list[list[Result]]:
    return [await add_in_folder(tx, change, BROKERS, broker, dry_run=dry_run) for broker in brokers]


kind("device", _prepare_device, _subject)(add_devices)
