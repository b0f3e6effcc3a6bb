"""Dry runs of provisioning templates: they tell what provisioning does, and change nothing."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.issuers import fingerprint, pem
from tests.unit.services.provisioning_support import ASKING, Provisioning
from tests.unit.services.test_ca_certificates import issuer, take
from tests.unit.services.test_jit_registration import AUTO, Gateway
from tests.world import OURS, THEIRS
from thingmint.domain.arns import arn_of
from thingmint.domain.errors import (
    Denied,
    DomainError,
    Invalid,
    InvalidCertificate,
    InvalidTemplate,
    NotFound,
    ProvisioningFailed,
)
from thingmint.domain.status import Status
from thingmint.domain.templates import CERTIFICATE_ID
from thingmint.services.certificates import update_status
from thingmint.services.provisioning_changes import changes_of
from thingmint.services.provisioning_dry_run import DryRun, dry_run
from thingmint.services.provisioning_samples import SampleDevice
from thingmint.services.provisioning_state import State, ThingState
from thingmint.services.role_trials import RoleTrial, TriedAction
from thingmint.services.templates import get_template
from thingmint.services.things import thing_arn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.domain.policies import ContextValue

OVERRIDES = (None, "DO_NOTHING", "REPLACE", "FAIL", "MERGE")
TABLES = ("things", "registrations", "device_policies", "device_policy_attachments", "thing_principals", "outbox")
ACTIONS = ("CreateThing", "UpdateThing", "AttachPolicy", "AttachThingPrincipal", "UpdateCertificate", "CreatePolicy")


async def tried(provisioning: Provisioning, name: str, **sample: Any) -> DryRun:
    """A dry run with the permissions that the world's callers have. Asserts that nothing changes."""
    world = provisioning.world

    async def try_role(scope: Scope, role: str, source: str, now: datetime, address: str | None = None) -> RoleTrial:
        assert (scope, now, address) == (OURS, world.clock(), sample.get("address"))
        provisioning.roles.append((role, source))

        def decide(action: str, resources: Sequence[str], _context: Mapping[str, ContextValue]) -> TriedAction:
            return TriedAction(action, resources[0], action not in world.denied, "because")

        return RoleTrial(None, decide)

    def allows(action: str, resource: str) -> bool:
        return action not in world.denied and resource not in world.denied

    change = replace(world.change(), environment=replace(world.environment, try_role=try_role))
    template, version = await world.read(lambda tx: get_template(tx, OURS, name))
    await world.published()
    world.audit_resources()
    before, counts = world.dump(), [await world.count(table) for table in TABLES]
    found = await dry_run(world.store, change, template, version.body, SampleDevice(**sample), allows)
    assert world.dump() == before
    assert [await world.count(table) for table in TABLES] == counts
    assert await world.unchanged()
    return found


async def state(world: World, thing: str | None, certificate: str, policies: Sequence[str]) -> State:
    """What exists, as the operations of AWS IoT tell it."""
    found, principal = None, arn_of(OURS, certificate)
    if thing is not None:
        described = await world.aws("DescribeThing", thingName=thing)
        groups = await world.aws("ListThingGroupsForThing", thingName=thing)
        found = ThingState(
            described["thingTypeName"],
            described["attributes"],
            tuple(each["groupName"] for each in groups["thingGroups"]),
            described["billingGroupName"],
        )
    status = (await world.aws("DescribeCertificate", certificateId=certificate))["certificateDescription"]["status"]
    attached = await world.aws("ListAttachedPolicies", target=principal)
    known = await world.aws("ListPolicies", pageSize=250)
    things = await world.aws("ListPrincipalThings", principal=principal)
    return State(
        thing=found,
        status=status,
        things=tuple(things["things"]),
        attached=tuple(sorted(each["policyName"] for each in attached["policies"])),
        policies=frozenset(each["policyName"] for each in known["policies"]) & set(policies),
    )


