"""The values of settings: what they must be, and the error for a wrong one."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr

from thingmint.access.vault import MASTER_KEY_BYTES
from thingmint.domain.durations import parse_duration
from thingmint.domain.names import is_hostname
from thingmint.store.database import parse_store_url

Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Port = Annotated[int, Field(ge=0, le=65535)]


class ConfigError(Exception):
    """A setting is wrong. ``setting`` is spelled as the flag is, without dashes in front."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(f"{setting}: {message}")
        self.setting = setting


def endpoint_name(name: str) -> str:
    name = name.lower().removesuffix(".")
    if not is_hostname(name):
        raise ValueError("must be named by host names, such as iot.example.org")
    return name


def store_url(url: SecretStr) -> SecretStr:
    parse_store_url(url.get_secret_value())
    return url


def shown_name(name: str) -> str:
    name = name.lower().removesuffix(".")
    if not is_hostname(name.removeprefix("*.")):
        raise ValueError(
            "must be host names such as mqtt.example.org or *.example.org; clients never ask for an address"
        )
    return name


def hex_keys(setting: str, text: str) -> list[bytes]:
    try:
        keys = [bytes.fromhex(line) for line in text.split()]
    except ValueError:
        keys = []
    if not keys or any(len(key) != MASTER_KEY_BYTES for key in keys):
        raise ConfigError(setting, "must be 64 hexadecimal digits")
    return keys


def not_empty(setting: str, passphrase: bytes) -> bytes:
    if not passphrase:
        raise ConfigError(setting, "is empty: leave it out to keep the keys unencrypted")
    return passphrase
