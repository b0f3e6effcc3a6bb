"""Calls of all operations with hostile values, and the code that the playground shows for them."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any

from thingmint.console.playground.catalogue import Catalogue
from thingmint.console.playground.equivalents import equivalents
from thingmint.console.playground.shown_code import Addresses, Equivalents
from thingmint.server.contracts import CONTRACTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.console.playground.operations import Operation

ADDRESSES = Addresses("localhost:8443", "localhost:9443", "localhost", 8883, "123456789012", "us-east-1")
HOSTILE = (
    *("<script>alert(1)</script>", "it's", 'a "quoted" text', "$(id)", "`id`", "${x}", "%{x}", "-x", "\\", "a\nb"),
    *("file:///etc/passwd", "Ж", "\u202e", "\x1b[31m", " ", "a/b?c#d&e=f", "a:b", "..", "\\(env)", "!!", "*"),
)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
PRIVATE_KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----\n"


@cache
def catalogue() -> Catalogue:
    return Catalogue.of({api: make() for api, make in CONTRACTS.items()})


def operation(api: str, id: str) -> Operation:
    return catalogue().find(api, id)


def shown(asked: Operation, values: dict[str, Any], addresses: Addresses = ADDRESSES) -> Equivalents:
    return equivalents(asked, values, addresses, catalogue().schemas[asked.api].resolved)


def text_of(asked: Operation, values: dict[str, Any], client: str) -> str | None:
    found = {each.id: each.text for each in shown(asked, values).clients}
    return found.get(client)


def code(api: str, id: str, client: str, **values: Any) -> str:
    text = text_of(operation(api, id), values, client)
    assert text is not None
    return text


class Values:
    """Values for the fields of operations: each text is the next one of ``texts``."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self._texts = texts
        self._number = 0

    def of(self, asked: Operation) -> dict[str, Any]:
        resolve = catalogue().schemas[asked.api].resolved
        return {each.name: self._value(each.schema, resolve, 0) for each in asked.fields}

    def _text(self) -> str:
        self._number += 1
        return self._texts[self._number % len(self._texts)]

    def _value(self, schema: dict[str, Any], resolve: Any, depth: int) -> Any:
        schema = resolve(schema)
        kind = schema.get("type")
        if "enum" in schema:
            return schema["enum"][-1]
        if kind == "array":
            return [self._value(schema.get("items", {}), resolve, depth + 1) for _ in range(2)] if depth < 4 else []
        if kind == "object" or "properties" in schema:
            if depth > 3:
                return {}
            members = {
                name: self._value(each, resolve, depth + 1) for name, each in schema.get("properties", {}).items()
            }
            others = schema.get("additionalProperties")
            return members | (
                {self._text(): self._value(others, resolve, depth + 1)} if isinstance(others, dict) else {}
            )
        if kind in ("integer", "number"):
            return max(schema.get("minimum", 1), 1)
        if kind == "boolean":
            return self._number % 2 == 0
        if schema.get("contentEncoding") == "base64":
            return "aGVsbG8="
        return self._text()


def everything(texts: tuple[str, ...] = HOSTILE) -> Iterator[tuple[Operation, dict[str, Any]]]:
    values = Values(texts)
    for api in CONTRACTS:
        for each in catalogue().operations(api):
            yield each, values.of(each)


def words_of(scripts: list[str]) -> list[list[str]]:
    """The words of the first command of each script, as bash reads them, without a pipe."""
    marked = "\n".join(f"words {script}\nprintf '\\1\\0'" for script in scripts)
    run = f"words() {{ printf '%s\\0' \"$@\"; }}\n{marked}"
    env = {"PATH": os.environ["PATH"], "TOKEN": "TOKEN", "IAM_TOKEN": "IAM_TOKEN"}
    read = subprocess.run(["bash"], input=run.encode(), capture_output=True, check=True, env=env).stdout.decode()
    return [words.split("\0")[:-1] for words in read.split("\1\0")[:-1]]


def options(words: list[str]) -> dict[str, list[str]]:
    """The values by option, and those without an option under an empty name."""
    found: dict[str, list[str]] = {"": []}
    alone = {"--fail-with-body", "--tlsv1.2", "--path-as-is"}
    rest = iter(words[1:])
    for word in rest:
        if word in alone:
            continue
        name = word if word.startswith("-") else ""
        found.setdefault(name, []).append(next(rest) if name else word)
    return found
