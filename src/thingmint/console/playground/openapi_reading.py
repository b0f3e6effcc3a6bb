"""Reads the operations of an API from its OpenAPI document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from thingmint.console.playground.operations import Example, Failure, Field, Operation
from thingmint.http.openapi import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thingmint.console.playground.operations import Place
    from thingmint.console.playground.schemas import Schemas

_METHODS: Final = ("get", "put", "post", "patch", "delete")
_CODE: Final = re.compile(r"^- `(?P<code>\w+)`(?: \(\d+\))?: (?P<meaning>.+)$", re.MULTILINE)
_LONG: Final = 4096  # characters: longer texts get a field of several lines
_LONG_NAMES: Final = re.compile(
    r"pem$|csr$|certificate$|certificate_?data$|request$|document$|body$|payload$|^data$", re.IGNORECASE
)
_LONG_TYPES: Final = ("text", "PEM", "JSON as text", "Base64")
_GRPC_ONLY: Final = "x-thingmint-grpc-only"
_ONE_OF: Final = "x-thingmint-one-of-actions"


def operations_of(api: str, document: Mapping[str, Any], schemas: Schemas) -> Iterable[Operation]:
    """The operations of a document. ``schemas`` are those of the document."""
    return _Reader(api, document, schemas).operations()


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
