"""Accounts, principals, credentials and policies: every method, its limits, and that accounts never meet."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from tests.administrator import Administrator
from thingmint.access.audit import AuditedStore
from thingmint.access.context import Outcome, RequestContext
from thingmint.access.ready_made import READY_MADE
from thingmint.access.vault import Vault, VaultError
from thingmint.domain.errors import (
    AlreadyExists,
    Conflict,
    DomainError,
    Invalid,
    LimitExceeded,
    MalformedPolicy,
    NotFound,
)
from thingmint.services.device_registry import list_folders
from thingmint.store import access as sql
from thingmint.store import audit as audit_sql
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.world import World
    from thingmint.access.administration import PrincipalKind
    from thingmint.store.engine import Transaction

POLICY = orjson.dumps(
    {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}}
).decode()
TRUST = orjson.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "iot.amazonaws.com"}},
    }
).decode()
HOUR = timedelta(hours=1)
PRINCIPALS: list[tuple[PrincipalKind, str | None]] = [("user", None), ("service-account", None), ("role", TRUST)]


async def contents(world: World) -> dict[str, list[Any]]:
    """All that the store holds but secrets that were sealed anew."""

    async def body(tx: Transaction) -> dict[str, list[Any]]:
        tables = (
            "accounts",
            "account_regions",
            "folders",
            "principals",
            "credentials",
            "policies",
            "policy_attachments",
        )
        return {table: await tx.fetch_all(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables}

    return await world.store.read(body)


async def test_an_account_begins_with_what_its_people_need(world: World) -> None:
    admin, account = world.administration, world.ours.account
    assert [row[:2] for row in await admin.list_accounts()] == [(account, "ours"), (world.theirs.account, "theirs")]
    assert [(row.id, row.name) for row in await world.read(lambda tx: list_folders(tx, account))] == [
        (world.ours.folder, "default")
    ]
    for kind, kinds in (("user", {"access-key", "api-token"}), ("service-account", {"authorized-key"})):
        principal: PrincipalKind = "user" if kind == "user" else "service-account"
        [row] = await admin.list_principals(account, principal)
        assert (row.name, row.status) == ("administrator", "active")
        [attached] = await admin.list_attachments(account, principal, "administrator")
        assert (attached.policy, attached.resource) == ("thingmint/Administrator", "*")
        every = ("access-key", "api-token", "authorized-key", "session")
        found = await admin.list_credentials(account, principal, "administrator", every)
        assert {credential.kind for credential in found} == kinds
    assert await admin.list_principals(account, "role") == []
    assert await admin.list_policies(account) == []


@pytest.mark.parametrize(("kind", "trust"), PRINCIPALS)
async def test_a_principals_life(world: World, kind: PrincipalKind, trust: str | None) -> None:
    admin, account = world.administration, world.ours.account
    made = await admin.create_principal(account, kind, "elf", trust_policy=trust)
    assert (made.kind, made.name, made.status, made.trust_policy) == (kind, "elf", "active", trust)
    assert made.created_at == to_micros(world.clock.now)
    assert made in await admin.list_principals(account, kind)
    assert await admin.list_attachments(account, kind, "elf") == []
    with pytest.raises(AlreadyExists):
        await admin.create_principal(account, kind, "elf", trust_policy=trust)
    await admin.set_principal_status(account, kind, "elf", active=False)
    assert made._replace(status="disabled") in await admin.list_principals(account, kind)
    await admin.set_principal_status(account, kind, "elf", active=True)
    assert made in await admin.list_principals(account, kind)
    before = await contents(world)
    await admin.attach_policy(account, kind, "elf", "thingmint/ReadOnly")
    if kind != "service-account":
        await admin.create_session(account, kind, "elf", lifetime=HOUR)
    else:
        await admin.create_authorized_key(account, "elf")
    await admin.delete_principal(account, kind, "elf")
    before["principals"] = [row for row in before["principals"] if row[0] != made.id]
    assert await contents(world) == before, "its credentials and attachments are gone too"
    await admin.create_principal(account, kind, "elf", trust_policy=trust)


async def test_names_are_of_a_kind_and_an_account(world: World) -> None:
    for account in (world.ours.account, world.theirs.account):
        for kind, trust in PRINCIPALS:
            await world.administration.create_principal(account, kind, "elf", trust_policy=trust)


BAD_NAMES = ["", " ", "a b", "a/b", "a\n", "\u00e9", "a" * 65, "../x", "a:b", "a*"]


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_names_that_are_none(world: World, name: str) -> None:
    admin, account = world.administration, world.ours.account
    before = await contents(world)
    for call in (
        admin.create_principal(account, "user", name),
        admin.create_folder(account, name),
        admin.put_policy(account, name + "a" * 64 if len(name) > 64 else name, POLICY),
    ):
        with pytest.raises(Invalid) as refused:
            await call
        assert refused.value.field == "name"
    assert await contents(world) == before


@pytest.mark.parametrize("name", ["a", "A.b@c.d", "+=,.@_-", "a" * 64])
async def test_names(world: World, name: str) -> None:
    await world.administration.create_principal(world.ours.account, "user", name)
    folder = await world.administration.create_folder(world.ours.account, name)
    folders = await world.read(lambda tx: list_folders(tx, world.ours.account))
    assert (folder, name) in [(row.id, row.name) for row in folders]
    await world.administration.put_policy(world.ours.account, name, POLICY)


@pytest.mark.parametrize(
    ("kind", "trust"), [("user", TRUST), ("service-account", TRUST), ("role", None), ("role", POLICY), ("role", "{")]
)
async def test_trust_policies_that_do_not_fit(world: World, kind: PrincipalKind, trust: str | None) -> None:
    with pytest.raises(Invalid):
        await world.administration.create_principal(world.ours.account, kind, "elf", trust_policy=trust)
    assert "elf" not in [row.name for row in await world.administration.list_principals(world.ours.account, kind)]


class TestCredentials:
    async def test_what_is_made_is_listed_without_secrets(self, world: World) -> None:
        admin, account = world.administration, world.ours.account
        await admin.create_principal(account, "user", "elf")
        key = await admin.create_access_key(account, "elf")
        token = await admin.create_api_token(account, "elf", policy=POLICY, lifetime=HOUR, description="for ci")
        session = await admin.create_session(account, "user", "elf", lifetime=HOUR, policy=POLICY)
        found = await admin.list_credentials(account, "user", "elf", ("access-key", "api-token", "session"))
        rows = {row.kind: row for row in found}
        assert len(found) == 3
        ends = to_micros(world.clock.now + HOUR)
        assert rows["access-key"].id == key.access_key_id
        assert (rows["access-key"].expires_at, rows["access-key"].policy) == (None, None)
        assert (rows["api-token"].id, rows["api-token"].expires_at) == (token.split("_")[1], ends)
        assert (rows["api-token"].policy, rows["api-token"].description) == (POLICY, "for ci")
        assert (rows["session"].id, rows["session"].expires_at) == (
            session.access_key_id,
            to_micros(session.expires_at),
        )
        assert session.expires_at == (world.clock.now + HOUR).replace(microsecond=0)
        for secret in (
            key.secret_access_key,
            token.split("_", 2)[2],
            session.secret_access_key,
            session.session_token,
        ):
            assert secret not in repr(found)
            assert secret not in repr((key, session))
        only = await admin.list_credentials(account, "user", "elf", ("session",))
        assert [row.kind for row in only] == ["session"]

    async def test_an_authorized_key(self, world: World) -> None:
        admin, account = world.administration, world.ours.account
        elf = await admin.create_principal(account, "service-account", "elf")
        new = await admin.create_authorized_key(account, "elf")
        assert (new.service_account, new.created_at) == (elf.id, world.clock.now)
        private = load_pem_private_key(new.private_key.encode(), None)
        assert private.public_key() == load_pem_public_key(new.public_key.encode())
        assert new.private_key not in repr(await contents(world))

    @pytest.mark.parametrize(
        ("make", "owner"),
        [
            (lambda admin, account: admin.create_access_key(account, "elf"), "user"),
            (lambda admin, account: admin.create_api_token(account, "elf"), "user"),
            (lambda admin, account: admin.create_authorized_key(account, "elf"), "service-account"),
        ],
    )
    async def test_ten_of_a_kind(
        self, world: World, make: Callable[[Administrator, str], Coroutine[Any, Any, Any]], owner: PrincipalKind
    ) -> None:
        admin, account = world.administration, world.ours.account
        await admin.create_principal(account, owner, "elf")
        for _ in range(10):
            await make(admin, account)
        before = await contents(world)
        with pytest.raises(LimitExceeded):
            await make(admin, account)
        assert await contents(world) == before
        [first, *_] = await admin.list_credentials(account, owner, "elf", ("access-key", "api-token", "authorized-key"))
        await admin.delete_credential(account, first.id)
        await make(admin, account)

    async def test_sessions_are_not_counted(self, world: World) -> None:
        for _ in range(12):
            await world.administration.create_session(world.ours.account, "user", "administrator", lifetime=HOUR)

    @pytest.mark.parametrize(
        ("lifetime", "taken"),
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
    async def test_how_long_a_session_can_be(self, world: World, lifetime: timedelta, taken: bool) -> None:
        making = world.administration.create_session(world.ours.account, "user", "administrator", lifetime=lifetime)
        if taken:
            await making
            return
        with pytest.raises(Invalid) as refused:
            await making
        assert refused.value.field == "duration"

    @pytest.mark.parametrize("lifetime", [timedelta(0), timedelta(days=999_999_999)])
    async def test_how_long_a_token_can_be(self, world: World, lifetime: timedelta) -> None:
        with pytest.raises(Invalid):
            await world.administration.create_api_token(world.ours.account, "administrator", lifetime=lifetime)


class TestPolicies:
    async def test_a_policys_life(self, world: World) -> None:
        admin, account = world.administration, world.ours.account
        await admin.put_policy(account, "p", POLICY)
        [first] = await admin.list_policies(account)
        world.clock.advance(seconds=1)
        other = POLICY.replace("iot:*", "iot:Get*")
        await admin.put_policy(account, "p", other)
        [second] = await admin.list_policies(account)
        assert (second.created_at, second.modified_at) == (first.created_at, first.modified_at + 1_000_000)
        assert await admin.get_policy(account, "p") == other
        for _ in range(2):
            await admin.attach_policy(account, "user", "administrator", "p")
        attached = await admin.list_attachments(account, "user", "administrator")
        assert [row.policy for row in attached] == ["p", "thingmint/Administrator"]
        with pytest.raises(Conflict):
            await admin.delete_policy(account, "p")
        await admin.detach_policy(account, "user", "administrator", "p")
        with pytest.raises(NotFound):
            await admin.detach_policy(account, "user", "administrator", "p")
        await admin.delete_policy(account, "p")
        with pytest.raises(NotFound):
            await admin.get_policy(account, "p")

    @pytest.mark.parametrize(
        "document",
        ["", "{", "[]", "{}", POLICY.replace("Allow", "allow"), TRUST, POLICY.replace("iot:*", "a" * 6200)],
    )
    async def test_what_is_no_policy(self, world: World, document: str) -> None:
        admin, account = world.administration, world.ours.account
        before = await contents(world)
        for call in (
            admin.put_policy(account, "p", document),
            admin.create_api_token(account, "administrator", policy=document),
            admin.create_session(account, "user", "administrator", lifetime=HOUR, policy=document),
        ):
            with pytest.raises(MalformedPolicy):
                await call
        assert await contents(world) == before

    @pytest.mark.parametrize("name", READY_MADE)
    async def test_ready_made_ones(self, world: World, name: str) -> None:
        admin, account = world.administration, world.ours.account
        orjson.loads(await admin.get_policy(account, name))
        await admin.create_principal(account, "user", "elf")
        await admin.attach_policy(account, "user", "elf", name)
        if name.startswith("yandex/"):
            await admin.attach_policy(account, "user", "elf", name, f"yandex:folder/{world.ours.folder}")
        attached = await admin.list_attachments(account, "user", "elf")
        assert len(attached) == (2 if name.startswith("yandex/") else 1)
        await admin.detach_policy(account, "user", "elf", name)
        for call in (admin.put_policy(account, name, POLICY), admin.delete_policy(account, name)):
            with pytest.raises((Invalid, NotFound)):
                await call

    @pytest.mark.parametrize(
        ("policy", "resource", "error"),
        [
            ("missing", "*", NotFound),
            ("thingmint/Missing", "*", NotFound),
            ("yandex/missing", "*", NotFound),
            ("other/x", "*", NotFound),
            ("/", "*", NotFound),
            ("p", "yandex:folder/b1g", Invalid),
            ("thingmint/ReadOnly", "yandex:folder/b1g", Invalid),
            ("yandex/viewer", "", Invalid),
            ("yandex/viewer", "yandex:folder/*", Invalid),
            ("yandex/viewer", "arn:aws:iot:us-east-1:1:thing/x", Invalid),
        ],
    )
    async def test_what_cannot_be_attached(
        self, world: World, policy: str, resource: str, error: type[DomainError]
    ) -> None:
        await world.administration.put_policy(world.ours.account, "p", POLICY)
        before = await contents(world)
        with pytest.raises(error):
            await world.administration.attach_policy(world.ours.account, "user", "administrator", policy, resource)
        assert await contents(world) == before

    async def test_twenty_attachments(self, world: World) -> None:
        admin, account = world.administration, world.ours.account
        for number in range(20):
            await admin.put_policy(account, f"p{number}", POLICY)
        for number in range(19):
            await admin.attach_policy(account, "user", "administrator", f"p{number}")
        with pytest.raises(LimitExceeded):
            await admin.attach_policy(account, "user", "administrator", "p19")
        assert len(await admin.list_attachments(account, "user", "administrator")) == 20
        await admin.attach_policy(account, "user", "administrator", "p0")


def touching(admin: Administrator, account: str, id: str) -> dict[str, Callable[[], Coroutine[Any, Any, object]]]:
    """Every method that names something, aimed at elf, p and the credential ``id`` within ``account``."""
    return {
        "disable": lambda: admin.set_principal_status(account, "user", "elf", active=False),
        "delete": lambda: admin.delete_principal(account, "user", "elf"),
        "create key": lambda: admin.create_access_key(account, "elf"),
        "create authorized key": lambda: admin.create_authorized_key(account, "robot"),
        "create token": lambda: admin.create_api_token(account, "elf"),
        "create session": lambda: admin.create_session(account, "user", "elf", lifetime=HOUR),
        "list credentials": lambda: admin.list_credentials(account, "user", "elf", ("access-key",)),
        "disable credential": lambda: admin.set_credential_status(account, id, active=False),
        "enable credential": lambda: admin.set_credential_status(account, id, active=True),
        "delete credential": lambda: admin.delete_credential(account, id),
        "get policy": lambda: admin.get_policy(account, "p"),
        "delete policy": lambda: admin.delete_policy(account, "p"),
        "attach": lambda: admin.attach_policy(account, "user", "elf", "thingmint/ReadOnly"),
        "attach a policy": lambda: admin.attach_policy(account, "user", "administrator", "p"),
        "detach": lambda: admin.detach_policy(account, "user", "elf", "p"),
        "attached": lambda: admin.list_attachments(account, "user", "elf"),
    }


async def test_one_account_cannot_touch_another(world: World) -> None:
    admin, theirs = world.administration, world.theirs.account
    await admin.create_principal(theirs, "user", "elf")
    await admin.create_principal(theirs, "service-account", "robot")
    await admin.put_policy(theirs, "p", POLICY)
    await admin.attach_policy(theirs, "user", "elf", "p")
    key = await admin.create_access_key(theirs, "elf")
    before = await contents(world)
    for account in (world.ours.account, "000000000000", ""):
        for name, call in touching(admin, account, key.access_key_id).items():
            with pytest.raises(NotFound):
                await call()
            assert await contents(world) == before, name
    for empty in (
        await admin.list_policies(world.ours.account),
        await world.read(lambda tx: list_folders(tx, "000000000000")),
        await admin.list_principals("000000000000", "user"),
    ):
        assert empty == []
    for creation in (
        admin.create_folder("000000000000", "f"),
        admin.create_principal("000000000000", "user", "elf"),
        admin.put_policy("000000000000", "p", POLICY),
    ):
        with pytest.raises(NotFound):
            await creation
    assert await contents(world) == before


async def test_the_same_within_the_account_is_done(world: World) -> None:
    """So that the test above fails for the right reason."""
    admin = world.administration
    for name in touching(admin, "", "x"):
        account = (await admin.create_account("x", ["us-east-1"])).account
        await admin.create_principal(account, "user", "elf")
        await admin.create_principal(account, "service-account", "robot")
        await admin.put_policy(account, "p", POLICY)
        if name != "delete policy":
            await admin.attach_policy(account, "user", "elf", "p")
        key = await admin.create_access_key(account, "elf")
        await touching(admin, account, key.access_key_id)[name]()


async def test_the_audit_trail_learns_what_was_changed(world: World) -> None:
    audited = AuditedStore(world.store, world.clock)
    context = RequestContext(api="admin", now=world.clock())
    admin = Administrator(audited.of(context, Outcome()), world.vault, world.clock)
    account = world.ours.account
    changes = [
        (admin.create_principal(account, "user", "elf"), f"arn:aws:iam::{account}:user/elf"),
        (admin.create_access_key(account, "elf"), f"arn:aws:iam::{account}:user/elf"),
        (admin.put_policy(account, "p", POLICY), f"arn:aws:iam::{account}:policy/p"),
        (admin.attach_policy(account, "user", "elf", "p"), f"arn:aws:iam::{account}:user/elf"),
        (admin.detach_policy(account, "user", "elf", "p"), f"arn:aws:iam::{account}:user/elf"),
        (admin.delete_policy(account, "p"), f"arn:aws:iam::{account}:policy/p"),
        (admin.set_principal_status(account, "user", "elf", active=False), f"arn:aws:iam::{account}:user/elf"),
        (admin.delete_principal(account, "user", "elf"), f"arn:aws:iam::{account}:user/elf"),
    ]
    for change, _ in changes:
        await change
        world.clock.advance(seconds=1)

    async def body(tx: Transaction) -> list[audit_sql.AuditRow]:
        return await audit_sql.list_records(tx, account=None, before=None, limit=100)

    found = [orjson.loads(row.record)["resources"] for row in reversed(await world.store.read(body))]
    assert found == [[resource] for _, resource in changes]


class TestReseal:
    async def test_a_rotation_that_was_interrupted_is_repeated(self, world: World) -> None:
        old, lost, new = b"m" * 32, b"l" * 32, b"n" * 32
        await Administrator(world.store, Vault(lost, old), world.clock).reseal()
        # Had it ended between sealing and writing the file, the next begins with both keys before its own.
        assert await Administrator(world.store, Vault(new, lost, old), world.clock).reseal() == 2

        async def body(tx: Transaction) -> list[tuple[str, bytes]]:
            return await sql.list_sealed(tx)

        for id, secret in await world.store.read(body):
            Vault(new).open(secret, id)
            with pytest.raises(VaultError):
                Vault(lost, old).open(secret, id)

    async def test_with_the_wrong_key_nothing_is_changed(self, world: World) -> None:
        before = await contents(world)
        with pytest.raises(VaultError):
            await Administrator(world.store, Vault(b"n" * 32, b"x" * 32), world.clock).reseal()
        assert await contents(world) == before
