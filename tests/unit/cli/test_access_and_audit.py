"""`thingmint access` and `thingmint audit` on a directory without a running server, within the tests' process."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import orjson
import pytest

from tests.tables import each_row
from tests.unit.vectors import FakeClock
from thingmint import server
from thingmint.access.administration import COMMANDS
from thingmint.access.audit_events import new_record_id
from thingmint.access.directory import Directory
from thingmint.instance import create as create_module
from thingmint.instance.audit_key import check_audit_key
from thingmint.instance.create import Instance, read_master_keys
from thingmint.settings import ConfigError
from thingmint.store import audit as sql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.unit.cli.shell import Cli, Shell
    from thingmint.instance.layout import DataDirectory
    from thingmint.store.engine import Store, Transaction

POLICY = '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}'


@each_row("name", [*COMMANDS, "rotate-master-key"])
def test_every_help_has_an_example(shell: Shell, name: str) -> None:
    words = ["session"] if name == "session.create" else name.split(".")
    assert f"thingmint access {' '.join(words)}" in shell("access", *words, "--help").partition("Example:")[2]


@pytest.mark.parametrize("name", ["list", "export", "verify", "rekey"])
def test_every_help_of_audit_has_an_example(shell: Shell, name: str) -> None:
    assert f"thingmint audit {name}" in shell("audit", name, "--help").partition("Example")[2]


class TestAccess:
    def test_a_user_is_created_used_and_deleted(self, shell: Shell, tmp_path: Path) -> None:
        (tmp_path / "mint.json").write_text(POLICY)
        assert shell.access("user", "create", "alice")["name"] == "alice"
        shell.access("policy", "put", "mint", "--document", "mint.json")
        shell.access("policy", "attach", "user/alice", "--policy", "mint")
        key = shell.access("key", "create", "user/alice")
        token = shell.access("token", "create", "alice", "--policy", "mint.json", "--lifetime", "30d")["token"]
        session = shell.access("session", "--principal", "user/alice", "--duration", "15m", "--policy", "mint.json")
        assert session["session_token"]

        async def work() -> tuple[str, str, bool]:
            instance = await Instance.open(shell.directory, lambda: None, None)
            directory = Directory(instance.store, instance.vault, FakeClock())
            caller, secret = await directory.find_access_key(key["access_key_id"], None)
            narrowed = (await directory.authenticate_token(token)).narrowed is not None
            await instance.store.close()
            return caller.name, secret, narrowed

        assert asyncio.run(work()) == ("alice", key["secret_access_key"], True)
        assert {row["kind"] for row in shell.access("key", "list", "alice")} == {"access-key", "session"}
        shell.access("key", "disable", key["access_key_id"])
        shell.access("user", "delete", "alice")
        assert [row["name"] for row in shell.access("user", "list")] == ["administrator"]

    def test_an_access_key_is_imported_from_a_file(self, shell: Shell, tmp_path: Path) -> None:
        id, secret = "AKIAI44QH8DHBEXAMPLE", "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY"
        (tmp_path / "secret").write_text(f"{secret}\n")
        arguments = ("key", "create", "user/administrator", "--access-key-id", id, "--secret-access-key-file")
        assert shell.access(*arguments, str(tmp_path / "secret")) == {"access_key_id": id}
        (tmp_path / "wrong").write_text(f"{secret}x")
        at = ("--data-dir", shell.directory.root)
        error = shell.cli.refused("access", *arguments, str(tmp_path / "wrong"), *at, status=1)
        assert "secret_access_key must be 40" in error
        assert secret not in error
        (tmp_path / "binary").write_bytes(b"\xff" * 40)
        error = shell.cli.refused("access", *arguments, str(tmp_path / "binary"), *at)
        assert error.endswith("cannot be read: it is not text")

    def test_answers_are_tables_and_lines(self, shell: Shell) -> None:
        at = ("--data-dir", str(shell.directory.root))
        assert shell("access", "role", "list", *at) == "None.\n"
        assert "administrator" in shell("access", "user", "list", *at)
        made = shell("access", "account", "create", "staging", "--region", "eu-central-1", *at)
        assert "secret_access_key: " in made
        assert "-----BEGIN PRIVATE KEY-----" in made

    @pytest.mark.parametrize(
        ("arguments", "status", "message"),
        [
            (("user", "create", "a b"), 1, "name must be 1 to 64 letters"),
            (("user", "create", "administrator"), 1, "user administrator already exists"),
            (("user", "delete", "nobody"), 1, "user nobody does not exist"),
            (("key", "create", "group/x"), 1, "principal must be user/NAME"),
            (("key", "delete", "AKIANONE"), 1, "credential AKIANONE does not exist"),
            (
                ("policy", "attach", "administrator", "--policy", "thingmint/None"),
                1,
                "policy thingmint/None does not exist",
            ),
            (
                ("policy", "attach", "administrator", "--policy", "yandex/editor", "--resource", "x"),
                1,
                "resource must be",
            ),
            (("session", "--principal", "administrator", "--duration", "1s"), 1, "duration must be between"),
            (
                ("token", "create", "administrator", "--lifetime", "soon"),
                1,
                "lifetime must be a duration",
            ),
            (("user", "create"), 2, "Missing argument"),
            (("policy", "put", "p", "--document", "missing.json"), 2, "document: missing.json cannot be read"),
            (("user", "list", "--account", "1"), 1, "account must be an account's 12 digits"),
        ],
    )
    def test_mistakes_are_one_line(self, shell: Shell, arguments: tuple[str, ...], status: int, message: str) -> None:
        printed = shell("access", *arguments, "--data-dir", str(shell.directory.root), expect=status)
        assert printed.startswith("thingmint: ")
        assert message.lower() in printed.lower()
        assert printed.count("\n") == 1

    @pytest.mark.parametrize(
        "command",
        [("access", "user", "list"), ("audit", "list"), ("audit", "export"), ("audit", "verify"), ("store", "check")],
        ids=" ".join,
    )
    def test_without_an_instance_the_next_step_is_named(
        self, shell: Shell, tmp_path: Path, command: tuple[str, ...]
    ) -> None:
        printed = shell(*command, "--data-dir", str(tmp_path / "empty"), expect=2)
        assert "choose another --data-dir, or run thingmint init first" in printed


class TestMasterKey:
    def test_rotation_reseals_every_secret(self, shell: Shell) -> None:
        before = read_master_keys(shell.directory)
        key = shell.access("key", "create", "administrator")
        printed = shell("access", "rotate-master-key", "--data-dir", str(shell.directory.root))
        assert printed.startswith("2 secrets are sealed")
        [after] = read_master_keys(shell.directory)
        assert after not in before

        async def work() -> str:
            instance = await Instance.open(shell.directory, lambda: None, None)
            found = await Directory(instance.store, instance.vault, FakeClock()).find_access_key(
                key["access_key_id"], None
            )
            await instance.store.close()
            return found[1]

        assert asyncio.run(work()) == key["secret_access_key"]

    @pytest.mark.parametrize("resealed", [False, True])
    def test_an_interrupted_rotation_leaves_all_secrets_readable(self, shell: Shell, resealed: bool) -> None:
        """Interrupted when the file has both keys: before or after all secrets are sealed under the new one."""
        write = create_module.write_master_keys

        def interrupted(directory: DataDirectory, keys: Sequence[bytes]) -> None:
            if len(keys) == 1:
                raise KeyboardInterrupt
            write(directory, keys)
            if not resealed:
                raise KeyboardInterrupt

        with shell.monkeypatch.context() as patch:
            patch.setattr(create_module, "write_master_keys", interrupted)
            with pytest.raises(KeyboardInterrupt):
                asyncio.run(create_module.rotate(shell.directory))
        assert len(read_master_keys(shell.directory)) == 2
        assert asyncio.run(create_module.rotate(shell.directory)) == 1
        assert len(read_master_keys(shell.directory)) == 1

    def test_a_master_key_from_the_settings_is_not_rotated(self, shell: Shell) -> None:
        [key] = read_master_keys(shell.directory)
        shell.directory.master_key.unlink()
        shell.monkeypatch.setenv("THINGMINT_MASTER_KEY", key.hex())
        assert shell.access("key", "create", "administrator")
        printed = shell("access", "rotate-master-key", "--data-dir", str(shell.directory.root), expect=2)
        assert "is not in the data directory" in printed

    @pytest.mark.parametrize("value", ["", "zz", "00" * 31, "00" * 33])
    def test_malformed_master_keys_are_refused(self, shell: Shell, value: str) -> None:
        shell.monkeypatch.setenv("THINGMINT_MASTER_KEY", value)
        printed = shell("access", "user", "list", "--data-dir", str(shell.directory.root), expect=2)
        assert printed == "thingmint: master-key: must be 64 hexadecimal digits\n"


class TestAudit:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["verify", "--checkpoint", "/nonexistent"], "checkpoint: "),
            (["list", "--limit", "0"], "--limit"),
            (["list", "--output", "xml"], "--output"),
        ],
    )
    def test_wrong_arguments_are_one_line(self, shell: Shell, arguments: list[str], words: str) -> None:
        assert words in shell.cli.refused("audit", *arguments, "--data-dir", shell.directory.root)

    def test_commands_are_recorded(self, shell: Shell) -> None:
        shell.access("user", "create", "alice")
        shell.access("user", "list")
        shell("access", "user", "delete", "bob", "--data-dir", str(shell.directory.root), expect=1)
        shell("access", "rotate-master-key", "--data-dir", str(shell.directory.root))
        records = orjson.loads(shell.audit("list", "--output", "json"))
        assert [(r["event"], r["error"]) for r in records] == [
            ("RotateMasterKey", None),
            ("DeleteUser", "NotFound"),
            ("ListUsers", None),
            ("CreateUser", None),
        ]
        assert {(r["source"], r["agent"]) for r in records} == {("thingmint", "thingmint command line")}
        assert records[-1]["resources"][0].endswith(":user/alice")
        assert "CreateUser" in shell.audit("list")
        assert orjson.loads(shell.audit("list", "--output", "json", "--account", "0" * 12)) == []
        lines = [orjson.loads(line) for line in shell.audit("export").splitlines()]
        assert [line["sequence"] for line in lines] == [None] * len(lines)
        shell.seal()
        lines = [orjson.loads(line) for line in shell.audit("export").splitlines()]
        places = [("changes", 2), ("activity", 2), ("activity", 1), ("changes", 1)]
        assert [(line["stream"], line["sequence"]) for line in lines] == places
        assert all(len(line["hash"]) == 64 for line in lines)

    def test_all_pages_are_exported(self, shell: Shell) -> None:
        async def work() -> None:
            instance, clock = await Instance.open(shell.directory, lambda: None, None), FakeClock()

            async def body(tx: Transaction) -> None:
                for _ in range(2500):
                    await sql.insert_record(tx, new_record_id(clock()), None, "{}")

            await instance.store.write(body)
            await instance.store.close()

        asyncio.run(work())
        ids = [orjson.loads(line)["id"] for line in shell.audit("export").splitlines()]
        assert ids == sorted(ids, reverse=True)
        assert len(set(ids)) == 2500

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            ("UPDATE audit_records SET record = '{}' WHERE sequence = 2", "record 2 was altered"),
            ("DELETE FROM audit_records WHERE sequence = 2", "record 2 was removed"),
            ("DELETE FROM audit_records WHERE sequence = 3", "the audit log was cut off: records 3 to 3 are gone"),
            ("DELETE FROM audit_checkpoints", None),
        ],
    )
    def test_verify_names_the_first_changed_record(self, shell: Shell, edit: str, message: str | None) -> None:
        for name in ("alice", "bob", "carol"):
            shell.access("user", "create", name)
        shell.seal()
        assert shell.audit("verify") == "3 records and 1 checkpoints are intact.\n"
        shell.edit(edit)
        if message is None:
            assert shell.audit("verify") == "3 records and 1 checkpoints are intact.\n"
        else:
            printed = shell.audit("verify", expect=1)
            assert printed.startswith(f"thingmint: the audit log was tampered with: {message}")

    def test_verify_counts_the_records_that_are_not_protected_yet(self, shell: Shell) -> None:
        shell.access("user", "create", "alice")
        assert shell.audit("verify").splitlines() == [
            "0 records and 0 checkpoints are intact.",
            "1 more records are not in the chain yet; a running server adds them.",
        ]
        shell.seal()
        shell.directory.audit_checkpoints.unlink()
        shell.edit("DELETE FROM audit_checkpoints")
        assert shell.audit("verify").splitlines() == [
            "1 records and 0 checkpoints are intact.",
            "No checkpoint covers the last 1 records yet: changes to them would not be noticed.",
        ]

    @pytest.mark.parametrize("value", ["x'ff'", "CAST(x'ff' AS TEXT)", "'{'"])
    def test_a_damaged_record_is_shown_as_not_readable(self, shell: Shell, value: str) -> None:
        for name in ("alice", "bob"):
            shell.access("user", "create", name)
        shell.seal()
        shell.edit(f"UPDATE audit_records SET record = {value} WHERE sequence = 1")
        assert "record 1 was altered" in shell.audit("verify", expect=1)
        assert "not readable" in shell.audit("list")
        assert len(shell.audit("export").splitlines()) == 2

    def test_verify_with_a_file_of_checkpoints(self, shell: Shell, tmp_path: Path) -> None:
        shell.access("user", "create", "alice")
        shell.seal()
        kept = shell.directory.audit_checkpoints.rename(tmp_path / "kept.jsonl")
        shell.edit("DELETE FROM audit_checkpoints")
        shell.edit("DELETE FROM audit_records")
        assert shell.audit("verify") == "0 records and 0 checkpoints are intact.\n"
        printed = shell.audit("verify", "--checkpoint", str(kept), expect=1)
        assert "records 1 to 1 are gone" in printed
        assert "cannot be read" in shell.audit("verify", "--checkpoint", "missing", expect=2)


def test_the_store_is_closed_when_the_server_does_not_start(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    stores: list[Store] = []

    async def refuse(instance: Instance, *_: object, **_named: object) -> None:
        stores.append(instance.store)
        raise ConfigError("api-port", "cannot be listened on")

    monkeypatch.setattr(server, "serve", refuse)
    assert "api-port: cannot be listened on" in shell("serve", "--data-dir", str(shell.directory.root), expect=2)
    assert [store.ready for store in stores] == [False]


class TestAuditFilters:
    CERTIFICATE = "c" * 64
    PRINCIPAL = f"arn:aws:iot:us-east-1:123456789012:cert/{CERTIFICATE}"
    RECORDS = (
        {
            "event": "Connect",
            "outcome": "refused",
            "clientId": "lamp",
            "credential": CERTIFICATE,
            "reason": "no statement allows it",
            "resource": "arn:aws:iot:us-east-1:123456789012:client/lamp",
        },
        {"event": "Connect", "outcome": "success", "resource": "old"},  # the old form, without clientId
        {"event": "CreateThing", "outcome": "success", "resources": ["arn:aws:iot:us-east-1:123456789012:thing/x"]},
        {"event": "UpdateCertificate", "outcome": "success", "resources": [PRINCIPAL]},
        {"event": "Connect", "outcome": "refused", "certificate": CERTIFICATE},
    )

    @pytest.fixture
    def kept(self, shell: Shell) -> Shell:
        async def work() -> None:
            instance = await Instance.open(shell.directory, lambda: None, None)

            async def body(tx: Transaction) -> None:
                for number, record in enumerate(self.RECORDS):
                    await sql.insert_record(tx, f"{number:016x}{0:016x}", "123456789012", orjson.dumps(record).decode())

            await instance.store.write(body)
            await instance.store.close()

        asyncio.run(work())
        return shell

    @each_row(
        ("filters", "found"),
        [
            ((), [4, 3, 2, 1, 0]),
            (("--since", "1970-01-01T00:00:00.000002Z"), [4, 3, 2]),
            (("--until", "1970-01-01T00:00:00.000002Z"), [1, 0]),
            (("--since", "-1d"), []),
            (("--until", "1970-01-01T00:00:00.000002Z", "--event", "Connect", "--account", "123456789012"), [1, 0]),
            (("--event", "Connect"), [4, 1, 0]),
            (("--event", "Connect", "--account", "123456789012"), [4, 1, 0]),
            (("--outcome", "refused"), [4, 0]),
            (("--client-id", "lamp"), [0]),
            (("--client-id", "old"), [1]),
            (("--client-id", "lam"), []),
            (("--resource", "arn:aws:iot:us-east-1:123456789012:thing/x"), [2]),
            (("--resource", "arn:aws:iot:us-east-1:123456789012:client/lamp"), [0]),
            (("--certificate", CERTIFICATE), [4, 3, 0]),
            (("--certificate", CERTIFICATE.upper(), "--event", "Connect"), [4, 0]),
            (("--principal", PRINCIPAL), []),
        ],
    )
    def test_filters_choose_records(self, kept: Shell, filters: tuple[str, ...], found: list[int]) -> None:
        expected = [self.RECORDS[number] for number in found]
        assert orjson.loads(kept.audit("list", *filters, "--output", "json")) == expected
        exported = kept.audit("export", *filters).splitlines()
        assert [orjson.loads(line)["record"] for line in exported] == expected

    def test_the_table_has_the_reason(self, kept: Shell) -> None:
        assert "no statement allows it" in kept.audit("list", "--client-id", "lamp")

    def test_an_unknown_outcome_is_refused(self, kept: Shell) -> None:
        assert "--outcome" in kept.cli.refused("audit", "list", "--outcome", "failed", "--data-dir", "data")


class TestRekey:
    def lose(self, shell: Shell) -> bytes:
        shell.access("user", "create", "alice")
        shell.seal()
        shell.directory.audit_key.unlink()
        return shell.directory.audit_public_key.read_bytes()

    async def start(self, directory: DataDirectory) -> None:
        """Runs the steps of a server's start that use the audit key."""
        instance = await Instance.open(directory, lambda: None, None)
        try:
            await check_audit_key(instance.store, directory)
            instance.audit_key()
        finally:
            await instance.store.close()

    def test_a_lost_key_stops_the_start_until_it_is_replaced(self, shell: Shell) -> None:
        public = self.lose(shell)
        with pytest.raises(ConfigError, match=r"audit\.key.* is missing.*thingmint audit rekey"):
            asyncio.run(self.start(shell.directory))
        assert shell.directory.audit_public_key.read_bytes() == public
        assert "are intact" in shell.audit("verify")
        assert "did not sign the replacement" in shell.audit("rekey")
        asyncio.run(self.start(shell.directory))
        shell.access("user", "create", "bob")
        shell.seal()
        assert shell.audit("verify").startswith("3 records and 2 checkpoints are intact")
        records = orjson.loads(shell.audit("list", "--output", "json"))
        assert [record["event"] for record in records] == ["CreateUser", "ReplaceAuditKey", "CreateUser"]

    @pytest.mark.parametrize("name", ["audit.pem", "audit-checkpoints.jsonl"])
    def test_a_lost_key_stops_the_start_when_other_files_are_lost_too(self, shell: Shell, name: str) -> None:
        self.lose(shell)
        (shell.directory.root / name).unlink()
        with pytest.raises(ConfigError, match="is missing"):
            asyncio.run(self.start(shell.directory))
        assert not (shell.directory.root / name).exists()

    def test_an_existing_key_signs_its_replacement(self, shell: Shell) -> None:
        for name in ("alice", "bob", "carol"):
            shell.access("user", "create", name)
            shell.seal()
            assert "The old key signed the replacement" in shell.audit("rekey")
        shell.seal()
        assert "are intact" in shell.audit("verify")
        assert len(shell.directory.audit_key_changes.read_text().splitlines()) == 3

    def test_later_signatures_of_the_old_key_are_refused(self, shell: Shell) -> None:
        shell.access("user", "create", "alice")
        shell.seal()
        old = shell.directory.audit_key.read_bytes()
        shell.audit("rekey")
        shell.access("user", "create", "bob")
        new = shell.directory.audit_key.read_bytes()
        shell.directory.audit_key.write_bytes(old)
        shell.seal()
        shell.directory.audit_key.write_bytes(new)
        assert "has a false signature" in shell.audit("verify", expect=1)

    def test_a_key_of_another_instance_stops_the_start(self, shell: Shell) -> None:
        shell.access("user", "create", "alice")
        shell.seal()
        old = shell.directory.audit_key.read_bytes()
        shell.audit("rekey")
        shell.directory.audit_key.write_bytes(old)
        with pytest.raises(ConfigError, match="is not the key of"):
            asyncio.run(self.start(shell.directory))
        shell.audit("rekey")
        asyncio.run(self.start(shell.directory))
        assert "are intact" in shell.audit("verify")

    def test_an_altered_statement_is_ignored(self, shell: Shell) -> None:
        self.lose(shell)
        shell.audit("rekey")
        changes = shell.directory.audit_key_changes
        statement = orjson.loads(changes.read_text())
        statement["through"]["changes"] += 1000
        changes.write_bytes(orjson.dumps(statement) + b"\n")
        assert "has a false signature" in shell.audit("verify", expect=1)

    def test_rekey_needs_the_public_key(self, shell: Shell) -> None:
        self.lose(shell)
        shell.directory.audit_public_key.unlink()
        assert "restore it from a backup" in shell.cli.refused("audit", "rekey", "--data-dir", "data")
        assert not shell.directory.audit_key.exists()

    def test_an_instance_without_an_audit_key_gets_one(self, shell: Shell) -> None:
        shell.directory.audit_key.unlink()
        shell.directory.audit_public_key.unlink()
        asyncio.run(self.start(shell.directory))
        assert shell.directory.audit_public_key.exists()

    @pytest.mark.parametrize("column", ["sequence", "hash"])
    def test_an_altered_end_of_the_chain_is_named_and_keeps_the_key(self, shell: Shell, column: str) -> None:
        shell.access("user", "create", "alice")
        shell.seal()
        key = shell.directory.audit_key.read_bytes()
        shell.edit(f"UPDATE audit_records SET {column} = 'x'")
        error = shell.cli.refused("audit", "rekey", "--data-dir", shell.directory.root, status=1)
        assert error.startswith("the audit log was tampered with: the end of the chain of changes is not readable")
        assert "The key was not replaced. Run thingmint audit verify" in error
        assert shell.directory.audit_key.read_bytes() == key
        assert not shell.directory.audit_key_changes.exists()


