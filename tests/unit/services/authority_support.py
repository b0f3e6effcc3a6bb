"""A store with two accounts, and what makes authorities of theirs."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.issuers import Issuer, new_issuer, pem
from tests.unit.services.door_support import OURS, House, in_house
from tests.unit.vectors import NOW
from thingmint.domain.template import CERTIFICATE_ID, Kind
from thingmint.services.authorities import AuthorityChange, AuthorityRegistry, NewAuthority
from thingmint.services.issued import IssuedRegistry
from thingmint.services.markers import Markers
from thingmint.services.templates import NewTemplate, TemplateRegistry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from thingmint.domain.registration import Scope

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


class Office:
    """The registries of one house."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.authorities = AuthorityRegistry(house.store, MARKERS, house.clock)
        self.issued = IssuedRegistry(house.store, MARKERS, clock=house.clock)
        self.templates = TemplateRegistry(house.store, MARKERS, clock=house.clock)

    async def take(self, issuer: Issuer, scope: Scope = OURS, **further: Any) -> str:
        """Registers it as SNI_ONLY, ACTIVE; the fingerprint."""
        given = {"mode": "SNI_ONLY", "verification": None, "active": True, "auto_registration": False}
        new = NewAuthority(**{**given, "certificate": issuer.pem, "config": None, "tags": {}, **further})
        self.house.clock.advance(seconds=1)
        return (await self.authorities.register(scope, new)).fingerprint

    async def prove(self, issuer: Issuer, scope: Scope = OURS, **further: Any) -> str:
        """The same as DEFAULT, with a verification certificate."""
        code = await self.authorities.code(scope)
        return await self.take(issuer, scope, mode="DEFAULT", verification=pem(issuer.sign(code)), **further)

    async def change(self, ca: str, scope: Scope = OURS, **changes: Any) -> None:
        await self.authorities.update(scope, ca, AuthorityChange(**changes))

    async def template(self, name: str, kind: Kind = Kind.JITP) -> None:
        new = NewTemplate(
            name=name,
            kind=kind,
            description=None,
            body=JITP_BODY,
            enabled=True,
            role_arn=ROLE,
            hook=None,
            tags={},
        )
        await self.templates.create(OURS, new)


def issuer(common_name: str = "A Maker's Root", **facts: Any) -> Issuer:
    return new_issuer(common_name, now=NOW, **{"begins": NOW - DAY, "ends": NOW + DAY, **facts})


def in_office(path: Path, test: Callable[[House, Office], Awaitable[None]]) -> None:
    in_house(path, lambda house: test(house, Office(house)))
