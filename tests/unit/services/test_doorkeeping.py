"""What the gateway learns of a certificate when its device connects, and which changes make it look again."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit import vectors
from tests.world import ABROAD, OURS, THEIRS
from thingmint.services.certificates import get_registered
from thingmint.services.doorkeeping import (
    AttachedThing,
    BoundTo,
    Claim,
    Doorkeeping,
    LookUp,
    NoHostName,
    Passport,
    PolicyDocument,
)
from thingmint.store.outbox import notices_since, prune_notices
from thingmint.store.times import from_micros, to_micros

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.store.engine import Notice

UNKNOWN = "0" * 64
ROLE = "arn:aws:iam::111111111111:role/provisioning"


def document(topic: str = "*") -> str:
    statement = {"Effect": "Allow", "Action": "iot:Publish", "Resource": f"arn:aws:iot:us-east-1:1:topic/{topic}"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def arn(kind: str, name: str, scope: Scope = OURS) -> str:
    return f"arn:aws:iot:{scope.region}:{scope.account}:{kind}/{name}"


@dataclass
class Registry:
    """Makes what devices depend on, by the operations of AWS IoT, and looks it up as the gateway does."""

    world: World

    @property
    def doorkeeping(self) -> Doorkeeping:
        return Doorkeeping(self.world.store, OURS.account)

    async def look_up(self, fingerprint: str, client_id: str = "c", scope: Scope | None = OURS) -> LookUp:
        return await self.doorkeeping.look_up(fingerprint, scope, thing_name=client_id, now=self.world.clock())

    async def notices_since(self, micros: int) -> list[Notice]:
        return await self.world.read(lambda tx: notices_since(tx, from_micros(micros)))

    async def passport(self, fingerprint: str, client_id: str = "c", scope: Scope | None = OURS) -> Passport:
        passport = (await self.look_up(fingerprint, client_id, scope)).passport
        assert passport is not None
        return passport

    async def policy(self, name: str, *targets: str, scope: Scope = OURS, text: str | None = None) -> None:
        """Attached to the targets, which are ARNs."""
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
        """Groups in trees, things in them, policies on both, and the fingerprint of a certificate without a thing."""
        for name, parent in (("root", None), ("middle", "root"), ("leaf", "middle"), ("bare", "root"), ("other", None)):
            await self.group(name, parent)
        await self.thing("t", "leaf", colour="red")
        # AWS puts a thing into one group of a hierarchy only; stores of before may have it in two.
        in_bare = "INSERT INTO thing_group_members SELECT account, region, id, 't', 0 FROM thing_groups WHERE name = $1"
        await self.world.execute(in_bare, "bare")
        await self.thing("u", "other")
        await self.thing("alone")
        fingerprint = await self.world.certificate()
        await self.policy("own", arn("cert", fingerprint), arn("thinggroup", "leaf"))  # twice, and told once
        for name in ("root", "leaf", "other"):
            await self.policy(f"at-{name}", arn("thinggroup", name))
        return fingerprint


@pytest.fixture
def registry(world: World) -> Registry:
    return Registry(world)


def names(passport: Passport) -> list[str]:
    return [policy.name for policy in passport.policies]


def depends_on(passport: Passport, kind: str) -> set[str]:
    return {name for of, name in passport.dependencies if of == kind}


async def test_a_certificate_alone_depends_on_itself_its_account_and_the_client_id(registry: Registry) -> None:
    pem = vectors.certificate_pem()
    fingerprint = await registry.world.certificate(pem=pem)
    registered = await registry.world.read(lambda tx: get_registered(tx, OURS, fingerprint))
    passport = await registry.passport(fingerprint)
    assert passport == Passport(
        scope=OURS,
        fingerprint=fingerprint,
        registration=registered.registration,
        certificate=registered.certificate,
        claim=None,
        bound_to=None,
        thing=None,
        policies=(),
        settings={},
        dependencies=frozenset({("certificate", fingerprint), ("account", OURS.account), ("thing", "c")}),
    )
    assert passport.certificate is not None
    assert passport.certificate.der == ssl.PEM_cert_to_DER_cert(pem)
    assert passport.certificate.not_after == vectors.NOW.replace(microsecond=0) + timedelta(days=365)


async def test_the_default_versions_of_attached_policies_apply_by_name(registry: Registry) -> None:
    fingerprint = await registry.world.certificate()
    for name in ("b", "a"):
        await registry.policy(name, arn("cert", fingerprint))
    await registry.policy("loose")
    await registry.version("a", default=True)
    await registry.version("b", default=False)
    passport = await registry.passport(fingerprint)
    assert passport.policies == (PolicyDocument("a", 2, document("second")), PolicyDocument("b", 1, document("b")))
    assert depends_on(passport, "policy") == {"a", "b"}


async def test_the_default_version_of_a_groups_policy_applies(registry: Registry) -> None:
    fingerprint = await registry.world.certificate()
    await registry.group("g")
    await registry.thing("t", "g")
    await registry.attach("t", fingerprint)
    await registry.policy("p", arn("thinggroup", "g"))
    await registry.version("p", default=False)
    assert (await registry.passport(fingerprint, "t")).policies == (PolicyDocument("p", 1, document("p")),)
    assert (await registry.passport(fingerprint)).policies == ()


async def test_the_client_id_names_the_thing(registry: Registry) -> None:
    fingerprint = await registry.forest()
    await registry.attach("t", fingerprint)
    await registry.attach("alone", fingerprint)
    passport = await registry.passport(fingerprint, "t")
    assert passport.thing == AttachedThing("t", None, {"colour": "red"}, exclusive=False)
    assert names(passport) == ["at-leaf", "at-root", "own"]
    passport = await registry.passport(fingerprint, "alone")
    assert passport.thing == AttachedThing("alone", None, {}, exclusive=False)
    assert (names(passport), depends_on(passport, "thinggroup")) == (["own"], set())


@pytest.mark.parametrize("client_id", ["u", "T", "nothing", ""])
async def test_a_client_id_of_a_thing_that_is_not_attached_names_none(registry: Registry, client_id: str) -> None:
    fingerprint = await registry.forest()
    await registry.attach("t", fingerprint)
    passport = await registry.passport(fingerprint, client_id)
    assert (passport.thing, names(passport)) == (None, ["own"])
    assert (depends_on(passport, "thing"), depends_on(passport, "thinggroup")) == ({client_id}, set())


@pytest.mark.parametrize("client_id", ["t", "u", "nothing"])
async def test_a_certificate_of_one_thing_alone_is_that_thing(registry: Registry, client_id: str) -> None:
    fingerprint = await registry.forest()
    await registry.attach("t", fingerprint, exclusive=True)
    await registry.attach("u", await registry.world.certificate(), exclusive=True)
    passport = await registry.passport(fingerprint, client_id)
    assert passport.thing == AttachedThing("t", None, {"colour": "red"}, exclusive=True)
    assert names(passport) == ["at-leaf", "at-root", "own"]
    assert depends_on(passport, "thing") == {"t", client_id}


async def test_a_thing_has_its_type(registry: Registry) -> None:
    fingerprint = await registry.forest()
    await registry.attach("t", fingerprint)
    await registry.world.aws("CreateThingType", thingTypeName="lamp")
    await registry.world.aws("UpdateThing", thingName="t", thingTypeName="lamp")
    passport = await registry.passport(fingerprint, "t")
    assert passport.thing is not None
    assert passport.thing.type == "lamp"


async def test_a_passport_depends_on_all_that_it_was_made_of(registry: Registry) -> None:
    fingerprint = await registry.forest()
    await registry.attach("t", fingerprint)
    passport = await registry.passport(fingerprint, "t")
    assert passport.dependencies == {
        ("certificate", fingerprint),
        ("policy", "own"),
        ("policy", "at-leaf"),
        ("policy", "at-root"),
        ("thing", "t"),
        ("thinggroup", "bare"),
        ("thinggroup", "leaf"),
        ("thinggroup", "middle"),
        ("thinggroup", "root"),
        ("account", OURS.account),
    }


async def test_each_account_and_region_has_its_own(registry: Registry) -> None:
    pem, scopes = vectors.certificate_pem(), (OURS, ABROAD, THEIRS)
    for scope in scopes:
        fingerprint = await registry.world.certificate(scope, pem)
        await registry.policy("p", arn("cert", fingerprint, scope), scope=scope, text=document(scope.region))
        await registry.group("g", scope=scope)
        await registry.thing("t", "g", scope=scope, of=scope.account)
        await registry.attach("t", fingerprint, scope=scope)
    await registry.policy("more", arn("thinggroup", "g", THEIRS), scope=THEIRS)
    for account in (OURS.account, THEIRS.account):
        await registry.world.execute("INSERT INTO account_settings VALUES ($1, 'for', $1)", account)
    for scope in scopes:
        passport = await registry.passport(fingerprint, "t", scope)
        assert passport.registration is not None
        assert passport.registration.scope == passport.scope == scope
        assert names(passport) == (["more", "p"] if scope == THEIRS else ["p"])
        assert passport.policies[-1].document == document(scope.region)
        assert passport.thing is not None
        assert passport.thing.attributes == {"of": scope.account}
        assert passport.settings == {"for": scope.account}


@pytest.mark.parametrize(("scope", "jit"), [(OURS, OURS), (None, NoHostName(OURS.account))])
async def test_an_unknown_certificate_may_be_registered_just_in_time(
    registry: Registry, scope: Scope | None, jit: Scope | NoHostName
) -> None:
    assert await registry.look_up(UNKNOWN, scope=scope) == LookUp(None, (jit,))


async def test_a_host_name_decides_alone(registry: Registry) -> None:
    fingerprint = await registry.world.certificate(THEIRS)
    assert await registry.look_up(fingerprint, scope=OURS) == LookUp(None, (OURS,))
    assert (await registry.look_up(fingerprint, scope=THEIRS)).jit == ()


@pytest.mark.parametrize("scope", [OURS, None])
async def test_a_claim_has_a_passport_without_a_registration(registry: Registry, scope: Scope | None) -> None:
    made = await registry.claim()
    passport = await registry.passport(made["certificateId"], scope=scope)
    assert (passport.scope, passport.registration, passport.certificate) == (OURS, None, None)
    assert passport.claim == Claim("template", made["expiration"])
    assert ("certificate", made["certificateId"]) in passport.dependencies


async def test_a_claim_counts_in_its_own_account(registry: Registry) -> None:
    fingerprint = (await registry.claim())["certificateId"]
    assert (await registry.look_up(fingerprint, scope=THEIRS)).passport is None
    assert (await registry.passport(fingerprint, scope=None)).scope == OURS


async def test_a_claim_can_be_registered_too(registry: Registry) -> None:
    made = await registry.claim(THEIRS)
    await registry.world.certificate(THEIRS, made["certificatePem"])
    passport = await registry.passport(made["certificateId"], scope=None)
    assert passport.registration is not None
    assert passport.claim == Claim("template", made["expiration"])


async def test_a_certificate_is_bound_in_one_region(registry: Registry) -> None:
    pem = vectors.certificate_pem()
    fingerprint = await registry.world.certificate(pem=pem)
    await registry.world.certificate(ABROAD, pem)
    await registry.world.execute(
        "INSERT INTO bindings VALUES ($1, $2, $3, 'device', 'are1', NULL, 0)", *OURS, fingerprint
    )
    assert (await registry.passport(fingerprint)).bound_to == BoundTo("device", "are1")
    assert (await registry.passport(fingerprint, scope=ABROAD)).bound_to is None


async def test_changes_are_told_from_a_time_on(registry: Registry) -> None:
    fingerprint = await registry.world.certificate()
    times = []
    for status in ("INACTIVE", "ACTIVE", "REVOKED"):
        registry.world.clock.advance(seconds=1)
        times.append(to_micros(registry.world.clock.now))
        await registry.world.aws("UpdateCertificate", certificateId=fingerprint, newStatus=status)
    for skipped in range(3):
        notices = await registry.notices_since(times[skipped])
        assert [notice.created_at for notice in notices] == times[skipped:]
        assert {notice[2:] for notice in notices} == {(*OURS, "certificate", fingerprint)}
    assert await registry.notices_since(times[-1] + 1) == []


async def test_changes_that_were_pruned_are_not_told(registry: Registry) -> None:
    fingerprint = await registry.world.certificate()
    for status in ("INACTIVE", "ACTIVE"):
        registry.world.clock.advance(seconds=1)
        await registry.world.aws("UpdateCertificate", certificateId=fingerprint, newStatus=status)
    await prune_notices(registry.world.store, registry.world.clock.now + timedelta(minutes=10))
    notices = await registry.notices_since(0)
    assert [notice.created_at for notice in notices] == [to_micros(registry.world.clock.now)]


@pytest.mark.sqlite
async def test_everything_is_found_along_an_index(registry: Registry) -> None:
    """A connection costs the same in a large store."""
    fingerprint = await registry.forest()
    await registry.attach("t", fingerprint)
    registry.world.store.statements.clear()
    for client_id in ("t", "u"):
        await registry.passport(fingerprint, client_id, None)
    plans = await registry.world.query_plans()
    assert len(plans) >= 6
    for sql, plan in plans.items():
        for step in plan:
            word, _, what = step.partition(" ")
            assert word != "SCAN" or what in ("lineage", "targets", "attached", "CONSTANT ROW"), (sql, plan)
            # Which is all of the key of account_regions, and of no other table.
            assert "(account=? AND region=?)" not in step or "account_regions" in step, (sql, plan)
