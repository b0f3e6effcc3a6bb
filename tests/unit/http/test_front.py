"""The choice of the API for a request, its log line, and the probes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from structlog.testing import capture_logs

from tests.unit.http.answering import Answering
from tests.unit.vectors import NOW
from thingmint.access.request_log import RequestLog
from thingmint.access.throttle import FailureThrottle
from thingmint.domain.errors import NotFound
from thingmint.http.front import Front, SingleApi
from thingmint.http.memory import RequestMemory
from thingmint.http.messages import Answer, ClientGone
from thingmint.http.probes import probes
from thingmint.metrics import Metrics

if TYPE_CHECKING:
    from thingmint.access.context import Outcome, RequestContext
    from thingmint.http.front import HttpApi
    from thingmint.http.messages import App, Message

SIGNED = [(b"authorization", b"AWS4-HMAC-SHA256 Credential=x")]
PAGE = [(b"accept", b"text/html,*/*;q=0.8")]
BEARER = [(b"authorization", b"Bearer tma_a_b")]


async def ask(
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
    await app(scope, receive, send)
    if not sent:
        return 0, [], b""
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], sent[0]["headers"], sent[1]["body"]


def signed_for(service: str) -> list[tuple[bytes, bytes]]:
    credential = f"AKIDEXAMPLE/20150830/us-east-1/{service}/aws4_request"
    return [(b"authorization", f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host".encode())]


class Signed:
    """An API as a SignedApi, with these routes ."""

    def __init__(self, api: HttpApi, service: str, *routes: str) -> None:
        self._api = api
        self.signing_names = [service]
        self._routes = routes

    def is_route(self, method: str, raw_path: bytes) -> bool:
        return f"{method} {raw_path.decode()}" in self._routes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)


class Trail:
    """An audit log that accepts every request."""

    def add(self, context: RequestContext, outcome: Outcome) -> bool:
        del context, outcome
        return True


def front(aws: HttpApi | None = None, metrics: Metrics | None = None) -> Front:
    trail: Any = Trail()
    return Front(
        aws=[
            Signed(aws or Answering("aws"), "iot", "GET /things", "POST /keys-and-certificate"),
            Signed(Answering("data"), "iotdata", "POST /topics/a"),
        ],
        native=Answering("native"),
        probes={b"/healthz": Answering("probe")},
        yandex=Answering("yandex"),
        is_yandex_route=lambda path: path.startswith(b"/iot-devices/"),
        console=Answering("console"),
        documents=Answering("documents"),
        request_log=RequestLog(metrics or Metrics(), trail),
        failures=FailureThrottle(None),
        memory=RequestMemory.of(),
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
        ("GET", b"/things", b"", signed_for("iotdata"), b"data"),
        ("GET", b"/anything", b"", signed_for("s3"), b"aws"),
        (
            "GET",
            b"/things",
            b"X-Amz-Credential=A%2F1%2Feu%2Fiotdata%2Faws4_request&X-Amz-Signature=0",
            [],
            b"data",
        ),
        ("POST", b"/topics/a", b"", [], b"data"),
        ("GET", b"/topics/a", b"", [], b"native"),
        ("GET", b"/anything", b"", [], b"native"),
        ("DELETE", b"/things", b"", [], b"native"),
        ("POST", b"/keys-and-certificate", b"", [], b"native"),
        ("GET", b"/things", b"", BEARER, b"native"),
        ("GET", b"/things", b"", [(b"authorization", b"Basic YTpi")], b"native"),
        ("GET", b"/healthz", b"", [], b"probe"),
        ("GET", b"/healthz", b"", SIGNED, b"probe"),
        ("GET", b"/healthz/", b"", [], b"native"),
        ("GET", b"/%68ealthz", b"", [], b"native"),
        ("GET", b"/console", b"", [], b"console"),
        ("POST", b"/console/sign-in", b"", BEARER, b"console"),
        ("GET", b"/consoles", b"", [], b"native"),
        ("GET", b"/console/x", b"", SIGNED, b"aws"),
        ("GET", b"/docs", b"", [], b"documents"),
        ("POST", b"/docs/access/", b"", BEARER, b"documents"),
        ("GET", b"/docsets", b"", [], b"native"),
        ("GET", b"/docs/x", b"", SIGNED, b"aws"),
        ("GET", b"/", b"", PAGE, b"console"),
        ("HEAD", b"/", b"", PAGE, b"console"),
        ("GET", b"/", b"Action=GetCallerIdentity", PAGE, b"native"),
        ("POST", b"/", b"", PAGE, b"native"),
        ("GET", b"/", b"", [*PAGE, *BEARER], b"native"),
        ("GET", b"/", b"", [*PAGE, *SIGNED], b"aws"),
        ("GET", b"/", b"", [(b"accept", b"*/*")], b"native"),
    ],
)
async def test_each_request_goes_to_one_api(
    method: str, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], chosen: bytes
) -> None:
    assert (await ask(front(), method, path, query, headers))[2] == chosen


async def test_the_log_line_of_a_request() -> None:
    with capture_logs() as logs:
        await ask(front(), "GET", b"/secret-path", b"X-Amz-Signature=secret", [(b"x", b"secret")])
    [line] = logs
    assert (line["event"], line["api"], line["operation"], line["status"]) == ("request", "aws", "Operation", 200)
    assert (line["client"], line["code"], line["account"]) == ("127.0.0.1", None, None)
    assert "secret" not in repr(line)


async def test_an_unexpected_error_is_answered_by_the_api() -> None:
    with capture_logs() as logs:
        status, _, body = await ask(front(Answering("aws", error=RuntimeError("secret"))), headers=SIGNED)
    assert status == 400  # of the stand-in's refusals
    assert b"secret" not in body
    assert logs[0]["event"] == "request_failed"
    assert logs[0]["request_id"].encode() in body
    assert (logs[1]["status"], logs[1]["code"]) == (400, "Internal")


async def test_an_answer_that_cannot_be_sent_is_not_followed_by_another() -> None:
    async def send(message: Message) -> None:
        sent.append(message)
        raise RuntimeError

    async def receive() -> Message:
        return {"type": "http.request"}

    sent: list[Message] = []
    scope = {"method": "GET", "raw_path": b"/", "query_string": b"", "headers": SIGNED, "client": None}
    with capture_logs() as logs:
        await front()(scope, receive, send)
    assert len(sent) == 1
    assert (logs[-1]["status"], logs[-1]["code"]) == (200, "Internal")


async def test_a_refusal_is_answered_in_the_apis_own_form() -> None:
    with capture_logs() as logs:
        status, _, body = await ask(front(Answering("aws", error=NotFound("thing", "t"))), headers=SIGNED)
    assert (status, body) == (400, b"thing t does not exist")
    assert [line["code"] for line in logs] == ["NotFound"]


async def test_a_client_that_disconnected_gets_no_answer() -> None:
    with capture_logs() as logs:
        assert (await ask(front(Answering("aws", error=ClientGone())), headers=SIGNED))[0] == 0
    assert [line["code"] for line in logs] == ["ClientGone"]


async def test_a_cancelled_request_stays_cancelled() -> None:
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await ask(front(Answering("aws", error=asyncio.CancelledError())), headers=SIGNED)
    assert [line["code"] for line in logs] == ["Cancelled"]


async def test_requests_are_counted() -> None:
    metrics = Metrics()
    app = front(metrics=metrics)
    for _ in range(3):
        await ask(app, headers=SIGNED)
    text = metrics.render().decode()
    assert 'thingmint_requests_total{api="aws",operation="Operation",status="200"} 3.0' in text
    assert 'thingmint_request_seconds_count{api="aws"} 3.0' in text


class FakeStore:
    ready = True
    trouble = "the disk is full"


@pytest.mark.parametrize(
    ("path", "ready", "client", "status", "beginning"),
    [
        (b"/healthz", True, ("192.0.2.1", 1), 200, b'{"status":"ok"}'),
        (b"/healthz", False, ("192.0.2.1", 1), 200, b'{"status":"ok"}'),
        (b"/readyz", True, ("192.0.2.1", 1), 200, b'{"status":"ok","store":"ok"}'),
        (
            b"/readyz",
            False,
            ("192.0.2.1", 1),
            503,
            b'{"status":"unavailable","store":"unavailable","reason":"changes ',
        ),
        (b"/metrics", True, ("127.0.0.1", 1), 200, b"# HELP "),
        (b"/metrics", True, ("::1", 1), 200, b"# HELP "),
        (b"/metrics", True, ("192.0.2.1", 1), 403, b'{"success":false,"error":{"code":"PERMISSION_DENIED"'),
        (b"/metrics", True, ("2001:db8::1", 1), 403, b'{"success":false'),
        (b"/metrics", True, None, 403, b'{"success":false'),
    ],
)
async def test_probes(path: bytes, ready: bool, client: tuple[str, int] | None, status: int, beginning: bytes) -> None:
    store: Any = FakeStore()
    store.ready = ready
    probe = probes(store, Metrics())[path]

    app = Front(
        aws=[Signed(probe, "iot")],
        native=probe,
        yandex=probe,
        probes={path: probe},
        is_yandex_route=lambda _: False,
        request_log=RequestLog(Metrics(), cast("Any", Trail())),
        failures=FailureThrottle(None),
        memory=RequestMemory.of(),
        clock=lambda: NOW,
    )
    got, _, body = await ask(app, path=path, client=client)
    assert got == status
    assert body.startswith(beginning)


class Parts:
    """A stream of some parts, after which it waits for ever unless it ends."""

    def __init__(self, *parts: bytes, ends: bool = True) -> None:
        self.parts = list(parts)
        self.ends = ends
        self.closed = 0

    async def next(self) -> bytes | None:
        if not self.parts and not self.ends:
            await asyncio.Event().wait()
        return self.parts.pop(0) if self.parts else None

    def close(self) -> None:
        self.closed += 1


class Streaming(Answering):
    def __init__(self, stream: Parts) -> None:
        super().__init__("streaming")
        self.stream = stream

    async def serve(self, context: RequestContext, outcome: Outcome, route: Any, given: Any) -> Answer:
        del context, outcome, route, given
        return Answer(200, [(b"content-type", b"text/event-stream")], b"begin", stream=self.stream)


def streaming(stream: Parts) -> tuple[SingleApi, Requests]:
    requests = Requests()
    memory = RequestMemory.of()
    app = SingleApi(Streaming(stream), cast("Any", requests), FailureThrottle(None), memory, lambda: NOW)
    return app, requests


class Requests:
    """A request log that keeps what it is given."""

    def __init__(self) -> None:
        self.codes: list[str | None] = []

    def record(self, context: RequestContext, outcome: Outcome) -> None:
        del context
        self.codes.append(outcome.code)


def request(method: str = "GET") -> Message:
    return {"method": method, "raw_path": b"/", "query_string": b"", "headers": [], "client": None}


async def test_a_streamed_answer_is_recorded_once_and_closed() -> None:
    stream = Parts(b"a", b"b")
    sent: list[Message] = []
    app, requests = streaming(stream)

    async def send(message: Message) -> None:
        sent.append(message)
        assert requests.codes == [None], "it is recorded when it begins"

    async def receive() -> Message:
        if len(sent) > 1:
            await asyncio.Event().wait()
        return {"type": "http.request"}

    await app(request(), receive, send)
    assert sent[0] == {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"text/event-stream")],
    }
    assert [message.get("body", b"") for message in sent[1:]] == [b"begin", b"a", b"b", b""]
    assert [message.get("more_body", False) for message in sent[1:]] == [True, True, True, False]
    assert requests.codes == [None]
    assert stream.closed == 1


async def test_a_stream_ends_when_its_client_is_gone() -> None:
    stream, gone = Parts(b"a", ends=False), asyncio.Event()
    app, requests = streaming(stream)

    async def send(message: Message) -> None:
        if message.get("body") == b"a":
            gone.set()

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    await app(request(), receive, send)
    assert stream.closed == 1
    assert requests.codes == [None]


async def test_no_part_is_asked_for_while_the_client_does_not_read() -> None:
    stream = Parts(*[b"a"] * 100)
    app, _ = streaming(stream)

    async def send(message: Message) -> None:
        if message.get("body") == b"a":
            await asyncio.Event().wait()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.ensure_future(app(request(), receive, send))
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(stream.parts) == 99
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stream.closed == 1


async def test_the_head_of_a_stream_alone_opens_none() -> None:
    stream = Parts(ends=False)
    app, requests = streaming(stream)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError

    await app(request("HEAD"), receive, send)
    assert stream.closed == 1
    assert requests.codes == [None]
    assert sent[-1].get("more_body", False) is False


async def test_a_stream_that_fails_is_closed() -> None:
    class Failing(Parts):
        async def next(self) -> bytes | None:
            raise LookupError

    stream = Failing()
    app, requests = streaming(stream)

    async def send(message: Message) -> None:
        del message

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    with capture_logs() as logs:
        await app(request(), receive, send)
    assert [each["event"] for each in logs] == ["request_failed"]
    assert stream.closed == 1
    assert requests.codes == [None]
