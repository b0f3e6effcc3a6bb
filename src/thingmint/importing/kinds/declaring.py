"""Declares the kinds of items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from thingmint.importing.batches import Item
    from thingmint.services.change import Change
    from thingmint.services.imports import Result
    from thingmint.store.engine import Transaction


class Apply(Protocol):
    def __call__(
        self, tx: Transaction, change: Change, prepared: Sequence[Any], /, *, dry_run: bool
    ) -> Awaitable[list[list[Result]]]: ...


@dataclass(frozen=True, slots=True)
class ItemKind:
    """``prepare(change, item)`` runs in a thread: it parses and checks, and raises DomainErrors.

    ``apply(tx, change, prepared, dry_run=...)`` adds many at once; a list of results for each, the first of which is
    about the item itself. It may run more than once, and overwrites nothing. In a dry run it changes nothing, and
    takes what the items refer to for granted.
    """

    name: str
    prepare: Callable[[Change, Item], Any]
    apply: Apply
    subject: Callable[[Item], str]


KINDS: dict[str, ItemKind] = {}


def kind(name: str, prepare: Callable[[Change, Item], Any], subject: Callable[[Item], str]) -> Callable[[Apply], Apply]:
    def declare(apply: Apply) -> Apply:
        assert name not in KINDS, f"{name} is declared twice"
        KINDS[name] = ItemKind(name, prepare, apply, subject)
        return apply

    return declare


def text_in(item: Item, name: str, longest: int = 256, *, default: str = "") -> str:
    """A text field of an item. Raises Invalid."""
    value = item.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise Invalid(name, "must be a text")
    if len(value) > longest:
        raise Invalid(name, f"must have at most {longest} characters")
    if "\0" in value:
        raise Invalid(name, "must not contain NUL")
    return value


def texts_in(item: Item, name: str, most: int, longest: int = 256) -> dict[str, str]:
    """A field that is an object of texts. Raises Invalid."""
    value = item.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise Invalid(name, "must be an object whose values are texts")
    if len(value) > most:
        raise Invalid(name, f"must have at most {most} entries")
    for key, text in value.items():
        if len(key) > longest or len(text) > longest or "\0" in key + text:
            raise Invalid(name, f"must have texts of at most {longest} characters without NUL")
    return value
