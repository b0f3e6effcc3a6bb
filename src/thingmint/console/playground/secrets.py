"""Takes the secrets out of an answer, so that a page can show the answer without them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from thingmint.http.openapi import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from thingmint.console.playground.schemas import Schemas

HIDDEN: Final = "(not shown here)"
"""In the answer, in place of a secret."""

# In small letters, without separators. The contracts mark AWS's secrets only.
_NAMES: Final = frozenset(
    {"privatekey", "secretaccesskey", "sessiontoken", "iamtoken", "accesstoken", "token", "password", "secret"}
)
_PRIVATE_PEM: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----"
_SEPARATORS: Final = re.compile(r"[^a-z0-9]")


@dataclass(frozen=True, slots=True)
class Saved:
    """A text that is saved as a file. ``name`` is in words, as in "Private key"; ``file`` is the file's name."""

    name: str
    file: str
    value: str = field(repr=False)


def certificates_of(value: Any) -> Iterable[Saved]:
    """The certificates in an answer, as files to save. They are not secret."""
    if isinstance(value, dict):
        for key, each in value.items():
            if isinstance(each, str) and each.startswith(_CERTIFICATE):
                yield Saved(words(key).removesuffix(" pem"), "certificate.pem", each)
            yield from certificates_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from certificates_of(each)


def without_secrets(
    value: Any, schema: Mapping[str, Any] | None, schemas: Schemas | None
) -> tuple[Any, tuple[Saved, ...]]:
    """The value of an answer with HIDDEN in place of each secret, and the secrets in their order."""
    found: list[Saved] = []
    shown = _Walk(schemas, found).of(value, schema, "")
    return shown, tuple(numbered(found))


class _Walk:
    def __init__(self, schemas: Schemas | None, found: list[Saved]) -> None:
        self._schemas = schemas
        self._found = found

    def of(self, value: Any, schema: Mapping[str, Any] | None, name: str) -> Any:
        known = self._schemas.resolved(schema) if self._schemas is not None and schema else {}
        if isinstance(value, dict):
            return {key: self.of(each, _member(known, key), key) for key, each in value.items()}
        if isinstance(value, list):
            return [self.of(each, known.get("items"), name) for each in value]
        if isinstance(value, str) and value and _is_secret(value, known, name):
            is_key = _PRIVATE_PEM.search(value) is not None
            self._found.append(Saved(words(name) or "Secret", _file(name, is_key=is_key), value))
            return HIDDEN
        return value


def _member(schema: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    member = schema.get("properties", {}).get(name)
    if member is None:
        member = schema.get("additionalProperties")
    return member if isinstance(member, dict) else None


def _is_secret(value: str, schema: Mapping[str, Any], name: str) -> bool:
    return bool(
        schema.get("x-sensitive")
        or schema.get("format") == "password"
        or _SEPARATORS.sub("", name.lower()) in _NAMES
        or _PRIVATE_PEM.search(value)
    )


def _file(name: str, *, is_key: bool) -> str:
    plain = "-".join(words(name).lower().split()) or "secret"
    return "private.key" if is_key else f"{plain}.txt"


def numbered(found: Iterable[Saved]) -> Iterable[Saved]:
    """The secrets with different file names."""
    seen: dict[str, int] = {}
    for each in found:
        number = seen[each.file] = seen.get(each.file, 0) + 1
        stem, dot, ending = each.file.partition(".")
        yield each if number == 1 else Saved(each.name, f"{stem}-{number}{dot}{ending}", each.value)
