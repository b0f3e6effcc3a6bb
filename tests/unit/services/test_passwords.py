"""Passwords of devices, registries and brokers: their rules, how they are kept, and their methods."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.services.test_owners import KINDS, Kind, each_kind
from tests.world import OURS, THEIRS, unpacked
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Invalid, LimitExceeded, NotFound, Throttled
from thingmint.services.password_hashing import (
    ARGON2ID,
    SHA256,
    PasswordHasher,
    check_password,
    hash_password,
    is_generated,
    new_password,
    sha256,
)
from thingmint.services.passwords import MAX_PASSWORDS, list_passwords, matches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.world import World
    from thingmint.services.passwords import Password

GOOD = "0123456789_abcd"

TAKEN = [GOOD, "Abcdefghijklm1", "ABCDEFGHIJK12.", "äöüäöüä ÄÖÜÄÖ1", "a1" * 6 + "\t" * 2, "é1" * 42 + "Aa", "aB3" * 42]
REFUSED = [
    ("", "at least 14 characters"),
    ("0123456_abcdZ", "at least 14 characters"),
    ("aaaaaaaaaaaaaaaa", "three of"),
    ("aaaaaaaa11111111", "three of"),
    ("aaaaaaaaBBBBBBBB", "three of"),
    ("................", "three of"),
    ("ÄÄÄÄÄÄÄÄÄÄÄÄÄÄ1", "three of"),
    ("aB3" * 43, "at most 128 bytes"),
    ("é1" * 43 + "Aa", "at most 128 bytes"),
    (f"{GOOD}\0", "NUL"),
]


async def add(world: World, kind: Kind, id: str, password: str) -> Any:
    return await kind.call(world, "AddPassword", id, password=password)


async def stored(world: World, owner: str) -> Sequence[Password]:
    return await world.read(lambda tx: list_passwords(tx, owner))


@pytest.mark.parametrize("password", TAKEN)
def test_passwords_that_keep_the_rules_are_taken(password: str) -> None:
    check_password(password)


@pytest.mark.parametrize(("password", "flaw"), REFUSED)
def test_other_passwords_are_refused_and_not_quoted(password: str, flaw: str) -> None:
    with pytest.raises(Invalid, match=flaw) as refused:
        check_password(password)
    assert not password or password not in str(refused.value)


@each_kind
async def test_a_password_is_added_listed_and_deleted(world: World, kind: Kind) -> None:
    id = await kind.new(world)
    world.audit_resources()
    made = await add(world, kind, id, GOOD)
    assert (made.description, world.audit_resources()) == (f"Add {kind.noun} password", [f"yandex:{kind.noun}/{id}"])
    password = unpacked(made.response)
    assert unpacked(made.metadata).password_id == password.id != id
    assert getattr(password, f"{kind.noun}_id") == getattr(unpacked(made.metadata), f"{kind.noun}_id") == id
    assert password.created_at.ToDatetime() == world.clock().replace(tzinfo=None)
    world.clock.advance(seconds=1)
    second = unpacked((await add(world, kind, id, "Another-password-2")).response)
    listed = (await kind.call(world, "ListPasswords", id)).passwords
    assert list(listed) == [password, second]
    await world.published(Scope(OURS.account, ""))
    deleted = await kind.call(world, "DeletePassword", id, password_id=password.id)
    assert (unpacked(deleted.metadata).password_id, deleted.description) == (
        password.id,
        f"Delete {kind.noun} password",
    )
    assert list((await kind.call(world, "ListPasswords", id)).passwords) == [second]
    assert await world.published(Scope(OURS.account, "")) == [("owner", id)]
    with pytest.raises(NotFound, match=f"password {password.id}"):
        await kind.call(world, "DeletePassword", id, password_id=password.id)


@each_kind
async def test_a_password_is_kept_as_a_hash_only(world: World, kind: Kind) -> None:
    id, generated = await kind.new(world), new_password()
    await add(world, kind, id, GOOD)
    world.clock.advance(seconds=1)
    await add(world, kind, id, generated)
    chosen, made = await stored(world, id)
    assert (chosen.scheme, made.scheme) == (ARGON2ID, SHA256)
    hasher = world.environment.passwords
    assert matches(chosen, await hasher.argon2id(id, GOOD))
    assert not matches(chosen, await hasher.argon2id(id, GOOD + "x"))
    assert matches(made, sha256(id, generated))
    for secret in (GOOD, generated):
        for statement in ("SELECT * FROM passwords", "SELECT * FROM operations", "SELECT * FROM outbox"):
            assert secret not in repr(await world.store.fetch_all(statement))


@each_kind
async def test_the_same_password_of_another_owner_has_another_hash(world: World, kind: Kind) -> None:
    ids = [await kind.new(world), await kind.new(world)]
    for id in ids:
        await add(world, kind, id, GOOD)
    hashes = [(await stored(world, id))[0].hash for id in ids]
    assert hashes[0] != hashes[1]


@each_kind
async def test_an_owner_is_created_with_a_password(world: World, kind: Kind) -> None:
    id = await kind.new(world, password=GOOD)
    (password,) = await stored(world, id)
    assert matches(password, await world.environment.passwords.argon2id(id, GOOD))
    assert [each.id for each in (await kind.call(world, "ListPasswords", id)).passwords] == [password.id]
    count = await world.count(kind.plural)
    with pytest.raises(Invalid, match="password must have at least 14"):
        await kind.new(world, password="short")
    assert await world.count(kind.plural) == count


@each_kind
async def test_the_passwords_of_a_deleted_owner_are_deleted(world: World, kind: Kind) -> None:
    id, other = await kind.new(world, password=GOOD), await kind.new(world, password=GOOD)
    await world.published(Scope(OURS.account, ""))
    await kind.call(world, "Delete", id)
    assert await stored(world, id) == []
    assert len(await stored(world, other)) == 1
    assert await world.published(Scope(OURS.account, "")) == [("owner", id)]


async def test_a_password_is_found_under_its_own_owner_only(world: World) -> None:
    ids = {kind: await kind.new(world, password=GOOD) for kind in KINDS}
    for kind, id in ids.items():
        (password,) = await stored(world, id)
        for other, of in ids.items():
            if other is not kind:
                with pytest.raises(NotFound):
                    await other.call(world, "DeletePassword", of, password_id=password.id)
        for method, fields in (
            ("DeletePassword", {"password_id": password.id}),
            ("AddPassword", {"password": GOOD}),
            ("ListPasswords", {}),
        ):
            with pytest.raises(NotFound):
                await kind.call(world, method, id, THEIRS, **fields)


async def test_an_owner_has_a_bounded_number_of_passwords(world: World) -> None:
    id = await world.registry()
    for _ in range(MAX_PASSWORDS):
        await add(world, KINDS[1], id, new_password())
    with pytest.raises(LimitExceeded, match=f"at most {MAX_PASSWORDS} passwords"):
        await add(world, KINDS[1], id, new_password())


async def test_a_repeated_request_is_recognised_without_its_password(world: World) -> None:
    """The store has no hash of a request from which a password could be guessed."""
    id = await world.registry()
    fields = {"registry_id": id}
    made = await world.yandex("RegistryService.AddPassword", key="k", **fields, password=GOOD)
    for password in (GOOD, "Another-password-2"):
        assert await world.yandex("RegistryService.AddPassword", key="k", **fields, password=password) == made
    assert len(await stored(world, id)) == 1


def test_generated_passwords_keep_the_rules_and_are_recognised() -> None:
    made = {new_password() for _ in range(100)}
    assert len(made) == 100
    for password in made:
        check_password(password)
        assert is_generated(password)
    assert not is_generated(GOOD)
    assert not is_generated("tmk1-" + "Aa1" * 9 + "A"), "a person chose it: it is hashed with Argon2id"


async def test_more_hashes_than_may_wait_are_refused() -> None:
    hasher = PasswordHasher(threads=1, waiting=3)
    try:
        outcomes = await asyncio.gather(
            *(hash_password(hasher, "are1", GOOD) for _ in range(10)), return_exceptions=True
        )
        assert sum(isinstance(outcome, Throttled) for outcome in outcomes) == 7
        assert (await hash_password(hasher, "are1", new_password())).scheme == SHA256
        assert (await hash_password(hasher, "are1", GOOD)).scheme == ARGON2ID
    finally:
        hasher.close()
