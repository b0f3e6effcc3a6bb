"""Executing templates: existing resources, authorization, and devices' own certificates."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.issuers import fingerprint, pem, rewritten
from tests.unit import vectors
from tests.unit.services.provisioning_support import POLICY, Provisioning, body
from tests.unit.services.test_ca_certificates import issuer, prove, take, update
from tests.world import FINGERPRINT, OURS, THEIRS, THIS_CERTIFICATE
from thingmint.domain.errors import Denied, Invalid, InvalidTemplate, LimitExceeded, MalformedPolicy, ProvisioningFailed
from thingmint.domain.status import Status
from thingmint.domain.templates import Kind, parse_template
from thingmint.services.quotas import Quotas
from thingmint.services.template_execution import execute_plan, prepare_plan
from thingmint.store.table import fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography import x509

    from tests.world import World
    from thingmint.domain.policies import ContextValue

EFFECTS = ("things", "thing_principals", "thing_group_members", "device_policy_attachments")


async def register(world: World, resources: Mapping[str, Any], scope: Any = OURS, /, **parameters: str) -> Any:
    """Call RegisterThing of the control plane."""
    text = json.dumps({"Resources": resources})
    return await world.aws("RegisterThing", scope, templateBody=text, parameters=parameters)


def certificate(**properties: object) -> dict[str, Any]:
    return {"certificate": {"Type": "AWS::IoT::Certificate", "Properties": properties}}


def by_csr(**further: Any) -> dict[str, Any]:
    return certificate(CertificateSigningRequest=vectors.csr_pem(), **further)


async def bring(world: World, made: x509.Certificate, ca: str | None = None, **properties: str) -> Any:
    """Call RegisterThing with a device's own certificate."""
    given = {"CertificatePem": pem(made), **({"CACertificatePem": ca} if ca is not None else {}), **properties}
    return await register(world, certificate(**given))


async def failure(attempt: Any) -> str:
    with pytest.raises(ProvisioningFailed) as failed:
        await attempt
    return failed.value.reason


async def registered(world: World, made: x509.Certificate) -> tuple[Any, ...]:
    """Return the CA certificate, serial number, mode and status of a registration."""
    statement = f"SELECT {fingerprint_of('ca')}, serial, mode, status FROM registrations WHERE {THIS_CERTIFICATE}"
    (row,) = await world.shown(statement, bytes.fromhex(fingerprint(made)))
    return tuple(row)


# -- new things ---------------------------------------------------------------------------------------------------


async def test_each_effect_is_authorized(provisioning: Provisioning) -> None:
    properties = {"ThingTypeName": "lamps", "ThingGroups": ["one", "two"]}
    name = await provisioning.template(body(policy="all", Properties=properties))
    made, token = await provisioning.create()
    provisioning.effects()
    await provisioning.register(name, token)
    assert provisioning.effects() == [
        f"UpdateCertificate cert/{made}",
        f"AttachPolicy cert/{made}",
        "CreateThing thing/lamp",
        "AddThingToThingGroup thing/lamp",
        "AddThingToThingGroup thinggroup/one",
        "AddThingToThingGroup thing/lamp",
        "AddThingToThingGroup thinggroup/two",
        f"AttachThingPrincipal cert/{made}",
    ]


async def test_attaching_a_certificate_is_authorized_with_its_thing(provisioning: Provisioning) -> None:
    """The thing is a condition key of AttachThingPrincipal."""
    made, _ = await provisioning.create()
    contexts: dict[str, Mapping[str, ContextValue]] = {}

    def authorize(action: str, _resources: Sequence[str], context: Mapping[str, ContextValue]) -> None:
        contexts[action] = context

    change = replace(provisioning.world.change(), authorize=authorize)
    plan = parse_template(json.dumps({"Resources": json.loads(body(Properties={}))["Resources"]}), Kind.JITP)
    prepared = await prepare_plan(change, plan.resolve({}, {"AWS::IoT::Certificate::Id": made}))
    await provisioning.world.write(lambda tx: execute_plan(tx, change, prepared))
    assert contexts.pop("iot:AttachThingPrincipal") == {
        "iot:thingArn": f"arn:aws:iot:us-east-1:{OURS.account}:thing/lamp"
    }
    assert set(contexts) == {"iot:UpdateCertificate", "iot:CreateThing"}
    assert not any(contexts.values())


