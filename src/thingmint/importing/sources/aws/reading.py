"""What the sections of an account have in common: tags, times, results."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from thingmint.importing.sources.aws.calls import Denied, NotServed
from thingmint.services.imports import Result
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from thingmint.importing.batches import Item
    from thingmint.importing.sources.aws.calls import CallError, Calls

_SLOW = 12
"""The weight of a signature that is verified, and of a group, whose ancestors are looked at."""
GONE = "it was deleted while the account was read"


class Made(NamedTuple):
    """What an entry of a list becomes."""

    items: Sequence[Item] = ()
    results: Sequence[Result] = ()


class Region:
    """One region of the account. Its methods may be used by several threads."""

    def __init__(self, name: str, calls: Calls) -> None:
        self.name = name
        self.calls = calls
        self._lock = threading.Lock()
        self._told: set[str] = set()

    def item(self, kind: str, **members: Any) -> Item:
        return {"kind": kind, "region": self.name, **members}

    def subject(self, text: str) -> str:
        """Return the subject of a result: account, regions and names differ, so the region belongs to it."""
        return f"{self.name}: {text}"

    def once(self, error: CallError, what: str) -> list[Result]:
        """Return a result about an operation that does not work in this region, and nothing from the second time on."""
        with self._lock:
            if error.operation in self._told:
                return []
            self._told.add(error.operation)
        return [Result("region", "refused", self.subject(what), f"not read: {error}")]

    def tags(self, arn: str) -> tuple[dict[str, str], list[Result]]:
        """Return the tags of a resource. If they cannot be read, that is a result, once."""
        try:
            tags = {tag["Key"]: tag["Value"] for tag in self.calls.all("ListTagsForResource", "tags", resourceArn=arn)}
        except (Denied, NotServed) as error:
            return {}, self.once(error, "tags")
        return tags, []

    def policies_of(self, target: str) -> list[str]:
        """Return the names of the policies that are attached to a certificate or a group."""
        return [policy["policyName"] for policy in self.calls.all("ListAttachedPolicies", "policies", target=target)]


def micros(time: datetime | None) -> int | None:
    return None if time is None else to_micros(time)


def weight_of(item: Item) -> int:
    """Return about how many rows an item becomes, or could become in the time that it takes."""
    slow = _SLOW if item["kind"] == "group" or item.get("ca") else 0
    return 3 + sum(_length(value) for value in item.values()) + slow


def _length(value: object) -> int:
    if isinstance(value, dict):
        return len(value)
    return 2 * len(value) if isinstance(value, list) else 0
