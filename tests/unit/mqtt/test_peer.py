"""Addresses and server names in the form that policies compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from thingmint.domain.names import server_name
from thingmint.mqtt.peer import remote_address

if TYPE_CHECKING:
    import asyncio


class Transport:
    def __init__(self, peername: Any) -> None:
        self.peername = peername

    def get_extra_info(self, name: str) -> Any:
        return {"peername": self.peername}[name]


@pytest.mark.parametrize(
    ("peername", "address"),
    [
        (("192.0.2.1", 5), ("192.0.2.1", 5)),
        (("::ffff:192.0.2.1", 5, 0, 0), ("192.0.2.1", 5)),
        (("2001:0db8::0001", 5, 0, 0), ("2001:db8::1", 5)),
        (("fe80::1%eth0", 5, 0, 2), ("fe80::1", 5)),
        ("", ("", 0)),
        (None, None),
    ],
)
def test_addresses_are_normalized(peername: Any, address: tuple[str, int] | None) -> None:
    assert remote_address(cast("asyncio.BaseTransport", Transport(peername))) == address


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (None, None),
        (b"", None),
        (b".", None),
        (b"IoT.Example.org", "iot.example.org"),
        (b"iot.example.org.", "iot.example.org"),
        (b"iot.example.org..", "iot.example.org."),
        (b"\xd0\xb9", r"\xd0\xb9"),
    ],
)
def test_server_names_are_normalized(raw: bytes | None, name: str | None) -> None:
    assert server_name(raw) == name
