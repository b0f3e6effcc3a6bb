"""An account's settings and regions."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.store.engine import Transaction

_REGIONS = "SELECT region FROM account_regions WHERE account = $1 ORDER BY position"


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """An account's settings. The defaults are AWS IoT's behaviour, where AWS has a corresponding one."""

    check_validity: bool = True
    """Refuse certificates outside their validity. Certificates bound to a Yandex device or registry are not checked."""
    weak_keys: bool = False
    """Accept RSA keys of 1024 to 2047 bits."""
    keys_over_mqtt: bool = True
    """Make key pairs for devices that ask for one over MQTT; if false, they must send a signing request."""
    ca_status_gates_devices: bool = False
    """Refuse devices whose CA certificate is INACTIVE, deleted or not valid now. AWS ignores the CA's status."""
    suback_refusals: bool = False
    """MQTT 3.1.1: answer a refused subscription with 0x80. AWS closes the connection instead."""
    retained_on_wildcards: bool = False
    """Send retained messages to filters with a wildcard, as MQTT requires. AWS sends them to exact filters only."""

    @classmethod
    def of(cls, stored: Mapping[str, str]) -> AccountSettings:
        """Return the settings. Equal settings share one object, because each connection keeps one in memory."""
        if not stored:
            return _DEFAULTS
        return _shared(cls(**{name: value == "true" for name, value in stored.items() if name in SETTINGS}))


@functools.cache
def _shared(settings: AccountSettings) -> AccountSettings:
    return settings


_DEFAULTS = _shared(AccountSettings())
SETTINGS: Mapping[str, bool] = {field: getattr(_DEFAULTS, field) for field in AccountSettings.__slots__}
"""Names and defaults."""


def parse_switch(name: str, value: str) -> bool:
    """Return the value of the setting ``name``. Raises Invalid."""
    if name not in SETTINGS:
        raise Invalid("name", f"must be one of {', '.join(SETTINGS)}")
    if value not in ("true", "false"):
        raise Invalid("value", "must be true or false")
    return value == "true"


async def get_settings(tx: Transaction, account: str) -> AccountSettings:
    rows = await tx.fetch_all("SELECT name, value FROM account_settings WHERE account = $1", account)
    return AccountSettings.of(dict(rows))


async def keep_setting(tx: Transaction, account: str, name: str, value: str | None) -> None:
    """Store the value of a setting; None restores its default, which is not stored."""
    await tx.execute("DELETE FROM account_settings WHERE account = $1 AND name = $2", account, name)
    if value is not None:
        await tx.execute(
            "INSERT INTO account_settings (account, name, value) VALUES ($1, $2, $3)", account, name, value
        )


async def regions_of(tx: Transaction, account: str) -> list[str]:
    """Return the account's regions; the first is its home region."""
    return [region for (region,) in await tx.fetch_all(_REGIONS, account)]
