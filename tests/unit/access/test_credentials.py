"""Credentials: their stored form, numbers and lifetimes, and sealing them under another master key."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from tests.administrator import POLICY, TRUST
from tests.tables import each_row
from tests.world import OURS, THEIRS
from thingmint.access.administration import COMMANDS, AdminChange
from thingmint.access.administration.accounts import new_account
from thingmint.access.administration.credentials import CREDENTIALS, delete_old_sessions, reseal
from thingmint.access.administration.inputs import NewKey
from thingmint.access.audit import AuditedStore
from thingmint.access.context import Outcome, RequestContext
from thingmint.access.local_admin import Administration
from thingmint.access.vault import Vault, VaultError
from thingmint.domain.errors import AlreadyExists, Conflict, Denied, Invalid, LimitExceeded, NotFound

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.access.administration.credentials import Credential
    from thingmint.store.engine import Transaction

HOUR = timedelta(hours=1)


async def kept(world: World, id: str) -> Credential:
    return await world.read(lambda tx: CREDENTIALS.get(tx, id))


async def test_an_access_key_has_no_expiry_and_no_policy(world: World) -> None:
    new = await world.admin("key.create", principal="administrator")
    key = await kept(world, new["access_key_id"])
    assert (key.kind, key.created_at, key.status) == ("access-key", world.clock.now, "active")
    assert (key.expires_at, key.policy, key.last_used_at) == (None, None, None)


ID, SECRET = "AKIAI44QH8DHBEXAMPLE", "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY"
IMPORTED = {"access_key_id": ID, "secret_access_key": SECRET}


async def test_an_imported_access_key_works_and_its_secret_is_not_returned(world: World) -> None:
    new = await world.admin("key.create", principal="administrator", **IMPORTED)
    assert new == {"access_key_id": ID}
    caller, secret = await world.directory.find_access_key(ID, None)
    assert (caller.name, secret) == ("administrator", SECRET)
    listed = await world.admin("key.list", principal="administrator")
    assert SECRET not in "\n".join([repr(listed), *world.dump()])
    assert SECRET not in repr(NewKey(principal="administrator", **IMPORTED))


@each_row(
    ("given", "message"),
    [
        ({"access_key_id": ID}, "secret_access_key must be given together with access_key_id"),
        ({"secret_access_key": SECRET}, "secret_access_key must be given together with access_key_id"),
        (IMPORTED | {"access_key_id": "ASIA" + ID[4:]}, "access_key_id must be AKIA and 16"),
        (IMPORTED | {"access_key_id": ID[:-1]}, "access_key_id must be AKIA and 16"),
        (IMPORTED | {"access_key_id": ID.lower()}, "access_key_id must be AKIA and 16"),
        (IMPORTED | {"access_key_id": ID + "\n"}, "access_key_id must be AKIA and 16"),
        (IMPORTED | {"access_key_id": ""}, "access_key_id must be AKIA and 16"),
        (IMPORTED | {"secret_access_key": SECRET[:-1]}, "secret_access_key must be 40 letters"),
        (IMPORTED | {"secret_access_key": SECRET[:-1] + "="}, "secret_access_key must be 40 letters"),
        (IMPORTED | {"secret_access_key": ""}, "secret_access_key must be 40 letters"),
        (IMPORTED | {"principal": "service-account/administrator"}, "principal must be a user"),
    ],
)
async def test_importing_a_malformed_access_key_is_invalid(world: World, given: dict[str, str], message: str) -> None:
    with pytest.raises(Invalid) as refused:
        await world.admin("key.create", **{"principal": "user/administrator"} | given)
    assert str(refused.value).startswith(message)
    assert SECRET[:-1] not in str(refused.value)


async def test_importing_an_access_key_twice_conflicts_in_every_account(world: World) -> None:
    await world.admin("key.create", THEIRS, principal="administrator", **IMPORTED)
    for scope in (OURS, THEIRS):
        with pytest.raises(AlreadyExists, match=f"^access-key {ID} already exists$"):
            await world.admin("key.create", scope, principal="administrator", **IMPORTED)
    caller, _ = await world.directory.find_access_key(ID, None)
    assert caller.account == THEIRS.account


async def test_a_token_is_stored_with_its_policy_and_expiry(world: World) -> None:
    given = {"policy": POLICY, "lifetime": "1h", "description": "for ci"}
    new = await world.admin("token.create", principal="administrator", **given)
    token = await kept(world, new["token"].split("_")[1])
    assert (token.policy, token.description, token.expires_at) == (POLICY, "for ci", world.clock.now + HOUR)


async def test_a_session_expires_at_a_whole_second(world: World) -> None:
    new = await world.admin("session.create", principal="administrator", policy=POLICY)
    session = await kept(world, new["access_key_id"])
    assert session.expires_at == (world.clock.now + HOUR).replace(microsecond=0)
    assert session.policy == POLICY
    assert new["expires_at"] == "2026-11-21T13:00:00Z"


async def test_only_the_public_half_of_an_authorized_key_is_stored(world: World) -> None:
    robot = await world.admin("service-account.create", name="robot")
    new = await world.admin("key.create", principal="service-account/robot")
    assert (new["service_account_id"], new["created_at"]) == (robot["id"], "2026-11-21T12:00:00Z")
    private = load_pem_private_key(new["private_key"].encode(), None)
    assert private.public_key() == load_pem_public_key(new["public_key"].encode())
    assert (await kept(world, new["id"])).secret.decode() == new["public_key"]
    assert new["private_key"] not in "\n".join(world.dump())


async def test_secrets_are_not_listed_stored_or_printed(world: World) -> None:
    made = [
        await world.admin("key.create", principal="administrator"),
        await world.admin("token.create", principal="administrator"),
        await world.admin("session.create", principal="administrator"),
        await world.admin("account.create", name="third"),
    ]
    listed = [await world.admin(f"{noun}.list", principal="administrator") for noun in ("key", "token")]
    seen = "\n".join([*map(repr, made), *map(repr, listed), *world.dump()])
    secrets = [answer[name] for answer in made for name in ("secret_access_key", "session_token") if name in answer]
    secrets += [answer["token"].split("_", 2)[2] for answer in made if "token" in answer]
    assert len(secrets) == 6
    assert [secret for secret in secrets if secret in seen] == []
    assert "PRIVATE KEY" not in seen


async def test_a_change_that_runs_again_makes_the_same_secrets(world: World) -> None:
    change, answers = AdminChange(world.clock(), world.vault), []

    async def create(tx: Transaction) -> None:
        change.ids.restart()
        answers.append(await new_account(tx, change, "third", ["us-east-1"], ("private", "public")))
        if len(answers) == 1:
            raise Conflict("engine", "", "serialization failure")

    with pytest.raises(Conflict):
        await world.write(create)
    await world.write(create)
    assert orjson.dumps(answers[0]) == orjson.dumps(answers[1])
    _, secret = await world.directory.find_access_key(answers[0]["access_key_id"], None)
    assert secret == answers[0]["secret_access_key"]


async def test_keys_and_tokens_have_separate_lists(world: World) -> None:
    await world.admin("user.create", name="elf")
    for command in ("key.create", "token.create", "session.create"):
        await world.admin(command, principal="elf")
        world.clock.advance(seconds=1)
    keys = await world.admin("key.list", principal="elf")
    assert [row["kind"] for row in keys] == ["access-key", "session"]
    assert keys[0] == {
        "id": keys[0]["id"],
        "kind": "access-key",
        "status": "active",
        "description": "",
        "created_at": "2026-11-21T12:00:00+00:00",
        "expires_at": None,
        "last_used_at": None,
    }
    assert [row["kind"] for row in await world.admin("token.list", principal="elf")] == ["api-token"]


@pytest.mark.parametrize(("noun", "kind"), [("key", "user"), ("token", "user"), ("key", "service-account")])
async def test_a_principal_has_at_most_ten_credentials_of_a_kind(world: World, noun: str, kind: str) -> None:
    await world.admin(f"{kind}.create", name="elf")
    given = {"principal": f"{kind}/elf"}
    for _ in range(10):
        await world.admin(f"{noun}.create", **given)
    before = world.dump()
    with pytest.raises(LimitExceeded):
        await world.admin(f"{noun}.create", **given)
    assert world.dump() == before
    [first, *_] = await world.admin(f"{noun}.list", **given)
    await world.admin(f"{noun}.delete", id=first["id"])
    await world.admin(f"{noun}.create", **given)


async def test_sessions_have_no_limit(world: World) -> None:
    for _ in range(12):
        await world.admin("session.create", principal="administrator")


@pytest.mark.parametrize(
    ("duration", "taken"),
    [
        (timedelta(0), False),
        (timedelta(seconds=59), False),
        (timedelta(minutes=1), True),
        (timedelta(hours=36), True),
        (timedelta(hours=36, seconds=1), False),
        (-HOUR, False),
        (timedelta.max, False),
    ],
)
async def test_a_session_lasts_between_a_minute_and_36_hours(world: World, duration: timedelta, taken: bool) -> None:
    making = world.admin("session.create", principal="administrator", duration=duration)
    if taken:
        await making
        return
    with pytest.raises(Invalid) as refused:
        await making
    assert refused.value.field == "duration"


@pytest.mark.parametrize(
    ("lifetime", "taken"),
    [
        (timedelta(0), False),
        (timedelta(seconds=1), True),
        (timedelta(days=3653), True),
        (timedelta(days=3653, seconds=1), False),
        (timedelta(days=999_999_999), False),
    ],
)
async def test_a_token_lasts_between_a_second_and_ten_years(world: World, lifetime: timedelta, taken: bool) -> None:
    making = world.admin("token.create", principal="administrator", lifetime=lifetime)
    if taken:
        await making
        return
    with pytest.raises(Invalid) as refused:
        await making
    assert refused.value.field == "lifetime"


async def as_bearer(world: World, token: str, name: str, **given: Any) -> Any:
    """The command's answer to the owner of an API token."""
    caller = await world.directory.authenticate_token(token)
    context = RequestContext(api="native", operation="Operation", now=world.clock()).by(caller, OURS)
    administration = Administration(AuditedStore(world.store, world.clock), world.vault, world.clock)
    command = COMMANDS[name]
    checked = command.input.model_validate({"account": OURS.account, **given})
    return await administration.run(command, context, Outcome(), checked)


