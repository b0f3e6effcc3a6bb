"""The number of transactions that are admitted at the same time, and the order of those that wait."""

from __future__ import annotations

import asyncio

import pytest

from thingmint.store.write_limit import WriteLimit


async def count_admitted(limit: WriteLimit, most: int = 100) -> int:
    """The number of transactions that are admitted at the same time. All end without a conflict."""
    entered = 0
    leave = asyncio.Event()

    async def enter() -> None:
        nonlocal entered
        async with limit:
            entered += 1
            await leave.wait()

    tasks = [asyncio.create_task(enter()) for _ in range(most)]
    for _ in range(3):
        await asyncio.sleep(0)
    count = entered
    leave.set()
    await asyncio.gather(*tasks)
    assert entered == most, "the waiting transactions were admitted later"
    return count


async def conflict(limit: WriteLimit, count: int) -> None:
    """Runs ``count`` transactions at the same time, all of which conflict."""
    for _ in range(count):
        await limit.__aenter__()
    for _ in range(count):
        limit.conflicted()
        await limit.__aexit__()


async def test_the_limit_starts_at_4_and_grows_without_conflicts() -> None:
    limit = WriteLimit(16)
    assert await count_admitted(limit) == 4
    for _ in range(500):
        limit.succeeded()
    assert await count_admitted(limit) == 16


async def test_simultaneous_conflicts_lower_the_limit_once() -> None:
    limit = WriteLimit(16)
    for _ in range(500):
        limit.succeeded()
    await conflict(limit, 16)
    assert await count_admitted(limit) == 8
    await conflict(limit, 2)
    assert await count_admitted(limit) == 4


async def test_the_limit_is_never_below_1() -> None:
    limit = WriteLimit(2)
    for _ in range(10):
        await conflict(limit, 1)
    assert await count_admitted(limit) == 1


@pytest.mark.parametrize("late", [False, True])
async def test_a_cancelled_waiter_takes_no_place(late: bool) -> None:
    limit = WriteLimit(1)
    await limit.__aenter__()
    waiting = asyncio.create_task(limit.__aenter__())
    await asyncio.sleep(0)
    if late:  # it has been admitted, but has not continued yet
        await limit.__aexit__()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not late:
        await limit.__aexit__()
    assert await count_admitted(limit) == 1
