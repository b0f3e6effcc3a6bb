"""The limits of requests' memory, in total and for each source."""

from __future__ import annotations

from thingmint.http.memory import FREE_BYTES, Lease, MemoryBudget


def test_a_budget_is_limited_in_total_and_for_each_source() -> None:
    budget = MemoryBudget(100, 60)
    assert budget.take("a", 60)
    assert not budget.take("a", 1)
    assert budget.take("b", 40)
    assert not budget.take("c", 1)
    budget.give_back("a", 60)
    assert budget.take("c", 60)
    assert budget.used == 100


def test_sources_without_bytes_are_forgotten() -> None:
    budget = MemoryBudget(100, 60)
    for source in range(50):
        assert budget.take(str(source), 10)
        budget.give_back(str(source), 10)
        assert not budget.take(str(source), 61)
    assert (budget.used, len(budget._by_source)) == (0, 0)


def test_small_requests_need_no_budget() -> None:
    budget = MemoryBudget(0, 0)
    lease = Lease(budget, "a")
    assert lease.resize(FREE_BYTES)
    assert not lease.resize(FREE_BYTES + 1)


def test_a_lease_grows_shrinks_and_ends() -> None:
    budget = MemoryBudget(100, 100)
    lease = Lease(budget, "a")
    for size, used in ((60, 60), (100, 100), (101, 100), (30, 30), (-FREE_BYTES, 0), (70, 70)):
        assert lease.resize(FREE_BYTES + size) is (size <= 100)
        assert budget.used == used
    for _ in range(2):
        lease.release()
        assert budget.used == 0
