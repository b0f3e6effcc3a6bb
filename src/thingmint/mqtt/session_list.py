"""Lists the sessions of the devices that are connected to this process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from thingmint.domain.errors import Unsupported
from thingmint.services.authentication_decisions import parts_of_session_name, session_name
from thingmint.services.live_sessions import LiveSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.domain.arns import Scope
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.mqtt.connected_clients import ConnectedClients, Place
    from thingmint.services.live_sessions import SessionFilter, SessionQuestion

_AT_ONCE = 200  # sessions that are looked at before others get their turn: about a millisecond


class LocalSessionList:
    """Implements LocalSessions (services/live_sessions.py). ``process`` is this process's name."""

    def __init__(self, broker: Broker, clients: ConnectedClients, process: str) -> None:
        self._broker = broker
        self._clients = clients
        self._process = process

    async def __call__(self, scope: Scope, question: SessionQuestion) -> list[LiveSession]:
        found: list[LiveSession] = []
        places = self._clients.places(scope, _name_of(question.wanted))
        if not question.ascending:
            places.reverse()
        for number, place in enumerate(places, 1):
            if not number % _AT_ONCE:
                await asyncio.sleep(0)
            if question.after is not None and _is_before(place, question):
                continue
            session = self._described(scope, place, details=question.wanted.details)
            if question.wanted.matches(session):
                found.append(session)
                if len(found) == question.limit:
                    break
        return found

    def _described(self, scope: Scope, place: Place, *, details: bool) -> LiveSession:
        micros, name, connected = place
        client_id, owner = parts_of_session_name(name)
        facts, usage = connected.facts, connected.usage
        filters = usage.filters if owner is not None else self._filters(scope, name, usage.filters)
        return LiveSession(
            name=name,
            client_id=client_id,
            owner=owner,
            certificate=connected.certificate_id,
            thing=facts.thing,
            address=facts.address,
            port=facts.port,
            protocol="MQTT 5" if connected.version == 5 else "MQTT 3.1.1",
            connected_at=micros,
            idle=round(usage.idle, 1),
            keep_alive=facts.keep_alive,
            expiry=facts.expiry,
            subscriptions=len(filters),
            queued=self._broker.queued(scope, name),
            received=usage.received,
            sent=usage.sent,
            process=self._process,
            filters=sorted(filters) if details else (),
        )

    def _filters(self, scope: Scope, name: str, of_connection: Sequence[str]) -> Sequence[str]:
        """The subscriptions of the session, also those of an earlier connection if the broker is embedded."""
        try:
            found = self._broker.subscriptions(scope, name)
        except Unsupported:
            return of_connection
        return [each.filter for each in found or ()]


def _name_of(wanted: SessionFilter) -> str | None:
    """The name of the only session that satisfies the filter, if it tells a client id."""
    return None if wanted.client_id is None else session_name(wanted.client_id, wanted.owner)


def _is_before(place: Place, question: SessionQuestion) -> bool:
    assert question.after is not None
    position = place[0], place[1]
    return position <= question.after if question.ascending else position >= question.after
