"""AWS IoT's 17 operations on device policies: documents, versions and attachments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.world import ABROAD, OURS, THEIRS, pages
from thingmint.domain.errors import (
    AlreadyExists,
    Conflict,
    Disallowed,
    Invalid,
    LimitExceeded,
    MalformedPolicy,
    NotFound,
)
from thingmint.services import pages as services_pages
from thingmint.services.device_policies import Target, parse_target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.world import World
    from thingmint.domain.arns import Scope

P = {"policyName": "p"}
ID = "0123456789abcdef" * 4
NO_GROUP = "arn:aws:iot:us-east-1:111111111111:thinggroup/g"
NO_CERT = f"arn:aws:iot:us-east-1:111111111111:cert/{ID}"


def document(topic: str = "*") -> str:
    statement = {"Effect": "Allow", "Action": "iot:Publish", "Resource": f"arn:aws:iot:us-east-1:1:topic/{topic}"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def document_of_size(size: int) -> str:
    """Return a document with that many characters, not counting its white space."""
    statement = {"Effect": "Deny", "Action": "*", "Resource": "arn:"}
    text = json.dumps({"Version": "2012-10-17", "Statement": statement})
    counted = len("".join(text.split()))
    return text.replace("arn:", "arn:" + "x" * (size - counted)).replace(", ", ",\r\n\t  ")


async def create(world: World, *names: str, scope: Scope = OURS) -> None:
    """Create policies of different ages, the first one the oldest."""
    for name in names:
        world.clock.advance(seconds=1)
        await world.aws("CreatePolicy", scope, policyName=name, policyDocument=document(name))


async def create_version(world: World, *, default: bool = False) -> None:
    await world.aws("CreatePolicyVersion", **P, policyDocument=document(), setAsDefault=default)


async def new_cert(world: World, scope: Scope = OURS) -> str:
    """Return the ARN of a new certificate."""
    return Target("cert", await world.certificate(scope)).arn(scope)


async def new_group(world: World, name: str = "g", parent: str | None = None, scope: Scope = OURS) -> str:
    above = {"parentGroupName": parent} if parent else {}
    made = await world.aws("CreateThingGroup", scope, thingGroupName=name, **above)
    return str(made["thingGroupArn"])


async def attach(world: World, name: str, *targets: str, scope: Scope = OURS) -> None:
    for target in targets:
        await world.aws("AttachPolicy", scope, policyName=name, target=target)


async def attached(world: World, target: str, scope: Scope = OURS, **more: Any) -> list[str]:
    answer = await world.aws("ListAttachedPolicies", scope, target=target, **more)
    return [policy["policyName"] for policy in answer["policies"]]


async def targets_of(world: World, name: str = "p", scope: Scope = OURS) -> list[str]:
    answer = await world.aws("ListTargetsForPolicy", scope, policyName=name)
    found: list[str] = answer["targets"]
    return found


async def versions(world: World) -> list[tuple[str, bool]]:
    answer = await world.aws("ListPolicyVersions", **P)
    return [(version["versionId"], version["isDefaultVersion"]) for version in answer["policyVersions"]]


# -- documents and versions ---------------------------------------------------------------------------------------


async def test_a_new_policy_is_described_as_sent(world: World) -> None:
    statement = '{"Effect":"Allow",\t"Action":"iot:*","Resource":"*", "Sid":"é"}'
    text = f' {{\n"Version": "2012-10-17","Statement": {statement} }}\r\n'
    arn = "arn:aws:iot:us-east-1:111111111111:policy/p"
    created = await world.aws("CreatePolicy", **P, policyDocument=text)
    assert created == {**P, "policyArn": arn, "policyDocument": text, "policyVersionId": "1"}
    described = await world.aws("GetPolicy", **P)
    assert len(described.pop("generationId")) == 36
    assert described == {
        **P,
        "policyArn": arn,
        "policyDocument": text,
        "defaultVersionId": "1",
        "creationDate": world.clock.now,
        "lastModifiedDate": world.clock.now,
    }


async def test_a_new_version_is_described_as_sent(world: World) -> None:
    await create(world, "p")
    policy = await world.aws("GetPolicy", **P)
    world.clock.advance(seconds=5)
    arn = {"policyArn": "arn:aws:iot:us-east-1:111111111111:policy/p"}
    second = {"policyVersionId": "2", "isDefaultVersion": False, "policyDocument": document("two")}
    assert await world.aws("CreatePolicyVersion", **P, policyDocument=document("two")) == {**arn, **second}
    described = await world.aws("GetPolicyVersion", **P, policyVersionId="2")
    assert described.pop("generationId") not in (None, policy["generationId"])
    assert described == {
        **P,
        **arn,
        **second,
        "creationDate": world.clock.now,
        "lastModifiedDate": world.clock.now,
    }


async def test_a_new_version_becomes_the_default_on_request(world: World) -> None:
    await create(world, "p")
    created_at = world.clock.now
    for default, current in ((False, document("p")), (True, document())):
        world.clock.advance(seconds=5)
        await create_version(world, default=default)
        policy = await world.aws("GetPolicy", **P)
        assert (policy["policyDocument"], policy["creationDate"]) == (current, created_at)
        assert policy["lastModifiedDate"] == world.clock.now
    assert await versions(world) == [("3", True), ("2", False), ("1", False)]
    version = await world.aws("GetPolicyVersion", **P, policyVersionId="3")
    assert version["isDefaultVersion"]


async def test_versions_are_listed_with_dates_newest_first(world: World) -> None:
    await create(world, "p")
    first = world.clock.now
    world.clock.advance(seconds=5)
    await create_version(world)
    assert await world.aws("ListPolicyVersions", **P) == {
        "policyVersions": [
            {"versionId": "2", "isDefaultVersion": False, "createDate": world.clock.now},
            {"versionId": "1", "isDefaultVersion": True, "createDate": first},
        ]
    }


async def test_setting_the_default_version_again_changes_nothing(world: World) -> None:
    await create(world, "p")
    await create_version(world)
    world.clock.advance(seconds=5)
    changed_at = world.clock.now
    for _ in range(2):
        await world.aws("SetDefaultPolicyVersion", **P, policyVersionId="2")
        policy = await world.aws("GetPolicy", **P)
        assert (policy["defaultVersionId"], policy["lastModifiedDate"]) == ("2", changed_at)
        world.clock.advance(seconds=5)


async def test_the_number_of_a_deleted_version_is_not_used_again(world: World) -> None:
    await create(world, "p")
    await create_version(world)
    world.clock.advance(seconds=5)
    await world.aws("DeletePolicyVersion", **P, policyVersionId="2")
    assert await versions(world) == [("1", True)]
    assert (await world.aws("GetPolicy", **P))["lastModifiedDate"] == world.clock.now
    await create_version(world)
    assert await versions(world) == [("3", False), ("1", True)]


@pytest.mark.parametrize("operation", ["GetPolicyVersion", "DeletePolicyVersion", "SetDefaultPolicyVersion"])
async def test_versions_that_do_not_exist_are_not_found(world: World, operation: str) -> None:
    await create(world, "p")
    await create_version(world)
    for number in ("3", "0", "01", "9" * 18, "9" * 19, "9" * 5000):
        with pytest.raises(NotFound, match=f"^policy version p/{number} does not exist$"):
            await world.aws(operation, **P, policyVersionId=number)


async def test_a_policy_has_at_most_five_versions(world: World) -> None:
    await create(world, "p")
    for _ in range(4):
        await create_version(world)
    before = await versions(world)
    with pytest.raises(LimitExceeded, match=r"A policy can have at most 5 versions \(name=p\)") as refused:
        await create_version(world, default=True)
    assert refused.value.kind == "policy version"
    assert await versions(world) == before
    await world.aws("DeletePolicyVersion", **P, policyVersionId="5")
    await create_version(world)
    assert (await versions(world))[0] == ("6", False)


async def test_the_default_version_cannot_be_deleted(world: World) -> None:
    await create(world, "p")
    await create_version(world, default=True)
    with pytest.raises(Disallowed, match="Cannot delete the default version") as refused:
        await world.aws("DeletePolicyVersion", **P, policyVersionId="2")
    assert refused.value.kind == "policy version"
    await world.aws("DeletePolicyVersion", **P, policyVersionId="1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "document is not JSON"),
        ("{}", "Statement must be a statement or a list of them"),
        (document().replace("Allow", "Permit"), r"Statement[0].Effect must be Allow or Deny"),
        (document().replace('"Action"', '"Principal": "*", "Action"'), "Principal is only allowed in a trust policy"),
        (document_of_size(2049), "document must have at most 2048 characters, white space not counted"),
    ],
)
async def test_malformed_documents_are_refused(world: World, text: str, message: str) -> None:
    with pytest.raises(MalformedPolicy) as refused:
        await world.aws("CreatePolicy", **P, policyDocument=text)
    assert message in str(refused.value)
    await create(world, "p")
    with pytest.raises(MalformedPolicy):
        await world.aws("CreatePolicyVersion", **P, policyDocument=text, setAsDefault=True)
    assert await versions(world) == [("1", True)]


async def test_unknown_keys_are_accepted_with_a_warning(world: World) -> None:
    conditions = {"Bool": {"aws:MultiFactorAuthPresent": "true"}, "StringEquals": {"iot:ClientId": "a"}}
    statement = {"Effect": "Allow", "Action": "iot:*", "Resource": "*", "Condition": conditions}
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    with capture_logs() as logs:
        await world.aws("CreatePolicy", policyName="p", policyDocument=text)
        await world.aws("CreatePolicyVersion", policyName="p", policyDocument=text)
    logged = [{name: line[name] for name in ("event", "account", "policy", "keys")} for line in logs]
    expected = {"account": OURS.account, "policy": "p", "keys": "aws:MultiFactorAuthPresent"}
    assert logged == [{"event": "policy_uses_unknown_keys", **expected}] * 2


async def test_the_size_limit_ignores_white_space(world: World) -> None:
    text = document_of_size(2048)
    assert len(text) > 2060
    await world.aws("CreatePolicy", **P, policyDocument=text)
    assert (await world.aws("GetPolicy", **P))["policyDocument"] == text


async def test_names_are_unique_in_each_scope(world: World) -> None:
    for scope in (OURS, ABROAD, THEIRS):
        tags = [{"Key": "of", "Value": scope.region}]
        await world.aws("CreatePolicy", scope, **P, policyDocument=document(), tags=tags)
    made = await world.aws("GetPolicy", **P)
    with pytest.raises(AlreadyExists) as refused:
        await world.aws("CreatePolicy", **P, policyDocument=document("other"), tags=[{"Key": "of", "Value": "x"}])
    assert (refused.value.kind, refused.value.id, refused.value.arn) == ("policy", "p", made["policyArn"])
    assert await world.aws("GetPolicy", **P) == made
    kept = await world.rows("SELECT resource, key, value FROM tags WHERE account = $1 AND region = $2", *OURS)
    assert kept == [("policy/p", "of", "us-east-1")]


async def test_tags_are_checked_before_the_document(world: World) -> None:
    twice = [{"Key": "k", "Value": "v"}] * 2
    with pytest.raises(Invalid, match="tags must not have a key twice"):
        await world.aws("CreatePolicy", **P, policyDocument="{}", tags=twice)


# -- deleting -----------------------------------------------------------------------------------------------------


async def test_policies_with_attachments_or_versions_cannot_be_deleted(world: World) -> None:
    await create(world, "p")
    await create_version(world)
    target = await new_cert(world)
    await attach(world, "p", target)
    for reason in (
        "The policy cannot be deleted as the policy is attached to one or more principals (name=p)",
        "Cannot delete the policy because it has one or more policy versions attached to it (name=p)",
    ):
        with pytest.raises(Conflict) as refused:
            await world.aws("DeletePolicy", **P)
        assert (refused.value.kind, refused.value.reason) == ("policy", reason)
        await world.aws("DetachPolicy", **P, target=target)
    await world.aws("DeletePolicyVersion", **P, policyVersionId="2")
    await world.aws("DeletePolicy", **P)
    with pytest.raises(NotFound):
        await world.aws("GetPolicy", **P)


async def test_a_policy_is_deleted_with_its_tags_in_its_own_scope(world: World) -> None:
    for scope in (OURS, THEIRS):
        await world.aws("CreatePolicy", scope, **P, policyDocument=document(), tags=[{"Key": "k", "Value": "v"}])
    await world.aws("DeletePolicy", **P)
    assert await world.rows("SELECT account FROM tags") == [(THEIRS.account,)]
    await world.aws("GetPolicy", THEIRS, **P)


async def test_a_recreated_policy_has_a_new_generation(world: World) -> None:
    await create(world, "p")
    before = await world.aws("GetPolicy", **P)
    await world.aws("DeletePolicy", **P)
    await create(world, "p")
    after = await world.aws("GetPolicy", **P)
    assert after["generationId"] != before["generationId"]
    assert await versions(world) == [("1", True)]


def calls_that_need_the_policy(target: str) -> dict[str, dict[str, Any]]:
    return {
        "GetPolicy": {},
        "DeletePolicy": {},
        "CreatePolicyVersion": {"policyDocument": document(), "setAsDefault": True},
        "GetPolicyVersion": {"policyVersionId": "1"},
        "ListPolicyVersions": {},
        "DeletePolicyVersion": {"policyVersionId": "1"},
        "SetDefaultPolicyVersion": {"policyVersionId": "1"},
        "AttachPolicy": {"target": target},
        "AttachPrincipalPolicy": {"principal": target},
        "DetachPrincipalPolicy": {"principal": target},
        "ListTargetsForPolicy": {},
        "ListPolicyPrincipals": {},
    }


@pytest.mark.parametrize("scope", [THEIRS, ABROAD])
async def test_policies_exist_in_their_scope_only(world: World, scope: Scope) -> None:
    await create(world, "p")
    target = await new_cert(world)
    await attach(world, "p", target)
    before = await world.aws("GetPolicy", **P)
    for operation, members in calls_that_need_the_policy(Target("cert", ID).arn(scope)).items():
        with pytest.raises(NotFound, match="policy p does not exist"):
            await world.aws(operation, scope, **P, **members)
    await world.aws("DetachPolicy", scope, **P, target=target)
    assert (await world.aws("ListPolicies", scope))["policies"] == []
    assert await world.aws("GetPolicy", **P) == before
    assert await targets_of(world) == [target]


# -- attaching ----------------------------------------------------------------------------------------------------


async def test_attaching_and_detaching_again_changes_nothing(world: World) -> None:
    await create(world, "p")
    targets = [await new_cert(world), await new_group(world)]
    for target in targets:
        for _ in range(2):
            world.clock.advance(seconds=1)
            await attach(world, "p", target)
    assert await targets_of(world) == targets
    for target in targets:
        assert await attached(world, target) == ["p"]
        for _ in range(2):
            await world.aws("DetachPolicy", **P, target=target)
            assert await attached(world, target) == []
    assert await targets_of(world) == []


async def test_the_deprecated_operations_change_the_same_attachments(world: World) -> None:
    await create(world, "p")
    cert, group = await new_cert(world), await new_group(world)
    await attach(world, "p", group)
    for _ in range(2):
        await world.aws("AttachPrincipalPolicy", **P, principal=cert)
    listed = [{"policyName": "p", "policyArn": "arn:aws:iot:us-east-1:111111111111:policy/p"}]
    assert await world.aws("ListPrincipalPolicies", principal=cert) == {"policies": listed, "nextMarker": None}
    assert await world.aws("ListAttachedPolicies", target=cert) == {"policies": listed, "nextMarker": None}
    assert await world.aws("ListPolicyPrincipals", **P) == {"principals": [cert], "nextMarker": None}
    for _ in range(2):
        await world.aws("DetachPrincipalPolicy", **P, principal=cert)
    assert await targets_of(world) == [group]


@pytest.mark.parametrize(("target", "noun"), [(NO_CERT, "certificate"), (NO_GROUP, "thing group")])
async def test_targets_that_do_not_exist_are_not_found(world: World, target: str, noun: str) -> None:
    await create(world, "p")
    await new_group(world, "g", scope=THEIRS)
    for operation, members in (("AttachPolicy", P), ("ListAttachedPolicies", {})):
        with pytest.raises(NotFound) as refused:
            await world.aws(operation, **members, target=target)
        assert (refused.value.kind, refused.value.id) == (noun, target.rpartition("/")[2])
    assert await world.count("device_policy_attachments") == 0


async def test_principals_that_do_not_exist_are_not_found(world: World) -> None:
    await create(world, "p")
    for operation, members in (
        ("AttachPrincipalPolicy", P),
        ("DetachPrincipalPolicy", P),
        ("ListPrincipalPolicies", {}),
    ):
        with pytest.raises(NotFound, match=f"certificate {ID} does not exist"):
            await world.aws(operation, **members, principal=NO_CERT)


async def test_detaching_an_unknown_policy_or_target_is_no_error(world: World) -> None:
    elsewhere = NO_CERT.replace(OURS.account, THEIRS.account)
    for target in (NO_CERT, NO_GROUP, elsewhere):
        await world.aws("DetachPolicy", **P, target=target)
    assert await world.unchanged()


async def test_a_target_has_at_most_ten_policies(world: World) -> None:
    names = [f"p{number}" for number in range(11)]
    await create(world, *names)
    target, other = await new_cert(world), await new_cert(world)
    for name in names[:10]:
        await attach(world, name, target)
    with pytest.raises(LimitExceeded, match="A certificate can have at most 10 policies"):
        await attach(world, "p10", target)
    await attach(world, "p9", target)
    await attach(world, "p10", other)
    assert await attached(world, target) == names[:10]
    await world.aws("DetachPolicy", policyName="p0", target=target)
    await attach(world, "p10", target)


async def new_tree(world: World) -> tuple[str, dict[str, str]]:
    """Groups root <- middle <- leaf, root <- branch, root <- other, and side; the ARN of a certificate and theirs.

    One thing of the certificate is in leaf and side, another in branch. Each group has a policy of its name; the
    certificate has one of its own, which root has too.
    """
    groups = {}
    parents = {"root": None, "middle": "root", "leaf": "middle", "branch": "root", "other": "root", "side": None}
    for name, parent in parents.items():
        groups[name] = await new_group(world, name, parent)
        await create(world, name)
        await attach(world, name, groups[name])
    cert = await new_cert(world)
    for thing, of in (("t", ("leaf", "side")), ("u", ("branch",)), ("v", ("other",))):
        await world.aws("CreateThing", thingName=thing)
        for group in of:
            await world.aws("AddThingToThingGroup", thingName=thing, thingGroupName=group)
    for thing in ("t", "u"):
        await world.aws("AttachThingPrincipal", thingName=thing, principal=cert)
    await create(world, "own")
    await attach(world, "own", cert, groups["root"])
    return cert, groups


async def test_policies_of_the_groups_above_are_inherited(world: World) -> None:
    cert, groups = await new_tree(world)
    await new_group(world, "leaf", scope=THEIRS)
    await create(world, "theirs", scope=THEIRS)
    await attach(world, "theirs", groups["leaf"].replace(OURS.account, THEIRS.account), scope=THEIRS)
    inherited = {
        cert: ["root", "middle", "leaf", "branch", "side", "own"],
        groups["leaf"]: ["root", "middle", "leaf", "own"],
        groups["middle"]: ["root", "middle", "own"],
        groups["root"]: ["root", "own"],
        await new_cert(world): [],
    }
    for target, names in inherited.items():
        assert await attached(world, target, recursive=True) == names
    for target, names in ((cert, ["own"]), (groups["leaf"], ["leaf"]), (groups["root"], ["root", "own"])):
        assert await attached(world, target) == await attached(world, target, recursive=False) == names


async def test_the_deprecated_list_has_no_inherited_policies(world: World) -> None:
    cert, _ = await new_tree(world)
    assert await all_of(world, "ListPrincipalPolicies", "policies", 9, principal=cert) == ["own"]


async def test_a_group_with_the_name_of_a_certificate_is_another_target(world: World) -> None:
    cert, _ = await new_tree(world)
    group = await new_group(world, cert.rpartition("/")[2])
    await create(world, "p")
    await attach(world, "p", group)
    assert await attached(world, group, recursive=True) == ["p"]
    assert "p" not in await attached(world, cert, recursive=True)


async def test_a_circle_of_groups_does_not_loop(world: World) -> None:
    a = await new_group(world, "a")
    b = await new_group(world, "b", "a")
    await world.write(lambda tx: tx.execute("UPDATE thing_groups SET parent = 'b' WHERE name = 'a'"))
    await create(world, "p")
    await attach(world, "p", b)
    assert await attached(world, a, recursive=True) == ["p"]


# -- lists --------------------------------------------------------------------------------------------------------


async def all_of(world: World, operation: str, items: str, limit: int, **members: Any) -> list[Any]:
    async def page(paging: Mapping[str, Any]) -> Mapping[str, Any]:
        return await world.aws(operation, **members, **paging)

    found = await pages(page, items, limit, size="pageSize", token="marker", next_token="nextMarker")
    return [item["policyName"] if items == "policies" else item for item in found]


@pytest.mark.parametrize("limit", [1, 3, 6, 7, 100])
async def test_lists_have_every_item_once_by_age(world: World, limit: int) -> None:
    """Items with the same time are sorted by name."""
    cert = await new_cert(world)
    policies, targets = [], []
    for number in range(7):
        world.clock.advance(microseconds=number % 2)
        name = f"p{9 - number}"
        await world.aws("CreatePolicy", policyName=name, policyDocument=document())
        await attach(world, name, cert)
        await world.aws("CreatePolicy", THEIRS, policyName=f"{name}x", policyDocument=document())
        policies.append((world.clock.now, name))
    targets.append((world.clock.now, "cert", cert))
    for number in range(6):
        world.clock.advance(microseconds=number % 2)
        kind = "cert" if number % 3 else "thinggroup"
        target = await new_cert(world) if kind == "cert" else await new_group(world, f"g:{number}_-")
        await attach(world, "p3", target)
        targets.append((world.clock.now, kind, target))
    names = [name for _, name in sorted(policies)]
    places = {target: (time, kind) for time, kind, target in targets}
    certs = [target for target, (_, kind) in places.items() if kind == "cert"]
    for ascending, step in ((True, 1), (False, -1)):
        order = {"ascendingOrder": ascending}
        assert await all_of(world, "ListPolicies", "policies", limit, **order) == names[::step]
        of_cert = await all_of(world, "ListPrincipalPolicies", "policies", limit, principal=cert, **order)
        assert of_cert == names[::step]
        of_policy = await all_of(world, "ListPolicyPrincipals", "principals", limit, policyName="p3", **order)
        assert set(of_policy) == set(certs)
        assert [places[cert] for cert in of_policy] == sorted((places[cert] for cert in certs), reverse=not ascending)
    assert await all_of(world, "ListAttachedPolicies", "policies", limit, target=cert) == names
    listed = await all_of(world, "ListTargetsForPolicy", "targets", limit, policyName="p3")
    assert set(listed) == set(places)
    assert [places[target] for target in listed] == sorted(places.values())


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_a_list_of_inherited_policies_has_each_once(world: World, limit: int) -> None:
    cert, _ = await new_tree(world)
    listed = await all_of(world, "ListAttachedPolicies", "policies", limit, target=cert, recursive=True)
    assert listed == ["root", "middle", "leaf", "branch", "side", "own"]


async def test_lists_are_newest_first_by_default(world: World) -> None:
    await create(world, "p", "q")
    cert, other = await new_cert(world), await new_cert(world)
    await attach(world, "p", cert)
    await attach(world, "q", cert)
    world.clock.advance(seconds=1)
    await attach(world, "p", other)
    assert await all_of(world, "ListPolicies", "policies", 9) == ["q", "p"]
    assert await all_of(world, "ListPrincipalPolicies", "policies", 9, principal=cert) == ["q", "p"]
    assert await all_of(world, "ListPolicyPrincipals", "principals", 9, policyName="p") == [other, cert]


async def test_a_page_has_25_items_by_default(world: World) -> None:
    await create(world, *(f"p{number}" for number in range(26)))
    assert len((await world.aws("ListPolicies"))["policies"]) == 25


async def test_markers_are_valid_for_their_own_list_only(world: World) -> None:
    certs = [await new_cert(world) for _ in range(2)]
    for name in ("p", "q"):
        await create(world, name)
        await attach(world, name, *certs)
    await create(world, "p", scope=THEIRS)
    lists: list[tuple[Scope, str, dict[str, Any]]] = [
        (OURS, "ListPolicies", {"ascendingOrder": True}),
        (OURS, "ListPolicies", {"ascendingOrder": False}),
        (OURS, "ListPrincipalPolicies", {"principal": certs[0], "ascendingOrder": False}),
        (OURS, "ListAttachedPolicies", {"target": certs[0]}),
        (OURS, "ListAttachedPolicies", {"target": certs[0], "recursive": True}),
        (OURS, "ListAttachedPolicies", {"target": certs[1]}),
        (OURS, "ListTargetsForPolicy", {"policyName": "p"}),
        (OURS, "ListPolicyPrincipals", {"policyName": "p", "ascendingOrder": True}),
        (OURS, "ListTargetsForPolicy", {"policyName": "q"}),
    ]
    markers = [(await world.aws(name, scope, **members, pageSize=1))["nextMarker"] for scope, name, members in lists]
    lists.append((THEIRS, "ListPolicies", {"ascendingOrder": True}))
    for own, (scope, name, members) in enumerate(lists):
        for of, marker in enumerate(markers):
            if own == of:
                await world.aws(name, scope, **members, marker=marker)
            else:
                with pytest.raises(Invalid, match="marker is not one that this list returned"):
                    await world.aws(name, scope, **members, marker=marker)


async def test_markers_are_checked_before_the_listed_resource(world: World) -> None:
    for operation, members in (("ListAttachedPolicies", {"target": NO_CERT}), ("ListTargetsForPolicy", P)):
        with pytest.raises(Invalid, match="marker is not one"):
            await world.aws(operation, **members, marker="x")


async def test_a_page_of_certificates_ends_after_a_bounded_search(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy can be attached to very many groups, which the deprecated list leaves out."""
    monkeypatch.setattr(services_pages, "_BATCH", 2)
    monkeypatch.setattr(services_pages, "_MAX_READ", 4)
    await create(world, "p")
    for number in range(8):
        await attach(world, "p", await new_group(world, f"g{number}"))
    cert = await new_cert(world)
    world.clock.advance(seconds=1)
    await attach(world, "p", cert)
    sizes: list[int] = []
    marker: str | None = ""
    while marker is not None:
        page = await world.aws("ListPolicyPrincipals", policyName="p", ascendingOrder=True, marker=marker)
        sizes.append(len(page["principals"]))
        marker = page["nextMarker"]
    assert (sizes, page["principals"]) == ([0, 0, 1], [cert])


