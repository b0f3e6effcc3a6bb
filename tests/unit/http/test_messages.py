"""Reading a complete request, and answering it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from thingmint.domain.errors import Invalid, Throttled
from thingmint.http import messages as messages_module
from thingmint.http.memory import FREE_BYTES, MIB, RequestMemory
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
    """The request that is read from these messages, after which no other message arrives."""
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return await Incoming(SCOPE, receive, RequestMemory.of()).whole()


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
async def test_a_request_is_read_from_its_messages(messages: list[Message], body: bytes) -> None:
    assert await read(*messages) == Request("POST", b"/a%2Fb", b"c=%20", SCOPE["headers"], body)


@pytest.mark.parametrize(
    "messages",
    [
        [piece(b"x" * (MAX_BODY_BYTES + 1), more=False)],
        [piece(b"x" * (MAX_BODY_BYTES + 1))],  # the rest of the body is not awaited
        [piece(b"x" * MAX_BODY_BYTES), piece(b"x")],
    ],
    ids=["one", "more to come", "two"],
)
async def test_a_too_large_body_is_invalid(messages: list[Message]) -> None:
    with pytest.raises(Invalid) as refused:
        await read(*messages)
    assert str(refused.value) == "body must be at most 1048576 bytes"


@pytest.mark.parametrize("messages", [[GONE], [piece(b"a"), GONE], [piece(b""), piece(b"a"), GONE]])
async def test_a_client_that_disconnects_is_client_gone(messages: list[Message]) -> None:
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
async def test_a_body_that_does_not_arrive_is_invalid(messages: list[Message], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages_module, "_BODY_TIMEOUT", 0.01)
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    with pytest.raises(Invalid) as refused:
        async with asyncio.timeout(1):
            await Incoming({**SCOPE, "headers": [(b"content-length", b"3")]}, receive, RequestMemory.of()).whole()
    assert str(refused.value) == "body did not arrive within 0 seconds"


async def test_an_answer_is_sent_with_its_length() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await send_answer(send, Answer(418, [(b"a", b"b")], b"teapot"))
    assert sent == [
        {"type": "http.response.start", "status": 418, "headers": [(b"a", b"b"), (b"content-length", b"6")]},
        {"type": "http.response.body", "body": b"teapot"},
    ]


async def test_a_body_is_read_once() -> None:
    left = [piece(b"hello", more=False)]

    async def receive() -> Message:
        return left.pop()

    incoming = Incoming(SCOPE, receive, RequestMemory.of())
    assert await incoming.whole() is await incoming.whole()


def test_the_first_header_of_a_name_counts() -> None:
    async def receive() -> Message:
        raise AssertionError

    incoming = Incoming(SCOPE, receive, RequestMemory.of())
    assert (incoming.header(b"host"), incoming.header(b"cookie")) == (b"localhost", None)


class TestMemory:
    """Bodies are counted in a budget."""

    @staticmethod
    def incoming(memory: RequestMemory, *pieces: bytes, address: str = "192.0.2.1") -> Incoming:
        left = [piece(each) for each in pieces]

        async def receive() -> Message:
            return left.pop(0) if left else piece(b"", more=False)

        return Incoming({**SCOPE, "client": (address, 1)}, receive, memory)

    async def test_bodies_of_unauthenticated_callers_are_limited_together(self) -> None:
        memory = RequestMemory.of(unauthenticated=4 * MIB)
        held = []
        for host in range(10):
            held.append(self.incoming(memory, b"x" * MIB, address=f"192.0.2.{host}"))
            if host < 4:
                await held[-1].whole()
            else:
                with pytest.raises(Throttled):
                    await held[-1].whole()
        for each in held:
            each.release()
        assert memory.unauthenticated.used == 0
        await self.incoming(memory, b"x" * MIB).whole()

    async def test_one_address_can_use_half_of_the_budget(self) -> None:
        memory = RequestMemory.of(unauthenticated=4 * MIB)
        for _ in range(2):
            await self.incoming(memory, b"x" * MIB).whole()
        with pytest.raises(Throttled):
            await self.incoming(memory, b"x" * MIB).whole()
        await self.incoming(memory, b"x" * MIB, address="192.0.2.2").whole()

    async def test_small_bodies_are_read_when_the_budget_is_used_up(self) -> None:
        memory = RequestMemory.of(unauthenticated=0)
        assert len((await self.incoming(memory, b"x" * FREE_BYTES).whole()).body) == FREE_BYTES

    async def test_authenticated_callers_have_their_own_budget(self) -> None:
        memory = RequestMemory.of(unauthenticated=0, authenticated=4 * MIB)
        incoming = self.incoming(memory, b"x" * MIB)
        incoming.authenticated("123456789012")
        await incoming.whole()
        assert (memory.unauthenticated.used, memory.authenticated.used) == (0, MIB - FREE_BYTES)
        incoming.release()
        assert memory.authenticated.used == 0

    async def test_a_body_is_counted_for_the_account_after_authentication(self) -> None:
        memory = RequestMemory.of(unauthenticated=4 * MIB, authenticated=4 * MIB)
        incoming = self.incoming(memory, b"x" * MIB)
        await incoming.whole()
        incoming.authenticated("123456789012")
        assert (memory.unauthenticated.used, memory.authenticated.used) == (0, MIB - FREE_BYTES)
