"""The catalogue of all operations of the APIs, made from their OpenAPI documents."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from thingmint.console.playground.openapi_reading import operations_of
from thingmint.console.playground.schemas import Schemas
from thingmint.domain.errors import NotFound
from thingmint.http.openapi import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from thingmint.console.playground.operations import Operation

APIS: Final = {"aws": "AWS IoT", "yandex": "Yandex IoT Core", "native": "Native API"}
"""The APIs in the order of the pages, with their titles."""

_SHORT: Final = re.compile("^(Api|Iam)\\b")
_MAX_WORDS: Final = 8


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
            api: {each.id: each for each in operations_of(api, document, schemas[api])}
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
