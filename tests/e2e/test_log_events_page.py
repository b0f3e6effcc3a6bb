"""A running server logs what docs/log-events.md says: these events, levels and fields."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import httpx

from tests.documents import names_in, page, sections, tables
from tests.e2e.wire import until

if TYPE_CHECKING:
    from thingmint.testing import RunningServer

ROWS = {
    names_in(row["event"])[0]: row
    for text in sections(page("log-events")).values()
    for table in tables(text)
    for row in table
    if "event" in row
}


def lines(server: RunningServer) -> list[dict[str, Any]]:
    text = server.output.read_text(errors="replace")
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_a_running_server(server: RunningServer, iot: Any) -> None:
    httpx.get(f"{server.http_url}/healthz")
    iot.list_certificates()
    with socket.create_connection(("127.0.0.1", server.ports["mqtt"])) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")  # which is not TLS
        while sock.recv(4096):
            pass
    until(
        lambda: {"request", "tls_handshake_failed"} <= {line["event"] for line in lines(server)},
        seconds=60,
        what="the log of a request and of a connection",
    )
    for line in lines(server):
        row = ROWS[line["event"]]
        assert line["level"] in row["level"].split(", ")
        unexpected = set(line) - set(names_in(row["fields"])) - {"event", "level", "timestamp", "exception"}
        # A request's details, the listeners' ports, and what a job is about are not fixed.
        assert not unexpected or line["event"] in ("request", "ready", "too_few_files", "job_done"), unexpected
    assert all(line["timestamp"].endswith("Z") for line in lines(server))