@pytest.mark.parametrize("command", ["key.create", "token.create", "session.create"])
async def test_a_restricted_credential_cannot_create_credentials(world: World, command: str) -> None:
    narrow = await world.admin("token.create", principal="administrator", policy=POLICY)
    with pytest.raises(Denied) as denied:
        await as_bearer(world, narrow["token"], command, principal="administrator")
    assert (denied.value.action, denied.value.resource) == ("thingmint:Operation", "*")
    await as_bearer(world, world.ours.token, command, principal="administrator")


async def test_a_restricted_token_cannot_restrict_tokens(world: World) -> None:
    narrow = await world.admin("token.create", principal="administrator", policy=POLICY)
    given = {"id": narrow["token"].split("_")[1], "policy": POLICY.replace("iot:", "thingmint:")}
    with pytest.raises(Denied):
        await as_bearer(world, narrow["token"], "token.restrict", **given)
    await as_bearer(world, world.ours.token, "token.restrict", **given)


async def test_a_restriction_holds_at_once_and_is_replaced(world: World) -> None:
    made = await world.admin("token.create", principal="administrator")
    assert (await world.directory.authenticate_token(made["token"])).narrowed is None
    for _ in range(2):
        await world.admin("token.restrict", id=made["token"].split("_")[1], policy=POLICY)
        narrowed = (await world.directory.authenticate_token(made["token"])).narrowed
        assert narrowed is not None
        assert len(narrowed) == 1
    for id in (world.ours.access_key_id, world.ours.authorized_key["id"], world.theirs.token.split("_")[1], "x"):
        with pytest.raises(NotFound):
            await world.admin("token.restrict", id=id, policy=POLICY)


