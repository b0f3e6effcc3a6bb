"""Keys are made outside of the event loop, given to one caller each, and shared fairly between accounts."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import pytest

from tests.unit.vectors import cheap_key_pair
from thingmint.domain.errors import Throttled, Unavailable
from thingmint.domain.keys import KeyPair
from thingmint.services.keypool import KeyPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Generator:
    """Makes the allowed number of keys, and records the keys and their threads."""

    def __init__(self, allowed: int = 0) -> None:
        self._permits = threading.Semaphore(allowed)
        self.made: list[KeyPair] = []
        self.threads: set[int] = set()
        self.closing = False
        self.failures = 0

    def allow(self, count: int) -> None:
        self._permits.release(count)

    def __call__(self) -> KeyPair:
        self._permits.acquire()
        self.threads.add(threading.get_ident())
        if self.failures:
            self.failures -= 1
            raise MemoryError
        pair = cheap_key_pair()
        self.made.append(pair)
        return pair


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event for the condition
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def started(*, size: int, queue_limit: int = 8) -> AsyncIterator[tuple[KeyPool, Generator]]:
    generator = Generator()
    pool = KeyPool(size, queue_limit=queue_limit, threads=1, generate=generator)
    pool.start()
    try:
        yield pool, generator
    finally:
        generator.allow(1000)
        await pool.close()


async def waiting(pool: KeyPool, account: str, count: int = 1) -> list[asyncio.Task[KeyPair]]:
    """Start that many callers, and return them when they wait."""
    before = pool.waiting
    tasks = [asyncio.create_task(pool.take(account)) for _ in range(count)]
    await until(lambda: pool.waiting == before + count)
    return tasks


class TestFilling:
    async def test_the_pool_is_filled_to_its_size(self) -> None:
        async with started(size=5) as (pool, generator):
            generator.allow(100)
            await until(lambda: pool.ready == 5)
            for _ in range(50):
                await asyncio.sleep(0)
            assert pool.ready == len(generator.made) == 5

    async def test_taken_keys_are_replaced(self) -> None:
        async with started(size=3) as (pool, generator):
            generator.allow(3)
            await until(lambda: pool.ready == 3)
            taken = [await pool.take("a") for _ in range(3)]
            assert pool.ready == 0
            generator.allow(3)
            await until(lambda: pool.ready == 3)
            taken += [await pool.take("a") for _ in range(3)]
            assert len({id(pair) for pair in taken}) == 6

    async def test_a_pool_of_size_0_makes_keys_for_waiting_callers(self) -> None:
        async with started(size=0) as (pool, generator):
            generator.allow(100)
            first, second = await asyncio.gather(pool.take("a"), pool.take("b"))
            assert first is not second
            assert pool.ready == 0
            assert len(generator.made) == 2

    async def test_keys_are_not_made_in_the_event_loops_thread(self) -> None:
        async with started(size=2) as (pool, generator):
            generator.allow(100)
            await asyncio.gather(*(pool.take("a") for _ in range(8)))
            assert generator.threads
            assert threading.get_ident() not in generator.threads

    async def test_the_pool_makes_real_keys(self) -> None:
        pool = KeyPool(0)
        pool.start()
        pair = await pool.take("a")
        assert pair.public_key.key_size == 2048
        await pool.close()

    async def test_a_failure_refuses_all_waiting_callers(self) -> None:
        errors: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        generator = Generator()
        generator.failures = 2
        pool = KeyPool(0, threads=1, generate=generator)
        pool.start()
        callers = [asyncio.create_task(pool.take(account)) for account in "ab"]
        generator.allow(1000)
        try:
            async with asyncio.timeout(1):
                await asyncio.gather(*callers, return_exceptions=True)
        finally:
            await pool.close()
        assert not errors


class TestQueueing:
    async def test_accounts_are_served_round_robin(self) -> None:
        async with started(size=0) as (pool, generator):
            order: list[str] = []

            async def caller(name: str) -> None:
                await pool.take(name[0])
                order.append(name)

            tasks = []
            for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
                tasks.append(asyncio.create_task(caller(name)))
                await asyncio.sleep(0)
            generator.allow(7)
            await asyncio.gather(*tasks)
            assert order == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]

    async def test_a_new_account_is_served_after_the_others(self) -> None:
        async with started(size=0) as (pool, generator):
            first = await waiting(pool, "a", 3)
            generator.allow(1)
            await first[0]
            late = await waiting(pool, "b")
            generator.allow(1)
            await asyncio.wait([first[1], late[0]], return_when=asyncio.FIRST_COMPLETED)
            assert first[1].done()
            generator.allow(1)
            await late[0]
            assert not first[2].done()
            generator.allow(1)
            await first[2]

    async def test_the_number_of_waiting_callers_is_limited(self) -> None:
        async with started(size=0, queue_limit=4) as (pool, generator):
            callers = await waiting(pool, "a", 4)
            with pytest.raises(Throttled) as refused:
                await pool.take("a")
            assert refused.value.retry_after > 0
            assert pool.waiting == 4
            generator.allow(4)
            assert len({id(pair) for pair in await asyncio.gather(*callers)}) == 4
            assert pool.waiting == 0

    async def test_one_account_cannot_block_another(self) -> None:
        async with started(size=0, queue_limit=4) as (pool, generator):
            crowd = await waiting(pool, "a", 4)
            other = asyncio.create_task(pool.take("b"))
            # The last caller of a is refused. Then b is served right after the first caller of a.
            with pytest.raises(Throttled):
                await crowd[3]
            assert pool.waiting == 4
            generator.allow(2)
            await asyncio.gather(crowd[0], other)
            assert not crowd[1].done()
            generator.allow(2)
            await asyncio.gather(*crowd[:3])

    async def test_an_account_with_as_many_waiting_callers_is_throttled(self) -> None:
        async with started(size=0, queue_limit=4) as (pool, generator):
            callers = [*await waiting(pool, "a", 2), *await waiting(pool, "b", 2)]
            for account in "ab":
                with pytest.raises(Throttled):
                    await pool.take(account)
            generator.allow(4)
            await asyncio.gather(*callers)


class TestCancellation:
    @pytest.mark.parametrize("others", [0, 1])
    async def test_a_cancelled_callers_key_goes_to_another(self, others: int) -> None:
        async with started(size=0) as (pool, generator):
            [leaving] = await waiting(pool, "a")
            staying = await waiting(pool, "b", others)
            [future] = list(pool._waiting["a"])
            generator.allow(1)
            await until(future.done)
            leaving.cancel()  # its future has the key, but the task has not resumed yet
            with pytest.raises(asyncio.CancelledError):
                await leaving
            [pair] = generator.made
            assert (await staying[0] if others else pool._ready[0]) is pair

    async def test_a_cancelled_caller_gets_no_key(self) -> None:
        async with started(size=0) as (pool, generator):
            [leaving, staying] = await waiting(pool, "a", 2)
            leaving.cancel()
            generator.allow(1)
            await staying
            assert leaving.cancelled()

    async def test_a_cancelled_caller_leaves_the_queue(self) -> None:
        async with started(size=0, queue_limit=4) as (pool, generator):
            for task in await waiting(pool, "a", 4):
                task.cancel()
            await asyncio.sleep(0)
            generator.allow(8)
            outcomes = await asyncio.gather(*(pool.take("a") for _ in range(4)), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [KeyPair] * 4


class TestClosing:
    async def test_closing_refuses_waiting_and_later_callers(self) -> None:
        async with started(size=2) as (pool, generator):
            callers = await waiting(pool, "a", 3)
            generator.allow(1000)
            await pool.close()
            for task in callers:
                assert isinstance(task.exception(), Unavailable) or task.result() in generator.made
            with pytest.raises(Unavailable):
                await pool.take("a")
            assert pool.ready == pool.waiting == 0
