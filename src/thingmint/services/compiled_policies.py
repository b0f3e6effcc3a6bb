"""Caches compiled policies: each document, and the set of policies of a device, which thousands of devices can share.

The key of a set is the identities of its policies, which are read from the store at every CONNECT. A policy that was
created again, or has another default version, has another identity, so a cached set is never out of date. The change
feed drops the sets of changed policies, because no device uses them any more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal, NamedTuple

from thingmint.domain.errors import MalformedPolicy
from thingmint.domain.policies import Kind, compile_policy
from thingmint.services.claims import claim_policy
from thingmint.store.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thingmint.domain.arns import Scope
    from thingmint.domain.policies import Policy
    from thingmint.store.engine import PublishedChange, Transaction


Subject = Literal["address", "attributes", "certificate", "time"]

_MAX_SETS = 10_000
_MAX_CHARACTERS = 2_000_000  # of all cached documents, or of all cached sets; compiled, 20 times as many bytes

# Condition keys and variables whose values take time to find or memory to keep, by subject.
_COSTLY: Mapping[Subject, Sequence[str]] = {
    "address": ("aws:sourceip",),
    "attributes": ("iot:connection.thing.attributes",),
    "certificate": ("iot:certificate",),
    "time": ("aws:currenttime", "aws:epochtime"),
}

_QUERIES = load_queries("device_policies")


class CompiledPolicies:
    """A cache of compiled documents. Drops the least recently used when all have more than ``max_characters``."""

    def __init__(self, max_characters: int = _MAX_CHARACTERS) -> None:
        self._policies: OrderedDict[tuple[Kind, str, str], Policy] = OrderedDict()
        self._left = max_characters

    def get(self, kind: Kind, name: str, document: str) -> Policy:
        """Return the compiled document. Raises MalformedPolicy."""
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
        """Compile the (name, document) pairs that are not cached, and let other tasks run after each.

        A document takes milliseconds, and a principal can have many. A malformed document is skipped; ``get`` raises.
        """
        for name, document in documents:
            if (kind, name, document) not in self._policies:
                with contextlib.suppress(MalformedPolicy):
                    self.get(kind, name, document)
                await asyncio.sleep(0)


POLICIES = CompiledPolicies()


class PolicyIdentity(NamedTuple):
    """Identifies the default version of a policy. The document of an identity never changes."""

    name: str
    generation: str
    version: int


class PolicyKey(NamedTuple):
    """The key of a set. ``template`` is set for a claim certificate, whose permissions come from its template."""

    scope: Scope
    policies: tuple[PolicyIdentity, ...]
    template: str | None = None


class PolicySet:
    """``prefix`` is the beginning of ARNs in its account and region; ``mentions`` are the costly keys it may use."""

    __slots__ = ("mentions", "policies", "prefix", "size")

    def __init__(self, scope: Scope, documents: Sequence[tuple[str, str]]) -> None:
        """``documents`` are names and texts. Raises MalformedPolicy."""
        self.policies: tuple[Policy, ...] = tuple(POLICIES.get(Kind.DEVICE, *document) for document in documents)
        self.prefix = f"arn:aws:iot:{scope.region}:{scope.account}:"
        self.mentions: frozenset[Subject] = frozenset().union(*(_mentioned(text) for _, text in documents))
        self.size = sum(len(text) for _, text in documents)


def _mentioned(document: str) -> set[Subject]:
    """Return the subjects that may occur in the document; all of them if it has escapes, which could hide a key."""
    text = document.lower()
    return {subject for subject, keys in _COSTLY.items() if "\\" in text or any(key in text for key in keys)}


class PolicySets:
    """A cache of sets. Drops the least recently used above either limit."""

    def __init__(self, max_sets: int = _MAX_SETS, max_characters: int = _MAX_CHARACTERS) -> None:
        self._max_sets = max_sets
        self._sets: OrderedDict[PolicyKey, PolicySet] = OrderedDict()
        self._having: dict[tuple[str, str, str], set[PolicyKey]] = {}  # account, region and name of a policy
        self._left = max_characters

    def __len__(self) -> int:
        return len(self._sets)

    def find(self, key: PolicyKey) -> PolicySet | None:
        known = self._sets.get(key)
        if known is not None:
            self._sets.move_to_end(key)
        return known

    async def compile(self, key: PolicyKey, documents: Mapping[str, str]) -> PolicySet:
        """Return the set for ``key``, compiled from its policies' ``documents``. Raises MalformedPolicy."""
        scope, policies, template = key
        texts = [(policy.name, documents[policy.name]) for policy in policies]
        if template is not None:
            texts.append(claim_policy(scope, template))
        await POLICIES.compile_ahead(Kind.DEVICE, texts)
        made = PolicySet(scope, texts)
        kept = self._sets.setdefault(key, made)
        if kept is made:
            self._keep(key, made)
        return kept

    def forget(self, changes: Sequence[PublishedChange]) -> None:
        """Drop the sets of changed policies."""
        for change in changes:
            if change.kind == "policy":
                for key in tuple(self._having.get((change.account, change.region, change.name), ())):
                    self._drop(key)

    def _keep(self, key: PolicyKey, made: PolicySet) -> None:
        for policy in key.policies:
            self._having.setdefault((*key.scope, policy.name), set()).add(key)
        self._left -= made.size
        while self._left < 0 or len(self._sets) > self._max_sets:
            self._drop(next(iter(self._sets)))

    def _drop(self, key: PolicyKey) -> None:
        self._left += self._sets.pop(key).size
        for policy in key.policies:
            having = self._having[(*key.scope, policy.name)]
            having.discard(key)
            if not having:
                del self._having[(*key.scope, policy.name)]


async def read_documents(tx: Transaction, key: PolicyKey) -> dict[str, str] | None:
    """Return the documents of the set's policies by name; None if a policy has changed since ``key`` was read."""
    documents: dict[str, str] = {}
    for name, generation, version in key.policies:
        row = await tx.fetch_one(_QUERIES["document"], *key.scope, name, version, generation)
        if row is None:
            return None
        documents[name] = row[0]
    return documents
