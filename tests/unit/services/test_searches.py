"""SearchIndex: what it finds, by the statements of both engines, in pages of any size."""

from __future__ import annotations

import asyncio
import fnmatch
import re
import tempfile
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.world import ABROAD, OURS, THEIRS, new_world
from thingmint.domain.errors import Invalid, InvalidQuery, NotFound, Throttled
from thingmint.mqtt.connection_index import ConnectionIndex
from thingmint.mqtt.messages import GatewayMessages
from thingmint.services import searches
from thingmint.services.client_ids import ClientIds
from thingmint.services.messages import ConnectionFacts
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.world import World
    from thingmint.domain.arns import Scope


def client() -> Any:
    """A connection, as the list of connected clients has it."""
    peer, facts = mock.Mock(address="192.0.2.1", port=1), ConnectionFacts(None, 60, 0, "", 0, "", 0)
    return mock.Mock(peer=peer, certificate_id="c", version=5, claim=None, facts=facts)


@dataclass
class Item:
    """A thing. ``state`` is whether it is connected, or None if it never was."""

    name: str
    type: str | None = None
    groups: frozenset[str] = frozenset()
    billing: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    state: bool | None = None


async def found(world: World, query: str, limit: int = 100, scope: Scope = OURS, **members: Any) -> list[str]:
    """The names of all pages."""
    index, names = members.get("indexName", "AWS_Things"), list[str]()
    key, item = ("things", "thingName") if index == "AWS_Things" else ("thingGroups", "thingGroupName")
    while True:
        page = await world.aws("SearchIndex", scope, queryString=query, maxResults=limit, **members)
        assert len(page[key]) <= limit
        names += [each[item] for each in page[key]]
        if page["nextToken"] is None:
            assert len(set(names)) == len(names), (query, names)
            return names
        members["nextToken"] = page["nextToken"]


async def fill(world: World, items: Sequence[Item]) -> None:
    for type in {item.type for item in items} - {None}:
        await world.aws("CreateThingType", thingTypeName=type)
    for group in {group for item in items for group in item.groups}:
        await world.aws("CreateThingGroup", thingGroupName=group)
    for billing in {item.billing for item in items} - {None}:
        await world.aws("CreateBillingGroup", billingGroupName=billing)
    for item in items:
        of_type = {} if item.type is None else {"thingTypeName": item.type}
        billed = {} if item.billing is None else {"billingGroupName": item.billing}
        attributes = {"attributes": item.attributes}
        await world.aws("CreateThing", thingName=item.name, attributePayload=attributes, **of_type, **billed)
        for group in item.groups:
            await world.aws("AddThingToThingGroup", thingName=item.name, thingGroupName=group)
        if item.state is not None:
            world.clients.add(OURS, item.name, connection := client())
            if not item.state:
                world.clients.remove(OURS, item.name, connection, "CONNECTION_LOST")


# -- a naive search, for comparison ---------------------------------------------------------------------------------

_NAMES = ["a", "A", "aB", "ab", "AB", "b1", "B1", "t10", "t2"]
_VALUES = ["a", "A", "ab", "aB", "b", "1", "2", "10", "-1", "1.5", "x-1"]
_FIELDS = ["thingName", "thingTypeName", "thingGroupNames", "attributes.p", "attributes.q", None]
_ITEMS = st.lists(
    st.builds(
        Item,
        st.sampled_from(_NAMES),
        st.sampled_from([None, "Ta", "ta", "b"]),
        st.frozensets(st.sampled_from(["Ga", "ga", "b", "a"]), max_size=3),
        st.sampled_from([None, None, "b", "Bill"]),
        st.dictionaries(st.sampled_from(["p", "q", "P"]), st.sampled_from(_VALUES), max_size=3),
        st.sampled_from([None, True, False]),
    ),
    max_size=8,
    unique_by=lambda item: item.name,
)
_TEXTS = st.sampled_from([*_NAMES, *_VALUES, "Ta", "ga", "bill"])
_PATTERNS = st.sampled_from(["a*", "A*", "t?", "b?", "a?b*", "1*", "x*1", "*", "g*", "T*"])
_BOUNDS = st.sampled_from(["1", "2", "10", "a", "ab", "B", "*"])
_LEAVES = st.one_of(
    st.tuples(st.just("exact"), st.sampled_from(_FIELDS), _TEXTS),
    st.tuples(st.just("like"), st.sampled_from(_FIELDS), _PATTERNS),
    st.tuples(st.just("range"), st.sampled_from(_FIELDS[:-1]), _BOUNDS, _BOUNDS, st.booleans(), st.booleans()),
    st.tuples(st.just("online"), st.booleans()),
    st.tuples(st.just("reason"), st.sampled_from(["*", "connection*"])),
)
_QUERIES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.just("and"), st.lists(inner, min_size=2, max_size=3)),
        st.tuples(st.just("or"), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=8,
)