@pytest.mark.sqlite
async def test_statements_use_an_index(world: World) -> None:
    """They take the same time in a large store."""
    cert, groups = await new_tree(world)
    world.store.statements.clear()
    for limit in (1, 100):
        for ascending in (True, False):
            order = {"ascendingOrder": ascending}
            await all_of(world, "ListPolicies", "policies", limit, **order)
            await all_of(world, "ListPrincipalPolicies", "policies", limit, principal=cert, **order)
            await all_of(world, "ListPolicyPrincipals", "principals", limit, policyName="own", **order)
        for target in (cert, groups["leaf"]):
            await all_of(world, "ListAttachedPolicies", "policies", limit, target=target, recursive=True)
        await all_of(world, "ListTargetsForPolicy", "targets", limit, policyName="own")
    await attach(world, "leaf", cert)
    await world.aws("DetachPolicy", policyName="leaf", target=cert)
    await world.aws("DetachPolicy", policyName="leaf", target=groups["leaf"])
    await world.aws("DeletePolicy", policyName="leaf")
    plans = await world.query_plans()
    assert len(plans) > 20
    for sql, plan in plans.items():
        for step in plan:
            word, _, what = step.partition(" ")
            # p: at most 1,000 things of a certificate.
            assert word != "SCAN" or what in ("lineage", "attached", "p", "CONSTANT ROW"), (sql, plan)
            # Lists of a whole account read one page only, in its order.
            assert "(account=? AND region=?)" not in step or "_by_age" in step, (sql, plan)
            if sql.startswith("SELECT attached_at"):
                assert step != "USE TEMP B-TREE FOR ORDER BY", (sql, plan)


