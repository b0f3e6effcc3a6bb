"""A store with two accounts, and what makes authorities of theirs."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.issuers import Issuer, new_issuer, pem
from tests.unit.services.door_support import OURS, Certificates, House, in_house
from tests.unit.vectors import NOW
from thingmint.domain.certificates import parse_issued_certificate
from thingmint.domain.template import CERTIFICATE_ID, Kind
from thingmint.services import ca_certificates
from thingmint.services.ca_certificates import CaChanges, CaRegistration, CaStatus, NewCa, RegisteredCa
from thingmint.services.markers import Markers
from thingmint.services.templates import ProvisioningTemplate, create_template

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from thingmint.domain.registration import Scope
    from thingmint.domain.status import Status

DAY = timedelta(days=1)
ROLE = "arn:aws:iam::111111111111:role/provisions"
MARKERS = Markers(b"k" * 32)
JITP_BODY = json.dumps(
    {
        "Parameters": {"AWS::IoT::Certificate::CommonName": {"Type": "String"}},
        "Resources": {
            "certificate": {
                "Type": "AWS::IoT::Certificate",
                "Properties": {"CertificateId": {"Ref": CERTIFICATE_ID}, "Status": "ACTIVE"},
            },
            "thing": {
                "Type": "AWS::IoT::Thing",
                "Properties": {"ThingName": {"Ref": "AWS::IoT::Certificate::CommonName"}},
            },
        },
    }
)


class Authorities:
    """The services, each call in a transaction of its own."""

    def __init__(self, store: Any, clock: Any) -> None:
        self._store = store
        self._change = Certificates(store, clock).change

    async def code(self, scope: Scope) -> str:
        code: str = await self._store.write(lambda tx: ca_certificates.get_code(tx, self._change(scope)))
        return code

    async def register(
        self, scope: Scope, pem: str, *, verification: str | None = None, active: bool = True, **further: Any
    ) -> str:
        mode: Any = "SNI_ONLY" if verification is None else "DEFAULT"
        given = {"auto_registration": False, "config": None, "tags": {}, **further}
        ca, code = ca_certificates.parse_new_ca(self._change(scope), pem, verification, mode)
        new = NewCa(ca, code, CaStatus.ACTIVE if active else CaStatus.INACTIVE, mode, **given)
        registered: CaRegistration = await self._store.write(
            lambda tx: ca_certificates.register_ca_certificate(tx, self._change(scope), new)
        )
        return registered.fingerprint

    async def describe(self, scope: Scope, ca: str) -> RegisteredCa:
        found: RegisteredCa = await self._store.read(lambda tx: ca_certificates.get_registered_ca(tx, scope, ca))
        return found

    async def update(self, scope: Scope, ca: str, **changes: Any) -> None:
        given = {"status": None, "auto_registration": None, "config": None, "remove_registration": False, **changes}
        await self._store.write(
            lambda tx: ca_certificates.update_ca_certificate(tx, self._change(scope), CaChanges(ca, **given))
        )

    async def delete(self, scope: Scope, ca: str) -> None:
        await self._store.write(lambda tx: ca_certificates.delete_ca_certificate(tx, self._change(scope), ca))

    async def register_issued(self, scope: Scope, pem: str, status: Status) -> None:
        issued = parse_issued_certificate(pem, "pem")
        await self._store.write(
            lambda tx: ca_certificates.register_under_ca(tx, self._change(scope), issued, None, status)
        )


class Office:
    """The registries of one house."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.authorities = Authorities(house.store, house.clock)

    async def take(self, issuer: Issuer, scope: Scope = OURS, **further: Any) -> str:
        """Registers it as SNI_ONLY, ACTIVE; the fingerprint."""
        self.house.clock.advance(seconds=1)
        return await self.authorities.register(scope, issuer.pem, **further)

    async def prove(self, issuer: Issuer, scope: Scope = OURS, **further: Any) -> str:
        """The same as DEFAULT, with a verification certificate."""
        code = await self.authorities.code(scope)
        return await self.take(issuer, scope, verification=pem(issuer.sign(code)), **further)

    async def change(self, ca: str, scope: Scope = OURS, **changes: Any) -> None:
        await self.authorities.update(scope, ca, **changes)

    async def template(self, name: str, kind: Kind = Kind.JITP) -> None:
        now = self.house.clock()
        new = ProvisioningTemplate(OURS, name, kind, None, True, ROLE, None, None, 1, 1, now, now)
        await self.house.store.write(lambda tx: create_template(tx, new, JITP_BODY, {}))


def issuer(common_name: str = "A Maker's Root", **facts: Any) -> Issuer:
    return new_issuer(common_name, now=NOW, **{"begins": NOW - DAY, "ends": NOW + DAY, **facts})


def in_office(path: Path, test: Callable[[House, Office], Awaitable[None]]) -> None:
    in_house(path, lambda house: test(house, Office(house)))
