"""Adding things, groups and certificates of AWS: what comes as it was, what stays as it is here, what cannot come."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.administrator import administer
from tests.issuers import new_issuer
from tests.issuers import pem as pem_of
from tests.unit import vectors
from tests.unit.importing.aws.imports import (
    CREATED,
    LAMP,
    MODIFIED,
    Imports,
    ca_item,
    certificate,
    document,
    fingerprint_of,
    group,
    one,
    outcomes,
    policy,
    template,
    thing,
)
from tests.world import ABROAD, OURS
from thingmint.domain.errors import Invalid, LimitExceeded
from thingmint.services.quotas import Quotas, begin_counting
from thingmint.store.table import from_micros

if TYPE_CHECKING:
    from tests.world import World


# Things and groups


async def test_things_come_with_types_that_are_deprecated(world: World, imports: Imports) -> None:
    await imports.add({**LAMP, "deprecated_at": MODIFIED})
    results = await imports.add(thing("lamp-1", "lamp", attributes={"room": "r1"}), thing("lamp-2", "other"))
    assert outcomes(results) == [("thing", "new"), ("thing", "refused")]
    found = await world.aws("DescribeThing", thingName="lamp-1")
    assert (found["thingTypeName"], found["attributes"]) == ("lamp", {"room": "r1"})
    listed = await world.aws("ListThings", attributeName="room", attributeValue="r1")
    assert [each["thingName"] for each in listed["things"]] == ["lamp-1"]


async def test_things_that_are_there_stay(world: World, imports: Imports) -> None:
    await world.aws("CreateThing", thingName="lamp-1", attributePayload={"attributes": {"room": "r1"}})
    results = await imports.add(
        thing("lamp-1", attributes={"room": "r1"}),
        thing("lamp-1", attributes={"room": "r2"}),
        thing("lamp-3"),
        thing("lamp-3"),
    )
    assert outcomes(results) == [("thing", "same"), ("thing", "conflict"), ("thing", "new"), ("thing", "same")]
    assert "attributes" in results[1].reason


async def test_groups_come_with_policies_tags_and_times(world: World, imports: Imports) -> None:
    await imports.add(policy("p", {"1": document()}, "1"))
    results = await imports.add(
        group("house"),
        group("floor", "house", description="second", attributes={"floor": "2"}, policies=["p", "q"], tags={"a": "b"}),
        group("room", "attic"),
    )
    assert [(each.kind, each.outcome) for each in results] == [
        ("group", "new"),
        ("group", "new"),
        ("attachment", "refused"),
        ("group", "refused"),
    ]
    found = await world.aws("DescribeThingGroup", thingGroupName="floor")
    assert found["thingGroupMetadata"]["parentGroupName"] == "house"
    assert found["thingGroupMetadata"]["creationDate"] == from_micros(CREATED)
    attached = await world.aws("ListAttachedPolicies", target=found["thingGroupArn"])
    assert [each["policyName"] for each in attached["policies"]] == ["p"]
    again = await imports.add(
        group("floor", "house", description="second", attributes={"floor": "2"}, policies=["p"], tags={"a": "b"})
    )
    assert outcomes(again) == [("group", "same")]


async def test_groups_that_are_there_are_completed_or_stay(world: World, imports: Imports) -> None:
    await world.aws("CreateThingGroup", thingGroupName="floor")
    await imports.add(policy("p", {"1": document()}, "1"))
    conflict = await one(imports, group(attributes={"floor": "2"}, policies=["p"]))
    assert (conflict.outcome, "attributes" in conflict.reason) == ("conflict", True)
    found = await world.aws("DescribeThingGroup", thingGroupName="floor")
    assert (await world.aws("ListAttachedPolicies", target=found["thingGroupArn"]))["policies"] == []
    completed = await one(imports, group(policies=["p"], tags={"a": "b"}))
    assert completed.reason == "it was here without policy p, tags"
    assert (await one(imports, group(policies=["p"], tags={"a": "b"}))).outcome == "same"


async def test_members_join_their_groups(world: World, imports: Imports) -> None:
    await imports.add(group("house"), group("floor", "house"), group("other"), thing("a"), thing("b"))
    members = {"kind": "members", "region": OURS.region}
    results = await imports.add(
        {**members, "group": "floor", "things": ["a", "b", "c"]},
        {**members, "group": "other", "things": ["a"]},
        {**members, "group": "gone", "things": ["a"]},
        {**members, "group": "house", "things": ["a"]},
        {**members, "group": "floor", "things": ["a"]},
    )
    assert [each.outcome for each in results] == ["new", "new", "refused", "new", "refused", "conflict", "same"]
    found = await world.aws("ListThingsInThingGroup", thingGroupName="floor")
    assert found["things"] == ["a", "b"]


async def test_connected_devices_learn_of_their_new_groups(world: World, imports: Imports) -> None:
    arn = await _certificate_with_thing(world, "a")
    await imports.add(group("floor"), thing("b"))
    await world.published()
    await imports.add({"kind": "members", "region": OURS.region, "group": "floor", "things": ["a", "b"]})
    assert await world.published() == [("thing", "a")]
    assert arn


async def _certificate_with_thing(world: World, name: str) -> str:
    arn = f"arn:aws:iot:{OURS.region}:{OURS.account}:cert/{await world.certificate()}"
    await world.aws("CreateThing", thingName=name)
    await world.aws("AttachThingPrincipal", thingName=name, principal=arn)
    return arn


# Certificates


async def test_a_certificate_comes_with_status_times_policies_and_things(world: World, imports: Imports) -> None:
    pem = vectors.certificate_pem()
    await imports.add(policy("p", {"1": document()}, "1"), thing("lamp-1"), thing("lamp-2"))
    things = [{"name": "lamp-1", "exclusive": False}, {"name": "lamp-2", "exclusive": False}]
    results = await imports.add(certificate(pem, fingerprint_of(pem), policies=["p"], things=things))
    assert outcomes(results) == [("certificate", "new"), ("attachment", "new"), ("attachment", "new")]
    found = (await world.aws("DescribeCertificate", certificateId=fingerprint_of(pem)))["certificateDescription"]
    assert (found["status"], found["certificateMode"]) == ("ACTIVE", "SNI_ONLY")
    assert (found["creationDate"], found["lastModifiedDate"]) == (from_micros(CREATED), from_micros(MODIFIED))
    attached = await world.aws("ListAttachedPolicies", target=found["certificateArn"])
    assert [each["policyName"] for each in attached["policies"]] == ["p"]
    listed = await world.aws("ListPrincipalThings", principal=found["certificateArn"])
    assert listed["things"] == ["lamp-1", "lamp-2"]


@pytest.mark.parametrize("status", ["PENDING_TRANSFER", "REGISTER_INACTIVE", "PENDING_ACTIVATION", "NEW"])
async def test_states_that_only_aws_can_end_become_inactive(world: World, imports: Imports, status: str) -> None:
    pem = vectors.certificate_pem()
    results = await imports.add(certificate(pem, status=status))
    assert outcomes(results) == [("certificate", "new"), ("certificate", "noted")]
    found = (await world.aws("DescribeCertificate", certificateId=fingerprint_of(pem)))["certificateDescription"]
    assert found["status"] == "INACTIVE"


async def test_a_revoked_certificate_stays_revoked(world: World, imports: Imports) -> None:
    pem = vectors.certificate_pem()
    await imports.add(certificate(pem, status="REVOKED"))
    found = (await world.aws("DescribeCertificate", certificateId=fingerprint_of(pem)))["certificateDescription"]
    assert found["status"] == "REVOKED"


async def test_an_id_that_is_not_the_sha256_is_noted(imports: Imports) -> None:
    pem = vectors.certificate_pem()
    results = await imports.add(certificate(pem, "ab" * 32))
    assert outcomes(results) == [("certificate", "new"), ("certificate", "noted")]
    assert fingerprint_of(pem) in results[1].reason


async def test_a_certificate_that_is_twice_in_a_batch_has_what_both_name(world: World, imports: Imports) -> None:
    pem = vectors.certificate_pem()
    await imports.add(policy("p", {"1": document()}, "1"), thing("lamp-1"), thing("lamp-2"))
    results = await imports.add(
        certificate(pem, things=[{"name": "lamp-1"}]), certificate(pem, policies=["p"], things=[{"name": "lamp-2"}])
    )
    assert outcomes(results) == [
        ("certificate", "new"),
        ("attachment", "new"),
        ("certificate", "completed"),
        ("attachment", "new"),
    ]
    arn = f"arn:aws:iot:us-east-1:{OURS.account}:cert/{fingerprint_of(pem)}"
    assert (await world.aws("ListPrincipalThings", principal=arn))["things"] == ["lamp-1", "lamp-2"]
    attached = await world.aws("ListAttachedPolicies", target=arn)
    assert [each["policyName"] for each in attached["policies"]] == ["p"]


async def test_a_certificate_that_is_there_is_completed_or_stays(world: World, imports: Imports) -> None:
    pem = vectors.certificate_pem()
    fingerprint = await world.certificate(pem=pem)
    await imports.add(policy("p", {"1": document()}, "1"), thing("lamp-1"))
    wanted = certificate(pem, policies=["p"], things=[{"name": "lamp-1", "exclusive": True}])
    stays = await one(imports, {**wanted, "status": "REVOKED"})
    assert stays.outcome == "conflict"
    assert "it is ACTIVE here and REVOKED there" in stays.reason
    await world.published()
    results = await imports.add(wanted)
    assert outcomes(results) == [("certificate", "completed"), ("attachment", "new")]
    assert results[0].reason == "it was here without policy p, thing lamp-1"
    assert ("certificate", fingerprint) in await world.published()
    assert outcomes(await imports.add(wanted)) == [("certificate", "same"), ("attachment", "same")]
    found = (await world.aws("DescribeCertificate", certificateId=fingerprint))["certificateDescription"]
    assert found["certificateMode"] == "DEFAULT", "it was issued here"


async def test_only_a_customers_ca_in_default_mode_here_has_default_certificates(
    world: World, imports: Imports
) -> None:
    issuer, unknown = new_issuer(now=vectors.NOW), new_issuer(now=vectors.NOW)
    await imports.add(ca_item(issuer))
    pems = [pem_of(issuer.sign()), pem_of(issuer.sign()), pem_of(unknown.sign()), pem_of(issuer.sign())]
    results = await imports.add(
        certificate(pems[0], ca=issuer.fingerprint),
        certificate(pems[1], ca=issuer.fingerprint, mode="SNI_ONLY"),
        certificate(pems[2], ca=issuer.fingerprint),
        certificate(pems[3], ca=unknown.fingerprint),
    )
    assert outcomes(results) == [
        ("certificate", "new"),
        ("certificate", "new"),
        ("certificate", "new"),
        ("certificate", "noted"),
        ("certificate", "new"),
        ("certificate", "noted"),
    ]
    assert "has not signed it" in results[3].reason
    assert "is not here" in results[5].reason
    found = [
        (await world.aws("DescribeCertificate", certificateId=fingerprint_of(pem)))["certificateDescription"]
        for pem in pems
    ]
    assert [(each["certificateMode"], each["caCertificateId"]) for each in found] == [
        ("DEFAULT", issuer.fingerprint),
        ("SNI_ONLY", issuer.fingerprint),
        ("SNI_ONLY", None),
        ("SNI_ONLY", None),
    ]


async def test_two_certificates_with_one_serial_number_are_not_both_under_their_ca(imports: Imports) -> None:
    issuer = new_issuer(now=vectors.NOW)
    await imports.add(ca_item(issuer))
    pems = [pem_of(issuer.sign(name, serial=7)) for name in ("one", "two")]
    results = await imports.add(*(certificate(pem, ca=issuer.fingerprint) for pem in pems))
    assert outcomes(results) == [("certificate", "new"), ("certificate", "new"), ("certificate", "noted")]
    third = pem_of(issuer.sign("three", serial=7))
    assert outcomes(await imports.add(certificate(third, ca=issuer.fingerprint)))[-1] == ("certificate", "noted")


async def test_what_a_certificate_refers_to_and_is_not_here_is_refused(imports: Imports) -> None:
    pem = vectors.certificate_pem()
    things = [{"name": "gone", "exclusive": False}]
    results = await imports.add(certificate(pem, policies=["gone"], things=things))
    assert outcomes(results) == [("certificate", "new"), ("attachment", "refused"), ("attachment", "refused")]
    again = await imports.add(certificate(pem, policies=["gone"], things=things))
    assert outcomes(again) == [("certificate", "same"), ("attachment", "refused"), ("attachment", "refused")]


async def test_exclusive_attachments_exclude_others(world: World, imports: Imports) -> None:
    pem, other = vectors.certificate_pem(), vectors.certificate_pem()
    await imports.add(thing("a"), thing("b"))
    both = [{"name": "a", "exclusive": True}, {"name": "b", "exclusive": False}]
    assert outcomes(await imports.add(certificate(pem, things=both)))[1:] == [
        ("attachment", "new"),
        ("attachment", "refused"),
    ]
    attachments = {"kind": "attachments", "region": OURS.region, "certificate": fingerprint_of(pem)}
    assert outcomes(await imports.add({**attachments, "things": both})) == [
        ("attachment", "same"),
        ("attachment", "refused"),
    ]
    changed = [{"name": "a", "exclusive": False}]
    assert outcomes(await imports.add({**attachments, "things": changed})) == [("attachment", "conflict")]
    await imports.add(certificate(other, things=[{"name": "a", "exclusive": False}]))
    further = {**attachments, "certificate": fingerprint_of(other)}
    assert outcomes(await imports.add({**further, "things": [{"name": "b", "exclusive": False}]})) == [
        ("attachment", "new")
    ]
    unknown = {**attachments, "certificate": "0" * 64}
    assert outcomes(await imports.add({**unknown, "things": both})) == [("attachment", "refused")]


async def test_a_certificate_that_comes_twice_in_a_batch_is_there_the_second_time(imports: Imports) -> None:
    pem = vectors.certificate_pem()
    results = await imports.add(certificate(pem), certificate(pem), certificate(pem, status="INACTIVE"))
    assert outcomes(results) == [("certificate", "new"), ("certificate", "same"), ("certificate", "conflict")]


@pytest.mark.parametrize("pem", ["", "text", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
async def test_certificates_that_do_not_parse_are_refused(imports: Imports, pem: str) -> None:
    assert (await one(imports, certificate(pem, "ab" * 32))).outcome == "refused"


async def test_certificates_of_our_own_ca_are_refused(world: World, imports: Imports) -> None:
    own = pem_of(world.environment.device_ca.certificate)
    assert (await one(imports, certificate(own))).outcome == "refused"


async def test_certificates_count_for_the_quota(world: World, imports: Imports) -> None:
    quotas = Quotas(certificates=1)
    await begin_counting(world.store, quotas)
    world.environment = replace(world.environment, quotas=quotas)
    await imports.add(certificate(vectors.certificate_pem()))
    with pytest.raises(LimitExceeded):
        await imports.add(certificate(vectors.certificate_pem()))


# Host names, regions, dry runs


async def test_the_report_names_the_host_name_that_devices_need(world: World, imports: Imports) -> None:
    item = {"kind": "endpoint", "region": OURS.region, "account": OURS.account, "names": ["a1-ats.iot.amazonaws.com"]}
    result = await one(imports, item)
    assert result.reason.startswith("devices connect to a1-ats.iot.amazonaws.com now; no host name belongs to")
    assert f"thingmint access hostname add NAME --account {OURS.account} --api aws --region us-east-1" in result.reason
    given: dict[str, Any] = {"name": "iot.example.org", "account": OURS.account, "api": "aws", "region": OURS.region}
    await administer(world.store, world.vault, world.clock, "hostname.add", **given)
    result = await one(imports, item)
    assert result.reason.endswith("the host name that they need here is iot.example.org")
    results = await imports.add({**item, "account": "999999999999"})
    assert outcomes(results) == [("host_name", "noted"), ("account", "noted")]
    assert "--account-id 999999999999" in results[1].reason


async def test_each_region_has_its_own_resources(world: World, imports: Imports) -> None:
    results = await imports.add(thing("a"), thing("a", region=ABROAD.region, attributes={"x": "y"}))
    assert outcomes(results) == [("thing", "new"), ("thing", "new")]
    assert (await world.aws("DescribeThing", ABROAD, thingName="a"))["attributes"] == {"x": "y"}


async def test_a_region_that_the_account_does_not_have_stops_the_import(imports: Imports) -> None:
    with pytest.raises(Invalid, match="thingmint access region add ap-east-1 --account 111111111111"):
        await imports.add(thing("a", region="ap-east-1"))


async def test_a_dry_run_changes_nothing_and_takes_references_for_granted(world: World, imports: Imports) -> None:
    issuer = new_issuer(now=vectors.NOW)
    await imports.add(thing("known"))
    tables = (
        "things",
        "thing_types",
        "thing_groups",
        "thing_group_members",
        "registrations",
        "ca_certificates",
        "tags",
    )
    before = [await world.count(table) for table in tables]
    results = await imports.add(
        LAMP,
        policy("p", {"1": document()}, "1"),
        template(),
        ca_item(issuer, registration_config={"template_name": "x"}),
        thing("known"),
        thing("new", "lamp"),
        group("floor", "house", policies=["p"]),
        {"kind": "members", "region": OURS.region, "group": "floor", "things": ["new"]},
        certificate(pem_of(issuer.sign()), ca=issuer.fingerprint, policies=["p"], things=[{"name": "new"}]),
        {"kind": "attachments", "region": OURS.region, "certificate": "0" * 64, "things": [{"name": "new"}]},
        dry_run=True,
    )
    assert [each.outcome for each in results if each.outcome not in ("new", "noted")] == ["same"]
    assert [await world.count(table) for table in tables] == before
