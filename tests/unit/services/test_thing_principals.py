"""AWS IoT's six operations on principals of things."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.world import ABROAD, OURS, THEIRS, pages
from thingmint.domain.errors import Disallowed, Invalid, NotFound
from thingmint.services import pages as services_pages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.world import World
    from thingmint.domain.arns import Scope

ARN = "arn:aws:iot:us-east-1:111111111111:"
UNKNOWN = f"{ARN}cert/{'0' * 64}"
EXCLUSIVE = "EXCLUSIVE_THING"
SHARED = "NON_EXCLUSIVE_THING"


async def certificate(world: World, scope: Scope = OURS) -> str:
    """Return the ARN of a new certificate."""
    return f"arn:aws:iot:{scope.region}:{scope.account}:cert/{await world.certificate(scope)}"


def of_type(type: str | None) -> dict[str, str]:
    return {} if type is None else {"thingPrincipalType": type}


async def attach(world: World, thing: str, principal: str, type: str | None = None, scope: Scope = OURS) -> None:
    await world.aws("AttachThingPrincipal", scope, thingName=thing, principal=principal, **of_type(type))


async def attached(world: World, thing: str = "t") -> list[tuple[str, str]]:
    found = (await world.aws("ListThingPrincipalsV2", thingName=thing))["thingPrincipalObjects"]
    return [(one["principal"], one["thingPrincipalType"]) for one in found]


async def test_attaching_and_detaching_are_recorded_and_published(world: World) -> None:
    await world.aws("CreateThing", thingName="t")
    principal = await certificate(world)
    world.audit_resources()
    for operation, left in (("AttachThingPrincipal", [(principal, SHARED)]), ("DetachThingPrincipal", [])):
        await world.aws(operation, thingName="t", principal=principal)
        assert await attached(world) == left
        assert await world.published() == [("certificate", principal.rpartition("/")[2])]
        assert world.audit_resources() == ["thing/t", principal.removeprefix(ARN)]


@pytest.mark.parametrize(("type", "same"), [(None, SHARED), (SHARED, SHARED), (EXCLUSIVE, EXCLUSIVE)])
async def test_attaching_again_changes_nothing(world: World, type: str | None, same: str) -> None:
    await world.aws("CreateThing", thingName="t")
    principal = await certificate(world)
    await attach(world, "t", principal, type)
    world.audit_resources(), await world.published()
    for again in (None, same):
        await attach(world, "t", principal, again)
    assert await world.unchanged()
    assert await attached(world) == [(principal, same)]


@pytest.mark.parametrize(("first", "second"), [(None, EXCLUSIVE), (SHARED, EXCLUSIVE), (EXCLUSIVE, SHARED)])
async def test_the_type_of_an_attachment_cannot_be_changed(world: World, first: str | None, second: str) -> None:
    await world.aws("CreateThing", thingName="t")
    principal = await certificate(world)
    await attach(world, "t", principal, first)
    world.audit_resources(), await world.published()
    with pytest.raises(Disallowed, match=f"attached to thing t as {first or SHARED}: detach it first"):
        await attach(world, "t", principal, second)
    assert await attached(world) == [(principal, first or SHARED)]
    assert await world.unchanged()


@pytest.mark.parametrize("first", [None, SHARED])
@pytest.mark.parametrize("second", [None, SHARED])
async def test_a_certificate_can_be_attached_to_several_things(
    world: World, first: str | None, second: str | None
) -> None:
    principal = await certificate(world)
    for name, type in (("a", first), ("b", second)):
        await world.aws("CreateThing", thingName=name)
        await attach(world, name, principal, type)
        assert await attached(world, name) == [(principal, SHARED)]


@pytest.mark.parametrize(
    ("first", "second"),
    [(None, EXCLUSIVE), (SHARED, EXCLUSIVE), (EXCLUSIVE, None), (EXCLUSIVE, SHARED), (EXCLUSIVE, EXCLUSIVE)],
)
async def test_an_exclusive_certificate_is_attached_to_one_thing(
    world: World, first: str | None, second: str | None
) -> None:
    for name in "ab":
        await world.aws("CreateThing", thingName=name)
    principal = await certificate(world)
    await attach(world, "a", principal, first)
    with pytest.raises(Disallowed, match="one of the two is exclusive"):
        await attach(world, "b", principal, second)
    await world.aws("DetachThingPrincipal", thingName="a", principal=principal)
    await attach(world, "b", principal, second)
    assert await attached(world, "b") == [(principal, second or SHARED)]


@pytest.mark.parametrize("type", [EXCLUSIVE, SHARED])
async def test_one_of_several_concurrent_exclusive_attachments_succeeds(world: World, type: str) -> None:
    principal = await certificate(world)
    for name in "abcd":
        await world.aws("CreateThing", thingName=name)
    types = (EXCLUSIVE, type, type, type)
    calls = (attach(world, name, principal, each) for name, each in zip("abcd", types, strict=True))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, Disallowed) for outcome in outcomes if outcome is not None)
    found = [each for name in "abcd" for each in await attached(world, name)]
    assert found == [(principal, EXCLUSIVE)] or (outcomes[0] is not None and found == [(principal, SHARED)] * 3)


async def test_a_thing_can_have_an_exclusive_certificate_and_others(world: World) -> None:
    await world.aws("CreateThing", thingName="t")
    shared, own = await certificate(world), await certificate(world)
    await attach(world, "t", shared)
    await attach(world, "t", own, EXCLUSIVE)
    assert dict(await attached(world)) == {shared: SHARED, own: EXCLUSIVE}


async def test_unknown_things_and_principals_are_not_found(world: World) -> None:
    await world.aws("CreateThing", thingName="t")
    principal = await certificate(world)
    for operation in ("AttachThingPrincipal", "DetachThingPrincipal"):
        with pytest.raises(NotFound, match="thing none does not exist"):
            await world.aws(operation, thingName="none", principal=principal)
        with pytest.raises(NotFound, match="000 does not exist"):
            await world.aws(operation, thingName="t", principal=UNKNOWN)
    with pytest.raises(NotFound, match=r"principal [0-9a-f]+ does not exist"):
        await world.aws("DetachThingPrincipal", thingName="t", principal=principal)
    for version in ("", "V2"):
        with pytest.raises(NotFound, match="thing none"):
            await world.aws(f"ListThingPrincipals{version}", thingName="none")
        with pytest.raises(NotFound, match="certificate 000"):
            await world.aws(f"ListPrincipalThings{version}", principal=UNKNOWN)


OF_PRINCIPAL = ["AttachThingPrincipal", "DetachThingPrincipal", "ListPrincipalThings", "ListPrincipalThingsV2"]


@pytest.mark.parametrize("operation", OF_PRINCIPAL)
async def test_principals_must_be_certificates_of_the_scope(world: World, operation: str) -> None:
    await world.aws("CreateThing", thingName="t")
    principal = await certificate(world)
    for invalid in ("us-east-1:cognito", "x", f"{ARN}thing/t", f"{ARN}cert/xyz", f"{principal}0", "x" * 9_999):
        with pytest.raises(Invalid, match="principal"):
            await world.aws(operation, thingName="t", principal=invalid)
    for part, other in (("111111111111", "999999999999"), ("us-east-1", "eu-west-1")):
        with pytest.raises(NotFound, match=r"cert [0-9a-f]+ does not exist"):
            await world.aws(operation, thingName="t", principal=principal.replace(part, other))


async def test_certificate_ids_can_be_in_upper_case(world: World) -> None:
    await world.aws("CreateThing", thingName="t")
    principal = await certificate(world)
    await attach(world, "t", f"{ARN}cert/{principal.rpartition('/')[2].upper()}")
    assert await attached(world) == [(principal, SHARED)]


@pytest.mark.parametrize("elsewhere", [ABROAD, THEIRS])
async def test_attachments_exist_in_their_scope_only(world: World, elsewhere: Scope) -> None:
    await world.aws("CreateThing", thingName="t")
    principal = await certificate(world)
    await attach(world, "t", principal)
    own = principal.replace("us-east-1:111111111111", f"{elsewhere.region}:{elsewhere.account}")
    with pytest.raises(NotFound, match="thing t"):
        await world.aws("DetachThingPrincipal", elsewhere, thingName="t", principal=own)
    with pytest.raises(NotFound, match="thing t"):
        await world.aws("ListThingPrincipals", elsewhere, thingName="t")
    with pytest.raises(NotFound, match="certificate"):
        await world.aws("ListPrincipalThings", elsewhere, principal=own)
    await world.aws("CreateThing", elsewhere, thingName="t")
    with pytest.raises(NotFound, match="certificate"):
        await attach(world, "t", own, scope=elsewhere)
    assert (await world.aws("ListThingPrincipals", elsewhere, thingName="t"))["principals"] == []
    assert await attached(world) == [(principal, SHARED)]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_lists_have_every_attachment_once(world: World, limit: int) -> None:
    shared, own = await certificate(world), [await certificate(world) for _ in range(3)]
    things = [f"t{number}" for number in range(4)]
    for name in things:
        await world.aws("CreateThing", thingName=name)
        await attach(world, name, shared)
    for principal in own:
        await attach(world, "t0", principal, EXCLUSIVE)

    async def found(operation: str, items: str, **wanted: Any) -> list[Any]:
        async def page(members: Mapping[str, Any]) -> Mapping[str, Any]:
            return await world.aws(operation, OURS, **members, **wanted)

        return await pages(page, items, limit)

    listed = await found("ListThingPrincipals", "principals", thingName="t0")
    assert sorted(listed) == sorted([shared, *own])
    assert await found("ListPrincipalThings", "things", principal=shared) == things
    types = {shared: SHARED, **dict.fromkeys(own, EXCLUSIVE)}
    for type in (None, EXCLUSIVE, SHARED):
        principals = [one for one in listed if type in (None, types[one])]
        objects = await found("ListThingPrincipalsV2", "thingPrincipalObjects", thingName="t0", **of_type(type))
        assert objects == [{"principal": one, "thingPrincipalType": types[one]} for one in principals]
    for type, names in ((None, things), (EXCLUSIVE, []), (SHARED, things)):
        objects = await found("ListPrincipalThingsV2", "principalThingObjects", principal=shared, **of_type(type))
        assert objects == [{"thingName": name, "thingPrincipalType": SHARED} for name in names]


async def test_a_page_of_one_type_ends_after_a_bounded_search(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thing can have a million certificates of the other type."""
    monkeypatch.setattr(services_pages, "_BATCH", 2)
    monkeypatch.setattr(services_pages, "_MAX_READ", 4)
    await world.aws("CreateThing", thingName="t")
    for _ in range(8):
        await attach(world, "t", await certificate(world))
    last = await certificate(world)
    await attach(world, "t", last, EXCLUSIVE)
    found: list[list[Any]] = []
    token: str | None = ""
    while token is not None:
        page = await world.aws("ListThingPrincipalsV2", thingName="t", nextToken=token, **of_type(EXCLUSIVE))
        found.append(page["thingPrincipalObjects"])
        token = page["nextToken"]
    # On PostgreSQL, certificates are in no order of time.
    assert sorted(found) == [[], [], [{"principal": last, "thingPrincipalType": EXCLUSIVE}]]


async def test_tokens_are_valid_for_their_own_list_only(world: World) -> None:
    principals = [await certificate(world) for _ in range(2)]
    for name in "ab":
        await world.aws("CreateThing", thingName=name)
        for principal in principals:
            await attach(world, name, principal)
    of_thing, of_principal = {"thingName": "a"}, {"principal": principals[0]}
    for operation, wanted, others in (
        ("ListThingPrincipalsV2", of_thing, [{"thingName": "b"}, {**of_thing, **of_type(SHARED)}]),
        ("ListPrincipalThingsV2", of_principal, [{"principal": principals[1]}, {**of_principal, **of_type(SHARED)}]),
    ):
        token = (await world.aws(operation, maxResults=1, **wanted))["nextToken"]
        for other in others:
            with pytest.raises(Invalid, match="nextToken is not one that this list returned"):
                await world.aws(operation, nextToken=token, **other)
