"""Policies compiled once for each document, as thousands of devices share one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from typing import TYPE_CHECKING

from thingmint.domain.errors import MalformedPolicy
from thingmint.domain.policies import compile_policy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thingmint.domain.policies import Kind, Policy

_MAX_CHARACTERS = 2_000_000  # of all documents together; compiled they take some 20 times as many bytes


class CompiledPolicies:
    """The least recently used go when the documents have more than ``max_characters`` together."""

    def __init__(self, max_characters: int = _MAX_CHARACTERS) -> None:
        self._policies: OrderedDict[tuple[Kind, str, str], Policy] = OrderedDict()
        self._left = max_characters

    def get(self, kind: Kind, name: str, document: str) -> Policy:
        """Raises MalformedPolicy."""
        key = (kind, name, document)
        known = self._policies.get(key)
        if known is not None:
            self._policies.move_to_end(key)
            return known
        policy = self._policies[key] = compile_policy(document, kind=kind, name=name)
        self._left -= len(document)
        while self._left < 0:
            (*_, oldest), _policy = self._policies.popitem(last=False)
            self._left += len(oldest)
        return policy

    async def compile_ahead(self, kind: Kind, documents: Iterable[tuple[str, str]]) -> None:
        """Compiles documents (after their names) that are not known, and lets others run after each.

        One takes milliseconds, and a principal can have many. What is malformed is left to ``get``.
        """
        for name, document in documents:
            if (kind, name, document) not in self._policies:
                with contextlib.suppress(MalformedPolicy):
                    self.get(kind, name, document)
                await asyncio.sleep(0)


POLICIES = CompiledPolicies()
