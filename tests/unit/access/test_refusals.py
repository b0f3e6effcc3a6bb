"""Refused connections: few lines in the log for any number of refusals, and a complete count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from thingmint.access.request_log import RefusalLog

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    def __init__(self) -> None:
        self.pending: list[Callable[[], None]] = []

    def __call__(self, seconds: float, then: Callable[[], None]) -> None:
        assert seconds == 10.0
        self.pending.append(then)

    def fire(self) -> None:
        (then,) = self.pending
        self.pending.clear()
        then()


def test_the_first_refusal_is_logged_at_once_and_the_rest_as_a_number() -> None:
    timer = Timer()
    refusals = RefusalLog(timer)
    with capture_logs() as logs:
        for _ in range(1000):
            refusals.note("tls_handshake_failed", "192.0.2.1", "http request")
    assert logs == [
        {"event": "tls_handshake_failed", "source": "192.0.2.1", "reason": "http request", "log_level": "info"}
    ]
    with capture_logs() as logs:
        timer.fire()
    assert [(line["source"], line["more"]) for line in logs] == [("192.0.2.1", 999)]
    assert not timer.pending


def test_a_single_refusal_makes_a_single_line() -> None:
    timer = Timer()
    refusals = RefusalLog(timer)
    with capture_logs() as logs:
        refusals.note("connection_refused", "192.0.2.1", "too many connections")
        timer.fire()
        refusals.note("connection_refused", "192.0.2.1", "too many connections")
        timer.fire()
    assert len(logs) == 2


def test_each_event_and_source_has_its_own_lines() -> None:
    refusals = RefusalLog(Timer())
    with capture_logs() as logs:
        for event in ("connection_refused", "tls_handshake_failed"):
            for host in range(3):
                refusals.note(event, f"192.0.2.{host}", "of one reason")
    assert len(logs) == 6


def test_refusals_of_many_sources_share_one_line() -> None:
    timer = Timer()
    refusals = RefusalLog(timer)
    with capture_logs() as logs:
        for host in range(10_000):
            refusals.note("tls_handshake_failed", f"2001:db8:0:{host:x}::/64", "timed out")
            refusals.note("tls_handshake_failed", f"2001:db8:0:{host:x}::/64", "timed out")
        timer.fire()
    assert len(logs) <= 101
    assert sum(line.get("more", 1) for line in logs) == 20_000
    assert len(refusals._sources) == 0