async def test_changes_of_a_template_are_audited_and_published(provisioning: Provisioning) -> None:
    name = await provisioning.template(body(policy="all", Properties={"ThingGroups": ["one"]}))
    made, token = await provisioning.create()
    provisioning.world.audit_resources()
    await provisioning.register(name, token)
    assert {"policy/all", "thing/lamp", "thinggroup/one", f"cert/{made}"} == set(provisioning.world.audit_resources())
    assert {("certificate", made), ("thing", "lamp")} == set(await provisioning.world.published())


@pytest.mark.parametrize(
    "denied",
    [
        "UpdateCertificate",
        "CreatePolicy",
        "AttachPolicy",
        "CreateThing",
        "AddThingToThingGroup",
        "AttachThingPrincipal",
    ],
)
async def test_a_template_with_a_denied_effect_is_rolled_back(provisioning: Provisioning, denied: str) -> None:
    resources = json.loads(body(policy="all", Properties={"ThingGroups": ["one"]}))
    resources["Resources"]["new"] = {
        "Type": "AWS::IoT::Policy",
        "Properties": {"PolicyDocument": json.loads(POLICY)},
    }
    name = await provisioning.template(json.dumps(resources))
    made, token = await provisioning.create()
    await provisioning.world.published()
    provisioning.world.denied.add(f"iot:{denied}")
    with pytest.raises(ProvisioningFailed) as failed:
        await provisioning.register(name, token)
    assert isinstance(failed.value.cause, Denied)
    for table in EFFECTS:
        assert await provisioning.world.count(table) == 0, table
    assert await provisioning.world.published() == []
    assert await provisioning.world.count("device_policies") == 1
    assert await provisioning.status(made) == Status.PENDING_ACTIVATION
    provisioning.world.denied.clear()
    await provisioning.register(name, token)


async def test_an_exclusive_certificate_is_attached_exclusively(provisioning: Provisioning) -> None:
    text = json.loads(body(Properties={}))
    text["Resources"]["certificate"]["Properties"]["ThingPrincipalType"] = "EXCLUSIVE_THING"
    await provisioning.register(await provisioning.template(json.dumps(text)), await provisioning.token())
    assert await provisioning.world.rows("SELECT thing, exclusive FROM thing_principals") == [("lamp", 1)]


async def test_billing_groups_are_not_found(provisioning: Provisioning) -> None:
    name = await provisioning.template(body(Properties={"BillingGroup": "b"}))
    reason = await failure(provisioning.register(name, await provisioning.token()))
    assert reason == "billing group b does not exist"


@pytest.mark.parametrize("override", [None, "REPLACE", "DO_NOTHING", "FAIL"])
async def test_a_template_puts_the_thing_in_a_billing_group(provisioning: Provisioning, override: str | None) -> None:
    world = provisioning.world
    for group in ("b", "other"):
        await world.aws("CreateBillingGroup", billingGroupName=group)
    overrides: dict[str, Any] = {"OverrideSettings": {"BillingGroup": override}} if override else {}
    name = await provisioning.template(body(Properties={"BillingGroup": "b"}, **overrides))
    await provisioning.register(name, await provisioning.token())
    assert (await world.aws("DescribeThing", thingName="lamp"))["billingGroupName"] == "b"
    await provisioning.register(name, await provisioning.token())
    await world.aws("AddThingToBillingGroup", billingGroupName="other", thingName="lamp")
    again = provisioning.register(name, await provisioning.token())
    if override in (None, "FAIL"):
        assert await failure(again) == "Thing lamp already exists with another BillingGroup"
    else:
        await again
    expected = "b" if override == "REPLACE" else "other"
    assert (await world.aws("DescribeThing", thingName="lamp"))["billingGroupName"] == expected


# -- things that exist --------------------------------------------------------------------------------------------

WAS: dict[str, Any] = {"type": None, "attributes": {"a": "1", "b": "1"}, "groups": {"one", "two"}}


