"""Ids that sort by time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from thingmint.domain.ids import TimeOrderedIds

NOW = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
_LANE = 1 << 59


def test_time_ordered_ids_increase_with_the_time() -> None:
    make = TimeOrderedIds(lanes=False)
    times = [NOW + timedelta(microseconds=number) for number in range(1000)]
    ids = [make(time) for time in times]
    assert ids == sorted(set(ids))
    assert [id >> 6 for id in ids] == [
        (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) for time in times
    ]


def test_ids_are_unique_if_the_clock_stops_or_goes_back() -> None:
    make = TimeOrderedIds(lanes=False)
    ids = [make(NOW - timedelta(seconds=number % 2)) for number in range(1000)]
    assert ids == sorted(set(ids))


def test_two_makers_rarely_make_the_same_id_at_the_same_time() -> None:
    assert len({TimeOrderedIds(lanes=False)(NOW) for _ in range(1000)}) > 32


def test_ids_with_lanes_have_16_prefixes_and_fit_in_64_bits() -> None:
    make = TimeOrderedIds(lanes=True)
    ids = [make(NOW.replace(year=2200)) for _ in range(2000)]
    assert {id // _LANE for id in ids} == set(range(16))
    assert [id % _LANE for id in ids] == sorted(id % _LANE for id in ids)
    assert len(set(ids)) == 2000
    assert all(0 <= id < 1 << 63 for id in ids)
