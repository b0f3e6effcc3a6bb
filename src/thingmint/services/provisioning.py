"""RegisterThing over MQTT: registers a device that has an ownership token with a fleet provisioning template."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import orjson

from thingmint.domain.errors import NotFound, ProvisioningRefused
from thingmint.domain.templates import CERTIFICATE_ID, Kind
from thingmint.services.functions import is_another_accounts
from thingmint.services.hooks import ask_hook, refusal
from thingmint.services.ownership_tokens import TOKENS, find_current_token
from thingmint.services.template_execution import AsRole, execute_plan, prepare_plan, provisioning_failures
from thingmint.services.templates import compile_template, get_template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.domain.certificates import Certificate
    from thingmint.services.change import Change, Query
    from thingmint.services.ownership_tokens import OwnershipToken
    from thingmint.services.template_execution import PreparedPlan
    from thingmint.services.templates import ProvisioningTemplate, TemplateVersion
    from thingmint.store.engine import Transaction


@dataclass(frozen=True, slots=True)
class ThingRequest:
    """A device's request. ``claim`` is the fingerprint of the certificate with which the device is connected."""

    claim: str
    client_id: str
    template: str
    token: str | None
    parameters: Mapping[str, str]
    as_role: AsRole


@dataclass(frozen=True, slots=True)
class ProvisionedThing:
    """``name`` is None if the template makes no thing."""

    name: str | None
    device_configuration: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ThingToRegister:
    template: ProvisioningTemplate
    version: TemplateVersion
    token: OwnershipToken
    certificate: Certificate


async def look_up_thing(tx: Transaction, query: Query, request: ThingRequest) -> ThingToRegister:
    """Read the template and the token's certificate. Raises ProvisioningRefused."""
    name = request.template
    try:
        template, version = await get_template(tx, query.scope, name)
    except NotFound:
        raise ProvisioningRefused("template", f"Template with name {name} does not exist.") from None
    if template.kind is not Kind.FLEET:
        raise ProvisioningRefused("template", f"Template {name} is not of type {Kind.FLEET}.")
    if not template.enabled:
        raise ProvisioningRefused("template", f"Template {name} is not enabled.")
    if not request.token:
        raise ProvisioningRefused("token", "Certificate ownership token cannot be empty.")
    found = await find_current_token(tx, query, request.claim, request.token)
    if found is None:
        raise _invalid_token()
    if template.hook_arn is not None and await is_another_accounts(tx, query.account, template.hook_arn):
        # At AWS, the policy of the other account's function would refuse it.
        raise refusal(query.environment.functions.refuse(query.account, template.hook_arn, "pre_provisioning"))
    return ThingToRegister(template, version, *found)


class EarlierAnswers:
    """A Recorder: a token allows one successful request. An identical request gets the same answer again."""

    def __init__(self, request: ThingRequest) -> None:
        content = orjson.dumps([request.template, request.parameters], option=orjson.OPT_SORT_KEYS)
        self._digest = hashlib.sha256(content).digest()

    async def earlier(self, _tx: Transaction, found: ThingToRegister) -> ProvisionedThing | None:
        """Return the earlier answer. Raises ProvisioningRefused if the token was used for another request."""
        if found.token.answer is None:
            return None
        if found.token.request != self._digest:
            raise _invalid_token()
        answer = orjson.loads(found.token.answer)
        return ProvisionedThing(answer["thing"], answer["configuration"])

    reserve = earlier

    async def record(self, tx: Transaction, result: ProvisionedThing, found: ThingToRegister) -> ProvisionedThing:
        answer = orjson.dumps({"thing": result.name, "configuration": result.device_configuration}).decode()
        await TOKENS.update(tx, replace(found.token, request=self._digest, answer=answer))
        return result


async def prepare_thing(change: Change, request: ThingRequest, found: ThingToRegister) -> tuple[Change, PreparedPlan]:
    """Return the template's plan, with the change as the template's role.

    The order of checks is AWS's: template, token, hook, parameters, effects. Raises ProvisioningRefused,
    InvalidParameters and ProvisioningFailed.
    """
    template, parameters = found.template, request.parameters
    if template.hook is not None:
        question = {
            "claimCertificateId": request.claim,
            "certificateId": found.certificate.fingerprint,
            "certificatePem": found.certificate.pem,
            "templateArn": template.arn,
            "clientId": request.client_id,
            "parameters": dict(parameters),
        }
        overrides = await ask_hook(change.environment.functions, change.account, template.hook, question)
        parameters = {**parameters, **overrides}
    compiled = compile_template(found.version.body, template.kind)
    with provisioning_failures():
        plan = compiled.resolve(parameters, {CERTIFICATE_ID: found.certificate.fingerprint})
        change = await request.as_role(template.role_arn, template.arn)
        return change, await prepare_plan(change, plan)


async def register_thing(
    tx: Transaction,
    _change: Change,
    _request: ThingRequest,
    found: ThingToRegister,
    prepared: tuple[Change, PreparedPlan],
) -> ProvisionedThing:
    """Execute the plan, completely or not at all. Raises ProvisioningRefused and ProvisioningFailed."""
    change, plan = prepared
    if found.token.expires_at <= change.now:  # the token expired during the call of the hook
        raise _invalid_token()
    with provisioning_failures():
        executed = await execute_plan(tx, change, plan)
    return ProvisionedThing(executed.thing, executed.device_configuration)


def _invalid_token() -> ProvisioningRefused:
    return ProvisioningRefused("token", "Certificate ownership token is invalid.")
