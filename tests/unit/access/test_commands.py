"""The table of commands: each runs, refuses invalid input, and is in the audit log."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.administrator import POLICY, TRUST, administer
from tests.world import OURS, THEIRS
from thingmint.access.administration import COMMANDS
from thingmint.access.audit import AuditedStore, AuditLog
from thingmint.access.local_admin import Administration, as_local_admin
from thingmint.domain.errors import Invalid, NotFound
from thingmint.services.accounts import SETTINGS
from thingmint.store import audit as audit_sql

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.store.engine import Transaction


NOWHERE = OURS._replace(account="000000000000")


def inputs(ids: dict[str, str]) -> dict[str, tuple[dict[str, Any], set[str]]]:
    """Each command with its input, after those above it, and the names of the fields of its answer or of its rows."""
    principal = {"id", "name", "status", "created_at"}
    credential = {"id", "kind", "status", "description", "created_at", "expires_at", "last_used_at"}
    authorized = {"id", "service_account_id", "created_at", "key_algorithm", "public_key", "private_key"}
    keys = {"access_key_id", "secret_access_key"}
    deleted = {"name", "deleted"}
    hostname = {"name", "account", "region", "api"}
    return {
        "account.list": ({}, {"id", "name", "created_at"}),
        "account.create": (
            {"name": "third", "region": ["eu-central-1"]},
            {"account", "folder", "token", "authorized_key", *keys},
        ),
        "account.set": ({"name": "keys_over_mqtt", "value": "false"}, {"keys_over_mqtt"}),
        "account.show": ({}, {"id", *SETTINGS}),
        "hostname.add": ({"name": "a.example"}, hostname),
        "hostname.first": ({"name": "b.example"}, hostname),
        "hostname.list": ({}, hostname),
        "hostname.remove": ({"name": "a.example"}, hostname),
        "region.add": ({"name": "eu-west-1"}, {"account", "regions"}),
        "region.list": ({}, {"name"}),
        "folder.create": ({"name": "f"}, {"id", "name"}),
        "folder.list": ({}, {"id", "name", "created_at"}),
        "user.create": ({"name": "elf"}, principal),
        "user.list": ({}, principal),
        "user.disable": ({"name": "elf"}, {"name", "status"}),
        "user.enable": ({"name": "elf"}, {"name", "status"}),
        "service-account.create": ({"name": "robot"}, principal),
        "service-account.list": ({}, principal),
        "service-account.disable": ({"name": "robot"}, {"name", "status"}),
        "service-account.enable": ({"name": "robot"}, {"name", "status"}),
        "role.create": ({"name": "hat", "trust_policy": TRUST}, principal),
        "role.trust": ({"name": "hat", "trust_policy": TRUST}, {"name"}),
        "role.list": ({}, principal),
        "role.disable": ({"name": "hat"}, {"name", "status"}),
        "role.enable": ({"name": "hat"}, {"name", "status"}),
        "key.create": ({"principal": "elf"}, keys),
        "key.create of a robot": ({"principal": "service-account/robot"}, authorized),
        "key.list": ({"principal": "user/elf"}, credential),
        "key.list of a robot": ({"principal": "service-account/robot"}, credential),
        "key.disable": ({"id": ids["key"]}, {"id", "status"}),
        "key.enable": ({"id": ids["key"]}, {"id", "status"}),
        "key.delete": ({"id": ids["key"]}, {"id", "deleted"}),
        "key.disable of a robot": ({"id": ids["robot's"]}, {"id", "status"}),
        "key.delete of a robot": ({"id": ids["robot's"]}, {"id", "deleted"}),
        "token.create": ({"principal": "user/elf", "lifetime": "30d", "description": "ci"}, {"token"}),
        "token.list": ({"principal": "elf"}, credential),
        "token.restrict": ({"id": ids["token"], "policy": POLICY}, {"id", "restricted"}),
        "token.disable": ({"id": ids["token"]}, {"id", "status"}),
        "token.enable": ({"id": ids["token"]}, {"id", "status"}),
        "token.delete": ({"id": ids["token"]}, {"id", "deleted"}),
        "session.create": (
            {"principal": "role/hat", "duration": "15m", "policy": POLICY},
            {"session_token", "expires_at", *keys},
        ),
        "session.create of an elf": ({"principal": "elf"}, {"session_token", "expires_at", *keys}),
        "policy.put": ({"name": "p", "document": POLICY}, {"name"}),
        "policy.show": ({"name": "p"}, {"name", "document"}),
        "policy.list": ({}, {"name", "ready_made", "modified_at"}),
        "policy.attach": ({"principal": "elf", "policy": "p"}, {"principal", "policy", "resource"}),
        "policy.attach to a role": ({"principal": "role/hat", "policy": "p"}, {"principal", "policy", "resource"}),
        "policy.attach to a robot": (
            {"principal": "service-account/robot", "policy": "yandex/editor"},
            {"principal", "policy", "resource"},
        ),
        "policy.attached": ({"principal": "elf"}, {"policy", "resource"}),
        "policy.attached to a role": ({"principal": "role/hat"}, {"policy", "resource"}),
        "policy.detach from a role": (
            {"principal": "role/hat", "policy": "p"},
            {"principal", "policy", "resource", "detached"},
        ),
        "policy.detach": ({"principal": "elf", "policy": "p"}, {"principal", "policy", "resource", "detached"}),
        "policy.delete": ({"name": "p"}, deleted),
        "user.delete": ({"name": "elf"}, deleted),
        "service-account.delete": ({"name": "robot"}, deleted),
        "role.delete": ({"name": "hat"}, deleted),
    }


# CloudTrail's names, or Yandex's; see docs/access.md.
EVENTS = {
    "account.list": "ListAccounts",
    "account.create": "CreateAccount",
    "account.set": "UpdateAccountSettings",
    "account.show": "GetAccountSettings",
    "hostname.add": "AddHostname",
    "hostname.first": "SetFirstHostname",
    "hostname.list": "ListHostnames",
    "hostname.remove": "RemoveHostname",
    "region.add": "EnableRegion",
    "region.list": "ListRegions",
    "folder.create": "CreateFolder",
    "folder.list": "ListFolders",
    "user.create": "CreateUser",
    "user.list": "ListUsers",
    "user.disable": "UpdateUser",
    "user.enable": "UpdateUser",
    "user.delete": "DeleteUser",
    "service-account.create": "CreateServiceAccount",
    "service-account.list": "ListServiceAccounts",
    "service-account.disable": "UpdateServiceAccount",
    "service-account.enable": "UpdateServiceAccount",
    "service-account.delete": "DeleteServiceAccount",
    "role.create": "CreateRole",
    "role.trust": "UpdateAssumeRolePolicy",
    "role.list": "ListRoles",
    "role.disable": "UpdateRole",
    "role.enable": "UpdateRole",
    "role.delete": "DeleteRole",
    "key.create": "CreateAccessKey",
    "key.create of a robot": "CreateKey",
    "key.list": "ListAccessKeys",
    "key.list of a robot": "ListKeys",
    "key.disable": "UpdateAccessKey",
    "key.enable": "UpdateAccessKey",
    "key.delete": "DeleteAccessKey",
    "key.disable of a robot": "UpdateKey",
    "key.delete of a robot": "DeleteKey",
    "token.create": "CreateApiToken",
    "token.list": "ListApiTokens",
    "token.restrict": "PutApiTokenPolicy",
    "token.disable": "UpdateApiToken",
    "token.enable": "UpdateApiToken",
    "token.delete": "DeleteApiToken",
    "session.create": "AssumeRole",
    "session.create of an elf": "GetSessionToken",
    "policy.put": "CreatePolicy",
    "policy.show": "GetPolicy",
    "policy.list": "ListPolicies",
    "policy.delete": "DeletePolicy",
    "policy.attach": "AttachUserPolicy",
    "policy.attach to a role": "AttachRolePolicy",
    "policy.attach to a robot": "AttachServiceAccountPolicy",
    "policy.attached": "ListAttachedUserPolicies",
    "policy.attached to a role": "ListAttachedRolePolicies",
    "policy.detach": "DetachUserPolicy",
    "policy.detach from a role": "DetachRolePolicy",
}


async def recorded(world: World) -> list[dict[str, Any]]:
    """The records, oldest first."""

    async def body(tx: Transaction) -> list[audit_sql.AuditRow]:
        return await audit_sql.list_records(tx, account=None, before=None, limit=1000)

    return [orjson.loads(row.record) for row in reversed(await world.store.read(body))]


async def test_every_command_runs(world: World) -> None:
    admin = Administration(AuditedStore(world.store, world.clock), world.vault, world.clock)
    trail = AuditLog(world.store, world.clock)
    ids = {
        "key": world.ours.access_key_id,
        "token": world.ours.token.split("_")[1],
        "robot's": world.ours.authorized_key["id"],
    }
    table = inputs(ids)
    assert {name.partition(" ")[0] for name in table} == set(COMMANDS)
    for title, (given, expected) in table.items():
        world.clock.advance(seconds=1)
        answer = await as_local_admin(admin, trail, title.partition(" ")[0], given)
        await trail.flush()
        orjson.dumps(answer)
        if isinstance(answer, list):
            assert answer, title
            assert all(set(row) == expected for row in answer), title
        else:
            assert set(answer) == expected, title

    records = await recorded(world)
    assert [record["event"] for record in records] == [EVENTS[title] for title in table]
    assert {(r["source"], r["agent"], r["outcome"]) for r in records} == {
        ("thingmint", "thingmint command line", "success")
    }
    of_no_account = {r["event"] for r in records if r["account"] is None}
    of_hostnames = {"AddHostname", "SetFirstHostname", "ListHostnames", "RemoveHostname"}
    assert of_no_account == {"CreateAccount", "ListAccounts", *of_hostnames}
    parameters = {title: record.get("parameters") for title, record in zip(table, records, strict=True)}
    assert parameters["user.disable"] == {"name": "elf", "status": "disabled"}
    assert parameters["user.enable"] == {"name": "elf", "status": "active"}
    assert parameters["key.disable"] == {"id": ids["key"], "status": "disabled"}
    assert parameters["policy.attach"] == {"principal": "elf", "policy": "p", "resource": "*"}
    assert parameters["policy.put"] == {"name": "p"}
    assert parameters["token.create"] == {"principal": "user/elf"}
    assert parameters["session.create"] == {"principal": "role/hat", "duration": "0:15:00"}
    assert "secret" not in orjson.dumps(records).decode().lower()


async def test_refused_commands_of_the_local_administrator_are_recorded(world: World) -> None:
    admin = Administration(AuditedStore(world.store, world.clock), world.vault, world.clock)
    trail, theirs = AuditLog(world.store, world.clock), world.theirs.account
    for _ in range(2):
        world.clock.advance(seconds=1)
        with pytest.raises(NotFound):
            await as_local_admin(admin, trail, "user.delete", {"name": "tma_0_secret", "account": theirs})
    world.clock.advance(seconds=1)
    with pytest.raises(Invalid):
        await as_local_admin(admin, trail, "key.list", {"principal": "group/x"})
    await trail.close()
    records = await recorded(world)
    assert {(r["event"], r["error"], r["account"], r["outcome"], r.get("count")) for r in records} == {
        ("DeleteUser", "NotFound", theirs, "refused", None),
        ("ListAccessKeys", "Invalid", None, "refused", None),
        ("DeleteUser", "NotFound", theirs, "refused", 1),
    }
    # A refused value may be a secret in the wrong field.
    assert "tma_" not in orjson.dumps(records).decode()


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("user.create", {}, "name is missing"),
    ("user.create", {"name": 1}, "name must be text"),
    ("user.create", {"name": "a", "extra": 1}, "extra is not valid: Extra inputs are not permitted"),
    ("user.create", {"name": "a" * 129}, "name must be 1 to 64 letters"),
    ("user.create", {"name": "a b"}, "name must be 1 to 64 letters"),
    ("user.create", {"name": "a", "account": "1"}, "account must be an account's 12 digits"),
    ("user.create", {"name": "a", "account": "1" * 12 + "\n"}, "account must be"),
    ("account.create", {"name": "a", "region": []}, "region must not be empty"),
    ("account.create", {"name": "a", "id": "1" * 11}, "id must be"),
    ("account.create", {"name": "a", "id": "1" * 12 + "\n"}, "id must be"),
    ("account.create", {"name": "a", "id": "\u0661" * 12}, "id must be"),
    ("region.add", {"name": "Frankfurt"}, "name must be a region's name"),
    ("account.set", {"name": "keys", "value": "true"}, "name must be check_validity, "),
    ("account.set", {"name": "weak_keys", "value": "yes"}, "value must be true or false"),
    ("role.create", {"name": "a"}, "trust_policy is missing"),
    ("role.trust", {"name": "a"}, "trust_policy is missing"),
    ("token.restrict", {"id": "a"}, "policy is missing"),
    ("key.create", {"principal": "role/x"}, "principal is a role"),
    ("key.create", {"principal": "group/x"}, "principal must be user/NAME"),
    ("key.create", {"principal": "user/a/b"}, "principal must be user/NAME"),
    ("token.create", {"principal": "service-account/x"}, "principal must be a user"),
    ("token.create", {"principal": "x", "lifetime": "soon"}, "lifetime must be a duration"),
    ("token.create", {"principal": "x", "lifetime": "-1d"}, "lifetime must be a duration"),
    ("session.create", {"principal": "x", "duration": "37h"}, "duration must be between"),
    ("session.create", {"principal": "x", "duration": "59s"}, "duration must be between"),
    ("policy.put", {"name": "p", "document": "{"}, ""),
    ("policy.put", {"name": "p", "document": {}}, "document must be text"),
]


@pytest.mark.parametrize(("name", "given", "message"), BAD)
async def test_invalid_inputs_change_nothing(world: World, name: str, given: dict[str, Any], message: str) -> None:
    before = world.dump()
    with pytest.raises(Invalid) as refused:
        await administer(world.store, world.vault, world.clock, name, **given)
    assert str(refused.value).startswith(message)
    assert world.dump() == before


@pytest.mark.parametrize(("text", "seconds"), [("1h", 3600), ("90m", 5400), ("60", 60), ("1.5h", 5400), ("PT2H", 7200)])
async def test_durations_are_a_number_with_a_unit_or_iso_8601(world: World, text: str, seconds: int) -> None:
    made = await world.admin("session.create", principal="administrator", duration=text)
    ends = (world.clock.now + timedelta(seconds=seconds)).replace(microsecond=0, tzinfo=None)
    assert made["expires_at"] == f"{ends.isoformat()}Z"


async def test_the_account_is_the_first_unless_another_is_given(world: World) -> None:
    for account, expected in ((None, OURS), ("", OURS), (THEIRS.account, THEIRS)):
        given: dict[str, Any] = {"name": f"elf-of-{account}"} | ({} if account is None else {"account": account})
        made = await administer(world.store, world.vault, world.clock, "user.create", **given)
        assert made["id"] in [row["id"] for row in await world.admin("user.list", expected)]


@pytest.mark.parametrize("name", ["", "user", "user.rename", "create.user", "__class__"])
async def test_unknown_commands_are_not_found(world: World, name: str) -> None:
    with pytest.raises(NotFound):
        await administer(world.store, world.vault, world.clock, name)


def touching(id: str, token: str) -> dict[str, dict[str, Any]]:
    """The input of every command that names an object: elf, robot, hat, p, the access key ``id`` and the ``token``."""
    principals = {"user": "elf", "service-account": "robot", "role": "hat"}
    policy, elf = {"name": "p"}, {"principal": "elf"}
    verbs = ("disable", "enable", "delete")
    return {
        **{f"{kind}.{verb}": {"name": name} for kind, name in principals.items() for verb in verbs},
        **{f"key.{verb}": {"id": id} for verb in verbs},
        "role.trust": {"name": "hat", "trust_policy": TRUST},
        "token.restrict": {"id": token, "policy": POLICY},
        "key.create": elf,
        "key.create of a robot": {"principal": "service-account/robot"},
        "key.list": elf,
        "token.create": elf,
        "token.list": elf,
        "session.create": elf,
        "policy.show": policy,
        "policy.delete": policy,
        "policy.attach": {**elf, "policy": "thingmint/ReadOnly"},
        "policy.attach one of theirs": {"principal": "administrator", "policy": "p"},
        "policy.detach": {**elf, "policy": "p"},
        "policy.attached": elf,
    }


async def populate(world: World, scope: Scope) -> tuple[str, str]:
    """Makes the objects that ``touching`` names. Returns the ids of the access key and the token."""
    await world.admin("user.create", scope, name="elf")
    await world.admin("service-account.create", scope, name="robot")
    await world.admin("role.create", scope, name="hat", trust_policy=TRUST)
    await world.admin("policy.put", scope, name="p", document=POLICY)
    token = (await world.admin("token.create", scope, principal="elf"))["token"]
    return str((await world.admin("key.create", scope, principal="elf"))["access_key_id"]), token.split("_")[1]


async def test_one_account_cannot_touch_another(world: World) -> None:
    ids = await populate(world, THEIRS)
    await world.admin("policy.attach", THEIRS, principal="elf", policy="p")
    before = world.dump()
    for scope in (OURS, NOWHERE):
        for title, given in touching(*ids).items():
            with pytest.raises(NotFound):
                await world.admin(title.partition(" ")[0], scope, **given)
            assert world.dump() == before, title


@pytest.mark.parametrize("title", touching("", ""))
async def test_each_command_works_within_its_account(world: World, title: str) -> None:
    """Shows that the commands of the test above fail only because of the account."""
    ids = await populate(world, THEIRS)
    if title != "policy.delete":
        await world.admin("policy.attach", THEIRS, principal="elf", policy="p")
    await world.admin(title.partition(" ")[0], THEIRS, **touching(*ids)[title])


async def test_an_unknown_account_has_empty_lists_and_cannot_be_changed(world: World) -> None:
    for noun in ("folder", "user", "service-account", "role"):
        assert await world.admin(f"{noun}.list", NOWHERE) == []
    assert all(row["ready_made"] for row in await world.admin("policy.list", NOWHERE))
    before = world.dump()
    for command, given in (
        ("folder.create", {"name": "f"}),
        ("user.create", {"name": "elf"}),
        ("role.create", {"name": "elf", "trust_policy": TRUST}),
        ("policy.put", {"name": "p", "document": POLICY}),
        ("account.set", {"name": "keys_over_mqtt", "value": "false"}),
        ("account.show", {}),
        ("region.add", {"name": "eu-west-1"}),
        ("region.list", {}),
    ):
        with pytest.raises(NotFound):
            await world.admin(command, NOWHERE, **given)
    assert world.dump() == before


async def test_audit_records_name_the_changed_resources(world: World) -> None:
    account, key, token = OURS.account, world.ours.access_key_id, world.ours.token.split("_")[1]
    elf, administrator = f"arn:aws:iam::{account}:user/elf", f"arn:aws:iam::{account}:user/administrator"
    policy = f"arn:aws:iam::{account}:policy/p"
    changes: list[tuple[str, dict[str, Any], str]] = [
        ("account.set", {"name": "keys_over_mqtt", "value": "false"}, f"arn:aws:iam::{account}:root"),
        ("region.add", {"name": "eu-west-1"}, f"arn:aws:iam::{account}:root"),
        ("user.create", {"name": "elf"}, elf),
        ("key.create", {"principal": "elf"}, elf),
        ("token.create", {"principal": "elf"}, elf),
        ("session.create", {"principal": "elf"}, elf),
        ("key.disable", {"id": key}, administrator),
        ("token.delete", {"id": token}, administrator),
        ("policy.put", {"name": "p", "document": POLICY}, policy),
        ("policy.attach", {"principal": "elf", "policy": "p"}, elf),
        ("policy.detach", {"principal": "elf", "policy": "p"}, elf),
        ("policy.delete", {"name": "p"}, policy),
        ("user.disable", {"name": "elf"}, elf),
        ("user.delete", {"name": "elf"}, elf),
    ]
    for command, given, _ in changes:
        await world.admin(command, **given)
        world.clock.advance(seconds=1)
    folder = await world.admin("folder.create", name="f")
    world.clock.advance(seconds=1)
    third = await world.admin("account.create", name="third")
    assert [record["resources"] for record in await recorded(world)] == [
        *([resource] for _, _, resource in changes),
        [f"yandex:folder/{folder['id']}"],
        [f"arn:aws:iam::{third['account']}:root"],
    ]


def test_nouns_are_listed_in_a_fixed_order() -> None:
    nouns = dict.fromkeys(command.noun for command in COMMANDS.values())
    assert " ".join(nouns) == "account hostname region folder user service-account role key token session policy"
    assert [command.verb for command in COMMANDS.values() if command.noun == "token"] == [
        "create",
        "list",
        "restrict",
        "disable",
        "enable",
        "delete",
    ]


def test_all_commands_write_except_show_and_list() -> None:
    reading = {name for name, command in COMMANDS.items() if not command.operation.writes}
    assert {name.partition(".")[2] for name in reading} == {"list", "show", "attached"}


def test_commands_about_several_accounts_are_instance_wide() -> None:
    assert {command.name for command in COMMANDS.values() if command.instance_wide} == {
        "account.create",
        "account.list",
        "hostname.list",
        "hostname.add",
        "hostname.first",
        "hostname.remove",
    }
