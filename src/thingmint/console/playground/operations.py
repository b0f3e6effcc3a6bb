"""The operations of the APIs as the playground shows them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Place = Literal["path", "query", "header", "body"]

_SENTENCE: Final = re.compile(r"([^.:\n]+)[.:](?=\s|$)")
_MAX_NAMES: Final = 6  # of an answer in an outline
_MAX_SUMMARY: Final = 90  # characters
_DEVIATION: Final = "Differs"  # begins the text on what differs from AWS


@dataclass(frozen=True, slots=True)
class Field:
    """What a request has: a parameter, or a member of its body.

    ``name`` is the name on the wire. ``type`` and ``limits`` are words. ``is_long``: several lines of text, or JSON.
    ``schema`` has no reference of its own, but its members may; ``x-greedy`` marks a parameter of the path that takes
    all remaining segments.
    """

    name: str
    place: Place
    required: bool
    type: str
    limits: tuple[str, ...]
    pattern: str | None
    default: Any
    choices: tuple[str, ...]
    description: str
    is_secret: bool
    is_long: bool
    schema: dict[str, Any]

    @property
    def is_text(self) -> bool:
        """True if its value is a text in JSON, too."""
        return self.schema.get("type") == "string"


@dataclass(frozen=True, slots=True)
class Failure:
    status: int
    code: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Example:
    """``request`` has the values by the names of fields. ``status`` is that of the answer."""

    title: str
    request: dict[str, Any]
    answer: Any
    status: int = 200


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of an API. Those that only gRPC has are without ``method`` and ``path``.

    ``permissions`` are the actions that policies must allow, with ``needs_one`` one of them, about which the request
    decides; ``permission`` is the first one. ``grpc`` is the path of the gRPC method. ``body_kind`` is the media type
    of the body. ``answer`` is the schema of the answer's body. ``is_open``: it needs no caller. ``is_raw``: the body is
    the only body field itself, not an object of fields. ``messages`` are those of the gRPC method, as FILE#NAME: its
    request, and what is in its operation.
    """

    api: str
    id: str
    title: str
    description: str
    tag: str
    method: str | None
    path: str | None
    is_served: bool
    permission: str | None
    fields: tuple[Field, ...]
    failures: tuple[Failure, ...]
    examples: tuple[Example, ...]
    grpc: str | None
    body_kind: str | None
    answer: dict[str, Any] | None
    permissions: tuple[str, ...] = ()
    needs_one: bool = False
    is_open: bool = False
    is_raw: bool = False
    is_deprecated: bool = False
    messages: Mapping[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first sentence of the description if it is short, or else the title."""
        first = _SENTENCE.match(self.description)
        short = first is not None and len(first[1]) <= _MAX_SUMMARY and not first[1].startswith(_DEVIATION)
        return first[1] if first is not None and short else self.title

    @property
    def outline(self) -> str:
        """What it takes and answers, from names alone: for operations without a description."""
        needed = [f"`{each.name}`" for each in self.fields if each.required]
        optional = len(self.fields) - len(needed)
        count = f"{optional} optional parameter{'' if optional == 1 else 's'}" if optional else ""
        taken = _listed([*needed, *([count] if count else [])]) or "nothing"
        answered = [f"`{name}`" for name in (self.answer or {}).get("properties", {})]
        shown = answered[:_MAX_NAMES] + (["more"] if len(answered) > _MAX_NAMES else [])
        return f"Takes {taken}. Answers with {_listed(shown) or 'an empty body'}."

    def fields_of(self, place: Place) -> list[Field]:
        return [each for each in self.fields if each.place == place]

    def field(self, name: str) -> Field | None:
        return next((each for each in self.fields if each.name == name), None)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
