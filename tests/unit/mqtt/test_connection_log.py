"""What the log and the audit trail are told of devices."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.unit.mqtt.test_sessions import PEER, SCOPE
from thingmint.access.audit import AuditTrail
from thingmint.metrics import Metrics
from thingmint.mqtt.connection_log import ConnectionLog, device_caller

if TYPE_CHECKING:
    from tests.world import World


async def test_only_the_first_of_repeated_refusals_is_explained(world: World) -> None:
    trail = AuditTrail(world.store, world.clock)
    caller = device_caller(SCOPE, "a" * 64, "c")
    log, asked = ConnectionLog(Metrics(), trail, world.clock), Counter[str]()

    def explain() -> list[str]:
        asked["asked"] += 1
        return ["statement 0 of policy p: would allow it, but"]

    for number in range(50):
        log.refused(PEER, caller, "Publish", f"topic/{number}", "no statement allows it", explain)
    assert asked["asked"] == 1
    await trail.flush()
    ((record,),) = await world.rows("SELECT record FROM audit_activity")
    assert '"closest":["statement 0 of policy p: would allow it, but"]' in record
