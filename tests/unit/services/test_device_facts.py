"""The facts that are read about a device when it connects, and the changes that make the gateway read them again."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit import vectors
from tests.world import ABROAD, OURS, THEIRS
from thingmint.domain.status import Status
from thingmint.services.accounts import AccountSettings
from thingmint.services.certificates import get_registered
from thingmint.services.compiled_policies import read_documents
from thingmint.services.device_facts import (
    AttachedThing,
    BoundTo,
    Claim,
    DeviceFacts,
    DeviceRegistration,
    LookUp,
    NoHostName,
    look_up,
)
from thingmint.store.outbox import prune_published_changes, published_since
from thingmint.store.table import from_micros, to_micros

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.store.engine import PublishedChange

UNKNOWN = "0" * 64
ROLE = "arn:aws:iam::111111111111:role/provisioning"


def document(topic: str = "*") -> str:
    statement = {"Effect": "Allow", "Action": "iot:Publish", "Resource": f"arn:aws:iot:us-east-1:1:topic/{topic}"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def arn(kind: str, name: str, scope: Scope = OURS) -> str:
    return f"arn:aws:iot:{scope.region}:{scope.account}:{kind}/{name}"


@dataclass
class Registry:
    """Creates the resources that devices depend on with AWS IoT's operations, and looks them up as the gateway does."""

    world: World

    async def look_up(self, fingerprint: str, client_id: str = "c", scope: Scope | None = OURS) -> LookUp:
        now = self.world.clock()
        return await look_up(self.world.store, fingerprint, scope, OURS.account, client_id, now)

    async def published_since(self, micros: int) -> list[PublishedChange]:
        return await self.world.read(lambda tx: published_since(tx, from_micros(micros)))

    async def facts(self, fingerprint: str, client_id: str = "c", scope: Scope | None = OURS) -> DeviceFacts:
        device = (await self.look_up(fingerprint, client_id, scope)).device
        assert device is not None
        return device

    async def documents(self, device: DeviceFacts) -> dict[str, str]:
        documents = await self.world.read(lambda tx: read_documents(tx, device.policy_key))
        assert documents is not None
        return documents

    async def policy(self, name: str, *targets: str, scope: Scope = OURS, text: str | None = None) -> None:
        """Create a policy and attach it to the targets, which are ARNs."""
        await self.world.aws("CreatePolicy", scope, policyName=name, policyDocument=text or document(name))
        for target in targets:
            await self.world.aws("AttachPolicy", scope, policyName=name, target=target)

    async def version(self, policy: str, *, default: bool) -> None:
        members = {"policyName": policy, "policyDocument": document("second"), "setAsDefault": default}
        await self.world.aws("CreatePolicyVersion", **members)

    async def group(self, name: str, parent: str | None = None, scope: Scope = OURS) -> None:
        further = {} if parent is None else {"parentGroupName": parent}
        await self.world.aws("CreateThingGroup", scope, thingGroupName=name, **further)

    async def thing(self, name: str, *groups: str, scope: Scope = OURS, **attributes: str) -> None:
        await self.world.aws("CreateThing", scope, thingName=name, attributePayload={"attributes": attributes})
        for group in groups:
            await self.world.aws("AddThingToThingGroup", scope, thingGroupName=group, thingName=name)

    async def attach(self, thing: str, fingerprint: str, *, exclusive: bool = False, scope: Scope = OURS) -> None:
        members = {"thingName": thing, "principal": arn("cert", fingerprint, scope)}
        type = "EXCLUSIVE_THING" if exclusive else "NON_EXCLUSIVE_THING"
        await self.world.aws("AttachThingPrincipal", scope, **members, thingPrincipalType=type)

    async def claim(self, scope: Scope = OURS) -> dict[str, Any]:
        certificate = {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}}
        body = json.dumps({"Resources": {"c": {"Type": "AWS::IoT::Certificate", "Properties": certificate}}})
        members = {"templateName": "template", "templateBody": body, "provisioningRoleArn": ROLE}
        await self.world.aws("CreateProvisioningTemplate", scope, **members)
        return await self.world.aws("CreateProvisioningClaim", scope, templateName="template")

    async def forest(self) -> str:
        """Create trees of groups, things in them, policies on both; return the fingerprint of a certificate."""
        for name, parent in (("root", None), ("middle", "root"), ("leaf", "middle"), ("bare", "root"), ("other", None)):
            await self.group(name, parent)
        await self.thing("t", "leaf", colour="red")
        # A thing can be in one group of a hierarchy only, but in older stores it may be in two.
        in_bare = "INSERT INTO thing_group_members SELECT account, region, id, 't', 0 FROM thing_groups WHERE name = $1"
        await self.world.execute(in_bare, "bare")
        await self.thing("u", "other")
        await self.thing("alone")
        fingerprint = await self.world.certificate()
        await self.policy(
            "own", arn("cert", fingerprint), arn("thinggroup", "leaf")
        )  # attached twice, but returned once
        for name in ("root", "leaf", "other"):
            await self.policy(f"at-{name}", arn("thinggroup", name))
        return fingerprint