def become_a_directory(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


REPLACED: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("x\n"),
    "bytes": lambda path: path.write_bytes(b"\xff\x00\n"),
    "nothing": lambda path: path.unlink(missing_ok=True),
    "directory": become_a_directory,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
}
FILES = [
    *("audit.pem", "audit.key", "audit-keys.jsonl", "audit-checkpoints.jsonl"),
    *("ca.pem", "ca.key", "device-ca.pem", "thingmint.db"),
]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_gets_one_line_from_each_command_of_audit(
    shell: Shell, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shell.access("user", "create", "alice")
    shell.audit("rekey")
    shell.seal()
    for title, damage in REPLACED.items():
        for command in (*(("list", "export") if name == "thingmint.db" else ()), "verify", "rekey"):
            root = tmp_path_factory.mktemp("damaged") / "data"
            shutil.copytree(shell.directory.root, root, ignore=shutil.ignore_patterns("*.sock"))
            damage(root / name)
            said, status = shell.cli.ended("audit", command, "--data-dir", root)
            assert status in (0, 1, 2), (title, command, said)
            if status:
                assert said.startswith("thingmint: "), (title, command, said)
                assert said.count("\n") == 1, (title, command, said)
                assert (status == 1) == ("tampered with" in said), (title, command, said)


def test_a_database_without_a_table_is_said_to_be_damaged(shell: Shell) -> None:
    shell.access("user", "create", "alice")
    shell.edit("DROP TABLE audit_records")
    for command in ("list", "export", "verify", "rekey"):
        error = shell.cli.refused("audit", command, "--data-dir", shell.directory.root)
        assert "thingmint.db is damaged (no such table" in error, command
        assert "restore it from a backup" in error


def test_the_export_has_altered_hashes_too(shell: Shell) -> None:
    shell.access("user", "create", "alice")
    shell.seal()
    shell.edit("UPDATE audit_records SET hash = 'x'")
    assert orjson.loads(shell.audit("export"))["hash"] is None


@pytest.mark.parametrize("passphrase", ["", "wrong"])
def test_a_key_is_replaced_with_the_right_passphrase_only(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str
) -> None:
    monkeypatch.setenv("THINGMINT_CA_PASSPHRASE", "a right one")
    cli("init", "--data-dir", tmp_path / "sealed")
    monkeypatch.delenv("THINGMINT_CA_PASSPHRASE")
    if passphrase:
        monkeypatch.setenv("THINGMINT_CA_PASSPHRASE", passphrase)
    key = (tmp_path / "sealed" / "audit.key").read_bytes()
    for lost in (False, True):
        if lost:
            (tmp_path / "sealed" / "audit.key").unlink()
        assert "ca-passphrase" in cli.refused("audit", "rekey", "--data-dir", tmp_path / "sealed")
        assert lost or (tmp_path / "sealed" / "audit.key").read_bytes() == key


@pytest.mark.parametrize("name", ["", "missing", "data/ca.pem", "data/thingmint.db"])
def test_a_file_without_checkpoints_is_named(shell: Shell, tmp_path: Path, name: str) -> None:
    shell.access("user", "create", "alice")
    shell.seal()
    said, status = shell.cli.ended(
        "audit", "verify", "--data-dir", shell.directory.root, "--checkpoint", tmp_path / name
    )
    assert status in (1, 2)
    assert str(tmp_path / name) in said
    assert said.count("\n") == 1
