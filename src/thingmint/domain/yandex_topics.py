"""Topics of Yandex IoT Core: which ones an owner may publish and subscribe to, and under which names.

Sources: Yandex's pages "Topic", "Device topics", "Registry topics", "Using aliases" and "Limits in Yandex IoT Core".

A canonical topic is ``$devices/ID/KIND``, ``$registries/ID/KIND``, both with any subtopics, or ``$monitoring/ID/json``.
Clients may name it in three other forms: ``$me/device/KIND``, ``$me/registry/KIND`` and ``$me/monitoring/json``;
without the ``$``; or with an alias in place of its beginning, which is a prefix of characters and not of levels.
Messages arrive under the form that the subscriber used.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from thingmint.domain.policies.decisions import Deny

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

OwnerKind = Literal["device", "registry", "broker"]

MAX_TOPIC: Final = 1024
"""Bytes of a topic or filter (Yandex: "Limits")."""

PERMANENT_KINDS: Final = frozenset({"state", "config"})
"""Of topics that keep their last message."""

KINDS: Final = frozenset({"events", "state", "commands", "config"})

_DEVICES, _REGISTRIES, _MONITORING = "$devices", "$registries", "$monitoring"
_ME = "$me/"
_WITHOUT_DOLLAR = ("devices/", "registries/")
_ANY = "+"
_WILDCARD = re.compile("[+#]")

_FROM_DEVICES = ("events", "state")
_FROM_REGISTRIES = ("commands", "config")

_MAX_ALIASED = 5
"""Filters at the broker for the aliases that one subscription matches; with more, the topics of all devices."""


@dataclass(frozen=True, slots=True)
class Readable:
    """The canonical filters that a subscription reads, which may overlap; none if no topic can match."""

    filters: tuple[str, ...]


class Topic(NamedTuple):
    """A canonical topic in its parts. ``rest`` are the subtopics."""

    space: str
    id: str
    kind: str
    rest: tuple[str, ...]


class _Source(NamedTuple):
    """Topics that an owner may read: one kind, of one id or of all (``+``)."""

    space: str
    id: str
    kind: str


@dataclass(frozen=True, slots=True)
class TopicOwner:
    """The device, registry or broker that a connection is.

    ``registry`` is the device's; a registry's own id. ``aliases`` are the topics by alias that this owner may use: a
    device's own, a registry's those of all its devices. No alias is the beginning of another.
    """

    kind: OwnerKind
    id: str
    registry: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)
    _aliases_of: dict[str, list[tuple[str, str]]] = field(init=False, repr=False, compare=False)
    """By the id of the device in their topics: a registry has thousands, and looks them up for each message."""
    _ordered: list[str] = field(init=False, repr=False, compare=False)
    """The aliases, sorted: those that begin alike are next to each other."""

    def __post_init__(self) -> None:
        found: dict[str, list[tuple[str, str]]] = {}
        for alias, target in self.aliases.items():
            found.setdefault(_id_in(target), []).append((alias, target))
        object.__setattr__(self, "_aliases_of", found)
        object.__setattr__(self, "_ordered", sorted(self.aliases))

    def with_aliases(self, aliases: Mapping[str, str]) -> TopicOwner:
        return replace(self, aliases=aliases)

    def publishes(self, name: str) -> str | Deny:
        """The canonical topic of a message that is published as ``name``. A broker's topics are as its clients say."""
        if self.kind == "broker":
            return Deny("topics of a broker do not begin with $") if name.startswith("$") else name
        canonical = self._canonical(name)
        if isinstance(canonical, Deny):
            return canonical
        topic = parse_topic(canonical)
        if topic is None:
            return Deny("the topic does not name a device or a registry, and one of events, state, commands, config")
        if topic.space == _MONITORING:
            return Deny("monitoring messages are written by the service only")
        kinds = _FROM_DEVICES if self.kind == "device" else _FROM_REGISTRIES
        if topic.kind not in kinds:
            return Deny(f"a {self.kind} publishes to {' and '.join(kinds)} only")
        if topic.space == _REGISTRIES and topic.id != self.registry:
            return Deny("the topic is of another registry")
        if topic.space == _DEVICES and self.kind == "device" and topic.id != self.id:
            return Deny("the topic is of another device")
        return canonical

    def reads(self, filter: str) -> Readable | Deny:
        """The canonical filters of a subscription to ``filter``, which is well-formed (MQTT 3.1.1, 4.7.1)."""
        if self.kind == "broker":
            return Deny("topics of a broker do not begin with $") if filter.startswith("$") else Readable((filter,))
        wanted = self._canonical_filters(filter)
        if isinstance(wanted, Deny):
            return wanted
        found = [each for canonical in wanted for source in self._sources() for each in _common(source, canonical)]
        if found:
            return Readable(tuple(dict.fromkeys(found)))
        if all(_has_no_kind(canonical) for canonical in wanted):
            return Readable(())  # as "$devices/+", which no topic matches
        return Deny(f"a {self.kind} may not read these topics")

    def shown(self, filter: str, topic: str) -> str | None:
        """The name under which a message of a canonical topic arrives for that subscription; None if it is not of it.

        ``filter`` is one that ``reads`` allowed.
        """
        if self.kind == "broker":
            return topic if matches(filter, topic) else None
        return next((name for name in self._names(filter, topic) if matches(filter, name)), None)

    def device_named(self, canonical: str) -> str | None:
        """The id of another device in a canonical topic or filter: it has to be one of this owner's registry."""
        space, _, rest = canonical.partition("/")
        id = rest.partition("/")[0]
        if space not in (_DEVICES, _MONITORING) or id == _ANY or (self.kind == "device" and id == self.id):
            return None
        return id

    def _canonical(self, name: str) -> str | Deny:
        if name.startswith(_ME):
            return self._of_me(name)
        if name.startswith("$"):
            return name
        alias = self._alias_in(name)
        if alias is not None:
            return self.aliases[alias] + name[len(alias) :]
        if name.startswith(_WITHOUT_DOLLAR):
            return f"${name}"
        return Deny("the topic is neither one of Yandex IoT Core's nor an alias")

    def _of_me(self, name: str) -> str | Deny:
        _, space, *rest = name.split("/")
        if space == "device" and self.kind == "device":
            return "/".join((_DEVICES, self.id, *rest))
        if space == "registry":
            return "/".join((_REGISTRIES, self.registry, *rest))
        if space == "monitoring" and self.kind == "device":
            return "/".join((_MONITORING, self.id, *rest))
        return Deny(f"a {self.kind} has no topics $me/{space}")

    def _canonical_filters(self, filter: str) -> list[str] | Deny:
        if filter.startswith("$"):
            canonical = self._canonical(filter)
            return canonical if isinstance(canonical, Deny) else [canonical]
        found = list(islice(self._aliased(filter), _MAX_ALIASED + 1))
        if found:
            return found if len(found) <= _MAX_ALIASED else [f"{_DEVICES}/#"]
        if filter.startswith(_WITHOUT_DOLLAR):
            return [f"${filter}"]
        if filter == "#":  # all aliases, of which there are none yet
            return []
        return Deny("no alias begins like that, and the filter is none of Yandex IoT Core's own")

    def _aliased(self, filter: str) -> Iterator[str]:
        """The canonical filters of the topics that the filter may match through aliases.

        A filter with a wildcard where the alias is reads more than it matches: ``shown`` leaves out the rest.
        """
        begun = self._alias_in(filter)
        if begun is not None:
            yield self.aliases[begun] + filter[len(begun) :]
            return
        fixed, levels = _WILDCARD.split(filter, maxsplit=1)[0], filter.split("/")
        for at in range(bisect_left(self._ordered, fixed), len(self._ordered)):
            alias = self._ordered[at]
            if not alias.startswith(fixed):
                return
            if _may_begin(levels, alias):
                yield _all_below(self.aliases[alias])

    def _alias_in(self, name: str) -> str | None:
        """The alias that the name begins with."""
        # No alias is the beginning of another, so it can only be the last one that sorts before the name.
        at = bisect_right(self._ordered, name)
        alias = self._ordered[at - 1] if at else None
        return alias if alias is not None and name.startswith(alias) else None

    def _names(self, filter: str, topic: str) -> Iterator[str]:
        """The names of a canonical topic that are of the filter's form."""
        if filter.startswith(_ME):
            parsed = parse_topic(topic)
            if parsed is not None:
                yield "/".join((_ME + _ME_SPACES[parsed.space], parsed.kind, *parsed.rest))
        elif filter.startswith("$"):
            yield topic
        else:
            for alias, target in self._aliases_of.get(_id_in(topic), ()):
                if topic.startswith(target):
                    yield alias + topic[len(target) :]
            if filter.startswith(_WITHOUT_DOLLAR):
                yield topic[1:]

    def _sources(self) -> Sequence[_Source]:
        if self.kind == "device":
            own = [_Source(_DEVICES, self.id, kind) for kind in _FROM_REGISTRIES]
            of_registry = [_Source(_REGISTRIES, self.registry, kind) for kind in _FROM_REGISTRIES]
        else:
            own = [_Source(_DEVICES, _ANY, kind) for kind in _FROM_DEVICES]
            of_registry = [_Source(_REGISTRIES, self.id, kind) for kind in _FROM_DEVICES]
        return (*own, *of_registry, _Source(_MONITORING, _ANY, "json"))


