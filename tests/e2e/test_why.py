"""`thingmint why` with a running server, with a stopped one, and with wrong input."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.commands import in_process, thingmint
from tests.e2e.conftest import iot_client
from tests.e2e.test_device_decisions import Lamp
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from thingmint.testing import RunningServer


def why(data: Path, *words: str | Path) -> Any:
    done = in_process("why", *words, "--data-dir", data, "--output", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.both_engines
def test_the_answer_is_the_same_without_a_server(tmp_path: Path, new_store: Callable[[], dict[str, str]]) -> None:
    data, store = tmp_path / "data", new_store()
    words = ("--publish", "x/no", "--subscribe", "x", "--connect")
    with running_server(data, environment=store) as server:
        lamp = Lamp(iot_client(server))
        pem = tmp_path / "lamp.pem"
        fingerprint = lamp.certificate.rpartition("/")[2]
        described = lamp.iot.describe_certificate(certificateId=fingerprint)["certificateDescription"]
        pem.write_text(described["certificatePem"])
        with_server = [why(data, subject, *words) for subject in (lamp.name, pem)]
        text = in_process("why", lamp.name, *words, "--data-dir", data).stdout
    environment = store
    done = thingmint("why", lamp.name, *words, "--data-dir", data, "--output", "json", env=environment)
    assert done.returncode == 0, done.stderr
    assert [json.loads(done.stdout)] == with_server[:1]
    done = thingmint("why", pem, *words, "--data-dir", data, "--output", "json", env=environment)
    assert [json.loads(done.stdout)] == with_server[1:]
    for line in (
        f"certificate:  {fingerprint}",
        f"thing:        {lamp.name}",
        "connecting: allowed",
        "iot:Publish on",
        "DENIED by a policy",
        f"  decided by: statement 2 of policy {lamp.name}-group",
        "  what to do: change statement 2 of policy",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["none"], 1, "'none' is neither a certificate, a client id that is connected here"),
        (["none.pem"], 2, "there is no file none.pem"),
        (["x", "--retain"], 2, "--retain needs --publish TOPIC"),
        (["x", "--address", "home"], 2, "--address must be an IP address"),
        (["x", "--account", "123456789012"], 1, "account 123456789012 does not exist"),
        (["x", "--region", "mars-1"], 1, "region mars-1 does not exist"),
        (["x", "--publish", "a\udcff"], 2, "an argument is not UTF-8"),
        ([""], 2, "must not be empty"),
        ([], 2, "Missing argument"),
        (["x", "--output", "xml"], 2, "xml"),
    ],
)
def test_wrong_input_is_one_clear_line(server: RunningServer, words: list[str], status: int, message: str) -> None:
    done = in_process("why", *words, "--data-dir", server.data_dir)
    assert done.returncode == status
    assert message in done.stderr
    assert done.stderr.startswith("thingmint: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_file_without_a_certificate_is_refused(server: RunningServer, tmp_path: Path) -> None:
    for name, content in (
        ("a.pem", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"),
        ("b.pem", b"\xff"),
    ):
        (tmp_path / name).write_bytes(content)
        done = in_process("why", tmp_path / name, "--data-dir", server.data_dir)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


def test_help_has_examples() -> None:
    shown = in_process("why", "--help").stdout
    assert "thingmint why lamp-7 --publish lamps/lamp-7/state" in shown


def test_a_directory_without_an_instance_is_refused(tmp_path: Path) -> None:
    done = in_process("why", "x", "--data-dir", tmp_path / "none")
    assert done.returncode == 2
    assert "run thingmint init first" in done.stderr
