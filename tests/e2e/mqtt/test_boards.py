"""Errors of a board with Mbed TLS that cannot connect, and the log lines about it: the table in docs/boards.md."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e.material import key_pem
from tests.e2e.mqtt.conftest import new_name
from tests.e2e.mqtt.devices import PATIENCE, Credential, credential
from tests.e2e.wire import until
from tests.markdown import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.e2e.mqtt.conftest import Devices, Gateway

_ROW = re.compile(r"(?m)^\| (-0x\w{4}(?:, flag 0x\d+)?|CONNACK \d) \| (?:`(\w+)`: `([^`]+)`)? ?\|")


class Outcome(NamedTuple):
    """``seen``: the error at the board. ``event`` and ``reason``: the server's log line."""

    seen: str
    event: str
    reason: str


@dataclass(frozen=True)
class Attempt:
    """The way a board connects. ``when``: the time of its clock. ``listener``: the name of a port of the server."""

    credential: Credential | None
    root: Path
    name: str
    suite: str = "-"
    alpn: str = "-"
    client_id: str = "board-1"
    when: str = ""
    listener: str = "mqtt"


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None or not Path("/usr/include/mbedtls/ssl.h").exists():
        pytest.skip("gcc or Mbed TLS is missing")
    program = tmp_path_factory.mktemp("board") / "board"
    libraries = ["-lmbedtls", "-lmbedx509", "-lmbedcrypto"]
    subprocess.run(["gcc", Path(__file__).with_name("board.c"), "-o", program, *libraries], check=True)
    return program


@pytest.fixture
def attempts(mine: Devices) -> Mapping[str, Attempt]:
    folder = mine.folder
    works = Attempt(mine.credential(), mine.server.ca, mine.endpoint, client_id=new_name("board"))
    unregistered, no_policy = credential(folder), mine.register(credential(folder))
    wrong_key = replace(no_policy, file=folder / f"{new_name()}.pem")
    wrong_key.file.write_text(key_pem(ec.generate_private_key(ec.SECP256R1())) + no_policy.pem)
    other_root = folder / f"{new_name()}.pem"
    other_root.write_text(credential(folder).pem)
    return {
        "another root": replace(works, root=other_root),
        "another name": replace(works, name="192.168.1.10"),
        "a clock that is behind": replace(works, when="1970-01-02 00:00:00"),
        "a clock that is ahead": replace(works, when="2060-01-02 00:00:00"),
        "no suite in common": replace(works, suite="TLS-ECDHE-ECDSA-WITH-AES-128-CBC-SHA256"),
        "the key of another certificate": replace(works, credential=wrong_key),
        "another protocol": replace(works, alpn="http/1.1", listener="mqtt-alpn"),
        "no certificate": replace(works, credential=None),
        "a certificate that is not registered": replace(works, credential=unregistered),
        "a certificate that is not active": replace(works, credential=mine.credential(status="INACTIVE")),
        "no policy": replace(works, credential=no_policy),
        "an invalid client id": replace(works, client_id="board#1"),
        "plain HTTP": replace(works, listener="http"),
        "no error": works,
    }


def test_the_errors_of_boards_are_those_of_the_documentation(
    gateway: Gateway, board: Path, attempts: Mapping[str, Attempt]
) -> None:
    documented = [Outcome(*row) for row in _ROW.findall((ROOT / "docs" / "boards.md").read_text())]
    has_clock = shutil.which("faketime") is not None
    outcomes = {}
    for number, (case, attempt) in enumerate(attempts.items()):
        if has_clock or not attempt.when:
            # Later lines about an address are delayed, so each attempt has a different address.
            outcomes[case] = _try(gateway, board, attempt, f"127.0.7.{number + 1}")
    assert outcomes.pop("no error") == Outcome("CONNACK 0", "connected", "")
    rows = {case: [row for row in documented if _fits(row, outcome)] for case, outcome in outcomes.items()}
    assert {case: outcomes[case] for case, found in rows.items() if len(found) != 1} == {}
    if has_clock:
        assert {row for [row] in rows.values()} == set(documented)


def _fits(row: Outcome, outcome: Outcome) -> bool:
    reason = ".*".join(map(re.escape, row.reason.split("…")))
    return row[:2] == outcome[:2] and re.fullmatch(reason, outcome.reason) is not None


def _try(gateway: Gateway, board: Path, attempt: Attempt, source: str) -> Outcome:
    server = gateway.server
    address = ("127.0.0.1", server.ports[attempt.listener])
    with socket.create_connection(address, timeout=PATIENCE, source_address=(source, 0)) as connection:
        connection.settimeout(None)
        file = "-" if attempt.credential is None else attempt.credential.file
        clock = ["faketime", attempt.when] if attempt.when else []
        arguments = [attempt.root, file, attempt.name, attempt.suite, attempt.alpn, attempt.client_id]
        done = subprocess.run(
            [*clock, board, str(connection.fileno()), *arguments],
            pass_fds=[connection.fileno()],
            capture_output=True,
            check=True,
            timeout=PATIENCE,
            text=True,
        )
    seen = done.stdout.strip()
    if attempt.listener == "http":
        return Outcome(seen, "", "")
    line = until(lambda: _first_line(gateway, source), seconds=PATIENCE, what=f"a line about {attempt}")
    return Outcome(seen, line["event"], line.get("reason") or line.get("why", ""))


def _first_line(gateway: Gateway, source: str) -> dict[str, str] | None:
    """Returns the first log line about a device's address."""
    for text in gateway.server.output.read_text(errors="replace").splitlines():
        if f'"{source}"' in text:
            line: dict[str, str] = json.loads(text)
            return line
    return None
