"""The directory: credentials lead to their owners, and changes apply immediately."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.unit.vectors import NOW
from tests.world import THEIRS
from thingmint.access import directory as directory_module
from thingmint.access.administration.credentials import CREDENTIALS, reseal
from thingmint.access.context import Outcome, RequestContext
from thingmint.access.directory import Directory
from thingmint.access.vault import Vault, VaultError
from thingmint.domain.errors import Unauthenticated, Unavailable
from thingmint.domain.policies import Allow, Request
from thingmint.services.compiled_policies import POLICIES
from thingmint.store import audit as audit_sql
from thingmint.store.table import DELETED_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.world import World


async def test_credentials_have_the_form_that_clients_expect(world: World) -> None:
    made = [await world.admin("account.create", name=f"{number}") for number in range(20)]
    for answer in made:
        assert re.fullmatch(r"[1-9]\d{11}", answer["account"])
        assert re.fullmatch(r"AKIA[A-Z2-7]{16}", answer["access_key_id"])
        assert re.fullmatch(r"[A-Za-z0-9+/]{40}", answer["secret_access_key"])
        assert re.fullmatch(r"tma_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", answer["token"])
        assert re.fullmatch(r"b1g[a-z0-9]{17}", answer["folder"])
        assert re.fullmatch(r"aje[a-z0-9]{17}", answer["authorized_key"]["id"])
    for name in ("account", "folder", "access_key_id", "secret_access_key", "token"):
        assert len({answer[name] for answer in made}) == len(made)
    assert len({answer["authorized_key"]["private_key"] for answer in made}) == len(made)


async def test_each_credential_leads_to_its_owner(world: World) -> None:
    for credentials, regions in ((world.ours, ("us-east-1", "eu-central-1")), (world.theirs, ("us-east-1",))):
        by_key, secret = await world.directory.find_access_key(credentials.access_key_id, None)
        by_token = await world.directory.authenticate_token(credentials.token)
        assert secret == credentials.secret_access_key
        for caller in (by_key, by_token):
            assert (caller.account, caller.regions) == (credentials.account, regions)
            assert caller.arn == f"arn:aws:iam::{credentials.account}:user/administrator"
            assert [str(policy.name) for policy in caller.policies] == ["thingmint/Administrator"]
            assert caller.narrowed is None
        assert by_key.credential == credentials.access_key_id
        assert by_token.credential == credentials.token.split("_")[1]


async def test_the_developer_is_the_first_accounts_administrator(world: World) -> None:
    developer = await world.directory.developer()
    assert (developer.account, developer.credential) == (world.ours.account, "dev")


@pytest.mark.parametrize("id", ["", "AKIAAAAAAAAAAAAAAAAA", "' OR 1=1 --", "\0", "%"])
async def test_unknown_access_keys_are_refused(world: World, id: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await world.directory.find_access_key(id, None)
    assert refused.value.flaw == "unknown"
    assert refused.value.message == "The security token included in the request is invalid."


async def test_all_unknown_tokens_are_refused_with_the_same_text(world: World) -> None:
    token = world.ours.token
    token_id, secret = token.removeprefix("tma_").split("_", 1)
    other_id, other_secret = world.theirs.token.removeprefix("tma_").split("_", 1)
    messages = set()
    for wrong in (
        "",
        "tma_",
        f"tma_{token_id}",
        f"tma_{token_id}_",
        f"tma_{token_id}_{secret[:-1]}",
        f"tma_{token_id}_{secret}=",
        f"tma_{token_id}_{secret.swapcase()}",
        f"tma_{token_id}_{other_secret}",
        f"tma_{other_id}_{secret}",
        f"tma_{'0' * 16}_{secret}",
        f"tmb_{token_id}_{secret}",
        f"{token_id}_{secret}",
        f"tma_tma_{token_id}_{secret}",
        token.upper(),
        f"{token}\u00e9",
        "tma_\0_\0",
    ):
        with pytest.raises(Unauthenticated) as refused:
            await world.directory.authenticate_token(wrong)
        assert refused.value.flaw == "unknown"
        messages.add(refused.value.message)
    assert len(messages) == 1
    await world.directory.authenticate_token(token)


async def test_the_database_has_no_plain_secret(world: World) -> None:
    dump = "\n".join(world.dump())
    assert world.ours.account in dump
    assert world.ours.access_key_id in dump
    for secret in (world.ours.secret_access_key, world.ours.token.split("_", 2)[2]):
        assert secret not in dump
        assert secret.encode().hex() not in dump.lower()


async def test_another_master_key_opens_no_secret(world: World) -> None:
    another = Directory(world.store, Vault(b"M" * 32), world.clock)
    with pytest.raises(VaultError):
        await another.find_access_key(world.ours.access_key_id, None)


POLICY = orjson.dumps(
    {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:DescribeThing", "Resource": "*"}}
).decode()


@dataclass(frozen=True)
class Kind:
    """How a kind of credential is made, where the answer has its id, and how a client presents it."""

    command: str
    given: dict[str, Any]
    id_of: Callable[[Any], str]
    show: Callable[[World, Any], Coroutine[Any, Any, object]]

    @property
    def owner(self) -> str:
        return "service-account" if "service-account" in self.given["principal"] else "user"

    async def make(self, world: World) -> Any:
        return await world.admin(self.command, **self.given)

    async def end(self, world: World, verb: str, made: Any) -> None:
        noun = "token" if self.command == "token.create" else "key"
        await world.admin(f"{noun}.{verb}", id=self.id_of(made))

    async def end_owner(self, world: World, verb: str) -> None:
        await world.admin(f"{self.owner}.{verb}", name="administrator")


USER: dict[str, Any] = {"principal": "user/administrator"}
ROBOT: dict[str, Any] = {"principal": "service-account/administrator"}
KINDS = {
    "access key": Kind(
        "key.create",
        USER,
        lambda new: new["access_key_id"],
        lambda world, new: world.directory.find_access_key(new["access_key_id"], None),
    ),
    "session": Kind(
        "session.create",
        USER,
        lambda new: new["access_key_id"],
        lambda world, new: world.directory.find_access_key(new["access_key_id"], new["session_token"]),
    ),
    "token": Kind(
        "token.create",
        USER | {"lifetime": "1h"},
        lambda new: new["token"].split("_")[1],
        lambda world, new: world.directory.authenticate_token(new["token"]),
    ),
    "authorized key": Kind(
        "key.create", ROBOT, lambda new: new["id"], lambda world, new: world.directory.find_authorized_key(new["id"])
    ),
    "IAM token": Kind(
        "key.create",
        ROBOT,
        lambda new: new["id"],
        lambda world, new: world.directory.bearer_of_iam_token("an id", new["id"]),
    ),
}


@pytest.mark.parametrize("verb", ["disable", "delete"])
@pytest.mark.parametrize("of", ["credential", "owner"])
@pytest.mark.parametrize("name", KINDS)
async def test_disabled_and_deleted_credentials_are_refused_immediately(
    world: World, name: str, of: str, verb: str
) -> None:
    kind = KINDS[name]
    new = await kind.make(world)
    before = await kind.show(world, new)
    assert await kind.show(world, new) == before, "now from the cache"
    await (kind.end(world, verb, new) if of == "credential" else kind.end_owner(world, verb))
    with pytest.raises(Unauthenticated) as refused:
        await kind.show(world, new)
    assert refused.value.flaw == "unknown"
    if verb == "disable":
        await (kind.end(world, "enable", new) if of == "credential" else kind.end_owner(world, "enable"))
        assert await kind.show(world, new) == before


@pytest.mark.parametrize("shown", KINDS)
@pytest.mark.parametrize("made", KINDS)
async def test_a_credential_of_another_kind_is_refused(world: World, made: str, shown: str) -> None:
    if made == shown or {made, shown} == {"authorized key", "IAM token"}:
        return
    id = KINDS[made].id_of(await KINDS[made].make(world))
    other = {"access_key_id": id, "session_token": "x", "id": id, "token": f"tma_{id}_x"}
    if shown == "IAM token" and made == "token":
        return  # a user's IAM token
    for _ in range(2):
        with pytest.raises(Unauthenticated) as refused:
            await KINDS[shown].show(world, other)
        assert refused.value.flaw == "unknown"


@pytest.mark.parametrize("name", ["session", "token"])
async def test_credentials_are_valid_until_they_expire(world: World, name: str) -> None:
    new = await KINDS[name].make(world)
    # Sessions expire at a whole second, so up to a second before the full hour.
    world.clock.now += timedelta(minutes=59, seconds=59, microseconds=740_000)
    await KINDS[name].show(world, new)
    world.clock.now += timedelta(seconds=1)
    with pytest.raises(Unauthenticated) as refused:
        await KINDS[name].show(world, new)
    assert refused.value.flaw == "expired"


async def test_a_session_needs_its_own_token(world: World) -> None:
    session = await KINDS["session"].make(world)
    other = await KINDS["session"].make(world)
    key = world.ours
    caller, secret = await world.directory.find_access_key(session["access_key_id"], session["session_token"])
    assert (caller.account, caller.credential, secret) == (
        world.ours.account,
        session["access_key_id"],
        session["secret_access_key"],
    )
    await world.directory.find_access_key(key.access_key_id, None)
    for id, token in (
        (session["access_key_id"], None),
        (session["access_key_id"], ""),
        (session["access_key_id"], session["session_token"][:-1]),
        (session["access_key_id"], other["session_token"]),
        (session["access_key_id"], "\u00e9"),
        (key.access_key_id, ""),
        (key.access_key_id, session["session_token"]),
    ):
        with pytest.raises(Unauthenticated) as refused:
            await world.directory.find_access_key(id, token)
        assert refused.value.message == "The security token included in the request is invalid."
    world.clock.advance(hours=1)
    with pytest.raises(Unauthenticated) as refused:
        await world.directory.find_access_key(session["access_key_id"], other["session_token"])
    assert refused.value.flaw == "unknown", "only the owner of the session is told that it expired"


async def test_the_policy_of_a_session_or_token_restricts_its_caller(world: World) -> None:
    token = (await world.admin("token.create", principal="administrator", policy=POLICY))["token"]
    session = await world.admin("session.create", principal="administrator", policy=POLICY)
    callers = [
        await world.directory.authenticate_token(token),
        (await world.directory.find_access_key(session["access_key_id"], session["session_token"]))[0],
        await world.directory.bearer_of_iam_token("an id", token.split("_")[1]),
    ]
    for caller in callers:
        assert caller.narrowed is not None
        for action, allowed in (("iot:DescribeThing", True), ("iot:CreateThing", False)):
            assert isinstance(caller.decide([Request(action, "arn:aws:iot:us-east-1:1:thing/x")]), Allow) == allowed


async def test_policy_changes_apply_immediately(world: World) -> None:
    await world.admin("user.create", name="elf")
    token = (await world.admin("token.create", principal="elf"))["token"]
    asked = [Request("iot:DescribeThing", "arn:aws:iot:us-east-1:1:thing/x")]

    async def allowed() -> bool:
        return isinstance((await world.directory.authenticate_token(token)).decide(asked), Allow)

    assert not await allowed()
    await world.admin("policy.put", name="p", document=POLICY)
    await world.admin("policy.put", THEIRS, name="p", document=POLICY.replace("Allow", "Deny"))
    assert not await allowed()
    await world.admin("policy.attach", principal="elf", policy="p")
    assert await allowed()
    await world.admin("policy.put", name="p", document=POLICY.replace("DescribeThing", "CreateThing"))
    assert not await allowed()
    await world.admin("policy.attach", principal="elf", policy="thingmint/ReadOnly")
    assert await allowed()
    await world.admin("policy.put", name="p", document=POLICY.replace("Allow", "Deny"))
    assert not await allowed()
    await world.admin("policy.detach", principal="elf", policy="p")
    assert await allowed()


def request() -> tuple[RequestContext, Outcome]:
    return RequestContext(now=NOW), Outcome()


async def test_revoked_iam_tokens_are_refused(world: World) -> None:
    key = world.ours.authorized_key["id"]
    ends = int(world.clock.now.timestamp()) + 3600
    await world.directory.bearer_of_iam_token("a", key)
    await world.directory.revoke_iam_token("a", ends, *request())
    await world.directory.revoke_iam_token("a", ends, *request())
    with pytest.raises(Unauthenticated):
        await world.directory.bearer_of_iam_token("a", key)
    await world.directory.bearer_of_iam_token("b", key)
    world.clock.advance(hours=1)
    await world.directory.revoke_iam_token("b", ends + 3600, *request())
    dump = [line for line in world.dump() if 'INTO "revoked_tokens"' in line]
    assert len(dump) == 1, "revocations of expired tokens are deleted"
    assert "'b'" in dump[0]


@pytest.mark.parametrize("shown", ["api token", "IAM token"])
async def test_nothing_is_read_again_until_access_changes(
    world: World, monkeypatch: pytest.MonkeyPatch, shown: str
) -> None:
    key = world.ours.authorized_key["id"]
    reads = 0
    read = world.store.read

    async def counting(body: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(body)

    async def show() -> int:
        nonlocal reads
        reads = 0
        if shown == "api token":
            await world.directory.authenticate_token(world.ours.token)
        else:
            await world.directory.bearer_of_iam_token("a", key)
        return reads

    monkeypatch.setattr(world.store, "read", counting)
    assert await show() > 0
    assert await show() == 0
    await world.store.write(lambda tx: audit_sql.insert_record(tx, "01", None, "{}"))
    assert await show() == 0
    await world.directory.revoke_iam_token("b", 2_000_000_000, *request())
    assert await show() > 0
    assert await show() == 0


async def last_use(world: World, id: str) -> datetime | None:
    return (await world.read(lambda tx: CREDENTIALS.get(tx, id))).last_used_at


@pytest.mark.parametrize("name", KINDS)
async def test_times_of_last_use_are_stored_in_batches(world: World, name: str) -> None:
    kind = KINDS[name]
    new = await kind.make(world)
    id = kind.id_of(new)
    changes = world.store.writes
    for _ in range(3):
        await kind.show(world, new)
        if name in ("access key", "session", "authorized key"):
            # The code that verifies the signature reports the use; see test_sigv4 and test_iam.
            world.directory.used(id)
        world.clock.advance(seconds=1)
    assert await last_use(world, id) is None
    assert world.store.writes == changes
    await world.directory.flush()
    assert await last_use(world, id) == world.clock.now - timedelta(seconds=1)
    changes = world.store.writes
    await world.directory.flush()
    assert world.store.writes == changes, "nothing new, nothing written"


async def test_times_of_last_use_that_the_store_refused_are_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(body: object) -> None:
        raise Unavailable("The store failed")

    first, second = [await KINDS["token"].make(world) for _ in range(2)]
    await KINDS["token"].show(world, first)
    with monkeypatch.context() as patch:
        patch.setattr(world.store, "write", unavailable)
        with pytest.raises(Unavailable):
            await world.directory.flush()
    noted = world.clock.now
    world.clock.advance(seconds=1)
    await KINDS["token"].show(world, second)
    await world.directory.flush()
    found = [await last_use(world, KINDS["token"].id_of(new)) for new in (first, second)]
    assert found == [noted, noted + timedelta(seconds=1)]


async def test_many_times_of_last_use_are_stored_in_steps(world: World) -> None:
    token = await KINDS["token"].make(world)
    for number in range(DELETED_AT_ONCE):
        world.directory.used(f"{number}")
    await KINDS["token"].show(world, token)
    changes = world.store.writes
    assert changes is not None
    await world.directory.flush()
    assert world.store.writes == changes + 2
    assert await last_use(world, KINDS["token"].id_of(token)) is not None


async def test_waiting_times_of_last_use_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "_MAX_USED", 2)
    tokens = [await KINDS["token"].make(world) for _ in range(3)]
    for token in tokens:
        await KINDS["token"].show(world, token)
    await world.directory.flush()
    noted = [await last_use(world, KINDS["token"].id_of(token)) is not None for token in tokens]
    assert noted == [True, True, False]


@pytest.mark.parametrize("name", ["token", "session"])
async def test_a_wrong_secret_does_not_count_as_use(world: World, name: str) -> None:
    new = await KINDS[name].make(world)
    wrong = {"token": f"tma_{KINDS['token'].id_of(new)}_wrong"} if name == "token" else {"session_token": "wrong"}
    with pytest.raises(Unauthenticated):
        await KINDS[name].show(world, {**new, **wrong})
    await world.directory.flush()
    assert await last_use(world, KINDS[name].id_of(new)) is None


async def test_an_iam_token_ends_with_its_api_token(world: World) -> None:
    token = await KINDS["token"].make(world)
    id = KINDS["token"].id_of(token)
    await world.directory.bearer_of_iam_token("an id", id)
    world.clock.advance(hours=1)
    with pytest.raises(Unauthenticated):
        await world.directory.bearer_of_iam_token("an id", id)


async def test_secrets_of_both_master_keys_open_during_a_rotation(world: World) -> None:
    key = world.ours
    both = Vault(b"M" * 32, b"m" * 32)
    directory = Directory(world.store, both, world.clock)
    assert (await directory.find_access_key(key.access_key_id, None))[1] == key.secret_access_key
    assert await world.write(lambda tx: reseal(tx, both)) == 2
    for vault in (both, Vault(b"M" * 32)):
        directory = Directory(world.store, vault, world.clock)
        assert (await directory.find_access_key(key.access_key_id, None))[1] == key.secret_access_key
    with pytest.raises(VaultError):
        await world.directory.find_access_key(key.access_key_id, None)


async def test_a_change_while_policies_are_compiled_is_not_missed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other tasks run between two compilations. What was read before a change must not be cached then."""
    key, user = world.ours.access_key_id, "user/administrator"
    world.directory._known.clear()
    compile_ahead = POLICIES.compile_ahead

    async def change_meanwhile(kind: Any, documents: Any) -> None:
        monkeypatch.undo()
        await world.admin("policy.attach", principal=user, policy="thingmint/ReadOnly")
        await world.directory.find_access_key(key, None)
        await compile_ahead(kind, documents)

    monkeypatch.setattr(POLICIES, "compile_ahead", change_meanwhile)
    before, _ = await world.directory.find_access_key(key, None)
    after, _ = await world.directory.find_access_key(key, None)
    assert (len(before.policies), len(after.policies)) == (1, 2)