def replays(filter: str) -> bool:
    """True if a subscription to ``filter`` is sent the last messages of its permanent topics.

    They are not sent through wildcards over aliases (Yandex: "Using aliases").
    """
    return filter.startswith(("$", *_WITHOUT_DOLLAR)) or {"+", "#"}.isdisjoint(filter)


def broker_topic(space: str, canonical: str) -> str:
    """The topic, or filter, at the MQTT broker. ``space`` is the id of the registry or broker that it is of."""
    name = f"$yandex/{space}/{canonical.removeprefix('$')}"
    return name if name.endswith("#") else f"{name}/."


def canonical_topic(space: str, topic: str, *, is_broker: bool) -> str:
    """The reverse of ``broker_topic`` for a topic."""
    name = topic.removeprefix(f"$yandex/{space}/").removesuffix("/.")
    return name if is_broker else f"${name}"


_ME_SPACES = {_DEVICES: "device", _REGISTRIES: "registry", _MONITORING: "monitoring"}


def parse_topic(canonical: str) -> Topic | None:
    """None if it is not a canonical topic."""
    space, *levels = canonical.split("/")
    if len(levels) < 2 or not levels[0]:
        return None
    id, kind, *rest = levels
    if space == _MONITORING:
        return Topic(space, id, kind, ()) if kind == "json" and not rest else None
    return Topic(space, id, kind, tuple(rest)) if space in (_DEVICES, _REGISTRIES) and kind in KINDS else None


