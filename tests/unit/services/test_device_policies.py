"""Device policies, their versions, and what they are attached to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.services.door_support import ABROAD, OURS, THEIRS, UNKNOWN, House, document, in_house
from thingmint.domain.device_policies import Target, parse_target
from thingmint.domain.errors import (
    AlreadyExists,
    Conflict,
    Disallowed,
    Invalid,
    LimitExceeded,
    MalformedPolicy,
    NotFound,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from thingmint.domain.device_policies import TargetKind
    from thingmint.domain.registration import Scope
    from thingmint.services.device_policies import Page

ARN = "arn:aws:iot:us-east-1:111111111111:policy/"
LISTING: Any = {"limit": 250, "ascending": True, "marker": None}


def policy_of_size(size: int) -> str:
    """A document of that many characters, and white space besides."""
    statement = {"Effect": "Deny", "Action": "*", "Resource": "arn:"}
    text = json.dumps({"Version": "2012-10-17", "Statement": statement})
    counted = len("".join(text.split()))
    return text.replace("arn:", "arn:" + "x" * (size - counted)).replace(", ", ",\r\n\t  ")


# -- documents and versions ---------------------------------------------------------------------------------------


def test_a_policy_and_its_versions(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        statement = '{"Effect":"Allow",\t"Action":"iot:*","Resource":"*", "Sid":"é"}'
        text = f' {{\n"Version": "2012-10-17","Statement": {statement} }}\r\n'
        created_at = house.clock.now
        made = await house.policies.create(OURS, "p", text, tags={})
        assert (made.name, made.arn, made.default_version) == ("p", ARN + "p", 1)
        assert (made.created_at, made.modified_at) == (created_at, created_at)
        policy, version = await house.policies.get(OURS, "p")
        assert policy == made
        assert (version.number, version.document, version.created_at) == (1, text, created_at)

        house.clock.advance(seconds=5)
        policy, second = await house.policies.create_version(OURS, "p", document("two"), default=False)
        assert (second.number, policy.default_version, policy.modified_at) == (2, 1, house.clock.now)
        assert (await house.policies.get(OURS, "p"))[1] == version
        house.clock.advance(seconds=5)
        policy, third = await house.policies.create_version(OURS, "p", document("three"), default=True)
        assert (third.number, policy.default_version) == (3, 3)
        assert await house.policies.get(OURS, "p") == (policy, third)
        assert len({version.generation, second.generation, third.generation, policy.generation}) == 4
        assert (policy.generation, policy.created_at) == (made.generation, created_at)

        assert await house.policies.get_version(OURS, "p", "2") == (policy, second)
        assert await house.policies.list_versions(OURS, "p") == (policy, [third, second, version])

        house.clock.advance(seconds=5)
        await house.policies.set_default(OURS, "p", "2")
        policy, current = await house.policies.get(OURS, "p")
        assert (current, policy.modified_at) == (second, house.clock.now)
        house.clock.advance(seconds=5)
        await house.policies.set_default(OURS, "p", "2")
        assert (await house.policies.get(OURS, "p"))[0] == policy, "no change"

        await house.policies.delete_version(OURS, "p", "3")
        policy, versions = await house.policies.list_versions(OURS, "p")
        assert (versions, policy.modified_at) == ([second, version], house.clock.now)
        _, fourth = await house.policies.create_version(OURS, "p", document(), default=False)
        assert fourth.number == 4, "numbers are not used again"

    in_house(tmp_path, test)


@pytest.mark.parametrize("number", ["3", "0", "01", "9" * 18, "9" * 19, "9" * 5000])
def test_versions_that_are_not_there(tmp_path: Path, number: str) -> None:
    async def test(house: House) -> None:
        await house.policy("p")
        await house.policies.create_version(OURS, "p", document(), default=False)
        for call in (house.policies.get_version, house.policies.delete_version, house.policies.set_default):
            with pytest.raises(NotFound) as refused:
                await call(OURS, "p", number)
            assert refused.value.kind == "policy version"

    in_house(tmp_path, test)


def test_five_versions_at_most(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.policy("p")
        for _ in range(4):
            await house.policies.create_version(OURS, "p", document(), default=False)
        before = await house.policies.list_versions(OURS, "p")
        with pytest.raises(LimitExceeded) as refused:
            await house.policies.create_version(OURS, "p", document(), default=True)
        assert refused.value.kind == "policy version"
        assert await house.policies.list_versions(OURS, "p") == before
        await house.policies.delete_version(OURS, "p", "5")
        _, version = await house.policies.create_version(OURS, "p", document(), default=False)
        assert version.number == 6

    in_house(tmp_path, test)


def test_the_default_version_stays(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.policy("p")
        await house.policies.create_version(OURS, "p", document(), default=True)
        with pytest.raises(Disallowed) as refused:
            await house.policies.delete_version(OURS, "p", "2")
        assert (refused.value.kind, refused.value.reason) == (
            "policy version",
            "Cannot delete the default version of a policy",
        )
        await house.policies.delete_version(OURS, "p", "1")

    in_house(tmp_path, test)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "document is not JSON"),
        ("{}", "Statement must be a statement or a list of them"),
        (document().replace("Allow", "Permit"), r"Statement[0].Effect must be Allow or Deny"),
        (document().replace('"Action"', '"Principal": "*", "Action"'), "Principal is only allowed in a trust policy"),
        (policy_of_size(2049), "document must have at most 2048 characters, white space not counted"),
    ],
)
def test_what_is_no_policy(tmp_path: Path, text: str, message: str) -> None:
    async def test(house: House) -> None:
        with pytest.raises(MalformedPolicy) as refused:
            await house.policies.create(OURS, "p", text, tags={})
        assert message in str(refused.value)
        await house.policy("p")
        with pytest.raises(MalformedPolicy):
            await house.policies.create_version(OURS, "p", text, default=True)
        assert len((await house.policies.list_versions(OURS, "p"))[1]) == 1

    in_house(tmp_path, test)


def test_white_space_does_not_count(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        text = policy_of_size(2048)
        assert len(text) > 2060
        await house.policies.create(OURS, "p", text, tags={})
        assert (await house.policies.get(OURS, "p"))[1].document == text

    in_house(tmp_path, test)


def test_a_name_is_given_once_in_a_scope(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for scope in (OURS, ABROAD, THEIRS):
            await house.policies.create(scope, "p", document("first"), tags={"of": scope.region})
        with pytest.raises(AlreadyExists) as refused:
            await house.policies.create(OURS, "p", document("second"), tags={"of": "x", "another": "y"})
        assert (refused.value.kind, refused.value.id) == ("policy", "p")
        assert (await house.policies.get(OURS, "p"))[1].document == document("first")
        tags = await house.rows("SELECT resource, key, value FROM tags WHERE account = $1 AND region = $2", *OURS)
        assert tags == [("policy/p", "of", "us-east-1")]

    in_house(tmp_path, test)


def test_deleting(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        fingerprint = await house.certificate()
        target = Target("cert", fingerprint)
        for scope in (OURS, THEIRS):
            await house.policies.create(scope, "p", document(), tags={"k": "v"})
        await house.policies.create_version(OURS, "p", document(), default=False)
        await house.policies.attach(OURS, "p", target)
        for reason in (
            "The policy cannot be deleted as the policy is attached to one or more principals (name=p)",
            "Cannot delete the policy because it has one or more policy versions attached to it (name=p)",
        ):
            with pytest.raises(Conflict) as refused:
                await house.policies.delete(OURS, "p")
            assert (refused.value.kind, refused.value.reason) == ("policy", reason)
            await house.policies.detach(OURS, "p", target)
        generation = (await house.policies.get(OURS, "p"))[0].generation
        await house.policies.delete_version(OURS, "p", "2")
        await house.policies.delete(OURS, "p")
        with pytest.raises(NotFound):
            await house.policies.get(OURS, "p")
        assert await house.rows("SELECT account FROM tags") == [(THEIRS.account,)]
        await house.policy("p")
        policy, _ = await house.policies.get(OURS, "p")
        assert (policy.default_version, policy.generation == generation) == (1, False)

    in_house(tmp_path, test)


def calls(house: House, scope: Scope, name: str, target: Target) -> list[Callable[[], Awaitable[Any]]]:
    """Everything that needs the policy to be there."""
    policies = house.policies
    return [
        lambda: policies.get(scope, name),
        lambda: policies.delete(scope, name),
        lambda: policies.create_version(scope, name, document(), default=True),
        lambda: policies.get_version(scope, name, "1"),
        lambda: policies.list_versions(scope, name),
        lambda: policies.delete_version(scope, name, "1"),
        lambda: policies.set_default(scope, name, "1"),
        lambda: policies.attach(scope, name, target),
        lambda: policies.detach(scope, name, target, existing=True),
        lambda: policies.list_targets(scope, name, kind=None, **LISTING),
    ]


def test_another_scope_sees_nothing(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.policy("p")
        target = Target("cert", await house.certificate())
        await house.policies.attach(OURS, "p", target)
        before = await house.policies.get(OURS, "p")
        for scope in (THEIRS, ABROAD):
            for call in calls(house, scope, "p", target):
                with pytest.raises(NotFound) as refused:
                    await call()
                assert (refused.value.kind, refused.value.id) == ("policy", "p")
            await house.policies.detach(scope, "p", target)
            assert (await house.policies.list(scope, **LISTING)).items == []
            with pytest.raises(NotFound):
                await house.policies.list_attached(scope, target, inherited=True, **LISTING)
        assert await house.policies.get(OURS, "p") == before
        assert (await house.policies.list_targets(OURS, "p", kind=None, **LISTING)).items == [target]

    in_house(tmp_path, test)


# -- attaching ----------------------------------------------------------------------------------------------------


def test_attaching_and_detaching(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.policy("p")
        await house.group("g")
        targets = [Target("cert", await house.certificate()), Target("thinggroup", "g")]
        for target in targets:
            house.clock.advance(seconds=1)
            await house.policies.attach(OURS, "p", target)
            house.clock.advance(seconds=1)
            await house.policies.attach(OURS, "p", target)
        assert (await house.policies.list_targets(OURS, "p", kind=None, **LISTING)).items == targets
        for target in targets:
            listed = await house.policies.list_attached(OURS, target, inherited=False, **LISTING)
            assert listed.items == ["p"]
            for _ in range(2):
                await house.policies.detach(OURS, "p", target)
                await house.policies.detach(OURS, "p", target, existing=True)
            listed = await house.policies.list_attached(OURS, target, inherited=False, **LISTING)
            assert listed.items == []

    in_house(tmp_path, test)


@pytest.mark.parametrize(
    ("target", "noun"), [(Target("cert", UNKNOWN), "certificate"), (Target("thinggroup", "g"), "thing group")]
)
def test_targets_that_are_not_there(tmp_path: Path, target: Target, noun: str) -> None:
    async def test(house: House) -> None:
        await house.policy("p")
        await house.group("g", scope=THEIRS)
        for call in (
            lambda: house.policies.attach(OURS, "p", target),
            lambda: house.policies.detach(OURS, "p", target, existing=True),
            lambda: house.policies.list_attached(OURS, target, inherited=False, **LISTING),
        ):
            with pytest.raises(NotFound) as refused:
                await call()
            assert (refused.value.kind, refused.value.id) == (noun, target.name)
        await house.policies.detach(OURS, "p", target)
        await house.policies.detach(OURS, "q", target)
        assert await house.rows("SELECT * FROM device_policy_attachments") == []

    in_house(tmp_path, test)


def test_ten_policies_at_most(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        fingerprint = await house.certificate()
        target, other = Target("cert", fingerprint), Target("cert", await house.certificate())
        for number in range(11):
            await house.policy(f"p{number}")
        for number in range(10):
            await house.policies.attach(OURS, f"p{number}", target)
        with pytest.raises(LimitExceeded) as refused:
            await house.policies.attach(OURS, "p10", target)
        assert refused.value.reason == "A certificate can have at most 10 policies"
        await house.policies.attach(OURS, "p9", target)
        await house.policies.attach(OURS, "p10", other)
        listed = await house.policies.list_attached(OURS, target, inherited=False, **LISTING)
        assert len(listed.items) == 10
        await house.policies.detach(OURS, "p0", target)
        await house.policies.attach(OURS, "p10", target)

    in_house(tmp_path, test)


def test_policies_of_groups_are_inherited(tmp_path: Path) -> None:
    """root <- middle <- leaf, root <- side; the thing is in leaf and side, and the certificate is the thing's."""

    async def test(house: House) -> None:
        await house.group("root")
        await house.group("middle", "root")
        await house.group("leaf", "middle")
        await house.group("side", "root")
        await house.group("elsewhere", "root")
        await house.group("leaf", scope=THEIRS)
        await house.thing("t", "leaf", "side")
        await house.thing("stranger", "elsewhere")
        fingerprint, loose = await house.certificate(), await house.certificate()
        await house.principal("t", fingerprint)
        for group in ("elsewhere", "root", "middle", "leaf", "side"):
            await house.policy(f"of-{group}")
            await house.policies.attach(OURS, f"of-{group}", Target("thinggroup", group))
        await house.policy("of-leaf", THEIRS)
        await house.policies.attach(THEIRS, "of-leaf", Target("thinggroup", "leaf"))
        await house.policy("own")
        await house.policies.attach(OURS, "own", Target("cert", fingerprint))
        await house.policies.attach(OURS, "own", Target("thinggroup", "root"))  # twice, and listed once

        async def listed(target: Target, *, inherited: bool = True, **paging: Any) -> Page[str]:
            return await house.policies.list_attached(OURS, target, inherited=inherited, **LISTING | paging)

        root, middle, leaf = (Target("thinggroup", name) for name in ("root", "middle", "leaf"))
        certificate = Target("cert", fingerprint)
        assert (await listed(certificate, inherited=False)).items == ["own"]
        assert (await listed(certificate)).items == ["of-root", "of-middle", "of-leaf", "of-side", "own"]
        assert (await listed(Target("cert", loose))).items == []
        assert (await listed(leaf, inherited=False)).items == ["of-leaf"]
        assert (await listed(leaf)).items == ["of-root", "of-middle", "of-leaf", "own"]
        assert (await listed(middle)).items == ["of-root", "of-middle", "own"]
        assert (await listed(root)).items == ["of-root", "own"]
        pages = []
        page = await listed(certificate, limit=2, ascending=False)
        while page.next_marker:
            pages.append(page.items)
            page = await listed(certificate, limit=2, ascending=False, marker=page.next_marker)
        assert [*pages, page.items] == [["own", "of-side"], ["of-leaf", "of-middle"], ["of-root"]]

    in_house(tmp_path, test)


