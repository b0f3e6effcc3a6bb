"""The leases of this process, where several may serve one database."""

from __future__ import annotations

import os
import secrets
import socket
from typing import TYPE_CHECKING

import structlog

from thingmint.access.sealing import AUDIT_LEASE
from thingmint.domain.errors import Unavailable
from thingmint.services.certificates import utc_now
from thingmint.services.jobs import JOBS_LEASE
from thingmint.services.leases import LeaseKeeper

if TYPE_CHECKING:
    from thingmint.store.engine import Store

_log = structlog.get_logger("thingmint.leases")


def lease_keeper(store: Store) -> LeaseKeeper | None:
    """None where this process is the only one."""
    if not store.is_shared:
        return None
    process = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    return LeaseKeeper(store, process, [AUDIT_LEASE, JOBS_LEASE], utc_now)


async def release(leases: LeaseKeeper) -> None:
    try:
        await leases.release()
    except Unavailable as error:
        _log.warning("leases_not_released", error=str(error))
