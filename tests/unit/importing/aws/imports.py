"""Imports items into a world, as the command does."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.world import OURS
from thingmint.access.audit import AuditedStore, AuditLog
from thingmint.domain.certificates import parse_certificate
from thingmint.domain.keys import FLEET_KEYS
from thingmint.importing.importer import Importer
from thingmint.services.imports import Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.world import World
    from thingmint.importing.sources.aws import AwsSource

CREATED = 1_583_298_367_000_000  # 2020-03-04T05:06:07Z
MODIFIED = CREATED + 60_000_000


@dataclass
class Imports:
    """``add`` imports items in one batch."""

    world: World
    account: str = OURS.account
    id: str = ""
    place: Mapping[str, Any] = field(default_factory=dict)

    @property
    def importer(self) -> Importer:
        store = AuditedStore(self.world.store, self.world.clock)
        return Importer(store, AuditLog(self.world.store, self.world.clock), self.world.environment, self.world.clock)

    async def begin(self, identity: str) -> None:
        begun = await self.importer.start(source="aws", origin="AWS", identity=identity, account=self.account)
        self.id, self.place = begun["id"], begun["place"]

    async def add(
        self, *items: Mapping[str, Any], dry_run: bool = False, place: Mapping[str, Any] | None = None
    ) -> list[Result]:
        if not self.id:
            await self.begin("items")
        if place is None:
            place = {"n": int(self.place.get("n", 0)) + 1}
        answer = await self.importer.apply(
            id=self.id,
            after=self.place,
            place=place,
            items=list(items),
            dry_run=dry_run,
            account=self.account,
        )
        self.place = self.place if dry_run else place
        return [Result(*each) for each in answer["results"]]

    async def add_all(self, source: AwsSource) -> list[Result]:
        """Imports everything that the source has."""
        await self.begin(source.identity())
        results: list[Result] = []
        for batch in source.batches(self.place):
            place = {**self.place, **batch.place}  # as the command does
            results += [*batch.results, *await self.add(*batch.items, place=place)]
        await self.importer.finish(id=self.id)
        return results


def outcomes(results: Sequence[Result]) -> list[tuple[str, str]]:
    return [(result.kind, result.outcome) for result in results]


def thing(name: str = "lamp-1", type: str | None = None, **further: Any) -> dict[str, Any]:
    return {"kind": "thing", "region": OURS.region, "name": name, "type": type, "attributes": {}, **further}


def group(name: str = "floor", parent: str | None = None, **further: Any) -> dict[str, Any]:
    item = {"kind": "group", "region": OURS.region, "name": name, "parent": parent, "created_at": CREATED}
    return {**item, "attributes": {}, "policies": [], "tags": {}, **further}


def policy(name: str, versions: Mapping[str, str], default: str, **further: Any) -> dict[str, Any]:
    return {
        "kind": "policy",
        "region": OURS.region,
        "name": name,
        "versions": [{"id": id, "document": text, "created_at": MODIFIED} for id, text in versions.items()],
        "default": default,
        "created_at": CREATED,
        "modified_at": MODIFIED,
        "tags": {},
        **further,
    }


def certificate(pem: str, id: str | None = None, **further: Any) -> dict[str, Any]:
    return {
        "kind": "certificate",
        "region": OURS.region,
        "id": id,
        "pem": pem,
        "status": "ACTIVE",
        "mode": "DEFAULT",
        "ca": None,
        "created_at": CREATED,
        "modified_at": MODIFIED,
        "policies": [],
        "things": [],
        **further,
    }


def document(action: str = "iot:Connect", resource: str = "*") -> str:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def fingerprint_of(pem: str) -> str:
    return parse_certificate(pem, "pem", FLEET_KEYS)[0].fingerprint


async def one(imports: Imports, item: dict[str, Any], **options: Any) -> Result:
    (result,) = await imports.add(item, **options)
    return result


LAMP = {
    "kind": "thing_type",
    "region": OURS.region,
    "name": "lamp",
    "description": "gives light",
    "searchable_attributes": ["room"],
    "deprecated_at": None,
    "created_at": CREATED,
    "tags": {"team": "light"},
}
BODY = json.dumps({"Resources": {"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}}}})  # fmt: skip  # noqa: E501
ROLE = f"arn:aws:iam::{OURS.account}:role/provision"


def template(**further: Any) -> dict[str, Any]:
    return {
        "kind": "template",
        "region": OURS.region,
        "name": "line",
        "description": "the production line",
        "type": "FLEET_PROVISIONING",
        "enabled": True,
        "role_arn": ROLE,
        "hook": {"target_arn": "arn:aws:lambda:us-east-1:111111111111:function:ask", "payload_version": "2020-04-01"},
        "versions": [{"id": 2, "body": BODY, "created_at": CREATED}, {"id": 3, "body": f"{BODY} "}],
        "default": 2,
        "created_at": CREATED,
        "modified_at": MODIFIED,
        "tags": {"team": "light"},
        **further,
    }


def ca_item(issuer: Any, **further: Any) -> dict[str, Any]:
    return {
        "kind": "ca",
        "region": OURS.region,
        "id": issuer.fingerprint,
        "pem": issuer.pem,
        "status": "ACTIVE",
        "auto_registration": True,
        "mode": "DEFAULT",
        "registration_config": None,
        "created_at": CREATED,
        "modified_at": MODIFIED,
        "tags": {},
        **further,
    }
