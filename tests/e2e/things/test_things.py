"""Things and their principals over boto3."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.operator import Operator, allow, refusal
from tests.e2e.things.support import HOSTILE, INVALID, NOT_FOUND, pages, sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.things.conftest import Tenant
    from thingmint.testing import RunningServer

UNKNOWN = f"cert/{'0' * 64}"


def described(iot: Any, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = iot.describe_thing(thingName=name)
    del answer["ResponseMetadata"]
    return answer


def exists(caught: Any) -> tuple[int, str, str]:
    """Status, id and ARN."""
    told = caught.value.response
    return told["ResponseMetadata"]["HTTPStatusCode"], told["resourceId"], told["resourceArn"]


# -- things -------------------------------------------------------------------------------------------------------


def test_a_thing(tenant: Tenant) -> None:
    iot = tenant.iot
    made = iot.create_thing(thingName="a:b_c-1", attributePayload={"attributes": {"color": "red"}})
    assert made["thingArn"] == tenant.arn("thing/a:b_c-1")
    assert re.fullmatch(r"[0-9a-f-]{36}", made["thingId"])
    assert described(iot, "a:b_c-1") == {
        "thingName": "a:b_c-1",
        "thingArn": made["thingArn"],
        "thingId": made["thingId"],
        "defaultClientId": "a:b_c-1",
        "attributes": {"color": "red"},
        "version": 1,
    }
    again = iot.create_thing(thingName="a:b_c-1", attributePayload={"attributes": {"color": "red"}})
    assert again["thingId"] == made["thingId"]
    with pytest.raises(iot.exceptions.ResourceAlreadyExistsException) as caught:
        iot.create_thing(thingName="a:b_c-1")
    assert exists(caught) == (409, made["thingId"], made["thingArn"])
    iot.delete_thing(thingName="a:b_c-1")
    assert refusal(iot.describe_thing, thingName="a:b_c-1") == (*NOT_FOUND, "thing a:b_c-1 does not exist")
    iot.delete_thing(thingName="a:b_c-1")
    iot.delete_thing(thingName="a:b_c-1", expectedVersion=7)


def test_changes(tenant: Tenant) -> None:
    iot = tenant.iot
    iot.create_thing_type(thingTypeName="lamp")
    iot.create_thing(thingName="t")

    def changed(**change: Any) -> tuple[Any, ...]:
        iot.update_thing(thingName="t", **change)
        thing = described(iot, "t")
        return thing.get("thingTypeName"), thing["attributes"], thing["version"]

    def attributes(*, merge: bool | None = None, **values: str) -> dict[str, Any]:
        return {"attributePayload": {"attributes": values} | ({} if merge is None else {"merge": merge})}

    assert changed(**attributes(a="1", b="2"), expectedVersion=1) == (None, {"a": "1", "b": "2"}, 2)
    assert changed(**attributes(merge=True, b="3", c="4")) == (None, {"a": "1", "b": "3", "c": "4"}, 3)
    assert changed(**attributes(merge=True, b="")) == (None, {"a": "1", "c": "4"}, 4)
    assert changed(thingTypeName="lamp") == ("lamp", {"a": "1", "c": "4"}, 5)
    assert changed(**attributes(merge=False, d="5"), removeThingType=False) == ("lamp", {"d": "5"}, 6)
    assert changed(attributePayload={"merge": False}) == ("lamp", {"d": "5"}, 6)
    assert changed(removeThingType=True, **attributes()) == (None, {}, 7)
    for call in (iot.update_thing, iot.delete_thing):
        status, code, _ = refusal(call, thingName="t", expectedVersion=6)
        assert (status, code) == (409, "VersionConflictException")
    iot.delete_thing(thingName="t", expectedVersion=7)
    assert refusal(iot.update_thing, thingName="t")[:2] == NOT_FOUND


def test_what_a_thing_may_not_be(tenant: Tenant) -> None:
    iot = tenant.iot
    iot.create_thing_type(thingTypeName="lamp")
    iot.create_thing_type(thingTypeName="old")
    iot.deprecate_thing_type(thingTypeName="old")
    four = {"attributes": dict.fromkeys("abcd", "1")}
    iot.create_thing(thingName="t", thingTypeName="lamp", attributePayload=four)
    for call in (iot.create_thing, iot.update_thing):
        name = "new" if call == iot.create_thing else "t"
        assert refusal(call, thingName=name, thingTypeName="none") == (*NOT_FOUND, "thing type none does not exist")
        assert refusal(call, thingName=name, thingTypeName="old")[:2] == INVALID
    assert refusal(iot.create_thing, thingName="new", attributePayload=four) == (
        *INVALID,
        "attributes must be at most 3",
    )
    many = {"attributes": {f"a{number}": "1" for number in range(51)}}
    assert refusal(iot.create_thing, thingName="new", thingTypeName="lamp", attributePayload=many)[:2] == INVALID
    assert refusal(iot.update_thing, thingName="t", removeThingType=True)[:2] == INVALID
    both = refusal(iot.update_thing, thingName="t", removeThingType=True, thingTypeName="lamp")
    assert both[:2] == INVALID
    billed = refusal(iot.create_thing, thingName="new", billingGroupName="b")
    assert billed == (*NOT_FOUND, "billing group b does not exist")
    assert [thing["thingName"] for thing in iot.list_things()["things"]] == ["t"]
    assert described(iot, "t")["version"] == 1


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"": "x"}, "attributePayload.attributes has a key that must satisfy"),
        ({"a b": "x"}, "attributePayload.attributes has a key that must satisfy"),
        ({"x" * 129: "x"}, "attributePayload.attributes has a key that must have length"),
        ({"a": "x y"}, "attributePayload.attributes.a must satisfy"),
        ({"a": "x" * 801}, "attributePayload.attributes.a must have length"),
        ({"a": None}, "attributePayload.attributes.a must be a string"),
        ({"a": 1}, "attributePayload.attributes.a must be a string"),
        ([], "attributePayload.attributes must be an object"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_attributes_that_the_model_forbids(tenant: Tenant, method: str, attributes: Any, message: str) -> None:
    body = {"attributePayload": {"attributes": attributes}}
    status, code, told = sent(tenant.signer, method, "/things/NAME", "t", body)
    assert (status, code) == INVALID
    assert told.startswith(message)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(tenant: Tenant, name: str) -> None:
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
        status, code, message = sent(tenant.signer, method, path, name)
        assert (status, code) == INVALID, path
        assert len(message) < 200
    assert tenant.iot.list_things()["things"] == []


# -- lists --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3])
def test_lists(tenant: Tenant, size: int) -> None:
    iot = tenant.iot
    iot.create_thing_type(thingTypeName="lamp")
    for number, color in enumerate(["red", "red-hot", "blue", "red", "re"]):
        iot.create_thing(
            thingName=f"t{number}",
            attributePayload={"attributes": {"color": color}},
            **({"thingTypeName": "lamp"} if number > 2 else {}),
        )

    def names(**wanted: Any) -> list[str]:
        return [thing["thingName"] for thing in pages(iot.list_things, "things", size, **wanted)]

    assert names() == ["t0", "t1", "t2", "t3", "t4"]
    assert names(thingTypeName="lamp") == ["t3", "t4"]
    assert names(attributeName="color", attributeValue="red") == ["t0", "t3"]
    assert names(attributeName="color", attributeValue="red", thingTypeName="lamp") == ["t3"]
    assert names(attributeName="color", attributeValue="red", usePrefixAttributeValue=True) == ["t0", "t3", "t1"]
    assert sorted(names(attributeName="color")) == ["t0", "t1", "t2", "t3", "t4"]
    assert names(attributeName="size", attributeValue="1") == []
    listed = pages(iot.list_things, "things", size)[3]
    assert listed == {
        "thingName": "t3",
        "thingTypeName": "lamp",
        "thingArn": tenant.arn("thing/t3"),
        "attributes": {"color": "red"},
        "version": 1,
    }
    assert refusal(iot.list_things, attributeValue="red") == (
        *INVALID,
        "attributeName is required along with attributeValue",
    )


def test_a_page_holds_25_unless_asked_otherwise(tenant: Tenant) -> None:
    for number in range(27):
        tenant.iot.create_thing(thingName=f"t{number}")
    page = tenant.iot.list_things()
    assert len(page["things"]) == 25
    assert len(tenant.iot.list_things(nextToken=page["nextToken"])["things"]) == 2
    paginator = tenant.iot.get_paginator("list_things")
    assert sum(len(page["things"]) for page in paginator.paginate(PaginationConfig={"PageSize": 10})) == 27


# -- principals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3])
def test_principals(tenant: Tenant, size: int) -> None:
    iot = tenant.iot
    for name in ("a", "b", "c"):
        iot.create_thing(thingName=name)
    shared, own = tenant.certificate(), tenant.certificate()
    for name in ("a", "b", "c", "a"):
        iot.attach_thing_principal(thingName=name, principal=shared)
    iot.attach_thing_principal(thingName="a", principal=own, thingPrincipalType="EXCLUSIVE_THING")
    assert pages(iot.list_thing_principals, "principals", size, thingName="a") == sorted([shared, own])
    assert pages(iot.list_principal_things, "things", size, principal=shared) == ["a", "b", "c"]
    assert pages(iot.list_principal_things, "things", size, principal=own) == ["a"]
    v2 = pages(iot.list_thing_principals_v2, "thingPrincipalObjects", size, thingName="a")
    assert {one["principal"]: one["thingPrincipalType"] for one in v2} == {
        shared: "NON_EXCLUSIVE_THING",
        own: "EXCLUSIVE_THING",
    }
    for type, principals in (("EXCLUSIVE_THING", [own]), ("NON_EXCLUSIVE_THING", [shared])):
        wanted = {"thingName": "a", "thingPrincipalType": type}
        v2 = pages(iot.list_thing_principals_v2, "thingPrincipalObjects", size, **wanted)
        assert [one["principal"] for one in v2] == principals
    of_own = pages(iot.list_principal_things_v2, "principalThingObjects", size, principal=own)
    assert of_own == [{"thingName": "a", "thingPrincipalType": "EXCLUSIVE_THING"}]
    wanted = {"principal": shared, "thingPrincipalType": "EXCLUSIVE_THING"}
    assert pages(iot.list_principal_things_v2, "principalThingObjects", size, **wanted) == []
    iot.detach_thing_principal(thingName="a", principal=shared)
    assert pages(iot.list_thing_principals, "principals", size, thingName="a") == [own]


def test_refused_attachments(tenant: Tenant) -> None:
    iot = tenant.iot
    for name in ("a", "b"):
        iot.create_thing(thingName=name)
    principal = tenant.certificate()
    attach, detach = iot.attach_thing_principal, iot.detach_thing_principal
    unknown = tenant.arn(UNKNOWN)
    foreign = principal.replace(tenant.number, "999999999999")
    for call in (attach, detach):
        assert refusal(call, thingName="none", principal=principal) == (*NOT_FOUND, "thing none does not exist")
        assert refusal(call, thingName="a", principal=unknown)[:2] == NOT_FOUND
        assert refusal(call, thingName="a", principal=foreign)[:2] == NOT_FOUND
        assert refusal(call, thingName="a", principal=principal.replace("us-east-1", "eu-west-1"))[:2] == NOT_FOUND
    assert refusal(detach, thingName="a", principal=principal)[:2] == NOT_FOUND
    for bad in ("us-east-1:cognito", "x", tenant.arn("thing/a"), tenant.arn("cert/xyz"), principal + "0", "x" * 9999):
        for call in (attach, detach):
            assert refusal(call, thingName="a", principal=bad)[:2] == INVALID
        assert refusal(iot.list_principal_things, principal=bad)[:2] == INVALID
    assert refusal(iot.list_thing_principals, thingName="none")[:2] == NOT_FOUND
    assert refusal(iot.list_principal_things_v2, principal=unknown)[:2] == NOT_FOUND
    upper = tenant.arn(f"cert/{principal.partition('/')[2].upper()}")
    attach(thingName="a", principal=upper, thingPrincipalType="EXCLUSIVE_THING")
    assert iot.list_principal_things(principal=principal)["things"] == ["a"]
    for type in ({}, {"thingPrincipalType": "EXCLUSIVE_THING"}, {"thingPrincipalType": "NON_EXCLUSIVE_THING"}):
        assert refusal(attach, thingName="b", principal=principal, **type)[:2] == INVALID
    attach(thingName="a", principal=principal)
    shared = refusal(attach, thingName="a", principal=principal, thingPrincipalType="NON_EXCLUSIVE_THING")
    assert shared[:2] == INVALID
    path = "/things/a/principals?thingPrincipalType=NAME"
    answer = tenant.signer.send("PUT", path, headers={"x-amzn-principal": principal})
    assert (answer.status, answer.aws_code) == INVALID


def test_what_is_attached_cannot_be_deleted(tenant: Tenant) -> None:
    iot = tenant.iot
    iot.create_thing(thingName="t")
    principal = tenant.certificate()
    id = principal.partition("/")[2]
    iot.attach_thing_principal(thingName="t", principal=principal)
    assert refusal(iot.delete_thing, thingName="t") == (
        *INVALID,
        "Cannot delete. Thing t is still attached to one or more principals",
    )
    for force in (False, True):
        assert refusal(iot.delete_certificate, certificateId=id, forceDelete=force) == (
            409,
            "DeleteConflictException",
            f"Things must be detached before deletion (arn: {principal})",
        )
    iot.detach_thing_principal(thingName="t", principal=principal)
    iot.delete_certificate(certificateId=id)
    iot.delete_thing(thingName="t")


# -- who may, and who sees ----------------------------------------------------------------------------------------


def test_two_accounts(new_tenant: Callable[[], Tenant]) -> None:
    mine, theirs = new_tenant(), new_tenant()
    for tenant in (mine, theirs):
        tenant.iot.create_thing_type(thingTypeName="lamp")
        for name in ("a", "b"):
            tenant.iot.create_thing(thingName=name, attributePayload={"attributes": {"of": tenant.number}})
    theirs.iot.create_thing(thingName="theirs", thingTypeName="lamp")
    theirs.iot.create_thing_type(thingTypeName="secret")
    principal = theirs.certificate()
    theirs.iot.attach_thing_principal(thingName="a", principal=principal)
    iot = mine.iot
    for call in (iot.describe_thing, iot.update_thing, iot.list_thing_principals, iot.list_thing_groups_for_thing):
        assert refusal(call, thingName="theirs") == (*NOT_FOUND, "thing theirs does not exist")
    iot.delete_thing(thingName="theirs")
    assert theirs.iot.describe_thing(thingName="theirs")["version"] == 1
    assert refusal(iot.attach_thing_principal, thingName="a", principal=principal)[:2] == NOT_FOUND
    assert refusal(iot.list_principal_things, principal=principal)[:2] == NOT_FOUND
    assert refusal(iot.create_thing, thingName="c", thingTypeName="secret")[:2] == NOT_FOUND
    assert refusal(iot.add_thing_to_thing_group, thingArn=theirs.arn("thing/a"), thingGroupName="g")[:2] == NOT_FOUND
    assert [thing["thingName"] for thing in iot.list_things()["things"]] == ["a", "b"]
    assert iot.list_things(attributeName="of", attributeValue=theirs.number)["things"] == []
    assert iot.list_thing_principals(thingName="a")["principals"] == []
    token = theirs.iot.list_things(maxResults=1)["nextToken"]
    assert refusal(iot.list_things, maxResults=1, nextToken=token) == (
        *INVALID,
        "nextToken is not one that this list returned",
    )
    iot.delete_thing(thingName="a")
    assert described(theirs.iot, "a")["attributes"] == {"of": theirs.number}


def test_policies_are_about_the_thing(server: RunningServer) -> None:
    operator = Operator(server)
    account = operator.ask("account.list")[0]["id"]
    own = f"arn:aws:iot:us-east-1:{account}:thing/policy-test-*"
    with operator.iot_of(allow(["iot:CreateThing", "iot:DescribeThing", "iot:DeleteThing"], own)) as iot:
        iot.create_thing(thingName="policy-test-1")
        assert described(iot, "policy-test-1")["version"] == 1
        for call in (iot.create_thing, iot.describe_thing, iot.delete_thing):
            assert refusal(call, thingName="other")[:2] == (403, "AccessDeniedException")
        for call, arguments in (
            (iot.list_things, {}),
            (iot.update_thing, {"thingName": "policy-test-1"}),
            (iot.attach_thing_principal, {"thingName": "policy-test-1", "principal": "x"}),
        ):
            assert refusal(call, **arguments)[:2] == (403, "AccessDeniedException")
        iot.delete_thing(thingName="policy-test-1")
