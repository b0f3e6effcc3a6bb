"""Registers many certificates with their policies and things, as an import does. What is there is never changed.

Certificates that are new here, nearly all, are written with a few statements.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from thingmint.domain.certificates import is_signed_by
from thingmint.services.accounts import get_settings
from thingmint.services.bulk_attachments import WantedThing, add_policies, add_things_of, known_policies
from thingmint.services.bulk_things import known_things
from thingmint.services.ca_certificates import RegisteredCa, find_registered_ca
from thingmint.services.certificate_contents import insert_contents
from thingmint.services.certificates import REGISTRATIONS, Registration, find_by_serial
from thingmint.services.device_policies import Target, attach_to_new
from thingmint.services.imports import Result
from thingmint.services.quotas import take
from thingmint.services.thing_principals import ATTACHMENTS, Attachment
from thingmint.store.key_lists import FIRST_FURTHER, KeyList
from thingmint.store.search_keys import certificate_keys
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.domain.arns import Scope
    from thingmint.domain.certificates import IssuedCertificate
    from thingmint.services.change import Change
    from thingmint.store.engine import Transaction

_KNOWN = KeyList(
    f"""
    SELECT c.fingerprint, c.id, r.status
    FROM certificates AS c
    LEFT JOIN registrations AS r
        ON r.certificate = c.id AND r.account = ${FIRST_FURTHER} AND r.region = ${FIRST_FURTHER + 1}
    WHERE c.fingerprint IN ({{keys}})
    """
)


@dataclass(frozen=True, slots=True)
class ImportedCertificate:
    """A certificate as another service has it. ``wanted`` has its status, mode, CA and times.

    ``results`` tell of what it has that cannot come.
    """

    wanted: Registration
    issued: IssuedCertificate
    about: str
    policies: Sequence[str] = ()
    things: Sequence[WantedThing] = ()
    results: Sequence[Result] = field(default=())

    @property
    def region(self) -> str:
        return self.wanted.scope.region


class _Known(NamedTuple):
    """The store's id of a certificate, and its status in the account and region if it is registered there."""

    id: int
    status: str | None


async def add_certificates(
    tx: Transaction, change: Change, certificates: Sequence[ImportedCertificate], *, dry_run: bool
) -> list[list[Result]]:
    """Add certificates, all in the region of the change. Raises LimitExceeded."""
    scope = change.scope
    keys = [bytes.fromhex(each.wanted.fingerprint) for each in certificates]
    known = {row[0].hex(): _Known(row[1], row[2]) for row in await _KNOWN.fetch(tx, list(dict.fromkeys(keys)), *scope)}
    issuers = _Issuers(scope)
    weak_keys = (await get_settings(tx, change.account)).weak_keys
    results: list[list[Result]] = []
    new: list[tuple[ImportedCertificate, Registration, list[Result]]] = []
    made: dict[str, str] = {}
    for each in certificates:
        fingerprint = each.wanted.fingerprint
        entry = known.get(fingerprint)
        status = made.get(fingerprint) or (entry.status if entry is not None else None)
        if status is not None:
            if fingerprint in made:  # twice in this batch: what follows needs its row
                await _write(tx, change, new, known)
                new.clear()
            results.append(await _complete(tx, change, each, status, dry_run=dry_run))
            continue
        found = [Result("certificate", "new", each.about), *each.results]
        obstacle = each.issued.obstacle
        if obstacle is not None and not (obstacle.weak_keys_remove_it and weak_keys):
            reason = f"devices cannot connect with it: {obstacle.reason}"
            found.append(Result("certificate", "noted", each.about, reason))
        made[fingerprint] = each.wanted.status
        if dry_run:
            found += _fitting(each.things, {thing.name for thing in each.things}, each.about)[1]
        else:
            registration = await issuers.placed(tx, each, found)
            id = entry.id if entry is not None else change.new_certificate_id()
            new.append((each, replace(registration, certificate=id, generation=change.new_id()), found))
        results.append(found)
    await _write(tx, change, new, known)
    return results


