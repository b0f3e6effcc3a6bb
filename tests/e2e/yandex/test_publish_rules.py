"""Publish over the API refuses the topics that MQTT refuses, and reaches the same subscribers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from tests.e2e.yandex.clients import METHODS, Refused
from tests.e2e.yandex.owners import Owners
from tests.e2e.yandex.test_mqtt_topics import NOT_PUBLISHED, Two, names

if TYPE_CHECKING:
    from tests.e2e.yandex.clients import Cloud


@pytest.fixture(scope="module")
def two(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Two:
    folder = tmp_path_factory.mktemp("owners")
    return Two(
        Owners(cloud, folder, topic_aliases={"my/alias/": "$devices/{id}/", "x": "$devices/{id}/events/x"}),
        Owners(cloud, folder, topic_aliases={"their/alias/": "$devices/{id}/"}),
    )


def publish(owners: Owners, kind: str, topic: str, wire: str = "grpc", **others: Any) -> Any:
    method = f"{kind.title()}DataService/Publish"
    fields = {f"{kind}_id": owners.ids[kind], "topic": topic, "data": b"x", **others}
    return owners.cloud.wire(wire).call(method, GetMessageClass(METHODS[method].input_type)(**fields))


@pytest.mark.parametrize("kind", list(NOT_PUBLISHED))
def test_topics_that_mqtt_refuses_are_denied(two: Two, kind: str) -> None:
    published = []
    for name in [*names(kind, NOT_PUBLISHED), "a/+", "#", "\0", ""]:
        if name == "x" and kind == "device":
            continue  # a device publishes to its own alias
        try:
            publish(two.mine, kind, two.filled(name))
        except Refused as refused:
            wanted = "INVALID_ARGUMENT" if name in ("a/+", "#", "\0", "") else "PERMISSION_DENIED"
            if refused.code == wanted:
                continue
        published.append(name)
    assert not published


def test_messages_of_the_api_reach_subscribers_over_mqtt(two: Two, wire_name: str) -> None:
    owners = two.mine
    with (
        owners.connected("registry", "r") as registry,
        owners.connected("device", "d") as device,
        owners.connected("broker", "b") as broker,
        two.theirs.connected("registry", "t") as foreign,
        two.theirs.connected("broker", "u") as foreign_broker,
    ):
        assert registry.subscribe("$devices/+/events/#") == device.subscribe("$me/device/commands") == [1]
        assert broker.subscribe("#") == foreign.subscribe("$devices/+/events/#") == foreign_broker.subscribe("#") == [1]
        for topic in ("$me/device/events", "my/alias/events", f"devices/{owners.device}/events"):
            publish(owners, "device", topic, wire_name)
            assert registry.receive().topic == f"$devices/{owners.device}/events"
        publish(owners, "registry", f"$devices/{owners.device}/commands", wire_name)
        assert device.receive().topic == "$me/device/commands"
        publish(owners, "broker", "devices/x/events", wire_name)
        assert broker.receive().topic == "devices/x/events"
        assert foreign.nothing_comes()
        assert foreign_broker.nothing_comes()
        assert registry.nothing_comes()
