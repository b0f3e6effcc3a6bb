"""Transfers of certificates to other accounts.

While a transfer is pending, the certificate belongs to the source account, and the target account sees it too. Neither
can change it. If the target account accepts it, its registration replaces that of the source account.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from thingmint.domain.arns import Scope, arn_of
from thingmint.domain.errors import Disallowed, Invalid, InvalidState, NotFound, TransferCompleted, TransferConflict
from thingmint.domain.status import Status
from thingmint.services.accounts import regions_of
from thingmint.services.certificate_contents import split_content, with_content
from thingmint.services.certificates import (
    BOUND_TO,
    HAS_POLICIES,
    HAS_THINGS,
    REGISTRATIONS,
    RegisteredCertificate,
    Registration,
    delete_registration,
    find_registered,
    insert_registration,
)
from thingmint.services.pages import Page, page_of
from thingmint.services.quotas import take
from thingmint.store.outbox import publish_change
from thingmint.store.table import fetch_in_order, fingerprint_bytes, from_micros, id_of, to_micros

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.services.change import Change, Query
    from thingmint.services.page_tokens import Position
    from thingmint.services.pages import Cursor
    from thingmint.store.engine import Transaction

_INSERT = "INSERT INTO pending_transfers (account, region, certificate, source, created_at) VALUES ($1, $2, $3, $4, $5)"
_DELETE = "DELETE FROM pending_transfers WHERE account = $1 AND region = $2 AND certificate = $3 AND source = $4"

_OF_PENDING = (
    "JOIN pending_transfers AS p ON p.certificate = r.certificate AND p.region = r.region AND p.source = r.account "
)
_INCOMING = (
    f"{with_content(REGISTRATIONS, 'registrations')}{_OF_PENDING}"
    "WHERE p.account = $1 AND p.region = $2 AND c.fingerprint = $3 ORDER BY p.source LIMIT 1"
)
_LISTED = f"SELECT {', '.join(REGISTRATIONS.reads('r'))} FROM registrations AS r {_OF_PENDING}"
# A certificate is listed once, whatever the number of accounts that have it.
_LIST_INCOMING = (
    f"{_LISTED}WHERE p.account = $1 AND p.region = $2 AND NOT EXISTS (SELECT 1 FROM pending_transfers AS o "
    "WHERE o.account = p.account AND o.region = p.region AND o.certificate = p.certificate AND o.source < p.source) "
    "AND NOT EXISTS (SELECT 1 FROM registrations AS o "
    "WHERE o.certificate = p.certificate AND o.account = p.account AND o.region = p.region)"
)
_LIST_OUTGOING = f"{_LISTED}WHERE p.source = $1 AND p.region = $2"
_OF_OTHERS = f"{REGISTRATIONS.select}WHERE certificate = {id_of('$1')} AND region = $2 AND account <> $3"
_BY_AGE = ("p.created_at", "p.certificate")


@dataclass(frozen=True, slots=True)
class Transfer:
    """The last transfer of a certificate. At most one of ``accepted_at``, ``rejected_at``, ``cancelled_at`` is set."""

    source: str
    target: str
    message: str | None
    started_at: datetime
    accepted_at: datetime | None = None
    rejected_at: datetime | None = None
    cancelled_at: datetime | None = None
    reason: str | None = None  # of the rejection

    @classmethod
    def of(cls, registration: Registration) -> Transfer | None:
        if registration.transfer is None:
            return None
        values: dict[str, Any] = {
            name: from_micros(value) if name.endswith("_at") and value is not None else value
            for name, value in registration.transfer.items()
        }
        return cls(**values)

    def stored(self) -> Mapping[str, str | int | None]:
        values = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: to_micros(value) if isinstance(value, datetime) else value for name, value in values}


def owner_of(registration: Registration) -> str:
    """Return the account that has the certificate: until a transfer is accepted, the source account."""
    transfer = Transfer.of(registration) if registration.status is Status.PENDING_TRANSFER else None
    return registration.scope.account if transfer is None else transfer.source


async def _find_offer(tx: Transaction, scope: Scope, fingerprint: str) -> RegisteredCertificate | None:
    """Return the registration of the account that transfers the certificate to ``scope``, or None."""
    row = await tx.fetch_one(_INCOMING, *scope, fingerprint_bytes(fingerprint))
    if row is None:
        return None
    own, certificate = split_content(row)
    return RegisteredCertificate(REGISTRATIONS.load(own), certificate)


def _seen_from(scope: Scope, registration: Registration) -> Registration:
    """Return the source account's registration as the target account sees it."""
    return replace(registration, scope=scope, ca=None, serial=None, previous_owner=None)


async def get_visible(tx: Transaction, scope: Scope, fingerprint: str) -> RegisteredCertificate:
    """Return a certificate that is registered in ``scope`` or is being transferred to it. Raises NotFound."""
    if (found := await find_registered(tx, scope, fingerprint)) is not None:
        return found
    if (offer := await _find_offer(tx, scope, fingerprint)) is not None:
        return RegisteredCertificate(_seen_from(scope, offer.registration), offer.certificate)
    raise NotFound("certificate", fingerprint)


