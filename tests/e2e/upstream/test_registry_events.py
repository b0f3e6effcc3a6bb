"""Registry events of several processes, of processes that were killed, and without a broker."""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
import time
from typing import TYPE_CHECKING, Any

from tests.e2e.conftest import iot_client
from tests.e2e.databases import connected, device, metric, several
from tests.e2e.upstream.brokers import mosquitto
from tests.e2e.wire import until
from thingmint.testing import running_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.mqtt.devices import Device
    from thingmint.testing import RunningServer

CREATED = "$aws/events/thing/+/created"


def enable(server: RunningServer) -> Any:
    iot = iot_client(server)
    iot.update_event_configurations(eventConfigurations={"THING": {"Enabled": True}})
    return iot


def thing_of(reader: Device) -> str:
    message = reader.receive()
    name: str = json.loads(message.payload)["thingName"]
    assert message.topic == f"$aws/events/thing/{name}/created"
    return name


def test_each_process_publishes_what_any_of_them_changes(tmp_path: Path, url: str) -> None:
    with mosquitto(tmp_path) as broker:
        settings = json.dumps(broker.settings | {"version": "5"})
        with several(tmp_path, url, THINGMINT_BROKER=settings) as servers:
            iot = enable(servers[0])
            made = device(tmp_path, iot)
            until(lambda: any(metric(each, "events_lease_held") for each in servers), seconds=20, what="a publisher")
            (publisher,) = (each for each in servers if metric(each, "events_lease_held"))
            (other,) = (each for each in servers if each is not publisher)
            with connected(other, made, "reader") as reader:
                reader.subscribe(CREATED)
                for number, server in enumerate(servers):
                    iot_client(server).create_thing(thingName=f"t{number}")
                    assert thing_of(reader) == f"t{number}"
                # The lease of a killed process ends after a few seconds, and the other publishes.
                until(lambda: metric(publisher, "events_published_total") == 2, seconds=30, what="both events are done")
                publisher.kill()
                iot_client(other).create_thing(thingName="later")
                until(lambda: metric(other, "events_published_total") == 1, seconds=30, what="the other publishes")
                assert thing_of(reader) == "later"


def test_a_kill_between_the_commit_and_the_publication_loses_no_event(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        environment = {"THINGMINT_BROKER": json.dumps(broker.settings | {"version": "5"})}
        data = tmp_path / "data"
        with running_server(data, environment=environment) as server:
            iot = enable(server)
            made = device(tmp_path, iot)
            with connected(server, made, "reader") as reader:
                reader.subscribe(CREATED)
            broker.kill()
            until(lambda: metric(server, "broker_ready") == 0, seconds=30, what="the server knows that it is alone")
            iot.create_thing(thingName="t")
            assert metric(server, "events_published_total") == 0
            server.kill()
        broker.start()
        with running_server(data, environment=environment) as server, connected(server, made, "reader") as reader:
            reader.subscribe(CREATED)
            assert thing_of(reader) == "t"
            until(lambda: metric(server, "events_published_total") == 1, seconds=30, what="the event is done")


def test_events_wait_while_the_broker_is_away(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        environment = {"THINGMINT_BROKER": json.dumps(broker.settings | {"version": "5"})}
        with running_server(environment=environment) as server:
            iot = enable(server)
            made = device(tmp_path, iot)
            with broker.stopped():
                iot.create_thing(thingName="t")
                until(lambda: metric(server, "events_failing") == 1, seconds=60, what="the server noticed")
            with connected(server, made, "reader") as reader:
                reader.subscribe(CREATED)
                assert thing_of(reader) == "t"


def test_events_that_a_process_left_over_wait_for_their_subscribers(tmp_path: Path) -> None:
    """Sessions of the embedded broker ended with the process."""
    data = tmp_path / "data"
    with running_server(data) as server:
        iot = enable(server)
        made = device(tmp_path, iot)
        account = iot.create_thing(thingName="before")["thingArn"].split(":")[4]
    with contextlib.closing(sqlite3.connect(data / "thingmint.db")) as store, store:
        event = ("$aws/events/thing/t/created", json.dumps({"thingName": "t"}))
        queued = (account, "us-east-1", time.time_ns() // 1000, secrets.token_bytes(16), *event)
        store.execute("INSERT INTO queued_events VALUES (?, ?, ?, ?, ?, ?)", queued)
    with running_server(data) as server:
        time.sleep(2)  # in which the server looks at least once
        with connected(server, made, "reader") as reader:
            reader.subscribe(CREATED)
            assert thing_of(reader) == "t"
            assert reader.nothing_comes()
