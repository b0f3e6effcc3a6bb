"""Things and their principals over boto3."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.e2e.access.local_admin import LocalAdmin, allow, refusal
from tests.e2e.things.support import CONFLICT, HOSTILE, INVALID, NOT_FOUND, answer, exists, pages, sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.things.conftest import Tenant
    from thingmint.testing import RunningServer


def attributes(**values: str) -> dict[str, Any]:
    return {"attributePayload": {"attributes": values}}


# -- things -------------------------------------------------------------------------------------------------------


def test_a_thing_is_created_described_and_deleted(tenant: Tenant) -> None:
    iot = tenant.iot
    made = answer(iot.create_thing, thingName="a:b_c-1", **attributes(color="red"))
    assert made["thingArn"] == tenant.arn("thing/a:b_c-1")
    assert re.fullmatch(r"[0-9a-f-]{36}", made["thingId"])
    described = {**made, "defaultClientId": "a:b_c-1", "attributes": {"color": "red"}, "version": 1}
    assert answer(iot.describe_thing, thingName="a:b_c-1") == described
    assert answer(iot.create_thing, thingName="a:b_c-1", **attributes(color="red")) == made
    assert exists(iot.create_thing, thingName="a:b_c-1") == (
        409,
        made["thingId"],
        made["thingArn"],
        "Thing a:b_c-1 already exists with another type or other attributes",
    )
    assert answer(iot.delete_thing, thingName="a:b_c-1") == {}
    assert refusal(iot.describe_thing, thingName="a:b_c-1") == (*NOT_FOUND, "thing a:b_c-1 does not exist")


def test_a_thing_is_updated(tenant: Tenant) -> None:
    iot = tenant.iot
    iot.create_thing_type(thingTypeName="lamp")
    iot.create_thing(thingName="t", **attributes(a="1"))
    merged = {"attributePayload": {"attributes": {"b": "2"}, "merge": True}}
    assert answer(iot.update_thing, thingName="t", thingTypeName="lamp", expectedVersion=1, **merged) == {}
    thing = iot.describe_thing(thingName="t")
    assert (thing["thingTypeName"], thing["attributes"], thing["version"]) == ("lamp", {"a": "1", "b": "2"}, 2)
    iot.update_thing(thingName="t", removeThingType=True)
    assert "thingTypeName" not in iot.describe_thing(thingName="t")
    for call in (iot.update_thing, iot.delete_thing):
        assert refusal(call, thingName="t", expectedVersion=2)[:2] == CONFLICT
    iot.delete_thing(thingName="t", expectedVersion=3)


def test_errors_have_the_codes_of_aws(tenant: Tenant) -> None:
    iot = tenant.iot
    iot.create_thing_type(thingTypeName="old")
    iot.deprecate_thing_type(thingTypeName="old")
    refused = [
        refusal(iot.create_thing, thingName="t", thingTypeName="none"),
        refusal(iot.create_thing, thingName="t", thingTypeName="old")[:2],
        refusal(iot.create_thing, thingName="t", **attributes(a="1", b="2", c="3", d="4")),
        refusal(iot.create_thing, thingName="t", billingGroupName="b"),
        refusal(iot.update_thing, thingName="t"),
        refusal(iot.list_things, attributeValue="red"),
    ]
    assert refused == [
        (*NOT_FOUND, "thing type none does not exist"),
        INVALID,
        (*INVALID, "attributes must be at most 3"),
        (*NOT_FOUND, "billing group b does not exist"),
        (*NOT_FOUND, "thing t does not exist"),
        (*INVALID, "attributeName is required along with attributeValue"),
    ]
    assert iot.list_things()["things"] == []


def test_attributes_that_the_model_forbids_are_refused(tenant: Tenant) -> None:
    # In AWS's words, without the value.
    begin = "1 validation error detected: Value at 'attributePayload.attributes' failed to satisfy constraint:"
    keys = f"{begin} Map keys must satisfy constraint: [Member must have length less than or equal to "
    values = f"{begin} Map value must satisfy constraint: [Member must have length less than or equal to "
    rest = "Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: "
    given: list[tuple[Any, str]] = [
        ({"": "x"}, f"{keys}128, {rest}[a-zA-Z0-9_.,@/:#-]+]"),
        ({"a b": "x"}, f"{keys}128, {rest}[a-zA-Z0-9_.,@/:#-]+]"),
        ({"x" * 129: "x"}, f"{keys}128, {rest}[a-zA-Z0-9_.,@/:#-]+]"),
        ({"a": "x y"}, f"{values}800, {rest}[a-zA-Z0-9_.,@/:#=\\[\\]-]*]"),
        ({"a": "x" * 801}, f"{values}800, {rest}[a-zA-Z0-9_.,@/:#=\\[\\]-]*]"),
        ({"a": None}, "attributePayload.attributes.a must be a string"),
        ({"a": 1}, "attributePayload.attributes.a must be a string"),
        ([], "attributePayload.attributes must be an object"),
    ]
    for method in ("POST", "PATCH"):
        for attributes, message in given:
            body = {"attributePayload": {"attributes": attributes}}
            status, code, text = sent(tenant.signer, method, "/things/NAME", "t", body)
            assert (status, code, text[: len(message)]) == (*INVALID, message)


def test_hostile_names_are_refused(tenant: Tenant) -> None:
    accepted = []
    for method, path in (
        ("POST", "/things/NAME"),
        ("GET", "/things/NAME"),
        ("PATCH", "/things/NAME"),
        ("DELETE", "/things/NAME"),
        ("GET", "/things/NAME/principals"),
        ("GET", "/things/NAME/thing-groups"),
        ("GET", "/things?thingTypeName=NAME"),
        ("GET", "/things?nextToken=NAME"),
        ("POST", "/thing-types/NAME"),
        ("POST", "/thing-groups/NAME"),
        ("GET", "/thing-groups?namePrefixFilter=NAME"),
        ("GET", "/tags?resourceArn=NAME"),
    ):
        for name in HOSTILE:
            status, code, message = sent(tenant.signer, method, path, name)
            if (status, code) != INVALID or len(message) >= 200:
                accepted.append((method, path, name, status, message))
    assert accepted == []
    assert tenant.iot.list_things()["things"] == []


def test_things_are_listed_page_by_page(tenant: Tenant) -> None:
    iot = tenant.iot
    iot.create_thing_type(thingTypeName="lamp")
    for number, color in enumerate(["red", "red-hot", "blue", "red", "re"]):
        type = {"thingTypeName": "lamp"} if number > 2 else {}
        iot.create_thing(thingName=f"t{number}", **type, **attributes(color=color))

    def names(**wanted: Any) -> list[str]:
        return [thing["thingName"] for thing in pages(iot, "list_things", "things", **wanted)]

    assert names() == ["t0", "t1", "t2", "t3", "t4"]
    assert names(thingTypeName="lamp") == ["t3", "t4"]
    assert names(attributeName="color", attributeValue="red") == ["t0", "t3"]
    assert names(attributeName="color", attributeValue="red", usePrefixAttributeValue=True) == ["t0", "t3", "t1"]
    assert iot.list_things(thingTypeName="lamp", maxResults=1)["things"] == [
        {
            "thingName": "t3",
            "thingTypeName": "lamp",
            "thingArn": tenant.arn("thing/t3"),
            "attributes": {"color": "red"},
            "version": 1,
        }
    ]
    assert "nextToken" not in iot.list_things()


# -- principals ---------------------------------------------------------------------------------------------------


def test_principals_are_attached_listed_and_detached(tenant: Tenant) -> None:
    iot = tenant.iot
    shared, own = tenant.certificate(), tenant.certificate()
    for name in ("a", "b", "c"):
        iot.create_thing(thingName=name)
        assert answer(iot.attach_thing_principal, thingName=name, principal=shared) == {}
    iot.attach_thing_principal(thingName="a", principal=own, thingPrincipalType="EXCLUSIVE_THING")
    assert sorted(pages(iot, "list_thing_principals", "principals", thingName="a")) == sorted([shared, own])
    assert pages(iot, "list_principal_things", "things", principal=shared) == ["a", "b", "c"]
    found = pages(iot, "list_thing_principals_v2", "thingPrincipalObjects", thingName="a")
    types = {shared: "NON_EXCLUSIVE_THING", own: "EXCLUSIVE_THING"}
    assert {one["principal"]: one["thingPrincipalType"] for one in found} == types
    wanted = {"principal": own, "thingPrincipalType": "EXCLUSIVE_THING"}
    assert pages(iot, "list_principal_things_v2", "principalThingObjects", **wanted) == [
        {"thingName": "a", "thingPrincipalType": "EXCLUSIVE_THING"}
    ]
    assert answer(iot.detach_thing_principal, thingName="a", principal=shared) == {}
    assert pages(iot, "list_thing_principals", "principals", thingName="a") == [own]


def test_errors_of_principals_have_the_codes_of_aws(tenant: Tenant) -> None:
    iot = tenant.iot
    for name in ("a", "b"):
        iot.create_thing(thingName=name)
    principal, attach = tenant.certificate(), iot.attach_thing_principal
    attach(thingName="a", principal=principal, thingPrincipalType="EXCLUSIVE_THING")
    refused = [
        refusal(attach, thingName="none", principal=principal),
        refusal(attach, thingName="a", principal=principal.replace(tenant.number, "999999999999"))[:2],
        refusal(attach, thingName="a", principal="us-east-1:cognito")[:2],
        refusal(attach, thingName="b", principal=principal)[:2],
        refusal(iot.detach_thing_principal, thingName="b", principal=principal)[:2],
        refusal(iot.delete_thing, thingName="a"),
    ]
    assert refused == [
        (*NOT_FOUND, "thing none does not exist"),
        NOT_FOUND,
        INVALID,
        INVALID,
        NOT_FOUND,
        (*INVALID, "Cannot delete. Thing a is still attached to one or more principals"),
    ]
    path = "/things/a/principals?thingPrincipalType=NAME"
    raw = tenant.signer.send("PUT", path, headers={"x-amzn-principal": principal})
    assert (raw.status, raw.aws_code) == INVALID


def test_a_certificate_attached_to_a_thing_cannot_be_deleted(tenant: Tenant) -> None:
    iot = tenant.iot
    iot.create_thing(thingName="t")
    principal = tenant.certificate()
    id = principal.partition("/")[2]
    iot.attach_thing_principal(thingName="t", principal=principal)
    for force in (False, True):
        assert refusal(iot.delete_certificate, certificateId=id, forceDelete=force) == (
            409,
            "DeleteConflictException",
            f"Things must be detached before deletion (arn: {principal})",
        )
    iot.detach_thing_principal(thingName="t", principal=principal)
    iot.delete_certificate(certificateId=id)


# -- authorization ------------------------------------------------------------------------------------------------


def test_accounts_cannot_read_each_others_things(new_tenant: Callable[[], Tenant]) -> None:
    mine, theirs = new_tenant(), new_tenant()
    for tenant in (mine, theirs):
        tenant.iot.create_thing_group(thingGroupName="g")
        for name in ("a", "b"):
            tenant.iot.create_thing(thingName=name, **attributes(of=tenant.number))
    theirs.iot.create_thing(thingName="theirs")
    theirs.iot.create_thing_type(thingTypeName="theirs")
    principal = theirs.certificate()
    theirs.iot.attach_thing_principal(thingName="a", principal=principal)
    iot = mine.iot
    for call in (iot.describe_thing, iot.update_thing, iot.list_thing_principals, iot.list_thing_groups_for_thing):
        assert refusal(call, thingName="theirs") == (*NOT_FOUND, "thing theirs does not exist")
    iot.delete_thing(thingName="theirs")
    assert theirs.iot.describe_thing(thingName="theirs")["version"] == 1
    for call, further in ((iot.attach_thing_principal, {"thingName": "a"}), (iot.list_principal_things, {})):
        assert refusal(call, principal=principal, **further)[:2] == NOT_FOUND
    assert refusal(iot.create_thing, thingName="c", thingTypeName="theirs")[:2] == NOT_FOUND
    assert refusal(iot.add_thing_to_thing_group, thingArn=theirs.arn("thing/a"), thingGroupName="g")[:2] == NOT_FOUND
    assert [thing["thingName"] for thing in iot.list_things()["things"]] == ["a", "b"]
    assert iot.list_things(attributeName="of", attributeValue=theirs.number)["things"] == []
    token = theirs.iot.list_things(maxResults=1)["nextToken"]
    assert refusal(iot.list_things, nextToken=token) == (*INVALID, "nextToken is not one that this list returned")
    iot.delete_thing(thingName="a")
    assert theirs.iot.describe_thing(thingName="a")["attributes"] == {"of": theirs.number}


def test_policies_can_name_the_thing(server: RunningServer) -> None:
    local_admin = LocalAdmin(server)
    account = local_admin.ask("account.list")[0]["id"]
    own = f"arn:aws:iot:us-east-1:{account}:thing/policy-test-*"
    with local_admin.iot_of(allow(["iot:CreateThing", "iot:DescribeThing", "iot:DeleteThing"], own)) as iot:
        iot.create_thing(thingName="policy-test-1")
        assert iot.describe_thing(thingName="policy-test-1")["version"] == 1
        for call in (iot.create_thing, iot.describe_thing, iot.delete_thing):
            assert refusal(call, thingName="other")[:2] == (403, "AccessDeniedException")
        for call, arguments in (
            (iot.list_things, {}),
            (iot.update_thing, {"thingName": "policy-test-1"}),
            (iot.attach_thing_principal, {"thingName": "policy-test-1", "principal": "x"}),
        ):
            assert refusal(call, **arguments)[:2] == (403, "AccessDeniedException")
        iot.delete_thing(thingName="policy-test-1")