# -- audit and published changes ----------------------------------------------------------------------------------


async def test_changes_are_audited_and_published_if_they_concern_devices(world: World) -> None:
    cert, group = await new_cert(world), await new_group(world)
    fingerprint = cert.rpartition("/")[2]
    of_policy, of_cert, of_group = ("policy", "p"), ("certificate", fingerprint), ("thinggroup", "g")
    world.audit_resources(), await world.published()
    policy, with_cert, with_group = ["policy/p"], ["policy/p", f"cert/{fingerprint}"], ["policy/p", "thinggroup/g"]
    new = {"policyDocument": document()}
    steps: list[tuple[str, dict[str, Any], list[tuple[str, str]], list[str]]] = [
        ("CreatePolicy", new, [], policy),
        ("CreatePolicyVersion", new, [], policy),
        ("CreatePolicyVersion", {**new, "setAsDefault": True}, [of_policy], policy),
        ("SetDefaultPolicyVersion", {"policyVersionId": "1"}, [of_policy], policy),
        ("SetDefaultPolicyVersion", {"policyVersionId": "1"}, [], []),
        ("DeletePolicyVersion", {"policyVersionId": "2"}, [], policy),
        ("AttachPolicy", {"target": cert}, [of_cert], with_cert),
        ("AttachPolicy", {"target": cert}, [], []),
        ("AttachPolicy", {"target": group}, [of_group], with_group),
        ("DetachPolicy", {"target": group}, [of_group], with_group),
        ("DetachPolicy", {"target": group}, [], []),
        ("DetachPrincipalPolicy", {"principal": cert}, [of_cert], with_cert),
        ("DeletePolicyVersion", {"policyVersionId": "3"}, [], policy),
        ("DeletePolicy", {}, [of_policy], policy),
    ]
    for number, (operation, members, published, named) in enumerate(steps):
        await world.aws(operation, **P, **members)
        assert (number, await world.published(), world.audit_resources()) == (number, published, named)


