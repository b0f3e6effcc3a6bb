"""Adds the batches of a source to the store, in the process that has it open."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from thingmint.access.administration.accounts import list_accounts
from thingmint.access.local_admin import local_request, recorded
from thingmint.access.operations import write_with_new_ids
from thingmint.domain.arns import Scope
from thingmint.domain.errors import DomainError, Invalid, NotFound
from thingmint.domain.ids import new_uuid
from thingmint.importing.kinds import KINDS
from thingmint.services.accounts import regions_of
from thingmint.services.change import Change
from thingmint.services.imports import (
    IMPORTS,
    Import,
    Result,
    advance,
    find_unfinished,
    findings_after,
    get_import,
    list_imports,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from thingmint.access.audit import AuditedStore, AuditLog
    from thingmint.importing.batches import Item, Place
    from thingmint.services.change import Environment
    from thingmint.store.engine import Transaction

_MAX_LISTED = 1000

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Importer:
    """Its methods are the local commands ``import.start`` and so on: they take and return JSON.

    All raise DomainErrors.
    """

    store: AuditedStore
    trail: AuditLog
    environment: Environment
    clock: Callable[[], datetime]

    async def start(self, *, source: str, origin: str, identity: str, account: str = "", again: bool = False) -> Json:
        """Begin an import, or go on with the one of the same things that was interrupted unless ``again``."""
        account = await self._account(account)
        if not again:
            known = await self.store.read(lambda tx: find_unfinished(tx, account, source, identity))
            if known is not None:
                return {**_shown(known, self.clock()), "continued": True}
        now = self.clock()
        new = Import(new_uuid(), account, source, origin, identity, {}, {}, 0, now, now)

        async def body(tx: Transaction) -> None:
            await IMPORTS.insert(tx, new)
            tx.audit_details["import"] = new.id

        context = replace(
            local_request("StartImport", now), account=account, parameters={"source": source, "origin": origin}
        )
        with recorded(context, self.trail) as outcome:
            await self.store.of(context, outcome).write(body)
        return {**_shown(new, now), "continued": False}

    async def apply(
        self,
        *,
        id: str,
        after: Place,
        place: Place,
        items: Sequence[Item],
        results: Sequence[Sequence[str]] = (),
        dry_run: bool = False,
        account: str = "",
    ) -> Json:
        """Add a batch, and move the import from the place ``after`` to ``place``. With ``dry_run``, change nothing.

        ``results`` are the source's own. Returns them and those of the items.
        """
        account = await self._account(account) if dry_run else (await self._import(id)).account
        change = await self._change(account)
        prepared = await asyncio.to_thread(_prepare_all, change, items)
        told = [Result(*result) for result in results]  # type: ignore[arg-type]  # the source has made them

        async def body(tx: Transaction) -> list[Result]:
            change.ids.restart()
            found = [*told, *await _apply_all(tx, change, prepared, dry_run=dry_run)]
            if not dry_run:
                await advance(tx, id, after, place, found, change.now)
            return found

        found = await (self.store.read(body) if dry_run else write_with_new_ids(self.store, change, body, once=True))
        return {"account": account, "results": [list(result) for result in found]}

    async def finish(self, *, id: str) -> Json:
        """End an import: the same things imported again are another import. Its counts are in the audit record."""
        now = self.clock()
        known = await self._import(id)

        async def body(tx: Transaction) -> Import:
            current = await get_import(tx, id)
            done = replace(current, finished_at=current.finished_at or now, modified_at=now)
            await IMPORTS.update(tx, done)
            tx.audit_details |= {"import": id, "counts": dict(done.counts)}
            return done

        context = replace(
            local_request("FinishImport", now),
            account=known.account,
            parameters={"source": known.source, "origin": known.origin},
        )
        with recorded(context, self.trail) as outcome:
            return _shown(await self.store.of(context, outcome).write(body), now)

    async def all(self) -> list[Json]:
        """The newest imports first."""
        return [_shown(each, self.clock()) for each in await self.store.read(lambda tx: list_imports(tx, _MAX_LISTED))]

    async def findings(self, *, id: str, after: int = 0, limit: int = _MAX_LISTED) -> list[Json]:
        """The findings of an import after the one with that number."""

        async def body(tx: Transaction) -> list[tuple[int, Result]]:
            await get_import(tx, id)
            return await findings_after(tx, id, after, min(limit, _MAX_LISTED))

        return [{"number": number, **result._asdict()} for number, result in await self.store.read(body)]

    async def _import(self, id: str) -> Import:
        return await self.store.read(lambda tx: get_import(tx, id))

    async def _account(self, account: str) -> str:
        """The account, by default the first. Raises NotFound."""
        known = [each.id for each in await self.store.read(list_accounts)]
        if account and account not in known:
            raise NotFound("account", account)
        return account or known[0]

    async def _change(self, account: str) -> Change:
        home = (await self.store.read(lambda tx: regions_of(tx, account)))[0]
        return Change(Scope(account, home), self.clock(), self.environment, lambda *_: None)


def _prepare_all(change: Change, items: Sequence[Item]) -> list[tuple[str, Any]]:
    """The kind and what its ``prepare`` made of each item, or the Result of one that is refused."""
    prepared: list[tuple[str, Any]] = []
    for item in items:
        name = item.get("kind") if isinstance(item, dict) else None
        if name not in KINDS:
            raise Invalid("kind", f"must be one of {', '.join(KINDS)}")
        try:
            prepared.append((name, KINDS[name].prepare(change, item)))
        except DomainError as error:
            prepared.append((name, Result(name, "refused", KINDS[name].subject(item), str(error))))
    return prepared


async def _apply_all(
    tx: Transaction, change: Change, prepared: Sequence[tuple[str, Any]], *, dry_run: bool
) -> list[Result]:
    found: list[Result] = []
    for name, group in groupby(prepared, key=lambda each: each[0]):
        made = [each for _, each in group]
        found += [each for each in made if isinstance(each, Result)]
        good = [each for each in made if not isinstance(each, Result)]
        for results in await KINDS[name].apply(tx, change, good, dry_run=dry_run):
            found += results
    return found


def _shown(known: Import, now: datetime) -> Json:
    return {
        "id": known.id,
        "account": known.account,
        "source": known.source,
        "origin": known.origin,
        "place": known.place,
        "state": known.state(now),
        "percentage": known.percentage,
        "counts": known.counts,
        "findings": known.findings,
        "created_at": known.created_at.isoformat(timespec="seconds"),
        "modified_at": known.modified_at.isoformat(timespec="seconds"),
        "finished_at": known.finished_at.isoformat(timespec="seconds") if known.finished_at else None,
    }
