"""What a person typed into the form of an operation, and the request that it makes."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import orjson

from thingmint.console.playground.held_values import holds_secret
from thingmint.domain.errors import Invalid
from thingmint.http.invoking import PreparedRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from thingmint.console.fields import Fields
    from thingmint.console.playground.held_values import Resolve
    from thingmint.console.playground.operations import Field, Operation

GRPC: Final = "gRPC"
"""The method of the requests of operations that only gRPC has. Their path is gRPC's, and their body JSON."""

_MAX_TEXT: Final = 65_536  # characters, the most that a form may have in a field
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")
_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
_NUMBER: Final = re.compile(r"-?[0-9]{1,17}(\.[0-9]{1,9})?")
_BOOLEANS: Final = {"true": True, "false": False}
_MADE_OF_DOTS: Final = (".", "..")
_PRIVATE: Final = "PRIVATE KEY"
_MEMBER: Final = re.compile(r"(?<!\w)(\w++)\\?[\"']?\s*+:")
"""The name of a member, in text that should be JSON, and is not. Each character is read once."""
_SECRETS: Final = ("password", "secret", "jwt", "token")


class _WrongText(Exception):
    """The text of a field is no value of its type. The message follows the field's name."""


@dataclass(frozen=True, slots=True)
class Given:
    """``values`` are by the names of fields, as JSON has them; fields that were left empty are not in it.

    ``texts`` are what the form shows, by the names of fields. ``errors`` are sentences, by the names of fields.
    """

    operation: Operation
    values: Mapping[str, Any] = dataclasses.field(repr=False)
    texts: Mapping[str, str]
    errors: Mapping[str, str]

    @classmethod
    def parse(cls, operation: Operation, form: Fields, resolve: Resolve) -> Given:
        """The form's fields have the names of the operation's. Limits are left to the API, whose answer says more.

        ``texts`` lack secrets, and objects with a secret in them. Raises Invalid for a text that is too long.
        """
        values: dict[str, Any] = {}
        texts: dict[str, str] = {}
        errors: dict[str, str] = {}
        for field in operation.fields:
            # The page may have two controls for a field: a list to choose from, and after it one to type in.
            text = next((each for each in reversed(form.all(field.name)) if each.strip()), "")
            if len(text) > _MAX_TEXT:
                raise Invalid(field.name, f"must have at most {_MAX_TEXT} characters")
            text = text.replace("\r\n", "\n")
            is_kept_back = (field.is_secret and field.place != "path") or _PRIVATE in text
            if text.strip():
                try:
                    values[field.name] = value = _value(field, text)
                    is_kept_back |= holds_secret(field, value, resolve)
                except _WrongText as wrong:
                    errors[field.name] = f"{field.name} {wrong}."
                    is_kept_back |= _names_secret(text)
            if not is_kept_back:
                texts[field.name] = text
        return cls(operation, values, texts, errors)

    @classmethod
    def of(cls, operation: Operation, values: Mapping[str, Any]) -> Given:
        """The form with these values: those of an example, or of a link. Unknown fields are left out."""
        known = {name: value for name, value in values.items() if operation.field(name) is not None}
        return cls(operation, known, {name: _text(value) for name, value in known.items()}, {})

    def request(self) -> PreparedRequest:
        """Raises Invalid for a field with an error, and for one of the path that is missing."""
        for name, sentence in self.errors.items():
            raise Invalid(name, sentence.removeprefix(f"{name} ").removesuffix("."))
        operation = self.operation
        headers = tuple((field.name, _plain(value)) for field, value in self._of("header"))
        body = self._body()
        if body:
            headers = (*headers, ("content-type", operation.body_kind or "application/json"))
        if operation.method is None:
            return PreparedRequest(GRPC, operation.grpc or "", headers=headers, body=body)
        pairs = [pair for field, value in self._of("query") for pair in _pairs(field.name, value)]
        # A space as %20: some APIs read a plus sign as one, others as itself.
        query = urlencode(pairs, quote_via=quote)
        return PreparedRequest(operation.method, self._path(), query, headers, body)

    def _of(self, place: str) -> Iterable[tuple[Field, Any]]:
        return [
            (field, self.values[field.name])
            for field in self.operation.fields
            if field.place == place and field.name in self.values
        ]

    def _path(self) -> str:
        path = self.operation.path or ""
        for field in self.operation.fields_of("path"):
            if field.name not in self.values:
                raise Invalid(field.name, "is needed for the path")
            # Encoded, a slash stays in its segment, and a colon does not begin a verb.
            path = path.replace(f"{{{field.name}}}", quote(_plain(self.values[field.name]), safe=""), 1)
        return path

    def _body(self) -> bytes:
        if self.operation.body_kind is None and self.operation.method is not None:
            return b""
        values = {field.name: value for field, value in self._of("body")}
        return orjson.dumps(values["body"] if self.operation.is_raw and "body" in values else values)


def _value(field: Field, text: str) -> Any:
    """The JSON value of a field. Raises _WrongText."""
    kind = field.schema.get("type")
    if kind == "string":
        if field.place == "path" and text in _MADE_OF_DOTS and field.schema.get("x-greedy"):
            raise _WrongText("must not be made of dots only")
        return text
    stripped = text.strip()
    match kind:
        case "integer":
            if not _INTEGER.fullmatch(stripped):
                raise _WrongText("must be a whole number")
            number = int(stripped)
            if not _LEAST <= number <= _MOST:
                raise _WrongText("must be a whole number of at most 64 bits")
            return number
        case "number":
            if not _NUMBER.fullmatch(stripped):
                raise _WrongText("must be a number")
            return float(stripped)
        case "boolean":
            if stripped not in _BOOLEANS:
                raise _WrongText("must be true or false")
            return _BOOLEANS[stripped]
        case "array":
            return _json(stripped) if stripped.startswith("[") else _lines(field, stripped)
        case "object":
            value = _json(stripped)
            if not isinstance(value, dict):
                raise _WrongText("must be a JSON object, as in {}")
            return value
    try:
        value = orjson.loads(stripped)
    except orjson.JSONDecodeError:
        return text
    return _writable(value)


def _lines(field: Field, text: str) -> list[str]:
    """A list of texts, one in each line. Raises _WrongText for lists of other types."""
    if field.type != "list of text":
        raise _WrongText("must be a JSON list, as in []")
    # Not splitlines(): other characters that it takes for line ends are part of a text.
    return [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]


def _json(text: str) -> Any:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # orjson's message quotes nothing of the text.
        raise _WrongText(f"is not valid JSON: {error.msg}, in line {error.lineno}, column {error.colno}") from None
    return _writable(value)


def _writable(value: Any) -> Any:
    """The value, which the request can hold. Raises _WrongText: orjson reads more levels than it writes."""
    try:
        orjson.dumps({"field": value})
    except TypeError:
        raise _WrongText("has too many levels") from None
    return value


def _pairs(name: str, value: Any) -> list[tuple[str, str]]:
    """A parameter of the query; a list has one for each item, a map one for each entry."""
    if isinstance(value, dict):
        return [(key, _plain(each)) for key, each in value.items()]
    if isinstance(value, list):
        return [(name, _plain(each)) for each in value]
    return [(name, _plain(value))]


def _plain(value: Any) -> str:
    """The value in a path, a query or a header."""
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


def _text(value: Any) -> str:
    """The value as a person edits it."""
    if isinstance(value, dict | list):
        return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return _plain(value)


def _names_secret(text: str) -> bool:
    return any(word in found[1].casefold() for found in _MEMBER.finditer(text) for word in _SECRETS)
