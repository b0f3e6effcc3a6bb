"""Ownership tokens, registering things with them, and what templates make of what is there already."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.issuers import Issuer, fingerprint, pem, rewritten
from tests.unit import vectors
from tests.unit.services.authority_support import Authorities, issuer
from tests.unit.services.door_support import Policies
from tests.unit.services.template_support import (
    ABROAD,
    LAMBDA,
    OURS,
    ROLE,
    THEIRS,
    Workshop,
    new_template,
    with_workshop,
)
from thingmint.domain.errors import (
    Denied,
    DomainError,
    InvalidParameters,
    InvalidSigningRequest,
    LimitExceeded,
    ProvisioningFailed,
    ProvisioningRefused,
    Unavailable,
)
from thingmint.domain.status import Status
from thingmint.domain.template import CERTIFICATE_ID, Kind
from thingmint.services.ca_certificates import CaStatus
from thingmint.services.hooks import Hook
from thingmint.services.ownership import OwnershipRegistry
from thingmint.services.provisioning import ProvisionedThing, ProvisioningRegistry, ThingRequest
from thingmint.services.quotas import NO_QUOTAS, Quotas
from thingmint.services.things import THINGS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from cryptography import x509

    from thingmint.domain.policy import ContextValue
    from thingmint.domain.registration import Scope
    from thingmint.services.change import Authorize
    from thingmint.services.ownership import OwnedCertificate
    from thingmint.services.plans import Applied

CLAIM = "c" * 64
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]})


@dataclass
class AskedHooks:
    overrides: dict[str, str] = field(default_factory=dict)
    refusal: DomainError | None = None
    asked: list[Mapping[str, object]] = field(default_factory=list)

    async def ask(self, hook: Hook, question: Mapping[str, object]) -> Mapping[str, str]:
        assert hook.target_arn == LAMBDA
        self.asked.append(question)
        if self.refusal is not None:
            raise self.refusal
        return self.overrides


@dataclass
class Factory:
    """``lacking`` are actions that the role does not allow, ``effects`` those that it was asked for."""

    shop: Workshop
    hooks: AskedHooks
    ownership: OwnershipRegistry
    provisioning: ProvisioningRegistry
    authorities: Authorities
    lacking: set[str] = field(default_factory=set)
    effects: list[str] = field(default_factory=list)
    roles: list[tuple[str, str]] = field(default_factory=list)

    def authorize(self, action: str, resources: Sequence[str], context: Mapping[str, ContextValue]) -> None:
        (resource,) = resources
        self.effects.append(f"{action.removeprefix('iot:')} {resource.rpartition(':')[2]}")
        thing = "arn:aws:iot:us-east-1:111111111111:thing/lamp"
        assert context == ({"iot:thingArn": thing} if action == "iot:AttachThingPrincipal" else {})
        if action in self.lacking:
            raise Denied(ROLE, action, resource, explicit=False)

    async def as_role(self, role: str, source: str) -> Authorize:
        self.roles.append((role, source))
        return self.authorize

    async def template(self, body: str, **fields: Any) -> str:
        name = f"t-{len(await self.shop.rows('SELECT 1 FROM provisioning_templates'))}"
        await self.shop.templates.create(OURS, new_template(name, body=body, **fields))
        return name

    async def made(self) -> OwnedCertificate:
        return await self.ownership.create_from_csr(OURS, CLAIM, vectors.csr_pem())

    async def register(self, template: str, token: str | None, **fields: Any) -> ProvisionedThing:
        given: dict[str, Any] = {
            "scope": OURS,
            "claim": CLAIM,
            "client_id": "device",
            "template": template,
            "token": token,
            "parameters": {},
        }
        return await self.provisioning.register_thing(ThingRequest(**given | fields), self.as_role)

    async def take(self, issuer: Issuer, scope: Scope = OURS, *, active: bool = True, proven: bool = False) -> str:
        """Registers an authority; its fingerprint."""
        code = await self.authorities.code(scope)
        verification = pem(issuer.sign(code)) if proven else None
        return await self.authorities.register(scope, issuer.pem, verification=verification, active=active)

    async def bring(self, leaf: x509.Certificate, ca: str | None = None, **properties: str) -> Applied:
        """RegisterThing with a certificate that the device has."""
        given = {"CertificatePem": pem(leaf), **({"CACertificatePem": ca} if ca is not None else {}), **properties}
        text = json.dumps({"Resources": {"certificate": {"Type": "AWS::IoT::Certificate", "Properties": given}}})
        return await self.provisioning.register(OURS, text, {}, self.authorize)

    async def registered(self, leaf: x509.Certificate) -> tuple[Any, ...]:
        """Authority, serial number, mode and status."""
        (row,) = await self.shop.rows(
            "SELECT ca, serial, mode, status FROM registrations WHERE fingerprint = $1", fingerprint(leaf)
        )
        return tuple(row)

    async def status(self, fingerprint: str) -> str | None:
        rows = await self.shop.rows("SELECT status FROM registrations WHERE fingerprint = $1", fingerprint)
        return rows[0][0] if rows else None


def body(*, policy: str | None = None, certificate: dict[str, Any] | None = None, **thing: Any) -> str:
    resources: dict[str, Any] = {
        "certificate": {
            "Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateId": {"Ref": CERTIFICATE_ID}},
            **(certificate or {}),
        }
    }
    if thing:
        overrides = thing.pop("OverrideSettings", None)
        resources["thing"] = {
            "Type": "AWS::IoT::Thing",
            "Properties": {"ThingName": "lamp", **thing.get("Properties", {})},
            "OverrideSettings": overrides,
        }
    if policy is not None:
        resources["policy"] = {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": policy}}
    return json.dumps(
        {
            "Parameters": {"Site": {"Type": "String", "Default": "home"}},
            "Resources": resources,
            "DeviceConfiguration": {"site": {"Ref": "Site"}},
        }
    )


def in_factory(path: Path, scenario: Callable[[Factory], Awaitable[None]], quotas: Quotas = NO_QUOTAS) -> None:
    async def run(shop: Workshop) -> None:
        authority, hooks = vectors.authority(), AskedHooks()
        await Policies(shop.store, shop.clock).create(OURS, "all", POLICY)
        await shop.execute("INSERT INTO thing_types VALUES ($1, $2, 'lamps', 'i', NULL, '[]', NULL, 0)", *OURS)
        for name in ("one", "two", "three"):
            insert = "INSERT INTO thing_groups VALUES ($1, $2, $3, 'i', NULL, $3, NULL, '{}', 1, 0)"
            await shop.execute(insert, *OURS, name)
        await scenario(
            Factory(
                shop,
                hooks,
                OwnershipRegistry(shop.store, authority, shop.keys, quotas=quotas, clock=shop.clock),
                ProvisioningRegistry(shop.store, authority, hooks, quotas=quotas, clock=shop.clock),
                Authorities(shop.store, shop.clock),
            )
        )

    with_workshop(path, run)


@contextlib.contextmanager
def refused(step: str) -> Any:
    with pytest.raises(ProvisioningRefused) as caught:
        yield
    assert caught.value.step == step


# -- tokens -------------------------------------------------------------------------------------------------------


def _contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_a_certificate_and_its_token(tmp_path: Path) -> None:
    async def scenario(factory: Factory) -> None:
        owned, keys = await factory.ownership.create_keys(OURS, CLAIM)
        assert await factory.status(owned.certificate.fingerprint) == Status.PENDING_ACTIVATION
        assert owned.token.startswith("tmo_")
        assert len(owned.token) < 512
        stored = _contents(tmp_path)
        assert owned.certificate.fingerprint.encode() in stored
        assert owned.token.encode() not in stored
        assert keys.private_pem.splitlines()[5].encode() not in stored
        with pytest.raises(InvalidSigningRequest):
            await factory.ownership.create_from_csr(OURS, CLAIM, "nonsense")

    in_factory(tmp_path, scenario)


def test_no_keys_where_the_account_has_it_so(tmp_path: Path) -> None:
    async def scenario(factory: Factory) -> None:
        await factory.shop.execute(f"INSERT INTO account_settings VALUES ('{OURS.account}', 'keys_over_mqtt', 'false')")
        with refused("key"):
            await factory.ownership.create_keys(OURS, CLAIM)
        await factory.ownership.create_keys(THEIRS, CLAIM)
        await factory.made()

    in_factory(tmp_path, scenario)


@pytest.mark.parametrize(
    "fields", [{"claim": "d" * 64}, {"scope": THEIRS}, {"token": "tmo_x"}, {"token": "x"}, {"token": "tmo_" * 200}]
)
def test_whose_a_token_is(tmp_path: Path, fields: dict[str, Any]) -> None:
    async def scenario(factory: Factory) -> None:
        await factory.shop.templates.create(THEIRS, new_template("t-0"))
        token = (await factory.made()).token
        name = await factory.template(body()) if "scope" not in fields else "t-0"
        with refused("token"):
            await factory.register(name, **{"token": token} | fields)
        assert (factory.effects, factory.roles) == ([], [])

    in_factory(tmp_path, scenario)


@pytest.mark.parametrize("scope", [THEIRS, ABROAD])
def test_the_same_certificate_elsewhere(tmp_path: Path, scope: Scope) -> None:
    """Claim and certificate may be registered in several accounts and regions: the token counts in one."""

    async def scenario(factory: Factory) -> None:
        await factory.shop.templates.create(scope, new_template("t-0"))
        made = await factory.made()
        await factory.shop.execute(
            "INSERT INTO registrations (account, region, fingerprint, status, mode, origin, created_at, modified_at, "
            "generation, version) VALUES ($1, $2, $3, 'PENDING_ACTIVATION', 'SNI_ONLY', 'registered', 0, 0, 'g', 1)",
            *scope,
            made.certificate.fingerprint,
        )
        with refused("token"):
            await factory.register("t-0", made.token, scope=scope)

    in_factory(tmp_path, scenario)


def test_a_token_lasts_an_hour(tmp_path: Path) -> None:
    async def scenario(factory: Factory) -> None:
        name = await factory.template(body())
        made = await factory.made()
        factory.shop.clock.advance(minutes=60)
        with refused("token"):
            await factory.register(name, made.token)
        factory.shop.clock.advance(microseconds=-1)
        assert await factory.register(name, made.token) == ProvisionedThing(None, {"site": "home"})
        assert await factory.status(made.certificate.fingerprint) == Status.ACTIVE

    in_factory(tmp_path, scenario)


def test_a_token_that_ends_while_the_hook_thinks(tmp_path: Path) -> None:
    async def scenario(factory: Factory) -> None:
        name = await factory.template(body(), hook=Hook(LAMBDA))
        made = await factory.made()
        factory.shop.clock.advance(minutes=59)
        asked = factory.hooks.ask

        async def slowly(hook: Hook, question: Mapping[str, object]) -> Mapping[str, str]:
            factory.shop.clock.advance(minutes=1)
            return await asked(hook, question)

        factory.hooks.ask = slowly  # type: ignore[method-assign]
        with refused("token"):
            await factory.register(name, made.token)
        assert await factory.status(made.certificate.fingerprint) == Status.PENDING_ACTIVATION

    in_factory(tmp_path, scenario)


def test_one_success_and_the_same_answer_again(tmp_path: Path) -> None:
    async def scenario(factory: Factory) -> None:
        name = await factory.template(body(Properties={"AttributePayload": {"site": {"Ref": "Site"}}}))
        other = await factory.template(body())
        token = (await factory.made()).token
        factory.lacking = {"iot:CreateThing"}
        with pytest.raises(ProvisioningFailed):
            await factory.register(name, token, parameters={"Site": "a", "x": "y"})
        factory.lacking = set()
        answers = await asyncio.gather(
            *(factory.register(name, token, parameters={"Site": "a", "x": "y"}) for _ in range(5))
        )
        assert answers == [ProvisionedThing("lamp", {"site": "a"})] * 5
        assert await factory.register(name, token, parameters={"x": "y", "Site": "a"}) == answers[0]
        assert factory.effects.count("CreateThing thing/lamp") == 2
        for parameters in ({"Site": "a"}, {"Site": "b", "x": "y"}, {}):
            with refused("token"):
                await factory.register(name, token, parameters=parameters)
        with refused("token"):
            await factory.register(other, token, parameters={"Site": "a", "x": "y"})

    in_factory(tmp_path, scenario)


def test_unclaimed_certificates_are_deleted(tmp_path: Path) -> None:
    async def scenario(factory: Factory) -> None:
        shop = factory.shop
        many = [await factory.made() for _ in range(120)]
        kept, attached = await factory.made(), await factory.made()
        name = await factory.template(body())
        await factory.register(name, kept.token)
        await shop.execute(
            "INSERT INTO device_policy_attachments VALUES ($1, $2, 'cert', $3, 'all', 0)",
            *OURS,
            attached.certificate.fingerprint,
        )
        shop.clock.advance(minutes=30)
        late = await factory.made()
        assert await factory.ownership.expire(shop.clock()) == 0
        changes = shop.store.changes
        assert await factory.ownership.expire(shop.clock()) == 0
        assert shop.store.changes == changes, "looking costs no write"
        shop.clock.advance(minutes=30)
        assert await factory.ownership.expire(shop.clock()) == len(many)
        left = {row[0] for row in await shop.rows("SELECT fingerprint FROM registrations")}
        assert left == {each.certificate.fingerprint for each in (kept, attached, late)}
        assert {row[0] for row in await shop.rows("SELECT fingerprint FROM certificates")} == left
        tokens = await shop.rows("SELECT fingerprint FROM ownership_tokens")
        assert tokens == [(late.certificate.fingerprint,)]
        told = await shop.rows("SELECT count(*) FROM outbox WHERE name = $1", many[0].certificate.fingerprint)
        assert told == [(1,)]

    in_factory(tmp_path, scenario)


def test_expiry_goes_on_after_the_store_was_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(factory: Factory) -> None:
        attempts: list[object] = []
        enough = asyncio.Event()

        async def expire(now: object) -> int:
            attempts.append(now)
            if len(attempts) == 1:
                raise Unavailable
            enough.set()
            return 0

        monkeypatch.setattr(factory.ownership, "expire", expire)
        monkeypatch.setattr("thingmint.services.ownership._EXPIRE_EVERY", 0.0)
        running = asyncio.create_task(factory.ownership.run())
        await asyncio.wait_for(enough.wait(), 5)
        running.cancel()

    in_factory(tmp_path, scenario)


# -- templates and hooks ------------------------------------------------------------------------------------------


def test_the_order_of_checks(tmp_path: Path) -> None:
    async def scenario(factory: Factory) -> None:
        factory.hooks.refusal = ProvisioningRefused("denied", "no")
        needing = json.loads(body())
        needing["DeviceConfiguration"] = {"x": {"Ref": "Unknown"}}
        off = await factory.template(body(), enabled=False)
        jitp = await factory.template(body(), kind=Kind.JITP)
        asking = await factory.template(json.dumps(needing), hook=Hook(LAMBDA))
        for name, word in (("none", "exist"), (off, "enabled"), (jitp, "FLEET")):
            with pytest.raises(ProvisioningRefused, match=word):
                await factory.register(name, None)
        with pytest.raises(ProvisioningRefused, match="empty"):
            await factory.register(asking, None)
        with pytest.raises(ProvisioningRefused, match="invalid"):
            await factory.register(asking, "tmo_x")
        token = (await factory.made()).token
        with refused("denied"):
            await factory.register(asking, token)
        factory.hooks.refusal = None
        with pytest.raises(InvalidParameters, match="Cannot resolve reference value: Unknown"):
            await factory.register(asking, token)
        assert factory.roles == []

    in_factory(tmp_path, scenario)


def test_a_hook_cannot_choose_another_certificate(tmp_path: Path) -> None:
    async def scenario(factory: Factory) -> None:
        other, made = await factory.made(), await factory.made()
        factory.hooks.overrides = {CERTIFICATE_ID: other.certificate.fingerprint, "Site": "attic"}
        name = await factory.template(body(), hook=Hook(LAMBDA))
        parameters = {CERTIFICATE_ID: other.certificate.fingerprint}
        thing = await factory.register(name, made.token, parameters=parameters)
        assert thing.device_configuration == {"site": "attic"}
        assert await factory.status(made.certificate.fingerprint) == Status.ACTIVE
        assert await factory.status(other.certificate.fingerprint) == Status.PENDING_ACTIVATION
        assert factory.hooks.asked[0]["parameters"] == parameters

    in_factory(tmp_path, scenario)


# -- effects ------------------------------------------------------------------------------------------------------


def test_the_effects_of_a_new_thing(tmp_path: Path) -> None:
    async def scenario(factory: Factory) -> None:
        name = await factory.template(
            body(policy="all", Properties={"ThingTypeName": "lamps", "ThingGroups": ["one", "two"]})
        )
        made = await factory.made()
        await factory.register(name, made.token)
        certificate = f"cert/{made.certificate.fingerprint}"
        assert factory.roles == [(ROLE, f"arn:aws:iot:us-east-1:{OURS.account}:provisioningtemplate/{name}")]
        assert factory.effects == [
            f"UpdateCertificate {certificate}",
            f"AttachPolicy {certificate}",
            "CreateThing thing/lamp",
            "AddThingToThingGroup thing/lamp",
            "AddThingToThingGroup thinggroup/one",
            "AddThingToThingGroup thing/lamp",
            "AddThingToThingGroup thinggroup/two",
            f"AttachThingPrincipal {certificate}",
        ]
        notices = {tuple(row) for row in await factory.shop.rows("SELECT kind, name FROM outbox")}
        assert {("certificate", made.certificate.fingerprint), ("thing", "lamp")} <= notices

    in_factory(tmp_path, scenario)


@pytest.mark.parametrize("lacking", ["UpdateCertificate", "AttachPolicy", "CreateThing", "AttachThingPrincipal"])
def test_nothing_is_left_of_what_is_denied(tmp_path: Path, lacking: str) -> None:
    async def scenario(factory: Factory) -> None:
        name = await factory.template(body(policy="all", Properties={"ThingGroups": ["one"]}))
        made = await factory.made()
        factory.lacking = {f"iot:{lacking}"}
        with pytest.raises(ProvisioningFailed) as failed:
            await factory.register(name, made.token)
        assert isinstance(failed.value.cause, Denied)
        for table in ("things", "thing_principals", "thing_group_members", "device_policy_attachments", "outbox"):
            assert await factory.shop.rows(f"SELECT * FROM {table}") == [], table
        assert await factory.status(made.certificate.fingerprint) == Status.PENDING_ACTIVATION
        factory.lacking = set()
        await factory.register(name, made.token)

    in_factory(tmp_path, scenario)


WAS: dict[str, Any] = {"type": None, "attributes": {"a": "1", "b": "1"}, "groups": {"one", "two"}}


@pytest.mark.parametrize(
    ("properties", "overrides", "expected"),
    [
        # Without a word: as it is, or not at all; groups are added.
        ({}, None, {}),
        ({"AttributePayload": {"a": "1", "b": "1"}}, None, {}),
        ({"AttributePayload": {"a": "2"}}, None, "with another AttributePayload"),
        ({"ThingTypeName": "lamps"}, None, "with another ThingTypeName"),
        ({"ThingGroups": ["two", "three"]}, None, {"groups": {"one", "two", "three"}}),
        ({"AttributePayload": {"a": "2"}}, {"AttributePayload": "DO_NOTHING"}, {}),
        ({"AttributePayload": {"a": "2"}}, {"AttributePayload": "REPLACE"}, {"attributes": {"a": "2"}}),
        ({"AttributePayload": {"a": "2"}}, {"AttributePayload": "MERGE"}, {"attributes": {"a": "2", "b": "1"}}),
        ({"AttributePayload": {"a": "1"}}, {"AttributePayload": "MERGE"}, {}),
        ({"AttributePayload": {"a": "2"}}, {"AttributePayload": "FAIL"}, "with another AttributePayload"),
        ({"AttributePayload": {"a": "1", "b": "1"}}, {"AttributePayload": "FAIL"}, {}),
        ({"ThingTypeName": "lamps"}, {"ThingTypeName": "DO_NOTHING"}, {}),
        ({"ThingTypeName": "lamps"}, {"ThingTypeName": "REPLACE"}, {"type": "lamps"}),
        ({"ThingTypeName": "lamps"}, {"ThingTypeName": "FAIL"}, "with another ThingTypeName"),
        ({"ThingGroups": ["two", "three"]}, {"ThingGroups": "DO_NOTHING"}, {}),
        ({"ThingGroups": ["two", "three"]}, {"ThingGroups": "MERGE"}, {"groups": {"one", "two", "three"}}),
        ({"ThingGroups": ["two", "three"]}, {"ThingGroups": "REPLACE"}, {"groups": {"two", "three"}}),
        ({"ThingGroups": ["two", "three"]}, {"ThingGroups": "FAIL"}, "with another ThingGroups"),
        ({"ThingGroups": ["two", "one"]}, {"ThingGroups": "FAIL"}, {}),
    ],
)
def test_a_thing_that_is_there(
    tmp_path: Path, properties: dict[str, Any], overrides: dict[str, str] | None, expected: dict[str, Any] | str
) -> None:
    async def scenario(factory: Factory) -> None:
        first = await factory.template(
            body(Properties={"AttributePayload": WAS["attributes"], "ThingGroups": sorted(WAS["groups"])})
        )
        await factory.register(first, (await factory.made()).token)
        name = await factory.template(body(Properties=properties, OverrideSettings=overrides))
        factory.effects.clear()
        token = (await factory.made()).token
        if isinstance(expected, str):
            with pytest.raises(ProvisioningFailed, match=expected):
                await factory.register(name, token)
        else:
            await factory.register(name, token)
        thing = await factory.shop.store.read(lambda tx: THINGS.get(tx, *OURS, "lamp"))
        members = await factory.shop.rows("SELECT thing_group FROM thing_group_members")
        found = {"type": thing.type, "attributes": thing.attributes, "groups": {row[0] for row in members}}
        assert found == WAS | (expected if isinstance(expected, dict) else {})
        changed = {"type", "attributes"} & set(expected) if isinstance(expected, dict) else set()
        assert ("UpdateThing thing/lamp" in factory.effects) is bool(changed)
        assert not any("CreateThing" in effect for effect in factory.effects)

    in_factory(tmp_path, scenario)


@pytest.mark.parametrize(
    ("override", "status", "expected"),
    [
        (None, "INACTIVE", "INACTIVE"),
        ("DO_NOTHING", "INACTIVE", "INACTIVE"),
        ("REPLACE", "INACTIVE", "ACTIVE"),
        ("FAIL", "INACTIVE", None),
        ("FAIL", "ACTIVE", "ACTIVE"),
        ("REPLACE", "REVOKED", "refused"),
    ],
)
def test_a_status_that_somebody_set(tmp_path: Path, override: str | None, status: str, expected: str | None) -> None:
    async def scenario(factory: Factory) -> None:
        certificate = {"OverrideSettings": {"Status": override}} if override else {}
        name = await factory.template(body(certificate=certificate))
        made = await factory.made()
        await factory.shop.execute("UPDATE registrations SET status = $1", status)
        if expected == "refused":
            with refused("token"):
                await factory.register(name, made.token)
        elif expected is None:
            with pytest.raises(ProvisioningFailed):
                await factory.register(name, made.token)
        else:
            await factory.register(name, made.token)
        final = status if expected in (None, "refused") else expected
        assert await factory.status(made.certificate.fingerprint) == final

    in_factory(tmp_path, scenario)


def test_an_exclusive_certificate(tmp_path: Path) -> None:
    async def scenario(factory: Factory) -> None:
        text = json.loads(body(Properties={}))
        text["Resources"]["certificate"]["Properties"]["ThingPrincipalType"] = "EXCLUSIVE_THING"
        await factory.register(await factory.template(json.dumps(text)), (await factory.made()).token)
        assert await factory.shop.rows("SELECT thing, exclusive FROM thing_principals") == [("lamp", 1)]

    in_factory(tmp_path, scenario)


def test_a_revoked_certificate_is_not_activated_by_a_template_of_the_callers(tmp_path: Path) -> None:
    async def scenario(factory: Factory) -> None:
        made = await factory.made()
        await factory.shop.execute("UPDATE registrations SET status = 'REVOKED'")
        resource = {
            "Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateId": made.certificate.fingerprint},
            "OverrideSettings": {"Status": "REPLACE"},
        }
        text = json.dumps({"Resources": {"certificate": resource}})
        with pytest.raises(ProvisioningFailed, match="REVOKED"):
            await factory.provisioning.register(OURS, text, {}, factory.authorize)
        assert await factory.status(made.certificate.fingerprint) == Status.REVOKED

    in_factory(tmp_path, scenario)


def test_another_accounts_certificate_is_none(tmp_path: Path) -> None:
    async def scenario(factory: Factory) -> None:
        made = await factory.made()
        resource = {
            "Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateId": made.certificate.fingerprint},
        }
        text = json.dumps({"Resources": {"certificate": resource}})
        with pytest.raises(ProvisioningFailed, match="does not exist"):
            await factory.provisioning.register(THEIRS, text, {}, factory.authorize)
        applied = await factory.provisioning.register(OURS, text, {}, factory.authorize)
        assert applied.certificate is not None
        assert applied.arns == {
            "certificate": f"arn:aws:iot:us-east-1:{OURS.account}:cert/{made.certificate.fingerprint}"
        }
        assert await factory.status(made.certificate.fingerprint) == Status.ACTIVE

    in_factory(tmp_path, scenario)


# -- certificates that devices bring along ------------------------------------------------------------------------


@pytest.mark.parametrize("with_ca", [True, False])
@pytest.mark.parametrize(("proven", "mode"), [(True, "DEFAULT"), (False, "SNI_ONLY")])
def test_a_certificate_of_an_authority(tmp_path: Path, with_ca: bool, proven: bool, mode: str) -> None:
    async def scenario(factory: Factory) -> None:
        made = issuer()
        ca = await factory.take(made, proven=proven)
        leaf = made.sign(serial=0xABC)
        given = made.pem if with_ca else None
        applied = await factory.bring(leaf, given, Status="INACTIVE")
        assert await factory.registered(leaf) == (ca, "abc", mode, "INACTIVE")
        arn = f"arn:aws:iot:us-east-1:{OURS.account}:cert/{fingerprint(leaf)}"
        assert applied.arns == {"certificate": arn}
        assert factory.effects == ["RegisterCertificate *"]
        # It is there now, and its status is somebody's decision.
        again = await factory.bring(leaf, given, Status="ACTIVE")
        assert again.arns == applied.arns
        assert again.certificate == applied.certificate
        assert await factory.registered(leaf) == (ca, "abc", mode, "INACTIVE")

    in_factory(tmp_path, scenario)


def test_an_authority_that_does_not_vouch(tmp_path: Path) -> None:
    async def refusal(factory: Factory, leaf: x509.Certificate, ca: str) -> str:
        with pytest.raises(ProvisioningFailed) as failed:
            await factory.bring(leaf, ca)
        return failed.value.reason

    async def scenario(factory: Factory) -> None:
        made, twin, other = issuer(), issuer(), issuer("Another")
        leaf, unknown = made.sign(), "No CA certificate exists for the given certificate"
        assert await refusal(factory, leaf, made.pem) == unknown
        await factory.take(made, THEIRS)
        assert await refusal(factory, leaf, made.pem) == unknown
        ca = await factory.take(made)
        assert "did not match the subject" in await refusal(factory, leaf, other.pem)
        assert "failed verification" in await refusal(factory, leaf, twin.pem)
        assert "is not that of a certificate authority" in await refusal(factory, leaf, pem(leaf))
        assert "CACertificatePem" in await refusal(factory, leaf, "x")
        await factory.authorities.update(OURS, ca, status=CaStatus.INACTIVE)
        assert await refusal(factory, leaf, made.pem) == "The CA certificate is not active"
        assert await factory.shop.rows("SELECT 1 FROM registrations") == []

    in_factory(tmp_path, scenario)


@pytest.mark.parametrize("case", ["unknown", "theirs", "inactive", "namesake", "two of one key"])
def test_a_certificate_of_no_certain_authority(tmp_path: Path, case: str) -> None:
    """Without the authority's own it is registered as one of none."""

    async def scenario(factory: Factory) -> None:
        made = issuer()
        match case:
            case "theirs":
                await factory.take(made, THEIRS)
            case "inactive":
                await factory.take(made, active=False)
            case "namesake":
                await factory.take(issuer())
            case "two of one key":
                await factory.take(made)
                await factory.take(issuer(key=made.key))
        leaf = made.sign()
        await factory.bring(leaf)
        assert await factory.registered(leaf) == (None, None, "SNI_ONLY", "ACTIVE")
        assert factory.effects == ["RegisterCertificateWithoutCA *"]

    in_factory(tmp_path, scenario)