async def _write(
    tx: Transaction,
    change: Change,
    new: Sequence[tuple[ImportedCertificate, Registration, list[Result]]],
    known: dict[str, _Known],
) -> None:
    """Certificates that were not registered cannot have a connection, so the change feed need not name them."""
    if not new:
        return
    scope = change.scope
    unknown = [(registration.certificate, each.issued.certificate) for each, registration, _ in new]
    await insert_contents(tx, [(id, content) for id, content in unknown if content.fingerprint not in known])
    rows = []
    for each, registration, _ in new:
        content = each.issued.certificate
        rows.append((registration, to_micros(content.not_after), *certificate_keys(scope, content.der)))
    await REGISTRATIONS.insert_many(tx, rows)
    for _ in new:
        await take(tx, change.environment.quotas, "certificates", scope.account)
    policies = await known_policies(tx, scope, [name for each, _, _ in new for name in each.policies])
    things = await known_things(tx, scope, [thing.name for each, _, _ in new for thing in each.things])
    with_policies, attachments = [], []
    for each, registration, results in new:
        here, missing = policies.divide(each.policies, each.about)
        with_policies += [(registration.fingerprint, name) for name in here]
        results.extend(missing)
        fitting, of_things = _fitting(each.things, things, each.about)
        results.extend(of_things)
        attachments += [
            Attachment(
                scope, thing.name, registration.certificate, registration.fingerprint, thing.exclusive, change.now
            )
            for thing in fitting
        ]
    await attach_to_new(tx, scope, with_policies, change.now)
    await ATTACHMENTS.insert_many(tx, [(attachment,) for attachment in attachments])


def _fitting(wanted: Sequence[WantedThing], known: set[str], about: str) -> tuple[list[WantedThing], list[Result]]:
    """Return the things that a certificate without things can be attached to, and results for all."""
    fitting: list[WantedThing] = []
    results = []
    for thing in wanted:
        subject = f"{about}: {thing.name}"
        if thing.name not in known:
            results.append(Result("attachment", "refused", subject, "the thing is not here"))
        elif fitting and (thing.exclusive or any(each.exclusive for each in fitting)):
            reason = "the certificate is attached to another thing, and one of the two is exclusive"
            results.append(Result("attachment", "refused", subject, reason))
        else:
            fitting.append(thing)
            results.append(Result("attachment", "new", subject))
    return fitting, results


async def _complete(
    tx: Transaction, change: Change, each: ImportedCertificate, status: str, *, dry_run: bool
) -> list[Result]:
    """Compare a certificate that is there, and attach the policies and things that it lacks if it is the same."""
    if status != each.wanted.status:
        reason = f"it is {status} here and {each.wanted.status} there, and stays as it is here"
        return [Result("certificate", "conflict", each.about, reason)]
    target = Target("cert", each.wanted.fingerprint)
    added, results = await add_policies(tx, change, target, each.policies, each.about, dry_run=dry_run)
    things = await add_things_of(tx, change, each.wanted.fingerprint, each.things, each.about, dry_run=dry_run)
    missing = [f"policy {name}" for name in added]
    missing += [f"thing {each.subject.rpartition(': ')[2]}" for each in things if each.outcome == "new"]
    if missing:
        reason = f"it was here without {', '.join(missing[:20])}"
        return [Result("certificate", "completed", each.about, reason), *results, *things]
    return [Result("certificate", "same", each.about), *results, *things]


class _Issuers:
    """The CA certificates under which certificates are registered."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._found: dict[str, RegisteredCa | None] = {}
        self._serials: set[tuple[str, str]] = set()

    async def placed(self, tx: Transaction, each: ImportedCertificate, results: list[Result]) -> Registration:
        """Return the registration under its CA certificate, or without one, and add a result about that.

        Only a CA in DEFAULT mode here has certificates in that mode: no other account has it.
        """
        wanted = each.wanted
        if wanted.ca is None:
            return replace(wanted, mode="SNI_ONLY")
        ca = await self._find(tx, wanted.ca)
        flaw = await self._flaw(tx, each, ca)
        if ca is None or flaw is not None:
            reason = f"it is registered without its CA certificate {wanted.ca}: {flaw}"
            results.append(Result("certificate", "noted", each.about, reason))
            return replace(wanted, ca=None, mode="SNI_ONLY")
        serial = each.issued.serial
        self._serials.add((wanted.ca, serial))
        is_default = wanted.mode == "DEFAULT" and ca.registration.mode == "DEFAULT"
        return replace(wanted, mode="DEFAULT" if is_default else "SNI_ONLY", serial=serial)

    async def _flaw(self, tx: Transaction, each: ImportedCertificate, ca: RegisteredCa | None) -> str | None:
        if ca is None:
            return "that is not here"
        if not is_signed_by(each.issued, ca.content()):
            return "that has not signed it"
        fingerprint, serial = ca.registration.fingerprint, each.issued.serial
        other = await find_by_serial(tx, self._scope, fingerprint, serial)
        if other is not None or (fingerprint, serial) in self._serials:
            return "another certificate under it has the same serial number"
        return None

    async def _find(self, tx: Transaction, fingerprint: str) -> RegisteredCa | None:
        if fingerprint not in self._found:
            self._found[fingerprint] = await find_registered_ca(tx, self._scope, fingerprint)
        return self._found[fingerprint]
