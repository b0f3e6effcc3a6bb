"""The filters of the list of certificates."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.vectors import NOW
from thingmint.console.certificate_filters import time_of_list
from thingmint.console.fields import Fields
from thingmint.domain.errors import Invalid


def test_the_address_of_the_next_page_has_the_time_of_the_first() -> None:
    opened = NOW + timedelta(microseconds=345_678)
    first = time_of_list(Fields([]), opened)
    later = opened + timedelta(hours=1)
    assert time_of_list(Fields([("at", str(int(first.timestamp())))]), later) == first


@pytest.mark.parametrize("seconds", [-60, 2 * 86_400])
def test_a_list_of_the_future_or_of_yesterday_is_refused(seconds: int) -> None:
    at = str(int(NOW.timestamp()) - seconds)
    with pytest.raises(Invalid, match="too old"):
        time_of_list(Fields([("at", at)]), NOW)
