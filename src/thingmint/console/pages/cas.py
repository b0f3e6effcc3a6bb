"""CAs and when they end: those of this server, those that accounts register, and the server's own certificates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.console.own_certificates import part_used
from thingmint.console.page import action, links_of, page
from thingmint.console.pages.certificate import common_name
from thingmint.domain.arns import arn
from thingmint.domain.certificate_description import describe
from thingmint.domain.certificates import parse_fingerprint
from thingmint.domain.errors import Invalid, NotFound
from thingmint.services.ca_certificates import (
    KIND,
    CaChanges,
    CaStatus,
    get_registered_ca,
    list_ca_certificates,
    update_ca_certificate,
)
from thingmint.services.certificates_under_ca import count_under_ca

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.console.page import Call
    from thingmint.domain.certificate_description import Description
    from thingmint.http.messages import Answer
    from thingmint.services.ca_certificates import CaRegistration, RegisteredCa
    from thingmint.store.engine import Transaction

_ROWS = 20
_MOST = 1000
"""Certificates that are counted for one CA: more of them are shown as that."""
_SWITCHES = {"ENABLE": True, "DISABLE": False}


@dataclass(frozen=True, slots=True)
class _Ca:
    """``count`` is None if the caller may not list its certificates."""

    registered: RegisteredCa
    description: Description
    name: str
    used: int
    count: str | None
    automatic: str

    @property
    def registration(self) -> CaRegistration:
        return self.registered.registration


@page("/cas", "ListCACertificates")
async def cas(call: Call) -> Answer:
    call.may("iot:ListCACertificates")
    cursor = call.cursor(_ROWS)

    async def body(tx: Transaction) -> tuple[Sequence[_Ca], str | None]:
        listed = await list_ca_certificates(tx, call.change, cursor, ascending=False, template=None)
        return [await _read(tx, call, str(each.fingerprint)) for each in listed.items], listed.next_token

    found, token = await call.read(body)
    own = list(call.parts.own_certificates())
    return call.render(
        "cas.html",
        issuing=[each for each in own if each.is_ca],
        shown=[each for each in own if not each.is_ca],
        cas=found,
        **links_of("/cas", cursor, token),
    )


@page("/cas/{id}", "DescribeCACertificate")
async def ca(call: Call) -> Answer:
    id, resource = _resource(call)
    call.may("iot:DescribeCACertificate", resource)
    found = await call.read(lambda tx: _read(tx, call, id))
    return call.render("ca.html", ca=found, may_change=call.allows("iot:UpdateCACertificate", resource))


@action("/cas/{id}/status", "UpdateCACertificate")
async def set_status(call: Call) -> Answer:
    id, resource = _resource(call)
    call.may("iot:UpdateCACertificate", resource)
    status = call.form.choice("status", list(CaStatus))
    if not status:
        raise Invalid("status", "is missing")
    changes = CaChanges(id, CaStatus(status), None, None, remove_registration=False)
    await call.write(lambda tx: update_ca_certificate(tx, call.change, changes), certificateId=id, newStatus=status)
    return call.done(f"/cas/{id}", f"The CA certificate is {'activated' if status == 'ACTIVE' else 'deactivated'}.")


@action("/cas/{id}/registration", "UpdateCACertificate")
async def set_registration(call: Call) -> Answer:
    id, resource = _resource(call)
    call.may("iot:UpdateCACertificate", resource)
    wanted = call.form.choice("automatic", _SWITCHES)
    if not wanted:
        raise Invalid("automatic", "is missing")
    changes = CaChanges(id, None, _SWITCHES[wanted], None, remove_registration=False)
    given = {"certificateId": id, "newAutoRegistrationStatus": wanted}
    await call.write(lambda tx: update_ca_certificate(tx, call.change, changes), **given)
    return call.done(f"/cas/{id}", f"Just-in-time registration is {'on' if _SWITCHES[wanted] else 'off'}.")


def _resource(call: Call) -> tuple[str, str]:
    """The CA certificate's id and its ARN. Raises NotFound for an address that no CA certificate can have."""
    text = call.path["id"]
    if len(text) != 64:
        raise NotFound(KIND, text[:80])
    id = parse_fingerprint(text, "id")
    return id, arn(call.scope, f"cacert/{id}")


async def _read(tx: Transaction, call: Call, id: str) -> _Ca:
    registered = await get_registered_ca(tx, call.scope, id)
    registration, content = registered
    count = None
    if call.allows("iot:ListCertificatesByCA", registration.arn):
        counted = await count_under_ca(tx, call.scope, id, _MOST + 1)
        count = f"more than {_MOST:,}" if counted > _MOST else f"{counted:,}"
    description = describe(content.der)
    return _Ca(
        registered,
        description,
        common_name(description.subject) or "CA without a common name",
        part_used(content.not_before, content.not_after, call.change.now),
        count,
        _automatic(registration),
    )


def _automatic(ca: CaRegistration) -> str:
    """What happens when a device connects with a certificate of the CA that is not registered."""
    if not ca.auto_registration:
        return "Off"
    if ca.template_name:
        return f"Provisioning with {ca.template_name}"
    return "Provisioning with its own template" if ca.template_body else "Registration"
