"""What the OpenAPI documents of several APIs share: their texts and patterns, and the making of a document once."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


_WORD: Final = re.compile(r"[A-Z]?[a-z]+[0-9]*|[A-Z]+[0-9]*(?![a-z])|[0-9]+")


def words(name: str) -> str:
    """The words of a name in CamelCase or snake_case, as the beginning of a sentence."""
    found = [word if len(word) > 1 and word.isupper() else word.lower() for word in _WORD.findall(name)]
    return " ".join(found)[:1].upper() + " ".join(found)[1:]


def whole(pattern: str) -> str:
    r"""The pattern for a whole text: JSON Schema searches, and Python's ``$`` also matches before a last ``\n``."""
    return rf"^(?:{pattern})$(?!\n)"


def permissions(actions: Sequence[str], *, one_of: bool = False) -> dict[str, Any]:
    """The extensions with the actions that policies must allow: the first one, and if there are several, all of them.

    ``one_of``: the request decides which one of them.
    """
    several = {"x-thingmint-one-of-actions" if one_of else "x-thingmint-actions": list(actions)}
    return {"x-thingmint-action": actions[0], **(several if len(actions) > 1 else {})} if actions else {}


class Responses:
    """The responses of a document, each written once. ``written`` is for the document's components."""

    def __init__(self) -> None:
        self.written: dict[str, Any] = {}

    def refer(self, status: str, response: dict[str, Any]) -> dict[str, Any]:
        """A reference to the response, which has this status."""
        number = 1
        while self.written.setdefault(name := f"Error{status}.{number}", response) != response:
            number += 1
        return {"$ref": f"#/components/responses/{name}"}


class Documents:
    """OpenAPI documents by raw path, as JSON. Each is made at its first request, in a thread."""

    def __init__(self, makers: Mapping[bytes, Callable[[], dict[str, Any]]]) -> None:
        self._makers = makers
        self._made: dict[bytes, asyncio.Task[bytes]] = {}

    def __contains__(self, path: bytes) -> bool:
        return path in self._makers

    async def read(self, path: bytes) -> bytes:
        """The document. All requests wait for the same thread, which no client can stop or start again."""
        task = self._made.get(path)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            maker = self._makers[path]
            task = self._made[path] = asyncio.create_task(asyncio.to_thread(lambda: orjson.dumps(maker())))
        return await asyncio.shield(task)
