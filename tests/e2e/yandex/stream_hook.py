"""An HTTP hook for data stream exports, and a registry whose messages are exported to it."""

from __future__ import annotations

import json
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal

from yandex.cloud.iot.devices.v1 import registry_pb2, registry_service_pb2

from tests.e2e.databases import metric
from tests.e2e.wire import until
from tests.e2e.yandex.clients import done

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.yandex.clients import Cloud
    from tests.e2e.yandex.mqtt_clients import Pair

DATABASE, STREAM = "/ru-central1/b1g/etn", "telemetry"

Mode = Literal["accept", "fail", "refuse", "redirect", "close", "hang"]


@dataclass
class StreamHook:
    """``batches`` are the bodies of the calls that it accepted, ``calls`` the headers of all."""

    url: str = ""
    mode: Mode = "accept"
    batches: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, str]] = field(default_factory=list)
    elsewhere: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [message for batch in self.batches for message in batch["messages"]]

    @property
    def payloads(self) -> list[str]:
        return [message["payload"] for message in self.messages]

    def setting(self, **further: Any) -> dict[str, str]:
        """The variable of a server that sends to it."""
        hook = {"database": DATABASE, "stream": STREAM, "url": self.url, **further}
        return {"THINGMINT_EXPORT_HOOKS": json.dumps({"test": hook})}

    def wait_for(self, *payloads: str) -> None:
        """Wait until it has accepted messages with these payloads."""
        until(lambda: set(payloads) <= set(self.payloads), seconds=90, what="all messages at the hook")


@contextmanager
def stream_hook(pair: Pair | None = None) -> Iterator[StreamHook]:
    """A hook that speaks HTTPS if it has a certificate."""
    hook = StreamHook()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path != "/records":
                hook.elsewhere += 1
            hook.calls.append({name.lower(): value for name, value in self.headers.items()})
            mode = hook.mode
            if mode == "hang":
                hook.released.wait(60)
            if mode in ("hang", "close"):
                self.close_connection = True
                return
            if mode == "accept":
                hook.batches.append(json.loads(body))
            self.send_response({"accept": 200, "fail": 500, "refuse": 400, "redirect": 307}[mode])
            if mode == "redirect":
                self.send_header("location", f"{hook.url}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    scheme = "http"
    if pair is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pair.certificate, pair.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    hook.url = f"{scheme}://localhost:{server.server_address[1]}/records"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.released.set()
        server.shutdown()
        server.server_close()


def add_export(cloud: Cloud, registry: str, **fields: Any) -> registry_pb2.DataStreamExport:
    account = cloud.account.key["service_account_id"]
    given = {"database": DATABASE, "stream": STREAM, "service_account_id": account} | fields
    request = registry_service_pb2.AddDataStreamExportRequest(registry_id=registry, **given)
    return done(cloud.grpc.call("RegistryService/AddDataStreamExport", request), registry_pb2.DataStreamExport)


def delete_export(cloud: Cloud, registry: str, export: str) -> None:
    request = registry_service_pb2.DeleteDataStreamExportRequest(registry_id=registry, data_stream_export_id=export)
    assert cloud.grpc.call("RegistryService/DeleteDataStreamExport", request).done


def waiting(cloud: Cloud) -> float:
    return metric(cloud.server, "export_messages_waiting")
