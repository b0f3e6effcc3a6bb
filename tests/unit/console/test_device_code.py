"""The code that pages show for devices of Yandex IoT Core."""

from __future__ import annotations

import ast
import re
import shlex
from typing import TYPE_CHECKING

import pytest

from thingmint.console.yandex_device_code import yandex_code_for

if TYPE_CHECKING:
    from thingmint.console.yandex_device_code import SignIn

ID = "are0123456789abcdefg"


@pytest.mark.parametrize("sign_in", ["certificate", "password"])
@pytest.mark.parametrize("host", ["mqtt.example.org", "192.0.2.1", "2001:db8::1"])
def test_the_code_has_the_address_the_device_and_its_own_files(sign_in: SignIn, host: str) -> None:
    codes = {code.id: code.text for code in yandex_code_for(ID, host, 8883, sign_in)}
    assert sorted(codes) == ["arduino", "esp-idf", "mosquitto", "node", "paho"]
    for kind, text in codes.items():
        assert host in text, kind
        assert "8883" in text, kind
        assert f"$devices/{ID}/events" in text, kind
        assert ID in text.replace(f"$devices/{ID}/events", ""), kind
        assert not re.search(r"\$(?!devices|\(cat)|\$\$", text), (kind, "a value is missing")
        assert bool(re.search(r"user_?name|-u are|password", text)) == (sign_in == "password"), kind
        assert ("device.key" in text or "device_key" in text) == (sign_in == "certificate"), kind
    ast.parse(codes["paho"])
    words = shlex.split(codes["mosquitto"])
    assert words[words.index("-t") + 1] == f"$devices/{ID}/events"
    assert codes["node"].count("{") == codes["node"].count("}")
    assert "[2001:db8::1]:8883" in codes["node"] or ":" not in host
