"""What devices may do, without a connection: TestAuthorization and GetEffectivePolicies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.world import OURS, THEIRS
from thingmint.domain.errors import Invalid, NotFound
from thingmint.domain.policies import Deny
from thingmint.services.compiled_policies import PolicySet
from thingmint.services.device_decisions import Question, answer
from thingmint.services.device_permissions import DeviceContext, DevicePermissions

if TYPE_CHECKING:
    from tests.world import World

BASE = f"arn:aws:iot:{OURS.region}:{OURS.account}:"


def statement(effect: str, action: str, resource: str, **further: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": f"iot:{action}", "Resource": f"{BASE}{resource}", **further}


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


async def policy(world: World, name: str, *statements: dict[str, Any], to: str | None = None) -> None:
    await world.aws("CreatePolicy", policyName=name, policyDocument=document(*statements))
    if to is not None:
        await world.aws("AttachPolicy", policyName=name, target=to)


async def fleet(world: World) -> str:
    """A lamp whose certificate and groups have a policy each. Returns the certificate's ARN."""
    certificate = f"{BASE}cert/{await world.certificate()}"
    for group, parent in (("root", {}), ("leaf", {"parentGroupName": "root"})):
        await world.aws("CreateThingGroup", thingGroupName=group, **parent)
    await world.aws("CreateThing", thingName="lamp", attributePayload={"attributes": {"room": "hall"}})
    await world.aws("AddThingToThingGroup", thingGroupName="leaf", thingName="lamp")
    await world.aws("AttachThingPrincipal", thingName="lamp", principal=certificate)
    await policy(world, "own", statement("Allow", "Connect", "client/${iot:ClientId}"), to=certificate)
    topic = "topic/${iot:Connection.Thing.ThingName}/*"
    await policy(world, "root", statement("Allow", "Publish", topic), to=f"{BASE}thinggroup/root")
    await policy(world, "leaf", statement("Deny", "Publish", "topic/lamp/secret"), to=f"{BASE}thinggroup/leaf")
    return certificate


async def asked(world: World, action: str, *resources: str, **members: Any) -> dict[str, Any]:
    info = {"actionType": action, "resources": [f"{BASE}{resource}" for resource in resources]}
    (result,) = (await world.aws("TestAuthorization", authInfos=[info], **members))["authResults"]
    assert result.pop("authInfo") == info
    return result  # type: ignore[no-any-return]


def names(policies: list[dict[str, str]]) -> list[str]:
    assert all(each["policyArn"] == f"{BASE}policy/{each['policyName']}" for each in policies)
    return [each["policyName"] for each in policies]


def parts(result: dict[str, Any]) -> tuple[str, list[str], list[str], list[str]]:
    """The decision, and the policies that allow, deny, and do neither."""
    denied = result["denied"]
    return (
        result["authDecision"],
        names(result["allowed"]["policies"]),
        names(denied["explicitDeny"]["policies"]),
        names(denied["implicitDeny"]["policies"]),
    )


@pytest.mark.parametrize(
    ("action", "resources", "expected"),
    [
        ("CONNECT", ["client/lamp"], ("ALLOWED", ["own"], [], ["leaf", "root"])),
        ("CONNECT", ["client/other"], ("IMPLICIT_DENY", [], [], ["leaf", "own", "root"])),
        ("PUBLISH", ["topic/lamp/up"], ("ALLOWED", ["root"], [], ["leaf", "own"])),
        ("PUBLISH", ["topic/lamp/secret"], ("EXPLICIT_DENY", ["root"], ["leaf"], ["own"])),
        ("PUBLISH", ["topic/other/up"], ("IMPLICIT_DENY", [], [], ["leaf", "own", "root"])),
        ("RECEIVE", ["topic/lamp/up"], ("IMPLICIT_DENY", [], [], ["leaf", "own", "root"])),
        ("PUBLISH", ["topic/lamp/a", "topic/lamp/b"], ("ALLOWED", ["root"], [], ["leaf", "own"])),
        ("PUBLISH", ["topic/lamp/a", "topic/x"], ("IMPLICIT_DENY", ["root"], [], ["leaf", "own", "root"])),
        ("PUBLISH", ["topic/x", "topic/lamp/secret"], ("EXPLICIT_DENY", ["root"], ["leaf"], ["leaf", "own", "root"])),
        # No packet of a device can have these names.
        ("PUBLISH", ["topic/lamp/+"], ("IMPLICIT_DENY", ["root"], [], ["leaf", "own"])),
        ("PUBLISH", ["topic/lamp/" + "x" * 252], ("IMPLICIT_DENY", ["root"], [], ["leaf", "own"])),
        ("PUBLISH", ["topic/"], ("IMPLICIT_DENY", [], [], ["leaf", "own", "root"])),
    ],
)
async def test_decisions(world: World, action: str, resources: list[str], expected: Any) -> None:
    principal = await fleet(world)
    result = await asked(world, action, *resources, principal=principal, clientId="lamp")
    assert parts(result) == expected
    assert result["missingContextValues"] == []


