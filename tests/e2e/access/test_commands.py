"""`thingmint access` with and without a running server, and the same over the native API."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from tests.e2e.access.local_admin import LocalAdmin, allow, database, document, error_of, refusal
from tests.e2e.commands import in_process, thingmint
from thingmint.access.administration import COMMANDS
from thingmint.admin import AdminError
from thingmint.testing import ServerFailed, running_server

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.testing import RunningServer


def access(data: Path, *words: str | Path, run: Any = in_process) -> Any:
    done = run("access", *words, "--data-dir", data, "--output", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_commands_work_with_and_without_a_server(tmp_path: Path) -> None:
    data, policy = tmp_path / "data", tmp_path / "mint.json"
    policy.write_text(document(allow("iot:List*")))
    assert in_process("init", "--data-dir", data).returncode == 0
    made = access(data, "user", "create", "alice", run=thingmint)
    assert set(made) == {"id", "name", "status", "created_at"}
    access(data, "policy", "put", "mint", "--document", policy)
    access(data, "policy", "attach", "user/alice", "--policy", "mint")
    key = access(data, "key", "create", "user/alice")
    with running_server(data) as server:
        assert stat.S_IMODE((data / "admin.sock").stat().st_mode) == 0o600
        with LocalAdmin(server).iot(key) as iot:
            iot.list_certificates()
            access(data, "policy", "detach", "alice", "--policy", "mint", run=thingmint)
            assert refusal(iot.list_certificates)[1] == "AccessDeniedException"
        assert [user["name"] for user in access(data, "user", "list")] == ["administrator", "alice"]
    assert not (data / "admin.sock").exists()
    assert access(data, "policy", "delete", "mint") == {"name": "mint", "deleted": True}


def test_lists_are_printed_as_tables(local_admin: LocalAdmin) -> None:
    user = local_admin.user("thingmint/ReadOnly")
    words = ("--data-dir", local_admin.data)
    token = in_process("access", "token", "create", user, "--description", "[/b] [red]x", *words).stdout
    assert token.startswith("token: tma_")
    listed = in_process("access", "token", "list", user, *words)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "[/b]" in listed.stdout
    assert "ReadOnly" in in_process("access", "policy", "attached", user, *words).stdout
    assert in_process("access", "policy", "attached", local_admin.user(), *words).stdout == "None.\n"


def test_tables_do_not_wrap_ids(local_admin: LocalAdmin) -> None:
    user = local_admin.user()
    key = local_admin.key(user)["access_key_id"]
    assert key in in_process("access", "key", "list", user, "--data-dir", local_admin.data).stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["user", "create", "al ice"], "name must be"),
        (["user", "create", "administrator"], "user administrator already exists"),
        (["user", "delete", "nobody"], "user nobody does not exist"),
        (["user", "list", "--account", "12"], "account must be an account's 12 digits"),
        (["key", "create", "group/x"], "principal must be user/NAME"),
        (["key", "delete", "AKIANONE"], "credential AKIANONE does not exist"),
        (["policy", "attach", "administrator", "--policy", "thingmint/None"], "policy thingmint/None does not exist"),
        (["policy", "attach", "administrator", "--policy", "yandex/editor", "--resource", "x"], "resource must be"),
        (["session", "--principal", "administrator", "--duration", "1s"], "duration must be between"),
    ],
)
def test_wrong_inputs_are_one_line(local_admin: LocalAdmin, words: list[str], named: str) -> None:
    done = in_process("access", *words, "--data-dir", local_admin.data)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("thingmint: ")
    assert named in done.stderr


@pytest.mark.parametrize(
    ("content", "named"),
    [("{", "document"), (document({**allow("x"), "Effect": "Maybe"}), "Effect"), (None, "cannot be read")],
)
def test_malformed_documents_are_refused(
    local_admin: LocalAdmin, tmp_path: Path, content: str | None, named: str
) -> None:
    file = tmp_path / "policy.json"
    if content is not None:
        file.write_text(content)
    done = in_process("access", "policy", "put", "p", "--document", file, "--data-dir", local_admin.data)
    assert done.returncode in (1, 2)
    assert len(done.stderr.splitlines()) == 1
    assert named.lower() in done.stderr.lower()


@pytest.mark.parametrize("given", [{"name": "x", "region": ["Not A Region"]}, {"name": "x", "region": ["'"]}])
def test_malformed_regions_are_refused(local_admin: LocalAdmin, given: dict[str, Any]) -> None:
    with pytest.raises(AdminError, match="region"):
        local_admin.ask("account.create", **given)


def test_a_lifetime_out_of_range_is_refused(local_admin: LocalAdmin) -> None:
    with pytest.raises(AdminError, match="lifetime"):
        local_admin.ask("token.create", principal="administrator", lifetime="999999999d")


def test_a_trust_policy_can_deny_assuming_a_role(local_admin: LocalAdmin) -> None:
    deny_all = {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    local_admin.ask("role.create", name="untrusting", trust_policy=document(deny_all))
    user = local_admin.user(allow("thingmint:AssumeRole"))
    with local_admin.native(user) as native:
        answer = native.post("/v1/access/session/create", json={"principal": "role/untrusting"})
    assert error_of(answer) == (403, "PERMISSION_DENIED")


def test_commands_make_no_data_directory(tmp_path: Path) -> None:
    done = in_process("access", "user", "list", "--data-dir", tmp_path / "typo")
    assert done.returncode == 2
    assert "run thingmint init first" in done.stderr
    assert not (tmp_path / "typo").exists()


# -- the native API -----------------------------------------------------------------------------------------------


def test_a_user_is_made_used_and_deleted_over_the_api(server: RunningServer, local_admin: LocalAdmin) -> None:
    document_ = httpx.get(f"{server.http_url}/openapi.json").json()
    validate(document_)
    with local_admin.bearer(server.token) as native:

        def ask(command: str, **given: Any) -> Any:
            answer = native.post(f"/v1/access/{command}", json=given)
            responses = document_["paths"][f"/v1/access/{command}"]["post"]["responses"]
            assert answer.status_code == 200, answer.text
            schema = responses["200"]["content"]["application/json"]["schema"]
            OAS31Validator({**schema, "components": document_["components"]}).validate(answer.json())
            return answer.json()["data"]

        ask("user/create", name="over-http")
        ask("policy/put", name="over-http", document=document(allow("iot:List*")))
        ask("policy/attach", principal="over-http", policy="over-http")
        key = ask("key/create", principal="over-http")
        session = ask("session/create", principal="over-http", duration="15m")
        for credentials in (key, session):
            with local_admin.iot(credentials) as iot:
                iot.list_certificates()
        with local_admin.bearer(ask("token/create", principal="over-http", lifetime="1h")["token"]) as other:
            assert other.get("/v1/certificates").status_code == 200
            # The user can change itself only as its policies allow.
            assert error_of(other.post("/v1/access/key/create", json={"principal": "over-http"}))[0] == 403
        ask("key/delete", id=key["access_key_id"])
        ask("policy/detach", principal="over-http", policy="over-http")
        ask("policy/delete", name="over-http")
        ask("user/delete", name="over-http")
        assert "over-http" not in {user["name"] for user in ask("user/list")}


def test_all_commands_are_served(server: RunningServer, local_admin: LocalAdmin) -> None:
    with local_admin.bearer(server.token) as native:
        for command in COMMANDS.values():
            answer = native.post(f"/v1/access/{command.noun}/{command.verb}", json={"unknown": 1})
            expected = (404, "NOT_FOUND") if command.instance_wide else (400, "VALIDATION_ERROR")
            assert error_of(answer) == expected, command.name


# -- the master key -----------------------------------------------------------------------------------------------


def test_rotating_the_master_key_reseals_every_secret(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_server(data) as server:
        local_admin = LocalAdmin(server)
        user = local_admin.user("thingmint/ReadOnly")
        key, session = local_admin.key(user), local_admin.session(user)
        refused = in_process("access", "rotate-master-key", "--data-dir", data)
        assert refused.returncode != 0
        assert len(refused.stderr.splitlines()) == 1
        assert "stop the server" in refused.stderr
        token = server.token
    before = (data / "master.key").read_text()
    with database(data) as db:
        sealed = dict(db.execute("SELECT id, secret FROM credentials WHERE kind IN ('access-key', 'session')"))
    done = thingmint("access", "rotate-master-key", "--data-dir", data)
    assert (done.returncode, done.stdout.split()[0]) == (0, str(len(sealed)))
    after = (data / "master.key").read_text()
    assert len(after.split()) == 1
    assert after != before
    assert stat.S_IMODE((data / "master.key").stat().st_mode) == 0o600
    with database(data) as db:
        assert all(
            db.execute("SELECT secret FROM credentials WHERE id = ?", [i]).fetchone()[0] != s for i, s in sealed.items()
        )
    with running_server(data) as server:
        local_admin = LocalAdmin(server)
        for credentials in (key, session):
            with local_admin.iot(credentials) as iot:
                iot.list_certificates()
        with local_admin.bearer(token) as native:
            assert native.get("/v1/certificates").status_code == 200


def test_the_master_key_may_be_in_a_file_or_a_variable(tmp_path: Path) -> None:
    """First the key is in a file, then in a variable."""
    data, file = tmp_path / "data", tmp_path / "elsewhere.key"
    old, new = "11" * 32, "22" * 32
    file.write_text(old + "\n")
    environment = {"THINGMINT_MASTER_KEY_FILE": str(file)}
    with running_server(data, environment=environment) as server:
        local_admin = LocalAdmin(server)
        key = local_admin.key(local_admin.user("thingmint/ReadOnly"))
        with local_admin.iot(key) as iot:
            iot.list_certificates()
    assert not (data / "master.key").exists()
    for variables, named in (
        ({"THINGMINT_MASTER_KEY": new}, "master-key: does not open the secrets"),
        ({}, "does not hold a master key"),
    ):
        with pytest.raises(ServerFailed, match=named), running_server(data, environment=variables):
            pass
        for words in (("key", "create", "administrator"), ("user", "list")):
            refused = in_process("access", *words, "--data-dir", data, env=variables)
            assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
            assert named in refused.stderr
    neither = {"THINGMINT_MASTER_KEY": f"{'33' * 32} {new}"}
    rotated = in_process("access", "rotate-master-key", "--data-dir", data, env=neither)
    assert (rotated.returncode, len(rotated.stderr.splitlines())) == (2, 1)
    file.write_text(f"{new}\n{old}\n")
    rotated = in_process("access", "rotate-master-key", "--data-dir", data, env=environment)
    assert rotated.returncode == 0, rotated.stderr
    with (
        running_server(data, environment={"THINGMINT_MASTER_KEY": new}) as server,
        LocalAdmin(server).iot(key) as iot,
    ):
        iot.list_certificates()
