"""Two connections of one client id in one process: the last one to take the session over has the client id."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.unit.mqtt.test_sessions import SCOPE, Transport, World, settle
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import Connect
from thingmint.mqtt.sessions import Session
from thingmint.mqtt.takeovers import Takeovers
from thingmint.services.authentication_decisions import Rejected, RejectionReason
from thingmint.services.client_ids import Claim

if TYPE_CHECKING:
    from thingmint.domain.arns import Scope


class ClientIds:
    """The first claim takes longer than later claims."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.order: list[str] = []
        self.released: list[Claim] = []

    async def claim(self, scope: Scope, client_id: str, about: str) -> Claim:
        number = self.order.count("begun") + 1
        self.order.append("begun")
        if number == 1:
            await self.go.wait()
        self.order.append(f"claimed {number}")
        return Claim(scope, client_id, number)

    def release(self, claim: Claim, kept: float) -> None:
        self.released.append(claim)


@pytest.mark.parametrize("changed", [False, True])
async def test_a_connection_that_ends_during_its_claim_releases_the_client_id(*, changed: bool) -> None:
    world, ids = World(), ClientIds()
    object.__setattr__(world.session._services, "takeovers", Takeovers(cast("Any", ids), world.clients))
    await world.connect()
    assert ids.order == ["begun"]
    world.session._stale = changed
    world.authenticator.rejection = Rejected(RejectionReason.NOT_AUTHORIZED, "revoked") if changed else None
    world.connection.connection_lost(None)
    ids.go.set()
    await settle(20)
    assert ids.released == [Claim(SCOPE, "c", 1)]


async def test_claims_follow_the_order_of_the_takeovers() -> None:
    world, ids = World(), ClientIds()
    services: Any = world.session._services
    object.__setattr__(services, "takeovers", Takeovers(cast("Any", ids), world.clients))
    second = Session(services, world.session.peer).connection
    second.connection_made(Transport())
    world.authenticator.go.set()
    world.send(Connect(5, "c"))
    await settle()
    second.data_received(encode(Connect(5, "c"), 5))
    await settle()
    assert (world.broker.opened, ids.order) == (1, ["begun"])
    ids.go.set()
    await settle(20)
    assert world.broker.opened == 2
    assert ids.order == ["begun", "claimed 1", "begun", "claimed 2"]
    world.connection.connection_lost(None)
    assert ids.released == [Claim(SCOPE, "c", 1)]
