"""Topics of every wrong shape, for every kind of owner: a publish ends the connection, a subscription is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.mqtt.devices import Closed, Device
from tests.e2e.yandex.owners import Owners
from thingmint.mqtt.protocol.packets import Connect, Publish, Will
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from tests.e2e.yandex.clients import Cloud

NOT_AUTHORIZED = Reason.NOT_AUTHORIZED


class Two(NamedTuple):
    """Two registries with their devices and brokers, in one account."""

    mine: Owners
    theirs: Owners

    def filled(self, name: str) -> str:
        """The topic, with ids in place of their names."""
        for prefix, owners in (("their_", self.theirs), ("", self.mine)):
            for kind, id in owners.ids.items():
                name = name.replace(f"<{prefix}{kind}>", id)
        return name


@pytest.fixture(scope="module")
def two(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Two:
    folder = tmp_path_factory.mktemp("owners")
    return Two(
        Owners(cloud, folder, topic_aliases={"my/alias/": "$devices/{id}/", "x": "$devices/{id}/events/x"}),
        Owners(cloud, folder, topic_aliases={"their/alias/": "$devices/{id}/"}),
    )


# Neither a device nor a registry may publish or subscribe to these; nor may a broker, if they begin with $.
WRONG_SHAPES = [
    "$",
    "$/",
    "$devices/",
    "$devices//events",
    "$devices/<device>",
    "$devices/<device>/",
    "$devices/<device>//events",
    "$devices/<device>/Events",
    "$devices/<device>/event",
    "$devices/<device>/eventss",
    "$devices/<device>/ events",
    "$devices/<device>/events\u200b",
    "$devices/ <device>/events",
    "$devices/<device> /events",
    "$DEVICES/<device>/events",
    "$device/<device>/events",
    "$devices<device>/events",
    "$$devices/<device>/events",
    "$registries/",
    "$registries//events",
    "$registries/<registry>",
    "$registries/<registry>/",
    "$registries/<device>/events",
    "$registries/<registry>/json",
    "$devices/<registry>/events",
    "$devices/<broker>/events",
    "$brokers/<broker>/events",
    "$monitoring/",
    "$monitoring/<device>",
    "$monitoring/<device>/",
    "$monitoring/<device>/xml",
    "$monitoring/<device>/events",
    "$monitoring/<device>/json/x",
    "$me",
    "$me/",
    "$me/device",
    "$me/device/",
    "$me/device/json",
    "$me/devices/events",
    "$me/registries/events",
    "$me/broker/events",
    "$me/monitoring",
    "$me/monitoring/xml",
    "$me/<device>/events",
    "$me//device/events",
    "$aws/things/x/shadow/update",
    "$yandex/<registry>/devices/<device>/events/.",
    "$yandex/<registry>/devices/<device>/events",
    "$yandex/<broker>/any/.",
    "$share/group/$devices/<device>/events",
    "$SYS/broker",
    "$devices/<their_device>/events",
    "$devices/<their_device>/state",
    "$devices/<their_device>/commands",
    "$devices/<their_device>/config",
    "$registries/<their_registry>/events",
    "$registries/<their_registry>/commands",
    "devices/<their_device>/events",
    "devices/<their_device>/commands",
    "registries/<their_registry>/events",
    "registries/<their_registry>/commands",
    "their/alias/events",
    "their/alias/commands",
    "my/alia",
    "my/alias",
    "my/alias/",
    "my/alias//events",
    "My/alias/events",
    "/my/alias/events",
    "devices",
    "devices/",
    "devices/<device>",
    "Devices/<device>/events",
    "registries/<registry>",
    "monitoring/<device>/json",
    "me/device/events",
    "/",
    "//",
    " ",
    "y",
    "/$devices/<device>/events",
    "any/topic",
]

NOT_PUBLISHED = {
    "device": [
        "$devices/<device>/commands",
        "$devices/<device>/config",
        "$devices/<device>/commands/events",
        "$devices/<other>/events",
        "$registries/<registry>/commands",
        "$monitoring/<device>/json",
        "$me/monitoring/json",
        "$me/device/commands",
        "$me/registry/config",
        "my/alias/commands",
        "devices/<other>/events",
    ],
    "registry": [
        "$devices/<device>/events",
        "$devices/<device>/state",
        "$registries/<registry>/events",
        "$registries/<registry>/state",
        "$monitoring/<device>/json",
        "$me/device/events",
        "$me/device/commands",
        "$me/registry/events",
        "my/alias/events",
        "x",
    ],
    "broker": [],
}

NOT_READ = {
    "device": [
        "$devices/<device>/events",
        "$devices/<device>/events/#",
        "$devices/<device>/state",
        "$devices/<other>/commands",
        "$devices/+/events/#",
        "$registries/<registry>/events",
        "$me/device/events",
        "$me/+/commands",
        "my/alias/events",
        "+/events",
        "their/#",
        "$+/<device>/commands",
        "$monitoring/+/+/x",
        "$share/g/$me/device/commands",
        "$share/g/#",
    ],
    "registry": [
        "$devices/<device>/commands",
        "$devices/+/config",
        "$registries/<registry>/commands/#",
        "$registries/<their_registry>/#",
        "$devices/<their_device>/#",
        "$monitoring/<their_device>/json",
        "$me/device/#",
        "my/alias/commands",
        "their/#",
        "$share/g/$devices/+/events",
    ],
    "broker": ["$devices/#", "$yandex/#", "$SYS/#", "$share/g/any", "$+/any", "$#"],
}


def names(kind: str, further: dict[str, list[str]]) -> list[str]:
    return [*(name for name in WRONG_SHAPES if kind != "broker" or name.startswith("$")), *further[kind]]


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, further in NOT_PUBLISHED.items() for name in names(kind, NOT_PUBLISHED)]
)
def test_a_publish_to_another_topic_ends_the_connection(two: Two, kind: str, name: str) -> None:
    if name == "x" and kind == "device":
        pytest.skip("a device publishes to its own alias")
    with two.mine.connected(kind) as device:
        device.send(Publish(two.filled(name), b"x", 0))
        assert not device.is_open


def has_no_kind(name: str) -> bool:
    """Such filters are accepted, as Yandex accepts "$devices/+", but no topic matches them."""
    levels = name.removeprefix("$").split("/")
    return levels[0] in ("devices", "registries", "monitoring", "me") and len(levels) == 2


@pytest.mark.parametrize("kind", list(NOT_READ))
def test_other_subscriptions_are_refused_and_the_connection_goes_on(two: Two, kind: str) -> None:
    wrong = [two.filled(name) for name in names(kind, NOT_READ) if kind == "broker" or not has_no_kind(name)]
    for begin in range(0, len(wrong), 50):
        with two.mine.connected(kind, version=5) as device:
            accepted = [name for name in wrong[begin : begin + 50] if not device.subscribe(name)[0].failed]
            assert not accepted
            assert device.is_open


def test_after_a_hundred_refusals_the_connection_ends(two: Two) -> None:
    filters = [f"$devices/{number}/commands" for number in range(100)]
    with two.mine.connected("device", version=5) as device, pytest.raises(Closed) as closed:
        device.subscribe(*filters)
    assert closed.value.reason is NOT_AUTHORIZED


MALFORMED = ["", "a#", "#/a", "a/#/b", "a+", "+a", "a/b+/c", "$devices/+x/events", "\0", "a\0b"]


@pytest.mark.parametrize("kind", list(NOT_READ))
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_topics_and_filters_end_the_connection(two: Two, kind: str, name: str) -> None:
    """As MQTT demands (3.1.1, 4.7)."""
    text = name.encode()
    length = len(text).to_bytes(2)
    subscribe = b"\x00\x01" + length + text + b"\x01"
    publish = length + text + b"x"
    for kind_of_packet, body in ((b"\x82", subscribe), (b"\x30", publish)):
        with two.mine.connected(kind) as device:
            device.send_bytes(kind_of_packet + bytes([len(body)]) + body)
            assert not device.is_open


def test_topics_may_have_1024_bytes(two: Two) -> None:
    with two.mine.connected("device") as device, two.mine.connected("registry") as registry:
        assert registry.subscribe("$devices/+/events/#") == [1]
        start = f"$devices/{two.mine.device}/events"
        for topic in (start + "/" * (1024 - len(start)), start + "/é" * ((1024 - len(start)) // 3)):
            assert device.publish(topic) is Reason.SUCCESS
            assert registry.receive().topic == topic
        device.send(Publish(f"{start}/{'x' * (1024 - len(start))}", b"x", 0))
        assert not device.is_open


def test_a_broker_takes_topics_of_many_levels(two: Two) -> None:
    """A filter of more than 128 levels is refused, one with wildcards of more than 16: each level costs time."""
    topic = "/" * 1024
    with two.mine.connected("broker", "a") as sender, two.mine.connected("broker", "b") as reader:
        assert reader.subscribe("/" * 15 + "#", "/" * 100, "/" * 500) == [1, 1, Reason.UNSPECIFIED_ERROR]
        assert reader.subscribe("/+" * 16, "/" * 16 + "#", "/+" * 15) == [0x80, 0x80, 1]
        assert sender.publish(topic) is Reason.SUCCESS
        assert reader.receive().topic == topic
        assert reader.subscribe("#") == [1]
        assert sender.publish(" ") is Reason.SUCCESS
        assert reader.receive().topic == " "


SPACES = ["$", "$devices", "$registries", "$monitoring", "$me", "$yandex", "devices", "registries", "my", "x", "+", "#"]
KINDS = [
    "device",
    "registry",
    "monitoring",
    "events",
    "state",
    "commands",
    "config",
    "json",
    "alias",
    ".",
    "é",
    "+",
    "#",
]
IDS = ["<device>", "<other>", "<registry>", "<broker>", "<their_device>", "<their_registry>", "<their_broker>"]
PARTS = st.sampled_from([*SPACES, *KINDS, *IDS])


def topics_of(device: Device, payload: bytes) -> list[str]:
    """The topics under which messages with that payload arrive."""
    return [message.topic for message in device.drain() if message.payload == payload]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(kind=st.sampled_from(list(NOT_READ)), filters=st.lists(st.lists(PARTS, min_size=1, max_size=5), max_size=8))
def test_no_filter_reads_messages_of_another_registry(two: Two, kind: str, filters: list[list[str]]) -> None:
    given = [filter[: filter.index("#") + 1] if "#" in filter else filter for filter in filters]
    with two.theirs.connected("device") as sender:
        sender.publish("$me/device/state", b"foreign")  # it is kept for those that subscribe later
    with two.mine.connected(kind, "reader") as device:
        for filter in given:
            device.subscribe(two.filled("/".join(filter)))
        with two.theirs.connected("device") as sender, two.theirs.connected("registry") as registry:
            for topic in ("$me/device/events", "$me/device/state", "their/alias/events/x", "$me/registry/events"):
                sender.publish(topic, b"foreign")
            registry.publish(f"$devices/{two.theirs.device}/commands", b"foreign")
            registry.publish(f"$registries/{two.theirs.registry}/config", b"foreign")
        with two.theirs.connected("broker") as broker:
            broker.publish("devices/x/events", b"foreign")
        assert topics_of(device, b"foreign") == []


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(kind=st.sampled_from(list(NOT_READ)), levels=st.lists(PARTS.filter(lambda part: part not in "+#"), min_size=1))
def test_no_topic_reaches_another_registry(two: Two, kind: str, levels: list[str]) -> None:
    """The connection ends, or the message is delivered in its own registry only."""
    with two.theirs.connected("registry", "r") as registry, two.theirs.connected("broker", "b") as broker:
        assert registry.subscribe("$devices/#", "$registries/#", "#", "devices/#") != []
        assert broker.subscribe("#") == [1]
        with two.mine.connected(kind) as device:
            device.send(Publish(two.filled("/".join(levels)), b"stray", 0))
            device.until_closed() if not device.is_open else None
        assert topics_of(registry, b"stray") == topics_of(broker, b"stray") == []


@pytest.mark.parametrize("filter", ["#", "+/#", "+/{id}/state/#", "x/{id}/state", "devices/{id}/state", "+/+/state"])
def test_a_broker_is_sent_no_last_messages_of_devices(two: Two, filter: str) -> None:
    """Its topics are free, and may look like those of devices."""
    for owners in two:
        with owners.connected("device") as device:
            assert device.publish("$me/device/state", b"kept") is Reason.SUCCESS
        with two.mine.connected("broker") as broker:
            (answer,) = broker.subscribe(filter.format(id=owners.device))
            assert not answer.failed
            assert broker.publish("x/y/state") is Reason.SUCCESS
            assert all(message.topic == "x/y/state" for message in broker.drain())


def test_wills_are_not_published_and_retained_flags_are_ignored(two: Two) -> None:
    will = Will(f"$devices/{two.mine.device}/events", b"will", 1)
    retained = Will("$devices/nonsense", b"will", 1, retain=True)
    with two.mine.connected("registry", "r") as registry:
        assert registry.subscribe("$devices/+/events/#") == [1]
        for each in (will, retained):
            with two.mine.connected("device", will=each) as device:
                assert device.publish("$me/device/events", b"before", retain=True) is Reason.SUCCESS
                device.reset()
            message = registry.receive()
            assert (message.payload, message.retain) == (b"before", False)
        assert registry.nothing_comes()
    with two.mine.connected("registry", "r") as registry:
        assert registry.subscribe("$devices/+/events/#") == [1]
        assert b"before" not in [message.payload for message in registry.drain()], "an event is not kept"


@pytest.mark.parametrize("version", [4, 5])
def test_no_session_is_kept(two: Two, version: int) -> None:
    fields = {"clean_start": False, "session_expiry": 3600 if version == 5 else 0}
    for _ in range(2):
        with Device(two.mine.cloud.server, two.mine.credentials["device"], version) as device:  # type: ignore[arg-type]
            connack = device.connect("kept", **fields)
            assert not connack.session_present
            assert device.subscribe("$me/device/commands") == [1]
    with two.mine.connected("registry") as registry:
        assert registry.publish(f"$devices/{two.mine.device}/commands") is Reason.SUCCESS
    with two.mine.connected("device", "kept", clean_start=False) as device:
        assert device.nothing_comes()


def test_a_quality_of_service_of_2_ends_the_connection_or_is_lowered(two: Two) -> None:
    """Of a message it ends the connection; a subscription gets 1."""
    for version in (4, 5):
        with two.mine.connected("device", version=version) as device:
            assert device.subscribe("$me/device/commands", qos=2) == [1]
            device.send(Publish("$me/device/events", b"x", 2, packet_id=9))
            assert not device.is_open


def test_nothing_is_served_before_connect(two: Two) -> None:
    for packet in (Publish("$me/device/events", b"x"), Connect(4, "a", will=Will("a/#", b""))):
        with Device(two.mine.cloud.server, two.mine.credentials["device"], 4) as device:
            device.send(packet)
            device.until_closed()