async def test_facts_that_only_a_connection_has_are_named_as_missing(world: World) -> None:
    principal = f"{BASE}cert/{await world.certificate()}"
    conditions = {
        "IpAddress": {"aws:SourceIp": "192.0.2.0/24"},
        "ForAnyValue:StringEquals": {"iot:ConnectAttributes": ["LastWill"]},
        "StringEquals": {"iot:DomainName": "${iot:Colour}"},
        "DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"},
    }
    client = "client/${iot:ClientId}-${iot:Connection.Thing.ThingName}-${iot:Certificate.Subject.Country, 'none'}"
    await policy(world, "p", statement("Allow", "Connect", client, Condition=conditions), to=principal)
    connect = await asked(world, "CONNECT", "client/a", principal=principal)
    assert connect["authDecision"] == "IMPLICIT_DENY"
    assert sorted(connect["missingContextValues"]) == [
        "aws:SourceIp",
        "iot:ClientId",
        "iot:Colour",
        "iot:ConnectAttributes",
        "iot:Connection.Thing.ThingName",
        "iot:DomainName",
    ]
    with_client = await asked(world, "CONNECT", "client/a", principal=principal, clientId="a")
    assert "iot:ClientId" not in with_client["missingContextValues"]
    publish = await asked(world, "PUBLISH", "topic/a", principal=principal)
    assert publish["missingContextValues"] == []  # no statement names the action


async def test_policies_are_added_and_skipped(world: World) -> None:
    principal = await fleet(world)
    await policy(world, "more", statement("Allow", "Receive", "topic/*"))
    here: dict[str, Any] = {"principal": principal, "clientId": "lamp"}
    assert parts(await asked(world, "RECEIVE", "topic/x", **here, policyNamesToAdd=["more"]))[:2] == (
        "ALLOWED",
        ["more"],
    )
    secret = await asked(world, "PUBLISH", "topic/lamp/secret", **here, policyNamesToSkip=["leaf", "more"])
    assert parts(secret) == ("ALLOWED", ["root"], [], ["own"])
    both = {"policyNamesToAdd": ["leaf"], "policyNamesToSkip": ["leaf"]}
    assert parts(await asked(world, "PUBLISH", "topic/lamp/secret", **here, **both))[0] == "ALLOWED"
    for member in both:
        with pytest.raises(NotFound):
            await asked(world, "PUBLISH", "topic/x", **here, **{member: ["none"]})
    assert await world.count("device_policy_attachments") == 3


