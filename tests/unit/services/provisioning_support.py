"""Provisions devices over MQTT with one claim certificate, or by RegisterThing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tests.unit import vectors
from tests.world import OURS, THIS_CERTIFICATE
from thingmint.access.operations import run
from thingmint.domain.certificates import Certificate
from thingmint.domain.status import Status
from thingmint.domain.templates import CERTIFICATE_ID
from thingmint.mqtt.provisioning import CREATE_FROM_CSR, CREATE_KEYS, REGISTER_THING, NewCertificateRequest
from thingmint.services.certificate_contents import keep_content
from thingmint.services.certificates import Registration, insert_registration
from thingmint.services.function_calls import CallFailed
from thingmint.services.provisioning import EarlierAnswers, ThingRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.domain.errors import DomainError
    from thingmint.services.change import Change
    from thingmint.services.provisioning import ProvisionedThing
    from thingmint.store.engine import Transaction

CLAIM = "c" * 64
ROLE = "arn:aws:iam::111111111111:role/provisioning"
LAMBDA = "arn:aws:lambda:us-east-1:111111111111:function:ask"
ASKING = {"preProvisioningHook": {"targetArn": LAMBDA}}
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]})


async def ensure_registered(world: World, claim: str, scope: Scope) -> None:
    """Register a certificate with that fingerprint, unless it is registered."""
    now = world.clock()
    change = world.change(scope)
    new_id, generation = change.new_certificate_id(), change.new_id()

    async def body(tx: Transaction) -> None:
        content = Certificate(b"claim", claim, now, now)
        id = await keep_content(tx, new_id, content)
        registration = Registration(scope, id, claim, Status.ACTIVE, "DEFAULT", "keys", now, now, generation)
        await insert_registration(tx, registration, content)

    await world.store.write(body)


@dataclass
class Provisioning:
    """``roles`` are the assumed roles, each with the resource that named it; ``asked`` are the requests to the hook."""

    world: World
    roles: list[tuple[str, str]] = field(default_factory=list)
    asked: list[Mapping[str, object]] = field(default_factory=list)
    overrides: dict[str, str] = field(default_factory=dict)
    refusal: DomainError | None = None
    hook_minutes: float = 0.0
    expected_hook: str = LAMBDA

    def __post_init__(self) -> None:
        self.world.environment = replace(self.world.environment, functions=self)  # type: ignore[arg-type]

    async def call(self, account: str, arn: str, use: str, event: Mapping[str, object], _read: object) -> object:
        """Replaces FunctionTable.call."""
        assert (account, use) == (OURS.account, "pre_provisioning")
        return await self.ask(arn, event)

    def refuse(self, _account: str, _arn: str, _use: str) -> CallFailed:
        """Replaces FunctionTable.refuse."""
        return CallFailed("not_found", "")

    async def ask(self, arn: str, question: Mapping[str, object]) -> Mapping[str, str]:
        assert arn == self.expected_hook
        self.asked.append(question)
        self.world.clock.advance(minutes=self.hook_minutes)
        if self.refusal is not None:
            raise self.refusal
        return self.overrides

    async def as_role(self, role: str, source: str) -> Change:
        self.roles.append((role, source))
        return self.world.change(OURS)

    async def template(self, body: str, scope: Scope = OURS, /, **members: Any) -> str:
        """Create a template, and return its name, which contains the number of existing templates."""
        name = f"t-{await self.world.count('provisioning_templates')}"
        given = {"templateName": name, "templateBody": body, "provisioningRoleArn": ROLE, "enabled": True}
        await self.world.aws("CreateProvisioningTemplate", scope, **given | members)
        return name

    async def create_keys(self, scope: Scope = OURS) -> dict[str, str]:
        answer: dict[str, str] = await self.world.run(CREATE_KEYS, NewCertificateRequest(CLAIM), scope)
        return answer

    async def create(self, csr: str | None = None, scope: Scope = OURS) -> tuple[str, str]:
        """Return the id of a new certificate and its token."""
        request = NewCertificateRequest(CLAIM, csr or vectors.csr_pem())
        answer = await self.world.run(CREATE_FROM_CSR, request, scope)
        return answer["certificateId"], answer["certificateOwnershipToken"]

    async def token(self) -> str:
        return (await self.create())[1]

    async def register(
        self, template: str, token: str | None, scope: Scope = OURS, /, *, claim: str = CLAIM, **parameters: str
    ) -> ProvisionedThing:
        await ensure_registered(self.world, CLAIM, scope)
        request = ThingRequest(claim, "device", template, token, parameters, self.as_role)
        change = self.world.change(scope)
        thing: ProvisionedThing = await run(REGISTER_THING, self.world.store, change, request, EarlierAnswers(request))
        return thing

    async def status(self, fingerprint: str) -> str | None:
        statement = f"SELECT status FROM registrations WHERE {THIS_CERTIFICATE}"
        rows = await self.world.rows(statement, bytes.fromhex(fingerprint))
        return rows[0][0] if rows else None

    def effects(self) -> list[str]:
        """Return what was authorized since the last call."""
        asked, self.world.asked = self.world.asked, []
        return [f"{action.removeprefix('iot:')} {resource.rpartition(':')[2]}" for action, resource in asked]


def body(*, policy: str | None = None, certificate: Mapping[str, Any] | None = None, **thing: Any) -> str:
    """Return a template's body. ``certificate`` and ``thing`` are elements of these resources."""
    resources: dict[str, Any] = {
        "certificate": {
            "Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateId": {"Ref": CERTIFICATE_ID}},
            **(certificate or {}),
        }
    }
    if thing:
        properties = {"ThingName": "lamp", **thing.pop("Properties", {})}
        resources["thing"] = {"Type": "AWS::IoT::Thing", "Properties": properties, **thing}
    if policy is not None:
        resources["policy"] = {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": policy}}
    return json.dumps(
        {
            "Parameters": {"Site": {"Type": "String", "Default": "home"}},
            "Resources": resources,
            "DeviceConfiguration": {"site": {"Ref": "Site"}},
        }
    )
