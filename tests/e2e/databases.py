"""Servers with PostgreSQL, one or several with the same database, and their devices."""

from __future__ import annotations

import contextlib
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx

from tests.e2e.access.local_admin import allow, document
from tests.e2e.commands import in_process
from tests.e2e.mqtt.devices import Device, credential
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.mqtt.devices import Credential
    from thingmint.testing import RunningServer

__all__ = ["connected", "device", "joined", "metric", "readiness", "served", "several"]


@contextmanager
def served(data: Path, url: str, **variables: str) -> Iterator[RunningServer]:
    environment = {"THINGMINT_STORE": url, **variables}
    with running_server(data, arguments=["--log-format=json"], environment=environment) as server:
        yield server


def device(folder: Path, iot: Any) -> Credential:
    """A new device whose certificate is ACTIVE and allowed everything."""
    made = credential(folder)
    arn = iot.register_certificate_without_ca(certificatePem=made.pem, status="ACTIVE")["certificateArn"]
    if "all" not in [policy["policyName"] for policy in iot.list_policies()["policies"]]:
        iot.create_policy(policyName="all", policyDocument=document(allow("iot:*")))
    iot.attach_policy(policyName="all", target=arn)
    return replace(made, arn=arn)


@contextmanager
def connected(server: RunningServer, made: Credential, client_id: str) -> Iterator[Device]:
    with Device(server, made) as opened:
        opened.connect(client_id)
        yield opened


def readiness(server: RunningServer) -> int:
    return httpx.get(f"{server.http_url}/readyz", trust_env=False).status_code


def joined(folder: Path, url: str, count: int = 2) -> list[Path]:
    """Data directories with the same keys, for processes that share a database."""
    bundle, secret = folder / "keys.bundle", folder / "passphrase"
    secret.write_text("correct horse")
    first, *others = (folder / f"data{number}" for number in range(count))
    assert in_process("init", "--data-dir", first, env={"THINGMINT_STORE": url}).returncode == 0
    for command, data in (("bundle", first), *(("join", other) for other in others)):
        done = in_process(command, bundle, "--data-dir", data, "--passphrase-file", secret)
        assert (done.returncode, done.stderr) == (0, ""), done
    return [first, *others]


@contextmanager
def several(folder: Path, url: str, count: int = 2, **variables: str) -> Iterator[list[RunningServer]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(served(data, url, **variables)) for data in joined(folder, url, count)]


def metric(server: RunningServer, name: str) -> float:
    lines = httpx.get(f"{server.http_url}/metrics", trust_env=False).text.splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(f"thingmint_{name} ")))
