"""What the code for other clients is made of: the values of a call, without secrets and long texts in them.

A secret becomes the name of a variable of the environment, a text in PEM the name of a file. A private key is a secret,
wherever it was typed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from thingmint.console.playground.writing import Base64, FromEnvironment, FromFile, leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thingmint.console.playground.operations import Field, Operation

    Resolve = Callable[[Mapping[str, Any]], dict[str, Any]]
    """Returns a schema without a reference of its own."""

_PEM: Final = re.compile(r"\s*-----BEGIN ([A-Z0-9 ]{1,40})-----")
_PRIVATE_KEY: Final = "PRIVATE KEY"
_SECRET_NAMES: Final = re.compile(r"password|secret|jwt|token$", re.IGNORECASE)
_NO_SECRETS: Final = frozenset({"nextToken", "pageToken", "clientRequestToken", "clientToken"})
_MAX_DEPTH: Final = 32
_MAX_SIZE: Final = 24_000  # characters; it takes some tens of milliseconds to write so many
_WEIGHT: Final = 8  # a value takes as long as so many characters


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file that the code reads. ``text`` is None for a private key, which no page shows again."""

    name: str
    text: str | None


@dataclass(frozen=True, slots=True)
class HeldValues:
    """The values by field. ``missing`` are the fields that the call needs and that a word in capitals stands for."""

    values: dict[str, Any]
    files: tuple[KeptFile, ...]
    secrets: tuple[str, ...]
    missing: tuple[str, ...]


def held(operation: Operation, given: Mapping[str, Any], resolve: Resolve) -> HeldValues:
    """``given`` has JSON values by the names of fields; those of other names are left out."""
    holder = _Holder(resolve)
    values: dict[str, Any] = {}
    missing = []
    for each in operation.fields:
        value = given.get(each.name)
        if value is not None and each.place == "body":
            values[each.name] = holder.value(each.name, value, each.schema, is_secret=_is_secret(each))
        elif value is not None and not _has_private_key(value):
            values[each.name] = holder.secret(each.name) if _is_secret(each) else value
        elif value is not None or each.required:
            missing.append(each.name)
            values[each.name] = holder.secret(each.name) if _is_secret(each) else _placeholder(each)
    return HeldValues(values, tuple(holder.files.values()), tuple(holder.secrets), tuple(missing))


def can_be_shown(given: Mapping[str, Any]) -> bool:
    """False for so many characters or levels that no person would copy the code, and for a private key as a name."""
    size = 0
    waiting: list[tuple[Any, int]] = [(dict(given), 0)]
    while waiting:
        value, depth = waiting.pop()
        members: list[Any] = []
        if isinstance(value, dict):
            if any(_PRIVATE_KEY in name for name in value):
                return False
            members = [*value, *value.values()]
        elif isinstance(value, list):
            members = value
        size += _WEIGHT + (len(value) if isinstance(value, str) else 0)
        if size > _MAX_SIZE or depth > _MAX_DEPTH:
            return False
        waiting += [(each, depth + 1) for each in members]
    return True


def holds_secret(given: Field, value: Any, resolve: Resolve) -> bool:
    """True if the value is a secret, or has one or a private key in it."""
    waiting: list[tuple[str, Any, Mapping[str, Any], bool]] = [(given.name, value, given.schema, _is_secret(given))]
    while waiting:
        name, each, schema, is_secret = waiting.pop()
        if is_secret and each not in ("", None, {}, []):
            return True
        if isinstance(each, str) and _PRIVATE_KEY in each:
            return True
        if isinstance(each, dict) and any(_PRIVATE_KEY in key for key in each):
            return True
        if isinstance(each, dict | list):
            members = _members(name, each, schema, resolve)
            waiting += [(of, member, part, _has_secret(of, part)) for of, member, part in members]
    return False


