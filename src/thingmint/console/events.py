"""Records of the audit log as events that a person reads: of one certificate or device, newest first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from thingmint.console.rendering import shortened
from thingmint.domain.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.access.audit_records import AuditRecords

_TITLES = {
    "CreateKeysAndCertificate": "Issued, with a key pair",
    "CreateCertificateFromCsr": "Issued for a CSR",
    "RegisterCertificate": "Registered under its CA",
    "RegisterCertificateWithoutCA": "Registered",
    "RegisterThing": "Provisioned",
    "UpdateCertificate": "Status changed",
    "DeleteCertificate": "Deleted",
    "AttachPolicy": "Policy attached",
    "DetachPolicy": "Policy detached",
    "AttachThingPrincipal": "Thing and certificate attached",
    "DetachThingPrincipal": "Thing and certificate detached",
    "CreateThing": "Made",
    "UpdateThing": "Changed",
    "DeleteThing": "Deleted",
    "AddThingToThingGroup": "Added to a thing group",
    "RemoveThingFromThingGroup": "Removed from a thing group",
    "UpdateThingGroupsForThing": "Thing groups changed",
    "AddThingToBillingGroup": "Added to a billing group",
    "RemoveThingFromBillingGroup": "Removed from a billing group",
    "TagResource": "Tags added",
    "UntagResource": "Tags removed",
    "CreateProvisioningTemplate": "Made",
    "CreateProvisioningTemplateVersion": "Version made",
    "UpdateProvisioningTemplate": "Changed",
    "DeleteProvisioningTemplateVersion": "Version deleted",
    "DeleteProvisioningTemplate": "Deleted",
    "CreateProvisioningClaim": "Claim made",
    "TransferCertificate": "Transfer offered",
    "AcceptCertificateTransfer": "Transfer accepted",
    "RejectCertificateTransfer": "Transfer rejected",
    "CancelCertificateTransfer": "Transfer cancelled",
    "Connect": "Connected",
    "Disconnect": "Disconnected",
}
_YANDEX_TITLES = {
    "Create": "{} made",
    "Update": "{} changed",
    "Delete": "{} deleted",
    "Enable": "{} enabled",
    "Disable": "{} disabled",
    "AddCertificate": "Certificate added",
    "DeleteCertificate": "Certificate removed",
    "AddPassword": "Password added",
    "DeletePassword": "Password removed",
    "Publish": "Message published over the API",
    "SendCommand": "Command sent",
}
"""By the method without its service. The events of other APIs have no dot."""
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_REFUSED = {
    "Connect": "Refused to connect",
    "Publish": "Refused to publish",
    "Subscribe": "Refused to subscribe",
    "Receive": "Refused to receive",
}
_OF_DEVICES = frozenset({"Connect", "Disconnect", "Publish", "Subscribe", "Receive"})
_GOOD = frozenset({"Connect", "CreateKeysAndCertificate", "CreateCertificateFromCsr", "RegisterThing"})


@dataclass(frozen=True, slots=True)
class Event:
    """``kind`` is the colour of its dot: ok, warn, bad or empty. ``note`` says by whom, and why."""

    moment: datetime
    kind: str
    title: str
    note: str


def events_of(records: Sequence[Mapping[str, Any]], certificate: str = "") -> list[Event]:
    """Records without a time, such as damaged ones, are left out.

    ``certificate`` is named where a record is about it, for pages that show the records of several.
    """
    return [event for event in (_event(record, certificate) for record in records) if event is not None]


async def events_of_device(
    audit: AuditRecords, account: str, resource: str, certificates: Mapping[str, str], limit: int
) -> list[Event]:
    """The events of a thing or a Yandex device, and of its certificates (their ids by ARN), newest first."""
    found = events_of(await audit.history(account, resource, limit))
    for arn, id in certificates.items():
        records = await audit.history(account, arn, limit)
        found += events_of([each for each in records if not _names(each, resource)], shortened(id))
    return sorted(found, key=lambda event: event.moment, reverse=True)[:limit]


def _names(record: Mapping[str, Any], resource: str) -> bool:
    """True if the history of the resource has the record."""
    return resource in (record.get("principal"), *resources_of(record))


def moment_of(record: Mapping[str, Any]) -> datetime | None:
    """The time of a record; None for records without one, such as damaged ones."""
    try:
        return datetime.fromisoformat(str(record.get("time"))).astimezone(UTC)
    except ValueError:
        return None


def resources_of(record: Mapping[str, Any]) -> list[str]:
    """What a record is about: what was asked for, then what was changed, each once."""
    changed = record.get("resources")
    about = [record.get("resource"), *(changed if isinstance(changed, list) else [])]
    return list(dict.fromkeys(str(each) for each in about if each and each != "*"))


def _event(record: Mapping[str, Any], certificate: str) -> Event | None:
    moment = moment_of(record)
    if moment is None:
        return None
    name = str(record.get("event") or "")
    title, kind = _title(name), ""
    status = str((record.get("parameters") or {}).get("newStatus") or "")
    if status in Status.__members__.values():
        title = f"Set to {Status(status).value.lower().replace('_', ' ')}"
    if record.get("outcome") == "refused":
        title, kind = _REFUSED.get(name, f"Refused: {lowered(title)}"), "bad"
    elif name in _GOOD:
        kind = "ok"
    note = _note(record)
    if certificate and name in _OF_DEVICES:
        note = ", ".join(part for part in (f"with certificate {certificate}", note) if part)
    elif certificate:
        title = f"Certificate {certificate}: {lowered(title)}"
    return Event(moment, kind, title, note)


def _title(name: str) -> str:
    """What happened, in words; for an event without words of its own, the words of its name."""
    service, _, method = name.rpartition(".")
    if service:
        known = _YANDEX_TITLES.get(method, "").format(service.removesuffix("Service"))
    else:
        known = _TITLES.get(method, "")
    return known or " ".join(_WORD.findall(method)).capitalize() or name


def lowered(sentence: str) -> str:
    """A sentence as the second part of another one."""
    return f"{sentence[:1].lower()}{sentence[1:]}"


def _note(record: Mapping[str, Any]) -> str:
    who = str(record.get("principal") or "").rpartition(":")[2]
    by = "" if who.startswith("cert/") else who
    from_ = f"from {record['address']}" if record.get("address") and not by else ""
    client = f"as {record['clientId']}" if record.get("clientId") else ""
    parts = [by, client, from_, record.get("reason") or record.get("error") or ""]
    count = record.get("count")
    return ", ".join(str(part) for part in [*parts, f"{count} times" if count else ""] if part)