async def test_a_new_trust_policy_holds_at_once(world: World) -> None:
    trusting = TRUST.replace('"Service": "iot.amazonaws.com"', f'"AWS": "arn:aws:iam::{OURS.account}:root"')
    await world.admin("role.create", name="hat", trust_policy=TRUST)
    for trust, is_allowed in ((trusting, True), (TRUST, False)):
        await world.admin("role.trust", name="hat", trust_policy=trust)
        with nullcontext() if is_allowed else pytest.raises(Denied):
            await as_bearer(world, world.ours.token, "session.create", principal="role/hat")


async def test_a_session_of_a_role_needs_its_trust_policy(world: World) -> None:
    trusting = TRUST.replace('"Service": "iot.amazonaws.com"', f'"AWS": "arn:aws:iam::{OURS.account}:root"')
    for name, trust in (("wary", TRUST), ("trusting", trusting)):
        await world.admin("role.create", name=name, trust_policy=trust)
    with pytest.raises(Denied) as denied:
        await as_bearer(world, world.ours.token, "session.create", principal="role/wary")
    assert (denied.value.action, denied.value.resource[-9:]) == ("sts:AssumeRole", "role/wary")
    await as_bearer(world, world.ours.token, "session.create", principal="role/trusting")
    await world.admin("session.create", principal="role/wary")  # the local administrator does not need the role's trust