@pytest.mark.parametrize("other", ["namesake", "inactive"])
def test_the_one_authority_that_signed_it(tmp_path: Path, other: str) -> None:
    async def scenario(factory: Factory) -> None:
        made = issuer()
        for _ in range(3):
            await factory.take(issuer(key=made.key) if other == "inactive" else issuer(), active=other == "namesake")
        ca = await factory.take(made)
        leaf = made.sign()
        await factory.bring(leaf)
        assert (await factory.registered(leaf))[0] == ca

    in_factory(tmp_path, scenario)


@pytest.mark.parametrize("with_ca", [True, False])
def test_a_serial_number_is_given_once(tmp_path: Path, with_ca: bool) -> None:
    async def scenario(factory: Factory) -> None:
        made, other = issuer(), issuer("Another")
        await factory.take(made)
        await factory.take(other)
        first = made.sign(serial=7)
        await factory.bring(first, made.pem if with_ca else None)
        for again in (made.sign(serial=7), rewritten(first)):
            with pytest.raises(ProvisioningFailed, match=f"registered already. Id: {fingerprint(first)}"):
                await factory.bring(again, made.pem if with_ca else None)
        await factory.bring(other.sign(serial=7))
        assert len(await factory.shop.rows("SELECT 1 FROM registrations")) == 2

    in_factory(tmp_path, scenario)