async def test_refused_changes_are_not_published_or_audited(world: World) -> None:
    target = await new_cert(world)
    names = [f"p{number}" for number in range(11)]
    await create(world, *names)
    for name in names[:10]:
        await attach(world, name, target)
    world.audit_resources(), await world.published()
    with pytest.raises(LimitExceeded):
        await attach(world, "p10", target)
    with pytest.raises(Conflict):
        await world.aws("DeletePolicy", policyName="p1")
    assert await world.unchanged()


# -- parsing targets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "target"),
    [
        (f"cert/{ID}", Target("cert", ID)),
        (f"cert/{ID.upper()}", Target("cert", ID)),
        ("thinggroup/a:b_c-D9", Target("thinggroup", "a:b_c-D9")),
        (f"thinggroup/{'g' * 128}", Target("thinggroup", "g" * 128)),
    ],
)
def test_a_target_is_the_arn_of_a_certificate_or_a_group_of_the_same_scope(resource: str, target: Target) -> None:
    arn = f"arn:aws:iot:us-east-1:111111111111:{resource}"
    assert parse_target(arn, OURS, "target", "cert", "thinggroup") == target
    assert target.arn(OURS) == f"arn:aws:iot:us-east-1:111111111111:{target.kind}/{target.name}"
    for scope in (THEIRS, ABROAD):
        with pytest.raises(NotFound) as refused:
            parse_target(arn, scope, "target", "cert", "thinggroup")
        assert (refused.value.kind, refused.value.id) == (target.noun, target.name)