@pytest.mark.parametrize(
    ("properties", "overrides", "expected"),
    [
        # Without an override, a difference is refused; groups are added.
        ({}, {}, {}),
        ({"AttributePayload": {"a": "1", "b": "1"}}, {}, {}),
        ({"AttributePayload": {"a": "2"}}, {}, "AttributePayload"),
        ({"ThingTypeName": "lamps"}, {}, "ThingTypeName"),
        ({"ThingGroups": ["two", "three"]}, {}, {"groups": {"one", "two", "three"}}),
        ({"AttributePayload": {"a": "2"}}, {"AttributePayload": "DO_NOTHING"}, {}),
        ({"AttributePayload": {"a": "2"}}, {"AttributePayload": "REPLACE"}, {"attributes": {"a": "2"}}),
        ({"AttributePayload": {"a": "2"}}, {"AttributePayload": "MERGE"}, {"attributes": {"a": "2", "b": "1"}}),
        ({"AttributePayload": {"a": "1"}}, {"AttributePayload": "MERGE"}, {}),
        ({"AttributePayload": {"a": "2"}}, {"AttributePayload": "FAIL"}, "AttributePayload"),
        ({"AttributePayload": {"a": "1", "b": "1"}}, {"AttributePayload": "FAIL"}, {}),
        ({"ThingTypeName": "lamps"}, {"ThingTypeName": "DO_NOTHING"}, {}),
        ({"ThingTypeName": "lamps"}, {"ThingTypeName": "REPLACE"}, {"type": "lamps"}),
        ({"ThingTypeName": "lamps"}, {"ThingTypeName": "FAIL"}, "ThingTypeName"),
        ({"ThingGroups": ["two", "three"]}, {"ThingGroups": "DO_NOTHING"}, {}),
        ({"ThingGroups": ["two", "three"]}, {"ThingGroups": "MERGE"}, {"groups": {"one", "two", "three"}}),
        ({"ThingGroups": ["two", "three"]}, {"ThingGroups": "REPLACE"}, {"groups": {"two", "three"}}),
        ({"ThingGroups": ["two", "three"]}, {"ThingGroups": "FAIL"}, "ThingGroups"),
        ({"ThingGroups": ["two", "one"]}, {"ThingGroups": "FAIL"}, {}),
    ],
)
async def test_overrides_decide_changes_of_an_existing_thing(
    provisioning: Provisioning,
    properties: dict[str, Any],
    overrides: dict[str, str],
    expected: dict[str, Any] | str,
) -> None:
    was = {"AttributePayload": WAS["attributes"], "ThingGroups": sorted(WAS["groups"])}
    await provisioning.register(await provisioning.template(body(Properties=was)), await provisioning.token())
    name = await provisioning.template(body(Properties=properties, OverrideSettings=overrides))
    token = await provisioning.token()
    provisioning.effects()
    if isinstance(expected, str):
        reason = await failure(provisioning.register(name, token))
        assert reason == f"Thing lamp already exists with another {expected}"
    else:
        await provisioning.register(name, token)
    thing = await provisioning.world.aws("DescribeThing", thingName="lamp")
    members = await provisioning.world.rows(
        "SELECT g.name FROM thing_group_members AS m JOIN thing_groups AS g ON g.id = m.thing_group"
    )
    found = {"type": thing["thingTypeName"], "attributes": thing["attributes"], "groups": {row[0] for row in members}}
    assert found == WAS | (expected if isinstance(expected, dict) else {})
    effects = provisioning.effects()
    assert ("UpdateThing thing/lamp" in effects) is bool({"type", "attributes"} & set(expected))
    assert ("RemoveThingFromThingGroup thinggroup/one" in effects) is (overrides == {"ThingGroups": "REPLACE"})
    assert not any("CreateThing" in effect for effect in effects)


@pytest.mark.parametrize(
    ("override", "status", "expected"),
    [
        (None, "INACTIVE", "INACTIVE"),
        ("DO_NOTHING", "INACTIVE", "INACTIVE"),
        ("REPLACE", "INACTIVE", "ACTIVE"),
        ("FAIL", "ACTIVE", "ACTIVE"),
    ],
)
async def test_overrides_decide_changes_of_an_existing_status(
    provisioning: Provisioning, override: str | None, status: str, expected: str
) -> None:
    name = await provisioning.template(body(certificate={"OverrideSettings": override and {"Status": override}}))
    made, token = await provisioning.create()
    await provisioning.world.aws("UpdateCertificate", certificateId=made, newStatus=status)
    await provisioning.register(name, token)
    assert await provisioning.status(made) == expected


async def test_a_status_that_stays_is_logged_with_advice(provisioning: Provisioning) -> None:
    name = await provisioning.template(body())
    made, token = await provisioning.create()
    await provisioning.world.aws("UpdateCertificate", certificateId=made, newStatus="INACTIVE")
    with capture_logs() as logs:
        await provisioning.register(name, token)
    (line,) = [line for line in logs if line["event"] == "certificate_status_kept"]
    assert (line["certificate"], line["status"], line["status_in_template"]) == (made, "INACTIVE", "ACTIVE")
    assert "REPLACE" in line["advice"]


