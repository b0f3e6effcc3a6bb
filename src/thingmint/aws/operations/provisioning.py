"""Registering a thing by a template that the caller sends along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.domain.errors import Denied, ProvisioningFailed

if TYPE_CHECKING:
    from thingmint.aws.operations.call import Call, Operations

__all__ = ["PROVISIONING"]


async def _register_thing(call: Call) -> dict[str, Any]:
    given = call.members
    try:
        applied = await call.registries.provisioning.register(
            call.scope, given["templateBody"], given.get("parameters", {}), call.may
        )
    except ProvisioningFailed as failed:
        if isinstance(failed.cause, Denied):
            raise failed.cause from None  # it is the caller who may not, and is told so as for any other call
        raise
    certificate = applied.certificate
    return {"certificatePem": certificate.pem if certificate is not None else None, "resourceArns": applied.arns}


PROVISIONING: Operations = {"RegisterThing": _register_thing}
