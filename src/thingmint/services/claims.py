"""Provisioning claims: certificates that a trusted user gets a device provisioned with, in the next few minutes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.domain.errors import NotFound
from thingmint.domain.issuing_ca import DEVICE_SUBJECT, CertificateRequest
from thingmint.domain.provisioning import Claim, template_arn
from thingmint.services.certificates import utc_now
from thingmint.store import claims as sql
from thingmint.store.templates import get_template

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from thingmint.domain.certificates import Certificate
    from thingmint.domain.issuing_ca import CertificateAuthority
    from thingmint.domain.keys import KeyPair
    from thingmint.domain.registration import Scope
    from thingmint.services.keypool import KeyPool
    from thingmint.store.engine import Store, Transaction

__all__ = ["ClaimRegistry", "IssuedClaim"]

_BATCH = 500  # claims that one transaction forgets


@dataclass(frozen=True, slots=True)
class IssuedClaim:
    """The pair is nowhere else once the caller lets go of it."""

    claim: Claim
    certificate: Certificate
    keys: KeyPair


class ClaimRegistry:
    """Claims are no registrations: no list shows them, and nothing can be attached to them."""

    def __init__(
        self,
        store: Store,
        authority: CertificateAuthority,
        keys: KeyPool,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """``authority`` is one with the profile CLAIM."""
        self._store = store
        self._authority = authority
        self._keys = keys
        self._clock = clock

    async def create(self, scope: Scope, template: str) -> IssuedClaim:
        """Raises NotFound (template), and Throttled if too many wait for keys."""

        async def check(tx: Transaction) -> None:
            if await get_template(tx, scope, template) is None:
                raise NotFound("provisioning template", template)

        await self._store.read(check)  # no key is spent on a template that is not there
        keys = await self._keys.take(scope.account)
        now = self._clock()
        request = CertificateRequest(DEVICE_SUBJECT, keys.public_key)
        certificate = self._authority.sign(self._authority.prepare(request, now))
        claim = Claim(scope, certificate.fingerprint, template, certificate.not_after, now)

        async def body(tx: Transaction) -> None:
            await check(tx)
            await sql.insert_claim(tx, claim)
            tx.audit_resources.append(template_arn(scope, template))

        await self._store.write(body)
        return IssuedClaim(claim, certificate, keys)

    async def find(self, fingerprint: str) -> list[Claim]:
        """Those that are good at this moment, of every account that made one."""
        now = self._clock()

        async def body(tx: Transaction) -> list[Claim]:
            return await sql.claims_of(tx, fingerprint, now)

        return await self._store.read(body)

    async def prune(self) -> int:
        """Forgets the claims that have expired; how many there were. To be called now and then."""
        now = self._clock()

        async def are_there(tx: Transaction) -> bool:
            return await sql.has_expired_claims(tx, now)

        async def body(tx: Transaction) -> int:
            return await sql.prune_claims(tx, now, _BATCH)

        count = 0
        while await self._store.read(are_there):  # a write costs a sync of the disk, and there seldom are any
            count += await self._store.write(body)
        return count