def _members(
    name: str, value: dict[str, Any] | list[Any], schema: Mapping[str, Any], resolve: Resolve
) -> list[tuple[str, Any, Mapping[str, Any]]]:
    """The members of an object or a list, each with the name and the schema that say what it is."""
    if isinstance(value, list):
        items = resolve(schema.get("items", {}))
        return [(_singular(name), each, items) for each in value]
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    others = others if isinstance(others, dict) else {}
    return [
        (key if key in properties else name, each, resolve(properties.get(key, others))) for key, each in value.items()
    ]


def _is_secret(given: Field) -> bool:
    """An address shows what is in it, so a field of a path or query is no secret, whatever the contract says."""
    return given.place in ("body", "header") and _has_secret(given.name, given.schema)


def _has_private_key(value: Any) -> bool:
    return any(isinstance(each, str) and _PRIVATE_KEY in each for each in leaves(value))


def _has_secret(name: str, schema: Mapping[str, Any]) -> bool:
    if schema.get("x-sensitive") or schema.get("writeOnly") or schema.get("format") == "password":
        return True
    is_text = schema.get("type") == "string" and "enum" not in schema
    return is_text and name not in _NO_SECRETS and _SECRET_NAMES.search(name) is not None


def _placeholder(given: Field) -> Any:
    kind = given.schema.get("type")
    if given.choices:
        return given.choices[0]
    if given.default is not None:
        return given.default
    if kind in ("integer", "number"):
        return max(given.schema.get("minimum", 1), 1)
    return {"boolean": False, "array": [], "object": {}}.get(str(kind), variable(given.name))


def variable(name: str) -> str:
    """The name in the way of the environment: ``certificateData`` is CERTIFICATE_DATA."""
    return re.sub(r"\W", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).upper()


def snake(name: str) -> str:
    """``certificateData`` is certificate_data, as a message of protobuf has it."""
    return re.sub(r"[A-Z]", lambda each: f"_{each[0].lower()}", name)


@dataclass(slots=True)
class _Holder:
    resolve: Resolve
    files: dict[str, KeptFile] = field(default_factory=dict)
    secrets: dict[str, None] = field(default_factory=dict)

    def value(self, name: str, value: Any, schema: Mapping[str, Any], *, is_secret: bool) -> Any:
        if isinstance(value, str):
            return self._text(name, value, schema, is_secret=is_secret)
        if not isinstance(value, dict | list):
            return value
        members = [
            self.value(of, each, part, is_secret=_has_secret(of, part))
            for of, each, part in _members(name, value, schema, self.resolve)
        ]
        return members if isinstance(value, list) else dict(zip(value, members, strict=True))

    def _text(self, name: str, text: str, schema: Mapping[str, Any], *, is_secret: bool) -> Any:
        if _PRIVATE_KEY in text:
            return self._file(name, "key", None)
        if is_secret:
            return self.secret(name)
        if (pem := _PEM.match(text)) is not None:
            suffix = "csr" if pem[1].endswith("REQUEST") else "pem"
            return self._file(name, suffix, text.replace("\r\n", "\n"))  # as Python reads the file
        if schema.get("contentEncoding") == "base64":
            return Base64(text)
        return text

    def secret(self, name: str) -> FromEnvironment:
        """Two secrets of one name, in a list, get two variables."""
        chosen = _new(variable(name), self.secrets, "_")
        self.secrets[chosen] = None
        return FromEnvironment(chosen)

    def _file(self, name: str, suffix: str, text: str | None) -> FromFile:
        stem = re.sub(r"-(pem|data|csr)$", "", variable(name).lower().replace("_", "-"))
        stem = {"certificate-signing-request": "request", "csr": "request"}.get(stem, stem)
        known = next((each for each in self.files.values() if text is not None and each.text == text), None)
        if known is not None:
            return FromFile(known.name)
        taken = {each.rpartition(".")[0]: None for each in self.files}
        file = f"{_new(stem, taken, '-')}.{suffix}"
        self.files[file] = KeptFile(file, text)
        return FromFile(file)


def _singular(name: str) -> str:
    return name.removesuffix("s")


def _new(name: str, taken: Mapping[str, None], between: str) -> str:
    number = 2
    chosen = name
    while chosen in taken:
        chosen = f"{name}{between}{number}"
        number += 1
    return chosen
