"""Which passwords let a device in, what an attempt costs, and how long that a password was correct is remembered."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from tests.unit.services.test_owners import Kind, each_kind
from tests.unit.vectors import FakeMonotonic
from tests.world import OURS, THEIRS
from thingmint.domain.errors import Throttled
from thingmint.services.password_hashing import ARGON2ID, PasswordHasher, new_password
from thingmint.services.password_verification import PasswordVerifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.world import World

GOOD, WRONG = "0123456789_abcd", "0123456789_abcD"
HOME, AWAY = "192.0.2.1", "198.51.100.1"


class CountingHasher(PasswordHasher):
    hashed = 0

    async def argon2id(self, owner: str, password: str, scheme: str = ARGON2ID) -> bytes:
        self.hashed += 1
        return await super().argon2id(owner, password, scheme)


class Verification:
    def __init__(self, world: World) -> None:
        self.world = world
        self.hasher = CountingHasher()
        self.clock = FakeMonotonic()
        self.stale = False
        self.verifier = PasswordVerifier(world.store, self.hasher, lambda: self.stale, self.clock)
        world.store.followers.append(self.verifier.changed)

    async def __call__(
        self, owner: str, password: str = GOOD, source: str = HOME, account: str = OURS.account
    ) -> tuple[bool, int]:
        """Whether it is correct, and how many hashes that cost."""
        before = self.hasher.hashed
        found = await self.verifier.verify(account, owner, password, source)
        return found is not None, self.hasher.hashed - before


@pytest.fixture
def verify(world: World) -> Iterator[Verification]:
    made = Verification(world)
    yield made
    made.hasher.close()


@each_kind
async def test_each_password_of_an_owner_costs_one_hash(world: World, verify: Verification, kind: Kind) -> None:
    id = await kind.new(world, password=GOOD)
    second = "Another-password-2"
    await kind.call(world, "AddPassword", id, password=second)
    assert await verify(id, GOOD) == (True, 1)
    assert await verify(id, second) == (True, 1)
    assert await verify(id, WRONG) == (False, 1)
    assert await verify(id, "") == (False, 1)


async def test_unknown_owners_and_owners_without_passwords_cost_as_much(world: World, verify: Verification) -> None:
    registry = await world.registry()
    made = await world.registry(password=new_password())
    for owner in (registry, "are00000000000000000", "", "x" * 1000, made):
        assert await verify(owner) == (False, 1)


async def test_a_password_is_correct_in_the_account_of_its_owner_only(world: World, verify: Verification) -> None:
    registry = await world.registry(password=GOOD)
    assert await verify(registry, account=THEIRS.account) == (False, 1)
    assert await verify(registry) == (True, 1)
    assert await verify(registry, account=THEIRS.account) == (False, 1), "what is remembered is of its account too"


async def test_generated_passwords_cost_no_argon2id(world: World, verify: Verification) -> None:
    password = new_password()
    registry = await world.registry(password=password)
    assert await verify(registry, password) == (True, 0)
    assert await verify(registry, new_password()) == (False, 1)


async def test_a_correct_password_is_remembered_for_ten_minutes(world: World, verify: Verification) -> None:
    registry = await world.registry(password=GOOD)
    assert await verify(registry) == (True, 1)
    verify.clock.now += 599
    assert await verify(registry, source=AWAY) == (True, 0)
    verify.clock.now += 1
    assert await verify(registry) == (True, 1)
    verify.stale = True
    assert await verify(registry) == (True, 1), "changes may have been missed"


async def test_a_deleted_password_is_wrong_at_once(world: World, verify: Verification) -> None:
    registry, other = await world.registry(password=GOOD), await world.registry(password=GOOD)
    for owner in (registry, other):
        await verify(owner)
    (password,) = (await world.yandex("RegistryService.ListPasswords", registry_id=registry)).passwords
    await world.yandex("RegistryService.DeletePassword", registry_id=registry, password_id=password.id)
    assert await verify(registry) == (False, 1)
    assert await verify(other) == (True, 0)
    await world.yandex("RegistryService.Delete", registry_id=other)
    assert await verify(other) == (False, 1)


async def test_a_password_that_is_deleted_while_it_is_checked_is_not_remembered(
    world: World, verify: Verification, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = await world.registry(password=GOOD)
    (password,) = (await world.yandex("RegistryService.ListPasswords", registry_id=registry)).passwords
    hash_it = verify.hasher.argon2id

    async def hash_slowly(owner: str, given: str, scheme: str = ARGON2ID) -> bytes:
        hashed = await hash_it(owner, given, scheme)
        await world.yandex("RegistryService.DeletePassword", registry_id=registry, password_id=password.id)
        return hashed

    monkeypatch.setattr(verify.hasher, "argon2id", hash_slowly)
    await verify(registry)
    monkeypatch.undo()
    assert await verify(registry) == (False, 1)


async def test_wrong_passwords_for_an_owner_from_an_address_are_limited(world: World, verify: Verification) -> None:
    registry, other = await world.registry(password=GOOD), await world.registry(password=GOOD)
    for _ in range(10):
        assert await verify(registry, WRONG) == (False, 1)
    for password in (WRONG, GOOD):
        with pytest.raises(Throttled, match="wrong passwords"):
            await verify(registry, password)
    assert await verify(registry, source=AWAY) == (True, 1), "the device itself is elsewhere"
    assert await verify(registry) == (True, 0), "what is remembered needs no attempt"
    assert await verify(other) == (True, 1)
    verify.clock.now += 6
    assert await verify(other, WRONG) == (False, 1)


async def test_wrong_passwords_from_an_address_are_limited(world: World, verify: Verification) -> None:
    registry = await world.registry(password=GOOD)
    for number in range(100):
        await verify(f"are{number}", WRONG)
    with pytest.raises(Throttled):
        await verify(registry)
    assert await verify(registry, source=AWAY) == (True, 1)
    verify.clock.now += 1
    assert await verify("are1", WRONG) == (False, 1)


async def test_correct_passwords_are_not_limited(world: World, verify: Verification) -> None:
    registry = await world.registry(password=GOOD)
    for _ in range(20):
        verify.clock.now += 601
        assert await verify(registry) == (True, 1)


async def test_attempts_at_once_count_before_they_are_found_wrong(world: World, verify: Verification) -> None:
    registry = await world.registry(password=GOOD)
    outcomes = await asyncio.gather(*(verify(registry, f"{WRONG}{n}") for n in range(30)), return_exceptions=True)
    assert sum(isinstance(outcome, Throttled) for outcome in outcomes) == 20


async def test_generated_passwords_are_not_limited(world: World, verify: Verification) -> None:
    """A fleet behind one address comes back at once."""
    password = new_password()
    registry = await world.registry(password=password)
    for number in range(100):
        await verify(f"are{number}", WRONG)
    for _ in range(3):
        verify.clock.now += 0.001
        verify.stale = True  # so that nothing is remembered
        assert await verify(registry, password) == (True, 0)
    with pytest.raises(Throttled):
        await verify(registry, new_password())


async def test_attempts_that_are_not_checked_are_not_counted(
    world: World, verify: Verification, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, other = await world.registry(password=GOOD), await world.registry(password=GOOD)

    async def refuse(owner: str, given: str, scheme: str = ARGON2ID) -> bytes:
        raise Throttled("The server is busy")

    with monkeypatch.context() as busy:
        busy.setattr(verify.hasher, "argon2id", refuse)
        for _ in range(200):
            with pytest.raises(Throttled, match="busy"):
                await verify(registry)
    for _ in range(10):
        assert await verify(registry, WRONG) == (False, 1)
    for _ in range(200):
        with pytest.raises(Throttled, match="wrong passwords"):
            await verify(registry)
    assert await verify(other) == (True, 1), "one owner's limit does not use up the address's"


async def test_long_user_names_take_little_memory(world: World, verify: Verification) -> None:
    tracemalloc.start()
    try:
        for number in range(300):
            with contextlib.suppress(Throttled):
                await verify(f"{number}{'x' * 60_000}", WRONG)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 2_000_000
