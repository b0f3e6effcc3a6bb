"""Reading one account's part of the audit trail."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import orjson

from thingmint.access.audit import first_record_id
from thingmint.domain.arns import Scope
from thingmint.services.pages import Page
from thingmint.store import audit as sql

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from thingmint.services.page_tokens import PageTokens
    from thingmint.store.engine import Reader
    from thingmint.store.search_keys import Searched

Record = dict[str, Any]

UNREADABLE: Mapping[str, Any] = MappingProxyType({"event": "not readable"})
"""What is shown of a record that somebody spoiled; `thingmint audit verify` says which it is."""

_LISTING = "audit records"
# Where both an event and a principal are asked for, a page ends after so many of the principal's were looked at.
_LOOK_AT = 1000


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """``since`` is the first moment, ``until`` the one after the last."""

    since: datetime | None = None
    until: datetime | None = None
    event: str | None = None
    principal: str | None = None

    @property
    def searched(self) -> tuple[Searched, str] | None:
        """What an index has. Principals do less than events are common."""
        if self.principal:
            return "principal", self.principal
        return ("event", self.event) if self.event else None

    def takes(self, record: Record) -> bool:
        return self.event in (None, record.get("event")) and self.principal in (None, record.get("principal"))


def read_record(text: str) -> Record:
    """``UNREADABLE`` for what is no record's text."""
    try:
        record = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError):
        return dict(UNREADABLE)
    return record if isinstance(record, dict) else dict(UNREADABLE)


class AuditRecords:
    def __init__(self, store: Reader, page_tokens: PageTokens) -> None:
        self._store = store
        self._page_tokens = page_tokens

    async def list(self, account: str, wanted: AuditFilter, *, limit: int, marker: str | None) -> Page[Record]:
        """Newest first. There may be a next page after one that is not full. Raises Invalid for a foreign marker."""
        scope = Scope(account, "")
        bounds = [first_record_id(wanted.until)] if wanted.until else []
        if marker:
            bounds.append(self._page_tokens.open(_LISTING, scope, marker)[1])
        since = first_record_id(wanted.since) if wanted.since else None
        look_at = _LOOK_AT if wanted.event and wanted.principal else limit
        before = min(bounds, default=None)
        rows = await self._store.read(
            lambda tx: sql.list_records(
                tx, account=account, before=before, since=since, limit=look_at + 1, wanted=wanted.searched
            )
        )
        found: list[Record] = []
        for number, row in enumerate(rows[:look_at], start=1):
            record = read_record(row.record)
            if row.account == account and wanted.takes(record):
                found.append(record)
            if len(found) == limit or number == look_at:
                more = len(rows) > number
                return Page(found, self._page_tokens.seal(_LISTING, scope, (0, row.id)) if more else None)
        return Page(found, None)