@pytest.mark.parametrize(
    ("stated", "before", "after"),
    [
        ("Active", "INACTIVE", "ACTIVE"),
        ("INACTIVE", "ACTIVE", "INACTIVE"),
        (None, "INACTIVE", "INACTIVE"),
        ("Active", "REVOKED", "REVOKED"),
    ],
)
async def test_a_callers_template_sets_its_status(world: World, stated: str | None, before: str, after: str) -> None:
    made = await world.certificate()
    await world.aws("UpdateCertificate", certificateId=made, newStatus=before)
    with capture_logs() as logs:
        await register(world, certificate(CertificateId=made, **({"Status": stated} if stated else {})))
    assert await world.rows("SELECT status FROM registrations") == [(after,)]
    kept = [line["status"] for line in logs if line["event"] == "certificate_status_kept"]
    assert kept == ([before] if before == after else [])


async def test_a_different_status_fails_with_the_override_fail(provisioning: Provisioning) -> None:
    name = await provisioning.template(body(certificate={"OverrideSettings": {"Status": "FAIL"}}))
    made, token = await provisioning.create()
    await provisioning.world.aws("UpdateCertificate", certificateId=made, newStatus="INACTIVE")
    reason = await failure(provisioning.register(name, token))
    assert reason == f"Certificate has status INACTIVE already. Id: {made}"
    assert await provisioning.status(made) == Status.INACTIVE


# -- RegisterThing of the control plane ---------------------------------------------------------------------------


async def test_a_callers_template_does_not_activate_a_revoked_certificate(world: World) -> None:
    made = await world.certificate()
    await world.aws("UpdateCertificate", certificateId=made, newStatus="REVOKED")
    resources = certificate(CertificateId=made)
    resources["certificate"]["OverrideSettings"] = {"Status": "REPLACE"}
    assert "REVOKED" in await failure(register(world, resources))
    assert await world.rows("SELECT status FROM registrations") == [("REVOKED",)]


async def test_a_revoked_certificate_becomes_active_again_where_the_operator_allows_it(world: World) -> None:
    world.environment = replace(world.environment, reinstate_revoked=True)
    made = await world.certificate()
    await world.aws("UpdateCertificate", certificateId=made, newStatus="REVOKED")
    resources = certificate(CertificateId=made)
    resources["certificate"]["OverrideSettings"] = {"Status": "REPLACE"}
    await register(world, resources)
    assert await world.rows("SELECT status FROM registrations") == [("ACTIVE",)]


async def test_another_accounts_certificate_is_not_found(world: World) -> None:
    made = await world.certificate()
    assert "does not exist" in await failure(register(world, certificate(CertificateId=made), THEIRS))
    answer = await register(world, certificate(CertificateId=made))
    assert answer["resourceArns"] == {"certificate": f"arn:aws:iot:us-east-1:{OURS.account}:cert/{made}"}
    assert answer["certificatePem"].startswith("-----BEGIN CERTIFICATE-----\n")


async def test_a_certificate_is_issued_for_a_signing_request(world: World) -> None:
    answer = await register(world, by_csr(Status="INACTIVE"))
    (row,) = await world.shown(f"SELECT {FINGERPRINT}, status, mode, origin FROM registrations")
    assert row[1:] == ("INACTIVE", "DEFAULT", "csr")
    assert answer["resourceArns"] == {"certificate": f"arn:aws:iot:us-east-1:{OURS.account}:cert/{row[0]}"}
    assert world.asked == [("iot:CreateCertificateFromCsr", "*")]
    assert world.audit_resources() == [f"cert/{row[0]}"]


