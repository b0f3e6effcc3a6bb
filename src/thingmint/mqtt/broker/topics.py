"""A tree of topic levels: which filters match a topic.

The wildcards are MQTT's (5, 4.7), but as at AWS ``a/#`` does not match ``a``. Topics and filters that come here are
valid. No walk recurses, and none costs more than the nodes that it can reach: for a topic of n levels fewer than 2^n,
which are 511 within AWS's limit of 7 slashes.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

_SHARED = "$share/"


def is_wildcard(filter: str) -> bool:
    return "#" in filter or "+" in filter  # in a valid filter they stand for nothing else (MQTT 5, 4.7.1)


def split_shared(filter: str) -> tuple[str | None, str]:
    """The group, if any, and the filter that topics are held against (MQTT 5, 4.8.2)."""
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
    """A map from names of several levels to values, which keeps no node that leads to none."""

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
    """A map from filters to values, asked by topic."""

    __slots__ = ("_exact", "_wild")

    def __init__(self) -> None:
        self._exact: dict[str, T] = {}  # most filters have no wildcard, and need no walk
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