@pytest.mark.parametrize(
    "arn",
    [
        "",
        ID,
        "us-east-1:c1a2b3d4-0000-4000-8000-000000000000",  # an identity of Cognito, which this server does not have
        f"arn:aws:iot:us-east-1:111111111111:cert/{ID[:-1]}",
        f"arn:aws:iot:us-east-1:111111111111:cert/{ID}\n",
        f"arn:aws:iot:us-east-1:111111111111:cert/{ID}/x",
        f"arn:aws:iot:us-east-1:111111111111:cacert/{ID}",
        f"arn:aws:s3:us-east-1:111111111111:cert/{ID}",
        f"arn:aws-cn:iot:us-east-1:111111111111:cert/{ID}",
        "arn:aws:iot:us-east-1:111111111111:thinggroup/",
        "arn:aws:iot:us-east-1:111111111111:thinggroup/a b",
        f"arn:aws:iot:us-east-1:111111111111:thinggroup/{'g' * 129}",
        "arn:aws:iot:us-east-1:111111111111:thing/t",
    ],
)
async def test_other_targets_are_invalid(world: World, arn: str) -> None:
    with pytest.raises(Invalid) as refused:
        await world.aws("AttachPolicy", **P, target=arn)
    assert refused.value.field == "target"


async def test_a_group_is_not_a_principal(world: World) -> None:
    for operation in ("AttachPrincipalPolicy", "DetachPrincipalPolicy", "ListPrincipalPolicies"):
        with pytest.raises(Invalid, match=r"^x-amzn-iot-principal must be the ARN of a certificate$"):
            await world.aws(operation, **P, principal=NO_GROUP)
