"""Registering a thing by a template that the caller sends along (one operation)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import Members, Result, writes
from thingmint.domain.errors import Denied
from thingmint.domain.templates import Kind, parse_template
from thingmint.services.template_execution import (
    discard_plan,
    execute_plan,
    prepare_plan,
    provisioning_failures,
)

if TYPE_CHECKING:
    from thingmint.services.change import Change
    from thingmint.services.template_execution import PreparedPlan
    from thingmint.store.engine import Transaction


async def _prepare(change: Change, members: Members) -> PreparedPlan:
    template = parse_template(members["templateBody"], Kind.BULK)
    with provisioning_failures(Denied):
        return await prepare_plan(change, template.resolve(members.get("parameters", {}), {}))


@writes("RegisterThing", prepare=_prepare, discard=discard_plan)
async def register_thing(tx: Transaction, change: Change, _members: Members, prepared: PreparedPlan) -> Result:
    with provisioning_failures(Denied):
        executed = await execute_plan(tx, change, prepared)
    certificate = executed.certificate
    return {"certificatePem": certificate.pem if certificate is not None else None, "resourceArns": executed.arns}
