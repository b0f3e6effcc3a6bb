"""AWS IoT's operations on provisioning templates and their versions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.world import ABROAD, OURS, THEIRS, pages
from thingmint.domain.errors import AlreadyExists, Conflict, Invalid, InvalidTemplate, LimitExceeded, NotFound
from thingmint.domain.templates import CERTIFICATE_ID, Kind
from thingmint.services.device_facts import look_up
from thingmint.services.hooks import Hook
from thingmint.services.templates import compile_template, get_template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.world import World
    from thingmint.domain.arns import Scope

ROLE = "arn:aws:iam::111111111111:role/provisioning"
LAMBDA = "arn:aws:lambda:us-east-1:111111111111:function:ask"
LAMPS = {"templateName": "lamps"}


def body(**device_configuration: str) -> str:
    certificate = {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": CERTIFICATE_ID}}}
    return json.dumps({"Resources": {"certificate": certificate}, "DeviceConfiguration": device_configuration})


async def create(world: World, scope: Scope = OURS, /, **members: Any) -> dict[str, Any]:
    needed = {**LAMPS, "templateBody": body(), "provisioningRoleArn": ROLE}
    return await world.aws("CreateProvisioningTemplate", scope, **needed | members)


async def describe(world: World, scope: Scope = OURS) -> dict[str, Any]:
    return await world.aws("DescribeProvisioningTemplate", scope, **LAMPS)


async def add_version(world: World, text: str | None = None, *, default: bool = False) -> dict[str, Any]:
    """Create a version of the template "lamps"."""
    members = {**LAMPS, "templateBody": text or body(), "setAsDefault": default}
    return await world.aws("CreateProvisioningTemplateVersion", **members)


async def versions(world: World) -> list[tuple[int, bool]]:
    """Return the listed versions of the template "lamps": the number, and whether it is the default."""
    page = await world.aws("ListProvisioningTemplateVersions", **LAMPS, maxResults=10)
    assert page["nextToken"] is None
    return [(version["versionId"], version["isDefaultVersion"]) for version in page["versions"]]


async def test_a_new_template_is_described_as_given(world: World) -> None:
    given = {"description": "for lamps", "enabled": True, "preProvisioningHook": {"targetArn": LAMBDA}}
    given |= {"type": "FLEET_PROVISIONING", "templateBody": body(v="1")}
    made = await create(world, **given)
    arn = "arn:aws:iot:us-east-1:111111111111:provisioningtemplate/lamps"
    assert made == {"templateArn": arn, **LAMPS, "defaultVersionId": 1}
    assert world.audit_resources() == ["provisioningtemplate/lamps"]
    assert await describe(world) == {
        **made,
        **given,
        "creationDate": world.clock.now,
        "lastModifiedDate": world.clock.now,
        "preProvisioningHook": {"payloadVersion": "2020-04-01", "targetArn": LAMBDA},
        "provisioningRoleArn": ROLE,
    }


async def test_omitted_members_have_defaults(world: World) -> None:
    await create(world)
    found = await describe(world)
    assert (found["description"], found["enabled"], found["preProvisioningHook"]) == (None, False, None)
    assert found["type"] == "FLEET_PROVISIONING"


async def test_a_new_template_has_its_tags(world: World) -> None:
    await create(world, tags=[{"Key": "b", "Value": "2"}, {"Key": "a"}])
    tags = await world.rows("SELECT account, region, resource, key, value FROM tags ORDER BY key")
    assert tags == [(*OURS, "provisioningtemplate/lamps", key, value) for key, value in (("a", ""), ("b", "2"))]


async def test_creating_twice_conflicts(world: World) -> None:
    made = await create(world, description="first", tags=[{"Key": "a", "Value": "1"}])
    world.audit_resources()
    with pytest.raises(AlreadyExists) as caught:
        await create(world, description="second", tags=[{"Key": "a", "Value": "2"}])
    assert (caught.value.kind, caught.value.id) == ("provisioning template", "lamps")
    assert caught.value.arn == made["templateArn"]
    assert (await describe(world))["description"] == "first"
    assert await world.rows("SELECT value FROM tags") == [("1",)]
    assert await world.unchanged()


async def test_names_are_unique_in_an_account_and_region(world: World) -> None:
    await create(world, description="ours")
    for scope in (ABROAD, THEIRS):
        with pytest.raises(NotFound):
            await describe(world, scope)
        await create(world, scope, description=scope.region)
        assert (await describe(world, scope))["description"] == scope.region
    assert (await describe(world))["description"] == "ours"


@pytest.mark.parametrize(
    ("members", "error", "message"),
    [
        ({"templateBody": "{}"}, InvalidTemplate, "Template must have certificate resource"),
        ({"type": "JITP", "preProvisioningHook": {"targetArn": LAMBDA}}, Invalid, "preProvisioningHook is only for"),
        ({"preProvisioningHook": {"targetArn": "x"}}, Invalid, "preProvisioningHook.targetArn must be an ARN"),
        ({"tags": [{"Key": "a"}, {"Key": "a"}]}, Invalid, "tags must not have a key twice"),
    ],
)
async def test_a_refused_template_is_not_created(
    world: World, members: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await create(world, **members)
    assert await world.count("provisioning_templates") == 0
    assert await world.unchanged()


@pytest.mark.parametrize("arn", ["", "x", "https://example.com/hook", "arn:aws:lambda"])
def test_a_hook_must_have_an_arn(arn: str) -> None:
    with pytest.raises(Invalid, match="must be an ARN"):
        Hook(arn)


async def test_an_update_changes_only_the_given_members_and_the_date(world: World) -> None:
    hook = {"targetArn": LAMBDA, "payloadVersion": "2021-01-01"}
    steps: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({"enabled": True}, {"enabled": True}),
        ({"enabled": False}, {"enabled": False}),
        ({"description": ""}, {"description": ""}),
        ({"description": "x", "provisioningRoleArn": ROLE + "2"},) * 2,
        ({"preProvisioningHook": hook}, {"preProvisioningHook": hook}),
        ({"defaultVersionId": 2}, {"defaultVersionId": 2, "templateBody": body(a="2")}),
        ({"removePreProvisioningHook": True}, {"preProvisioningHook": None}),
        ({"removePreProvisioningHook": True}, {}),
    ]
    await create(world)
    await add_version(world, body(a="2"))
    world.audit_resources()
    for given, changed in steps:
        before = await describe(world)
        world.clock.advance(seconds=1)
        assert await world.aws("UpdateProvisioningTemplate", **LAMPS, **given) == {}
        assert await describe(world) == before | {"lastModifiedDate": world.clock.now} | changed
        assert world.audit_resources() == ["provisioningtemplate/lamps"]


async def test_an_update_does_not_change_templates_of_other_accounts(world: World) -> None:
    await create(world)
    await create(world, THEIRS)
    before = await describe(world, THEIRS)
    world.clock.advance(seconds=1)
    await world.aws("UpdateProvisioningTemplate", **LAMPS, enabled=True)
    assert await describe(world, THEIRS) == before


@pytest.mark.parametrize(
    ("members", "error", "message"),
    [
        ({"defaultVersionId": 2}, NotFound, "provisioning template version lamps:2 does not exist"),
        ({"preProvisioningHook": {"targetArn": LAMBDA}}, Invalid, "preProvisioningHook is only for templates of the"),
        (
            {"preProvisioningHook": {"targetArn": LAMBDA}, "removePreProvisioningHook": True},
            Invalid,
            "removePreProvisioningHook must not be given together with preProvisioningHook",
        ),
    ],
)
async def test_a_refused_update_changes_nothing(
    world: World, members: dict[str, Any], error: type[Exception], message: str
) -> None:
    await create(world, type="JITP")
    before = await describe(world)
    world.audit_resources()
    world.clock.advance(seconds=1)
    with pytest.raises(error, match=message):
        await world.aws("UpdateProvisioningTemplate", **LAMPS, enabled=True, **members)
    assert await describe(world) == before
    assert await world.unchanged()


async def test_versions_are_numbered(world: World) -> None:
    made = await create(world)
    del made["defaultVersionId"]
    for number in (2, 3):
        world.audit_resources()
        world.clock.advance(seconds=1)
        new = await add_version(world, body(v=str(number)))
        assert new == {**made, "versionId": number, "isDefaultVersion": False}
        assert world.audit_resources() == ["provisioningtemplate/lamps"]
        assert await world.aws("DescribeProvisioningTemplateVersion", **LAMPS, versionId=number) == {
            "versionId": number,
            "creationDate": world.clock.now,
            "isDefaultVersion": False,
            "templateBody": body(v=str(number)),
        }
    assert await versions(world) == [(3, False), (2, False), (1, True)]


async def test_a_version_is_not_the_default_unless_requested(world: World) -> None:
    await create(world)
    before = await describe(world)
    world.clock.advance(seconds=1)
    await add_version(world)
    assert await describe(world) == before


async def test_a_new_version_can_be_the_default(world: World) -> None:
    await create(world)
    before = await describe(world)
    world.clock.advance(seconds=1)
    assert (await add_version(world, body(v="2"), default=True))["isDefaultVersion"]
    changed = {"defaultVersionId": 2, "templateBody": body(v="2"), "lastModifiedDate": world.clock.now}
    assert await describe(world) == before | changed


async def test_a_version_with_an_invalid_body_is_not_created(world: World) -> None:
    await create(world, type="JITP")
    world.audit_resources()
    with pytest.raises(InvalidTemplate):
        await add_version(world, "[]", default=True)
    assert await versions(world) == [(1, True)]
    assert await world.unchanged()


async def test_a_template_has_at_most_five_versions(world: World) -> None:
    await create(world)
    for _ in range(4):
        await add_version(world)
    with pytest.raises(LimitExceeded) as caught:
        await add_version(world, default=True)
    assert caught.value.reason == "Template lamps has 5 versions already"
    assert await versions(world) == [(5, False), (4, False), (3, False), (2, False), (1, True)]


async def test_the_number_of_a_deleted_version_is_never_used_again(world: World) -> None:
    await create(world)
    await add_version(world)
    world.audit_resources()
    assert await world.aws("DeleteProvisioningTemplateVersion", **LAMPS, versionId=2) == {}
    assert world.audit_resources() == ["provisioningtemplate/lamps"]
    assert (await add_version(world))["versionId"] == 3
    assert await versions(world) == [(3, False), (1, True)]


async def test_the_default_version_cannot_be_deleted(world: World) -> None:
    await create(world)
    await add_version(world, default=True)
    with pytest.raises(Invalid, match="versionId is that of the default version, which cannot be deleted"):
        await world.aws("DeleteProvisioningTemplateVersion", **LAMPS, versionId=2)
    assert await versions(world) == [(2, True), (1, False)]


@pytest.mark.parametrize("operation", ["DeleteProvisioningTemplateVersion", "DescribeProvisioningTemplateVersion"])
async def test_an_unknown_version_is_not_found(world: World, operation: str) -> None:
    await create(world)
    for number in (0, -1, 2, 2**31 - 1):
        with pytest.raises(NotFound) as missing:
            await world.aws(operation, **LAMPS, versionId=number)
        assert (missing.value.kind, missing.value.id) == ("provisioning template version", f"lamps:{number}")


async def test_lists_have_every_template_once_by_name(world: World) -> None:
    names = ["A", "Z", "_", "a", "b-1", "b1", "z"]
    for name in reversed(names):
        await create(world, templateName=name)
    for scope in (ABROAD, THEIRS):
        await create(world, scope, templateName="elsewhere")

    async def page(members: Mapping[str, Any]) -> dict[str, Any]:
        return await world.aws("ListProvisioningTemplates", **members)

    for limit in (1, 2, 3, 7, 250):
        assert [template["templateName"] for template in await pages(page, "templates", limit)] == names


async def test_lists_have_a_summary_of_each_template(world: World) -> None:
    await create(world, description="x", enabled=True, type="JITP")
    found = await describe(world)
    kept = ("templateArn", "templateName", "description", "creationDate", "lastModifiedDate", "enabled", "type")
    listed = await world.aws("ListProvisioningTemplates")
    assert listed == {"templates": [{name: found[name] for name in kept}], "nextToken": None}


async def test_lists_have_every_version_once_newest_first(world: World) -> None:
    await create(world)
    for _ in range(4):
        await add_version(world)

    async def page(members: Mapping[str, Any]) -> dict[str, Any]:
        return await world.aws("ListProvisioningTemplateVersions", **LAMPS, **members)

    for limit in (1, 2, 5, 250):
        assert [version["versionId"] for version in await pages(page, "versions", limit)] == [5, 4, 3, 2, 1]


async def test_tokens_are_valid_for_their_own_list_only(world: World) -> None:
    for scope in (OURS, ABROAD, THEIRS):
        for name in ("lamps", "other"):
            await create(world, scope, templateName=name)
    await add_version(world)
    of_list = (await world.aws("ListProvisioningTemplates", maxResults=1))["nextToken"]
    of_lamps = (await world.aws("ListProvisioningTemplateVersions", **LAMPS, maxResults=1))["nextToken"]
    for scope, token in ((THEIRS, of_list), (ABROAD, of_list), (OURS, of_lamps), (OURS, "x")):
        with pytest.raises(Invalid, match="nextToken is not one that this list returned"):
            await world.aws("ListProvisioningTemplates", scope, nextToken=token)
    for name, token in (("other", of_lamps), ("lamps", of_list)):
        with pytest.raises(Invalid, match="nextToken is not one that this list returned"):
            await world.aws("ListProvisioningTemplateVersions", templateName=name, nextToken=token)


async def is_claim(world: World, fingerprint: str) -> bool:
    """True if a device with the certificate is accepted for provisioning."""
    now = world.clock()
    devices = [
        (await world.read(lambda tx, scope=scope: look_up(tx, fingerprint, scope, None, "x", now))).device  # type: ignore[misc]
        for scope in (OURS, None)  # with and without the account's host name
    ]
    found = {device is not None and device.claim is not None for device in devices}
    assert len(found) == 1
    return found.pop()


async def test_deleting_a_template_deletes_versions_tags_and_claims(world: World) -> None:
    tags = [{"Key": "a", "Value": "1"}]
    for scope, name in ((OURS, "lamps"), (OURS, "lamps2"), (THEIRS, "lamps")):
        await create(world, scope, templateName=name, tags=tags)
    await add_version(world)
    claim, other = [
        (await world.aws("CreateProvisioningClaim", templateName=name))["certificateId"] for name in ("lamps", "lamps2")
    ]
    world.audit_resources()
    await world.aws("DeleteProvisioningTemplate", **LAMPS)
    assert world.audit_resources() == ["provisioningtemplate/lamps"]
    assert await world.published() == [
        ("template", "lamps")
    ]  # so that each gateway closes the connections of its claims
    assert [await is_claim(world, each) for each in (claim, other)] == [False, True]
    await create(world, templateName="lamps")
    assert not await is_claim(world, claim), "it is of no later template of the name"
    await world.aws("DeleteProvisioningTemplate", **LAMPS)
    for table in ("tags", "provisioning_template_versions", "provisioning_templates"):
        assert await world.count(table) == 2
    with pytest.raises(NotFound):
        await world.aws("DeleteProvisioningTemplate", **LAMPS)


async def test_the_name_of_a_deleted_template_can_be_used_again(world: World) -> None:
    await create(world)
    await add_version(world, default=True)
    await world.aws("DeleteProvisioningTemplate", **LAMPS)
    await create(world)
    assert await versions(world) == [(1, True)]


async def test_a_template_that_a_ca_certificate_uses_cannot_be_deleted(world: World) -> None:
    await create(world)
    await create(world, THEIRS)
    fingerprint = b"f" * 32

    async def insert_ca(tx: Any) -> None:
        await tx.execute("INSERT INTO certificates VALUES (1, $1, $2, 0, 0)", fingerprint, b"")
        await tx.execute(
            "INSERT INTO ca_certificates (account, region, certificate, subject, status, mode, auto_registration, "
            "template_name, generation, version, created_at, modified_at) "
            "VALUES ($1, $2, 1, $3, 'ACTIVE', 'DEFAULT', 1, 'lamps', '', 1, 0, 0)",
            *OURS,
            b"",
        )

    await world.write(insert_ca)
    with pytest.raises(Conflict) as caught:
        await world.aws("DeleteProvisioningTemplate", **LAMPS)
    assert caught.value.reason == "Template lamps is used by a CA certificate"
    await describe(world)
    await world.aws("DeleteProvisioningTemplate", THEIRS, **LAMPS)


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("DescribeProvisioningTemplate", {}),
        ("UpdateProvisioningTemplate", {"enabled": True}),
        ("DeleteProvisioningTemplate", {}),
        ("CreateProvisioningTemplateVersion", {"templateBody": "[]"}),
        ("DescribeProvisioningTemplateVersion", {"versionId": 1}),
        ("DeleteProvisioningTemplateVersion", {"versionId": 1}),
        ("ListProvisioningTemplateVersions", {}),
        ("CreateProvisioningClaim", {}),
    ],
)
async def test_another_accounts_template_is_not_found(world: World, operation: str, members: dict[str, Any]) -> None:
    await create(world, THEIRS)
    before = await describe(world, THEIRS)
    with pytest.raises(NotFound) as caught:
        await world.aws(operation, **LAMPS, **members)
    assert (caught.value.kind, caught.value.id) == ("provisioning template", "lamps")
    assert await describe(world, THEIRS) == before


async def test_the_default_version_is_parsed_once(world: World) -> None:
    await create(world, templateBody=body(v="1"))
    await create(world, THEIRS, templateBody=body(v="1"), type="JITP")
    for number in ("1", "2"):
        template, version = await world.read(lambda tx: get_template(tx, OURS, "lamps"))
        compiled = compile_template(version.body, template.kind)
        assert compiled.resolve({}, {CERTIFICATE_ID: "ab" * 32}).device_configuration == {"v": number}
        assert compile_template(version.body, template.kind) is compiled
        assert compiled.kind is template.kind is Kind.FLEET
        await add_version(world, body(v="2"), default=True)
    theirs, version = await world.read(lambda tx: get_template(tx, THEIRS, "lamps"))
    assert compile_template(version.body, theirs.kind).kind is Kind.JITP