def test_what_was_registered_without_its_authority_stays_so(tmp_path: Path) -> None:
    async def scenario(factory: Factory) -> None:
        made = issuer()
        leaf = made.sign()
        await factory.bring(leaf)
        await factory.take(made)
        for given in (None, made.pem):
            await factory.bring(leaf, given)
        assert await factory.registered(leaf) == (None, None, "SNI_ONLY", "ACTIVE")

    in_factory(tmp_path, scenario)


def test_a_revoked_certificate_may_be_registered_again_by_hand(tmp_path: Path) -> None:
    """As with RegisterCertificate: what keeps it out is for devices that come by themselves."""

    async def scenario(factory: Factory) -> None:
        made = issuer()
        ca = await factory.take(made)
        leaf = made.sign(serial=7)
        await factory.bring(leaf)
        await factory.shop.execute(
            "INSERT INTO revoked_certificates (account, region, fingerprint, ca, serial, revoked_at) "
            "SELECT account, region, fingerprint, ca, serial, 0 FROM registrations"
        )
        await factory.shop.execute("DELETE FROM registrations")
        await factory.bring(leaf, made.pem)
        assert (await factory.registered(leaf))[0] == ca

    in_factory(tmp_path, scenario)


@pytest.mark.parametrize(
    ("lacking", "known", "given"),
    [
        ("RegisterCertificate", True, True),
        ("RegisterCertificate", True, False),
        ("RegisterCertificate", False, True),
        ("RegisterCertificateWithoutCA", False, False),
    ],
)
def test_who_may_not_register(tmp_path: Path, lacking: str, known: bool, given: bool) -> None:
    async def scenario(factory: Factory) -> None:
        made = issuer()
        if known:
            await factory.take(made)
        factory.lacking = {f"iot:{lacking}"}
        with pytest.raises(ProvisioningFailed) as failed:
            await factory.bring(made.sign(), made.pem if given else None)
        assert isinstance(failed.value.cause, Denied)
        assert await factory.shop.rows("SELECT 1 FROM registrations") == []

    in_factory(tmp_path, scenario)


