"""Registering things by templates: for a device that holds an ownership token, and for who calls RegisterThing."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import orjson

from thingmint.domain.errors import (
    DomainError,
    InvalidParameters,
    NotFound,
    ProvisioningFailed,
    ProvisioningRefused,
    Throttled,
    Unavailable,
)
from thingmint.domain.template import CERTIFICATE_ID, Kind, parse_template
from thingmint.services.certificates import utc_now
from thingmint.services.change import Authorize
from thingmint.services.ownership import current_token, token_sha256
from thingmint.services.plans import Applied, apply_plan, prepare_plan
from thingmint.services.quotas import NO_QUOTAS
from thingmint.services.templates import compile_template, get_template
from thingmint.store import ownership_tokens as sql

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from thingmint.domain.certificates import Certificate
    from thingmint.domain.issuing_ca import CertificateAuthority
    from thingmint.domain.registration import Scope
    from thingmint.domain.template import Plan, Template
    from thingmint.services.hooks import Hook
    from thingmint.services.plans import PreparedPlan
    from thingmint.services.quotas import Quotas
    from thingmint.services.templates import ProvisioningTemplate
    from thingmint.store.engine import Store, Transaction
    from thingmint.store.ownership_tokens import OwnershipToken

__all__ = ["AsRole", "Hooks", "ProvisionedThing", "ProvisioningRegistry", "ThingRequest"]

AsRole = Callable[[str, str], Awaitable[Authorize]]
"""What a role may do, by the ARNs of the role and of the template that it works for. Raises Denied if it is none."""


class Hooks(Protocol):
    async def ask(self, hook: Hook, question: Mapping[str, object]) -> Mapping[str, str]:
        """The parameters that it wants otherwise. Raises ProvisioningRefused."""
        ...


@dataclass(frozen=True, slots=True)
class ThingRequest:
    """What a device asks for. ``claim`` is the fingerprint of the certificate that it came with."""

    scope: Scope
    claim: str
    client_id: str
    template: str
    token: str | None
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ProvisionedThing:
    """``name`` is None if the template makes no thing."""

    name: str | None
    device_configuration: Mapping[str, str]


class ProvisioningRegistry:
    def __init__(
        self,
        store: Store,
        authority: CertificateAuthority,
        hooks: Hooks,
        *,
        reinstate_revoked: bool = False,
        quotas: Quotas = NO_QUOTAS,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._authority = authority
        self._hooks = hooks
        self._reinstate_revoked = reinstate_revoked
        self._quotas = quotas
        self._clock = clock

    async def register_thing(self, request: ThingRequest, as_role: AsRole) -> ProvisionedThing:
        """Everything that the template says, or nothing; once for each token, and the same answer to the same request.

        AWS's order: template, token, hook, parameters, effects. Raises ProvisioningRefused, InvalidParameters and
        ProvisioningFailed.
        """
        template, compiled = await self._template(request)
        sha256, digest = _sha256_of_token(request), _digest(request)
        now = self._clock()

        async def find(tx: Transaction) -> tuple[Certificate, ProvisionedThing | None]:
            token, certificate = await _current(tx, request, sha256, now)
            return certificate, _earlier_answer(token, digest)

        certificate, answer = await self._store.read(find)
        if answer is not None:
            return answer
        parameters = request.parameters
        if template.hook is not None:
            question = _question(request, template, certificate)
            parameters = {**parameters, **await self._hooks.ask(template.hook, question)}
        with _failing():
            plan = compiled.resolve(parameters, {CERTIFICATE_ID: certificate.fingerprint})
            authorize = await as_role(template.role_arn, template.arn)
            now = self._clock()
            prepared = prepare_plan(request.scope, plan, now, self._authority, authorize)

        async def body(tx: Transaction) -> ProvisionedThing:
            token, _ = await _current(tx, request, sha256, now)
            if (answer := _earlier_answer(token, digest)) is not None:
                return answer
            with _failing():
                applied = await self._applied(tx, prepared, authorize)
            thing = ProvisionedThing(applied.thing, applied.device_configuration)
            await sql.answer_token(tx, sha256, digest, _kept(thing))
            return thing

        return await self._store.write(body)

    async def register(
        self, scope: Scope, template_body: str, parameters: Mapping[str, str], authorize: Authorize
    ) -> Applied:
        """What RegisterThing of the control plane does.

        Raises InvalidTemplate, InvalidParameters, and ProvisioningFailed, whose cause may be Denied.
        """
        compiled = parse_template(template_body, Kind.BULK)
        with _failing():
            plan = compiled.resolve(parameters, {})
        return await self.apply(scope, plan, authorize)

    async def apply(self, scope: Scope, plan: Plan, authorize: Authorize) -> Applied:
        """The plan in a transaction of its own, whoever wanted it. Raises ProvisioningFailed.

        Where there is more to be done in the same transaction, prepare_plan and apply_plan can be called in that.
        """
        with _failing():
            prepared = prepare_plan(scope, plan, self._clock(), self._authority, authorize)

        async def body(tx: Transaction) -> Applied:
            with _failing():
                return await self._applied(tx, prepared, authorize)

        return await self._store.write(body)

    async def _applied(self, tx: Transaction, prepared: PreparedPlan, authorize: Authorize) -> Applied:
        return await apply_plan(tx, prepared, authorize, quotas=self._quotas, reinstate_revoked=self._reinstate_revoked)

    async def _template(self, request: ThingRequest) -> tuple[ProvisioningTemplate, Template]:
        name = request.template
        try:
            template, version = await self._store.read(lambda tx: get_template(tx, request.scope, name))
        except NotFound:
            raise ProvisioningRefused("template", f"Template with name {name} does not exist.") from None
        if template.kind is not Kind.FLEET:
            raise ProvisioningRefused("template", f"Template {name} is not of type {Kind.FLEET}.")
        if not template.enabled:
            raise ProvisioningRefused("template", f"Template {name} is not enabled.")
        return template, compile_template(template, version)


def _sha256_of_token(request: ThingRequest) -> bytes:
    if not request.token:
        raise ProvisioningRefused("token", "Certificate ownership token cannot be empty.")
    sha256 = token_sha256(request.token)
    if sha256 is None:
        raise _invalid_token()
    return sha256


def _invalid_token() -> ProvisioningRefused:
    return ProvisioningRefused("token", "Certificate ownership token is invalid.")


async def _current(
    tx: Transaction, request: ThingRequest, sha256: bytes, now: datetime
) -> tuple[OwnershipToken, Certificate]:
    found = await current_token(tx, request.scope, request.claim, sha256, now)
    if found is None:
        raise _invalid_token()
    return found


def _earlier_answer(token: OwnershipToken, digest: bytes) -> ProvisionedThing | None:
    """What the same request was answered before; None if the token is still to be used."""
    if token.answer is None:
        return None
    if token.request != digest:
        raise _invalid_token()
    kept = orjson.loads(token.answer)
    return ProvisionedThing(kept["thing"], kept["configuration"])


def _kept(thing: ProvisionedThing) -> str:
    return orjson.dumps({"thing": thing.name, "configuration": thing.device_configuration}).decode()


def _digest(request: ThingRequest) -> bytes:
    """Of what has to be the same in an identical retry, besides the token and who shows it."""
    content = orjson.dumps([request.template, request.parameters], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).digest()


def _question(request: ThingRequest, template: ProvisioningTemplate, certificate: Certificate) -> dict[str, object]:
    return {
        "claimCertificateId": request.claim,
        "certificateId": certificate.fingerprint,
        "certificatePem": certificate.pem,
        "templateArn": template.arn,
        "clientId": request.client_id,
        "parameters": dict(request.parameters),
    }


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    """What goes wrong with an effect is a failure of the template's, whoever asked."""
    try:
        yield
    except (InvalidParameters, Throttled, Unavailable):
        raise
    except DomainError as error:
        raise ProvisioningFailed(error) from error
