"""Calls operations by their OpenAPI documents, and keeps request and answer as an example."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from recording.stand_ins import StandIns

Json = dict[str, Any]
_STEP = timedelta(seconds=45)


_PATIENCE = 60.0  # seconds, for what should take no time


class Unexpected(Exception):
    """An answer is not the expected one. The text has both."""


def wait_until(found: Callable[[], Any], what: str) -> None:
    """Returns when ``found`` returns something. Raises Unexpected if that takes too long."""
    end = time.monotonic() + _PATIENCE
    while not found():
        if time.monotonic() > end:
            raise Unexpected(f"{what}: the expected state is not reached")
        time.sleep(0.05)


@dataclass
class Clock:
    """The server's clock: the time in a file."""

    file: Path
    now: datetime

    def __post_init__(self) -> None:
        self.step(timedelta())

    def step(self, by: timedelta = _STEP) -> None:
        self.now += by
        new = self.file.with_suffix(".new")
        new.write_text(self.now.isoformat())
        new.replace(self.file)


@dataclass(frozen=True)
class Prepared:
    """A request. ``method`` is None for a method that only gRPC has; then ``target`` is its path there."""

    method: str | None
    target: str
    headers: Mapping[str, str]
    body: Json | None


class Answer(NamedTuple):
    """``body`` is JSON, None if it is empty. ``code`` is the error's, if a header has it."""

    status: int
    body: Any
    code: str | None = None


class Caller(Protocol):
    """Sends requests with the credentials of one caller."""

    def send(self, request: Prepared) -> Answer:
        """The answer to a request."""
        ...


@dataclass
class Recorder:
    """``callers`` has at least "administrator" and "viewer", who may do nothing."""

    document: Json
    callers: Mapping[str, Caller]
    clock: Clock
    stand_ins: StandIns
    examples: dict[str, list[Json]] = field(default_factory=dict)
    _first: dict[str, Prepared] = field(default_factory=dict)

    def __call__(
        self, id: str, title: str | None = None, expected: int = 200, /, caller: str = "administrator", **given: Any
    ) -> Any:
        """Calls an operation, and returns its answer. With a ``title``, the call becomes an example.

        ``given`` has the values of parameters, and the members of the body. Raises Unexpected.
        """
        self.clock.step()
        answer = self._call(id, expected, caller, given)
        if title is not None:
            self._record(id, title, given, answer)
            if expected == HTTPStatus.OK:
                self._first.setdefault(id, self._prepared(id, given)[0])
        return answer.body

    def when(self, wanted: Callable[[Any], Any], id: str, title: str, /, **given: Any) -> None:
        """Calls an operation until its answer is as wanted, which becomes an example. Raises Unexpected."""
        wait_until(lambda: wanted(self.poll(id, **given)), f"{id} with {given}")
        self._record(id, title, given, self._call(id, 200, "administrator", given))
        self._first.setdefault(id, self._prepared(id, given)[0])

    def poll(self, id: str, /, **given: Any) -> Any:
        """Calls an operation while the clock stands still, and keeps nothing."""
        return self._call(id, 200, "administrator", given).body

    def _call(self, id: str, expected: int, caller: str, given: Json) -> Answer:
        answer = self.callers[caller].send(self._prepared(id, given)[0])
        if answer.status != expected:
            raise Unexpected(f"{id} with {given} answered {answer}, not {expected}")
        self.stand_ins.meet(given)
        self.stand_ins.meet(answer.body)
        return answer

    def check_permissions(self, message: str) -> None:
        """Repeats each operation as the viewer, who must be refused because of an action that the document names.

        ``message`` is a pattern that finds the action in the answer.
        """
        for id, (_, _, operation) in self._operations():
            named = [operation[key] for key in operation if key.startswith("x-thingmint-") and key.endswith("action")]
            several = [*operation.get("x-thingmint-actions", ()), *operation.get("x-thingmint-one-of-actions", ())]
            if not named or id not in self._first:
                continue
            answer = self.callers["viewer"].send(self._first[id])
            found = re.search(message, json.dumps(answer.body))
            if answer.status != HTTPStatus.FORBIDDEN or found is None or found[1] not in (several or named):
                raise Unexpected(f"{id} needs {several or named} by its document, but was refused with {answer}")

    def written(self) -> Json:
        """The examples in the order of the document."""
        return {id: self.examples[id] for id, _ in self._operations() if id in self.examples}

    def _operations(self) -> Iterator[tuple[str, tuple[str | None, str, Json]]]:
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                yield operation["operationId"], (method.upper(), path, operation)
        for operation in self.document.get("x-thingmint-grpc-only", ()):
            yield operation["operationId"], (None, operation["x-thingmint-grpc"], operation)

    def _prepared(self, id: str, given: Mapping[str, Any]) -> tuple[Prepared, Json]:
        """The request, and which of the given values are parameters."""
        method, target, operation = dict(self._operations())[id]
        query, headers, parameters = {}, {}, {}
        body = dict(given)
        for parameter in operation["parameters"]:
            name = parameter["name"]
            if name not in body:
                continue
            parameters[name] = value = body.pop(name)
            match parameter["in"]:
                case "path":
                    safe = "/" if parameter.get("x-greedy") else ""
                    target = target.replace(f"{{{name}}}", quote(str(value), safe=safe))
                case "query":
                    query[name] = str(value).lower() if isinstance(value, bool) else value
                case _:
                    headers[name] = value
        if body and "requestBody" not in operation:
            raise Unexpected(f"{id} has no parameters {', '.join(body)}")
        if query:
            target = f"{target}?{urlencode(query, doseq=True)}"
        return Prepared(method, target, headers, body if "requestBody" in operation else None), parameters

    def _record(self, id: str, title: str, given: Json, answer: Answer) -> None:
        prepared, parameters = self._prepared(id, given)
        example: Json = {"title": title}
        if parameters:
            example["parameters"] = self.stand_ins.value(parameters)
        if prepared.body is not None:
            example["body"] = self.stand_ins.value(prepared.body)
        example["status"] = answer.status
        if answer.code is not None:
            example["code"] = answer.code
        if answer.body is not None:
            example["answer"] = self.stand_ins.value(answer.body)
        self.examples.setdefault(id, []).append(example)
