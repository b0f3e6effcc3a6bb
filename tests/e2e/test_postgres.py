"""An instance in PostgreSQL, served by one process and by two."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.access.local_admin import allow, document
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client, registered
from tests.e2e.databases import connected, device, joined, readiness, served
from tests.e2e.material import csr_pem
from tests.e2e.mqtt.devices import Closed, Credential, Device
from tests.e2e.wire import until
from thingmint.testing import ServerFailed, running_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from thingmint.testing import RunningServer
    from thingmint.testing.postgres import Postgres

SECOND = 1.0
ALLOWED = SECOND + 1.0  # more, as the machine is busy with other tests


def test_an_instance_is_served_again_after_a_kill(tmp_path: Path, url: str) -> None:
    data = tmp_path / "data"
    with served(data, url) as server:
        iot = iot_client(server)
        made = [iot.create_keys_and_certificate(setAsActive=True)["certificateId"]]
        made += [
            iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())["certificateId"] for _ in range(5)
        ]
        iot.create_thing(thingName="lamp", attributePayload={"attributes": {"site": "berlin"}})
        with connected(server, device(tmp_path, iot), "lamp") as lamp:
            assert lamp.nothing_comes()
        server.kill()
    assert not (data / "thingmint.db").exists()
    with served(data, url) as server:
        iot = iot_client(server)
        assert {id for id, _ in registered(iot)} > set(made)
        assert iot.describe_thing(thingName="lamp")["attributes"] == {"site": "berlin"}
        assert server.stop() == 0
    done = in_process("audit", "verify", "--data-dir", data, env={"THINGMINT_STORE": url})
    assert (done.returncode, done.stderr) == (0, ""), done


def test_commands_work_with_and_without_the_server(tmp_path: Path, url: str) -> None:
    data, store = tmp_path / "data", {"THINGMINT_STORE": url}
    assert in_process("init", "--data-dir", data, env=store).returncode == 0
    for name in ("alice", "bob"):
        done = in_process("access", "user", "create", name, "--data-dir", data, "--output", "json", env=store)
        assert (done.returncode, json.loads(done.stdout)["name"]) == (0, name), done
        if name == "alice":
            server = served(data, url)
            server.__enter__()
    server.__exit__(None, None, None)


def test_a_change_at_one_process_reaches_devices_of_the_other(tmp_path: Path, url: str) -> None:
    data, copy = joined(tmp_path, url)
    with served(data, url) as first, served(copy, url) as second:
        iot = iot_client(first)
        changes: dict[str, Callable[[Credential], Any]] = {
            "deactivated": lambda made: iot.update_certificate(certificateId=made.fingerprint, newStatus="INACTIVE"),
            "policy detached": lambda made: iot.detach_policy(policyName="all", target=made.arn),
            "another default version": lambda _: iot.create_policy_version(
                policyName="all", policyDocument=document(allow("iot:Publish")), setAsDefault=True
            ),
        }
        for change, make in changes.items():
            made = device(tmp_path, iot)
            with connected(second, made, change.replace(" ", "-")) as opened:
                assert opened.nothing_comes(), change
                make(made)
                with pytest.raises(Closed):
                    opened.read(ALLOWED)
            with Device(second, made) as again, pytest.raises(Closed):
                again.connect("again")
        # Each process sees the other's changes immediately, and both can write.
        ids = {iot_client(s).create_keys_and_certificate()["certificateId"] for s in (first, second) * 3}
        for server in (first, second):
            assert {id for id, _ in registered(iot_client(server))} > ids
    done = in_process("audit", "verify", "--data-dir", data, env={"THINGMINT_STORE": url})
    assert (done.returncode, done.stderr) == (0, ""), done


def test_the_server_survives_a_restart_of_the_database(tmp_path: Path, postgres: Postgres, url: str) -> None:
    with served(tmp_path / "data", url) as server:
        iot = iot_client(server)
        before = iot.create_keys_and_certificate()["certificateId"]
        postgres.stop()
        with pytest.raises(ClientError) as refused:
            iot.create_keys_and_certificate()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert readiness(server) == 503
        postgres.start()
        until(lambda: readiness(server) == 200, seconds=15, what="ready again")
        after = iot.create_keys_and_certificate()["certificateId"]
        assert {id for id, _ in registered(iot)} == {before, after}


def test_a_database_belongs_to_one_instance(tmp_path: Path, url: str) -> None:
    store = {"THINGMINT_STORE": url}
    assert in_process("init", "--data-dir", tmp_path / "data", env=store).returncode == 0
    second = in_process("init", "--data-dir", tmp_path / "second", env=store)
    assert second.returncode == 2
    assert "holds an instance already" in second.stderr
    with served(tmp_path / "data", url):
        pass
    assert in_process("init", "--data-dir", tmp_path / "other").returncode == 0
    with pytest.raises(ServerFailed, match="holds the records of another instance"), served(tmp_path / "other", url):
        pass


def test_no_message_contains_the_password(tmp_path: Path, postgres: Postgres) -> None:
    wrong = postgres.url("none").replace("thingmint@", "thingmint:hunter2@")
    done = in_process("init", "--data-dir", tmp_path / "data", env={"THINGMINT_STORE": wrong})
    assert done.returncode == 2
    assert done.stderr.startswith("thingmint: store: postgresql:///none cannot be opened")
    assert "hunter2" not in done.stderr
    done = in_process("init", "--data-dir", tmp_path / "data", env={"THINGMINT_STORE": "mysql://root:hunter2@h/d"})
    assert done.returncode == 2
    assert "must be sqlite: (a file in the data directory) or postgresql://" in done.stderr
    assert "hunter2" not in done.stderr


def answers(server: RunningServer) -> list[Any]:
    """The API's answers about everything that ``fill`` made."""
    iot = iot_client(server)
    calls = [
        iot.list_certificates(ascendingOrder=True),
        *(iot.describe_certificate(certificateId=id) for id, _ in sorted(registered(iot))),
        iot.list_things(),
        iot.describe_thing(thingName="lamp"),
        iot.describe_thing_group(thingGroupName="inner"),
        iot.list_thing_groups_for_thing(thingName="lamp"),
        iot.get_policy(policyName="all"),
        *(iot.list_attached_policies(target=c["certificateArn"]) for c in iot.list_certificates()["certificates"]),
    ]
    return [{name: value for name, value in answer.items() if name != "ResponseMetadata"} for answer in calls]


