"""Repeated events: few records for any number of events, complete counts, and bounded memory."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from thingmint.access import repeats
from thingmint.access.repeats import Kind, Repeats

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Counted:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.repeats = Repeats(lambda: self.seconds)
        self.first = 0

    def note(self, kind: Kind, times: int = 1) -> None:
        for _ in range(times):
            self.first += self.repeats.is_first(kind, NOW, "192.0.2.1", dict)

    def due(self) -> list[int]:
        return [group.count for group in self.repeats.due(1000)]


@pytest.fixture
def counted() -> Counted:
    return Counted()


LAMP = Kind("1", "lamp", "Connect", "NotAuthorized")


def test_windows_grow_from_a_minute_to_an_hour(counted: Counted) -> None:
    ends: list[float] = []
    for _ in range(4 * 3600):
        counted.note(LAMP)
        counted.seconds += 1
        if counted.due():
            ends.append(counted.seconds)
    windows = [later - earlier for earlier, later in zip([0.0, *ends], ends, strict=False)]
    assert [round(window / 60) for window in windows] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_events_that_did_not_repeat_are_not_reported(counted: Counted) -> None:
    counted.note(LAMP)
    counted.seconds += 3000
    assert counted.due() == []
    assert counted.first == 1


def test_a_kind_without_events_for_an_hour_is_forgotten(counted: Counted) -> None:
    for pause, first in ((3000, 1), (3000, 1), (3700, 2)):
        counted.note(LAMP)
        assert counted.first == (first if pause != 3700 else 1)
        counted.seconds += pause
        counted.due()
    counted.seconds += 3700
    counted.due()
    assert len(counted.repeats) == 0
    counted.note(LAMP)
    assert counted.first == 2


def test_few_counts_are_reported_at_once_and_the_rest_later(counted: Counted) -> None:
    for number in range(100):
        counted.note(LAMP._replace(who=f"{number}"), 2)
    counted.seconds += 60
    assert [len(counted.repeats.due(40)) for _ in range(4)] == [40, 40, 20, 0]


def kinds(accounts: int, callers: int, reasons: int) -> Iterable[Kind]:
    for account in range(accounts):
        for caller in range(callers):
            for reason in range(reasons):
                yield Kind(f"{account}", f"{caller}", "Publish", "NotAuthorized", f"topic {reason}")


@pytest.mark.parametrize(
    ("accounts", "callers", "reasons", "groups"),
    [
        (1, 1, 1000, repeats.MAX_OF_CALLER + 1),
        (1, 5000, 2, repeats.MAX_OF_ACCOUNT + 1),
        (40, 500, 2, repeats.MAX_KINDS + repeats.MAX_ACCOUNTS),
        (3000, 10, 1, repeats.MAX_KINDS + repeats.MAX_ACCOUNTS + 1),
    ],
    ids=["one caller", "one account", "some accounts", "many accounts"],
)
def test_groups_are_bounded_and_all_events_are_counted(
    counted: Counted, accounts: int, callers: int, reasons: int, groups: int
) -> None:
    for kind in kinds(accounts, callers, reasons):
        counted.note(kind, 2)
    assert len(counted.repeats) <= groups
    assert counted.first == len(counted.repeats), "each group has one first event"
    assert counted.first + sum(group.count for group in counted.repeats.all()) == 2 * accounts * callers * reasons
    counted.seconds += 4000
    counted.due()
    assert len(counted.repeats) == 0
    assert (counted.repeats._of_caller, counted.repeats._of_account, counted.repeats._accounts) == (
        Counter(),
        Counter(),
        0,
    )


def test_one_account_does_not_use_up_the_kinds_of_another(counted: Counted) -> None:
    for kind in kinds(1, 5000, 2):
        counted.note(kind, 2)
    before = counted.first
    counted.note(Kind("other", "lamp", "Connect", "NotAuthorized"), 2)
    assert counted.first == before + 1


def test_facts_that_are_kept_are_clipped(counted: Counted) -> None:
    for _ in range(2):
        counted.repeats.is_first(LAMP, NOW, None, lambda: {"resource": "x" * 100_000, "number": 1})
    [group] = counted.repeats.all()
    assert len(group.facts["resource"]) == 300
    assert group.facts["number"] == 1
