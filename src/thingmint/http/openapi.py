"""What the OpenAPI documents of several APIs share: their texts and patterns, and the making of a document once."""

from __future__ import annotations

import asyncio
import re
from importlib import resources
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


class Examples:
    """Recorded calls of the operations of an API, which `make examples` writes.

    An example has the same name, its title, in the parameters, the body and the response.
    """

    def __init__(self, package: str) -> None:
        self._recorded: Mapping[str, Sequence[Mapping[str, Any]]] = orjson.loads(
            resources.files(package).joinpath("examples.json").read_bytes()
        )

    def embed(self, operation: dict[str, Any], responses: Mapping[str, Any]) -> None:
        """Adds the operation's examples to it. ``responses`` are those of the document's components, by name.

        What the operation does not have any more is left out: `make examples` reads the documents, too.
        """
        for example in self._recorded.get(operation["operationId"], ()):
            title = example["title"]
            for parameter in operation["parameters"]:
                if parameter["name"] in example.get("parameters", ()):
                    value = {"value": example["parameters"][parameter["name"]]}
                    parameter.setdefault("examples", {})[title] = value
            if "body" in example:
                _add(operation.get("requestBody", {}), title, example["body"])
            status = str(example["status"])
            if status not in operation["responses"]:
                continue
            response = _own_response(operation["responses"][status], responses)
            operation["responses"][status] = response
            if "answer" in example:
                _add(response, title, example["answer"], f"{title}: {example['code']}" if "code" in example else title)
            for header in response.get("headers", {}).values() if "code" in example else ():
                header.setdefault("examples", {})[title] = {"value": example["code"]}


def _add(part: Mapping[str, Any], title: str, value: Any, summary: str = "") -> None:
    """Adds an example to the content of a body or a response."""
    for content in part.get("content", {}).values():
        content.setdefault("examples", {})[title] = {"summary": summary or title, "value": value}


def _own_response(response: dict[str, Any], responses: Mapping[str, Any]) -> dict[str, Any]:
    """The response, or a copy of the one that it refers to, which examples of one operation can be added to."""
    if "$ref" not in response:
        return response
    found = dict(responses[response["$ref"].rpartition("/")[2]])
    for part in ("content", "headers"):
        if part in found:
            found[part] = {name: dict(each) for name, each in found[part].items()}
    return found


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