@pytest.mark.parametrize("verb", ["disable", "enable", "delete"])
async def test_key_commands_find_no_tokens_and_token_commands_find_no_keys(world: World, verb: str) -> None:
    before, ours = world.dump(), world.ours
    tokens, keys = [ours.token.split("_")[1]], [ours.access_key_id, ours.authorized_key["id"]]
    for noun, ids in (("key", tokens), ("token", keys)):
        for id in ids:
            with pytest.raises(NotFound):
                await world.admin(f"{noun}.{verb}", id=id)
    assert world.dump() == before


async def sealed(world: World) -> list[Any]:
    return await world.rows("SELECT id, secret FROM credentials WHERE kind IN ('access-key', 'session') ORDER BY id")


async def test_interrupted_resealing_can_be_repeated(world: World) -> None:
    old, lost, new = b"m" * 32, b"l" * 32, b"n" * 32
    await world.write(lambda tx: reseal(tx, Vault(lost, old)))
    # After an interruption between sealing and writing the file, the next rotation puts its key before both.
    assert await world.write(lambda tx: reseal(tx, Vault(new, lost, old))) == 2
    for id, secret in await sealed(world):
        Vault(new).open(secret, id)
        with pytest.raises(VaultError):
            Vault(lost, old).open(secret, id)


async def test_resealing_with_the_wrong_key_changes_nothing(world: World) -> None:
    before = await sealed(world)
    with pytest.raises(VaultError):
        await world.write(lambda tx: reseal(tx, Vault(b"n" * 32, b"x" * 32)))
    assert await sealed(world) == before


async def test_sessions_that_expired_a_day_ago_are_deleted(world: World) -> None:
    await world.admin("key.create", principal="administrator")
    for hours in (1, 2, 30):
        await world.admin("session.create", principal="administrator", duration=timedelta(hours=hours))
    before = await world.count("credentials")
    for minutes, deleted in ((24 * 60 + 59, 0), (25 * 60 + 1, 1), (26 * 60 + 1, 2)):
        await delete_old_sessions(world.store, world.clock.now + timedelta(minutes=minutes))
        assert await world.count("credentials") == before - deleted
