"""Times are exact to the microsecond, before and after 1970."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thingmint.store.table import from_micros, to_micros


@pytest.mark.parametrize(
    ("time", "micros"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), 1),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
        (datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), 2_524_607_999_000_000),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), 253_402_300_799_000_000),
        (datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 0),
    ],
)
def test_known_times_are_converted_both_ways(time: datetime, micros: int) -> None:
    assert to_micros(time) == micros
    assert from_micros(micros) == time


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_time_is_the_same_after_both_conversions(time: datetime) -> None:
    assert from_micros(to_micros(time)) == time
