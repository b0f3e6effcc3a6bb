"""Policies of templates with parameters: every API refuses a hostile value before it changes anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit import vectors
from tests.unit.services.provisioning_support import ASKING, CLAIM, Provisioning, body, ensure_registered
from tests.unit.services.test_ca_certificates import ROLE, issuer, take
from tests.unit.services.test_jit_registration import AUTO, Gateway
from tests.world import OURS
from thingmint.aws.errors import aws_error_of
from thingmint.domain.errors import InvalidParameters
from thingmint.domain.status import Status
from thingmint.mqtt.payloads import rejection_of

if TYPE_CHECKING:
    from tests.world import World

COMMON_NAME = "AWS::IoT::Certificate::CommonName"
MADE = ("certificates", "registrations", "things", "device_policies", "device_policy_attachments")
HOSTILE = (
    'x"},{"Effect":"Allow","Action":"iot:*","Resource":"*"},{"Effect":"Allow","Resource":"arn:b',
    *("*", "a/#", "+", "${iot:ClientId}", "?"),
)


def with_policy(parameter: str, **certificate: Any) -> str:
    """Return a template with a thing of that name, and a policy whose text contains the parameter."""
    topic = f"arn:aws:iot:us-east-1:1:topic/${{{parameter}}}/x"
    statement = {"Effect": "Allow", "Action": "iot:Publish", "Resource": topic}
    document = {"Fn::Sub": json.dumps({"Version": "2012-10-17", "Statement": [statement]})}
    template = json.loads(body(Properties={"ThingName": {"Ref": parameter}}))
    template["Parameters"][parameter] = {"Type": "String"}
    template["Resources"]["policy"] = {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": document}}
    if certificate:
        template["Resources"]["certificate"]["Properties"] = certificate
    return json.dumps(template)


async def counts(world: World) -> list[int]:
    return [await world.count(table) for table in MADE]


async def test_register_thing_over_rest_refuses_hostile_values(world: World) -> None:
    template = with_policy("SerialNumber", CertificateSigningRequest=vectors.csr_pem())
    before = await counts(world)
    for hostile in HOSTILE:
        with pytest.raises(InvalidParameters) as refused:
            await world.aws("RegisterThing", templateBody=template, parameters={"SerialNumber": hostile})
        assert await counts(world) == before
        error = aws_error_of(refused.value, OURS)
        assert error.code == "InvalidRequestException"
        assert error.message == "Parameter SerialNumber cannot be used in a policy"
    await world.aws("RegisterThing", templateBody=template, parameters={"SerialNumber": "SN-0042"})
    ((text,),) = await world.rows("SELECT document FROM device_policy_versions")
    assert json.loads(text)["Statement"][0]["Resource"] == "arn:aws:iot:us-east-1:1:topic/SN-0042/x"


@pytest.mark.parametrize("by_hook", [False, True])
async def test_register_thing_over_mqtt_refuses_hostile_values(provisioning: Provisioning, *, by_hook: bool) -> None:
    name = await provisioning.template(with_policy("SerialNumber"), **(ASKING if by_hook else {}))
    made, token = await provisioning.create()
    await ensure_registered(provisioning.world, CLAIM, OURS)
    before = await counts(provisioning.world)
    for hostile in HOSTILE:
        provisioning.overrides = {"SerialNumber": hostile}
        with pytest.raises(InvalidParameters) as refused:
            await provisioning.register(name, token, SerialNumber="SN" if by_hook else hostile)
        rejection = rejection_of(refused.value, "id")
        assert (rejection.status, rejection.code) == (400, "InvalidParameters")
        assert rejection.message == "Parameter SerialNumber cannot be used in a policy"
        assert await counts(provisioning.world) == before
        assert await provisioning.status(made) == Status.PENDING_ACTIVATION
    provisioning.overrides = {}
    await provisioning.register(name, token, SerialNumber="SN-0042")
    assert await provisioning.status(made) == Status.ACTIVE


@pytest.mark.parametrize("by_name", [False, True])
async def test_just_in_time_provisioning_refuses_hostile_values(world: World, *, by_name: bool) -> None:
    """The device's maker signed the common name, but the device may have chosen it."""
    template = with_policy(COMMON_NAME)
    if by_name:
        members = {"templateName": "jitp", "templateBody": template, "provisioningRoleArn": ROLE, "type": "JITP"}
        await world.aws("CreateProvisioningTemplate", **members, enabled=True)
    config = {"templateName": "jitp"} if by_name else {"templateBody": template, "roleArn": ROLE}
    root, gateway = issuer(), Gateway(world)
    await take(world, root, **AUTO, registrationConfig=config)
    before = await counts(world)
    for hostile in ("*", "a/#", "+", "${iot:ClientId}", 'x","Resource":"*'):
        with pytest.raises(InvalidParameters, match=f"Parameter {COMMON_NAME} cannot be used in a policy"):
            await gateway.connect(root.sign(hostile))
        assert await counts(world) == before
    registration = await gateway.connect(root.sign("lamp-1"))
    assert registration is not None
    assert registration.status is Status.ACTIVE
