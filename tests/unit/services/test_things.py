"""Things and their certificates: what is kept, what is refused, and what gateways and the audit trail are told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.services.things_support import ABROAD, OURS, THEIRS, House, everything, refused, with_house
from thingmint.domain.errors import AlreadyExists, Disallowed, Invalid, NotFound, VersionConflict
from thingmint.domain.things import AttributeChange, Thing, ThingChange
from thingmint.services.memberships import add_to_group
from thingmint.services.pages import PageRequest
from thingmint.services.principals import attach_principal
from thingmint.services.things import ThingFilter, create_thing, update_thing

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.services.pages import Page
    from thingmint.store.engine import Transaction

SIZES = (1, 2, 3, 100)
ALL = ThingFilter()
EXCLUSIVE: Any = "EXCLUSIVE_THING"
SHARED: Any = "NON_EXCLUSIVE_THING"


class TestThings:
    def test_a_new_one(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            await house.type("lamp")
            house.changed()
            made = await house.thing("a", "lamp", color="red", off="")
            assert (made.scope, made.name, made.type, made.version) == (OURS, "a", "lamp", 1)
            assert made.attributes == {"color": "red"}
            assert made.created_at == house.clock.now
            assert made.arn == "arn:aws:iot:us-east-1:111111111111:thing/a"
            assert await house.things.describe(OURS, "a") == made
            assert house.changed() == ["thing/a"]
            assert await house.news() == []

        with_house(tmp_path, scenario)

    def test_the_same_again_is_the_same(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            await house.type("lamp")
            made = await house.thing("a", "lamp", color="red")
            house.changed()
            await house.types.deprecate(OURS, "lamp", undo=False)
            house.changed()
            assert await house.thing("a", "lamp", color="red", nothing="") == made
            for attempt in (
                house.thing("a", "lamp"),
                house.thing("a", None, color="red"),
                house.thing("a", "lamp", color="blue"),
                house.thing("a", "lamp", color="red", size="1"),
            ):
                with pytest.raises(AlreadyExists) as caught:
                    await attempt
                assert (caught.value.id, caught.value.arn) == (made.id, made.arn)
            assert await house.things.describe(OURS, "a") == made
            assert house.changed() == []

        with_house(tmp_path, scenario)

    def test_types_that_cannot_be_taken(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            await house.type("old")
            await house.types.deprecate(OURS, "old", undo=False)
            await house.type("theirs", THEIRS)
            await house.thing("a")
            for error, type in ((NotFound, "none"), (NotFound, "theirs"), (Disallowed, "old")):
                await refused(error, house.thing("b", type))
                await refused(error, house.things.update(OURS, "a", ThingChange(type=type), None))
            await refused(NotFound, house.things.describe(OURS, "b"))
            await house.types.deprecate(OURS, "old", undo=True)
            assert (await house.things.update(OURS, "a", ThingChange(type="old"), None)).type == "old"
            await house.types.deprecate(OURS, "old", undo=False)
            change = ThingChange(type="old", attributes=AttributeChange({"x": "1"}))
            assert (await house.things.update(OURS, "a", change, None)).attributes == {"x": "1"}

        with_house(tmp_path, scenario)

    @pytest.mark.parametrize(
        ("change", "type", "attributes"),
        [
            (ThingChange(), "lamp", {"a": "1", "b": "2"}),
            (ThingChange(type="lamp"), "lamp", {"a": "1", "b": "2"}),
            (ThingChange(type="fan"), "fan", {"a": "1", "b": "2"}),
            (ThingChange(remove_type=True), None, {"a": "1", "b": "2"}),
            (ThingChange(attributes=AttributeChange({})), "lamp", {}),
            (ThingChange(attributes=AttributeChange({}, merge=True)), "lamp", {"a": "1", "b": "2"}),
            (ThingChange(attributes=AttributeChange({"b": "3"})), "lamp", {"b": "3"}),
            (ThingChange(attributes=AttributeChange({"b": "3"}, merge=True)), "lamp", {"a": "1", "b": "3"}),
            (ThingChange(attributes=AttributeChange({"b": "", "c": "4"}, merge=True)), "lamp", {"a": "1", "c": "4"}),
            (ThingChange(attributes=AttributeChange({"b": "", "c": "4"})), "lamp", {"c": "4"}),
        ],
    )
    def test_changes(self, tmp_path: Path, change: ThingChange, type: str | None, attributes: dict[str, str]) -> None:
        async def scenario(house: House) -> None:
            await house.type("lamp")
            await house.type("fan")
            made = await house.thing("t", "lamp", a="1", b="2")
            house.changed()
            changed = await house.things.update(OURS, "t", change, 1)
            differs = (type, attributes) != (made.type, made.attributes)
            assert changed == replace(made, type=type, attributes=attributes, version=1 + differs)
            assert await house.things.describe(OURS, "t") == changed
            assert await house.news() == [("thing", "t")] * differs
            assert house.changed() == ["thing/t"] * differs
            # What it is found by went along.
            for name in "abc":
                found = (await house.things.list(OURS, ThingFilter(attribute=name, prefix=True), PageRequest(9))).items
                assert bool(found) == (name in attributes)
            assert await house.count("thing_attributes") == len(attributes)

        with_house(tmp_path, scenario)

    def test_what_a_change_may_not_be(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            await house.type("lamp")
            made = await house.thing("t", "lamp", a="1", b="2", c="3", d="4")
            house.changed()
            update = house.things.update
            await refused(Invalid, update(OURS, "t", ThingChange(remove_type=True), None), "at most 3")
            await refused(Invalid, update(OURS, "t", ThingChange(type="lamp", remove_type=True), None))
            many = {f"a{n}": "1" for n in range(50)}
            for values, merge in (({**many, "x": "1"}, False), (many, True), ({"": "1"}, False), ({"é": "1"}, False)):
                change = ThingChange(attributes=AttributeChange(values, merge=merge))
                await refused(Invalid, update(OURS, "t", change, None), "attributes")
            for value in ("a b", "x" * 801, "~"):
                await refused(Invalid, update(OURS, "t", ThingChange(attributes=AttributeChange({"a": value})), None))
            for version in (0, 2, -1, 2**62):
                await refused(VersionConflict, update(OURS, "t", ThingChange(), version))
                await refused(VersionConflict, house.things.delete(OURS, "t", version))
            await refused(NotFound, update(OURS, "none", ThingChange(), None))
            assert await house.things.describe(OURS, "t") == made
            assert (await house.news(), house.changed()) == ([], [])

        with_house(tmp_path, scenario)

    @pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 129, "a\n", "%61"])
    def test_names(self, tmp_path: Path, name: str) -> None:
        async def scenario(house: House) -> None:
            await refused(Invalid, house.thing(name), "thingName")

        with_house(tmp_path, scenario)

    def test_three_attributes_without_a_type(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            await house.type("lamp")
            await house.thing("three", a="1", b="2", c="3", d="")
            await refused(Invalid, house.thing("four", a="1", b="2", c="3", d="4"), "attributes must be at most 3")
            fifty = {f"a{n}": "x" * 800 for n in range(50)}
            create = house.things.create
            assert (await create(OURS, "fifty", "lamp", fifty)).attributes == fifty
            await refused(Invalid, create(OURS, "more", "lamp", {**fifty, "x": "1"}), "attributes must be at most 50")

        with_house(tmp_path, scenario)

    def test_deleting(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            made = await house.thing("t", a="1")
            await house.group("g")
            await house.join("t", "g")
            fingerprint = await house.certificate()
            await house.principals.attach(OURS, "t", fingerprint, None)
            await house.news()
            house.changed()
            words = "Cannot delete. Thing t is still attached to one or more principals"
            with pytest.raises(Disallowed) as caught:
                await house.things.delete(OURS, "t", None)
            assert caught.value.reason == words
            await house.principals.detach(OURS, "t", fingerprint)
            await house.news()
            house.changed()
            await house.things.delete(OURS, "t", 1)
            assert (await house.news(), house.changed()) == ([("thing", "t")], ["thing/t"])
            for table in ("things", "thing_attributes", "thing_group_members"):
                assert await house.count(table) == 0
            await house.things.delete(OURS, "t", 7)
            assert (await house.news(), house.changed()) == ([], [])
            again = await house.thing("t")
            assert (again.version, again.id == made.id) == (1, False)

        with_house(tmp_path, scenario)

    @pytest.mark.parametrize("scope", [THEIRS, ABROAD])
    def test_nothing_of_another_can_be_reached(self, tmp_path: Path, scope: Any) -> None:
        async def scenario(house: House) -> None:
            made = await house.thing("t", a="1")
            fingerprint = await house.certificate()
            await house.principals.attach(OURS, "t", fingerprint, None)
            await refused(NotFound, house.things.describe(scope, "t"))
            await refused(NotFound, house.things.update(scope, "t", ThingChange(), None))
            await refused(NotFound, house.principals.detach(scope, "t", fingerprint))
            await refused(NotFound, house.principals.list_of_thing(scope, "t", None, PageRequest(9)))
            await refused(NotFound, house.principals.list_of_certificate(scope, fingerprint, None, PageRequest(9)))
            await house.things.delete(scope, "t", None)
            for wanted in (ALL, ThingFilter(attribute="a", value="1"), ThingFilter(attribute="a", prefix=True)):
                assert (await house.things.list(scope, wanted, PageRequest(9))).items == []
            own = await house.thing("t", scope=scope, a="2")
            await refused(NotFound, house.principals.attach(scope, "t", fingerprint, None))
            await house.things.update(scope, "t", ThingChange(attributes=AttributeChange({})), None)
            await house.things.delete(scope, own.name, None)
            assert await house.things.describe(OURS, "t") == made
            found = await house.things.list(OURS, ThingFilter(attribute="a", value="1"), PageRequest(9))
            assert found.items == [made]

        with_house(tmp_path, scenario)


class TestProvisioning:
    """What the use case that registers a whole device composes, in a transaction of its own."""

    @pytest.mark.parametrize("group", ["g", "none"])
    def test_all_or_nothing(self, tmp_path: Path, group: str) -> None:
        async def scenario(house: House) -> None:
            await house.group("g")
            fingerprint = await house.certificate()
            house.changed()
            now = house.clock.now
            thing = Thing.begin(OURS, "t", id="i", type=None, attributes={"a": "1"}, now=now)
            change = ThingChange(attributes=AttributeChange({"b": "2"}, merge=True))

            async def body(tx: Transaction) -> Thing:
                assert await create_thing(tx, thing) == thing
                await attach_principal(tx, OURS, "t", fingerprint, now, type=EXCLUSIVE)
                changed = await update_thing(tx, OURS, "t", change, now)
                await add_to_group(tx, OURS, group, "t", now)
                return changed

            if group == "g":
                changed = await house.store.write(body)
                assert await house.things.describe(OURS, "t") == changed
                assert await house.news() == [("certificate", fingerprint), ("thing", "t"), ("thing", "t")]
                cert = f"cert/{fingerprint}"
                assert house.changed() == ["thing/t", "thing/t", cert, "thing/t", "thing/t", "thinggroup/g"]
                await refused(AlreadyExists, house.store.write(body))
                return
            await refused(NotFound, house.store.write(body), "thing group none")
            for table in ("things", "thing_attributes", "thing_principals", "thing_group_members", "outbox"):
                assert await house.count(table) == 0

        with_house(tmp_path, scenario)

    @pytest.mark.parametrize("type", ["", "a/b", "x" * 10_000])
    def test_what_can_be_no_name(self, tmp_path: Path, type: str) -> None:
        """The devices' own words come this way, which no model has checked."""

        async def scenario(house: House) -> None:
            await refused(Invalid, house.thing("t", type), "thingTypeName must satisfy")
            await house.thing("t")
            await refused(Invalid, house.things.update(OURS, "t", ThingChange(type=type), None), "thingTypeName must")
            await refused(Invalid, house.group(type), "thingGroupName must satisfy")

            async def body(tx: Transaction) -> None:
                await add_to_group(tx, OURS, type, "t", house.clock.now)

            await refused(Invalid, house.store.write(body), "thingGroupName must satisfy")

        with_house(tmp_path, scenario)


