"""Adding thing types, policies, templates and CA certificates of AWS: what comes as it was, and what stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.issuers import new_issuer
from tests.issuers import pem as pem_of
from tests.unit import vectors
from tests.unit.importing.aws.imports import (
    BODY,
    CREATED,
    LAMP,
    MODIFIED,
    ROLE,
    Imports,
    ca_item,
    certificate,
    document,
    fingerprint_of,
    one,
    outcomes,
    policy,
    template,
)
from tests.world import OURS, THEIRS
from thingmint.store.table import from_micros

if TYPE_CHECKING:
    from tests.world import World


# Thing types


async def test_a_thing_type_comes_with_its_times_and_tags(world: World, imports: Imports) -> None:
    assert (await one(imports, {**LAMP, "deprecated_at": MODIFIED})).outcome == "new"
    found = await world.aws("DescribeThingType", thingTypeName="lamp")
    assert found["thingTypeProperties"]["searchableAttributes"] == ["room"]
    assert found["thingTypeMetadata"]["creationDate"] == from_micros(CREATED)
    assert found["thingTypeMetadata"]["deprecationDate"] == from_micros(MODIFIED)
    tags = await world.aws("ListTagsForResource", resourceArn=found["thingTypeArn"])
    assert tags["tags"] == [{"Key": "team", "Value": "light"}]


async def test_a_thing_type_that_is_there_stays(world: World, imports: Imports) -> None:
    properties = {"thingTypeDescription": "gives light", "searchableAttributes": ["room"]}
    await world.aws("CreateThingType", thingTypeName="lamp", thingTypeProperties=properties)
    assert (await one(imports, LAMP)).outcome == "completed"
    assert (await one(imports, LAMP)).outcome == "same"
    other = await one(imports, {**LAMP, "description": "other"})
    assert other.outcome == "conflict"
    assert "description" in other.reason
    assert (await one(imports, {**LAMP, "tags": {"team": "dark"}})).reason.count("tags") == 1
    assert (await one(imports, {**LAMP, "deprecated_at": MODIFIED})).outcome == "conflict"


async def test_a_thing_type_comes_with_its_propagating_attributes(world: World, imports: Imports) -> None:
    added = [{"userPropertyKey": "room", "thingAttribute": "room"}]
    assert (await one(imports, {**LAMP, "propagating_attributes": added})).outcome == "new"
    found = await world.aws("DescribeThingType", thingTypeName="lamp")
    assert found["thingTypeProperties"]["mqtt5Configuration"] == {"propagatingAttributes": added}
    assert (await one(imports, {**LAMP, "propagating_attributes": added})).outcome == "same"
    assert (await one(imports, LAMP)).outcome == "conflict"


@pytest.mark.parametrize("bad", ["x", [1], [{}], [{"userPropertyKey": 1}], [{"userPropertyKey": "k"}] * 101])
async def test_a_thing_type_with_other_propagating_attributes_is_refused(imports: Imports, bad: object) -> None:
    assert (await one(imports, {**LAMP, "propagating_attributes": bad})).outcome == "refused"


async def test_tags_that_aws_has_made_are_left_out(imports: Imports) -> None:
    results = await imports.add({**LAMP, "tags": {"aws:cloudformation:stack-name": "s", "team": "light"}})
    assert outcomes(results) == [("thing_type", "new"), ("thing_type", "noted")]
    assert "aws:cloudformation:stack-name" in results[1].reason


# Policies


async def test_a_policy_keeps_the_ids_of_its_versions_and_its_default(world: World, imports: Imports) -> None:
    texts = {"2": document("iot:Publish"), "5": document()}
    assert (await one(imports, policy("p", texts, "2"))).outcome == "new"
    versions = (await world.aws("ListPolicyVersions", policyName="p"))["policyVersions"]
    assert [(each["versionId"], each["isDefaultVersion"]) for each in versions] == [("5", False), ("2", True)]
    for id, text in texts.items():
        found = await world.aws("GetPolicyVersion", policyName="p", policyVersionId=id)
        assert (found["policyDocument"], found["creationDate"]) == (text, from_micros(MODIFIED))
    about = await world.aws("GetPolicy", policyName="p")
    assert about["creationDate"] == from_micros(CREATED)
    assert about["lastModifiedDate"] == from_micros(MODIFIED)
    made = await world.aws("CreatePolicyVersion", policyName="p", policyDocument=document())
    assert made["policyVersionId"] == "6"


async def test_a_policy_that_is_there_stays(world: World, imports: Imports) -> None:
    await world.aws("CreatePolicy", policyName="p", policyDocument=document())
    same = document().replace(" ", "")
    assert (await one(imports, policy("p", {"1": same}, "1"))).outcome == "same"
    completed = await one(imports, policy("p", {"1": same, "3": document("iot:Publish")}, "1"))
    assert (completed.outcome, completed.reason) == ("completed", "it was here without version 3")
    assert len((await world.aws("ListPolicyVersions", policyName="p"))["policyVersions"]) == 2
    for item, reason in (
        (policy("p", {"1": document("iot:Receive"), "3": document("iot:Publish")}, "1"), "(version 1)"),
        (policy("p", {"1": same, "3": document("iot:Publish")}, "3"), "(default version)"),
        (policy("p", {"1": same}, "1"), "(further versions 3)"),
    ):
        result = await one(imports, item)
        assert result.outcome == "conflict"
        assert reason in result.reason
    assert (await world.aws("GetPolicy", policyName="p"))["policyDocument"] == document()


async def test_documents_that_the_language_refuses_do_not_come(world: World, imports: Imports) -> None:
    bad = document().replace("Allow", "Perhaps")
    refused = await one(imports, policy("bad", {"1": bad}, "1"))
    assert refused.outcome == "refused"
    assert "Effect" in refused.reason
    results = await imports.add(policy("part", {"1": bad, "2": document()}, "2"))
    assert [(each.outcome, each.subject) for each in results] == [
        ("new", "us-east-1: part"),
        ("refused", "us-east-1: part, version 1"),
    ]
    listed = (await world.aws("ListPolicies"))["policies"]
    assert [each["policyName"] for each in listed] == ["part"]


async def test_documents_with_another_account_are_noted(imports: Imports) -> None:
    text = document(resource="arn:aws:iot:us-east-1:999999999999:client/x")
    results = await imports.add(policy("p", {"1": text}, "1"))
    assert outcomes(results) == [("policy", "new"), ("policy", "noted")]
    assert "arn:aws:iot:us-east-1:999999999999:" in results[1].reason
    own = document(resource=f"arn:aws:iot:us-east-1:{OURS.account}:client/x")
    assert outcomes(await imports.add(policy("q", {"1": own}, "1"))) == [("policy", "new")]


@pytest.mark.parametrize(
    "item",
    [
        policy("p", {}, "1"),
        policy("p", {"1": document()}, "2"),
        policy("p", {"01": document()}, "01"),
        policy("p", {"x": document()}, "x"),
        policy("p/q", {"1": document()}, "1"),
        policy("p", {"1": document()}, "1", created_at="2020"),
        policy("p", {"1": document()}, "1", tags=["team"]),
        {**policy("p", {"1": document()}, "1"), "versions": "1"},
    ],
)
async def test_damaged_policies_are_refused(imports: Imports, item: dict[str, Any]) -> None:
    assert (await one(imports, item)).outcome == "refused"


# Provisioning templates and CA certificates


async def test_a_template_comes_with_its_versions_and_hook(world: World, imports: Imports) -> None:
    results = await imports.add(template())
    assert outcomes(results) == [("template", "new"), ("template", "noted"), ("template", "noted")]
    assert "thingmint access role create provision" in results[1].reason
    assert "function:ask" in results[2].reason
    found = await world.aws("DescribeProvisioningTemplate", templateName="line")
    assert found["templateBody"] == BODY
    assert (found["defaultVersionId"], found["enabled"], found["provisioningRoleArn"]) == (2, True, ROLE)
    assert found["preProvisioningHook"]["payloadVersion"] == "2020-04-01"
    assert (found["creationDate"], found["lastModifiedDate"]) == (from_micros(CREATED), from_micros(MODIFIED))
    versions = (await world.aws("ListProvisioningTemplateVersions", templateName="line"))["versions"]
    assert [each["versionId"] for each in versions] == [3, 2]


async def test_a_template_that_is_there_stays(imports: Imports) -> None:
    await imports.add(template(versions=[{"id": 2, "body": BODY}]))
    assert (await imports.add(template()))[0].outcome == "completed"
    assert (await imports.add(template()))[0].outcome == "same"
    result = (await imports.add(template(enabled=False, hook=None)))[0]
    assert result.outcome == "conflict"
    assert "(enabled, hook arn)" in result.reason


async def test_templates_that_cannot_work_are_refused_or_noted(imports: Imports) -> None:
    assert (await one(imports, template(versions=[{"id": 2, "body": "{}"}]))).outcome == "refused"
    assert (await one(imports, template(type="BULK"))).outcome == "refused"
    assert (await one(imports, template(role_arn="admin"))).outcome == "refused"
    results = await imports.add(template(role_arn="arn:aws:iam::999999999999:role/provision", hook=None))
    assert outcomes(results) == [("template", "new"), ("template", "noted")]
    assert "of another account" in results[1].reason


async def test_a_ca_certificate_comes_without_another_proof(world: World, imports: Imports) -> None:
    issuer = new_issuer(now=vectors.NOW)
    await imports.add(template(name="jitp", type="JITP", hook=None))
    config = {"template_name": "jitp", "template_body": None, "role_arn": None}
    assert (await one(imports, ca_item(issuer, registration_config=config, tags={"a": "b"}))).outcome == "new"
    found = await world.aws("DescribeCACertificate", certificateId=issuer.fingerprint)
    about = found["certificateDescription"]
    assert (about["status"], about["autoRegistrationStatus"], about["certificateMode"]) == (
        "ACTIVE",
        "ENABLE",
        "DEFAULT",
    )
    assert (about["creationDate"], about["lastModifiedDate"]) == (from_micros(CREATED), from_micros(MODIFIED))
    assert found["registrationConfig"]["templateName"] == "jitp"
    assert (await one(imports, ca_item(issuer, registration_config=config, tags={"a": "b"}))).outcome == "same"
    changed = await one(imports, ca_item(issuer, status="INACTIVE", auto_registration=False))
    assert changed.outcome == "conflict"
    assert "status, auto registration, template name" in changed.reason


async def test_a_ca_certificate_of_another_account_is_sni_only(world: World, imports: Imports) -> None:
    issuer = new_issuer(now=vectors.NOW)
    theirs = Imports(world, THEIRS.account)
    assert outcomes(await theirs.add(ca_item(issuer))) == [("ca", "new")]
    results = await imports.add(ca_item(issuer))
    assert outcomes(results) == [("ca", "new"), ("ca", "noted")]
    found = await world.aws("DescribeCACertificate", certificateId=issuer.fingerprint)
    assert found["certificateDescription"]["certificateMode"] == "SNI_ONLY"
    assert (await one(imports, ca_item(issuer))).outcome == "same"
    pem = pem_of(issuer.sign())
    await imports.add(certificate(pem, ca=issuer.fingerprint))
    mode = (await world.aws("DescribeCertificate", certificateId=fingerprint_of(pem)))["certificateDescription"]
    assert mode["certificateMode"] == "SNI_ONLY"


@pytest.mark.parametrize(
    "config",
    [
        {"template_name": "missing"},
        {"template_body": "{}", "role_arn": ROLE},
        {"template_body": BODY, "template_name": "x"},
        "text",
    ],
)
async def test_a_ca_certificate_comes_without_a_configuration_that_cannot(
    world: World, imports: Imports, config: Any
) -> None:
    issuer = new_issuer(now=vectors.NOW)
    results = await imports.add(ca_item(issuer, registration_config=config))
    assert outcomes(results)[0] == ("ca", "new")
    assert "registers no devices" in results[1].reason
    found = await world.aws("DescribeCACertificate", certificateId=issuer.fingerprint)
    assert found["certificateDescription"]["autoRegistrationStatus"] == "DISABLE"
    assert found["registrationConfig"] is None


async def test_certificates_that_are_no_ca_or_our_own_are_refused(world: World, imports: Imports) -> None:
    assert (await one(imports, {**ca_item(new_issuer(now=vectors.NOW)), "pem": vectors.certificate_pem()})).outcome == (
        "refused"
    )
    own = world.environment.device_ca.certificate
    assert (await one(imports, {**ca_item(new_issuer(now=vectors.NOW)), "pem": pem_of(own)})).outcome == "refused"
