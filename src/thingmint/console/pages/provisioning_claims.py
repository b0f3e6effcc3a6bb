"""Provisioning claims: certificates with which a device can ask for a template for a few minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.console.page import action
from thingmint.console.pages.connect import File, root_file
from thingmint.console.pages.provisioning import named
from thingmint.services.claims import create_claim
from thingmint.services.hostnames import endpoint_of
from thingmint.services.issuing import discard, issue_with_keys
from thingmint.services.templates import TEMPLATES

if TYPE_CHECKING:
    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.services.templates import ProvisioningTemplate
    from thingmint.store.engine import Transaction


@action("/provisioning/templates/{name}/claims", "CreateProvisioningClaim")
async def make(call: Call) -> Answer:
    """The answer is the only place that ever has the private key: nothing stores it, and no cache may keep it."""
    name, resource = named(call)
    call.may("iot:CreateProvisioningClaim", resource)
    await call.read(lambda tx: TEMPLATES.get(tx, *call.scope, name))
    new = await issue_with_keys(call.change, call.change.environment.claim_ca)
    assert new.keys is not None, "it was made with keys"

    async def body(tx: Transaction) -> tuple[ProvisioningTemplate, str]:
        found = await TEMPLATES.get(tx, *call.scope, name)
        await create_claim(tx, call.change, found.name, found.generation, new.certificate)
        return found, await endpoint_of(tx, call.change)

    try:
        template, host = await call.write(body, templateName=name)
    except BaseException as error:
        discard(call.change, new, error)
        raise
    files = [
        File("claim.key", "Private key", new.keys.private_pem, is_secret=True),
        File("claim.pem", "Certificate of the claim", new.certificate.pem),
        *root_file(call, host),
    ]
    return call.render(
        "provisioning_claim.html",
        of=template,
        claim=new.certificate,
        files=files,
        host=host,
        port=call.parts.devices.port,
    )
