"""Binds the certificates of many Yandex devices at once, as an import does.

Certificates that are new here, nearly all, are written with a few statements. The others are bound as one by one.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from thingmint.domain.status import Status
from thingmint.services.accounts import get_settings
from thingmint.services.bindings import BINDINGS, MAX_CERTIFICATES, Binding, SubmittedCertificate, bind
from thingmint.services.certificate_contents import insert_contents
from thingmint.services.certificates import REGISTRATIONS, Registration
from thingmint.services.imports import Result
from thingmint.services.quotas import take
from thingmint.store.key_lists import FIRST_FURTHER, KeyList
from thingmint.store.search_keys import certificate_keys
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from thingmint.domain.certificates import Obstacle
    from thingmint.services.change import Change
    from thingmint.services.owners import Owner
    from thingmint.store.engine import Transaction

_KNOWN = KeyList(
    f"""
    SELECT c.fingerprint, c.id, r.certificate, b.owner
    FROM certificates AS c
    LEFT JOIN registrations AS r
        ON r.certificate = c.id AND r.account = ${FIRST_FURTHER} AND r.region = ${FIRST_FURTHER + 1}
    LEFT JOIN bindings AS b ON b.certificate = c.id AND b.account = ${FIRST_FURTHER}
    WHERE c.fingerprint IN ({{keys}})
    """
)
_ENDED = KeyList(
    f"SELECT fingerprint FROM ended_bindings WHERE account = ${FIRST_FURTHER} AND region = ${FIRST_FURTHER + 1} "
    "AND fingerprint IN ({keys})"
)
_COUNT = "INSERT INTO binding_counts (owner, bound) VALUES ($1, $2)"


class DatedCertificate(NamedTuple):
    """``created_at`` is when the service that it comes from got it."""

    submitted: SubmittedCertificate
    created_at: datetime

    @property
    def fingerprint(self) -> str:
        return self.submitted.certificate.fingerprint


class _Known(NamedTuple):
    """What the store knows of a certificate: its id, whether the account has registered it, and whom it is bound to."""

    id: int
    registered: bool
    owner: str | None


class KnownCertificates:
    """What the store knows of certificates, by fingerprint."""

    def __init__(self, known: dict[str, _Known], ended: frozenset[str]) -> None:
        self.known = known
        self.ended = ended

    @classmethod
    async def of(cls, tx: Transaction, change: Change, certificates: Iterable[DatedCertificate]) -> KnownCertificates:
        keys = [bytes.fromhex(fingerprint) for fingerprint in dict.fromkeys(each.fingerprint for each in certificates)]
        rows = await _KNOWN.fetch(tx, keys, *change.scope)
        known = {row[0].hex(): _Known(row[1], row[2] is not None, row[3]) for row in rows}
        ended = await _ENDED.fetch(tx, keys, *change.scope)
        return cls(known, frozenset(row[0].hex() for row in ended))

    def owner_of(self, certificate: DatedCertificate) -> str | None:
        """The id of the device, registry or broker that the certificate is bound to."""
        known = self.known.get(certificate.fingerprint)
        return known.owner if known is not None else None


@dataclass
class BindingPlan:
    """The certificates that owners get, and the results that tell of those that they do not get."""

    known: KnownCertificates
    written: list[tuple[Owner, DatedCertificate]] = field(default_factory=list)
    bound_singly: list[tuple[Owner, DatedCertificate]] = field(default_factory=list)
    results: dict[str, list[Result]] = field(default_factory=dict)
    """By the owner's id."""


async def plan_bindings(
    tx: Transaction,
    change: Change,
    wanted: Sequence[tuple[Owner, Sequence[DatedCertificate]]],
    known: KnownCertificates,
) -> BindingPlan:
    """Find out which certificates the new owners can have. No change."""
    plan = BindingPlan(known)
    weak_keys = (await get_settings(tx, change.account)).weak_keys
    taken: dict[str, str] = {}
    for owner, certificates in wanted:
        results = plan.results.setdefault(owner.id, [])
        for number, each in enumerate({each.fingerprint: each for each in certificates}.values()):
            fingerprint = each.fingerprint
            subject = f"{owner.kind} {owner.id}: {fingerprint}"
            other = known.owner_of(each) or taken.get(fingerprint)
            if other is not None:
                reason = f"the certificate is of {other}: remove it there first, then add it to {owner.id}"
                results.append(Result("certificate", "conflict", subject, reason))
                continue
            if number >= MAX_CERTIFICATES:
                reason = f"a {owner.kind} can have at most {MAX_CERTIFICATES} certificates"
                results.append(Result("certificate", "refused", subject, reason))
                continue
            taken[fingerprint] = owner.id
            results.append(Result("certificate", "new", subject))
            if why := _why_not(each.submitted.obstacle, weak_keys=weak_keys):
                results.append(Result("certificate", "noted", subject, f"the device cannot connect with it: {why}"))
            entry = known.known.get(fingerprint)
            is_new = fingerprint not in known.ended and (entry is None or not entry.registered)
            (plan.written if is_new else plan.bound_singly).append((owner, each))
    return plan


def _why_not(obstacle: Obstacle | None, *, weak_keys: bool) -> str | None:
    if obstacle is None or (obstacle.weak_keys_remove_it and weak_keys):
        return None
    return obstacle.reason


async def write_bindings(tx: Transaction, change: Change, plan: BindingPlan) -> None:
    """Register and bind the planned certificates; their owners are there, and new. Raises LimitExceeded.

    Certificates that this account did not have cannot have a connection, so the change feed need not name them.
    """
    new, contents, counts = [], [], dict.fromkeys((owner.id for owner, _ in plan.written), 0)
    for owner, (submitted, created_at) in plan.written:
        certificate = submitted.certificate
        entry = plan.known.known.get(certificate.fingerprint)
        id = entry.id if entry is not None else change.new_certificate_id()
        if entry is None:
            contents.append((id, certificate))
        registration = Registration(
            change.scope,
            id,
            certificate.fingerprint,
            Status.ACTIVE,
            "SNI_ONLY",
            "registered",
            created_at,
            created_at,
            change.new_id(),
            made_by_binding=True,
        )
        pem = submitted.pem if submitted.pem != certificate.pem else None
        binding = Binding(change.scope, id, certificate.fingerprint, owner.kind, owner.id, pem, created_at)
        new.append((registration, certificate, binding))
        counts[owner.id] += 1
    await insert_contents(tx, contents)
    await REGISTRATIONS.insert_many(
        tx,
        [
            (registration, to_micros(certificate.not_after), *certificate_keys(change.scope, certificate.der))
            for registration, certificate, _ in new
        ],
    )
    await BINDINGS.insert_many(tx, [(binding,) for *_, binding in new])
    await tx.execute_many(_COUNT, counts.items())
    for _ in new:
        await take(tx, change.environment.quotas, "certificates", change.account)
    for owner, each in plan.bound_singly:
        await bind(tx, change, owner, each.submitted)