async def test_a_template_without_a_certificate_returns_none(world: World) -> None:
    thing = {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Name"}}}
    text = json.dumps({"Parameters": {"Name": {"Type": "String"}}, "Resources": {"lamp": thing}})
    answer = await world.aws("RegisterThing", templateBody=text, parameters={"Name": "a"})
    assert answer == {
        "certificatePem": None,
        "resourceArns": {"lamp": f"arn:aws:iot:us-east-1:{OURS.account}:thing/a"},
    }


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        ({"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "x"}}, "Policy default version not found"),
        (
            {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": "a", "ThingTypeName": "x"}},
            "thing type x does not exist",
        ),
        (
            {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": "a", "ThingGroups": ["x"]}},
            "thing group x does not exist",
        ),
    ],
)
async def test_unknown_resources_are_named_in_the_error(world: World, resource: dict[str, Any], reason: str) -> None:
    assert await failure(register(world, {"resource": resource})) == reason
    assert await world.count("things") == 0


async def test_invalid_templates_and_parameters_are_refused(world: World) -> None:
    with pytest.raises(InvalidTemplate):
        await world.aws("RegisterThing", templateBody="{}")


NEW_POLICY = {"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {"Version": "x"}}}}


@pytest.mark.parametrize(
    ("resources", "cause"),
    [
        (by_csr() | NEW_POLICY, MalformedPolicy),
        (certificate(CertificateSigningRequest="x"), Invalid),
        (certificate(CertificatePem="x"), Invalid),
        (by_csr() | {"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": "a b"}}}, Invalid),
    ],
)
async def test_nothing_is_signed_for_a_refused_template(
    world: World, resources: dict[str, Any], cause: type[Exception]
) -> None:
    with pytest.raises(ProvisioningFailed) as failed:
        await register(world, resources)
    assert isinstance(failed.value.cause, cause)
    assert world.environment.counts["certificates_discarded"] == 0


async def test_certificates_of_failed_templates_are_counted(world: World) -> None:
    thing = {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": "a", "ThingTypeName": "unknown"}}
    await failure(register(world, by_csr() | {"thing": thing}))
    assert world.environment.counts["certificates_discarded"] == 1
    assert await world.count("certificates") == 0


async def test_errors_of_denied_callers_name_the_action(world: World) -> None:
    world.denied.add("iot:CreateCertificateFromCsr")
    with pytest.raises(Denied):
        await register(world, by_csr())
    world.denied = {"iot:UpdateCertificate"}
    made = await world.certificate()
    await world.execute("UPDATE registrations SET status = 'PENDING_ACTIVATION'")
    with pytest.raises(Denied):
        await register(world, certificate(CertificateId=made))


# -- devices' own certificates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_ca", [True, False])
@pytest.mark.parametrize(("registers", "mode"), [(prove, "DEFAULT"), (take, "SNI_ONLY")])
async def test_a_certificate_is_registered_under_its_ca(world: World, with_ca: bool, registers: Any, mode: str) -> None:
    root = issuer()
    ca = await registers(world, root)
    made = root.sign(serial=0xABC)
    world.asked.clear()
    answer = await bring(world, made, root.pem if with_ca else None, Status="INACTIVE")
    assert await registered(world, made) == (ca, "abc", mode, "INACTIVE")
    assert answer["resourceArns"] == {"certificate": f"arn:aws:iot:us-east-1:{OURS.account}:cert/{fingerprint(made)}"}
    assert world.asked == [("iot:RegisterCertificate", "*")]


@pytest.mark.parametrize("with_ca", [True, False])
async def test_a_registered_certificate_gets_the_templates_status(world: World, with_ca: bool) -> None:
    root = issuer()
    await take(world, root)
    made, given = root.sign(), root.pem if with_ca else None
    answer = await bring(world, made, given, Status="INACTIVE")
    for status in ("INACTIVE", "ACTIVE"):
        assert await bring(world, made, given, Status=status) == answer
        assert (await registered(world, made))[3] == status
    await world.aws("UpdateCertificate", certificateId=fingerprint(made), newStatus="INACTIVE")
    assert await bring(world, made, given) == answer
    assert (await registered(world, made))[3] == "INACTIVE"


async def test_a_ca_certificate_that_did_not_sign_is_refused(world: World) -> None:
    root, re_signed, other = issuer(), issuer(), issuer("Another")
    made, unknown = root.sign(), "No CA certificate exists for the given certificate"
    assert await failure(bring(world, made, root.pem)) == unknown
    await take(world, root, THEIRS)
    assert await failure(bring(world, made, root.pem)) == unknown
    ca = await take(world, root)
    assert "did not match the subject" in await failure(bring(world, made, other.pem))
    assert "failed verification" in await failure(bring(world, made, re_signed.pem))
    assert "is not that of a certificate authority" in await failure(bring(world, made, pem(made)))
    assert "CACertificatePem" in await failure(bring(world, made, "x"))
    await update(world, ca, newStatus="INACTIVE")
    assert await failure(bring(world, made, root.pem)) == "The CA certificate is not active"
    assert await world.count("registrations") == 0


@pytest.mark.parametrize("case", ["unknown", "theirs", "inactive", "namesake", "two of one key"])
async def test_a_certificate_without_a_certain_ca_is_registered_without_a_ca(world: World, case: str) -> None:
    root = issuer()
    match case:
        case "theirs":
            await take(world, root, THEIRS)
        case "inactive":
            await take(world, root, setAsActive=False)
        case "namesake":
            await take(world, issuer())
        case "two of one key":
            await take(world, root)
            await take(world, issuer(key=root.key))
    made = root.sign()
    world.asked.clear()
    await bring(world, made)
    assert await registered(world, made) == (None, None, "SNI_ONLY", "ACTIVE")
    assert world.asked == [("iot:RegisterCertificateWithoutCA", "*")]


@pytest.mark.parametrize("other", ["namesake", "inactive"])
async def test_the_ca_that_signed_is_found_among_others(world: World, other: str) -> None:
    root = issuer()
    for _ in range(3):
        namesake = issuer(key=root.key) if other == "inactive" else issuer()
        await take(world, namesake, setAsActive=other == "namesake")
    ca = await take(world, root)
    made = root.sign()
    await bring(world, made)
    assert (await registered(world, made))[0] == ca


@pytest.mark.parametrize("with_ca", [True, False])
async def test_a_serial_number_can_be_registered_once(world: World, with_ca: bool) -> None:
    root, other = issuer(), issuer("Another")
    for each in (root, other):
        await take(world, each)
    first, given = root.sign(serial=7), root.pem if with_ca else None
    await bring(world, first, given)
    for again in (root.sign(serial=7), rewritten(first)):
        reason = f"A certificate of that CA and serial number is registered already. Id: {fingerprint(first)}"
        assert await failure(bring(world, again, given)) == reason
    await bring(world, other.sign(serial=7))
    assert await world.count("registrations") == 2


async def test_a_certificate_registered_without_its_ca_stays_without_it(world: World) -> None:
    root = issuer()
    made = root.sign()
    await bring(world, made)
    await take(world, root)
    for given in (None, root.pem):
        await bring(world, made, given)
    assert await registered(world, made) == (None, None, "SNI_ONLY", "ACTIVE")


async def test_a_revoked_and_deleted_certificate_can_be_registered_again(world: World) -> None:
    """As with RegisterCertificate: only just-in-time registration refuses it."""
    root = issuer()
    ca = await take(world, root)
    made = root.sign()
    await bring(world, made)
    await world.aws("UpdateCertificate", certificateId=fingerprint(made), newStatus="REVOKED")
    await world.aws("DeleteCertificate", certificateId=fingerprint(made))
    await bring(world, made, root.pem)
    assert (await registered(world, made))[0] == ca


@pytest.mark.parametrize(
    ("denied", "known", "given"),
    [
        ("RegisterCertificate", True, True),
        ("RegisterCertificate", True, False),
        ("RegisterCertificate", False, True),
        ("RegisterCertificateWithoutCA", False, False),
    ],
)
async def test_registering_a_certificate_is_authorized(world: World, denied: str, known: bool, given: bool) -> None:
    root = issuer()
    if known:
        await take(world, root)
    world.denied.add(f"iot:{denied}")
    with pytest.raises(Denied):
        await bring(world, root.sign(), root.pem if given else None)
    assert await world.count("registrations") == 0


async def test_new_certificates_count_against_the_quota(world: World) -> None:
    world.environment = replace(world.environment, quotas=Quotas(certificates=1))
    root = issuer()
    await take(world, root)
    kept = root.sign()
    await bring(world, kept, root.pem)
    for attempt in (
        bring(world, root.sign(), root.pem),
        bring(world, root.sign()),
        bring(world, issuer("Unknown").sign()),
        register(world, by_csr()),
    ):
        with pytest.raises(ProvisioningFailed) as failed:
            await attempt
        assert isinstance(failed.value.cause, LimitExceeded)
        assert failed.value.reason == "The quota of 1 certificates for each account is used up"
    assert await world.shown(f"SELECT {FINGERPRINT} FROM registrations") == [(fingerprint(kept),)]
    assert await world.count("certificates") == 2, "with the CA's"
    await bring(world, kept, root.pem)
