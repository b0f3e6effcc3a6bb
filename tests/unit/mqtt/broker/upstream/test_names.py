"""Names at an upstream broker: different in different scopes, and reversible."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from thingmint.domain.arns import Scope
from thingmint.domain.messages import NO_PROPERTIES, MessageProperties
from thingmint.domain.mqtt_topics import is_topic_filter, is_topic_name, matches
from thingmint.mqtt.broker.upstream.names import RABBITMQ, STANDARD, Dialect, Names, is_acceptable
from thingmint.mqtt.protocol.reasons import Reason

HOME = Scope("123456789012", "us-east-1")

# Few characters, so that generated names are similar.
texts = st.text("a.*%2EA5/$:~é", max_size=8) | st.text(max_size=8)
topics = texts.filter(is_topic_name).filter(is_acceptable)
scopes = st.builds(
    Scope, st.sampled_from(["123456789012", "1", "a/b"]), st.sampled_from(["us", "us-1", "u.s", "u$", "/"])
)
dialects = st.sampled_from([STANDARD, RABBITMQ])
levels = st.sampled_from(["a", "b", "+", "", "$a", "a.b", "*"])
filters = st.builds(
    lambda parts, end: "/".join([*parts, *end]), st.lists(levels, min_size=1, max_size=3), st.sampled_from([[], ["#"]])
).filter(is_topic_filter)


def checked_name(scope: Scope, dialect: Dialect, topic: str) -> str:
    name = Names(scope, dialect).topic(topic)
    assert name is not None
    return name


@given(dialects, scopes, topics, scopes, topics)
def test_different_topics_have_different_names(
    dialect: Dialect, scope: Scope, topic: str, other: Scope, another: str
) -> None:
    assume((scope, topic) != (other, another))
    assert checked_name(scope, dialect, topic) != checked_name(other, dialect, another)


@given(dialects, scopes, topics, scopes)
def test_names_are_translated_back_to_topics(dialect: Dialect, scope: Scope, topic: str, other: Scope) -> None:
    name = checked_name(scope, dialect, topic)
    assert Names(scope, dialect).local(name) == topic
    if other != scope:
        assert Names(other, dialect).local(name) is None
    assert is_topic_name(name)
    assert not name.startswith("$")


@given(scopes, topics)
def test_names_have_no_special_characters_of_rabbitmq(scope: Scope, topic: str) -> None:
    name = checked_name(scope, RABBITMQ, topic)
    assert "." not in name
    assert "*" not in name


@given(dialects, scopes, st.text(min_size=1), scopes, st.text(min_size=1))
def test_different_client_ids_have_different_names(
    dialect: Dialect, scope: Scope, one: str, other: Scope, another: str
) -> None:
    assume((scope, one) != (other, another))
    name = Names(scope, dialect).client_id(one)
    assert name != Names(other, dialect).client_id(another)
    assert name.isascii()


@given(filters, st.lists(st.sampled_from(["a", "b", "", "$a", "a.b", "*", "c"]), min_size=1, max_size=4))
def test_translated_filters_match_the_same_topics(filter: str, parts: list[str]) -> None:
    """At the broker MQTT's rules apply, where a/# matches a. Here AWS's rules apply, where it does not."""
    topic = "/".join(parts)
    assume(topic)
    for dialect in (STANDARD, RABBITMQ):
        names = Names(HOME, dialect)
        name, wanted = names.topic(topic), names.filter(filter)
        assert name is not None
        assert wanted is not None
        assert is_topic_filter(wanted)
        parent = wanted.endswith("/#") and matches(wanted[:-2], name)
        assert (matches(wanted, name) or parent) == matches(filter, topic)


@given(filters, filters)
def test_different_filters_have_different_names(one: str, another: str) -> None:
    assume(one != another)
    for dialect in (STANDARD, RABBITMQ):
        assert Names(HOME, dialect).filter(one) != Names(HOME, dialect).filter(another)


@pytest.mark.parametrize(
    ("dialect", "topic", "name"),
    [
        (STANDARD, "a/b.c*", "123456789012/us-east-1/a/b.c*"),
        (RABBITMQ, "a/b.c*%", "123456789012/us-east-1/a/b%2Ec%2A%25"),
        (STANDARD, "/a", "123456789012/us-east-1//a"),
        (STANDARD, "$aws/events/x", "123456789012/us-east-1$aws/events/x"),
        (STANDARD, "a\x01", None),
        (STANDARD, "a\ufffe", None),
        (STANDARD, "a\U0010ffff", None),
        (STANDARD, "a\x85", None),
        (RABBITMQ, "a" * 233, "123456789012/us-east-1/" + "a" * 232 + "a"),
        (RABBITMQ, "é" * 117, None),
    ],
)
def test_names_of_topics(dialect: Dialect, topic: str, name: str | None) -> None:
    if name is not None and len(name) > dialect.topic_bytes:
        name = None
    assert Names(HOME, dialect).topic(topic) == name


@pytest.mark.parametrize(
    ("filter", "name"),
    [
        ("a/#", "123456789012/us-east-1/a/+/#"),
        ("#", "123456789012/us-east-1/+/#"),
        ("+", "123456789012/us-east-1/+"),
        ("$share/g/a/#", "$share/123456789012:us-east-1:g/123456789012/us-east-1/a/+/#"),
        ("$share/g:\x01h/a", "$share/123456789012:us-east-1:g%3A%01h/123456789012/us-east-1/a"),
    ],
)
def test_names_of_filters(filter: str, name: str) -> None:
    assert Names(HOME, STANDARD).filter(filter) == name


def test_rabbitmq_has_no_shared_subscriptions() -> None:
    names = Names(HOME, RABBITMQ)
    assert names.filter("$share/g/a") is None
    assert names.why_not("$share/g/a") is Reason.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
    assert names.why_not("a\x01") is Reason.TOPIC_FILTER_INVALID


@pytest.mark.parametrize(
    "name",
    [
        "",
        "123456789012/us-east-1",
        "123456789012/us-east-1/",
        "123456789012/us-east-11/a",
        "123456789012/us-east-1/$aws/a",
        "x/y",
    ],
)
def test_names_outside_the_scope_have_no_topic(name: str) -> None:
    assert Names(HOME, STANDARD).local(name) is None


def test_a_long_client_id_becomes_a_digest() -> None:
    names = Names(HOME, RABBITMQ)
    long = [names.client_id("%" * 128), names.client_id("%" * 127 + "é")]
    assert long[0] != long[1]
    assert all(len(name) <= 233 for name in long)
    assert names.client_id(long[0].rpartition(":")[2]) not in long


def test_properties_are_translated_or_refused() -> None:
    names = Names(HOME, STANDARD)
    assert names.outward(NO_PROPERTIES) is NO_PROPERTIES
    sent = names.outward(MessageProperties(response_topic="a"))
    assert sent == MessageProperties(response_topic="123456789012/us-east-1/a")
    assert sent is not None
    assert names.inward(sent) == MessageProperties(response_topic="a")
    assert names.inward(MessageProperties(response_topic="theirs")) == MessageProperties(response_topic="theirs")
    for bad in (
        MessageProperties(content_type="\x01"),
        MessageProperties(user_properties=(("a", "\x7f"),)),
        MessageProperties(response_topic="a/#"),
        MessageProperties(response_topic=""),
    ):
        assert names.outward(bad) is None
