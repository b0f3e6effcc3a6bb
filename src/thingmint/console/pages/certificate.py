"""One certificate: what it says, its names in both clouds, what it may do, and what happened to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thingmint.console.events import events_of
from thingmint.console.own_certificates import part_used
from thingmint.console.page import STOP_UPDATES, action, page, url
from thingmint.console.pages.certificates import CHANGES
from thingmint.console.pages.things import connection_of, may_open_session
from thingmint.domain.arns import arn, arn_of
from thingmint.domain.certificate_description import describe
from thingmint.domain.certificates import Certificate, find_obstacle, parse_fingerprint, read_public_key
from thingmint.domain.errors import Invalid, NotFound
from thingmint.domain.status import Status
from thingmint.services.bindings import BINDINGS
from thingmint.services.ca_certificates import find_registered_ca
from thingmint.services.certificate_activity import read_last_seen
from thingmint.services.certificates import delete_certificate, remaining_obstacle, update_status
from thingmint.services.device_policies import (
    Target,
    attach_policy,
    attached_policies,
    detach_policy,
    list_policies,
)
from thingmint.services.pages import Cursor
from thingmint.services.thing_group_members import groups_of
from thingmint.services.thing_principals import things_of_certificate
from thingmint.services.transfers import get_visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.services.bindings import Binding
    from thingmint.services.ca_certificates import RegisteredCa
    from thingmint.services.certificate_activity import LastSeen
    from thingmint.services.certificates import RegisteredCertificate
    from thingmint.store.engine import Transaction

_MAX_THINGS = 20
_MAX_POLICIES = 100  # in the menu
_EVENTS = 25
_COMMON_NAME = re.compile(r"(?:^|[,+])CN=((?:\\.|[^\\,+])*)")
_ORIGINS = {
    "keys": "issued by this server, with a key pair",
    "csr": "issued by this server, for a CSR",
    "registered": "registered",
}


@dataclass(frozen=True, slots=True)
class _Found:
    """``by_group`` are the policies of the groups that its things are in, by group."""

    registered: RegisteredCertificate
    binding: Binding | None
    ca: RegisteredCa | None
    obstacle: str | None
    things: Sequence[str]
    policies: Sequence[str]
    by_group: dict[str, list[str]]
    seen: LastSeen | None


@page("/certificates/{id}", "DescribeCertificate")
async def certificate(call: Call) -> Answer:
    """A page that updates itself sends ``update``, and gets an answer that it can show for a deleted certificate."""
    id, arn_ = _resource(call)
    call.may("iot:DescribeCertificate", arn_)
    try:
        found = await call.read(lambda tx: _read(tx, call, id))
    except NotFound:
        if not call.query.text("update"):
            raise
        return call.render("certificate_deleted.html", status=STOP_UPDATES, id=id)
    registration, content = found.registered
    description = describe(content.der)
    may_see_policies = call.allows("iot:ListAttachedPolicies", arn_)
    records: Sequence[Any] = ()
    if call.allows("thingmint:ListAudit"):
        records = await call.parts.audit.history(call.caller.account, arn_, _EVENTS)
    client_id, connection = await _connection(call, id, found)
    changes = {} if not call.allows("iot:UpdateCertificate", arn_) else _changes(call, registration.status)
    return call.render(
        "certificate.html",
        found=found,
        registration=registration,
        certificate=content,
        description=description,
        name=common_name(description.subject) or "Certificate without a common name",
        origin=_ORIGINS[registration.origin],
        used=part_used(content.not_before, content.not_after, call.change.now),
        issuers=_issuers(call, found),
        changes=changes,
        may_delete=registration.status is not Status.ACTIVE and call.allows("iot:DeleteCertificate", arn_),
        may_see_policies=may_see_policies,
        may_open_policies=call.allows("iot:GetPolicy", arn(call.scope, "policy/*")),
        may_detach=call.allows("iot:DetachPolicy", arn_),
        attachable=await _attachable(call, arn_, found.policies),
        client_id=client_id,
        connection=connection,
        may_open_session=may_open_session(call, client_id),
        events=events_of(records),
    )


@page("/certificates/{id}/pem", "DescribeCertificate")
async def certificate_file(call: Call) -> Answer:
    id, arn_ = _resource(call)
    call.may("iot:DescribeCertificate", arn_)
    _, content = await call.read(lambda tx: get_visible(tx, call.scope, id))
    return call.download(content.pem, f"{id[:12]}.pem", "application/x-pem-file")


@action("/certificates/{id}/status", "UpdateCertificate")
async def set_status(call: Call) -> Answer:
    id, arn_ = _resource(call)
    call.may("iot:UpdateCertificate", arn_)
    status = call.form.choice("status", CHANGES)
    if not status:
        raise Invalid("status", "is missing")
    await call.write(lambda tx: update_status(tx, call.change, id, Status(status)), certificateId=id, newStatus=status)
    return call.done(f"/certificates/{id}", f"The certificate is {CHANGES[status][2]}.")


@page("/certificates/{id}/revoke", "DescribeCertificate")
async def confirm_revocation(call: Call) -> Answer:
    return await _confirm(
        call,
        "UpdateCertificate",
        title="Revoke this certificate?",
        consequence="A revoked certificate cannot be activated again. Its device is disconnected at once.",
        form="status",
        fields={"status": "REVOKED"},
        button="Revoke",
        command="aws iot update-certificate --new-status REVOKED",
    )


@page("/certificates/{id}/delete", "DescribeCertificate")
async def confirm_deletion(call: Call) -> Answer:
    return await _confirm(
        call,
        "DeleteCertificate",
        title="Delete this certificate?",
        consequence="Its registration is deleted. The device can register it again only if a caller may do that.",
        form="deleted",
        fields={},
        button="Delete",
        command="aws iot delete-certificate",
    )


async def _confirm(call: Call, operation: str, *, form: str, command: str, **shown: Any) -> Answer:
    """The page that asks before the certificate's ``form`` is sent."""
    id, arn_ = _resource(call)
    call.may(f"iot:{operation}", arn_)
    await call.read(lambda tx: get_visible(tx, call.scope, id))
    command = f"{command} --certificate-id {id}"
    address = url(f"/certificates/{id}/{form}")
    back = url(f"/certificates/{id}")
    return call.render("confirm.html", id=id, address=address, back=back, command=command, **shown)


