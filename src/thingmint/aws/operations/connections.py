"""Connections of the data plane: look at one client's connection and subscriptions, and close it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import answers
from thingmint.aws.operations.messages import milliseconds
from thingmint.domain.errors import NotFound
from thingmint.services.pages import Cursor, page_by_text

if TYPE_CHECKING:
    from thingmint.aws.operations.declaring import Members, Result
    from thingmint.domain.messages import QoS
    from thingmint.services.change import Change
    from thingmint.services.messages import ClientState

_PAGE_SIZE = 20  # AWS's, for ListSubscriptions
_RESERVED = "#"  # no client id has it, and the names of Yandex devices' sessions do


@answers("GetConnection")
async def get_connection(change: Change, members: Members) -> Result:
    state, facts = await _state(change, members), None
    result: Result = {"clientId": members["clientId"], "connected": state.connected}
    if state.since is not None:
        result["connectedSince" if state.connected else "disconnectedSince"] = milliseconds(state.since)
    if not state.connected:
        result["disconnectReason"] = state.reason
    if (facts := state.facts) is None:
        return result
    result |= {
        "thingName": facts.thing,
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