INFO = {"actionType": "PUBLISH", "resources": [f"{BASE}topic/a"]}


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({}, "principal"),
        ({"cognitoIdentityPoolId": "us-east-1:x"}, "cognitoIdentityPoolId"),
        ({"principal": "us-east-1:x"}, "principal"),
        ({"principal": f"{BASE}thinggroup/g"}, "principal"),
        ({"authInfos": [{"resources": [f"{BASE}topic/a"]}]}, "authInfos.1.member.actionType"),
        ({"authInfos": [INFO, {**INFO, "resources": []}]}, "authInfos.2.member.resources"),
        ({"authInfos": [{**INFO, "actionType": "SUBSCRIBE"}]}, "authInfos.1.member.resources.1.member"),
        ({"authInfos": [{**INFO, "resources": [f"{BASE}topic/a", "*"]}]}, "authInfos.1.member.resources.2.member"),
        ({"authInfos": [{**INFO, "resources": [f"{BASE}topic/a"] * 101}]}, "authInfos"),
        ({"principal": f"{BASE}cert/{'a' * 64}", "policyNamesToAdd": ["p"] * 101}, "policyNamesToAdd"),
    ],
)
async def test_inputs_that_are_refused(world: World, members: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        await world.aws("TestAuthorization", **{"authInfos": [INFO], **members})
    assert caught.value.field == field


async def test_a_pool_is_ignored_with_a_certificate(world: World) -> None:
    principal = await fleet(world)
    result = await asked(
        world, "CONNECT", "client/lamp", principal=principal, clientId="lamp", cognitoIdentityPoolId="x"
    )
    assert result["authDecision"] == "ALLOWED"


async def test_other_accounts_find_nothing(world: World) -> None:
    principal = await fleet(world)
    theirs = principal.replace(OURS.account, THEIRS.account)
    info = {**INFO, "resources": [f"arn:aws:iot:{THEIRS.region}:{THEIRS.account}:topic/a"]}
    for name in (principal, theirs):
        with pytest.raises(NotFound):
            await world.aws("TestAuthorization", THEIRS, authInfos=[info], principal=name)
        with pytest.raises(NotFound):
            await world.aws("GetEffectivePolicies", THEIRS, principal=name)
    with pytest.raises(NotFound):
        await world.aws("GetEffectivePolicies", THEIRS, thingName="lamp")
    with pytest.raises(Invalid):  # the resources are another account's
        await world.aws("TestAuthorization", THEIRS, authInfos=[INFO], principal=theirs)


async def effective(world: World, **members: Any) -> list[str]:
    found = (await world.aws("GetEffectivePolicies", **members))["effectivePolicies"]
    for each in found:
        shown = await world.aws("GetPolicy", policyName=each["policyName"])
        assert each["policyDocument"] == shown["policyDocument"]
    return names(found)


async def test_effective_policies(world: World) -> None:
    principal = await fleet(world)
    await world.aws("CreateThing", thingName="other")
    assert await effective(world, principal=principal, thingName="lamp") == ["leaf", "own", "root"]
    assert await effective(world, principal=principal) == ["own"]  # no client id names the thing
    assert await effective(world, principal=principal, thingName="other") == ["own"]  # it is not attached
    assert await effective(world, thingName="lamp") == ["leaf", "root"]
    assert await effective(world, thingName="other") == []
    assert await effective(world, principal=f"{BASE}thinggroup/leaf") == ["leaf", "root"]
    assert await effective(world, principal=f"{BASE}thinggroup/root") == ["root"]
    assert await effective(world, principal=f"{BASE}thinggroup/root", thingName="lamp") == ["leaf", "root"]
    later = document(statement("Deny", "*", "topic/*"))
    await world.aws("CreatePolicyVersion", policyName="own", policyDocument=later, setAsDefault=True)
    shown = await world.aws("GetEffectivePolicies", principal=principal)
    assert shown["effectivePolicies"][0]["policyDocument"] == later
    for missing in (
        {"principal": f"{BASE}cert/{'a' * 64}"},
        {"thingName": "none"},
        {"principal": f"{BASE}thinggroup/x"},
    ):
        with pytest.raises(NotFound):
            await effective(world, **missing)
    with pytest.raises(Invalid):
        await effective(world)


async def test_groups_of_an_exclusive_thing_count_without_its_name(world: World) -> None:
    principal = await fleet(world)
    await world.aws("DetachThingPrincipal", thingName="lamp", principal=principal)
    exclusive = {"thingName": "lamp", "principal": principal, "thingPrincipalType": "EXCLUSIVE_THING"}
    await world.aws("AttachThingPrincipal", **exclusive)
    assert await effective(world, principal=principal) == ["leaf", "own", "root"]


@pytest.mark.parametrize(
    ("question", "why"),
    [
        (Question("Connect", ""), "a client id has 1 to 128 bytes"),
        (Question("Connect", "é" * 65), "a client id has 1 to 128 bytes"),
        (Question("Connect", "a+b"), "the client id has one of * $ + ? #"),
        (Question("Publish", "a/#"), "a topic is not empty"),
        (Question("Publish", "a/b/c/d/e/f/g/h/i"), "it has more than 256 bytes or 7 slashes"),
        (Question("Publish", "$SYS/x"), "the topic is reserved"),
        (Question("Subscribe", "a#"), "the topic filter is not well-formed"),
        (Question("Subscribe", "$share/g/$SYS/x"), "topic filters that begin with $ are reserved"),
        (Question("Receive", "+"), "a topic is not empty"),
    ],
)
def test_names_that_no_policy_can_allow(question: Question, why: str) -> None:
    everything = {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}
    permissions = DevicePermissions(PolicySet(OURS, [("all", document(everything))]), {}, lambda: None)  # type: ignore[arg-type,return-value]
    found = answer(permissions, question, DeviceContext(None, None, None))
    assert found.reserved
    assert isinstance(found.decision, Deny)
    assert str(found.decision).startswith(why)
