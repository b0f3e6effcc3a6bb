"""SearchIndex over boto3: what is online, pages, permissions, hostile queries, other accounts, its configuration."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import LocalAdmin, allow, keys_of, refusal
from tests.e2e.conftest import iot_client
from tests.e2e.mqtt.conftest import new_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.mqtt.conftest import Devices
    from tests.e2e.signing import Signer
    from thingmint.testing import RunningServer

pytestmark = pytest.mark.both_engines

_SEARCH = "/indices/search"


def things(iot: Any, query: str, **members: Any) -> list[dict[str, Any]]:
    """The things of all pages."""
    page = iot.search_index(queryString=query, **members)
    return [
        *page["things"],
        *(things(iot, query, **{**members, "nextToken": page["nextToken"]}) if "nextToken" in page else ()),
    ]


def names(iot: Any, query: str, **members: Any) -> list[str]:
    return [thing["thingName"] for thing in things(iot, query, **members)]


@pytest.fixture
def others(server: RunningServer) -> Iterator[Any]:
    """The client of another account."""
    made = LocalAdmin(server).ask("account.create", name=f"searches-{new_name()}")
    with contextlib.closing(iot_client(server, **keys_of(made))) as client:
        yield client


def test_what_is_online_is_found(devices: Devices, others: Any) -> None:
    iot, batch = devices.iot, new_name()
    lamp, tv = f"{batch}-Lamp", f"{batch}-tv"
    for name in (lamp, tv):
        iot.create_thing(thingName=name, attributePayload={"attributes": {"batch": batch}})
    online = f"connectivity.connected:true AND attributes.batch:{batch}"
    assert names(iot, online) == []
    with devices.connected(devices.credential(), lamp) as device:
        (shown,) = things(iot, online)
        assert shown["thingName"] == lamp
        assert shown["attributes"] == {"batch": batch}
        assert shown["connectivity"]["connected"]
        assert names(iot, f"connectivity.connected:false attributes.batch:{batch}") == [tv]
        assert names(iot, f"connectivity.timestamp:>1700000000000 {lamp.upper()}") == [lamp]
        assert others.search_index(queryString="connectivity.connected:true")["things"] == []
        device.disconnect()
        assert names(iot, online) == []
    (shown,) = things(iot, f"connectivity.disconnectReason:client_init* thingName:{lamp}")
    since = iot.get_thing_connectivity_data(thingName=lamp)["timestamp"]
    assert shown["connectivity"] == {
        "connected": False,
        "timestamp": int(since.timestamp() * 1000),
        "disconnectReason": "CLIENT_INITIATED_DISCONNECT",
    }
    assert sorted(names(iot, f"attributes.batch:{batch}")) == [lamp, tv]


def test_pages_have_each_thing_once(others: Any) -> None:
    others.create_thing_type(thingTypeName="Lamp")
    others.create_thing_group(thingGroupName="north")
    made = [f"Lamp-{number:02}" if number % 2 else f"lamp-{number:02}" for number in range(23)]
    for name in made:
        others.create_thing(thingName=name, thingTypeName="Lamp", attributePayload={"attributes": {"n": name[-2:]}})
        others.add_thing_to_thing_group(thingGroupName="north", thingName=name)
    for query in ("*", "lamp*", "thingName:lamp-*", "thingTypeName:LAMP", "north OR lamp*", "attributes.n:[00 TO 99]"):
        assert sorted(names(others, query, maxResults=4)) == sorted(made), query
    (group,) = others.search_index(indexName="AWS_ThingGroups", queryString="NORTH")["thingGroups"]
    assert group["thingGroupId"] == others.describe_thing_group(thingGroupName="north")["thingGroupId"]


def test_a_new_account_has_nothing_to_find(others: Any) -> None:
    for query in ("*", "a", "NOT a", "thingName:a*", "thingTypeName:*", "thingGroupNames:a", "attributes.a>1"):
        assert names(others, query) == []
    assert others.search_index(indexName="AWS_ThingGroups", queryString="*")["thingGroups"] == []


def test_a_caller_needs_the_action_on_the_index(server: RunningServer, iot: Any) -> None:
    account = iot.create_thing(thingName=new_name())["thingArn"].split(":")[4]
    index = f"arn:aws:iot:us-east-1:{account}:index/AWS_Things"
    with LocalAdmin(server).iot_of(allow("iot:SearchIndex", index)) as caller:
        caller.search_index(queryString="*")
        caller.search_index(queryString="*", indexName="AWS_Things")
        refused = refusal(caller.search_index, queryString="*", indexName="AWS_ThingGroups")
        assert refused[:2] == (403, "AccessDeniedException")
        assert refusal(caller.get_indexing_configuration)[:2] == (403, "AccessDeniedException")


_INVALID = {
    "*lamp": 1,
    "lamp AND": 9,
    "(" * 499 + "a" + ")" * 499: 21,
    "a*" * 400: 1,
    " OR ".join("a" * 13): 61,
    "thingName:(a": 11,
    "eu/berlin": 3,
    "shadow.reported.on:true": 1,
    "x" * 1_000_000: 1001,
    "'; DROP TABLE things; --": 1,
    "thingName:\u202e\x07": 12,
}


def test_invalid_queries_are_refused_with_the_place(signer: Signer) -> None:
    for query, place in _INVALID.items():
        answer = signer.send("POST", _SEARCH, body=json.dumps({"queryString": query}).encode())
        assert (answer.status, answer.aws_code) == (400, "InvalidQueryException"), query[:50]
        assert f"at character {place}:" in json.loads(answer.body)["message"]


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"queryString": "a\0"},
        {"queryString": ""},
        {"queryString": ["a"]},
        {"queryString": "a", "maxResults": 0},
        {"queryString": "a", "maxResults": 101},
        {"queryString": "a", "indexName": "a b"},
        {"queryString": "a", "queryVersion": "1"},
        {"queryString": "a", "nextToken": "x"},
    ],
)
def test_other_bad_input_is_refused(signer: Signer, members: dict[str, Any]) -> None:
    answer = signer.send("POST", _SEARCH, body=json.dumps(members).encode())
    assert (answer.status, answer.aws_code) == (400, "InvalidRequestException")


def test_the_configuration_is_told_as_given(others: Any, iot: Any) -> None:
    off = others.get_indexing_configuration()
    assert off["thingIndexingConfiguration"]["thingIndexingMode"] == "OFF"
    assert "managedFields" not in off["thingIndexingConfiguration"]
    given = {
        "thingIndexingMode": "REGISTRY",
        "thingConnectivityIndexingMode": "STATUS",
        "deviceDefenderIndexingMode": "OFF",
        "namedShadowIndexingMode": "OFF",
        "customFields": [{"name": "attributes.version", "type": "Number"}],
    }
    groups = {"thingGroupIndexingMode": "ON"}
    others.update_indexing_configuration(thingIndexingConfiguration=given, thingGroupIndexingConfiguration=groups)
    told = others.get_indexing_configuration()
    assert {field["name"] for field in told["thingIndexingConfiguration"].pop("managedFields")} > {"thingName"}
    assert told["thingGroupIndexingConfiguration"].pop("managedFields")
    assert told["thingIndexingConfiguration"] == given
    assert told["thingGroupIndexingConfiguration"] == groups
    assert iot.get_indexing_configuration()["thingIndexingConfiguration"]["thingIndexingMode"] == "OFF"
    with_shadows = {"thingIndexingMode": "REGISTRY_AND_SHADOW"}
    refused = refusal(others.update_indexing_configuration, thingIndexingConfiguration=with_shadows)
    assert refused[:2] == (400, "InvalidRequestException")
    assert "this server has no shadows" in refused[2]
    assert others.list_indices()["indexNames"] == ["AWS_ThingGroups", "AWS_Things"]
    assert others.describe_index(indexName="AWS_Things")["indexStatus"] == "ACTIVE"
    assert refusal(others.describe_index, indexName="nothing")[:2] == (404, "ResourceNotFoundException")