# -- quotas -------------------------------------------------------------------------------------------------------


def test_as_many_certificates_as_there_may_be(tmp_path: Path) -> None:
    async def scenario(factory: Factory) -> None:
        made = issuer()
        await factory.take(made)
        kept, first = made.sign(), await factory.made()
        await factory.bring(kept, made.pem)
        csr = {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateSigningRequest": vectors.csr_pem()}}
        by_csr = json.dumps({"Resources": {"certificate": csr}})
        told = "The quota of 2 certificates for each account is used up"
        for attempt in (
            factory.bring(made.sign(), made.pem),
            factory.bring(made.sign()),
            factory.bring(issuer("Unknown").sign()),
            factory.provisioning.register(OURS, by_csr, {}, factory.authorize),
        ):
            with pytest.raises(ProvisioningFailed) as failed:
                await attempt
            assert isinstance(failed.value.cause, LimitExceeded)
            assert failed.value.reason == told
        for another in (factory.made(), factory.ownership.create_keys(OURS, CLAIM)):
            with pytest.raises(LimitExceeded) as exceeded:
                await another
            assert exceeded.value.reason == told
        for table in ("registrations", "certificates"):
            found = {row[0] for row in await factory.shop.rows(f"SELECT fingerprint FROM {table}")}
            assert {fingerprint(kept), first.certificate.fingerprint} == found - {made.fingerprint}
        assert len(await factory.shop.rows("SELECT 1 FROM ownership_tokens")) == 1
        # What is there already is no other one, and other accounts have their own.
        await factory.bring(kept, made.pem)
        await factory.register(await factory.template(body()), first.token)
        await factory.ownership.create_from_csr(THEIRS, CLAIM, vectors.csr_pem())

    in_factory(tmp_path, scenario, Quotas(certificates=2))


def test_what_expires_makes_room(tmp_path: Path) -> None:
    async def scenario(factory: Factory) -> None:
        await factory.made()
        with pytest.raises(LimitExceeded):
            await factory.made()
        factory.shop.clock.advance(minutes=60)
        await factory.ownership.expire(factory.shop.clock())
        await factory.made()

    in_factory(tmp_path, scenario, Quotas(certificates=1))
