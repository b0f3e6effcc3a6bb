"""The administrator's functions, each in a transaction of its own, for tests that need what they make."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from thingmint.access.administration import AdminChange, accounts, credentials, policies, principals
from thingmint.services.quotas import NO_QUOTAS, Quotas

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import datetime

    from thingmint.access.vault import Vault
    from thingmint.store.engine import Store

__all__ = ["Administrator"]


class Administrator:
    """``administrator.create_folder(account, name)`` runs the function of that name."""

    def __init__(self, store: Store, vault: Vault, clock: Callable[[], datetime], quotas: Quotas = NO_QUOTAS) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._quotas = quotas

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        (function,) = {
            getattr(module, name)
            for module in (accounts, credentials, policies, principals)
            if getattr(getattr(module, name, None), "__module__", None) == module.__name__
        }
        takes = [parameter for parameter in ("change", "vault") if parameter in inspect.signature(function).parameters]

        async def call(*arguments: Any, **named: Any) -> Any:
            known = {"change": AdminChange(self._clock(), self._vault, self._quotas), "vault": self._vault}
            first = [known[parameter] for parameter in takes]
            return await self._store.write(lambda tx: function(tx, *first, *arguments, **named))

        return call
