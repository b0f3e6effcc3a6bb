"""Connections: look at one client's connection and subscriptions, and close it. All but one are of the data plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import answers, reads
from thingmint.aws.operations.messages import milliseconds
from thingmint.domain.errors import NotFound
from thingmint.services.pages import Cursor, page_by_text
from thingmint.services.things import THINGS

if TYPE_CHECKING:
    from thingmint.aws.operations.declaring import Members, Result
    from thingmint.domain.messages import QoS
    from thingmint.services.change import Change, Query
    from thingmint.services.messages import ClientState
    from thingmint.services.things import Thing
    from thingmint.store.engine import Transaction

_PAGE_SIZE = 20  # AWS's, for ListSubscriptions
_RESERVED = "#"  # no client id has it, and the names of Yandex devices' sessions do

DEVIATIONS = {
    "GetThingConnectivityData": (
        "Needs no fleet indexing. It looks at the client whose id is the thing's name. The end of a connection is "
        "known for 30 minutes, by the process that had it, as it is in memory only."
    ),
    "GetConnection": (
        "Of a connection of another process it tells only that there is one, and since when. "
        "`includeSocketInformation` needs no further permission."
    ),
    "DeleteConnection": "A connection of another process ends within a second.",
    "ListSubscriptions": (
        "NotImplementedException with several processes or a broker of yours: MQTT has no way to ask a broker."
    ),
}


@answers("GetConnection")
async def get_connection(change: Change, members: Members) -> Result:
    state = await _state(change, members)
    result: Result = {"clientId": members["clientId"], "connected": state.connected}
    if state.since is not None:
        result["connectedSince" if state.connected else "disconnectedSince"] = milliseconds(state.since)
    if not state.connected:
        result["disconnectReason"] = state.reason
    if state.facts is not None:
        result["thingName"] = state.facts.thing
    return result | _described(state, members)


def _described(state: ClientState, members: Members) -> Result:
    """The members that GetConnection and GetThingConnectivityData have in common."""
    facts = state.facts
    if facts is None:
        return {}
    result: Result = {
        "cleanSession": facts.expiry == 0,
        "keepAliveDuration": facts.keep_alive,
        "sessionExpiry": facts.expiry,
    }
    if members.get("includeSocketInformation"):
        result |= {
            "sourceIp": facts.address or None,
            "sourcePort": facts.port or None,
            "targetIp": facts.own_address or None,
            "targetPort": facts.own_port or None,
        }
    return result


async def _connectivity(change: Change, members: Members, _thing: Thing) -> Result:
    name, result = members["thingName"], {"thingName": members["thingName"], "connected": False}
    try:
        state = await change.environment.messages.client(change.scope, name)
    except NotFound:
        return result
    if not state.connected and state.since is None:
        return result
    result |= {"connected": state.connected, "timestamp": state.since, "clientId": name}
    if not state.connected:
        result["disconnectReason"] = state.reason
    return result | _described(state, members)


@reads("GetThingConnectivityData", finish=_connectivity)
async def get_thing_connectivity_data(tx: Transaction, query: Query, members: Members) -> Thing:
    """The thing's client is the one whose client id is the thing's name, as in most fleets of AWS IoT."""
    return await THINGS.get(tx, *query.scope, members["thingName"])


@answers("DeleteConnection", writes=True)
async def delete_connection(change: Change, members: Members) -> Result:
    state = await _state(change, members)
    if not state.connected and not state.has_session:
        raise NotFound("connection of the client", members["clientId"])
    await change.environment.messages.close_client(
        change.scope,
        members["clientId"],
        with_will=not members.get("preventWillMessage", False),
        discard=members.get("cleanSession", False),
    )
    return {}


@answers("ListSubscriptions")
async def list_subscriptions(change: Change, members: Members) -> Result:
    client_id = _client_id(members)
    found = await change.environment.messages.subscriptions(change.scope, client_id)

    async def fetch(after: str, limit: int) -> list[tuple[str, QoS]]:
        return [each for each in found if each[0] > after][:limit]

    cursor = Cursor(members.get("maxResults", _PAGE_SIZE), members.get("nextToken"))
    page = await page_by_text(change, cursor, f"subscriptions of {client_id}", fetch, lambda each: each[0])
    subscriptions = [{"topicFilter": filter, "qos": qos} for filter, qos in page.items]
    return {"subscriptions": subscriptions, "nextToken": page.next_token}


async def _state(change: Change, members: Members) -> ClientState:
    return await change.environment.messages.client(change.scope, _client_id(members))


def _client_id(members: Members) -> str:
    client_id: str = members["clientId"]
    if _RESERVED in client_id:
        raise NotFound("client", client_id)
    return client_id