@pytest.fixture
def registry(world: World) -> Registry:
    return Registry(world)


def names(device: DeviceFacts) -> list[str]:
    return [policy.name for policy in device.policies]


def depends_on(device: DeviceFacts, kind: str) -> set[str]:
    return {name for *_, of, name in device.dependencies if of == kind}


async def test_a_certificate_alone_depends_on_itself_its_account_and_the_client_id(registry: Registry) -> None:
    pem = vectors.certificate_pem()
    fingerprint = await registry.world.certificate(pem=pem)
    registered = await registry.world.read(lambda tx: get_registered(tx, OURS, fingerprint))
    device = await registry.facts(fingerprint)
    assert device == DeviceFacts(
        scope=OURS,
        fingerprint=fingerprint,
        registration=DeviceRegistration(Status.ACTIVE, None),
        certificate=registered.certificate,
        claim=None,
        bound_to=None,
        thing=None,
        policies=(),
        settings=AccountSettings(),
        dependencies=[
            (OURS.account, "", "account", OURS.account),
            (*OURS, "certificate", fingerprint),
            (*OURS, "thing", "c"),
        ],
    )
    assert device.certificate is not None
    assert device.certificate.der == ssl.PEM_cert_to_DER_cert(pem)
    assert device.certificate.not_after == vectors.NOW.replace(microsecond=0) + timedelta(days=365)


async def test_the_default_versions_of_attached_policies_apply_by_name(registry: Registry) -> None:
    fingerprint = await registry.world.certificate()
    for name in ("b", "a"):
        await registry.policy(name, arn("cert", fingerprint))
    await registry.policy("loose")
    await registry.version("a", default=True)
    await registry.version("b", default=False)
    device = await registry.facts(fingerprint)
    assert [(policy.name, policy.version) for policy in device.policies] == [("a", 2), ("b", 1)]
    assert await registry.documents(device) == {"a": document("second"), "b": document("b")}
    assert depends_on(device, "policy") == {"a", "b"}


async def test_the_default_version_of_a_groups_policy_applies(registry: Registry) -> None:
    fingerprint = await registry.world.certificate()
    await registry.group("g")
    await registry.thing("t", "g")
    await registry.attach("t", fingerprint)
    await registry.policy("p", arn("thinggroup", "g"))
    await registry.version("p", default=False)
    assert await registry.documents(await registry.facts(fingerprint, "t")) == {"p": document("p")}
    assert (await registry.facts(fingerprint)).policies == ()


async def test_the_client_id_names_the_thing(registry: Registry) -> None:
    fingerprint = await registry.forest()
    await registry.attach("t", fingerprint)
    await registry.attach("alone", fingerprint)
    device = await registry.facts(fingerprint, "t")
    assert device.thing == AttachedThing("t", None, {"colour": "red"})
    assert names(device) == ["at-leaf", "at-root", "own"]
    device = await registry.facts(fingerprint, "alone")
    assert device.thing == AttachedThing("alone", None, {})
    assert (names(device), depends_on(device, "thinggroup")) == (["own"], set())


