"""Topics of Yandex IoT Core: who may publish and subscribe to what, and under which names messages arrive."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tests.tables import each_row
from thingmint.domain.policies.decisions import Deny
from thingmint.domain.yandex_topics import KINDS, Readable, TopicOwner, parse_topic

if TYPE_CHECKING:
    from collections.abc import Iterable

DEVICE = TopicOwner(
    "device", "d1", "r1", {"my/alias/": "$devices/d1/", "x": "$devices/d1/events", "t/": "$devices/d1/config/t/"}
)
REGISTRY = TopicOwner("registry", "r1", "r1", {"one/": "$devices/d1/", "two/": "$devices/d2/"})
BROKER = TopicOwner("broker", "b1")
OWNERS = {"device": DEVICE, "registry": REGISTRY, "broker": BROKER}

PUBLISHED = [
    ("device", "$devices/d1/events", "$devices/d1/events"),
    ("device", "$devices/d1/state/a/b", "$devices/d1/state/a/b"),
    ("device", "$devices/d1/events/", "$devices/d1/events/"),
    ("device", "$registries/r1/events", "$registries/r1/events"),
    ("device", "$registries/r1/state/a", "$registries/r1/state/a"),
    ("device", "$me/device/events", "$devices/d1/events"),
    ("device", "$me/device/state/x", "$devices/d1/state/x"),
    ("device", "$me/registry/events", "$registries/r1/events"),
    ("device", "devices/d1/events", "$devices/d1/events"),
    ("device", "registries/r1/state", "$registries/r1/state"),
    ("device", "my/alias/events/a", "$devices/d1/events/a"),
    ("device", "x", "$devices/d1/events"),
    ("device", "x/sub", "$devices/d1/events/sub"),
    ("registry", "$devices/d1/commands", "$devices/d1/commands"),
    ("registry", "$devices/d9/config/a", "$devices/d9/config/a"),
    ("registry", "$registries/r1/commands", "$registries/r1/commands"),
    ("registry", "$me/registry/config", "$registries/r1/config"),
    ("registry", "two/commands", "$devices/d2/commands"),
    ("registry", "devices/d1/commands", "$devices/d1/commands"),
    ("broker", "any/topic", "any/topic"),
    ("broker", "devices/d1/events", "devices/d1/events"),
]
NOT_PUBLISHED = [
    ("device", "$devices/d1/commands", "a device publishes to events and state only"),
    ("device", "$devices/d1/config/x", "a device publishes to events and state only"),
    ("device", "$registries/r1/commands", "a device publishes to events and state only"),
    ("device", "$devices/d2/events", "the topic is of another device"),
    ("device", "$registries/r2/events", "the topic is of another registry"),
    ("device", "$monitoring/d1/json", "monitoring messages are written by the service only"),
    ("device", "$me/monitoring/json", "monitoring messages are written by the service only"),
    ("device", "$devices/d1", "does not name a device"),
    ("device", "$devices/d1/", "does not name a device"),
    ("device", "$devices//events", "does not name a device"),
    ("device", "$devices/d1/Events", "does not name a device"),
    ("device", "$devices/d1/eventsx", "does not name a device"),
    ("device", "xy", "does not name a device"),
    ("device", "$me", "does not name a device"),
    ("device", "$me/", "a device has no topics $me/"),
    ("device", "$me/devices/events", "a device has no topics $me/devices"),
    ("device", "$SYS/x/events", "does not name a device"),
    ("device", "$aws/things/x/shadow", "does not name a device"),
    ("device", "events", "neither one of Yandex IoT Core's nor an alias"),
    ("device", "my/alia", "neither one of Yandex IoT Core's nor an alias"),
    ("device", "monitoring/d1/json", "neither one of Yandex IoT Core's nor an alias"),
    ("device", "t/x", "a device publishes to events and state only"),
    ("registry", "$devices/d1/events", "a registry publishes to commands and config only"),
    ("registry", "$registries/r2/commands", "the topic is of another registry"),
    ("registry", "$me/device/commands", "a registry has no topics $me/device"),
    ("registry", "$me/monitoring/json", "a registry has no topics $me/monitoring"),
    ("broker", "$devices/d1/events", "topics of a broker do not begin with $"),
    ("broker", "$SYS", "topics of a broker do not begin with $"),
]

READ: list[tuple[str, str, set[str]]] = [
    ("device", "$devices/d1/commands", {"$devices/d1/commands"}),
    ("device", "$devices/d1/commands/#", {"$devices/d1/commands/#"}),
    ("device", "$devices/d1/#", {"$devices/d1/commands/#", "$devices/d1/config/#"}),
    ("device", "$devices/+/commands/#", {"$devices/d1/commands/#"}),
    ("device", "$devices/d1/+", {"$devices/d1/commands", "$devices/d1/config"}),
    ("device", "$devices/#", {"$devices/d1/commands/#", "$devices/d1/config/#"}),
    ("device", "$registries/#", {"$registries/r1/commands/#", "$registries/r1/config/#"}),
    ("device", "$registries/r1/config/+/x", {"$registries/r1/config/+/x"}),
    ("device", "$me/device/commands", {"$devices/d1/commands"}),
    ("device", "$me/device/#", {"$devices/d1/commands/#", "$devices/d1/config/#"}),
    ("device", "$me/registry/commands/#", {"$registries/r1/commands/#"}),
    ("device", "$me/monitoring/json", {"$monitoring/d1/json"}),
    ("device", "$monitoring/d2/json", {"$monitoring/d2/json"}),
    ("device", "$monitoring/#", {"$monitoring/+/json"}),
    ("device", "devices/d1/commands/#", {"$devices/d1/commands/#"}),
    ("device", "my/alias/commands", {"$devices/d1/commands"}),
    ("device", "my/+/commands", {"$devices/d1/commands/#", "$devices/d1/config/#"}),
    ("device", "#", {"$devices/d1/commands/#", "$devices/d1/config/#", "$devices/d1/config/t/#"}),
    ("device", "$devices/+", set()),
    ("device", "$devices/d1", set()),
    ("registry", "$devices/#", {"$devices/+/events/#", "$devices/+/state/#"}),
    ("registry", "$devices/+/events/#", {"$devices/+/events/#"}),
    ("registry", "$devices/d7/events", {"$devices/d7/events"}),
    ("registry", "$devices/d7/state/+", {"$devices/d7/state/+"}),
    ("registry", "$registries/#", {"$registries/r1/events/#", "$registries/r1/state/#"}),
    ("registry", "$registries/r1/events", {"$registries/r1/events"}),
    ("registry", "$me/registry/events/#", {"$registries/r1/events/#"}),
    ("registry", "$monitoring/d1/json", {"$monitoring/d1/json"}),
    ("registry", "one/events/#", {"$devices/d1/events/#"}),
    (
        "registry",
        "#",
        {"$devices/d1/events/#", "$devices/d1/state/#", "$devices/d2/events/#", "$devices/d2/state/#"},
    ),
    ("broker", "a/#", {"a/#"}),
    ("broker", "#", {"#"}),
    ("broker", "+/b", {"+/b"}),
]
NOT_READ = [
    ("device", "$devices/d1/events"),
    ("device", "$devices/+/events/#"),
    ("device", "$devices/d2/commands"),
    ("device", "$devices/d2/#"),
    ("device", "$registries/r2/commands"),
    ("device", "$registries/r1/events"),
    ("device", "$monitoring/d1/json/x"),
    ("device", "$monitoring/d1/xml"),
    ("device", "$me/#"),
    ("device", "$me/+/commands"),
    ("device", "$me/registry/events"),
    ("device", "x"),
    ("device", "no/+"),
    ("device", "no/alias"),
    ("device", "$SYS/#"),
    ("device", "$SYS"),
    ("device", "$aws/#"),
    ("device", "$share/g/$devices/d1/commands"),
    ("registry", "$devices/d1/commands"),
    ("registry", "$registries/r2/events"),
    ("registry", "$me/device/events"),
    ("registry", "$me/monitoring/json"),
    ("broker", "$devices/#"),
    ("broker", "$share/g/a"),
]

SHOWN = [
    ("device", "$devices/d1/commands", "$devices/d1/commands", "$devices/d1/commands"),
    ("device", "$devices/d1/commands/#", "$devices/d1/commands", "$devices/d1/commands"),
    ("device", "$devices/d1/commands/#", "$devices/d1/commands/a/b", "$devices/d1/commands/a/b"),
    ("device", "$me/device/#", "$devices/d1/config/a", "$me/device/config/a"),
    ("device", "$me/registry/commands", "$registries/r1/commands", "$me/registry/commands"),
    ("device", "$me/monitoring/json", "$monitoring/d1/json", "$me/monitoring/json"),
    ("device", "devices/d1/#", "$devices/d1/commands", "devices/d1/commands"),
    ("device", "my/alias/commands", "$devices/d1/commands", "my/alias/commands"),
    ("device", "my/+/commands", "$devices/d1/commands", "my/alias/commands"),
    ("device", "my/+/commands", "$devices/d1/config", None),
    ("device", "#", "$devices/d1/config/t/1", "my/alias/config/t/1"),
    ("device", "t/#", "$devices/d1/config/t/1", "t/1"),
    ("device", "t/#", "$devices/d1/config/u", None),
    ("registry", "#", "$devices/d2/events/a", "two/events/a"),
    ("registry", "+/events", "$devices/d2/events", "two/events"),
    ("registry", "#", "$registries/r1/events", None),
    ("broker", "a/#", "a", "a"),
    ("broker", "a/+", "a", None),
    ("broker", "a", "a/b", None),
]


@each_row(("owner", "name", "canonical"), PUBLISHED)
def test_messages_are_published_to_canonical_topics(owner: str, name: str, canonical: str) -> None:
    assert OWNERS[owner].publishes(name) == canonical


@each_row(("owner", "name", "reason"), NOT_PUBLISHED)
def test_other_topics_cannot_be_published_to(owner: str, name: str, reason: str) -> None:
    decision = OWNERS[owner].publishes(name)
    assert isinstance(decision, Deny)
    assert reason in str(decision)


@each_row(("owner", "filter", "filters"), READ)
def test_subscriptions_read_what_their_owner_may_read(owner: str, filter: str, filters: set[str]) -> None:
    decision = OWNERS[owner].reads(filter)
    assert isinstance(decision, Readable)
    assert set(decision.filters) == filters


@each_row(("owner", "filter"), NOT_READ)
def test_other_topics_cannot_be_subscribed_to(owner: str, filter: str) -> None:
    assert isinstance(OWNERS[owner].reads(filter), Deny)


@each_row(("owner", "filter", "topic", "name"), SHOWN)
def test_messages_arrive_under_the_form_of_the_subscription(
    owner: str, filter: str, topic: str, name: str | None
) -> None:
    assert OWNERS[owner].shown(filter, topic) == name


def test_without_aliases_the_filter_of_all_aliases_reads_nothing() -> None:
    assert TopicOwner("device", "d1", "r1").reads("#") == Readable(())


def test_other_devices_in_topics_are_named() -> None:
    assert DEVICE.device_named("$devices/d1/events") is None
    assert DEVICE.device_named("$monitoring/d2/json") == "d2"
    assert REGISTRY.device_named("$devices/d2/commands/x") == "d2"
    assert REGISTRY.device_named("$devices/+/events/#") is None
    assert REGISTRY.device_named("$registries/r1/events") is None
    assert REGISTRY.device_named("$devices/r1/commands") == "r1", "a registry is no device"


def test_a_registry_with_many_aliases_reads_the_topics_of_all_its_devices() -> None:
    """A filter at the broker for each of thousands of aliases would be too much."""
    aliases = {f"a{n}/": f"$devices/d{n}/" for n in range(1000)} | {"b/": "$devices/b/", "c": "$devices/c/events/c"}
    owner = TopicOwner("registry", "r1", "r1", aliases)
    for filter in ("#", "+/#", "+/events"):
        assert owner.reads(filter) == Readable(("$devices/+/events/#", "$devices/+/state/#"))
    assert owner.reads("b/#") == Readable(("$devices/b/events/#", "$devices/b/state/#"))
    assert owner.reads("c") == Readable(("$devices/c/events/c",))
    assert owner.shown("+/events", "$devices/d999/events") == "a999/events"
    assert owner.shown("+/events", "$devices/d999/state") is None
    assert owner.shown("#", "$devices/unnamed/events") is None


TOPICS = [
    *(
        "/".join((space, id, kind, *rest))
        for space, ids in (("$devices", ("d1", "d2")), ("$registries", ("r1", "r2")))
        for id, kind, rest in itertools.product(ids, sorted(KINDS), ((), ("a",), ("t", "b")))
    ),
    "$monitoring/d1/json",
    "$monitoring/d2/json",
]


def readable(owner: TopicOwner, topic: str) -> bool:
    parsed = parse_topic(topic)
    assert parsed is not None
    if parsed.space == "$monitoring":
        return True
    if owner.kind == "device":
        return parsed.id in ("d1", "r1") and parsed.kind in ("commands", "config")
    return parsed.id in ("d1", "d2", "r1") and parsed.kind in ("events", "state")


def matches(levels: list[str], names: list[str]) -> bool:
    if levels == ["#"] or levels == names == []:
        return True
    return bool(levels and names) and levels[0] in ("+", names[0]) and matches(levels[1:], names[1:])


def names_of(owner: TopicOwner, topic: str, filter: str) -> Iterable[str]:
    if filter.startswith("$"):
        yield topic
        return
    yield from (alias + topic[len(target) :] for alias, target in owner.aliases.items() if topic.startswith(target))
    if filter.startswith(("devices/", "registries/")):
        yield topic[1:]


LEVELS = st.sampled_from(
    ["+", "+", "d1", "d2", "r1", "commands", "config", "events", "state", "a", "t", "my", "alias", "one", "two", "json"]
)
FIRST = st.sampled_from(["$devices", "$registries", "$monitoring", "devices", "registries", "my", "one", "+", "x", "t"])


@given(
    owner=st.sampled_from([DEVICE, REGISTRY]), first=FIRST, levels=st.lists(LEVELS, max_size=4), all_below=st.booleans()
)
def test_a_subscription_delivers_exactly_the_readable_topics_that_match_it(
    owner: TopicOwner, first: str, levels: list[str], all_below: bool
) -> None:
    filter = "/".join([first, *levels, *(["#"] if all_below else [])])
    decision = owner.reads(filter)
    delivered = set()
    if isinstance(decision, Readable):
        for topic in TOPICS:
            read = [each for each in decision.filters if matches(each.split("/"), topic.split("/"))]
            assert not read or readable(owner, topic), "reads no more than the owner may"
            if read and owner.shown(filter, topic) is not None:
                delivered.add(topic)
    expected = {
        topic
        for topic in TOPICS
        if readable(owner, topic)
        and any(matches(filter.split("/"), name.split("/")) for name in names_of(owner, topic, filter))
    }
    if not (filter.startswith(("devices/", "registries/")) and any(map(filter.startswith, owner.aliases))):
        assert delivered == expected


@given(st.text("$+#/adeimnrstvx1\0é", max_size=30))
def test_no_topic_and_no_filter_breaks_the_rules(text: str) -> None:
    for owner in OWNERS.values():
        published = owner.publishes(text)
        if not isinstance(published, Deny) and owner.kind != "broker":
            assert parse_topic(published) is not None
        owner.reads(text)


@given(words=st.sets(st.text("ab/é", min_size=1, max_size=4)), name=st.text("ab/é", max_size=6))
def test_a_topic_is_that_of_the_alias_that_it_begins_with(words: set[str], name: str) -> None:
    own = {word for word in words if not any(word != other and word.startswith(other) for other in words)}
    aliases = {alias: f"$devices/d{number}/commands/" for number, alias in enumerate(sorted(own))}
    owner = TopicOwner("registry", "r1", "r1", aliases)
    published = owner.publishes(name)
    expected = [target + name[len(alias) :] for alias, target in aliases.items() if name.startswith(alias)]
    assert ([] if isinstance(published, Deny) else [published]) == expected
