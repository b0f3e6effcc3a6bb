"""Certificates that devices are given over MQTT, and the tokens that make them theirs.

Such a certificate is PENDING_ACTIVATION and opens nothing. Whoever shows its token, with the claim that it was asked
for with, may register a thing with it; if nobody does within the hour, it is deleted.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.certificates import parse_csr
from thingmint.domain.door import DoorSettings
from thingmint.domain.errors import ProvisioningRefused, Unavailable
from thingmint.domain.issuing_ca import DEVICE_SUBJECT, CertificateRequest
from thingmint.domain.keys import CSR_KEYS
from thingmint.domain.status import Status
from thingmint.services.bindings import BINDINGS
from thingmint.services.certificates import (
    REGISTRATIONS,
    Registration,
    delete_registration,
    find_registered,
    register,
    utc_now,
)
from thingmint.services.claims import delete_expired_claims
from thingmint.services.device_policies import Target, count_attachments
from thingmint.services.quotas import NO_QUOTAS, Quotas
from thingmint.services.thing_principals import is_attached
from thingmint.store import ownership_tokens as sql
from thingmint.store.doorkeeping import account_settings
from thingmint.store.outbox import announce
from thingmint.store.ownership_tokens import OwnershipToken

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from thingmint.domain.certificates import Certificate
    from thingmint.domain.issuing_ca import CertificateAuthority
    from thingmint.domain.keys import KeyPair
    from thingmint.domain.registration import Scope
    from thingmint.services.certificates import Origin
    from thingmint.services.keypool import KeyPool
    from thingmint.store.engine import Store, Transaction

__all__ = ["OwnedCertificate", "OwnershipRegistry", "current_token", "token_sha256"]

_LIFETIME = timedelta(hours=1)  # AWS: "The token expires after one hour"
_PREFIX = "tmo_"
_MAX_TOKEN = 512  # characters; AWS's demos for small devices keep 512 bytes for it

_EXPIRE_EVERY = 60.0  # seconds
_BATCH = 100  # tokens that one transaction ends

_log = structlog.get_logger("thingmint.provisioning")


@dataclass(frozen=True, slots=True)
class OwnedCertificate:
    """``token`` is nowhere else: only its hash is kept."""

    certificate: Certificate
    token: str


class OwnershipRegistry:
    """``claim`` is the fingerprint of the certificate with which the device came."""

    def __init__(
        self,
        store: Store,
        authority: CertificateAuthority,
        keys: KeyPool,
        *,
        quotas: Quotas = NO_QUOTAS,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._authority = authority
        self._keys = keys
        self._quotas = quotas
        self._clock = clock

    async def create_keys(self, scope: Scope, claim: str) -> tuple[OwnedCertificate, KeyPair]:
        """The pair is nowhere else once the caller lets go of it.

        Raises ProvisioningRefused where the account has no keys made over MQTT, LimitExceeded and Throttled.
        """

        async def settings(tx: Transaction) -> DoorSettings:
            return DoorSettings.of(await account_settings(tx, scope.account))

        if not (await self._store.read(settings)).keys_over_mqtt:
            raise ProvisioningRefused("key", "This account makes no keys over MQTT: send a certificate signing request")
        keys = await self._keys.take(scope.account)
        request = CertificateRequest(DEVICE_SUBJECT, keys.public_key)
        return await self._issue(scope, claim, request, "keys"), keys

    async def create_from_csr(self, scope: Scope, claim: str, csr: str) -> OwnedCertificate:
        """Raises InvalidSigningRequest and LimitExceeded."""
        signing_request = parse_csr(csr, "certificateSigningRequest", CSR_KEYS)
        request = CertificateRequest(signing_request.subject, signing_request.public_key)
        return await self._issue(scope, claim, request, "csr")

    async def expire(self, now: datetime) -> int:
        """Ends the tokens whose time is over, and deletes what nobody claimed; how many certificates that were.

        One that somebody activated, or attached anything to, meanwhile is kept.
        """
        await delete_expired_claims(self._store, now)

        async def are_there(tx: Transaction) -> bool:
            return bool(await sql.expired_tokens(tx, now, 1))

        async def body(tx: Transaction) -> list[OwnershipToken]:
            deleted = []
            for token in await sql.expired_tokens(tx, now, _BATCH):
                if await _is_unclaimed(tx, token):
                    await delete_registration(tx, token.scope, token.fingerprint)
                    await announce(tx, token.scope, "certificate", token.fingerprint, now)
                    deleted.append(token)
                await sql.delete_token(tx, token.sha256)
            return deleted

        count = 0
        while await self._store.read(are_there):
            for token in await self._store.write(body):
                count += 1
                _log.info("a certificate that nobody claimed was deleted", **_about(token))
        return count

    async def run(self) -> None:
        """Expires for ever."""
        while True:
            try:
                await self.expire(self._clock())
            except Unavailable:
                _log.warning("unclaimed certificates were not deleted yet")
            await asyncio.sleep(_EXPIRE_EVERY)

    async def _issue(self, scope: Scope, claim: str, request: CertificateRequest, origin: Origin) -> OwnedCertificate:
        now = self._clock()
        certificate = self._authority.sign(self._authority.prepare(request, now))
        fingerprint, generation = certificate.fingerprint, str(uuid.uuid4())
        registration = Registration(
            scope, fingerprint, Status.PENDING_ACTIVATION, "DEFAULT", origin, now, now, generation
        )
        token = f"{_PREFIX}{secrets.token_urlsafe(32)}"
        sha256 = token_sha256(token)
        assert sha256 is not None, "ours are short enough"
        row = OwnershipToken(sha256, scope, fingerprint, claim, now + _LIFETIME)

        async def body(tx: Transaction) -> None:
            await register(tx, registration, certificate, self._quotas)
            await sql.insert_token(tx, row)

        await self._store.write(body)
        return OwnedCertificate(certificate, token)


def token_sha256(token: str) -> bytes | None:
    """None for what is none of ours for certain."""
    if not token.startswith(_PREFIX) or len(token) > _MAX_TOKEN:
        return None
    return hashlib.sha256(token.encode()).digest()


async def current_token(
    tx: Transaction, scope: Scope, claim: str, sha256: bytes, now: datetime
) -> tuple[OwnershipToken, Certificate] | None:
    """The token and its certificate, if it is ``claim``'s, in time, and the certificate still to be had."""
    token = await sql.get_token(tx, sha256)
    if token is None or (token.scope, token.claim) != (scope, claim) or token.expires_at <= now:
        return None
    registered = await find_registered(tx, scope, token.fingerprint)
    if registered is None or registered.registration.status in (Status.REVOKED, Status.PENDING_TRANSFER):
        return None
    return token, registered.certificate


async def _is_unclaimed(tx: Transaction, token: OwnershipToken) -> bool:
    scope, fingerprint = token.scope, token.fingerprint
    registration = await REGISTRATIONS.find(tx, *scope, fingerprint)
    if registration is None or registration.status is not Status.PENDING_ACTIVATION:
        return False
    if await is_attached(tx, scope, fingerprint) or await count_attachments(tx, scope, Target("cert", fingerprint)):
        return False
    binding = await BINDINGS.find(tx, scope.account, fingerprint)
    return binding is None or binding.scope != scope


def _about(token: OwnershipToken) -> dict[str, str]:
    return {"account": token.scope.account, "region": token.scope.region, "certificate": token.fingerprint}
