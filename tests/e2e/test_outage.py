"""A gateway without its database: devices stay connected, but unauthorized messages do not pass."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import iot_client
from tests.e2e.databases import connected, device, metric, readiness, served, several
from tests.e2e.mqtt.devices import Closed, Device
from tests.e2e.wire import until
from thingmint.mqtt.protocol.packets import PingReq, PingResp, PubAck, Publish, Will
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.testing.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from thingmint.testing import RunningServer

AWAY = 4.0  # seconds


def follows(server: RunningServer) -> bool:
    return metric(server, "changes_followed") == 1


@contextlib.contextmanager
def stopped(postgres: Postgres) -> Iterator[None]:
    """Stops the database as a crash does, and starts it again."""
    postgres.stop(signal.SIGQUIT)
    try:
        yield
    finally:
        postgres.start()


@pytest.mark.parametrize("away", [stopped, Postgres.frozen])
def test_devices_stay_connected_during_an_outage_and_lose_nothing(
    tmp_path: Path, postgres: Postgres, url: str, away: Callable[[Any], Any]
) -> None:
    with served(tmp_path / "data", url) as server:
        iot = iot_client(server)
        listener, speaker, late = (device(tmp_path, iot) for _ in range(3))
        with (
            connected(server, listener, "listener") as hears,
            connected(server, speaker, "speaker") as speaks,
            Device(server, late) as late_device,
        ):
            hears.subscribe("t")
            with away(postgres):
                until(lambda: not follows(server), seconds=20, what="the server notices that the database is gone")
                speaks.send(Publish("t", b"meanwhile", 1, packet_id=1), PingReq())
                assert isinstance(speaks.read(), PingResp), "no PUBACK without the database"
                assert hears.nothing_comes()
                with pytest.raises(Closed) as refused:
                    late_device.connect("late_device")
                assert refused.value.reason is Reason.SERVER_UNAVAILABLE
                time.sleep(AWAY)
                assert hears.nothing_comes()
            until(lambda: follows(server), seconds=30, what="the change feed is current again")
            assert hears.receive().payload == b"meanwhile"
            assert speaks.expect(PubAck).packet_id == 1
            assert speaks.publish("t", b"after") is Reason.SUCCESS
            assert hears.receive().payload == b"after"
        until(lambda: readiness(server) == 200, seconds=20, what="ready again")


@pytest.mark.parametrize("away", [stopped, Postgres.frozen])
def test_devices_are_disconnected_when_the_grace_period_ends(
    tmp_path: Path, postgres: Postgres, url: str, away: Callable[[Any], Any]
) -> None:
    with served(tmp_path / "data", url, THINGMINT_MQTT_OUTAGE_GRACE="2s") as server:
        made = device(tmp_path, iot_client(server))
        with connected(server, made, "lamp") as lamp:
            with away(postgres):
                closed = lamp.until_closed(60)
                assert closed.reason is Reason.SERVER_BUSY
                for _ in range(3):  # those that come now are told why, too
                    with Device(server, made) as late, pytest.raises(Closed) as refused:
                        late.connect("lamp")
                    assert refused.value.reason is Reason.SERVER_UNAVAILABLE
            until(lambda: readiness(server) == 200, seconds=20, what="ready again")
        with connected(server, made, "lamp") as lamp:
            assert lamp.nothing_comes()


def test_a_will_that_was_due_during_an_outage_is_published_afterwards(
    tmp_path: Path, postgres: Postgres, url: str
) -> None:
    with served(tmp_path / "data", url) as server:
        iot = iot_client(server)
        with (
            connected(server, device(tmp_path, iot), "listener") as hears,
            Device(server, device(tmp_path, iot)) as gone,
        ):
            hears.subscribe("w")
            gone.connect("gone", will=Will("w", b"gone", qos=1))
            with stopped(postgres):
                until(lambda: not follows(server), seconds=20, what="the server notices that the database is gone")
                gone.reset()
                assert hears.nothing_comes()
            assert hears.receive().topic == "w"


@pytest.mark.parametrize("change", ["deactivated", "policy detached"])
def test_a_device_whose_access_was_revoked_during_an_outage_gets_no_messages(
    tmp_path: Path, url: str, change: str
) -> None:
    """The device's process was suspended while another process made the change."""
    with several(tmp_path, url) as (first, second):
        iot = iot_client(second)
        victim, speaker = device(tmp_path, iot), device(tmp_path, iot)
        with connected(first, victim, "victim") as hears, connected(first, speaker, "speaker") as speaks:
            hears.subscribe("t")
            first.process.send_signal(signal.SIGSTOP)
            try:
                speaks.send(Publish("t", b"secret", 1, packet_id=1))
                hears.send(Publish("t", b"late", 1, packet_id=1))
                if change == "deactivated":
                    iot.update_certificate(certificateId=victim.fingerprint, newStatus="INACTIVE")
                else:
                    iot.detach_policy(policyName="all", target=victim.arn)
                time.sleep(1.5)
            finally:
                first.process.send_signal(signal.SIGCONT)
            closed = hears.until_closed()
            assert [packet for packet in closed.packets if isinstance(packet, Publish)] == []
            assert speaks.expect(PubAck).packet_id == 1
