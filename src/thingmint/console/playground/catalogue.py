"""The catalogue of all operations of the APIs, made from their OpenAPI documents."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal

from thingmint.console.playground.schemas import Schemas
from thingmint.domain.errors import NotFound
from thingmint.http.openapi import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Place = Literal["path", "query", "header", "body"]

APIS: Final = {"aws": "AWS IoT", "yandex": "Yandex IoT Core", "native": "Native API"}
"""The APIs in the order of the pages, with their titles."""

_METHODS: Final = ("get", "put", "post", "patch", "delete")
_SHORT: Final = re.compile("^(Api|Iam)\\b")
_SENTENCE: Final = re.compile(r"([^.:\n]+)[.:](?=\s|$)")
_MAX_NAMES: Final = 6  # of an answer in an outline
_MAX_SUMMARY: Final = 90  # characters
_DEVIATION: Final = "Differs"  # begins the text on what differs from AWS
_MAX_WORDS: Final = 8
_CODE: Final = re.compile(r"^- `(?P<code>\w+)`(?: \(\d+\))?: (?P<meaning>.+)$", re.MULTILINE)
_LONG: Final = 4096  # characters: longer texts get a field of several lines
_LONG_NAMES: Final = re.compile(
    r"pem$|csr$|certificate$|certificate_?data$|request$|document$|body$|payload$|^data$", re.IGNORECASE
)
_LONG_TYPES: Final = ("text", "PEM", "JSON as text", "Base64")
_GRPC_ONLY: Final = "x-thingmint-grpc-only"
_ONE_OF: Final = "x-thingmint-one-of-actions"


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


@dataclass(frozen=True, slots=True)
class Catalogue:
    """``schemas`` has those of each API, for what a Field or an answer refers to."""

    schemas: Mapping[str, Schemas]
    _by_api: Mapping[str, Mapping[str, Operation]]
    _texts: Mapping[tuple[str, str], str] = field(repr=False)

    @classmethod
    def of(cls, documents: Mapping[str, dict[str, Any]]) -> Catalogue:
        """``documents`` are OpenAPI documents by API."""
        schemas = {api: Schemas(document) for api, document in documents.items()}
        by_api = {
            api: {each.id: each for each in _Reader(api, document, schemas[api]).operations()}
            for api, document in documents.items()
        }
        texts = {(each.api, each.id): _text(each) for found in by_api.values() for each in found.values()}
        return cls(schemas, by_api, texts)

    def operations(self, api: str) -> Sequence[Operation]:
        """The operations of an API, in the order of its document. Raises NotFound for an unknown API."""
        return list(self._of(api).values())

    def find(self, api: str, id: str) -> Operation:
        """Raises NotFound."""
        found = self._of(api).get(id)
        if found is None:
            raise NotFound("operation", id)
        return found

    def tags(self, api: str) -> list[str]:
        """The tags of an API's operations in alphabetical order. Raises NotFound for an unknown API."""
        return sorted({each.tag for each in self._of(api).values()})

    def search(
        self, words: str, api: str | None = None, tag: str | None = None, served: bool | None = None
    ) -> list[Operation]:
        """The operations that have every one of the words, those that have them in their names first."""
        wanted = words.lower().split()[:_MAX_WORDS]
        found = [
            each
            for known in (APIS if api is None else (api,))
            for each in self._by_api.get(known, {}).values()
            if tag in (None, each.tag)
            and served in (None, each.is_served)
            and all(word in self._texts[each.api, each.id] for word in wanted)
        ]
        return sorted(found, key=lambda each: _rank(each, wanted)) if wanted else found

    def _of(self, api: str) -> Mapping[str, Operation]:
        if api not in self._by_api:
            raise NotFound("API", api)
        return self._by_api[api]


def title_of(tag: str) -> str:
    """A tag in words: a service of Yandex has its name as tag."""
    title = words(tag.removesuffix("Service")) if tag.endswith("Service") else f"{tag[:1].upper()}{tag[1:]}"
    return _SHORT.sub(lambda found: found[0].upper(), title)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


_lock = Lock()
_made: dict[tuple[Callable[[], dict[str, Any]], ...], Catalogue] = {}


async def catalogue_of(contracts: Mapping[str, Callable[[], dict[str, Any]]]) -> Catalogue:
    """The catalogue of the documents, which the first caller makes in a thread."""
    key = tuple(contracts.values())
    return _made[key] if key in _made else await asyncio.to_thread(_make, contracts, key)


def _make(
    contracts: Mapping[str, Callable[[], dict[str, Any]]], key: tuple[Callable[[], dict[str, Any]], ...]
) -> Catalogue:
    with _lock:  # callers at the same time wait for the first
        if key not in _made:
            _made[key] = Catalogue.of({api: make() for api, make in contracts.items()})
        return _made[key]


def _text(operation: Operation) -> str:
    """Everything that a search finds the operation by, in small letters."""
    parts = [operation.id, operation.title, operation.description, operation.tag, operation.permission or ""]
    parts += [
        operation.method or "",
        operation.path or "",
        operation.grpc or "",
        *(each.name for each in operation.fields),
    ]
    return "\n".join(parts).lower()


def _rank(operation: Operation, wanted: Iterable[str]) -> int:
    id, title = operation.id.lower(), operation.title.lower()
    if id == "".join(wanted):
        return 0
    return 1 if all(word in id or word in title for word in wanted) else 2


