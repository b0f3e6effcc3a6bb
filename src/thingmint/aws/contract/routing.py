"""Finds the operation of a method and a raw path: one trie per method, over the undecoded segments.

Labels can contain ARNs with percent-encoded slashes, so a path must be split before it is decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from thingmint.aws.contract import percent

if TYPE_CHECKING:
    from collections.abc import Sequence


T = TypeVar("T")


class _Leaf(Generic[T]):
    __slots__ = ("greedy", "labels", "target")

    def __init__(self, target: T, labels: tuple[tuple[str, int], ...], *, greedy: bool) -> None:
        self.target = target
        self.labels = labels  # name and position among the segments
        self.greedy = greedy  # the last label takes all segments from its position on


class _Node(Generic[T]):
    __slots__ = ("greedy", "label", "leaf", "slash_leaf", "static")

    def __init__(self) -> None:
        self.static: dict[bytes, _Node[T]] = {}
        self.label: _Node[T] | None = None
        self.greedy: _Leaf[T] | None = None
        self.leaf: _Leaf[T] | None = None
        self.slash_leaf: _Leaf[T] | None = None


def label_names(template: str) -> tuple[str, ...]:
    """The labels of a URI template, in order. A label is a whole segment, and only the last may be greedy."""
    segments = template.strip("/").split("/")
    names: list[str] = []
    for index, segment in enumerate(segments):
        if segment.startswith("{") and segment.endswith("}"):
            name = segment[1:-1]
            if name.endswith("+"):
                if index != len(segments) - 1:
                    raise ValueError(f"{template}: a greedy label must be the last segment")
                name = name[:-1]
            if not name.isidentifier():
                raise ValueError(f"{template}: {name!r} is not a label's name")
            names.append(name)
        elif not segment or set(segment) & set("{}?#%"):
            raise ValueError(f"{template}: cannot route the segment {segment!r}")
    return tuple(names)


class Router(Generic[T]):
    """Finds the target of a request. A literal takes precedence over a label, a label over a greedy label."""

    def __init__(self) -> None:
        self._roots: dict[str, _Node[T]] = {}

    def add(self, method: str, template: str, target: T) -> None:
        """Adds a route. Raises ValueError if there is one with this method and this shape.

        A template that ends in a slash matches paths with and without it; any other template only paths without it.
        """
        names = iter(label_names(template))
        node = self._roots.setdefault(method, _Node())
        labels: list[tuple[str, int]] = []
        for position, segment in enumerate(template.strip("/").split("/")):
            if not segment.startswith("{"):
                node = node.static.setdefault(segment.encode(), _Node())
                continue
            labels.append((next(names), position + 1))
            if segment.endswith("+}"):
                if node.greedy is not None or template.endswith("/"):
                    raise ValueError(f"{method} {template} collides with another route")
                node.greedy = _Leaf(target, tuple(labels), greedy=True)
                return
            if node.label is None:
                node.label = _Node()
            node = node.label
        if node.leaf is not None:
            raise ValueError(f"{method} {template} collides with another route")
        node.leaf = _Leaf(target, tuple(labels), greedy=False)
        if template.endswith("/"):
            node.slash_leaf = node.leaf

    def match(self, method: str, raw_path: bytes) -> tuple[T, tuple[str, ...]] | None:
        """The target and its decoded labels, in the template's order; None if no route matches.

        A path with an empty segment matches nothing. Dot segments are kept: a policy can be named ``.`` or ``..``. A
        label that is not valid percent-encoded UTF-8, or contains NUL, raises Invalid with the label's name.
        """
        root = self._roots.get(method)
        segments = raw_path.split(b"/")
        if root is None or segments[0] or len(segments) == 1:
            return None
        slash = not segments[-1]
        if slash:
            segments.pop()
        inner = segments[1:]
        if b"" in inner:
            return None
        leaf = _first(root, inner, slash) or _find(root, inner, 0, slash)
        if leaf is None:
            return None
        if leaf.greedy:
            start = leaf.labels[-1][1]
            segments[start:] = [b"/".join(segments[start:])]
        return leaf.target, tuple([percent.decode(segments[position], name) for name, position in leaf.labels])

    def methods(self, raw_path: bytes) -> list[str]:
        """The methods that have a route for the path. Raises Invalid as ``match`` does."""
        return [method for method in self._roots if self.match(method, raw_path) is not None]


def _first(node: _Node[T], segments: Sequence[bytes], slash: bool) -> _Leaf[T] | None:
    """The leaf that the first choice at every segment leads to. `_find` would find it too, at three times the cost."""
    for segment in segments:
        child = node.static.get(segment) or node.label
        if child is None:
            return None
        node = child
    return node.slash_leaf if slash else node.leaf


def _find(node: _Node[T], segments: Sequence[bytes], index: int, slash: bool) -> _Leaf[T] | None:
    if index == len(segments):
        return node.slash_leaf if slash else node.leaf
    for child in (node.static.get(segments[index]), node.label):
        if child is not None:
            leaf = _find(child, segments, index + 1, slash)
            if leaf is not None:
                return leaf
    return None if slash else node.greedy
