"""The queue of events of connections: bounded for all, for an account and for a client, and fair."""

from __future__ import annotations

from thingmint.domain.arns import Scope
from thingmint.services.client_ids import Vanished
from thingmint.services.presence import Client, ConnectionRecord, EventQueue, of_vanished

OURS, THEIRS = Scope("111111111111", "us-east-1"), Scope("222222222222", "us-east-1")


def client(number: int, scope: Scope = OURS) -> Client:
    return Client(scope, f"c{number}")


def test_the_queue_has_three_bounds() -> None:
    queue: EventQueue[int] = EventQueue(total=10, per_account=8, per_client=3)
    assert [queue.put(client(0), 0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert [queue.put(client(1 + number), 0) for number in range(6)] == [True] * 5 + [False]
    assert [queue.put(client(number, THEIRS), 0) for number in range(3)] == [True] * 2 + [False]
    assert (queue.waiting, queue.dropped) == (10, 4)
    queue.settle(client(0))
    assert queue.put(client(0), 0)


def test_minor_events_leave_half_of_the_room() -> None:
    queue: EventQueue[int] = EventQueue(total=100, per_account=100, per_client=4)
    assert [queue.put(client(0), 0, minor=True) for _ in range(3)] == [True, True, False]
    assert queue.put(client(0), 0)


def test_an_event_counts_until_it_is_settled() -> None:
    queue: EventQueue[int] = EventQueue(total=1, per_account=1, per_client=1)
    queue.put(client(0), 7)
    assert queue.take(10) == [7]
    assert not queue.put(client(1), 8)
    queue.settle(client(0))
    assert queue.put(client(1), 8)
    assert queue.take(10) == [8]


def test_accounts_have_their_turns() -> None:
    queue: EventQueue[str] = EventQueue(total=1000, per_account=1000, per_client=1000)
    for number in range(300):
        queue.put(client(number), f"ours {number}")
    queue.put(client(0, THEIRS), "theirs")
    first = queue.take(30)
    assert "theirs" in first
    assert len(first) == 30
    rest = queue.take(1000)
    assert [event for event in first + rest if event != "theirs"] == [f"ours {number}" for number in range(300)]
    assert queue.take(1) == []


def test_accounts_can_be_skipped() -> None:
    queue: EventQueue[int] = EventQueue(total=10, per_account=10, per_client=10)
    queue.put(client(0), 1)
    queue.put(client(0, THEIRS), 2)
    assert queue.take(10, [OURS.account]) == [2]
    assert queue.take(10) == [1]


def test_a_record_outlives_its_process() -> None:
    record = ConnectionRecord(OURS, "lamp", "id", "3f" * 32, "192.0.2.1", "lamp-7", exclusive=True)
    again = of_vanished(Vanished(OURS, "lamp", 4, record.about()))
    assert again.claim is not None
    assert again.claim.version == 4
    assert again.about() == record.about()
    assert (again.id, again.address, again.exclusive_thing) == ("id", "192.0.2.1", "lamp-7")
    bound = ConnectionRecord(OURS, "lamp", "id", "3f" * 32, "192.0.2.1", owner="are123")
    assert (bound.about(), bound.has_events) == ("", False)
