"""How /readyz and /metrics report the upstream broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import orjson
import pytest

from tests.unit.mqtt.broker.upstream.fake_upstream import FakeTarget, settle
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Unavailable
from thingmint.http.probes import probes
from thingmint.metrics import Metrics
from thingmint.mqtt.broker.interface import Opening
from thingmint.mqtt.broker.upstream import Upstream, UpstreamBroker
from thingmint.mqtt.broker.upstream.reachability import Reachability
from thingmint.server.gauges import watch_upstream

if TYPE_CHECKING:
    from typing import Any

    from thingmint.mqtt.broker.upstream.target import Target


class Store:
    ready = True
    trouble = "the disk is full"


def ready(broker: UpstreamBroker, store: Any = Store) -> tuple[int, dict[str, str]]:
    answer = probes(store, Metrics(), lambda: broker.trouble)[b"/readyz"]._answer(None)
    return answer.status, orjson.loads(answer.body)


async def until_ready(broker: UpstreamBroker) -> None:
    while broker.trouble is not None:
        await settle()


def metrics_of(broker: UpstreamBroker) -> dict[str, float]:
    metrics = Metrics()
    watch_upstream(metrics, broker)
    lines = (line.split() for line in metrics.render().decode().splitlines() if line.startswith("thingmint_broker_"))
    return {name.removeprefix("thingmint_broker_"): float(value) for name, value in lines}


async def test_readiness_follows_the_broker() -> None:
    target = FakeTarget()
    target.down = True
    broker = UpstreamBroker(Upstream(cast("Target", target)), open_timeout=0.2)
    await broker.start()
    await settle()
    status, report = ready(broker)
    assert (status, report["status"], report["store"], report["broker"]) == (503, "unavailable", "ok", "unavailable")
    assert "broker" in report["reason"]
    assert metrics_of(broker)["ready"] == 0
    assert metrics_of(broker)["upstream_failures_total"] >= 1
    target.down = False
    await until_ready(broker)
    assert ready(broker) == (200, {"status": "ok", "store": "ok", "broker": "ok"})
    assert metrics_of(broker)["ready"] == 1
    assert metrics_of(broker)["upstream_connections"] == 1
    target.down = True
    target.transports[0].close()
    await settle()
    assert ready(broker)[0] == 503
    await broker.stop()


async def test_readiness_reports_store_and_broker() -> None:
    class Full(Store):
        ready = False

    broker = UpstreamBroker(Upstream(cast("Target", FakeTarget())))
    status, report = ready(broker, Full)
    assert status == 503
    assert report["reason"] == (
        "changes are refused: the disk is full; "
        "devices are refused: the broker cannot be used: there is no connection yet"
    )


async def test_a_failed_connection_of_a_device_counts_as_unreachable() -> None:
    target = FakeTarget()
    broker = UpstreamBroker(Upstream(cast("Target", target)), open_timeout=0.1)
    await broker.start()
    await until_ready(broker)
    target.down = True  # the gateway's own connection stays open
    opening = Opening(Scope("123456789012", "us-east-1"), "lamp", 5, clean_start=True, expiry=0, receive_maximum=10)
    with pytest.raises(Unavailable):
        await broker.open(opening, cast("Any", None))
    assert broker.trouble is not None
    await broker.stop()


def test_a_failed_attempt_counts_for_a_minute() -> None:
    now = [1000.0]
    reachability = Reachability(lambda: now[0])
    report = [reachability.trouble(connected=True)]
    reachability.failed("refused")
    report.append(reachability.trouble(connected=True))
    now[0] += 61
    report.append(reachability.trouble(connected=True))
    reachability.failed("refused")
    reachability.succeeded()
    report += [reachability.trouble(connected=connected) for connected in (True, False)]
    assert report == [None, "refused", None, None, "refused"]
