"""How many transactions are let in at once, and that those who wait are not forgotten."""

from __future__ import annotations

import asyncio

import pytest

from thingmint.store.write_limit import WriteLimit


async def let_in(limit: WriteLimit, most: int = 100) -> int:
    """How many can be within at once, all of which leave again without having met another one."""
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
    assert entered == most, "those who waited were let in then"
    return count


async def meet(limit: WriteLimit, count: int) -> None:
    """``count`` run at once and meet."""
    for _ in range(count):
        await limit.__aenter__()
    for _ in range(count):
        limit.conflicted()
        await limit.__aexit__()


async def test_it_begins_with_few_and_grows_where_none_meet() -> None:
    limit = WriteLimit(16)
    assert await let_in(limit) == 4
    for _ in range(500):
        limit.succeeded()
    assert await let_in(limit) == 16


async def test_those_who_met_at_the_same_time_count_once() -> None:
    limit = WriteLimit(16)
    for _ in range(500):
        limit.succeeded()
    await meet(limit, 16)
    assert await let_in(limit) == 8
    await meet(limit, 2)
    assert await let_in(limit) == 4


async def test_one_is_always_let_in() -> None:
    limit = WriteLimit(2)
    for _ in range(10):
        await meet(limit, 1)
    assert await let_in(limit) == 1


@pytest.mark.parametrize("late", [False, True])
async def test_one_that_is_cancelled_takes_no_place(late: bool) -> None:
    limit = WriteLimit(1)
    await limit.__aenter__()
    waiting = asyncio.create_task(limit.__aenter__())
    await asyncio.sleep(0)
    if late:  # it has been let in, and did not go on yet
        await limit.__aexit__()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not late:
        await limit.__aexit__()
    assert await let_in(limit) == 1