async def list_certificates(
    tx: Transaction, query: Query, cursor: Cursor, *, ascending: bool, ca: str | None = None
) -> Page[Registration]:
    """Return a page by age, newest first unless ``ascending``; with ``ca``, those under that CA. Raises Invalid.

    Without ``ca``, the page includes certificates that are being transferred to the account.
    """
    listing = f"registrations-{'ascending' if ascending else 'descending'}"
    only = {}
    if ca is not None:
        listing, only = f"{listing} {ca}", {"ca": ca}

    async def fetch(after: Position | None, limit: int) -> list[Registration]:
        own = await REGISTRATIONS.page_by_age(tx, *query.scope, after=after, limit=limit, ascending=ascending, **only)
        offers = [] if ca is not None else await _fetch(tx, _LIST_INCOMING, query.scope, after, limit, ascending)
        if not offers:
            return own
        together = [*own, *(_seen_from(query.scope, offer) for offer in offers)]
        together.sort(key=lambda each: (each.created_at, each.certificate), reverse=not ascending)
        return together[:limit]

    return await page_of(query, cursor, listing, fetch, _position)


async def list_outgoing(tx: Transaction, query: Query, cursor: Cursor, *, ascending: bool) -> Page[Registration]:
    """Return a page of the pending transfers to other accounts, newest certificate first unless ``ascending``."""

    async def fetch(after: Position | None, limit: int) -> list[Registration]:
        return await _fetch(tx, _LIST_OUTGOING, query.scope, after, limit, ascending)

    listing = f"outgoing-certificates-{'ascending' if ascending else 'descending'}"
    return await page_of(query, cursor, listing, fetch, _position)


async def transfer_certificate(
    tx: Transaction, change: Change, fingerprint: str, target: str, message: str | None
) -> Registration:
    """Offer a certificate to another account, which must accept it.

    Raises NotFound, also for an account that does not exist in the region; Invalid for the own account; InvalidState
    for a certificate that is ACTIVE, REVOKED or already being transferred; and TransferConflict while it is bound, or
    attached to things or policies.
    """
    scope = change.scope
    if target == scope.account:
        raise Invalid("targetAwsAccount", "must not be the account that has the certificate")
    current = await REGISTRATIONS.get(tx, *scope, fingerprint)
    if current.status in (Status.ACTIVE, Status.REVOKED, Status.PENDING_TRANSFER):
        what = "deactivated" if current.status is Status.ACTIVE else "INACTIVE"
        reason = f"Certificate must be {what} (not {current.status}) before transfer. Id: {fingerprint}"
        raise InvalidState("certificate", fingerprint, reason)
    await _check_unused(tx, current)
    to = Scope(target, scope.region)
    if scope.region not in await regions_of(tx, target):
        raise NotFound("account", target)
    if await REGISTRATIONS.find(tx, *to, fingerprint) is not None:
        raise TransferConflict("certificate", fingerprint, f"Account {target} has this certificate already")
    await tx.execute(_INSERT, *to, current.certificate, scope.account, to_micros(current.created_at))
    transfer = Transfer(scope.account, target, message, change.now)
    return await _update(tx, change, current, Status.PENDING_TRANSFER, transfer)


async def accept_transfer(tx: Transaction, change: Change, fingerprint: str, status: Status) -> Registration:
    """Move a certificate from the account that transfers it to this one.

    Raises NotFound and TransferCompleted if no transfer is pending, Disallowed if this account has registered the
    certificate in the meantime, and LimitExceeded.
    """
    source, certificate = await _get_incoming(tx, change.scope, fingerprint)
    transfer = Transfer.of(source)
    assert transfer is not None, "a transfer is pending"
    is_issued_here = source.origin != "registered"
    accepted = replace(
        source,
        scope=change.scope,
        status=status,
        # Which account gets devices without a host name depends on who proved to own the CA: the source account did.
        mode=source.mode if is_issued_here else "SNI_ONLY",
        ca=None,
        serial=None,
        modified_at=change.now,
        generation=change.new_id(),
        version=source.version + 1,
        made_by_binding=False,
        previous_owner=source.scope.account,
        transfer=replace(transfer, accepted_at=change.now).stored(),
    )
    if not await insert_registration(tx, accepted, certificate):
        raise Disallowed("certificate", fingerprint, f"The account has registered the certificate. Id: {fingerprint}")
    await take(tx, change.environment.quotas, "certificates", change.account)
    await _end(tx, source, transfer)
    await delete_registration(tx, source)
    await _publish(tx, change, fingerprint, transfer)
    return accepted