def written(query: Any) -> str:
    """The query as text."""
    match query:
        case ("not", inner):
            return f"NOT {written(inner)}"
        case ("and" | "or" as operator, parts):
            return f"({(' ' if operator == 'and' else ' OR ').join(map(written, parts))})"
        case ("online", connected):
            return f"connectivity.connected:{str(connected).lower()}"
        case ("reason", pattern):
            return f"connectivity.disconnectReason:{pattern}"
        case ("range", field, low, high, with_low, with_high):
            return f"{field}:{'[' if with_low else '{'}{low} TO {high}{']' if with_high else '}'}"
    kind, field, text = query
    value = text.replace("-", "\\-") if kind == "exact" else text
    return value if field is None else f"{field}:{value}"


def values(item: Item, field: str | None) -> list[str]:
    groups = [*item.groups, *filter(None, [item.billing])]
    if field is None:
        return [item.name, *filter(None, [item.type]), *groups, *item.attributes.values()]
    of = {"thingName": [item.name], "thingTypeName": [item.type] if item.type else [], "thingGroupNames": groups}
    return (
        of[field]
        if field in of
        else [value for name, value in item.attributes.items() if f"attributes.{name}" == field]
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def is_between(value: str, low: str, high: str, with_low: bool, with_high: bool) -> bool:
    given = [None if bound == "*" else bound.lower() for bound in (low, high)]
    texts: list[Any] = [value.lower(), *given]
    numbers = [None if text is None else _number(text) for text in texts]
    if all((number is None) == (text is None) for number, text in zip(numbers, texts, strict=True)):
        texts = list(numbers)
    value_, low_, high_ = texts
    above = low_ is None or value_ > low_ or (with_low and value_ == low_)
    return above and (high_ is None or value_ < high_ or (with_high and value_ == high_))


def is_match(item: Item, query: Any) -> bool:
    match query:
        case ("not", inner):
            return not is_match(item, inner)
        case ("and", parts):
            return all(is_match(item, part) for part in parts)
        case ("or", parts):
            return any(is_match(item, part) for part in parts)
        case ("online", connected):
            return (item.state is True) is connected
        case ("reason", _):
            return item.state is False
        case ("exact", field, text):
            return any(value.lower() == text.lower() for value in values(item, field))
        case ("like", None, "*"):
            return True
        case ("like", field, pattern):
            return any(fnmatch.fnmatchcase(value.lower(), pattern.lower()) for value in values(item, field))
    _, field, *bounds = query
    return any(is_between(value, *bounds) for value in values(item, field))


@settings(max_examples=25)
@given(_ITEMS, st.lists(_QUERIES, min_size=10, max_size=10), st.integers(1, 3), st.integers(1, 5))
def test_a_search_finds_what_a_naive_one_finds(items: list[Item], queries: list[Any], limit: int, cost: int) -> None:
    """Also in pages that end early, with batches of few rows."""

    async def compare() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with new_world(Path(folder)) as world:
                await fill(world, items)
                for query in queries:
                    expected = sorted(item.name for item in items if is_match(item, query))
                    assert sorted(await found(world, written(query))) == expected, written(query)
                    with (
                        mock.patch.object(searches, "MAX_COST", cost),
                        mock.patch.object(searches, "FIRST_BATCH", cost),
                    ):
                        assert sorted(await found(world, written(query), limit)) == expected, written(query)

    asyncio.run(compare())


# -- both engines ---------------------------------------------------------------------------------------------------

FLEET = [
    Item("lamp-1", "Lamp", frozenset({"North", "all"}), "Costs", {"model": "A", "n": "5", "site": "eu/1"}, True),
    Item("Lamp-2", "Lamp", frozenset({"north-2"}), None, {"model": "a", "n": "10"}, False),
    Item("lamp-3", None, frozenset(), None, {"Model": "b", "n": "-7"}),
    Item("tv", "television", frozenset({"all"}), None, {"model": "AB", "n": "many"}, True),
]

EXPECTED = {
    "*": "Lamp-2 lamp-1 lamp-3 tv",
    "lamp*": "Lamp-2 lamp-1 lamp-3",
    "thingName:LAMP-2": "Lamp-2",
    "thingName:[lamp-1 TO lamp-2]": "Lamp-2 lamp-1",
    "thingTypeName:lamp": "Lamp-2 lamp-1",
    "thingTypeName:*": "Lamp-2 lamp-1 tv",
    "registry.thingTypeName:t*": "tv",
    "NOT thingTypeName:*": "lamp-3",
    "thingGroupNames:north*": "Lamp-2 lamp-1",
    "thingGroupNames:(all AND north)": "lamp-1",
    "thingGroupNames:costs": "lamp-1",
    "attributes.model:a": "Lamp-2 lamp-1",
    "attributes.model:A*": "Lamp-2 lamp-1 tv",
    "attributes.Model:*": "lamp-3",
    "attributes.n:[5 TO 10]": "Lamp-2 lamp-1",
    "attributes.n<6": "lamp-1 lamp-3",
    "attributes.site:eu\\/1": "lamp-1",
    '"eu/1" OR many': "lamp-1 tv",
    "a": "Lamp-2 lamp-1",
    "a -lamp-1": "Lamp-2",
    "connectivity.connected:true": "lamp-1 tv",
    "connectivity.connected:true thingGroupNames:all -tv": "lamp-1",
    "connectivity.connected:false": "Lamp-2 lamp-3",
    "connectivity.disconnectReason:connection_lost": "Lamp-2",
    "connectivity.timestamp:*": "Lamp-2 lamp-1 tv",
    "nothing": "",
    "thingName:nothing OR attributes.nothing:1": "",
}


async def test_things_are_found_by_each_field(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(world, FLEET)
    world.clients.add(OURS, "lamp-3#owner", client())  # the client of a Yandex device
    for limit, examined in ((100, searches.MAX_COST), (1, searches.MAX_COST), (100, 1)):
        monkeypatch.setattr(searches, "MAX_COST", examined)
        monkeypatch.setattr(searches, "FIRST_BATCH", min(examined, searches.FIRST_BATCH))
        assert {query: " ".join(sorted(await found(world, query, limit))) for query in EXPECTED} == EXPECTED
    for scope in (ABROAD, THEIRS):
        assert await found(world, "*", scope=scope) == []


async def test_a_thing_is_told_with_its_groups_and_connectivity(world: World) -> None:
    await fill(world, FLEET)
    since = world.clock() - timedelta(0)
    page = await world.aws("SearchIndex", queryString="thingName:(lamp-1 OR lamp-2 OR lamp-3)")
    told = {thing["thingName"]: thing for thing in page["things"]}
    described = await world.aws("DescribeThing", thingName="lamp-1")
    assert told["lamp-1"] == {
        "thingName": "lamp-1",
        "thingId": described["thingId"],
        "thingTypeName": "Lamp",
        "thingGroupNames": ["North", "all", "Costs"],
        "attributes": FLEET[0].attributes,
        "connectivity": {"connected": True, "timestamp": to_micros(since) // 1000, "disconnectReason": None},
    }
    assert await found(world, f"thingId:{described['thingId'].upper()}") == ["lamp-1"]
    assert told["Lamp-2"]["connectivity"]["disconnectReason"] == "CONNECTION_LOST"
    assert told["lamp-3"]["connectivity"] == {"connected": False}
    at = to_micros(since) // 1000
    assert await found(world, f"connectivity.timestamp:[{at - 1} TO {at + 1}] -tv") == ["Lamp-2", "lamp-1"]
    await world.aws("DeleteBillingGroup", billingGroupName="Costs")
    assert await found(world, "thingGroupNames:costs") == []


async def test_clients_of_other_processes_are_online(world: World) -> None:
    here, elsewhere = (ClientIds(world.store, process, world.clock) for process in "ab")
    for name in ("lamp", "lamp#owner", "radio"):
        await elsewhere.claim(OURS, name)
    messages = GatewayMessages(world.broker, ConnectionIndex(), world.clients, world.clock, client_ids=here)
    world.environment = replace(world.environment, messages=messages)
    await fill(world, [Item("lamp"), Item("radio"), Item("tv", state=True)])
    await here.claim(OURS, "tv")
    for limit in (100, 1):
        assert await found(world, "connectivity.connected:true", limit) == ["lamp", "radio", "tv"]
        assert await found(world, "connectivity.connected:false", limit) == []


async def test_groups_are_found(world: World) -> None:
    described = {"thingGroupDescription": "All of Norrbotten", "attributePayload": {"attributes": {"cost": "7"}}}
    await world.aws("CreateThingGroup", thingGroupName="North", thingGroupProperties=described)
    await world.aws("CreateThingGroup", thingGroupName="north-2", parentGroupName="North")
    await world.aws("CreateThingGroup", thingGroupName="leaf", parentGroupName="north-2")
    page = await world.aws("SearchIndex", queryString="thingGroupName:north", indexName="AWS_ThingGroups")
    (told,) = page["thingGroups"]
    assert told.pop("thingGroupId")
    expected = {"thingGroupName": "North", "parentGroupNames": None, "thingGroupDescription": "All of Norrbotten"}
    assert told == {**expected, "attributes": {"cost": "7"}}
    cases = {
        "*": ["North", "leaf", "north-2"],
        "thingGroupName:north*": ["North", "north-2"],
        "thingGroupNames:north*": ["North", "north-2"],
        "parentGroupNames:north": ["leaf", "north-2"],
        "thingGroupDescription:norr*": ["North"],
        'description:"of norrbotten"': ["North"],
        "attributes.cost>5": ["North"],
        "norrbotten OR leaf": ["North", "leaf"],
        "-north*": [],
    }
    for limit in (1, 100):
        for query, names in cases.items():
            assert sorted(await found(world, query, limit, indexName="AWS_ThingGroups")) == names, query
    assert await found(world, "*", scope=THEIRS, indexName="AWS_ThingGroups") == []
    with pytest.raises(InvalidQuery):
        await found(world, "thingName:x", indexName="AWS_ThingGroups")


# -- limits ---------------------------------------------------------------------------------------------------------


async def test_a_page_ends_early_when_too_much_was_examined(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(world, [Item(f"t{number:02}") for number in range(40)])
    monkeypatch.setattr(searches, "MAX_COST", 10)
    monkeypatch.setattr(searches, "FIRST_BATCH", 5)
    page = await world.aws("SearchIndex", queryString="NOT thingName:t0*")
    assert page["things"] == []
    assert page["nextToken"] is not None
    assert len(await found(world, "NOT thingName:t0*")) == 30


async def test_candidates_are_not_counted_for_longer_than_a_request_may_take(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(world, FLEET)
    query = "connectivity.connected:true thingGroupNames:all -tv"
    with mock.patch.object(world.environment.searches, "turn", wraps=world.environment.searches.turn) as turns:
        assert await found(world, query) == ["lamp-1"]
        with_counting = turns.call_count
        turns.reset_mock()
        monkeypatch.setattr(searches, "MAX_SECONDS", -1.0)
        assert await found(world, query) == ["lamp-1"]
        assert turns.call_count < with_counting


async def test_a_search_begins_with_the_rarest_condition(world: World) -> None:
    await fill(world, [Item(f"t{number:02}", attributes={"a": "x", "b": str(number)}) for number in range(30)])
    world.store.statements.clear()
    assert await found(world, "attributes.a:x AND attributes.b:7") == ["t07"]
    with_candidates = [
        given for sql, given in world.store.statements.items() if sql.startswith("SELECT name, id, type")
    ]
    assert len(with_candidates) == 1
    assert set(with_candidates[0][:100]) == {"t07"}


async def test_statements_enter_their_indexes_where_they_begin(world: World) -> None:
    """SQLite would read all rows along a primary key that has the right order, if its index did not cover them."""
    await fill(world, FLEET)
    world.store.statements.clear()
    for query in EXPECTED:
        await found(world, query)
    if world.store.is_shared:
        return  # the plans of PostgreSQL depend on how many rows there are
    plans = {sql: plan for sql, plan in (await world.query_plans()).items() if "LIMIT" in sql}
    for sql, (plan,) in plans.items():
        conditions = sql.partition(" WHERE ")[2].partition(" ORDER BY ")[0]
        equal = [each for each in conditions.split(" AND ") if re.fullmatch(r"[\w()]+ = \$\d+", each)]
        assert plan.count("=?") == len(equal), (sql, plan)
    assert len(plans) > 12


async def test_large_things_end_a_page(world: World) -> None:
    await world.aws("CreateThingType", thingTypeName="large")
    attributes = {f"a{number}": "x" * 800 for number in range(50)}
    for number in range(30):
        await world.aws(
            "CreateThing", thingName=f"t{number}", thingTypeName="large", attributePayload={"attributes": attributes}
        )
    page = await world.aws("SearchIndex", queryString="*")
    assert 20 < len(page["things"]) < 30
    assert len(await found(world, "*")) == 30


async def test_searches_of_an_account_at_the_same_time_are_limited(world: World) -> None:
    turns = world.environment.searches
    async with turns.search("1"), turns.search("1"), turns.search("1"), turns.search("1"), turns.search("1"):
        with pytest.raises(Throttled):
            async with turns.search("1"):
                pass
        async with turns.search("2"):
            pass
    async with turns.search("1"):
        pass


async def test_bad_input_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(world, FLEET)
    query = "thingName:la* OR tv"
    token = (await world.aws("SearchIndex", queryString=query, maxResults=3))["nextToken"]
    for members in (
        {"maxResults": 101},
        {"queryVersion": "2018-01-01"},
        {"nextToken": "x"},
        {"nextToken": token, "queryString": "lamp-*"},
        {"nextToken": token, "indexName": "AWS_ThingGroups"},
    ):
        with pytest.raises(Invalid) as caught:
            await world.aws("SearchIndex", **{"queryString": "lamp*", **members})
        assert caught.value.field in members
    with pytest.raises(Invalid):
        await world.aws("SearchIndex", THEIRS, queryString=query, nextToken=token)
    monkeypatch.setattr(searches, "ways", lambda *_: [])  # as if another version had made the token
    with pytest.raises(Invalid):
        await world.aws("SearchIndex", queryString=query, nextToken=token)
    with pytest.raises(NotFound):
        await world.aws("SearchIndex", queryString="*", indexName="AWS_Nothing")
    await world.aws("SearchIndex", queryString="*", queryVersion="2017-09-30", nextToken="")


# -- the configuration ----------------------------------------------------------------------------------------------

OFF = {
    "thingIndexingConfiguration": {
        "thingIndexingMode": "OFF",
        "thingConnectivityIndexingMode": "OFF",
        "deviceDefenderIndexingMode": "OFF",
        "namedShadowIndexingMode": "OFF",
    },
    "thingGroupIndexingConfiguration": {"thingGroupIndexingMode": "OFF"},
}


async def test_a_configuration_is_told_as_it_was_given(world: World) -> None:
    assert await world.aws("GetIndexingConfiguration") == OFF
    things = {
        "thingIndexingMode": "REGISTRY",
        "thingConnectivityIndexingMode": "STATUS",
        "customFields": [{"name": "attributes.version", "type": "Number"}],
        "filter": {"connectivity": {"includeSocketInformation": ["GET_THING_CONNECTIVITY_DATA"]}},
    }
    await world.aws("UpdateIndexingConfiguration", thingIndexingConfiguration=things)
    assert world.audit_resources() == ["index/AWS_Things", "index/AWS_ThingGroups"]
    told = await world.aws("GetIndexingConfiguration")
    managed = told["thingIndexingConfiguration"].pop("managedFields")
    assert told == {**OFF, "thingIndexingConfiguration": {**OFF["thingIndexingConfiguration"], **things}}
    assert {"name": "connectivity.connected", "type": "Boolean"} in managed
    again = {"managedFields": managed, **things}
    await world.aws("UpdateIndexingConfiguration", thingIndexingConfiguration=again)
    assert await world.unchanged()
    custom = [{"name": "attributes.cost", "type": "String"}]
    groups = {"thingGroupIndexingMode": "ON", "customFields": custom}
    await world.aws("UpdateIndexingConfiguration", thingGroupIndexingConfiguration=groups)
    told = await world.aws("GetIndexingConfiguration")
    assert told["thingIndexingConfiguration"]["managedFields"] == managed
    names = {field["name"] for field in told["thingGroupIndexingConfiguration"].pop("managedFields")}
    assert names == {"description", "parentGroupNames", "thingGroupId", "thingGroupName", "version"}
    assert told["thingGroupIndexingConfiguration"] == groups
    for scope in (ABROAD, THEIRS):
        assert await world.aws("GetIndexingConfiguration", scope) == OFF
    empty = {"customFields": [], "filter": {"namedShadowNames": []}}  # as Terraform can send it
    await world.aws("UpdateIndexingConfiguration", **OFF)
    await world.aws("UpdateIndexingConfiguration", thingIndexingConfiguration={"thingIndexingMode": "OFF", **empty})
    assert await world.aws("GetIndexingConfiguration") == OFF


@pytest.mark.parametrize(
    ("half", "configuration"),
    [
        ("thing", {"thingIndexingMode": "REGISTRY_AND_SHADOW"}),
        ("thing", {"thingIndexingMode": "REGISTRY", "deviceDefenderIndexingMode": "VIOLATIONS"}),
        ("thing", {"thingIndexingMode": "REGISTRY", "namedShadowIndexingMode": "ON"}),
        ("thing", {"thingIndexingMode": "OFF", "thingConnectivityIndexingMode": "STATUS"}),
        ("thing", {"thingIndexingMode": "REGISTRY", "filter": {"namedShadowNames": ["s"]}}),
        ("thing", {"thingIndexingMode": "REGISTRY", "filter": {"geoLocations": [{"name": "shadow.at"}]}}),
        ("thing", {"thingIndexingMode": "REGISTRY", "customFields": [{"name": "shadow.a", "type": "String"}]}),
        ("thing", {"thingIndexingMode": "REGISTRY", "customFields": [{"name": "attributes.a"}]}),
        ("thing", {"thingIndexingMode": "REGISTRY", "customFields": [{"type": "String"}]}),
        ("thing", {"thingIndexingMode": "REGISTRY", "customFields": [{"name": "attributes.a", "type": "String"}] * 2}),
        ("thing", {"thingIndexingMode": "OFF", "customFields": [{"name": "attributes.a", "type": "String"}]}),
        ("thing", {"thingIndexingMode": "REGISTRY", "managedFields": [{"name": "thingName", "type": "Number"}]}),
        ("thing", {"thingIndexingMode": "REGISTRY", "managedFields": [{"name": "shadow.version", "type": "Number"}]}),
        ("thing", {"thingIndexingMode": "REGISTRY", "managedFields": [{}]}),
        ("thingGroup", {"thingGroupIndexingMode": "ON", "managedFields": [{"name": "thingName", "type": "String"}]}),
    ],
)
async def test_what_is_not_indexed_is_refused(world: World, half: str, configuration: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        await world.aws("UpdateIndexingConfiguration", **{f"{half}IndexingConfiguration": configuration})
    assert caught.value.field.startswith(f"{half}IndexingConfiguration.")
    assert await world.aws("GetIndexingConfiguration") == OFF


async def test_both_indexes_are_always_there(world: World) -> None:
    assert await world.aws("ListIndices") == {"indexNames": ["AWS_ThingGroups", "AWS_Things"], "nextToken": None}
    first = await world.aws("ListIndices", maxResults=1)
    assert (await world.aws("ListIndices", nextToken=first["nextToken"]))["indexNames"] == ["AWS_Things"]
    schemas = {"AWS_Things": "REGISTRY_AND_CONNECTIVITY_STATUS", "AWS_ThingGroups": "THING_GROUPS"}
    for name, schema in schemas.items():
        described = await world.aws("DescribeIndex", indexName=name)
        assert described == {"indexName": name, "indexStatus": "ACTIVE", "schema": schema}
    with pytest.raises(NotFound):
        await world.aws("DescribeIndex", indexName="aws_things")
