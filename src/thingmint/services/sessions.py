"""The sessions of connected devices, for callers of an API: a page of them, one of them, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.errors import NotFound
from thingmint.services.live_sessions import SessionFilter, SessionQuestion
from thingmint.services.pages import page_of

if TYPE_CHECKING:
    from thingmint.services.change import Query
    from thingmint.services.live_sessions import LiveSession
    from thingmint.services.page_tokens import Position
    from thingmint.services.pages import Cursor, Page


async def list_sessions(
    query: Query, cursor: Cursor, wanted: SessionFilter, *, ascending: bool = False
) -> tuple[Page[LiveSession], list[str]]:
    """Return a page of sessions by the time of connection, and the processes that did not answer in time.

    Raises Invalid and Unavailable.
    """
    missing: set[str] = set()

    async def fetch(after: Position | None, limit: int) -> list[LiveSession]:
        page = await query.environment.messages.sessions(query.scope, SessionQuestion(wanted, after, limit, ascending))
        missing.update(page.missing)
        return page.sessions

    listing = f"sessions {'ascending' if ascending else 'descending'} {wanted}"
    return await page_of(query, cursor, listing, fetch, lambda each: each.position), sorted(missing)


async def get_session(query: Query, client_id: str, owner: str | None) -> LiveSession:
    """Return the session of a client with its topic filters. Raises NotFound and Unavailable."""
    wanted = SessionFilter(client_id=client_id, owner=owner, details=True)
    page = await query.environment.messages.sessions(query.scope, SessionQuestion(wanted, None, 1, ascending=False))
    if not page.sessions:
        raise NotFound("session of client", client_id)
    return page.sessions[0]


async def end_session(query: Query, client_id: str, owner: str | None, *, with_will: bool, discard: bool) -> bool:
    """Close a client's connection; with ``discard``, end its session too. Return whether it was connected.

    Raises NotFound (unless ``discard``) and Unavailable.
    """
    was_connected = await query.environment.messages.close_client(
        query.scope, client_id, owner, with_will=with_will, discard=discard
    )
    if not was_connected and not discard:
        raise NotFound("session of client", client_id)
    return was_connected
