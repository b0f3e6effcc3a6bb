"""Quotas of what there may be millions of: counted ahead, as looking would take too long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.quotas import exceeded
from thingmint.store import usage

if TYPE_CHECKING:
    from thingmint.domain.quotas import Quotas
    from thingmint.store.engine import Store, Transaction

__all__ = ["begin_counting", "check_certificates"]


async def begin_counting(store: Store, quotas: Quotas) -> None:
    """Takes as long as a scan of an index when such a quota is set for the first time, and nothing later."""

    async def body(tx: Transaction) -> None:
        if quotas.certificates is not None:
            await usage.begin(tx, "certificates")
        if quotas.devices is not None:
            await usage.begin(tx, "devices")

    if quotas.certificates is not None or quotas.devices is not None:
        await store.write(body)


async def check_certificates(tx: Transaction, account: str, quotas: Quotas) -> None:
    """Once another is registered. Raises LimitExceeded."""
    quota = quotas.certificates
    if quota is not None and await usage.used(tx, "certificates", account) > quota:
        raise exceeded("account", account, quota, "certificates")
