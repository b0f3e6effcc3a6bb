"""Records of the audit log as events that a person reads: of one certificate, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from thingmint.domain.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TITLES = {
    "CreateKeysAndCertificate": "Issued, with a key pair",
    "CreateCertificateFromCsr": "Issued for a CSR",
    "AddCertificate": "Added",
    "RegisterCertificate": "Registered under its CA",
    "RegisterCertificateWithoutCA": "Registered",
    "RegisterThing": "Provisioned",
    "UpdateCertificate": "Status changed",
    "DeleteCertificate": "Deleted",
    "AttachPolicy": "Policy attached",
    "DetachPolicy": "Policy detached",
    "AttachThingPrincipal": "Thing and certificate attached",
    "DetachThingPrincipal": "Thing and certificate detached",
    **{f"Create{noun}": "Made" for noun in ("Thing", "Device", "Registry", "Broker")},
    **{f"Update{noun}": "Changed" for noun in ("Thing", "Device", "Registry", "Broker")},
    **{f"Add{noun}Certificate": "Certificate added" for noun in ("Device", "Registry", "Broker")},
    **{f"Delete{noun}Certificate": "Certificate removed" for noun in ("Device", "Registry", "Broker")},
    **{f"Add{noun}Password": "Password added" for noun in ("Device", "Registry", "Broker")},
    **{f"Delete{noun}Password": "Password removed" for noun in ("Device", "Registry", "Broker")},
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
_REFUSED = {
    "Connect": "Refused to connect",
    "Publish": "Refused to publish",
    "Subscribe": "Refused to subscribe",
    "Receive": "Refused to receive",
}
_GOOD = frozenset({"Connect", "CreateKeysAndCertificate", "CreateCertificateFromCsr", "RegisterThing"})


@dataclass(frozen=True, slots=True)
class Event:
    """``kind`` is the colour of its dot: ok, warn, bad or empty. ``note`` says by whom, and why."""

    moment: datetime
    kind: str
    title: str
    note: str


def events_of(records: Sequence[Mapping[str, Any]]) -> list[Event]:
    """Records without a time, such as damaged ones, are left out."""
    return [event for event in map(_event, records) if event is not None]


def _event(record: Mapping[str, Any]) -> Event | None:
    try:
        moment = datetime.fromisoformat(str(record.get("time"))).astimezone(UTC)
    except ValueError:
        return None
    name = str(record.get("event") or "")
    title, kind = _TITLES.get(name.rpartition(".")[2], name), ""
    status = str((record.get("parameters") or {}).get("newStatus") or "")
    if status in Status.__members__.values():
        title = f"Set to {Status(status).value.lower().replace('_', ' ')}"
    if record.get("outcome") == "refused":
        title, kind = _REFUSED.get(name, f"Refused: {title.lower()}"), "bad"
    elif name in _GOOD:
        kind = "ok"
    return Event(moment, kind, title, _note(record))


def _note(record: Mapping[str, Any]) -> str:
    who = str(record.get("principal") or "").rpartition(":")[2]
    by = "" if who.startswith("cert/") else who
    from_ = f"from {record['address']}" if record.get("address") and not by else ""
    client = f"as {record['clientId']}" if record.get("clientId") else ""
    parts = [by, client, from_, record.get("reason") or record.get("error") or ""]
    count = record.get("count")
    return ", ".join(str(part) for part in [*parts, f"{count} times" if count else ""] if part)
