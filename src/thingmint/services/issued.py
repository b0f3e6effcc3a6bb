"""Devices' certificates that were registered under an account's authority."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from thingmint.domain.authorities import MAX_SAME_SUBJECT, AuthorityStatus, parse_authority
from thingmint.domain.errors import AlreadyExists, Ambiguous, InvalidState, UnverifiedCertificate
from thingmint.domain.leaves import is_signed_by, parse_leaf
from thingmint.domain.quotas import NO_QUOTAS
from thingmint.domain.registration import Registration
from thingmint.domain.status import check_initial
from thingmint.services.certificates import Page, utc_now
from thingmint.services.quotas import check_certificates
from thingmint.store import authorities as authorities_sql
from thingmint.store import certificates as sql
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from thingmint.domain.authorities import Authority, RegisteredAuthority
    from thingmint.domain.leaves import Leaf
    from thingmint.domain.quotas import Quotas
    from thingmint.domain.registration import Scope
    from thingmint.domain.status import Status
    from thingmint.services.markers import Markers
    from thingmint.store.engine import Store, Transaction

__all__ = ["IssuedRegistry", "begin_registration", "issuer_of", "sole_issuer_of"]

_FIELD = "certificatePem"


class IssuedRegistry:
    """Every method is one transaction. A fingerprint that is passed in is in canonical form (see parse_fingerprint)."""

    def __init__(
        self,
        store: Store,
        markers: Markers,
        *,
        quotas: Quotas = NO_QUOTAS,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._markers = markers
        self._quotas = quotas
        self._clock = clock

    async def register(self, scope: Scope, pem: str, ca_pem: str | None, *, status: Status) -> Registration:
        """Raises AlreadyExists, LimitExceeded, and what ``issuer_of`` does."""
        check_initial(status)
        leaf = parse_leaf(pem, _FIELD)
        given = parse_authority(ca_pem, "caCertificatePem") if ca_pem is not None else None
        now, generation = self._clock(), str(uuid.uuid4())

        async def body(tx: Transaction) -> Registration:
            authority = await issuer_of(tx, scope, leaf, given)
            registration = begin_registration(authority, leaf, status, now, generation)
            known = await sql.find_by_serial(tx, scope, authority.fingerprint, leaf.serial)
            if known is not None:
                raise AlreadyExists("certificate", known)
            await sql.insert_certificate(tx, leaf.certificate)
            if not await sql.insert_registration(tx, registration):
                raise AlreadyExists("certificate", leaf.fingerprint)
            await check_certificates(tx, scope.account, self._quotas)
            tx.audit_resources.append(registration.arn)
            return registration

        return await self._store.write(body)

    async def list(self, scope: Scope, ca: str, *, limit: int, ascending: bool, marker: str | None) -> Page:
        """A page by age, newest first unless ``ascending``; an empty one for an authority that nobody knows.

        Raises Invalid for a foreign marker.
        """
        listing = f"certificates-{'ascending' if ascending else 'descending'} {ca}"
        after = self._markers.open(listing, scope, marker) if marker is not None else None

        async def body(tx: Transaction) -> list[Registration]:
            return await sql.list_registrations(tx, scope, limit=limit + 1, ascending=ascending, after=after, ca=ca)

        found = await self._store.read(body)
        page = found[:limit]
        if len(found) == len(page):
            return Page(page, None)
        last = page[-1]
        return Page(page, self._markers.seal(listing, scope, (to_micros(last.created_at), last.fingerprint)))


def begin_registration(
    authority: RegisteredAuthority, leaf: Leaf, status: Status, now: datetime, generation: str
) -> Registration:
    """The first version of one under ``authority``, in whose mode it is (AWS's RegisterCACertificate)."""
    return Registration.begin(
        authority.scope,
        leaf.fingerprint,
        status,
        authority.mode,
        "registered",
        now=now,
        generation=generation,
        ca=authority.fingerprint,
        serial=leaf.serial,
    )


async def issuer_of(tx: Transaction, scope: Scope, leaf: Leaf, given: Authority | None) -> RegisteredAuthority:
    """The account's authority that signed ``leaf``; ``given`` says which, where several have the same name.

    Raises UnverifiedCertificate, Ambiguous, and InvalidState if it is not registered or not ACTIVE.
    """
    if given is not None:
        if given.subject != leaf.issuer:
            raise UnverifiedCertificate(
                _FIELD, "The issuer of the certificate did not match the subject of the provided CA certificate."
            )
        found = await authorities_sql.get_authority(tx, scope, given.certificate.fingerprint)
    else:
        named = await authorities_sql.list_of_subject(tx, scope, leaf.issuer, limit=2)
        if len(named) > 1:
            raise Ambiguous(
                "CA certificate",
                "Several CA certificates have the certificate's issuer as their subject: say which in caCertificatePem",
            )
        found = named[0] if named else None
    content = given.content if given is not None else found.content() if found is not None else None
    if content is not None and not is_signed_by(leaf.content, content):
        raise UnverifiedCertificate(
            _FIELD, "The signature of the certificate failed verification against the provided CA certificate."
        )
    if found is None:
        raise InvalidState("certificate", leaf.fingerprint, "No CA certificate exists for the given certificate")
    if found.status is not AuthorityStatus.ACTIVE:
        raise InvalidState("CA certificate", found.fingerprint, "The CA certificate is not active")
    return found


async def sole_issuer_of(tx: Transaction, scope: Scope, leaf: Leaf) -> RegisteredAuthority | None:
    """The account's ACTIVE authority that signed ``leaf``; None if there is none, or more than one with that key."""
    named = await authorities_sql.list_of_subject(tx, scope, leaf.issuer, limit=MAX_SAME_SUBJECT)
    active = [authority for authority in named if authority.status is AuthorityStatus.ACTIVE]
    signers = [authority for authority in active if is_signed_by(leaf.content, authority.content())]
    return signers[0] if len(signers) == 1 else None
