"""The log lines and audit records about devices."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

from tests.unit.mqtt.test_sessions import PEER, SCOPE
from thingmint.access.audit import AuditLog
from thingmint.access.context import Outcome
from thingmint.metrics import Metrics
from thingmint.mqtt.connection_log import ConnectionLog, context_of, device_caller
from thingmint.services.refusals import Refusals

if TYPE_CHECKING:
    from tests.world import World


async def test_only_the_first_of_repeated_refusals_is_explained(world: World) -> None:
    trail = AuditLog(world.store, world.clock)
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


CALLER = device_caller(SCOPE, "a" * 64, "c")
RESOURCE = f"arn:aws:iot:{SCOPE.region}:{SCOPE.account}:client/c"


async def records_of(world: World, trail: AuditLog) -> list[dict[str, Any]]:
    await trail.flush()
    return [orjson.loads(record) for (record,) in await world.rows("SELECT record FROM audit_activity ORDER BY id")]


async def test_wrong_passwords_are_one_group_of_their_owner(world: World) -> None:
    """Whatever client ids a client sends that has proven nothing, it does not fill the list of the account."""
    refusals = Refusals(world.store, world.clock)
    log = ConnectionLog(Metrics(), AuditLog(world.store, world.clock), world.clock, groups=refusals)
    owner = "yandex:device/are00000000000000000"
    for n in range(300):
        why = "the password is wrong for device are00000000000000000"
        log.refused(PEER, None, "Connect", None, why, client_id=f"c{n}", claimed=(SCOPE, owner))
    await refusals.flush()
    rows = await world.rows("SELECT account, client_id, action, resource, amount FROM refusals")
    assert rows == [(SCOPE.account, "c299", "Connect", owner, 300)]


async def test_refused_provisioning_is_a_refusal_without_the_names_of_things(world: World) -> None:
    refusals = Refusals(world.store, world.clock)
    log = ConnectionLog(Metrics(), AuditLog(world.store, world.clock), world.clock, groups=refusals)
    template = f"arn:aws:iot:{SCOPE.region}:{SCOPE.account}:provisioningtemplate/t"
    role = "arn:aws:iam::111111111111:role/r is not authorized to perform iot:CreateThing"

    def provisioned(status: int, why: str) -> None:
        context = context_of("192.0.2.7", CALLER, "RegisterThing", world.clock())
        code = None if status == 200 else "ProvisioningFailed"
        log.provisioned(context, Outcome(status=status, code=code, resource=template, details={"reason": why}))

    for number in range(50):
        provisioned(400, f"{role} on arn:aws:iot:us-east-1:111111111111:thing/pump-{number}")
    for status in (200, 429, 503):
        provisioned(status, "other")
    await refusals.flush()
    rows = await world.rows("SELECT certificate, client_id, action, resource, reason, amount, closest FROM refusals")
    ((*found, closest),) = rows
    assert found == [CALLER.credential, CALLER.name, "iot:RegisterThing", template, role, 50]
    assert "thing/pump-0" in closest


async def test_the_end_of_a_connection_is_recorded_with_its_reason(world: World) -> None:
    trail, metrics = AuditLog(world.store, world.clock), Metrics()
    log = ConnectionLog(metrics, trail, world.clock)
    logged = log.connected(PEER, CALLER, "c", RESOURCE, time.perf_counter() - 0.2)
    log.disconnected(PEER, CALLER, "c", RESOURCE, "no packet came in time", logged=logged)
    came, went = sorted(await records_of(world, trail), key=lambda record: record["event"])
    assert (came["event"], came["resource"], came["clientId"]) == ("Connect", RESOURCE, "c")
    assert (went["event"], went["resource"], went["clientId"]) == ("Disconnect", RESOURCE, "c")
    assert (went["reason"], went["outcome"]) == ("no packet came in time", "success")


async def test_ends_of_counted_connections_are_counted(world: World) -> None:
    trail = AuditLog(world.store, world.clock)
    log = ConnectionLog(Metrics(), trail, world.clock)
    for number in range(20):
        logged = log.connected(PEER, CALLER, "c", RESOURCE, time.perf_counter())
        why = "the device disconnected" if number % 2 else "no packet came in time"
        log.disconnected(PEER, CALLER, "c", RESOURCE, why, logged=logged)
    await trail.close()
    records = await records_of(world, trail)
    alone = Counter(record["event"] for record in records if "count" not in record)
    assert alone == {"Connect": 5, "Disconnect": 5}
    counts = {(record["event"], record.get("reason")): record["count"] for record in records if "count" in record}
    assert counts.pop(("Connect", None)) == 15
    assert sorted(counts) == [("Disconnect", "no packet came in time"), ("Disconnect", "the device disconnected")]
    assert sum(counts.values()) == 15


async def test_the_duration_of_connect_is_observed(world: World) -> None:
    metrics = Metrics()
    log = ConnectionLog(metrics, AuditLog(world.store, world.clock), world.clock)
    logged = log.connected(PEER, CALLER, "c", RESOURCE, time.perf_counter() - 2)
    log.disconnected(PEER, CALLER, "c", RESOURCE, "the device disconnected", logged=logged)
    log.refused(PEER, CALLER, "Publish", RESOURCE, "no statement allows it")
    text = metrics.render().decode()
    assert 'thingmint_request_seconds_count{api="mqtt"} 1.0' in text
    assert 'thingmint_request_seconds_bucket{api="mqtt",le="1.0"} 0.0' in text
    for operation in ("Connect", "Disconnect", "Publish"):
        assert f'operation="{operation}"' in text
