"""Attaches policies and things to certificates and thing groups that may be there already, as an import does."""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from thingmint.services.bulk_things import known_things
from thingmint.services.certificates import REGISTRATIONS
from thingmint.services.device_policies import MAX_ATTACHED, attach_policy, attached_policies
from thingmint.services.imports import Result
from thingmint.services.thing_principals import ATTACHMENTS, Attachment, is_attached, is_exclusive
from thingmint.store.key_lists import FIRST_FURTHER, KeyList
from thingmint.store.outbox import publish_change
from thingmint.store.table import fingerprint_bytes, id_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from thingmint.domain.arns import Scope
    from thingmint.services.change import Change
    from thingmint.services.device_policies import Target
    from thingmint.store.engine import Transaction

_SCOPE = f"account = ${FIRST_FURTHER} AND region = ${FIRST_FURTHER + 1}"
_POLICIES = KeyList(f"SELECT name FROM device_policies WHERE {_SCOPE} AND name IN ({{keys}})")
_ATTACHED_THINGS = KeyList(
    f"SELECT thing, exclusive FROM thing_principals WHERE {_SCOPE} "
    f"AND certificate = {id_of(f'${FIRST_FURTHER + 2}')} AND thing IN ({{keys}})"
)


class WantedThing(NamedTuple):
    """A thing that a certificate is attached to elsewhere."""

    name: str
    exclusive: bool


class KnownPolicies(frozenset[str]):
    """The names of policies that are here."""

    def divide(self, wanted: Sequence[str], about: str) -> tuple[list[str], list[Result]]:
        """Return the wanted policies that are here, and a result for the others."""
        here, missing = [name for name in wanted if name in self], [name for name in wanted if name not in self]
        kind = "attachment"
        return here, [Result(kind, "refused", f"{about}: {name}", "the policy is not here") for name in missing]


async def known_policies(tx: Transaction, scope: Scope, names: Iterable[str]) -> KnownPolicies:
    """Return those of the names that are policies."""
    return KnownPolicies(row[0] for row in await _POLICIES.fetch(tx, list(dict.fromkeys(names)), *scope))


async def add_policies(
    tx: Transaction, change: Change, target: Target, wanted: Sequence[str], about: str, *, dry_run: bool
) -> tuple[list[str], list[Result]]:
    """Attach the policies that a target lacks. Returns them, and results for those that cannot be attached."""
    attached = await attached_policies(tx, change.scope, target)
    lacking = [name for name in wanted if name not in attached]
    results: list[Result] = []
    if not dry_run:
        lacking, results = (await known_policies(tx, change.scope, lacking)).divide(lacking, about)
    room = max(0, MAX_ATTACHED - len(attached))
    reason = f"a {target.noun} can have at most {MAX_ATTACHED} policies"
    results += [Result("attachment", "refused", f"{about}: {name}", reason) for name in lacking[room:]]
    if not dry_run:
        for name in lacking[:room]:
            await attach_policy(tx, change.scope, name, target, change.now)
    return lacking[:room], results


async def add_things_of(
    tx: Transaction, change: Change, fingerprint: str, wanted: Sequence[WantedThing], about: str, *, dry_run: bool
) -> list[Result]:
    """Attach a registered certificate to the things that it lacks. A result for each thing."""
    if not wanted:
        return []
    scope, names = change.scope, [thing.name for thing in wanted]
    rows = await _ATTACHED_THINGS.fetch(tx, names, *scope, fingerprint_bytes(fingerprint))
    attached = {name: bool(exclusive) for name, exclusive in rows}
    known = set(names) if dry_run else await known_things(tx, scope, names)
    registration = None if dry_run else await REGISTRATIONS.get(tx, *scope, fingerprint)
    has_any = await is_attached(tx, scope, fingerprint)
    has_exclusive = await is_exclusive(tx, scope, fingerprint)
    new, results = [], []
    for thing in wanted:
        subject = f"{about}: {thing.name}"
        if thing.name in attached:
            if attached[thing.name] == thing.exclusive:
                results.append(Result("attachment", "same", subject))
            else:
                reason = f"it is {'' if attached[thing.name] else 'not '}exclusive here, and stays as it is here"
                results.append(Result("attachment", "conflict", subject, reason))
        elif thing.name not in known:
            results.append(Result("attachment", "refused", subject, "the thing is not here"))
        elif has_exclusive or (thing.exclusive and has_any):
            reason = "the certificate is attached to another thing, and one of the two is exclusive"
            results.append(Result("attachment", "refused", subject, reason))
        else:
            has_any, has_exclusive = True, thing.exclusive
            results.append(Result("attachment", "new", subject))
            if registration is not None:
                new.append(
                    Attachment(scope, thing.name, registration.certificate, fingerprint, thing.exclusive, change.now)
                )
    await ATTACHMENTS.insert_many(tx, [(attachment,) for attachment in new])
    if new:
        await publish_change(tx, scope, "certificate", fingerprint, change.now)
    return results
