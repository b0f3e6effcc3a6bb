"""Imports of fleets: the list, and one import with its progress and what its operator has to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from thingmint.console.page import page, url
from thingmint.console.pages.provisioning import tabs_of
from thingmint.services.imports import (
    MAX_KEPT,
    Import,
    Outcome,
    Result,
    findings_after,
    get_import_of,
    list_imports_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.store.engine import Transaction

_OUTCOMES: dict[str, tuple[str, str]] = {
    "new": ("ok", "New"),
    "same": ("mute", "There already"),
    "completed": ("ok", "Completed"),
    "noted": ("warn", "With a note"),
    "conflict": ("bad", "In conflict"),
    "refused": ("bad", "Refused"),
}
_STATES = {"running": ("warn", "Running"), "interrupted": ("bad", "Interrupted"), "ended": ("ok", "Ended")}
_MOST = 100
_ROWS = 50
_LONGEST_KIND = 40


@page("/provisioning/imports", "ListImports")
async def imports(call: Call) -> Answer:
    call.may("thingmint:ListImports")
    found = await call.read(lambda tx: list_imports_of(tx, call.caller.account, _MOST))
    path = "/provisioning/imports"
    return call.render(
        "provisioning_imports.html",
        imports=found,
        states=_STATES,
        new=lambda each: sum(count for key, count in each.counts.items() if key.endswith(".new")),
        runs=any(each.state(call.change.now) == "running" for each in found),
        tabs=tabs_of(call, path),
        here=url(path),
        most=_MOST,
    )


@page("/provisioning/imports/{id}", "ListImportFindings")
async def one(call: Call) -> Answer:
    call.may("thingmint:ListImports")
    id, kind = call.path["id"], call.query.text("kind", _LONGEST_KIND)
    outcome = call.query.choice("outcome", get_args(Outcome))
    after = min(call.query.number("after") or 0, MAX_KEPT)

    async def body(tx: Transaction) -> tuple[Import, Sequence[tuple[int, Result]]]:
        found = await get_import_of(tx, call.caller.account, id)
        of = (kind, outcome) if kind and outcome else None
        return found, await findings_after(tx, id, after, _ROWS + 1, of)

    found, findings = await call.read(body)
    path = f"/provisioning/imports/{found.id}"
    more = findings[_ROWS - 1][0] if len(findings) > _ROWS else None
    return call.render(
        "provisioning_import.html",
        each=found,
        state=_STATES[found.state(call.change.now)],
        runs=found.state(call.change.now) == "running",
        kinds=_by_kind(found),
        outcomes=_OUTCOMES,
        findings=findings[:_ROWS],
        kept=MAX_KEPT,
        chosen=(kind, outcome) if kind and outcome else None,
        here=url(path, kind=kind, outcome=outcome, after=after or None),
        path=url(path),
        first=url(path, kind=kind, outcome=outcome) if after else None,
        next=url(path, kind=kind, outcome=outcome, after=more) if more is not None else None,
    )


def _by_kind(found: Import) -> dict[str, dict[str, int]]:
    """How many items of each kind had each outcome."""
    kinds: dict[str, dict[str, int]] = {}
    for key, count in found.counts.items():
        kind, _, outcome = key.partition(".")
        kinds.setdefault(kind, {})[outcome] = count
    return kinds
