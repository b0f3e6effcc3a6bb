"""Reading a whole request, and answering it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from thingmint.domain.errors import Invalid
from thingmint.http import messages as messages_module
from thingmint.http.messages import MAX_BODY_BYTES, Answer, ClientGone, Incoming, Request, send_answer

if TYPE_CHECKING:
    from thingmint.http.messages import Message

SCOPE: dict[str, Any] = {
    "method": "POST",
    "raw_path": b"/a%2Fb",
    "query_string": b"c=%20",
    "headers": [(b"host", b"localhost"), (b"host", b"again")],
    "client": None,
}
GONE = {"type": "http.disconnect"}


def piece(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def read(*messages: Message) -> Request:
    """What is made of these messages; nothing ever comes after them."""
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return await Incoming(SCOPE, receive).whole()


@pytest.mark.parametrize(
    ("messages", "body"),
    [
        ([piece(b"", more=False)], b""),
        ([{"type": "http.request"}], b""),
        ([piece(b"hello", more=False)], b"hello"),
        ([piece(b"hel"), piece(b"lo", more=False)], b"hello"),
        ([piece(b""), piece(b"hello"), piece(b"", more=False)], b"hello"),
        ([piece(b"x" * MAX_BODY_BYTES, more=False)], b"x" * MAX_BODY_BYTES),
        ([piece(b"x" * (MAX_BODY_BYTES - 1)), piece(b"x", more=False)], b"x" * MAX_BODY_BYTES),
    ],
    ids=["empty", "bare", "one", "two", "three", "largest", "largest in two"],
)
async def test_requests(messages: list[Message], body: bytes) -> None:
    assert await read(*messages) == Request("POST", b"/a%2Fb", b"c=%20", SCOPE["headers"], body)


@pytest.mark.parametrize(
    "messages",
    [
        [piece(b"x" * (MAX_BODY_BYTES + 1), more=False)],
        [piece(b"x" * (MAX_BODY_BYTES + 1))],  # what is still to come is not waited for
        [piece(b"x" * MAX_BODY_BYTES), piece(b"x")],
    ],
    ids=["one", "more to come", "two"],
)
async def test_too_large(messages: list[Message]) -> None:
    with pytest.raises(Invalid) as refused:
        await read(*messages)
    assert str(refused.value) == "body must be at most 1048576 bytes"


@pytest.mark.parametrize("messages", [[GONE], [piece(b"a"), GONE], [piece(b""), piece(b"a"), GONE]])
async def test_a_client_that_goes_away(messages: list[Message]) -> None:
    with pytest.raises(ClientGone):
        await read(*messages)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [piece(b"a")],
        [piece(b"a"), piece(b"b")],
    ],
    ids=["none of it", "a piece", "two pieces"],
)
async def test_a_body_that_does_not_come(messages: list[Message], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages_module, "_BODY_TIMEOUT", 0.01)
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    with pytest.raises(Invalid) as refused:
        async with asyncio.timeout(1):
            await Incoming({**SCOPE, "headers": [(b"content-length", b"3")]}, receive).whole()
    assert str(refused.value) == "body did not arrive within 0 seconds"


async def test_answers() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await send_answer(send, Answer(418, [(b"a", b"b")], b"teapot"))
    assert sent == [
        {"type": "http.response.start", "status": 418, "headers": [(b"a", b"b"), (b"content-length", b"6")]},
        {"type": "http.response.body", "body": b"teapot"},
    ]


async def test_a_body_is_read_once_however_often_it_is_asked_for() -> None:
    left = [piece(b"hello", more=False)]

    async def receive() -> Message:
        return left.pop()

    incoming = Incoming(SCOPE, receive)
    assert await incoming.whole() is await incoming.whole()


def test_the_first_header_of_a_name_counts() -> None:
    async def receive() -> Message:
        raise AssertionError

    incoming = Incoming(SCOPE, receive)
    assert (incoming.header(b"host"), incoming.header(b"cookie")) == (b"localhost", None)
