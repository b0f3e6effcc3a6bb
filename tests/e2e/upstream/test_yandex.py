"""Owners of Yandex IoT Core see the same behaviour with each kind of broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.e2e.yandex.clients import Cloud
from tests.e2e.yandex.owners import Owners

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.upstream.conftest import BrokeredServer
    from tests.e2e.upstream.device import Identity


class Two(NamedTuple):
    mine: Owners
    theirs: Owners


@pytest.fixture(scope="module")
def two(own_server: BrokeredServer) -> Iterator[Two]:
    cloud = Cloud(own_server.server)
    yield Two(
        Owners(cloud, own_server.folder, topic_aliases={"my/": "$devices/{id}/"}),
        Owners(cloud, own_server.folder, topic_aliases={"their/": "$devices/{id}/"}),
    )
    cloud.close()


def test_messages_pass_between_a_registry_and_its_devices(two: Two) -> None:
    owners = two.mine
    with owners.connected("registry", "r") as registry, owners.connected("device", "d") as device:
        assert registry.subscribe("$devices/+/events/#", f"$registries/{owners.registry}/events") == [1, 1]
        assert device.subscribe("$me/device/commands/#", "my/config", "$registries/#") == [1, 1, 1]
        for topic, shown in (
            ("$me/device/events", f"$devices/{owners.device}/events"),
            ("my/events/a.b/*", f"$devices/{owners.device}/events/a.b/*"),
            (f"devices/{owners.device}/events//", f"$devices/{owners.device}/events//"),
            ("$me/registry/events", f"$registries/{owners.registry}/events"),
        ):
            assert not device.publish(topic).failed
            assert registry.receive().topic == shown
        for topic, shown in (
            (f"$devices/{owners.device}/commands", "$me/device/commands"),
            (f"$devices/{owners.device}/commands/a/b", "$me/device/commands/a/b"),
            ("my/config", "my/config"),
            (f"$registries/{owners.registry}/config", f"$registries/{owners.registry}/config"),
        ):
            assert not registry.publish(topic).failed
            assert device.receive().topic == shown


def test_all_clients_of_a_broker_hear_its_topics_and_no_others(two: Two) -> None:
    with (
        two.mine.connected("broker", "a") as one,
        two.mine.connected("broker", "b") as other,
        two.theirs.connected("broker", "c") as foreign,
    ):
        assert other.subscribe("#") == foreign.subscribe("#") == [1]
        for topic in ("any/topic", "a", "/", "devices/x/events", "a/."):
            assert not one.publish(topic).failed
            assert other.receive().topic == topic
        assert not foreign.publish("own").failed
        assert foreign.receive().topic == "own"


@pytest.mark.parametrize("kind", ["device", "registry", "broker"])
def test_no_registry_hears_another(two: Two, kind: str, brokered: BrokeredServer, identity: Identity) -> None:
    """Nor do devices of AWS."""
    of_aws = brokered.device(identity, "aws")
    assert not any(reason.failed for reason in of_aws.subscribe("#", "+/+", "+/+/+/+").reasons)
    with two.mine.connected(kind, "reader") as reader, two.theirs.connected("device", "writer") as writer:
        for filter in ("$devices/#", "$registries/#", "#", "+/#", "devices/#", "$devices/+/+/#", "my/#", "their/#"):
            reader.subscribe(filter)
        for topic in ("$me/device/events", "their/events/x", "$me/registry/events"):
            assert not writer.publish(topic).failed
        with two.theirs.connected("registry", "r") as registry, two.theirs.connected("broker", "b") as broker:
            assert not registry.publish(f"$devices/{two.theirs.device}/commands").failed
            assert not broker.publish("any/topic").failed
            assert not broker.publish("my/events").failed
        # A message that is sent later and arrives: the others would have arrived before it.
        last = {"device": f"$devices/{two.mine.device}/commands", "registry": "$me/device/events", "broker": "last"}
        sender = {"device": "registry", "registry": "device", "broker": "broker"}[kind]
        with two.mine.connected(sender, "last") as device:
            assert not device.publish(last[kind], b"last").failed
        received = reader.receive()
        while received.payload != b"last":  # its own permanent topics have last messages of earlier tests
            assert two.mine.device in received.topic or two.mine.registry in received.topic
            received = reader.receive()
        assert {message.payload for message in reader.drain()} <= {b"last"}, "once for each filter, with Mosquitto"
    of_aws.publish("last/one")
    assert of_aws.message().topic == "last/one"


def test_the_same_client_id_of_different_owners_stays_connected(two: Two) -> None:
    with two.mine.connected("device", "same") as device, two.mine.connected("other", "same") as other:
        assert device.is_open
        with two.mine.connected("device", "same") as newer:
            device.until_closed()
            assert newer.is_open
        assert other.is_open


def test_new_aliases_hold_for_open_subscriptions(two: Two) -> None:
    owners = two.mine
    with owners.connected("registry", "r") as registry:
        assert registry.subscribe("+/events") == [1]
        owners.cloud.device(owners.registry, topic_aliases={"fresh/": "$devices/{id}/"})
        with owners.connected("device", "d") as device:
            assert not device.publish("my/events").failed
        assert registry.receive().topic == "my/events"
