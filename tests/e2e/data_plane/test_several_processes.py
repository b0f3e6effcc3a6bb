"""The data plane with several processes on one database, and with a broker of the operator."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import iot_client
from tests.e2e.data_plane.conftest import data_client
from tests.e2e.data_plane.test_messages import refusal
from tests.e2e.databases import device, several
from tests.e2e.mqtt.devices import Device
from tests.e2e.upstream.brokers import mosquitto
from tests.e2e.wire import until
from thingmint.mqtt.protocol.packets import Will
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.mqtt.devices import Credential
    from thingmint.testing import RunningServer


@pytest.fixture
def processes(tmp_path: Path, url: str) -> Iterator[tuple[RunningServer, RunningServer]]:
    with mosquitto(tmp_path) as broker:
        settings = json.dumps(broker.settings | {"version": "5"})
        with several(tmp_path, url, THINGMINT_BROKER=settings) as (here, there):
            yield here, there


def opened(server: RunningServer, made: Credential, **fields: Any) -> Device:
    device = Device(server, made)
    device.connect("lamp", clean_start=False, session_expiry=600, **fields)
    return device


def test_a_connection_of_another_process(processes: tuple[RunningServer, RunningServer], tmp_path: Path) -> None:
    here, there = processes
    made, other = device(tmp_path, iot_client(here)), device(tmp_path, iot_client(here))
    with contextlib.closing(data_client(here)) as data, Device(there, other) as observer:
        observer.connect("observer")
        observer.subscribe("gone", "ready")
        for prevent in (False, True):
            for clean in (False, True):
                with opened(there, made, will=Will("gone", b"will", 1)) as lamp:
                    lamp.subscribe("a/b")
                    shown = data.get_connection(clientId="lamp")
                    assert shown["connected"]
                    assert shown["connectedSince"] > 0
                    assert "keepAliveDuration" not in shown  # only the other process knows
                    data.delete_connection(clientId="lamp", cleanSession=clean, preventWillMessage=prevent)
                    assert lamp.until_closed().reason is Reason.ADMINISTRATIVE_ACTION
                if not prevent:
                    assert observer.receive().payload == b"will"

                def is_gone() -> bool:
                    try:
                        return not data.get_connection(clientId="lamp")["connected"]
                    except data.exceptions.ResourceNotFoundException:
                        return True

                until(is_gone, seconds=20, what="the connection is not listed any more")
                with Device(there, made) as again:
                    answer = again.connect("lamp", clean_start=False, session_expiry=600)
                    assert answer.session_present is not clean
                    again.unsubscribe("a/b")
                    again.disconnect(session_expiry=0)
        data.publish(topic="ready", payload=b"ready", qos=1)
        assert observer.receive().payload == b"ready"
        # A client that has reconnected since is not closed.
        with opened(there, made) as lamp:
            assert lamp.nothing_comes()


def test_what_only_the_operators_broker_knows(processes: tuple[RunningServer, RunningServer], tmp_path: Path) -> None:
    here, _ = processes
    made = device(tmp_path, iot_client(here))
    with contextlib.closing(data_client(here)) as data:
        with opened(here, made) as lamp:
            lamp.subscribe("a/b")
            data.publish(topic="a/b", payload=b"x", qos=1, retain=True, contentType="text/plain")
            message = lamp.receive()
            assert (message.payload, message.properties.content_type) == (b"x", "text/plain")
            for call, given in (
                (data.list_subscriptions, {"clientId": "lamp"}),
                (data.get_retained_message, {"topic": "a/b"}),
                (data.list_retained_messages, {}),
            ):
                status, code, text = refusal(call, **given)
                assert (status, code) == (501, "NotImplementedException")
                assert "the MQTT broker behind this server" in text
            lamp.disconnect()
        shown = data.get_connection(clientId="lamp")
        assert (shown["connected"], shown["cleanSession"]) == (False, False)
        data.delete_connection(clientId="lamp", cleanSession=True)
        with Device(here, made) as again:
            until(
                lambda: not again.connect("lamp", clean_start=False, session_expiry=600).session_present,
                seconds=1,
                what="the session ended",
            )
