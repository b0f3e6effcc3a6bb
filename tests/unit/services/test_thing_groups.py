"""Thing groups, types and tags."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.unit.services.things_support import ABROAD, OURS, THEIRS, House, everything, refused, with_house
from thingmint.domain.errors import AlreadyExists, Disallowed, Invalid, LimitExceeded, NotFound, VersionConflict
from thingmint.domain.things import AttributeChange
from thingmint.services.pages import PageRequest

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.domain.things import ThingGroup, ThingType
    from thingmint.services.pages import Page
    from thingmint.store.engine import Transaction

SIZES = (1, 2, 3, 100)


class TestGroups:
    def test_a_new_one(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            await house.group("root")
            house.changed()
            made = await house.groups.create(OURS, "g", "root", "words", {"a": "1", "b": ""}, {"k": "v"})
            assert (made.path, made.root, made.parent) == (("root", "g"), "root", "root")
            assert (made.description, made.attributes, made.version) == ("words", {"a": "1"}, 1)
            assert made.arn == "arn:aws:iot:us-east-1:111111111111:thinggroup/g"
            assert await house.groups.describe(OURS, "g") == made
            assert await house.tags.list(OURS, "thinggroup", "g") == {"k": "v"}
            assert (await house.news(), house.changed()) == ([], ["thinggroup/g"])
            assert await house.groups.create(OURS, "g", "root", "words", {"a": "1"}, {"k": "w"}) == made
            assert await house.tags.list(OURS, "thinggroup", "g") == {"k": "v"}
            for parent, description, attributes in (
                (None, "words", {"a": "1"}),
                ("root", None, {"a": "1"}),
                ("root", "words", {}),
                ("g", "words", {"a": "1"}),
            ):
                with pytest.raises(AlreadyExists) as caught:
                    await house.groups.create(OURS, "g", parent, description, attributes, {})
                assert (caught.value.id, caught.value.arn) == (made.id, made.arn)
                words = "Thing Group g already exists in current account with different properties"
                assert caught.value.reason == words
            assert house.changed() == []

        with_house(tmp_path, scenario)

    def test_a_hierarchy_has_seven_levels_and_a_hundred_children(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            parent = None
            for level in range(7):
                parent = (await house.group(f"l{level}", parent)).name
            await refused(Invalid, house.group("deeper", parent), "parentGroupName")
            for number in range(99):
                await house.group(f"c{number}", "l0")
            await refused(Disallowed, house.group("one-more", "l0"), "100")
            await house.group("c0", "l0")
            await refused(Invalid, house.group("x", "none"), "parentGroupName")
            await house.group("theirs", scope=THEIRS)
            await refused(Invalid, house.group("x", "theirs"), "parentGroupName")

        with_house(tmp_path, scenario)

    @pytest.mark.parametrize(
        ("description", "change", "expected", "attributes"),
        [
            (None, None, "words", {"a": "1"}),
            ("words", AttributeChange({"a": "1"}), "words", {"a": "1"}),
            ("others", None, "others", {"a": "1"}),
            ("", None, "", {"a": "1"}),
            (None, AttributeChange({}), "words", {}),
            (None, AttributeChange({"b": "2"}), "words", {"b": "2"}),
            (None, AttributeChange({"b": "2"}, merge=True), "words", {"a": "1", "b": "2"}),
            (None, AttributeChange({"a": ""}, merge=True), "words", {}),
        ],
    )
    def test_changes(
        self,
        tmp_path: Path,
        description: str | None,
        change: AttributeChange | None,
        expected: str,
        attributes: dict[str, str],
    ) -> None:
        async def scenario(house: House) -> None:
            made = await house.groups.create(OURS, "g", None, "words", {"a": "1"}, {})
            house.changed()
            changed = await house.groups.update(OURS, "g", description, change, 1)
            differs = (expected, attributes) != ("words", {"a": "1"})
            assert changed == replace(made, description=expected, attributes=attributes, version=1 + differs)
            assert await house.groups.describe(OURS, "g") == changed
            assert (await house.news(), house.changed()) == ([], ["thinggroup/g"] * differs)

        with_house(tmp_path, scenario)

    def test_what_a_change_may_not_be(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            made = await house.group("g")
            for version in (0, 2):
                await refused(VersionConflict, house.groups.update(OURS, "g", "x", None, version))
                await refused(VersionConflict, house.groups.delete(OURS, "g", version))
            many = AttributeChange({f"a{n}": "1" for n in range(51)})
            await refused(Invalid, house.groups.update(OURS, "g", None, many, None), "attributes must be at most 50")
            await refused(Invalid, house.groups.create(OURS, "h", None, None, many.values, {}), "attributes must")
            await refused(NotFound, house.groups.update(OURS, "none", None, None, None))
            assert await house.groups.describe(OURS, "g") == made

        with_house(tmp_path, scenario)

    def test_deleting(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            await house.groups.create(OURS, "g", None, None, {}, {"k": "v"})
            await house.group("child", "g")
            await house.group("other")
            await house.thing("t")
            await house.join("t", "g", "other")

            async def attach_policies(tx: Transaction) -> None:
                await tx.execute(
                    "INSERT INTO device_policies VALUES ($1, $2, 'p', 1, 1, 'g', 0, 0)", OURS.account, OURS.region
                )
                for kind, target in (("thinggroup", "g"), ("thinggroup", "other"), ("cert", "g")):
                    await tx.execute(
                        "INSERT INTO device_policy_attachments VALUES ($1, $2, $3, $4, 'p', 0)",
                        *OURS,
                        kind,
                        target,
                    )

            await house.store.write(attach_policies)
            await house.news()
            house.changed()
            words = "Cannot delete thing group : g when there are still child groups attached to it"
            with pytest.raises(Disallowed) as caught:
                await house.groups.delete(OURS, "g", None)
            assert caught.value.reason == words
            await house.groups.delete(OURS, "child", 1)
            await house.groups.delete(OURS, "g", None)
            assert await house.news() == [("thinggroup", "child"), ("thinggroup", "g")]
            assert house.changed() == ["thinggroup/child", "thinggroup/g"]
            await house.groups.delete(OURS, "g", 9)
            assert (await house.news(), house.changed()) == ([], [])
            # A new one of the name begins with nothing.
            assert (await house.group("g")).version == 1
            assert await house.tags.list(OURS, "thinggroup", "g") == {}
            assert (await house.memberships.list_things(OURS, "g", PageRequest(9), recursive=True)).items == []
            assert await house.count("device_policy_attachments") == 2
            groups = (await house.memberships.list_groups(OURS, "t", PageRequest(9))).items
            assert [group.name for group in groups] == ["other"]

        with_house(tmp_path, scenario)

    @pytest.mark.parametrize("limit", SIZES)
    def test_lists(self, tmp_path: Path, limit: int) -> None:
        """The names sort before and after the slash that paths are written with."""

        async def scenario(house: House) -> None:
            for name, parent in (
                ("a", None),
                ("a-b", None),
                ("a0", None),
                ("b", None),
                ("c", "a"),
                ("c-d", "a"),
                ("c0", "a"),
                ("e", "c"),
                ("ca", "e"),
                ("f", "a-b"),
            ):
                await house.group(name, parent)
            await house.group("zz", scope=THEIRS)
            await house.group("zz", scope=ABROAD)

            async def names(parent: str | None = None, prefix: str = "", *, recursive: bool) -> list[str]:
                async def page(request: PageRequest) -> Page[ThingGroup]:
                    return await house.groups.list(OURS, parent, prefix, request, recursive=recursive)

                return [group.name for group in await everything(page, limit)]

            assert await names(recursive=True) == ["a", "a-b", "a0", "b", "c", "c-d", "c0", "ca", "e", "f"]
            assert await names(recursive=False) == ["a", "a-b", "a0", "b"]
            assert await names(prefix="a", recursive=True) == ["a", "a-b", "a0"]
            assert await names(prefix="c", recursive=True) == ["c", "c-d", "c0", "ca"]
            assert await names(prefix="a-", recursive=False) == ["a-b"]
            assert await names("a", recursive=False) == ["c", "c-d", "c0"]
            assert await names("a", "c0", recursive=False) == ["c0"]
            assert await names("a", recursive=True) == ["c", "c-d", "e", "ca", "c0"]
            assert await names("a", "c", recursive=True) == ["c", "c-d", "ca", "c0"]
            assert await names("b", recursive=True) == []
            for recursive in (True, False):
                with pytest.raises(NotFound):
                    await names("zz", recursive=recursive)

        with_house(tmp_path, scenario)


class TestMembers:
    def test_joining_and_leaving(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            await house.thing("t")
            await house.group("g")
            await house.group("h")
            house.changed()
            update = house.memberships.update
            for times in (1, 0):
                await update(OURS, "t", add=["g"], remove=[])
                assert await house.news() == [("thing", "t")] * times
                assert house.changed() == ["thing/t", "thinggroup/g"] * times
            for times in (1, 0):
                await update(OURS, "t", add=[], remove=["g"])
                assert await house.news() == [("thing", "t")] * times
                assert house.changed() == ["thing/t", "thinggroup/g"] * times
            for add, remove in ((["none"], []), ([], ["none"]), (["g", "none"], []), (["g"], ["none"])):
                await refused(NotFound, update(OURS, "t", add=add, remove=remove), "thing group none")
            await refused(NotFound, update(OURS, "none", add=["g"], remove=[]), "thing none")
            assert (await house.memberships.list_groups(OURS, "t", PageRequest(9))).items == []
            assert (await house.news(), house.changed()) == ([], [])
            await update(OURS, "t", add=["g", "h"], remove=["g"])
            groups = (await house.memberships.list_groups(OURS, "t", PageRequest(9))).items
            assert [group.name for group in groups] == ["g", "h"]

        with_house(tmp_path, scenario)

    def test_one_group_of_a_hierarchy(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            await house.thing("t")
            for name, parent in (("r", None), ("a", "r"), ("b", "r"), ("c", "a"), ("other", None)):
                await house.group(name, parent)
            await house.join("t", "a", "other")
            for name in ("r", "b", "c"):
                await refused(Disallowed, house.join("t", name), "same hierarchy")
            await house.memberships.update(OURS, "t", add=["c"], remove=["a"])
            groups = (await house.memberships.list_groups(OURS, "t", PageRequest(9))).items
            assert [group.name for group in groups] == ["c", "other"]

        with_house(tmp_path, scenario)

    def test_ten_groups(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            await house.thing("t")
            names = [f"g{number}" for number in range(11)]
            for name in names:
                await house.group(name)
            await refused(Disallowed, house.join("t", *names), "10 thing groups")
            assert (await house.memberships.list_groups(OURS, "t", PageRequest(99))).items == []
            await house.join("t", *names[:10])
            await house.join("t", *names[:10])
            await refused(Disallowed, house.join("t", names[10]), "10 thing groups")
            await house.memberships.update(OURS, "t", add=[names[10]], remove=[names[0]])
            for limit in SIZES:
                found = await everything(lambda r: house.memberships.list_groups(OURS, "t", r), limit)
                assert [group.name for group in found] == sorted(names[1:])

        with_house(tmp_path, scenario)

    @pytest.mark.parametrize("limit", SIZES)
    def test_lists(self, tmp_path: Path, limit: int) -> None:
        async def scenario(house: House) -> None:
            for name, parent in (
                ("r", None),
                ("a", "r"),
                ("a-b", "r"),
                ("c", "a"),
                ("empty", "r"),
                ("r-2", None),
                ("r0", None),
            ):
                await house.group(name, parent)
            for thing, group in zip("zyxwvutsr", ["r", "r", "a", "c", "c", "a-b", "r-2", "r0", "a"], strict=True):
                await house.thing(thing)
                await house.join(thing, group)
            await house.thing("q", scope=THEIRS)
            await house.group("r", scope=THEIRS)
            await house.join("q", "r", scope=THEIRS)

            async def names(group: str, *, recursive: bool) -> list[str]:
                async def page(request: PageRequest) -> Page[str]:
                    return await house.memberships.list_things(OURS, group, request, recursive=recursive)

                return await everything(page, limit)

            assert await names("r", recursive=False) == ["y", "z"]
            assert await names("r", recursive=True) == ["y", "z", "r", "x", "u", "v", "w"]
            assert await names("a", recursive=True) == ["r", "x", "v", "w"]
            assert await names("empty", recursive=True) == []
            with pytest.raises(NotFound):
                await names("none", recursive=True)

        with_house(tmp_path, scenario)

    def test_a_page_does_not_go_on_in_another_hierarchy(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            for name, parent in (("r", None), ("a", "r"), ("b", "r")):
                await house.group(name, parent)
            for thing, group in (("t1", "a"), ("t2", "a"), ("t3", "b")):
                await house.thing(thing)
                await house.join(thing, group)
            list_things = house.memberships.list_things
            first = await list_things(OURS, "r", PageRequest(1), recursive=True)
            assert first.items == ["t1"]
            await house.groups.delete(OURS, "a", None)
            await house.group("a")
            await house.join("t2", "a")
            second = await list_things(OURS, "r", PageRequest(9, first.next_token), recursive=True)
            assert second.items == ["t3"]

        with_house(tmp_path, scenario)


class TestTypes:
    def test_a_life(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            made = await house.types.create(OURS, "lamp", "words", ["a", "b"], {"k": "v"})
            assert made.arn == "arn:aws:iot:us-east-1:111111111111:thingtype/lamp"
            assert await house.types.describe(OURS, "lamp") == made
            assert await house.types.create(OURS, "lamp", "words", ["b", "a"], {}) == made
            for description, searchable in ((None, ["a", "b"]), ("words", ["a"]), ("others", ["a", "b"])):
                with pytest.raises(AlreadyExists) as caught:
                    await house.types.create(OURS, "lamp", description, searchable, {})
                assert (caught.value.id, caught.value.arn) == (made.id, made.arn)
            assert house.changed() == ["thingtype/lamp"]
            await house.types.update(OURS, "lamp", None, None)
            assert house.changed() == []
            await house.types.update(OURS, "lamp", "new", [])
            assert await house.types.describe(OURS, "lamp") == replace(made, description="new", searchable=())
            await house.thing("t", "lamp")
            house.changed()
            await refused(Disallowed, house.types.delete(OURS, "lamp"), "must be deprecated")
            deprecated_at = house.clock.now
            for subjects in (["thingtype/lamp"], []):
                await house.types.deprecate(OURS, "lamp", undo=False)
                assert house.changed() == subjects
                house.clock.advance(minutes=1)
            assert (await house.types.describe(OURS, "lamp")).deprecated_at == deprecated_at
            await refused(Disallowed, house.types.delete(OURS, "lamp"), "still associated")
            await house.things.delete(OURS, "t", None)
            house.changed()
            await house.types.deprecate(OURS, "lamp", undo=True)
            await refused(Disallowed, house.types.delete(OURS, "lamp"), "must be deprecated")
            await house.types.deprecate(OURS, "lamp", undo=False)
            await house.types.delete(OURS, "lamp")
            assert house.changed() == ["thingtype/lamp"] * 3
            await house.type("lamp")
            assert await house.tags.list(OURS, "thingtype", "lamp") == {}

        with_house(tmp_path, scenario)

    def test_refusals(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            await house.type("lamp", THEIRS)
            for attempt in (
                house.types.describe(OURS, "lamp"),
                house.types.update(OURS, "lamp", None, None),
                house.types.deprecate(OURS, "lamp", undo=False),
                house.types.delete(OURS, "lamp"),
            ):
                await refused(NotFound, attempt, "thing type lamp")
            for searchable in (["a", "a"], ["a", "b", "c", "d"]):
                await refused(Invalid, house.types.create(OURS, "lamp", None, searchable, {}), "searchableAttributes")

        with_house(tmp_path, scenario)

    @pytest.mark.parametrize("limit", SIZES)
    def test_lists(self, tmp_path: Path, limit: int) -> None:
        async def scenario(house: House) -> None:
            for name in ("b", "a", "d", "c"):
                await house.type(name)
                await house.type(f"{name}x", THEIRS)

            async def names(name: str | None) -> list[str]:
                async def page(request: PageRequest) -> Page[ThingType]:
                    return await house.types.list(OURS, name, request)

                return [type.name for type in await everything(page, limit)]

            assert await names(None) == ["a", "b", "c", "d"]
            assert await names("c") == ["c"]
            assert await names("ax") == []

        with_house(tmp_path, scenario)


class TestTags:
    def test_tags(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            await house.group("g")
            await house.type("g")
            await house.group("g", scope=THEIRS)
            house.changed()
            tags = house.tags
            await tags.put(OURS, "thinggroup", "g", {"b": "2", "a": "1"})
            await tags.put(OURS, "thinggroup", "g", {"b": "3", "c": ""})
            assert list((await tags.list(OURS, "thinggroup", "g")).items()) == [("a", "1"), ("b", "3"), ("c", "")]
            assert house.changed() == ["thinggroup/g"] * 2
            for subjects in (["thinggroup/g"], []):
                await tags.remove(OURS, "thinggroup", "g", ["a", "x", "a"])
                assert house.changed() == subjects
            assert await tags.list(OURS, "thinggroup", "g") == {"b": "3", "c": ""}
            for scope, kind in ((OURS, "thingtype"), (THEIRS, "thinggroup")):
                assert await tags.list(scope, kind, "g") == {}

        with_house(tmp_path, scenario)

    @pytest.mark.parametrize("kind", ["thinggroup", "thingtype", "policy", "provisioningtemplate", "cacert"])
    def test_of_what_is_not_there(self, tmp_path: Path, kind: str) -> None:
        async def scenario(house: House) -> None:
            for attempt in (
                house.tags.put(OURS, kind, "x", {"a": "1"}),
                house.tags.remove(OURS, kind, "x", ["a"]),
                house.tags.list(OURS, kind, "x"),
            ):
                await refused(NotFound, attempt)
            assert await house.count("tags") == 0

        with_house(tmp_path, scenario)

    def test_fifty(self, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            await house.group("g")
            fifty = {f"k{n}": "v" for n in range(50)}
            await house.tags.put(OURS, "thinggroup", "g", fifty)
            await house.tags.put(OURS, "thinggroup", "g", {"k7": "w"})
            await refused(LimitExceeded, house.tags.put(OURS, "thinggroup", "g", {"one-more": "v", "k8": "w"}))
            assert await house.tags.list(OURS, "thinggroup", "g") == dict(sorted((fifty | {"k7": "w"}).items()))

        with_house(tmp_path, scenario)
