"""Reads an account's records from the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import orjson

from thingmint.access.audit_events import first_record_id
from thingmint.domain.arns import Scope
from thingmint.services.pages import Page
from thingmint.store import audit as sql

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from thingmint.services.page_tokens import PageTokens
    from thingmint.store.audit import AuditRow
    from thingmint.store.engine import Reader, Transaction
    from thingmint.store.search_keys import Searched

Record = dict[str, Any]

UNREADABLE: Mapping[str, Any] = MappingProxyType({"event": "not readable"})
"""Shown in place of a damaged record; `thingmint audit verify` reports its number."""

_LISTING = "audit records"
# Records read for one page if no index covers the whole filter.
_LOOK_AT = 1000


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """``since`` is inclusive, ``until`` exclusive."""

    since: datetime | None = None
    until: datetime | None = None
    event: str | None = None
    principal: str | None = None
    outcome: str | None = None
    resource: str | None = None
    client_id: str | None = None
    certificate: str | None = None
    about: str | None = None
    """A principal or resource: the records in which it acted, or which changed it."""

    @property
    def is_indexed(self) -> bool:
        """True if an index covers the whole filter."""
        further = (self.outcome, self.resource, self.client_id, self.certificate)
        return not any(further) and sum(map(bool, (self.event, self.principal, self.about))) < 2

    @property
    def searched(self) -> tuple[Searched, str] | None:
        """The index to use and the value. With both fields set, the principal: it has fewer records than an event."""
        if self.principal:
            return "principal", self.principal
        return ("event", self.event) if self.event else None

    def matches(self, record: Record) -> bool:
        return (
            self.event in (None, record.get("event"))
            and self.principal in (None, record.get("principal"))
            and self.outcome in (None, record.get("outcome"))
            and (self.about is None or self.about in (record.get("principal"), *_resources(record)))
            and (self.resource is None or self.resource in _resources(record))
            and (self.client_id is None or _is_of_client(record, self.client_id))
            and (self.certificate is None or _is_of_certificate(record, self.certificate.lower()))
        )


def _resources(record: Record) -> list[Any]:
    """The resource that was authorized, and the resources that were changed."""
    further = record.get("resources")
    return [record.get("resource"), *(further if isinstance(further, list) else [])]


def _is_of_client(record: Record, client_id: str) -> bool:
    if "clientId" in record:
        return bool(record["clientId"] == client_id)
    # Older records have the client id only in the resource: as an ARN, or alone if the device was accepted.
    if record.get("event") != "Connect":
        return False
    return str(record.get("resource")).partition("client/")[2] == client_id or record.get("resource") == client_id


def _is_of_certificate(record: Record, id: str) -> bool:
    """True if the certificate acted, or was changed."""
    if id in (record.get("credential"), record.get("certificate")):
        return True
    return any(str(resource).endswith(f"cert/{id}") for resource in _resources(record))


def read_record(text: str) -> Record:
    """The record, or ``UNREADABLE`` if the text is not a record."""
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
        """A page of records, newest first; it may have a next page though it is not full.

        Raises Invalid for a marker of another listing or account.
        """
        found = await self.rows(account, wanted, limit=limit, marker=marker)
        return Page([record for _, record in found.items], found.next_token)

    async def rows(
        self, account: str, wanted: AuditFilter, *, limit: int, marker: str | None
    ) -> Page[tuple[AuditRow, Record]]:
        """The same with the rows, which say where in its chain each record is."""
        scope = Scope(account, "")
        bounds = [first_record_id(wanted.until)] if wanted.until else []
        if marker:
            bounds.append(self._page_tokens.open(_LISTING, scope, marker)[1])
        since = first_record_id(wanted.since) if wanted.since else None
        look_at = limit if wanted.is_indexed else _LOOK_AT
        before = min(bounds, default=None)

        async def body(tx: Transaction) -> Sequence[AuditRow]:
            limit = look_at + 1
            if wanted.about:
                return await sql.list_about(
                    tx, account=account, about=wanted.about, before=before, since=since, limit=limit
                )
            return await sql.list_records(
                tx, account=account, before=before, since=since, limit=limit, wanted=wanted.searched
            )

        rows = await self._store.read(body)
        found: list[tuple[AuditRow, Record]] = []
        for number, row in enumerate(rows[:look_at], start=1):
            record = read_record(row.record)
            if row.account == account and wanted.matches(record):
                found.append((row, record))
            if len(found) == limit or number == look_at:
                more = len(rows) > number
                return Page(found, self._page_tokens.seal(_LISTING, scope, (0, row.id)) if more else None)
        return Page(found, None)

    async def history(self, account: str, arn: str, limit: int) -> Sequence[Record]:
        """The last records in which a certificate acted, or that changed it, newest first.

        Both are found along indexes.
        """
        rows = await self._store.read(
            lambda tx: sql.list_about(tx, account=account, about=arn, before=None, limit=limit)
        )
        found = [read_record(row.record) for row in rows if row.account == account]
        return [each for each in found if arn in (each.get("principal"), *_resources(each))]