@pytest.mark.parametrize("client_id", ["u", "T", "nothing", ""])
async def test_a_client_id_does_not_name_an_unattached_thing(registry: Registry, client_id: str) -> None:
    fingerprint = await registry.forest()
    await registry.attach("t", fingerprint)
    device = await registry.facts(fingerprint, client_id)
    assert (device.thing, names(device)) == (None, ["own"])
    assert (depends_on(device, "thing"), depends_on(device, "thinggroup")) == ({client_id}, set())


@pytest.mark.parametrize("client_id", ["t", "u", "nothing"])
async def test_an_exclusive_certificate_is_its_thing_whatever_the_client_id(registry: Registry, client_id: str) -> None:
    fingerprint = await registry.forest()
    await registry.attach("t", fingerprint, exclusive=True)
    await registry.attach("u", await registry.world.certificate(), exclusive=True)
    device = await registry.facts(fingerprint, client_id)
    assert device.thing == AttachedThing("t", None, {"colour": "red"}, exclusive=True)
    assert names(device) == ["at-leaf", "at-root", "own"]
    assert depends_on(device, "thing") == {"t", client_id}


async def test_facts_have_the_type_of_the_thing(registry: Registry) -> None:
    fingerprint = await registry.forest()
    await registry.attach("t", fingerprint)
    await registry.world.aws("CreateThingType", thingTypeName="lamp")
    await registry.world.aws("UpdateThing", thingName="t", thingTypeName="lamp")
    device = await registry.facts(fingerprint, "t")
    assert device.thing is not None
    assert device.thing.type == "lamp"


async def test_facts_depend_on_every_resource_that_was_read(registry: Registry) -> None:
    fingerprint = await registry.forest()
    await registry.attach("t", fingerprint)
    device = await registry.facts(fingerprint, "t")
    assert set(device.dependencies) == {
        (*OURS, "certificate", fingerprint),
        (*OURS, "policy", "own"),
        (*OURS, "policy", "at-leaf"),
        (*OURS, "policy", "at-root"),
        (*OURS, "thing", "t"),
        (*OURS, "thinggroup", "bare"),
        (*OURS, "thinggroup", "leaf"),
        (*OURS, "thinggroup", "middle"),
        (*OURS, "thinggroup", "root"),
        (OURS.account, "", "account", OURS.account),
    }


async def test_facts_are_of_one_account_and_region(registry: Registry) -> None:
    pem, scopes = vectors.certificate_pem(), (OURS, ABROAD, THEIRS)
    for scope in scopes:
        fingerprint = await registry.world.certificate(scope, pem)
        await registry.policy("p", arn("cert", fingerprint, scope), scope=scope, text=document(scope.region))
        await registry.group("g", scope=scope)
        await registry.thing("t", "g", scope=scope, of=scope.account)
        await registry.attach("t", fingerprint, scope=scope)
    await registry.policy("more", arn("thinggroup", "g", THEIRS), scope=THEIRS)
    for account in (OURS.account, THEIRS.account):
        await registry.world.execute(
            "INSERT INTO account_settings VALUES ($1, 'weak_keys', $2)", account, str(account == OURS.account).lower()
        )
    for scope in scopes:
        device = await registry.facts(fingerprint, "t", scope)
        assert device.registration is not None
        assert device.scope == scope
        assert names(device) == (["more", "p"] if scope == THEIRS else ["p"])
        assert (await registry.documents(device))["p"] == document(scope.region)
        assert device.thing is not None
        assert device.thing.attributes == {"of": scope.account}
        assert device.settings.weak_keys == (scope.account == OURS.account)


@pytest.mark.parametrize(("scope", "jit"), [(OURS, OURS), (None, NoHostName(OURS.account))])
async def test_an_unknown_certificate_can_be_registered_just_in_time(
    registry: Registry, scope: Scope | None, jit: Scope | NoHostName
) -> None:
    assert await registry.look_up(UNKNOWN, scope=scope) == LookUp(None, (jit,))