async def reject_transfer(tx: Transaction, change: Change, fingerprint: str, reason: str | None) -> None:
    """Return a certificate to the account that transfers it. Raises NotFound and TransferCompleted."""
    source, _ = await _get_incoming(tx, change.scope, fingerprint)
    transfer = Transfer.of(source)
    assert transfer is not None, "a transfer is pending"
    await _end(tx, source, transfer)
    rejected = replace(transfer, rejected_at=change.now, reason=reason)
    await _update(tx, change, source, Status.INACTIVE, rejected)


async def cancel_transfer(tx: Transaction, change: Change, fingerprint: str) -> None:
    """Withdraw a pending transfer. Raises NotFound and TransferCompleted."""
    current = await REGISTRATIONS.find(tx, *change.scope, fingerprint)
    transfer = Transfer.of(current) if current is not None else None
    if current is None or transfer is None or current.status is not Status.PENDING_TRANSFER:
        others = await _registrations_of_others(tx, change.scope, fingerprint)
        was_ours = any(each.previous_owner == change.account for each in others)
        if was_ours or (transfer is not None and transfer.source == change.account):
            raise _completed(fingerprint)
        raise _not_pending(fingerprint)
    await _end(tx, current, transfer)
    await _update(tx, change, current, Status.INACTIVE, replace(transfer, cancelled_at=change.now))


async def was_transferred(tx: Transaction, scope: Scope, fingerprint: str) -> bool:
    """True if another account has the certificate from ``scope``."""
    others = await _registrations_of_others(tx, scope, fingerprint)
    return any(each.previous_owner == scope.account for each in others)


async def _get_incoming(tx: Transaction, scope: Scope, fingerprint: str) -> RegisteredCertificate:
    found = await _find_offer(tx, scope, fingerprint)
    if found is not None:
        return found
    own = await REGISTRATIONS.find(tx, *scope, fingerprint)
    offers = [Transfer.of(each) for each in await _registrations_of_others(tx, scope, fingerprint)]
    was_accepted = own is not None and own.previous_owner is not None
    if was_accepted or any(each is not None and each.target == scope.account for each in offers):
        raise _completed(fingerprint)
    raise _not_pending(fingerprint)


async def _registrations_of_others(tx: Transaction, scope: Scope, fingerprint: str) -> list[Registration]:
    key = fingerprint_bytes(fingerprint)
    return REGISTRATIONS.load_all(await tx.fetch_all(_OF_OTHERS, key, scope.region, scope.account))


def _completed(fingerprint: str) -> TransferCompleted:
    return TransferCompleted("certificate", fingerprint, f"The transfer is already complete. Id: {fingerprint}")


def _not_pending(fingerprint: str) -> NotFound:
    return NotFound("pending transfer of certificate", fingerprint)


async def _check_unused(tx: Transaction, current: Registration) -> None:
    """Raise TransferConflict while the certificate is bound, or attached to things or policies."""
    if (bound := await tx.fetch_one(BOUND_TO, *current.key)) is not None:
        kind, owner = bound
        reason = f"Certificate must be removed from {kind} {owner} before transfer. Id: {current.fingerprint}"
        raise TransferConflict("certificate", current.fingerprint, reason)
    for attached, statement in (("policies", HAS_POLICIES), ("things", HAS_THINGS)):
        if await tx.fetch_one(statement, *current.key):
            reason = f"Certificate {attached} must be detached before transfer (arn: {current.arn})"
            raise TransferConflict("certificate", current.fingerprint, reason)


async def _update(
    tx: Transaction, change: Change, current: Registration, status: Status, transfer: Transfer
) -> Registration:
    """Set status and transfer of the source account's registration."""
    changed = replace(
        current,
        status=status,
        modified_at=change.now,
        version=current.version + 1,
        deactivated_by=None,
        transfer=transfer.stored(),
    )
    await REGISTRATIONS.update(tx, changed)
    await _publish(tx, change, changed.fingerprint, transfer)
    return changed


async def _end(tx: Transaction, source: Registration, transfer: Transfer) -> None:
    await tx.execute(_DELETE, transfer.target, source.scope.region, source.certificate, transfer.source)


async def _publish(tx: Transaction, change: Change, fingerprint: str, transfer: Transfer) -> None:
    """Publish the change in both accounts, and record it in the audit logs of both."""
    for account in (transfer.source, transfer.target):
        scope = change.scope._replace(account=account)
        await publish_change(tx, scope, "certificate", fingerprint, change.now)
        if account == change.account:
            tx.audit_resources.append(arn_of(scope, fingerprint))
        else:
            tx.audit_copies[account] = [arn_of(scope, fingerprint)]
    tx.audit_details["transfer"] = {"from": transfer.source, "to": transfer.target}


async def _fetch(
    tx: Transaction, statement: str, scope: Scope, after: Position | None, limit: int, ascending: bool
) -> list[Registration]:
    beyond = () if after is None else (after[0], int(after[1]))
    return REGISTRATIONS.load_all(
        await fetch_in_order(tx, statement, scope, _BY_AGE, beyond, limit, ascending=ascending)
    )


def _position(item: Registration) -> Position:
    return to_micros(item.created_at), str(item.certificate)