def test_a_store_that_another_host_serves_is_not_copied(tmp_path: Path, url: str) -> None:
    data, other = joined(tmp_path, url)
    copy = ("store", "copy", url, "sqlite:", "--data-dir", other)
    with served(data, url) as server:
        refused = in_process(*copy)
        assert (refused.returncode, "is in use by" in refused.stderr) == (2, True), refused
        server.kill()
    copied = in_process(*copy)
    assert copied.returncode == 0, copied


def test_an_instance_moves_to_postgresql_and_back(tmp_path: Path, url: str) -> None:
    data, where = tmp_path / "data", tmp_path / "store"
    where.write_text(f"{url}\n")
    with running_server(data) as server:
        iot = iot_client(server)
        for _ in range(3):
            device(tmp_path, iot)
        made = device(tmp_path, iot)
        iot.create_thing_group(thingGroupName="outer")
        iot.create_thing_group(thingGroupName="inner", parentGroupName="outer")
        iot.create_thing(thingName="lamp")
        iot.add_thing_to_thing_group(thingName="lamp", thingGroupName="inner")
        before = answers(server)
        busy = in_process("store", "copy", "sqlite:", f"@{where}", "--data-dir", data)
        assert (busy.returncode, "stop the server first" in busy.stderr) == (2, True), busy
    there = in_process("store", "copy", "sqlite:", f"@{where}", "--data-dir", data)
    assert there.returncode == 0, there
    with served(data, url) as server:
        assert answers(server) == before
        iot_client(server).update_certificate(certificateId=made.fingerprint, newStatus="REVOKED")
        after = answers(server)
    (data / "thingmint.db").unlink()
    back = in_process("store", "copy", f"@{where}", "sqlite:", "--data-dir", data, "--output", "json")
    assert back.returncode == 0, back
    with running_server(data) as server:
        assert answers(server) == after
    assert in_process("audit", "verify", "--data-dir", data).returncode == 0