async def test_with_a_host_name_only_its_scope_counts(registry: Registry) -> None:
    fingerprint = await registry.world.certificate(THEIRS)
    assert await registry.look_up(fingerprint, scope=OURS) == LookUp(None, (OURS,))
    assert (await registry.look_up(fingerprint, scope=THEIRS)).jit == ()


@pytest.mark.parametrize("scope", [OURS, None])
async def test_a_claim_needs_no_registration(registry: Registry, scope: Scope | None) -> None:
    made = await registry.claim()
    device = await registry.facts(made["certificateId"], scope=scope)
    assert (device.scope, device.registration, device.certificate) == (OURS, None, None)
    assert device.claim == Claim("template", made["expiration"])
    assert (*OURS, "certificate", made["certificateId"]) in device.dependencies


async def test_a_claim_counts_in_its_own_account(registry: Registry) -> None:
    fingerprint = (await registry.claim())["certificateId"]
    assert (await registry.look_up(fingerprint, scope=THEIRS)).device is None
    assert (await registry.facts(fingerprint, scope=None)).scope == OURS


async def test_a_claim_can_also_be_registered(registry: Registry) -> None:
    made = await registry.claim(THEIRS)
    await registry.world.certificate(THEIRS, made["certificatePem"])
    device = await registry.facts(made["certificateId"], scope=None)
    assert device.registration is not None
    assert device.claim == Claim("template", made["expiration"])


async def test_a_binding_counts_in_one_region(registry: Registry) -> None:
    pem = vectors.certificate_pem()
    fingerprint = await registry.world.certificate(pem=pem)
    await registry.world.certificate(ABROAD, pem)
    await registry.world.execute(
        "INSERT INTO bindings SELECT id, $1, $2, 'device', 'are1', NULL, 0 FROM certificates", *OURS
    )
    assert (await registry.facts(fingerprint)).bound_to == BoundTo("device", "are1")
    assert (await registry.facts(fingerprint, scope=ABROAD)).bound_to is None


async def test_published_changes_are_read_from_a_time(registry: Registry) -> None:
    fingerprint = await registry.world.certificate()
    times = []
    for status in ("INACTIVE", "ACTIVE", "REVOKED"):
        registry.world.clock.advance(seconds=1)
        times.append(to_micros(registry.world.clock.now))
        await registry.world.aws("UpdateCertificate", certificateId=fingerprint, newStatus=status)
    for skipped in range(3):
        changes = await registry.published_since(times[skipped])
        assert [change.created_at for change in changes] == times[skipped:]
        assert {change[2:] for change in changes} == {(*OURS, "certificate", fingerprint)}
    assert await registry.published_since(times[-1] + 1) == []


async def test_pruned_changes_are_not_read(registry: Registry) -> None:
    fingerprint = await registry.world.certificate()
    for status in ("INACTIVE", "ACTIVE"):
        registry.world.clock.advance(seconds=1)
        await registry.world.aws("UpdateCertificate", certificateId=fingerprint, newStatus=status)
    await prune_published_changes(registry.world.store, registry.world.clock.now + timedelta(minutes=10))
    changes = await registry.published_since(0)
    assert [change.created_at for change in changes] == [to_micros(registry.world.clock.now)]


@pytest.mark.sqlite
async def test_every_table_is_read_by_an_index(registry: Registry) -> None:
    """Reading takes the same time in a large store."""
    fingerprint = await registry.forest()
    await registry.attach("t", fingerprint)
    registry.world.store.statements.clear()
    for client_id in ("t", "u"):
        await registry.facts(fingerprint, client_id, None)
    plans = await registry.world.query_plans()
    for sql, plan in plans.items():
        for step in plan:
            word, _, what = step.partition(" ")
            assert word != "SCAN" or what in ("l", "d", "p", "places", "found", "others", "CONSTANT ROW"), (sql, plan)
            # Which is all of the key of account_regions, and of no other table.
            assert "(account=? AND region=?)" not in step or "account_regions" in step, (sql, plan)
