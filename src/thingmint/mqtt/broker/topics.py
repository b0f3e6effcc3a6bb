"""A tree of topic levels, which finds the filters that match a topic.

The wildcards are those of MQTT 5, 4.7, except that ``a/#`` does not match ``a``, as at AWS. All topics and filters
here are valid. No walk recurses. A walk visits each reachable node at most once: for a topic of n levels fewer than 2^n
nodes, which is 511 within AWS's limit of 7 slashes. Filters of Yandex IoT Core with wildcards have few levels too.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

_SHARED = "$share/"


def is_wildcard(filter: str) -> bool:
    return "#" in filter or "+" in filter  # in a valid filter both are always wildcards (MQTT 5, 4.7.1)


def split_shared(filter: str) -> tuple[str | None, str]:
    """Returns the group, if the filter is shared, and the filter that topics must match (MQTT 5, 4.8.2)."""
    if not filter.startswith(_SHARED):
        return None, filter
    _, group, shared = filter.split("/", 2)
    return group, shared


class _Node(Generic[T]):
    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.value: T | None = None


class _Levels(Generic[T]):
    """A map from names of several levels to values. It deletes nodes that lead to no value."""

    __slots__ = ("root",)

    def __init__(self) -> None:
        self.root: _Node[T] = _Node()

    def get(self, name: str) -> T | None:
        node = self.root
        for level in name.split("/"):
            following = node.children.get(level)
            if following is None:
                return None
            node = following
        return node.value

    def put(self, name: str, value: T) -> None:
        node = self.root
        for level in name.split("/"):
            following = node.children.get(level)
            if following is None:
                following = node.children[level] = _Node()
            node = following
        node.value = value

    def remove(self, name: str) -> None:
        path = [self.root]
        levels = name.split("/")
        for level in levels:
            following = path[-1].children.get(level)
            if following is None:
                return
            path.append(following)
        path[-1].value = None
        for parent, level, node in zip(path[-2::-1], reversed(levels), reversed(path), strict=False):
            if node.children or node.value is not None:
                return
            del parent.children[level]


class FilterTree(Generic[T]):
    """A map from filters to values. ``matching`` looks values up by topic."""

    __slots__ = ("_exact", "_wild")

    def __init__(self) -> None:
        self._exact: dict[str, T] = {}  # filters without a wildcard: most filters, found without a walk
        self._wild: _Levels[T] = _Levels()

    def get(self, filter: str) -> T | None:
        return self._wild.get(filter) if is_wildcard(filter) else self._exact.get(filter)

    def put(self, filter: str, value: T) -> None:
        if is_wildcard(filter):
            self._wild.put(filter, value)
        else:
            self._exact[filter] = value

    def remove(self, filter: str) -> None:
        if is_wildcard(filter):
            self._wild.remove(filter)
        else:
            self._exact.pop(filter, None)

    def matching(self, topic: str) -> list[T]:
        """The values of the filters that match ``topic``, in no order."""
        exact = self._exact.get(topic)
        found = [] if exact is None else [exact]
        root = self._wild.root
        if root.children:
            self._walk(root, topic, found)
        return found

    def _walk(self, root: _Node[T], topic: str, found: list[T]) -> None:
        nodes = [root]
        reserved = topic.startswith("$")  # a leading wildcard does not match it (MQTT 5, 4.7.2)
        for level in topic.split("/"):
            following = []
            for node in nodes:
                children = node.children
                if not children:
                    continue
                if (child := children.get(level)) is not None:
                    following.append(child)
                if reserved:
                    continue
                if (child := children.get("+")) is not None:
                    following.append(child)
                if (child := children.get("#")) is not None and child.value is not None:
                    found.append(child.value)
            if not following:
                return
            nodes = following
            reserved = False
        found.extend([node.value for node in nodes if node.value is not None])
