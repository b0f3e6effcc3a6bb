"""Operations are recorded with the change or not at all, and the same request is made once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.services.fleet_support import Fleet, key, with_fleet
from thingmint.domain.errors import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.services.operations import IdempotencyKey, RecordedOperation
    from thingmint.store.engine import Transaction

WINDOW = timedelta(hours=24)


class Change:
    """Counts how often it is made."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.made = 0
        self._refusal = refusal

    async def __call__(self, tx: Transaction) -> int:
        if self._refusal is not None:
            raise self._refusal
        self.made += 1
        return self.made


async def write(fleet: Fleet, change: Change, key: IdempotencyKey | None = None) -> RecordedOperation:
    return await fleet.operations.write(fleet.receipt(key), change)


def test_it_is_found_by_its_own_account_only(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        receipt = replace(fleet.receipt(), finishes_at=fleet.clock.now + timedelta(seconds=5))
        recorded = await fleet.operations.write(receipt, Change())
        assert (recorded.id, recorded.answer, recorded.finishes_at) == (receipt.id, b"1", receipt.finishes_at)
        assert await fleet.operations.get(fleet.scope.account, receipt.id) == recorded
        other = await fleet.second()
        for account, id in ((other.scope.account, receipt.id), (fleet.scope.account, "are1"), ("", receipt.id)):
            with pytest.raises(NotFound):
                await fleet.operations.get(account, id)

    with_fleet(tmp_path, test)


def test_a_refused_change_leaves_nothing(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        refusal = Conflict("registry", "r", "has devices")
        receipt = fleet.receipt(key())
        with pytest.raises(Conflict):
            await fleet.operations.write(receipt, Change(refusal))
        with pytest.raises(NotFound):
            await fleet.operations.get(fleet.scope.account, receipt.id)
        change = Change()
        assert (await write(fleet, change, key())).id != receipt.id
        assert change.made == 1

    with_fleet(tmp_path, test)


def test_an_answer_that_cannot_be_encoded_undoes_the_change(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        def encode(_: Any) -> bytes:
            raise TypeError("no")

        registry = fleet.new_registry()
        with pytest.raises(TypeError):
            await fleet.fleet.create_registry(fleet.scope, registry, (), replace(fleet.receipt(), encode=encode))
        with pytest.raises(NotFound):
            await fleet.fleet.get_registry(fleet.scope.account, registry.id)

    with_fleet(tmp_path, test)


SAME = [key(), replace(key(), folder=None)]


@pytest.mark.parametrize("again", SAME, ids=["the same", "its folder is gone"])
def test_the_same_request_is_made_once(tmp_path: Path, again: IdempotencyKey) -> None:
    async def test(fleet: Fleet) -> None:
        change = Change()
        first = await write(fleet, change, key())
        assert await write(fleet, change, again) == first
        assert change.made == 1

    with_fleet(tmp_path, test)


@pytest.mark.parametrize(
    "other", [key("l"), key(caller="aje2"), key(folder="b1g2"), key(method="/Service/Other"), None]
)
def test_what_makes_a_request_another_one(tmp_path: Path, other: IdempotencyKey | None) -> None:
    async def test(fleet: Fleet) -> None:
        change = Change()
        first = await write(fleet, change, key())
        assert (await write(fleet, change, other)).id != first.id
        assert change.made == 2

    with_fleet(tmp_path, test)


def test_another_content_under_the_same_key_is_refused(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        change = Change()
        first = await write(fleet, change, key())
        with pytest.raises(Invalid) as refused:
            await write(fleet, change, key(request_sha256=b"\2" * 32))
        assert refused.value.field == "idempotency_key"
        assert change.made == 1
        assert await write(fleet, change, key()) == first, "the first one is remembered still"

    with_fleet(tmp_path, test)


@pytest.mark.parametrize(("later", "made"), [(WINDOW - timedelta(seconds=5), 1), (WINDOW, 2), (WINDOW * 3, 2)])
def test_a_key_is_remembered_for_a_day(tmp_path: Path, later: timedelta, made: int) -> None:
    async def test(fleet: Fleet) -> None:
        change = Change()
        first = await write(fleet, change, key())
        fleet.clock.advance(later)
        await write(fleet, change, key())
        assert change.made == made
        assert await fleet.operations.get(fleet.scope.account, first.id) == first, "operations themselves stay"
        await write(fleet, change, key())
        assert change.made == made

    with_fleet(tmp_path, test)


def test_old_keys_are_removed(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        async def count(tx: Transaction) -> int:
            row = await tx.fetch_one("SELECT count(*) FROM idempotency_keys")
            return int(row[0]) if row else 0

        for number in range(5):
            await write(fleet, Change(), key(f"k{number}"))
        assert await fleet.store.read(count) == 5
        fleet.clock.advance(WINDOW)
        await write(fleet, Change(), key("new"))
        assert await fleet.store.read(count) == 1

    with_fleet(tmp_path, test)


def test_at_the_same_time(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        change = Change()
        recorded = await asyncio.gather(*(write(fleet, change, key()) for _ in range(50)))
        assert len({each.id for each in recorded}) == 1
        assert change.made == 1

    with_fleet(tmp_path, test)


def test_a_recorded_refusal(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        receipt = replace(fleet.receipt(key()), encode=lambda _: b"refused")
        recorded = await fleet.operations.record_refusal(receipt)
        assert recorded.answer == b"refused"
        assert await fleet.operations.get(fleet.scope.account, receipt.id) == recorded
        change = Change()
        assert await write(fleet, change, key()) == recorded
        assert change.made == 0

    with_fleet(tmp_path, test)


def test_two_refusals_without_folder_under_one_key(tmp_path: Path) -> None:
    """Nothing says that they belong together, so both are recorded."""

    async def test(fleet: Fleet) -> None:
        for content in (b"\1" * 32, b"\2" * 32):
            receipt = fleet.receipt(key(folder=None, request_sha256=content))
            recorded = await fleet.operations.record_refusal(receipt)
            assert recorded.id == receipt.id

    with_fleet(tmp_path, test)
