"""Topic names and filters (MQTT 5, 4.7) by the rules of AWS IoT."""

from __future__ import annotations

from dataclasses import dataclass

_SHARE = "$share/"
_RESERVED = "$aws/"
_BASIC_INGEST = "$aws/rules/"
_MAX_BYTES = 65_535

# AWS IoT's limits for devices.
TOPIC_BYTES = 256
TOPIC_SLASHES = 7


@dataclass(frozen=True, slots=True)
class SharedFilter:
    group: str
    filter: str


def is_topic_name(topic: str) -> bool:
    """True for a topic to publish to: not empty, without wildcards."""
    return bool(topic) and "+" not in topic and "#" not in topic and "\0" not in topic


def is_topic_filter(filter: str) -> bool:
    """True for a well-formed filter, also a shared one (4.7.1, 4.8.2)."""
    if filter.startswith(_SHARE):
        shared = parse_shared(filter)
        return shared is not None and _is_plain_filter(shared.filter)
    return filter != "$share" and _is_plain_filter(filter)


def _is_plain_filter(filter: str) -> bool:
    if not filter or "\0" in filter or len(filter) > _MAX_BYTES:
        return False
    if "#" not in filter and "+" not in filter:
        return True
    levels = filter.split("/")
    if any(len(level) > 1 and ("#" in level or "+" in level) for level in levels):
        return False
    return "#" not in levels[:-1]


def parse_shared(filter: str) -> SharedFilter | None:
    """Parses ``$share/GROUP/FILTER``; None if ``filter`` has another form. Does not check FILTER."""
    if not filter.startswith(_SHARE):
        return None
    group, slash, inner = filter[len(_SHARE) :].partition("/")
    if not slash or not inner or not group or "+" in group or "#" in group:  # MQTT-4.8.2-1, -2
        return None
    return SharedFilter(group, inner)


def unshared(filter: str) -> str:
    """Returns the filter without ``$share/GROUP/``."""
    shared = parse_shared(filter)
    return filter if shared is None else shared.filter


def matches(filter: str, topic: str) -> bool:
    """True if a well-formed filter, without ``$share/GROUP/``, matches a topic name.

    ``a/#`` does not match ``a``: as at AWS IoT, but not as in MQTT 5, 4.7.1.2. A wildcard at the start does not match a
    topic that begins with ``$`` (MQTT-4.7.2-1).
    """
    if "#" not in filter and "+" not in filter:
        return filter == topic
    if topic.startswith("$") and filter[0] in "+#":
        return False
    wanted, levels = filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        if len(levels) <= len(wanted):
            return False
    elif len(levels) != len(wanted):
        return False
    return all(one in ("+", level) for one, level in zip(wanted, levels, strict=False))


def count_slashes(topic: str) -> int:
    """Returns the number of slashes in a topic name or filter, as AWS's limit counts them.

    The slashes of ``$aws/rules/RULE/`` and ``$share/GROUP/`` do not count. Other reserved topics count as 0.
    """
    topic = _without_prefix(topic)
    return 0 if topic.startswith(_RESERVED) else topic.count("/")


def within(topic: str, *, max_bytes: int, max_slashes: int) -> bool:
    """True if a topic name or filter is within AWS's limits, which do not count these prefixes. Bytes are UTF-8."""
    # A fast check for most topics: a character has at most four bytes.
    if len(topic) * 4 <= max_bytes and topic.count("/") <= max_slashes:
        return True
    return len(_without_prefix(topic).encode()) <= max_bytes and count_slashes(topic) <= max_slashes


def _without_prefix(topic: str) -> str:
    shared = parse_shared(topic)
    if shared is not None:
        topic = shared.filter
    if topic.startswith(_BASIC_INGEST):
        return "".join(topic.split("/", 3)[3:])
    return topic