@action("/certificates/{id}/deleted", "DeleteCertificate")
async def delete(call: Call) -> Answer:
    id, arn_ = _resource(call)
    call.may("iot:DeleteCertificate", arn_)
    await call.write(lambda tx: delete_certificate(tx, call.change, id), certificateId=id)
    return call.done("/certificates", f"The certificate {id[:12]}… is deleted.")


@action("/certificates/{id}/attach-policy", "AttachPolicy")
async def attach(call: Call) -> Answer:
    id, arn_ = _resource(call)
    name = call.form.text("policy")
    call.may("iot:AttachPolicy", arn_)
    now, target = call.change.now, Target("cert", id)
    await call.write(lambda tx: attach_policy(tx, call.scope, name, target, now), policyName=name, target=arn_)
    return call.done(f"/certificates/{id}", f"The policy {name} is attached.")


@action("/certificates/{id}/detach-policy", "DetachPolicy")
async def detach(call: Call) -> Answer:
    id, arn_ = _resource(call)
    name = call.form.text("policy")
    call.may("iot:DetachPolicy", arn_)
    target = Target("cert", id)
    await call.read(lambda tx: get_visible(tx, call.scope, id))  # detaching does not ask whether it exists
    await call.write(lambda tx: detach_policy(tx, call.change, name, target), policyName=name, target=arn_)
    return call.done(f"/certificates/{id}", f"The policy {name} is detached.")


def _resource(call: Call) -> tuple[str, str]:
    """The certificate's id and its ARN. Raises NotFound for an address that no certificate can have."""
    text = call.path["id"]
    if len(text) != 64:
        raise NotFound("certificate", text[:80])
    id = parse_fingerprint(text, "id")
    return id, arn_of(call.scope, id)


async def _read(tx: Transaction, call: Call, id: str) -> _Found:
    registered = await get_visible(tx, call.scope, id)
    registration, content = registered
    flaw = find_obstacle(content, read_public_key(content.der))
    things = await things_of_certificate(tx, call.scope, id, _MAX_THINGS)
    by_group: dict[str, list[str]] = {}
    for thing in things:
        for group in await groups_of(tx, call.scope, thing):
            if group.name not in by_group:
                by_group[group.name] = sorted(await attached_policies(tx, call.scope, Target("thinggroup", group.name)))
    ca = await find_registered_ca(tx, call.scope, registration.ca) if registration.ca else None
    return _Found(
        registered=registered,
        binding=await BINDINGS.find(tx, call.scope.account, id),
        ca=ca,
        obstacle=await remaining_obstacle(tx, call.scope.account, flaw),
        things=things,
        policies=sorted(await attached_policies(tx, call.scope, Target("cert", id))),
        by_group=by_group,
        seen=(await read_last_seen(tx, call.scope, [id])).get(id),
    )


async def _connection(call: Call, id: str, found: _Found) -> tuple[str, Any]:
    """The client id of its device and what is known of it; None if nothing is.

    What is stored of the last connection follows some seconds later. A device that has just connected has the name of
    one of its things as its client id.
    """
    stored = found.seen.client_id if found.seen else ""
    known = await connection_of(call, stored) if stored else None
    if known is not None and known.connected and known.certificate in (None, id):
        return stored, known
    names = [name for name in found.things if name != stored]
    now = await call.change.environment.messages.connectivity(call.scope, names) if names else {}
    for name in names:
        other = await connection_of(call, name) if name in now and now[name].connected else None
        if other is not None and other.connected and other.certificate == id:
            return name, other
    return stored, known if known is None or not known.connected else None


def _changes(call: Call, status: Status) -> dict[str, str]:
    """The statuses that can be set with one click, with the words of the button."""
    if status is Status.PENDING_TRANSFER or (
        status is Status.REVOKED and not call.change.environment.reinstate_revoked
    ):
        return {}
    return {new: words[1] for new, words in CHANGES.items() if new != status}


def _issuers(call: Call, found: _Found) -> list[tuple[str, str]]:
    """The certificates above this one that the server has: name and PEM."""
    registration = found.registered.registration
    if found.ca is not None:
        return [(describe(found.ca.certificate.der).subject, found.ca.certificate.pem)]
    if registration.origin == "registered":
        return []
    own = call.change.environment.device_ca.certificate
    return [(own.subject.rfc4514_string(), Certificate.of(own).pem)]


async def _attachable(call: Call, resource: str, attached: Sequence[str]) -> list[str]:
    """The first policies by name that are not attached, if the caller may attach them."""
    if not (call.allows("iot:AttachPolicy", resource) and call.allows("iot:ListPolicies")):
        return []
    cursor = Cursor(_MAX_POLICIES)
    names = (await call.read(lambda tx: list_policies(tx, call.change, cursor, ascending=True))).items
    return [name for name in names if name not in attached]


def common_name(subject: str) -> str:
    """The last common name of a subject in the form of RFC 4514; empty if it has none."""
    names = _COMMON_NAME.findall(subject)
    return re.sub(r"\\(.)", r"\1", names[-1]) if names else ""
