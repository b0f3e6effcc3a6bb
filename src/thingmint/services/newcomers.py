"""Devices that nobody registered, with a certificate of an authority that somebody did: just-in-time registration."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from thingmint.domain.certificates import is_signed_by, re_signed_fingerprint
from thingmint.domain.errors import Disallowed
from thingmint.domain.status import Status
from thingmint.domain.template import Kind, parse_template, subject_parameters
from thingmint.services.ca_certificates import find_by_subject, find_registered_ca, registration_under
from thingmint.services.certificates import REGISTRATIONS, find_by_serial, register, utc_now, was_revoked
from thingmint.services.plans import apply_plan, prepare_plan
from thingmint.services.quotas import NO_QUOTAS
from thingmint.services.templates import compile_template, get_template
from thingmint.store.outbox import announce

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from thingmint.domain.certificates import IssuedCertificate
    from thingmint.domain.issuing_ca import CertificateAuthority
    from thingmint.domain.registration import Scope
    from thingmint.domain.template import Plan, Template
    from thingmint.services.ca_certificates import CaRegistration, RegisteredCa
    from thingmint.services.certificates import Registration
    from thingmint.services.change import Authorize
    from thingmint.services.plans import PreparedPlan
    from thingmint.services.provisioning import AsRole
    from thingmint.services.quotas import Quotas
    from thingmint.store.engine import Store, Transaction

__all__ = ["Arrival", "NewcomerRegistry"]

# Authorities of one name that are tried: one account has ten at most, and names are not secret.
_MAX_CANDIDATES = 50

_compiled = lru_cache(maxsize=64)(parse_template)


@dataclass(frozen=True, slots=True)
class Arrival:
    """Who vouches for a newcomer; ``registration`` is there if it came before and waits for activation."""

    ca: CaRegistration
    registration: Registration | None


class NewcomerRegistry:
    """Every method is one transaction."""

    def __init__(
        self,
        store: Store,
        authority: CertificateAuthority,
        *,
        quotas: Quotas = NO_QUOTAS,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._authority = authority
        self._quotas = quotas
        self._clock = clock

    async def find(self, scope: Scope | None, leaf: IssuedCertificate) -> Arrival | None:
        """Without ``scope``, of all accounts. None if none has the authority; raises Disallowed where one has, and
        does not want the certificate registered."""

        async def body(tx: Transaction) -> tuple[Sequence[RegisteredCa], Registration | None]:
            known = await REGISTRATIONS.find(tx, *scope, leaf.fingerprint) if scope is not None else None
            if known is None:
                return await find_by_subject(tx, scope, leaf.issuer, _MAX_CANDIDATES), None
            ca = await find_registered_ca(tx, known.scope, known.ca) if known.ca is not None else None
            return [ca] if ca is not None else [], known

        candidates, known = await self._store.read(body)
        if known is not None and known.status is not Status.PENDING_ACTIVATION:
            return None
        signers = _signers(candidates, leaf)
        if not signers:
            return None
        now = self._clock()
        if flaw := leaf.flaw(now):
            raise Disallowed("certificate", leaf.fingerprint, f"it {flaw}")
        return Arrival(_one_of(signers, scope, now), known)

    async def register(self, arrival: Arrival, leaf: IssuedCertificate, as_role: AsRole) -> Registration:
        """The registration, PENDING_ACTIVATION unless the authority provisions; what is there already is left as it is.

        Raises Disallowed for what is not to be registered, LimitExceeded, and what its provisioning raises.
        """
        if arrival.registration is not None:
            return arrival.registration
        ca, now, generation = arrival.ca, self._clock(), str(uuid.uuid4())
        scope = ca.scope
        prepared = await self._prepare(ca, leaf, now, as_role)

        async def body(tx: Transaction) -> Registration:
            current = await find_registered_ca(tx, scope, ca.fingerprint)
            if current is None or current.registration != ca:
                raise Disallowed("CA certificate", ca.fingerprint, "it was changed meanwhile")
            known = await REGISTRATIONS.find(tx, *scope, leaf.fingerprint)
            if known is not None:
                return known
            await _check_never_seen(tx, current, leaf)
            registration = registration_under(ca, leaf, Status.PENDING_ACTIVATION, now, generation)
            await register(tx, registration, leaf.certificate, self._quotas)
            await announce(tx, scope, "certificate", leaf.fingerprint, now)
            if prepared is None:
                return registration
            await apply_plan(tx, *prepared, quotas=self._quotas)
            return await REGISTRATIONS.get(tx, *scope, leaf.fingerprint)

        return await self._store.write(body)

    async def _prepare(
        self, ca: CaRegistration, leaf: IssuedCertificate, now: datetime, as_role: AsRole
    ) -> tuple[PreparedPlan, Authorize] | None:
        """None if it is not to be provisioned. A plan is of no use without the right to each of its effects."""
        if ca.config is None:
            return None
        plan, role, source = await self._plan(ca, leaf)
        authorize = await as_role(role, source)
        return prepare_plan(ca.scope, plan, now, self._authority, authorize), authorize

    async def _plan(self, ca: CaRegistration, leaf: IssuedCertificate) -> tuple[Plan, str, str]:
        """With the role that it is to be done as, and the ARN of what says so."""
        config = ca.config
        assert config is not None
        template: Template
        if config.template_body is not None:
            template, role, source = _compiled(config.template_body, Kind.JITP), config.role_arn, ca.arn
        else:
            assert config.template_name is not None
            name = config.template_name
            kept, version = await self._store.read(lambda tx: get_template(tx, ca.scope, name))
            template = compile_template(kept, version)
            if not kept.enabled:
                raise Disallowed("provisioning template", kept.name, f"Template {kept.name} is not enabled.")
            role, source = config.role_arn or kept.role_arn, kept.arn
        assert role is not None, "a configuration with a body has a role"
        return template.resolve({}, subject_parameters(leaf.content)), role, source


def _signers(candidates: Sequence[RegisteredCa], leaf: IssuedCertificate) -> list[RegisteredCa]:
    """Each key is tried once, in however many accounts it is."""
    verdicts: dict[str, bool] = {}
    for candidate in candidates:
        if candidate.certificate.fingerprint not in verdicts:
            verdicts[candidate.certificate.fingerprint] = is_signed_by(leaf.content, candidate.content())
    return [candidate for candidate in candidates if verdicts[candidate.certificate.fingerprint]]


def _one_of(signers: Sequence[RegisteredCa], scope: Scope | None, now: datetime) -> CaRegistration:
    """The account's newest that registers by itself; without ``scope``, of the only account that has one."""
    if scope is None:
        # Anybody can register anybody's certificate as SNI_ONLY: such a one does not come between a device and those
        # who have shown that the key is theirs.
        signers = [signer for signer in signers if signer.registration.mode == "DEFAULT"] or signers
    willing = [
        ca
        for ca, certificate in signers
        if ca.registers_by_itself and certificate.not_before <= now <= certificate.not_after
    ]
    if not willing:
        reason = "it is not ACTIVE, does not register devices by itself, or is not valid now"
        raise Disallowed("CA certificate", signers[-1].registration.fingerprint, reason)
    if len({signer.scope for signer in willing}) > 1:
        reason = "several accounts or regions have it: the device has to name an endpoint (SNI)"
        raise Disallowed("CA certificate", willing[-1].fingerprint, reason)
    return willing[-1]


async def _check_never_seen(tx: Transaction, registered: RegisteredCa, leaf: IssuedCertificate) -> None:
    """A certificate that was revoked, or is registered under another fingerprint, is refused whatever it is now called.

    What was registered without an authority is known by its fingerprint alone, so both possible ones are looked for.
    """
    scope, ca = registered.registration.scope, registered.registration.fingerprint
    twin = re_signed_fingerprint(leaf, registered.content())
    if await was_revoked(tx, scope, ca, leaf.serial, leaf.fingerprint, twin or leaf.fingerprint):
        raise Disallowed("certificate", leaf.fingerprint, "it was revoked")
    other = await find_by_serial(tx, scope, ca, leaf.serial)
    if other is None and twin is not None and await REGISTRATIONS.find(tx, *scope, twin) is not None:
        other = twin
    if other is not None:
        reason = f"the authority's certificate of that serial number is registered as {other}"
        raise Disallowed("certificate", leaf.fingerprint, reason)
