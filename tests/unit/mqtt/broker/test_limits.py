from __future__ import annotations

import pytest

from thingmint.mqtt.broker.limits import Bound, Budget, EmbeddedLimits


@pytest.mark.parametrize("fullest", [0, 1, 2])
@pytest.mark.parametrize("bound", [Bound(2, 1000), Bound(1000, 20)])
def test_a_budget_respects_all_its_parents(fullest: int, bound: Bound) -> None:
    chain: list[Budget] = []
    for step in range(3):
        chain.append(Budget(bound if step == fullest else Bound(1000, 1000), chain[-1] if chain else None))
    last = chain[-1]
    assert last.take(10)
    assert last.take(10)
    assert not last.take(10)
    assert [(budget.count, budget.size) for budget in chain] == [(2, 20)] * 3  # a refused item is not counted
    assert [budget.refused for budget in chain] == [1, 0, 0]
    last.give_back(10)
    assert last.take(10)


def test_one_account_cannot_fill_the_broker() -> None:
    limits = EmbeddedLimits()
    assert limits.sessions_per_account < limits.sessions
    for one, all_accounts in (
        (limits.queued_per_account, limits.queued),
        (limits.retained_per_account, limits.retained),
    ):
        assert one.count < all_accounts.count
        assert one.size < all_accounts.size
    assert limits.retained_per_account.count <= limits.queued_per_session.count
