"""What the server does in the background: work that is kept up after errors, and deletions every minute."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from thingmint.access.administration.credentials import delete_old_sessions
from thingmint.access.console_sessions import delete_old_console_sessions
from thingmint.domain.errors import Unavailable
from thingmint.services.client_ids import forget_old_versions
from thingmint.services.fleet_runs import forget_old_fleet_runs
from thingmint.services.imports import forget_old_imports
from thingmint.services.live_sessions import delete_old_answers
from thingmint.services.operations import delete_expired_operations, forget_idempotency_keys
from thingmint.services.ownership_tokens import delete_unclaimed
from thingmint.services.refusals import delete_old_refusals
from thingmint.store.outbox import prune_published_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from thingmint.access.directory import Directory

_NOTE_USE_EVERY = 5.0  # seconds
_RESTART_CHORE_AFTER = 1.0  # seconds

EVERY_MINUTE = (
    delete_unclaimed,
    forget_idempotency_keys,
    delete_expired_operations,
    prune_published_changes,
    forget_old_imports,
    forget_old_fleet_runs,
    delete_old_sessions,
    delete_old_console_sessions,
    delete_old_refusals,
    delete_old_answers,
    forget_old_versions,
)
"""For the JobRunner: functions that delete what has expired."""

_log = structlog.get_logger("thingmint.server")


async def kept_up(chore: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a chore for ever. If one ended, the server would keep running without sealing or renewing, unnoticed."""
    while True:
        try:
            await chore()
        except Exception:  # noqa: BLE001 - a chore handles the errors that it expects itself
            _log.exception("chore_failed")
        await asyncio.sleep(_RESTART_CHORE_AFTER)


async def note_use(directory: Directory) -> None:
    """Stores every few seconds when credentials were used."""
    while True:
        await asyncio.sleep(_NOTE_USE_EVERY)
        try:
            await directory.flush()
        except Unavailable:
            _log.warning("credential_use_not_recorded")