class TestListing:
    @pytest.mark.parametrize("limit", SIZES)
    def test_filters(self, tmp_path: Path, limit: int) -> None:
        async def scenario(house: House) -> None:
            await house.type("lamp")
            values = ["red", "re", "red-hot", "blue", "r", "red", "redder", "rec", "zed"]
            for number, value in enumerate(values):
                await house.thing(f"t{number}", "lamp" if number % 2 else None, color=value)
            await house.thing("plain")
            await house.thing("t0", scope=THEIRS, color="red")

            async def names(**wanted: Any) -> list[str]:
                async def page(request: PageRequest) -> Page[Thing]:
                    return await house.things.list(OURS, ThingFilter(**wanted), request)

                return [thing.name for thing in await everything(page, limit)]

            assert await names() == ["plain", *(f"t{n}" for n in range(9))]
            assert await names(type="lamp") == ["t1", "t3", "t5", "t7"]
            assert await names(type="none") == []
            assert await names(attribute="color", value="red") == ["t0", "t5"]
            assert await names(attribute="color", value="red", type="lamp") == ["t5"]
            assert await names(attribute="color", value="green") == []
            assert await names(attribute="color") == []
            assert await names(attribute="size", prefix=True) == []
            assert await names(attribute="color", value="re", prefix=True) == ["t1", "t7", "t0", "t5", "t2", "t6"]
            assert await names(attribute="color", value="re", prefix=True, type="lamp") == ["t1", "t7", "t5"]
            assert await names(attribute="color", value="red-", prefix=True) == ["t2"]
            assert len(await names(attribute="color", prefix=True)) == 9

        with_house(tmp_path, scenario)

    def test_a_token_is_good_for_its_own_list_only(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            await house.type("lamp")
            for scope in (OURS, THEIRS, ABROAD):
                for name in "abc":
                    await house.thing(name, scope=scope, x="1")
            lists = [
                (OURS, ALL),
                (THEIRS, ALL),
                (ABROAD, ALL),
                (OURS, ThingFilter(attribute="x", value="1")),
                (OURS, ThingFilter(attribute="x", value="1", prefix=True)),
            ]
            tokens = [(await house.things.list(*wanted, PageRequest(1))).next_token for wanted in lists]
            for mine, wanted in enumerate(lists):
                for other, token in enumerate(tokens):
                    if mine == other:
                        assert len((await house.things.list(*wanted, PageRequest(5, token))).items) == 2
                    else:
                        await refused(
                            Invalid, house.things.list(*wanted, PageRequest(5, token)), "nextToken is not one that"
                        )
            for token in ("", "AAAA", "!", "x" * 10_000):
                await refused(Invalid, house.things.list(OURS, ALL, PageRequest(1, token)), "nextToken")

        with_house(tmp_path, scenario)

    def test_what_goes_and_comes_meanwhile_moves_nothing(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            for name in "bdfh":
                await house.thing(name)
            first = await house.things.list(OURS, ALL, PageRequest(2))
            await house.things.delete(OURS, "d", None)
            await house.thing("a")
            await house.thing("g")
            second = await house.things.list(OURS, ALL, PageRequest(9, first.next_token))
            assert [thing.name for thing in second.items] == ["f", "g", "h"]

        with_house(tmp_path, scenario)


class TestPrincipals:
    def test_attaching_and_detaching(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            await house.thing("t")
            fingerprint = await house.certificate()
            house.changed()
            told = [("certificate", fingerprint)], ["thing/t", f"cert/{fingerprint}"]
            await house.principals.attach(OURS, "t", fingerprint, None)
            assert (await house.news(), house.changed()) == told
            for type in (None, SHARED):
                await house.principals.attach(OURS, "t", fingerprint, type)
                assert (await house.news(), house.changed()) == ([], [])
            await refused(Disallowed, house.principals.attach(OURS, "t", fingerprint, EXCLUSIVE), "NON_EXCLUSIVE_THING")
            await house.principals.detach(OURS, "t", fingerprint)
            assert (await house.news(), house.changed()) == told
            await refused(NotFound, house.principals.detach(OURS, "t", fingerprint))
            assert (await house.news(), house.changed()) == ([], [])
            await refused(NotFound, house.principals.attach(OURS, "none", fingerprint, None), "thing none")
            await refused(NotFound, house.principals.attach(OURS, "t", "0" * 64, None), "certificate 000")
            await refused(NotFound, house.principals.detach(OURS, "none", fingerprint), "thing none")

        with_house(tmp_path, scenario)

    @pytest.mark.parametrize(
        ("first", "second", "taken"),
        [
            (None, None, True),
            (None, SHARED, True),
            (SHARED, None, True),
            (SHARED, SHARED, True),
            (None, EXCLUSIVE, False),
            (SHARED, EXCLUSIVE, False),
            (EXCLUSIVE, None, False),
            (EXCLUSIVE, SHARED, False),
            (EXCLUSIVE, EXCLUSIVE, False),
        ],
    )
    def test_an_exclusive_one_is_one_things(self, tmp_path: Path, first: Any, second: Any, taken: bool) -> None:
        async def scenario(house: House) -> None:
            for name in "ab":
                await house.thing(name)
            fingerprint, other = await house.certificate(), await house.certificate()
            await house.principals.attach(OURS, "a", fingerprint, first)
            if taken:
                await house.principals.attach(OURS, "b", fingerprint, second)
            else:
                await refused(Disallowed, house.principals.attach(OURS, "b", fingerprint, second), "exclusive")
            # A thing may have an exclusive certificate and others besides.
            await house.principals.attach(OURS, "a", other, EXCLUSIVE)
            await house.principals.detach(OURS, "a", fingerprint)
            if not taken:
                await house.principals.attach(OURS, "b", fingerprint, second)

        with_house(tmp_path, scenario)

    def test_the_type_that_it_has_is_kept(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            await house.thing("t")
            fingerprint = await house.certificate()
            await house.principals.attach(OURS, "t", fingerprint, EXCLUSIVE)
            for type in (None, EXCLUSIVE):
                await house.principals.attach(OURS, "t", fingerprint, type)
            await refused(Disallowed, house.principals.attach(OURS, "t", fingerprint, SHARED))
            found = (await house.principals.list_of_thing(OURS, "t", None, PageRequest(9))).items
            assert [one.type for one in found] == [EXCLUSIVE]

        with_house(tmp_path, scenario)

    @pytest.mark.parametrize("limit", SIZES)
    def test_lists(self, tmp_path: Path, limit: int) -> None:
        async def scenario(house: House) -> None:
            things = [f"t{number}" for number in range(4)]
            for name in things:
                await house.thing(name)
            shared = await house.certificate()
            own = sorted([await house.certificate() for _ in range(3)])
            for name in things:
                await house.principals.attach(OURS, name, shared, None)
            for fingerprint in own:
                await house.principals.attach(OURS, "t0", fingerprint, EXCLUSIVE)
            for type, expected in (
                (None, sorted([shared, *own])),
                (EXCLUSIVE, own),
                (SHARED, [shared]),
            ):
                found = await everything(lambda r, t=type: house.principals.list_of_thing(OURS, "t0", t, r), limit)  # type: ignore[misc]
                assert [one.fingerprint for one in found] == expected
            for type, names in ((None, things), (EXCLUSIVE, []), (SHARED, things)):
                found = await everything(
                    lambda r, t=type: house.principals.list_of_certificate(OURS, shared, t, r),  # type: ignore[misc]
                    limit,
                )
                assert [one.thing for one in found] == names

        with_house(tmp_path, scenario)
