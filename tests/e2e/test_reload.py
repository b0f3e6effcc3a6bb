"""SIGHUP: reloadable settings change without an interruption. Closing the terminal stops the server in order."""

from __future__ import annotations

import os
import pty
import signal
import ssl
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import orjson
from cryptography import x509

from tests.e2e.commands import in_process
from thingmint.testing import RunningServer, running_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def until(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def certificate(server: RunningServer) -> x509.Certificate:
    pem = ssl.get_server_certificate(("127.0.0.1", server.ports["api"]))
    return x509.load_pem_x509_certificate(pem.encode())


def names_of(server: RunningServer) -> list[str]:
    names = certificate(server).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


class Reloads:
    """A server with a file of settings, and its log."""

    def __init__(self, server: RunningServer, config: Path) -> None:
        self.server = server
        self.config = config

    def lines(self, event: str) -> list[dict[str, Any]]:
        found = (orjson.loads(line) for line in self.server.output.read_bytes().splitlines() if line.startswith(b"{"))
        return [line for line in found if line["event"] == event]

    def __call__(self, settings: str, answer: str = "reloaded") -> dict[str, Any]:
        """Sends SIGHUP, and waits for the log line with the result."""
        self.config.write_text(settings)
        before = len(self.lines(answer))
        self.server.process.send_signal(signal.SIGHUP)
        until(lambda: len(self.lines(answer)) > before, f"the log has no {answer}")
        return self.lines(answer)[-1]


def test_reloadable_settings_change(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("")
    with running_server(arguments=[f"--config={config}", "--log-format=json"]) as server:
        reload, first = Reloads(server, config), certificate(server)
        iot = boto3.client("iot", **server.boto3_arguments())
        account = orjson.loads(
            in_process("access", "account", "list", "--data-dir", server.data_dir, "--output=json").stdout
        )[0]["id"]
        with httpx.Client(base_url=server.http_url) as open_connection:
            assert open_connection.get("/healthz").status_code == 200

            endpoint = f'[endpoints."iot.example.org"]\naccount = "{account}"\nregion = "us-east-1"\n'
            line = reload(f'listener_certificate_lifetime = "5d"\nunauthenticated_rate = 1\n{endpoint}')
            assert line["changed"] == ["endpoints", "listener_certificate_lifetime", "unauthenticated_rate"]
            assert open_connection.get("/healthz").status_code == 200

        second = certificate(server)
        assert second.serial_number != first.serial_number
        assert (second.not_valid_after_utc - second.not_valid_before_utc).days <= 5
        assert "iot.example.org" in names_of(server)
        assert iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"] == "iot.example.org"
        refused = [httpx.get(f"{server.http_url}/v1/audit").status_code for _ in range(40)]
        assert 429 in refused

        assert reload("")["changed"] == ["endpoints", "listener_certificate_lifetime", "unauthenticated_rate"]
        assert "iot.example.org" not in names_of(server)
        assert iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"] == "localhost"


def test_settings_that_need_a_restart_are_logged(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("")
    with running_server(arguments=[f"--config={config}", "--log-format=json"]) as server:
        reload = Reloads(server, config)
        for _ in range(2):
            line = reload('disk_reserve_bytes = 0\naudit_retention = "30d"', "settings_need_a_restart")
            assert line["settings"] == ["disk_reserve_bytes"]
        wrong = reload('audit_retention = "never"', "settings_not_reloaded")
        assert "retention" in wrong["why"]
        assert reload("")["changed"] == ["audit_retention"]
        assert httpx.get(f"{server.http_url}/healthz").status_code == 200
        assert server.stop() == 0


def test_a_closed_terminal_ends_the_server(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "thingmint", "serve", f"--data-dir={tmp_path / 'data'}", "--key-pool=0"]
    command += ["--api-port=0", "--http-port=0", "--grpc-port=0", "--mqtt-port=0"]
    # In a new session, the first terminal that the process opens becomes its controlling terminal.
    terminal = f"os.setsid(); os.close(os.open({os.ttyname(theirs)!r}, os.O_RDWR))"
    heeded = "signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # even if the tests run under nohup
    starting = f"import os, signal, sys; {heeded}; {terminal}; os.execv(sys.argv[1], sys.argv[1:])"
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", starting, *command], stdin=theirs, stdout=output, stderr=output
        )
    try:
        os.close(theirs)
        until((tmp_path / "data" / "listeners.json").exists, "it does not start")
        process.send_signal(signal.SIGHUP)  # the terminal is still open, so the server reloads
        until(lambda: "reloaded" in log.read_text(), "it does not reload")
        assert process.poll() is None
        os.close(ours)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert not (tmp_path / "data" / "listeners.json").exists()
    assert not (tmp_path / "data" / "admin.sock").exists()


def test_host_names_change_while_the_server_runs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_server(data) as server:
        iot = boto3.client("iot", **server.boto3_arguments())

        def change(verb: str, name: str) -> None:
            done = in_process("access", "hostname", verb, name, "--data-dir", data)
            assert done.returncode == 0, done.stderr

        def announced() -> tuple[str, str, str]:
            endpoint = iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
            url = server.environment()["AWS_ENDPOINT_URL_IOT"]
            return endpoint, url, server.environment("yandex")["THINGMINT_YC_ENDPOINT"]

        def all_of(name: str) -> tuple[str, str, str]:
            return name, f"https://{name}:{server.ports['api']}", f"{name}:{server.ports['grpc']}"

        def wait_for(name: str) -> None:
            until(lambda: announced() == all_of(name), f"its addresses do not have {name}")

        wait_for("localhost")
        assert in_process("init", "--hostname", "iot.example.org", "--data-dir", data).returncode == 0
        wait_for("iot.example.org")
        change("first", "later.example.org")
        wait_for("later.example.org")
        assert set(names_of(server)) == {"later.example.org", "iot.example.org", "localhost"}
        change("remove", "later.example.org")
        wait_for("iot.example.org")
        assert set(names_of(server)) == {"iot.example.org", "localhost"}
        server.stop()
        change("first", "stopped.example.org")
        assert server.environment()["AWS_ENDPOINT_URL_IOT"] == f"https://stopped.example.org:{server.ports['api']}"


def test_client_files_are_complete_before_a_server_starts(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = in_process("init", "--hostname", "iot.example.org", "--data-dir", data)
    assert made.returncode == 0, made.stderr
    text = (data / "clients" / "aws.env").read_text()
    assert "AWS_ENDPOINT_URL_IOT=https://iot.example.org:8443\n" in text
    assert f"AWS_CA_BUNDLE={data / 'ca.pem'}\n" in text
    assert "THINGMINT_YC_ENDPOINT=iot.example.org:9443\n" in (data / "clients" / "yandex.env").read_text()