class Generated:
    """A random template with the parameters of a device, and what exists before."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.seed = seed

    def some(self, *of: Any) -> Any:
        return self.random.choice(of)

    def overrides(self, **of: Sequence[Any]) -> dict[str, Any]:
        chosen = {name: self.some(*values) for name, values in of.items()}
        return {name: value for name, value in chosen.items() if value is not None}

    def body(self) -> str:
        status = self.some(None, "Active", "Inactive", {"Ref": "Status"})
        properties: dict[str, Any] = {"CertificateId": {"Ref": CERTIFICATE_ID}}
        properties |= {"Status": status} if status is not None else {}
        properties |= self.some({}, {"ThingPrincipalType": "EXCLUSIVE_THING"})
        resources: dict[str, Any] = {
            "certificate": {
                "Type": "AWS::IoT::Certificate",
                "Properties": properties,
                "OverrideSettings": self.overrides(Status=(None, "DO_NOTHING", "REPLACE", "FAIL")),
            }
        }
        if self.some(True, True, True, False):
            thing: dict[str, Any] = {"ThingName": {"Ref": "Serial"}}
            thing |= self.some({}, {"AttributePayload": {"site": {"Ref": "Site"}, "kind": "pump"}})
            thing |= self.some({}, {"ThingTypeName": self.some("lamps", "unknown", "others")})
            thing |= self.some({}, {"ThingGroups": self.random.sample(["one", "two", "three", "none"], 2)})
            thing |= self.some({}, {}, {"BillingGroup": self.some("cheap", "dear", "none")})
            resources["thing"] = {
                "Type": "AWS::IoT::Thing",
                "Properties": thing,
                "OverrideSettings": self.overrides(
                    AttributePayload=OVERRIDES,
                    ThingTypeName=OVERRIDES[:4],
                    ThingGroups=OVERRIDES,
                    BillingGroup=OVERRIDES[:4],
                ),
            }
        kind = self.some("none", "known", "document", "unknown")
        if kind == "document":
            allow = {
                "Effect": "Allow",
                "Action": "iot:Connect",
                "Resource": {"Fn::Join": ["", ["*/", {"Ref": "Site"}]]},
            }
            document = {"Version": "2012-10-17", "Statement": [allow]}
            resources["policy"] = {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": document}}
        elif kind != "none":
            name = "all" if kind == "known" else "unknown"
            resources["policy"] = {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": name}}
        text = {"Type": "String"}
        declared = {
            "Serial": text,
            "Status": {**text, "Default": "Active"},
            "Site": self.some(text, {**text, "Default": "x"}),
        }
        return json.dumps(
            {"Parameters": declared, "Resources": resources, "DeviceConfiguration": {"at": {"Ref": "Site"}}}
        )

    def parameters(self) -> dict[str, str]:
        given: dict[str, str] = {
            "Serial": self.some(f"pump-{self.seed}", f"pump-{self.seed}", "a b", "", "pump-0"),
            "Site": "home",
        }
        if self.some(False, False, True):
            given.pop(self.some("Site", "Serial"))
        given |= self.some({}, {}, {"Status": self.some("Inactive", "inactive", "no")})
        return given | {"further": "x"}


async def test_a_dry_run_tells_what_provisioning_does(provisioning: Provisioning) -> None:
    world = provisioning.world
    for name in ("cheap", "dear"):
        await world.aws("CreateBillingGroup", billingGroupName=name)
    await world.aws("CreateThingType", thingTypeName="others")
    seen: set[str] = set()
    for seed in range(150):
        made = Generated(seed)
        name = await provisioning.template(made.body(), enabled=made.some(True, True, True, True, False))
        certificate, token = await provisioning.create()
        parameters = made.parameters()
        if made.some(True, False) and (serial := parameters.get("Serial")) == f"pump-{seed}":
            payload = {"attributes": {"site": made.some("home", "away"), "old": "1"}}
            more = made.some({}, {"thingTypeName": "lamps"}) | made.some({}, {"billingGroupName": "cheap"})
            await world.aws("CreateThing", thingName=serial, attributePayload=payload, **more)
            await world.aws("AddThingToThingGroup", thingName=serial, thingGroupName=made.some("one", "three"))
        if (status := made.some(None, None, "ACTIVE", "INACTIVE")) is not None:
            await world.write(lambda tx, of=(certificate, status): update_status(tx, world.change(), *of))  # type: ignore[misc]
        denied = {f"iot:{action}" for action in made.random.sample(ACTIONS, made.some(0, 0, 0, 1, 2))}
        world.denied.clear()
        world.denied |= denied
        found = await tried(provisioning, name, parameters=parameters, certificate=certificate)
        world.asked.clear()
        thing, cause = None, None
        try:
            thing = await provisioning.register(name, token, **parameters)
        except DomainError as error:
            cause = error.cause if isinstance(error, ProvisioningFailed) else error
        world.denied.clear()
        if thing is None:
            assert found.failures, (seed, cause)
            step, reason = found.failures[0]
            if isinstance(cause, Denied):
                assert reason.startswith(f"The role may not perform {cause.action} on {cause.resource}: "), seed
            else:
                assert reason == str(cause), (seed, found.failures)
            seen.add(step)
            continue
        asked = set(world.asked)
        assert found.failures == (), seed
        assert found.plan is not None
        assert found.plan.device_configuration == thing.device_configuration, seed
        assert {(each.action, each.resource) for each in found.actions} == asked, seed
        policies = [each.name for each in found.plan.policies]
        assert found.after == await state(world, thing.name, certificate, policies), seed
        seen.add("changed" if found.before is not None and found.before.thing is not None else "new")
    assert seen == {"template", "parameters", "permission", "change", "changed", "new"}, "all outcomes are generated"


def body(**thing: Any) -> str:
    resources = {
        "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": CERTIFICATE_ID}}},
        "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Serial"}, **thing}},
    }
    return json.dumps({"Parameters": {"Serial": {"Type": "String"}}, "Resources": resources})


async def test_a_certificate_stands_for_the_devices(provisioning: Provisioning) -> None:
    name = await provisioning.template(body(ThingGroups=["one"]))
    found = await tried(provisioning, name, parameters={"Serial": "pump"})
    assert found.succeeds
    assert found.is_stand_in
    assert found.before == State(None, Status.PENDING_ACTIVATION, (), (), frozenset())
    assert found.after == State(ThingState(None, {}, ("one",), None), Status.ACTIVE, ("pump",), (), frozenset())
    assert provisioning.roles == [(found.role, found.template.arn)]


async def test_all_refused_actions_are_told(provisioning: Provisioning) -> None:
    """Provisioning stops at the first one."""
    name = await provisioning.template(body(ThingGroups=["one"]))
    provisioning.world.denied |= {"iot:CreateThing", "iot:AttachThingPrincipal"}
    found = await tried(provisioning, name, parameters={"Serial": "pump"})
    assert [each.step for each in found.failures] == ["permission", "permission"]
    assert {each.action for each in found.actions if each.allowed} == {
        "iot:UpdateCertificate",
        "iot:AddThingToThingGroup",
    }
    assert found.after is not None, "it shows what the other actions are for"


async def test_the_hook_is_not_called(provisioning: Provisioning) -> None:
    name = await provisioning.template(body(), **ASKING)
    found = await tried(provisioning, name, parameters={"Serial": "pump"}, client_id="c")
    assert found.succeeds
    assert provisioning.asked == []
    assert found.question is not None
    assert (found.question["parameters"], found.question["clientId"]) == ({"Serial": "pump"}, "c")


@pytest.mark.parametrize("status", ["REVOKED", "PENDING_TRANSFER"])
async def test_a_certificate_that_cannot_be_provisioned(provisioning: Provisioning, status: str) -> None:
    name = await provisioning.template(body())
    made, _ = await provisioning.create()
    await provisioning.world.execute("UPDATE registrations SET status = $1", status)
    found = await tried(provisioning, name, parameters={"Serial": "pump"}, certificate=made)
    assert found.failures[0] == ("certificate", f"The certificate is {status}, so it cannot be provisioned")


async def test_certificates_of_others_and_wrong_ones_are_errors(provisioning: Provisioning) -> None:
    fleet = await provisioning.template(body())
    just_in_time = await provisioning.template(body(), type="JITP")
    theirs = await provisioning.world.certificate(THEIRS)
    for wrong, error in (
        ({"certificate": theirs}, NotFound),
        ({"certificate": "0" * 64}, NotFound),
        ({"pem": "x"}, Invalid),
        ({"address": "x"}, Invalid),
    ):
        with pytest.raises(error):
            await tried(provisioning, fleet, **wrong)
    with pytest.raises(InvalidCertificate):
        await tried(provisioning, just_in_time, pem="x")


async def test_what_a_thing_has_is_shown_to_callers_who_may_describe_it(provisioning: Provisioning) -> None:
    world, secrets = provisioning.world, ("kept", "old", "left-behind")
    overrides = {"ThingGroups": "REPLACE", "AttributePayload": "MERGE"}
    resources = json.loads(body(ThingGroups=["one"], AttributePayload={"made": "now"}))
    resources["Resources"]["thing"]["OverrideSettings"] = overrides
    name = await provisioning.template(json.dumps(resources))
    await world.aws("CreateThing", thingName="pump", attributePayload={"attributes": {"kept": "old"}})
    await world.aws("CreateThingGroup", thingGroupName="left-behind")
    await world.aws("AddThingToThingGroup", thingName="pump", thingGroupName="left-behind")
    shown = await tried(provisioning, name, parameters={"Serial": "pump"})
    assert all(secret in f"{shown} {changes_of(shown)}" for secret in secrets)
    for denied in ("iot:DescribeThing", thing_arn(OURS, "pump")):
        world.denied = {denied, "iot:RemoveThingFromThingGroup"}
        found = await tried(provisioning, name, parameters={"Serial": "pump"})
        lines = changes_of(found)
        assert not any(secret in f"{found} {lines}" for secret in secrets)
        assert ("thing pump", "exists", "yes", "yes") in lines
        assert ("thing pump", "type, attributes and groups", "not shown", "not compared") in lines
        new = await tried(provisioning, name, parameters={"Serial": "valve"})
        assert ("thing valve", "attribute made", None, "now") in changes_of(new)


GUESSES: list[dict[str, Any]] = [
    *({"AttributePayload": {"site": site}} for site in ("home", "away")),
    *({"ThingTypeName": type} for type in ("lamps", "others")),
    *({"ThingGroups": [group]} for group in ("one", "two")),
    *({"BillingGroup": group} for group in ("cheap", "dear")),
]


@pytest.mark.parametrize("override", OVERRIDES)
async def test_what_a_hidden_thing_has_cannot_be_guessed(provisioning: Provisioning, override: str | None) -> None:
    world = provisioning.world
    told: list[str] = []
    thing = {"attributePayload": {"attributes": {"site": "home"}}, "billingGroupName": "cheap"}
    for name in ("cheap", "dear"):
        await world.aws("CreateBillingGroup", billingGroupName=name)
    await world.aws("CreateThingType", thingTypeName="others")
    await world.aws("CreateThing", thingName="pump", thingTypeName="lamps", **thing)
    await world.aws("AddThingToThingGroup", thingName="pump", thingGroupName="one")
    for may_describe in (True, False):
        world.denied = set() if may_describe else {"iot:DescribeThing"}
        for guess in GUESSES:
            resources = json.loads(body(**guess))
            (property,) = guess
            if override is not None and (override != "MERGE" or property == "AttributePayload"):
                resources["Resources"]["thing"]["OverrideSettings"] = {property: override}
            name = await provisioning.template(json.dumps(resources))
            found = await tried(provisioning, name, parameters={"Serial": "pump"})
            answer = found.failures, [(each.action, each.resource) for each in found.actions]
            told.append(str(answer).replace(found.certificate, "CERTIFICATE"))
    shown, hidden = told[: len(GUESSES)], told[len(GUESSES) :]
    assert all(each == hidden[0] for each in hidden)
    assert override == "DO_NOTHING" or any(each != shown[0] for each in shown), "the guesses differ"


async def test_a_template_of_bulk_registration_is_tried_by_another_call(provisioning: Provisioning) -> None:
    world, name = provisioning.world, await provisioning.template(body())
    template, _ = await world.read(lambda tx: get_template(tx, OURS, name))
    csr = {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateSigningRequest": {"Ref": "CSR"}}}
    bulk = json.dumps({"Parameters": {"CSR": {"Type": "String"}}, "Resources": {"certificate": csr}})
    for document, is_advised in ((bulk, True), (bulk.replace("String", "Number"), False), ("{}", False), ("{", False)):
        with pytest.raises(InvalidTemplate) as refused:
            await dry_run(world.store, world.change(), template, document, SampleDevice(), lambda *_: True)
        assert ("call RegisterThing with it" in str(refused.value)) == is_advised, document


# -- just in time -------------------------------------------------------------------------------------------------

SUBJECT = "AWS::IoT::Certificate::CommonName"


def just_in_time_body(**more: Any) -> str:
    resources = {
        "certificate": {
            "Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateId": {"Ref": CERTIFICATE_ID}, "Status": "ACTIVE"},
        },
        "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": SUBJECT}, **more}},
    }
    parameters = {SUBJECT: {"Type": "String"}, CERTIFICATE_ID: {"Type": "String"}}
    return json.dumps({"Parameters": parameters, "Resources": resources})


async def test_a_dry_run_tells_what_just_in_time_provisioning_does(provisioning: Provisioning) -> None:
    world, gateway = provisioning.world, Gateway(provisioning.world)
    name = await provisioning.template(just_in_time_body(ThingGroups=["two"]), type="JITP")
    root = issuer("Factory")
    ca = await take(world, root, registrationConfig={"templateName": name}, **AUTO)
    made = root.sign("pump-7")
    found = await tried(provisioning, name, pem=pem(made))
    assert found.failures == ()
    assert not found.is_stand_in
    assert found.certificate == fingerprint(made)
    registration = await gateway.connect(made)
    assert registration is not None
    assert registration.ca == ca
    assert found.after == await state(world, "pump-7", fingerprint(made), [])
    again = await tried(provisioning, name, pem=pem(made))
    assert again.failures[0].reason.endswith("it is registered already")
    assert again.is_stand_in


async def test_why_a_certificate_is_not_provisioned_just_in_time(provisioning: Provisioning) -> None:
    world = provisioning.world
    name = await provisioning.template(just_in_time_body(), type="JITP")
    manual, plain, other = issuer("By hand"), issuer("Without a template"), issuer("Not registered")
    await take(world, manual)
    await take(world, plain, **AUTO)
    known = await world.certificate()
    for sample, reason in (
        ({"pem": pem(manual.sign("pump"))}, f"its CA certificate {manual.fingerprint} does not register devices"),
        ({"pem": pem(plain.sign("pump"))}, "does not provision with this template"),
        ({"pem": pem(other.sign("pump"))}, "no CA that the account has registered in this region signed it"),
        ({"certificate": known}, "it is registered already"),
    ):
        found = await tried(provisioning, name, **sample)
        assert found.failures[0].step == "certificate"
        assert reason in found.failures[0].reason
        assert found.is_stand_in
        assert found.certificate != known


async def test_the_fields_of_a_subject_can_be_typed(provisioning: Provisioning) -> None:
    name = await provisioning.template(just_in_time_body(), type="JITP")
    found = await tried(provisioning, name, parameters={SUBJECT: "pump-8", CERTIFICATE_ID: "0" * 64})
    assert found.succeeds
    assert found.after is not None
    assert found.after.things == ("pump-8",)
    short = await tried(provisioning, name, parameters={"CommonName": "pump-9"})
    assert short.after is not None
    assert short.after.things == ("pump-9",)
    lacking = await tried(provisioning, name, parameters={})
    assert lacking.failures == (("parameters", f"Cannot resolve reference value: {SUBJECT}"),)


async def test_a_pasted_certificate_is_looked_for_if_the_caller_may_describe_it(provisioning: Provisioning) -> None:
    world = provisioning.world
    name = await provisioning.template(just_in_time_body(), type="JITP")
    root = issuer("Factory")
    await take(world, root, registrationConfig={"templateName": name}, **AUTO)
    known, unknown = root.sign("pump-1"), root.sign("pump-2")
    await world.aws("RegisterCertificateWithoutCA", certificatePem=pem(known), status="ACTIVE")
    world.denied = {"iot:DescribeCertificate"}
    for made in (known, unknown):
        with pytest.raises(Denied):
            await tried(provisioning, name, pem=pem(made))
        assert world.asked[-1] == ("iot:DescribeCertificate", arn_of(OURS, fingerprint(made)))


async def test_a_ca_certificate_is_named_to_callers_who_may_describe_it(provisioning: Provisioning) -> None:
    world, root = provisioning.world, issuer("Factory")
    name = await provisioning.template(just_in_time_body(), type="JITP")
    ca = await take(world, root, **AUTO)
    for denied, is_named in ((set(), True), ({"iot:DescribeCACertificate"}, False)):
        world.denied = denied
        found = await tried(provisioning, name, pem=pem(root.sign("pump")))
        assert "does not provision with this template" in found.failures[0].reason
        assert (ca in str(found)) == is_named


async def test_another_certificate_with_the_same_number_is_not_named(provisioning: Provisioning) -> None:
    world, root = provisioning.world, issuer("Factory")
    name = await provisioning.template(just_in_time_body(), type="JITP")
    await take(world, root, registrationConfig={"templateName": name}, **AUTO)
    first, second = root.sign("pump-1", serial=7), root.sign("pump-2", serial=7)
    assert await Gateway(world).connect(first) is not None
    found = await tried(provisioning, name, pem=pem(second))
    assert "another certificate of the same CA and serial number" in found.failures[0].reason
    assert fingerprint(first) not in str(found)