class _Reader:
    """Reads the operations of one document."""

    def __init__(self, api: str, document: Mapping[str, Any], schemas: Schemas) -> None:
        self._api = api
        self._document = document
        self._schemas = schemas

    def operations(self) -> Iterable[Operation]:
        """An operation with several HTTP bindings is read once, with the first."""
        seen = set()
        for path, item in self._document["paths"].items():
            for method in _METHODS:
                if method in item and (grpc := item[method].get("x-thingmint-grpc", (method, path))) not in seen:
                    seen.add(grpc)
                    yield self._operation(item[method], method.upper(), path)
        for given in self._document.get(_GRPC_ONLY, ()):
            yield self._operation(given, None, None)

    def _operation(self, given: Mapping[str, Any], method: str | None, path: str | None) -> Operation:
        first = given.get("x-thingmint-action")
        several = given.get("x-thingmint-actions") or given.get(_ONE_OF)
        kind, body = self._content(given.get("requestBody", {}))
        fields = [self._parameter(each) for each in given.get("parameters", ())]
        members = self._schemas.members(body) if body is not None else None
        if body is not None and members is None:
            fields.append(self._field("body", "body", given["requestBody"].get("required", False), body))
        for name, schema, required, limits in members or ():
            fields.append(self._field(name, "body", required, schema, limits))
        answers = [self._schemas.part(each) for status, each in given["responses"].items() if status.startswith("2")]
        _, answer = self._content(answers[0]) if answers else (None, None)
        return Operation(
            api=self._api,
            id=given["operationId"],
            title=given.get("summary", given["operationId"]),
            description=given.get("description", ""),
            tag=next(iter(given.get("tags", ())), "Others"),
            method=method,
            path=path,
            is_served=given.get("x-thingmint-served", True),
            permission=first,
            permissions=tuple(several or (() if first is None else (first,))),
            needs_one=_ONE_OF in given,
            fields=tuple(fields),
            failures=tuple(self._failures(given["responses"])),
            examples=tuple(self._examples(given)),
            grpc=given.get("x-thingmint-grpc"),
            body_kind=kind,
            answer=self._schemas.resolved(answer) if answer is not None else None,
            is_open=given.get("security") == [],
            is_raw=body is not None and members is None,
            is_deprecated=given.get("deprecated", False),
            messages=given.get("x-thingmint-messages", {}),
        )

    def _content(self, part: Mapping[str, Any]) -> tuple[str | None, dict[str, Any] | None]:
        """The media type and the schema of a body."""
        for kind, content in part.get("content", {}).items():
            return kind, content.get("schema", {})
        return None, None

    def _parameter(self, given: Mapping[str, Any]) -> Field:
        more = {"x-greedy": True} if given.get("x-greedy") else {}
        schema = self._schemas.resolved(given["schema"]) | more
        return self._field(given["name"], given["in"], given.get("required", False), schema, (), given)

    def _field(
        self,
        name: str,
        place: Place,
        required: bool,
        schema: dict[str, Any],
        limits: Sequence[str] = (),
        given: Mapping[str, Any] | None = None,
    ) -> Field:
        schema = self._schemas.resolved(schema)
        said = self._schemas.words(schema)
        description = (given or {}).get("description") or schema.get("description", "")
        if description == f"{words(name)}.":
            description = ""  # it says no more than the name
        more = ("deprecated",) if (given or schema).get("deprecated") else ()
        return Field(
            name=name,
            place=place,
            required=required,
            type=said.type,
            limits=(*said.limits, *limits, *more),
            pattern=said.pattern,
            default=schema.get("default"),
            choices=tuple(schema.get("enum", ())),
            description=description,
            is_secret=bool(schema.get("x-sensitive") or schema.get("writeOnly") or schema.get("format") == "password"),
            is_long=said.is_composed or (said.type in _LONG_TYPES and _is_long(name, schema, said.pattern)),
            schema=schema,
        )

    def _failures(self, responses: Mapping[str, Any]) -> Iterable[Failure]:
        for status, given in responses.items():
            if not status.isdigit() or status.startswith("2"):
                continue
            description = self._schemas.part(given)["description"]
            found = list(_CODE.finditer(description))
            for each in found:
                meaning = each["meaning"].removesuffix(".")
                yield Failure(int(status), each["code"], f"{meaning[:1].upper()}{meaning[1:]}.")
            if not found:
                yield Failure(int(status), given.get("$ref", status).rpartition("/")[2], description)

    def _examples(self, given: Mapping[str, Any]) -> Iterable[Example]:
        """Those that the parameters, the body and a response have under the same name."""
        asked = self._named(given.get("requestBody", {}))
        answered = {
            name: (int(status), each)
            for status, response in given["responses"].items()
            if status.isdigit()
            for name, each in self._named(self._schemas.part(response)).items()
        }
        in_parameters = {each["name"]: each.get("examples", {}) for each in given.get("parameters", ())}
        names = dict.fromkeys([*asked, *answered, *(name for each in in_parameters.values() for name in each)])
        for name in sorted(names, key=lambda name: answered.get(name, (200,))[0]):
            values = {parameter: each[name]["value"] for parameter, each in in_parameters.items() if name in each}
            body = asked.get(name, {}).get("value", {})
            status, answer = answered.get(name, (200, {}))
            title = answer.get("summary") or asked.get(name, {}).get("summary") or name
            request = values | (body if isinstance(body, dict) else {"body": body})
            yield Example(title, request, answer.get("value"), status)

    def _named(self, part: Mapping[str, Any]) -> dict[str, Any]:
        return next((content.get("examples", {}) for content in part.get("content", {}).values()), {})


def _is_long(name: str, schema: Mapping[str, Any], pattern: str | None) -> bool:
    if "enum" in schema:
        return False
    if "maxLength" in schema:
        return bool(schema["maxLength"] >= _LONG)
    return pattern is None and _LONG_NAMES.search(name) is not None