def _id_in(canonical: str) -> str:
    """The second level, if there is one."""
    return canonical.partition("/")[2].partition("/")[0]


def _all_below(target: str) -> str:
    """A filter that all topics which begin with the target of an alias match."""
    levels = target.rstrip("/").split("/")
    whole = levels if target.endswith("/") or len(levels) < 3 else levels[:-1]
    return "/".join((*whole, "#"))


def _has_no_kind(filter: str) -> bool:
    space, *levels = filter.split("/")
    return space in _ME_SPACES and len(levels) < 2 and levels != ["#"]


def _common(source: _Source, filter: str) -> Iterator[str]:
    """The filter of the topics that are both the source's and the filter's, if there are any."""
    space, *levels = filter.split("/")
    if space != source.space:
        return
    if levels == ["#"]:
        levels = [_ANY, _ANY, "#"]
    elif len(levels) == 2 and levels[1] == "#":
        levels = [levels[0], _ANY, "#"]
    if len(levels) < 2:
        return
    id, kind, *rest = levels
    if source.id != _ANY and id not in (source.id, _ANY):
        return
    if kind not in (source.kind, _ANY):
        return
    if source.space == _MONITORING:
        if rest not in ([], ["#"]):
            return
        rest = []
    yield "/".join((space, id if source.id == _ANY else source.id, source.kind, *rest))


def _may_begin(levels: Sequence[str], alias: str) -> bool:
    """Whether a filter with these levels can match a topic that begins with the alias, whose last level may go on."""
    wanted = alias.split("/")
    for at, level in enumerate(wanted):
        if at == len(levels):
            return False
        if levels[at] == "#":
            return True
        is_last = at == len(wanted) - 1
        if levels[at] != _ANY and not (levels[at].startswith(level) if is_last else levels[at] == level):
            return False
    return True


def matches(filter: str, topic: str) -> bool:
    """MQTT's matching (3.1.1, 4.7): ``a/#`` matches ``a`` too."""
    levels, names = filter.split("/"), topic.split("/")
    for at, level in enumerate(levels):
        if level == "#":
            return True
        if at == len(names):
            return False
        if level not in (_ANY, names[at]):
            return False
    return len(levels) == len(names) or (len(levels) == len(names) + 1 and levels[-1] == "#")
