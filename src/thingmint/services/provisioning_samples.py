"""The sample device of a dry run: its certificate, and the role that provisions it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

from thingmint.domain.arns import arn_of
from thingmint.domain.certificates import Certificate, parse_issued_certificate
from thingmint.domain.errors import Disallowed, DomainError, Invalid
from thingmint.domain.status import Status
from thingmint.domain.templates import CERTIFICATE_ID, Kind, subject_parameters
from thingmint.domain.templates.subjects import CERTIFICATE_PREFIX, PSEUDO_PREFIX
from thingmint.services.certificates import get_registered
from thingmint.services.jit_registration import find_candidate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.domain.certificates import IssuedCertificate
    from thingmint.domain.policies import ContextValue
    from thingmint.services.ca_certificates import CaRegistration
    from thingmint.services.change import Change
    from thingmint.services.provisioning_state import State
    from thingmint.services.templates import ProvisioningTemplate
    from thingmint.store.engine import Store

Step = Literal["template", "certificate", "parameters", "role", "permission", "change"]

Allows = Callable[[str, str], bool]
"""True if the caller may perform an action on a resource. Other than ``Change.may`` it records nothing."""

_VALIDITY = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleDevice:
    """What a device gives. ``parameters`` of a JITP template are the fields of its certificate's subject: CommonName.

    ``certificate`` is the id of a registered certificate, ``pem`` is a certificate; without both, a certificate that
    does not exist stands for the device's. ``address`` is for policies that ask for it.
    """

    parameters: Mapping[str, str] = field(default_factory=dict)
    certificate: str | None = None
    pem: str | None = None
    client_id: str = ""
    address: str | None = None


class Failure(NamedTuple):
    """Why a device would not be provisioned."""

    step: Step
    reason: str


@dataclass(slots=True)
class Run:
    """What a dry run begins with, and what it finds.

    ``ca`` is the CA under which the certificate is registered; ``is_new`` if it is not registered yet. ``asked`` are
    the distinct actions of the role, in the order of their first use.
    """

    role: str
    certificate: Certificate
    context: Mapping[str, str]
    issued: IssuedCertificate | None = None
    ca: CaRegistration | None = None
    is_new: bool = True
    is_stand_in: bool = False
    failures: list[Failure] = field(default_factory=list)
    before: State | None = None
    asked: dict[tuple[str, Sequence[str]], Mapping[str, ContextValue]] = field(default_factory=dict)

    def note(self, action: str, resources: Sequence[str], context: Mapping[str, ContextValue]) -> None:
        """An Authorize that allows everything."""
        self.asked.setdefault((action, tuple(resources)), context)

    def fail(self, step: Step, error: DomainError | str) -> None:
        self.failures.append(Failure(step, str(error)))


async def begin_run(
    store: Store, change: Change, template: ProvisioningTemplate, sample: SampleDevice, allows: Allows
) -> Run:
    """Find the certificate of the sample device, and the role. Raises Denied, InvalidCertificate and NotFound."""
    registered, id = None, sample.certificate
    if id is not None:
        change.may("iot:DescribeCertificate", arn_of(change.scope, id))
        registered = await store.read(lambda tx: get_registered(tx, change.scope, id))
    if template.kind is Kind.JITP:
        pem = sample.pem if registered is None else registered.certificate.pem
        is_registered = registered is not None
        return await _begin_just_in_time(store, change, template, sample, pem, allows, is_registered=is_registered)
    if sample.pem is not None:
        raise Invalid("certificate", "in PEM is for templates of the type JITP: other devices get theirs here")
    certificate = registered.certificate if registered is not None else _stand_in(change)
    run = Run(template.role_arn, certificate, {CERTIFICATE_ID: certificate.fingerprint})
    run.is_new = run.is_stand_in = registered is None
    if registered is not None and registered.registration.status in (Status.REVOKED, Status.PENDING_TRANSFER):
        run.fail("certificate", f"The certificate is {registered.registration.status}, so it cannot be provisioned")
    return run


async def _begin_just_in_time(
    store: Store,
    change: Change,
    template: ProvisioningTemplate,
    sample: SampleDevice,
    pem: str | None,
    allows: Allows,
    *,
    is_registered: bool,
) -> Run:
    stand_in = _stand_in(change)
    instead = {CERTIFICATE_ID: stand_in.fingerprint}
    fields = {
        name if name.startswith(PSEUDO_PREFIX) else f"{CERTIFICATE_PREFIX}{name}": value
        for name, value in sample.parameters.items()
    }
    run = Run(template.role_arn, stand_in, {**fields, **instead}, is_stand_in=True)
    if pem is None:
        return run
    issued = parse_issued_certificate(pem, "certificate")
    # The result tells whether the certificate is registered.
    change.may("iot:DescribeCertificate", arn_of(change.scope, issued.fingerprint))
    run.context = subject_parameters(issued.parts)
    try:
        ca = await _ca_of(store, change, template, issued, allows, is_registered=is_registered)
    except Disallowed as error:
        # What a certificate with this subject would get is shown nevertheless.
        run.fail("certificate", f"The certificate is not provisioned just in time: {error.reason}")
        run.context = {**run.context, **instead}
        return run
    role = ca.role_arn or template.role_arn
    return Run(role, issued.certificate, run.context, issued=issued, ca=ca)


async def _ca_of(
    store: Store,
    change: Change,
    template: ProvisioningTemplate,
    issued: IssuedCertificate,
    allows: Allows,
    *,
    is_registered: bool,
) -> CaRegistration:
    """The CA under which a device with the certificate is provisioned with the template. Raises Disallowed."""
    id, own = issued.fingerprint, change.environment.own_authorities
    if is_registered:
        raise Disallowed("certificate", id, "it is registered already")
    candidate = await find_candidate(store, own, change.scope, issued, change.now)
    if candidate is None:
        raise Disallowed("certificate", id, "no CA that the account has registered in this region signed it")
    if candidate.registration is not None:
        raise Disallowed("certificate", id, "it is registered already")
    if candidate.ca.template_name != template.name:
        ca = candidate.ca
        name = f" {ca.fingerprint}" if allows("iot:DescribeCACertificate", ca.arn) else ""
        raise Disallowed("certificate", id, f"its CA certificate{name} does not provision with this template")
    return candidate.ca


def _stand_in(change: Change) -> Certificate:
    """A certificate that exists for one dry run only. Nothing was signed for it."""
    content = secrets.token_bytes(64)
    return Certificate(content, hashlib.sha256(content).hexdigest(), change.now, change.now + _VALIDITY)