def test_a_circle_of_groups_ends(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.group("a")
        await house.group("b", "a")
        await house.run("UPDATE thing_groups SET parent = 'b' WHERE name = 'a'")
        await house.policy("p")
        await house.policies.attach(OURS, "p", Target("thinggroup", "b"))
        page = await house.policies.list_attached(OURS, Target("thinggroup", "a"), inherited=True, **LISTING)
        assert page.items == ["p"]

    in_house(tmp_path, test)


# -- pages --------------------------------------------------------------------------------------------------------

Lister = Any


async def all_pages(list_page: Lister, **arguments: Any) -> tuple[list[Any], list[int]]:
    items: list[Any] = []
    sizes: list[int] = []
    marker = None
    while True:
        page = await list_page(**arguments, marker=marker)
        items += page.items
        sizes.append(len(page.items))
        marker = page.next_marker
        if marker is None:
            return items, sizes


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize(("limit", "sizes"), [(7, [7]), (6, [6, 1]), (3, [3, 3, 1]), (1, [1] * 7)])
def test_pages(tmp_path: Path, limit: int, sizes: list[int], ascending: bool) -> None:
    """Pairs have one time, and are told apart by their names."""

    async def test(house: House) -> None:
        policies, targets = [], []
        target = Target("cert", await house.certificate())
        for number in range(7):
            house.clock.advance(microseconds=number % 2)
            name = f"p{9 - number}"
            await house.policies.create(OURS, name, document(), tags={})
            await house.policies.attach(OURS, name, target)
            policies.append((house.clock.now, name))
            await house.policy(name, THEIRS)
        for number in range(6):
            house.clock.advance(microseconds=number % 2)
            if number % 3:
                found = Target("cert", await house.certificate())
            else:
                found = Target("thinggroup", f"g:{number}_-")
                await house.group(found.name)
            await house.policies.attach(OURS, "p3", found)
            targets.append((house.clock.now, found))
        names = [name for _, name in sorted(policies, reverse=not ascending)]
        paging = {"limit": limit, "ascending": ascending}
        found_policies, found_sizes = await all_pages(house.policies.list, scope=OURS, **paging)
        assert ([policy.name for policy in found_policies], found_sizes) == (names, sizes)
        attached = await all_pages(house.policies.list_attached, scope=OURS, target=target, inherited=False, **paging)
        assert attached == (names, sizes)
        targets.append((policies[-1][0], target))
        kinds: tuple[TargetKind | None, ...] = (None, "cert", "thinggroup")
        for kind in kinds:
            expected = [each for _, each in sorted(targets, reverse=not ascending) if kind in (None, each.kind)]
            listed, _ = await all_pages(house.policies.list_targets, scope=OURS, name="p3", kind=kind, **paging)
            assert listed == expected

    in_house(tmp_path, test)


def test_markers_are_good_for_their_own_list_only(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        targets = [Target("cert", await house.certificate()) for _ in range(2)]
        for name in ("p", "q"):
            await house.policy(name)
            for target in targets:
                await house.policies.attach(OURS, name, target)
        await house.policy("p", THEIRS)
        policies = house.policies
        lists: list[Callable[..., Awaitable[Page[Any]]]] = [
            lambda **paging: policies.list(OURS, ascending=True, **paging),
            lambda **paging: policies.list(OURS, ascending=False, **paging),
            lambda **paging: policies.list(THEIRS, ascending=True, **paging),
            lambda **paging: policies.list_attached(OURS, targets[0], inherited=False, ascending=True, **paging),
            lambda **paging: policies.list_attached(OURS, targets[0], inherited=True, ascending=True, **paging),
            lambda **paging: policies.list_attached(OURS, targets[1], inherited=False, ascending=True, **paging),
            lambda **paging: policies.list_targets(OURS, "p", kind=None, ascending=True, **paging),
            lambda **paging: policies.list_targets(OURS, "p", kind="cert", ascending=True, **paging),
            lambda **paging: policies.list_targets(OURS, "q", kind=None, ascending=True, **paging),
        ]
        markers = [(await list_page(limit=1, marker=None)).next_marker for list_page in lists]
        for own, list_page in enumerate(lists):
            for other, marker in enumerate(markers):
                if own == other and marker:
                    await list_page(limit=1, marker=marker)
                elif marker:
                    with pytest.raises(Invalid) as refused:
                        await list_page(limit=1, marker=marker)
                    assert refused.value.field == "marker"
        assert [bool(marker) for marker in markers] == [True, True, False, *[True] * 6]

    in_house(tmp_path, test)


# -- what others learn of it --------------------------------------------------------------------------------------


def test_what_a_connected_device_must_feel_is_announced_and_recorded(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        fingerprint = await house.certificate()
        cert, group = Target("cert", fingerprint), Target("thinggroup", "g")
        await house.group("g")
        policies, policy = house.policies, (OURS, "policy", "p")
        certificate = (OURS, "certificate", fingerprint)
        cert_arn = f"arn:aws:iot:us-east-1:111111111111:cert/{fingerprint}"
        group_arn = "arn:aws:iot:us-east-1:111111111111:thinggroup/g"
        steps: list[tuple[Awaitable[Any], list[Any], list[str]]] = [
            (policies.create(OURS, "p", document(), tags={}), [], [ARN + "p"]),
            (policies.create_version(OURS, "p", document(), default=False), [], [ARN + "p"]),
            (policies.create_version(OURS, "p", document(), default=True), [policy], [ARN + "p"]),
            (policies.set_default(OURS, "p", "1"), [policy], [ARN + "p"]),
            (policies.set_default(OURS, "p", "1"), [], []),
            (policies.delete_version(OURS, "p", "2"), [], [ARN + "p"]),
            (policies.attach(OURS, "p", cert), [certificate], [ARN + "p", cert_arn]),
            (policies.attach(OURS, "p", cert), [], []),
            (policies.attach(OURS, "p", group), [(OURS, "thinggroup", "g")], [ARN + "p", group_arn]),
            (policies.detach(OURS, "p", group), [(OURS, "thinggroup", "g")], [ARN + "p", group_arn]),
            (policies.detach(OURS, "p", group), [], []),
            (policies.detach(OURS, "p", cert, existing=True), [certificate], [ARN + "p", cert_arn]),
            (policies.delete_version(OURS, "p", "3"), [], [ARN + "p"]),
            (policies.delete(OURS, "p"), [policy], [ARN + "p"]),
        ]
        for number, (step, notices, subjects) in enumerate(steps):
            await step
            assert (number, await house.notices(), house.store.subjects[-1]) == (number, notices, subjects)

    in_house(tmp_path, test)


def test_what_was_refused_is_not_announced(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        target = Target("cert", await house.certificate())
        for number in range(11):
            await house.policy(f"p{number}")
        for number in range(10):
            await house.policies.attach(OURS, f"p{number}", target)
        await house.notices()
        with pytest.raises(LimitExceeded):
            await house.policies.attach(OURS, "p10", target)
        with pytest.raises(Conflict):
            await house.policies.delete(OURS, "p1")
        assert await house.notices() == []

    in_house(tmp_path, test)


# -- targets as they are written ----------------------------------------------------------------------------------

ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("resource", "target"),
    [
        (f"cert/{ID}", Target("cert", ID)),
        (f"cert/{ID.upper()}", Target("cert", ID)),
        ("thinggroup/a:b_c-D9", Target("thinggroup", "a:b_c-D9")),
        (f"thinggroup/{'g' * 128}", Target("thinggroup", "g" * 128)),
    ],
)
def test_targets(resource: str, target: Target) -> None:
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
        "us-east-1:c1a2b3d4-0000-4000-8000-000000000000",  # Cognito's: not served
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
def test_what_is_no_target(arn: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_target(arn, OURS, "target", "cert", "thinggroup")
    assert refused.value.field == "target"


def test_a_group_is_no_principal() -> None:
    with pytest.raises(Invalid, match=r"^p must be the ARN of a certificate$"):
        parse_target("arn:aws:iot:us-east-1:111111111111:thinggroup/g", OURS, "p", "cert")
