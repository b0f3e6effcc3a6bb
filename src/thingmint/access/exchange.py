"""A request under way: who asks for what, from where, and how it ends; for the log, the metrics and the audit trail."""

from __future__ import annotations

import os
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.access.callers import Caller

__all__ = ["CURRENT", "OPERATOR", "Exchange"]

# The face of whoever may read the data directory: no caller, and no stranger either.
OPERATOR = "admin"


def _new_id() -> str:
    """A UUID of version 4 (RFC 9562 5.4), at a quarter of what the standard library takes for it."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


@dataclass(slots=True)
class Exchange:
    """Faces fill in what they find out.

    ``operation`` is the contract's name of it, ``source`` the client's address, ``parameters`` what the audit trail may
    tell of the input, ``details`` what it says besides, ``recorded`` whether the trail has it already, because it was
    written in the transaction of the change itself. ``at`` is when it came, by the instance's clock; policies are put
    to that.
    """

    face: str = "-"
    operation: str = "-"
    method: str = "-"
    source: str | None = None
    user_agent: str | None = None
    caller: Caller | None = None
    account: str | None = None  # that an operator's command is about
    resource: str | None = None
    parameters: Mapping[str, str] | None = None
    error_code: str | None = None
    status: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    recorded: bool = False
    id: str = field(default_factory=_new_id)
    started: float = field(default_factory=time.perf_counter)

    @property
    def of_account(self) -> str | None:
        """Whose audit trail this belongs to."""
        return self.caller.account if self.caller else self.account

    @staticmethod
    def of(scope: Mapping[str, Any]) -> Exchange:
        """The exchange of an ASGI connection scope."""
        exchange: Exchange = scope["thingmint.exchange"]
        return exchange


# The exchange that the running task works for; without one it is the server's own housekeeping.
CURRENT: ContextVar[Exchange | None] = ContextVar("thingmint_exchange", default=None)
