"""The cache of policy sets is bounded and drops changed policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.world import ABROAD, OURS, THEIRS
from thingmint.domain.errors import MalformedPolicy
from thingmint.services.compiled_policies import PolicyIdentity, PolicyKey, PolicySets
from thingmint.store.engine import PublishedChange

if TYPE_CHECKING:
    from thingmint.domain.arns import Scope
    from thingmint.store.engine import Kind

ANOTHER: list[dict[str, Any]] = [{"generation": "h"}, {"version": 2}, {"scope": ABROAD}]
DOCUMENT = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}'


def key(*names: str, scope: Scope = OURS, generation: str = "g", version: int = 1) -> PolicyKey:
    return PolicyKey(scope, tuple(PolicyIdentity(name, generation, version) for name in names))


def changed(name: str, scope: Scope = OURS, kind: Kind = "policy") -> PublishedChange:
    return PublishedChange("id", 0, *scope, kind, name)


async def compiled(sets: PolicySets, *keys: PolicyKey) -> None:
    for each in keys:
        await sets.compile(each, {policy.name: DOCUMENT for policy in each.policies})


async def test_the_key_of_a_set_includes_generation_and_version() -> None:
    sets = PolicySets()
    await compiled(sets, key("a", "b"))
    assert sets.find(key("a", "b")) is not None
    for other in (key("a"), key("b", "a"), *(key("a", "b", **each) for each in ANOTHER)):
        assert sets.find(other) is None


async def test_devices_share_a_compiled_set() -> None:
    sets = PolicySets()
    first = await sets.compile(key("a"), {"a": DOCUMENT})
    assert sets.find(key("a")) is first
    assert await sets.compile(key("a"), {"a": DOCUMENT}) is first


async def test_a_change_drops_only_the_sets_of_its_policy() -> None:
    sets, kept = PolicySets(), [key("b"), key("a", scope=ABROAD), key("a", scope=THEIRS)]
    dropped = [key("a"), key("a", "b"), key("a", generation="h")]
    await compiled(sets, *kept, *dropped)
    sets.forget([changed("a", kind="thing"), changed("c")])
    assert len(sets) == 6
    sets.forget([changed("a")])
    assert [sets.find(each) is not None for each in (*kept, *dropped)] == [True] * 3 + [False] * 3
    sets.forget([changed("b"), changed("a", ABROAD), changed("a", THEIRS)])
    assert len(sets) == 0
    assert not sets._having


@pytest.mark.parametrize("bounds", [{"max_sets": 3}, {"max_characters": 3 * len(DOCUMENT)}])
async def test_the_least_recently_used_sets_are_dropped(bounds: dict[str, int]) -> None:
    sets = PolicySets(**bounds)
    await compiled(sets, key("a"), key("b"), key("c"))
    sets.find(key("a"))
    await compiled(sets, key("d"))
    assert [sets.find(key(name)) is not None for name in "abcd"] == [True, False, True, True]
    sets.forget([changed("a")])
    await compiled(sets, key("e"))
    assert len(sets) == 3


async def test_a_set_above_the_limit_is_not_cached() -> None:
    sets = PolicySets(max_characters=10)
    assert (await sets.compile(key("a"), {"a": DOCUMENT})).policies
    assert len(sets) == 0


async def test_malformed_sets_are_not_cached() -> None:
    sets = PolicySets()
    with pytest.raises(MalformedPolicy):
        await sets.compile(key("a"), {"a": "{}"})
    assert len(sets) == 0


async def test_a_templates_claim_has_its_own_set() -> None:
    sets = PolicySets()
    claim = await sets.compile(PolicyKey(OURS, (), "fleet"), {})
    assert [policy.name for policy in claim.policies] == ["claim of fleet"]
    assert sets.find(PolicyKey(OURS, (), "other")) is None
