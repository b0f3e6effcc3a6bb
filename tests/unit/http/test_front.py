"""Which face a request goes to, what the log says of it, and the probes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from structlog.testing import capture_logs

from tests.unit.vectors import NOW
from thingmint.access.journal import Journal
from thingmint.http.exchange import ClientGone, Exchange, respond
from thingmint.http.front import Front
from thingmint.http.probes import probes
from thingmint.metrics import Metrics

if TYPE_CHECKING:
    from thingmint.http.exchange import App, Message, Receive, Send

SIGNED = [(b"authorization", b"AWS4-HMAC-SHA256 Credential=x")]
BEARER = [(b"authorization", b"Bearer tma_a_b")]


def face(name: str, error: BaseException | None = None, *, late: bool = False) -> App:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.face, exchange.operation = name, "Operation"
        if error is not None and not late:
            raise error
        await respond(exchange, send, 200, [], name.encode())
        if error is not None:
            raise error

    return app


def ask(
    app: App,
    method: str = "GET",
    path: bytes = b"/",
    query: bytes = b"",
    headers: list[tuple[bytes, bytes]] | None = None,
    client: tuple[str, int] | None = ("127.0.0.1", 50000),
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {"method": method, "raw_path": path, "query_string": query, "headers": headers or [], "client": client}
    asyncio.run(_await(app(scope, receive, send)))
    if not sent:
        return 0, [], b""
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], sent[0]["headers"], sent[1]["body"]


async def _await(answer: Any) -> None:
    await answer


class Trail:
    """Takes every exchange."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def add(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)


def front(aws: App | None = None, metrics: Metrics | None = None) -> Front:
    trail: Any = Trail()
    return Front(
        aws=aws or face("aws"),
        native=face("native"),
        probes={b"/healthz": face("probe")},
        is_aws_route=lambda method, path: (method, path) in {("GET", b"/things"), ("POST", b"/keys-and-certificate")},
        yandex=face("yandex"),
        is_yandex_route=lambda path: path.startswith(b"/iot-devices/"),
        journal=Journal(metrics or Metrics(), trail),
        clock=lambda: NOW,
    )


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "chosen"),
    [
        ("GET", b"/anything", b"", SIGNED, b"aws"),
        ("GET", b"/iot-devices/v1/devices", b"", SIGNED, b"aws"),
        ("GET", b"/iot-devices/v1/devices", b"", [(b"authorization", b"Bearer t1.a.b")], b"yandex"),
        ("GET", b"/iot-devices/v1/devices", b"", [], b"yandex"),
        ("GET", b"/anything", b"X-Amz-Signature=0", [], b"aws"),
        ("POST", b"/keys-and-certificate", b"", SIGNED, b"aws"),
        ("POST", b"/keys-and-certificate", b"a&X-Amz-Signature=0", [], b"aws"),
        ("GET", b"/things", b"", [], b"aws"),
        ("GET", b"/anything", b"", [], b"native"),
        ("DELETE", b"/things", b"", [], b"native"),
        ("POST", b"/keys-and-certificate", b"", [], b"native"),
        ("GET", b"/things", b"", BEARER, b"native"),
        ("GET", b"/things", b"", [(b"authorization", b"Basic YTpi")], b"native"),
        ("GET", b"/healthz", b"", [], b"probe"),
        ("GET", b"/healthz", b"", SIGNED, b"probe"),
        ("GET", b"/healthz/", b"", [], b"native"),
        ("GET", b"/%68ealthz", b"", [], b"native"),
    ],
)
def test_the_face(method: str, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], chosen: bytes) -> None:
    assert ask(front(), method, path, query, headers)[2] == chosen


def test_what_the_log_says() -> None:
    with capture_logs() as logs:
        ask(front(), "GET", b"/secret-path", b"X-Amz-Signature=secret", [(b"x", b"secret")])
    [line] = logs
    assert (line["event"], line["face"], line["operation"], line["status"]) == ("request", "aws", "Operation", 200)
    assert (line["client"], line["code"], line["account"]) == ("127.0.0.1", None, None)
    assert "secret" not in repr(line)


def test_a_face_that_fails() -> None:
    with capture_logs() as logs:
        status, headers, body = ask(front(face("aws", RuntimeError("secret"))), headers=SIGNED)
    assert status == 500
    assert dict(headers)[b"x-amzn-errortype"] == b"InternalFailureException"
    answer = orjson.loads(body)
    assert answer["error"]["code"] == "INTERNAL"
    assert answer["message"] == answer["error"]["message"]
    assert "secret" not in answer["message"]
    assert logs[0]["event"] == "a request failed"
    assert logs[0]["request_id"] in answer["message"]
    assert (logs[1]["status"], logs[1]["code"]) == (500, "Internal")


def test_a_face_that_fails_after_its_answer_gives_no_second_one() -> None:
    with capture_logs() as logs:
        assert ask(front(face("aws", RuntimeError(), late=True)), headers=SIGNED)[0] == 200
    assert logs[-1]["code"] == "Internal"


def test_a_client_that_went_away_is_not_answered() -> None:
    with capture_logs() as logs:
        assert ask(front(face("aws", ClientGone())), headers=SIGNED)[0] == 0
    assert [line["code"] for line in logs] == ["ClientGone"]


def test_a_cancelled_request_stays_cancelled() -> None:
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        ask(front(face("aws", asyncio.CancelledError())), headers=SIGNED)
    assert [line["code"] for line in logs] == ["Cancelled"]


def test_requests_are_counted() -> None:
    metrics = Metrics()
    app = front(metrics=metrics)
    for _ in range(3):
        ask(app, headers=SIGNED)
    text = metrics.render().decode()
    assert 'thingmint_requests_total{face="aws",operation="Operation",status="200"} 3.0' in text
    assert 'thingmint_request_seconds_count{face="aws"} 3.0' in text


class FakeStore:
    ready = True


@pytest.mark.parametrize(
    ("path", "ready", "client", "status", "beginning"),
    [
        (b"/healthz", True, ("192.0.2.1", 1), 200, b'{"status":"ok"}'),
        (b"/healthz", False, ("192.0.2.1", 1), 200, b'{"status":"ok"}'),
        (b"/readyz", True, ("192.0.2.1", 1), 200, b'{"status":"ok","store":"ok"}'),
        (b"/readyz", False, ("192.0.2.1", 1), 503, b'{"status":"unavailable","store":"unavailable"}'),
        (b"/metrics", True, ("127.0.0.1", 1), 200, b"# HELP "),
        (b"/metrics", True, ("::1", 1), 200, b"# HELP "),
        (b"/metrics", True, ("192.0.2.1", 1), 403, b'{"success":false,"error":{"code":"PERMISSION_DENIED"'),
        (b"/metrics", True, ("2001:db8::1", 1), 403, b'{"success":false'),
        (b"/metrics", True, None, 403, b'{"success":false'),
    ],
)
def test_probes(path: bytes, ready: bool, client: tuple[str, int] | None, status: int, beginning: bytes) -> None:
    store: Any = FakeStore()
    store.ready = ready
    probe = probes(store, Metrics())[path]

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        scope["thingmint.exchange"] = Exchange(at=NOW)
        await probe(scope, receive, send)

    got, _, body = ask(app, path=path, client=client)
    assert got == status
    assert body.startswith(beginning)
