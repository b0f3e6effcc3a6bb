"""Connection limits: which addresses are counted together, what is refused, and that places are freed."""

from __future__ import annotations

import pytest

from thingmint.domain.names import source_of
from thingmint.http.connection_limits import FEW, AddressLimits, Limits, Place, TooMany

SMALL = Limits(total=6, per_address=4, half_open=3, half_open_per_address=2, reserve=0)


def place(limits: AddressLimits, address: str) -> Place:
    given = limits.admit(address)
    assert isinstance(given, Place)
    return given


def refusal(limits: AddressLimits, address: str) -> str:
    given = limits.admit(address)
    assert isinstance(given, TooMany)
    return given.reason


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1:2%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_addresses_of_one_source_are_counted_together(address: str, source: str) -> None:
    assert source_of(address) == source


def test_half_open_connections_of_an_address_are_limited() -> None:
    limits = AddressLimits(SMALL)
    first = place(limits, "192.0.2.1")
    place(limits, "192.0.2.1")
    assert refusal(limits, "192.0.2.1") == "too many handshakes under way from this address"
    first.opened()
    place(limits, "192.0.2.1")


def test_half_open_connections_are_limited_in_total() -> None:
    limits = AddressLimits(SMALL)
    first, *_ = [place(limits, f"192.0.2.{n}") for n in range(3)]
    assert refusal(limits, "192.0.2.9") == "too many handshakes under way"
    first.closed()
    place(limits, "192.0.2.9")


def test_connections_of_an_address_are_limited() -> None:
    limits = AddressLimits(SMALL)
    held = []
    for host in range(4):
        held.append(place(limits, f"2001:db8::{host}"))
        held[-1].opened()
    assert refusal(limits, "2001:db8::ffff") == "too many connections from this address"
    place(limits, "2001:db8:0:1::1")
    held[0].closed()
    place(limits, "2001:db8::ffff")


def test_connections_are_limited_in_total() -> None:
    limits = AddressLimits(SMALL)
    held = []
    for host in range(6):
        held.append(place(limits, f"192.0.2.{host}"))
        held[-1].opened()
    assert refusal(limits, "192.0.2.9") == "too many connections"
    held[0].closed()
    place(limits, "192.0.2.9")


def test_a_place_is_freed_once() -> None:
    limits = AddressLimits(SMALL)
    place(limits, "192.0.2.1")
    gone = place(limits, "192.0.2.1")
    for _ in range(3):
        gone.opened()
    assert (limits.total, limits.half_open) == (2, 1)
    for _ in range(3):
        gone.closed()
        gone.opened()
    assert (limits.total, limits.half_open) == (1, 1)


def test_sources_without_connections_are_forgotten() -> None:
    limits = AddressLimits(SMALL)
    for host in range(50):
        passing = place(limits, f"192.0.2.{host}")
        if host % 2:
            passing.opened()
        passing.closed()
    assert (limits.total, limits.half_open) == (0, 0)
    assert not limits._open
    assert not limits._half_open


def test_refused_connections_are_not_counted() -> None:
    limits = AddressLimits(SMALL)
    held = [place(limits, "192.0.2.1"), place(limits, "192.0.2.1")]
    for _ in range(20):
        refusal(limits, "192.0.2.1")
    for each in held:
        each.closed()
    assert limits.total == 0
    place(limits, "192.0.2.1")


def test_the_reserve_is_for_addresses_with_few_connections() -> None:
    reasons: list[str] = []
    limits = AddressLimits(
        Limits(total=100, per_address=90, half_open=100, half_open_per_address=100, reserve=20), reasons.append
    )
    held = [place(limits, "192.0.2.1") for _ in range(80)]
    assert refusal(limits, "192.0.2.1") == "the last places are for addresses with few connections"
    others = [place(limits, f"192.0.2.{host}") for host in range(2, 22)]
    assert refusal(limits, "192.0.2.99") == "too many connections"
    for each in [*held, *others]:
        each.closed()
    assert reasons == ["the last places are for addresses with few connections", "too many connections"]


def test_an_address_can_use_few_places_of_the_reserve() -> None:
    limits = AddressLimits(Limits(total=100, per_address=90, half_open=100, half_open_per_address=100, reserve=100))
    for _ in range(FEW):
        place(limits, "192.0.2.1")
    refusal(limits, "192.0.2.1")
    place(limits, "192.0.2.2")
