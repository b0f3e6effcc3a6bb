"""Acting as a role that a provisioning template or a CA certificate names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.vectors import NOW
from tests.world import OURS, THEIRS
from thingmint.access.authorization import Roles
from thingmint.access.context import RequestContext
from thingmint.domain.errors import Denied

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.services.change import Authorize

ROLE = f"arn:aws:iam::{OURS.account}:role/provisioning"
SOURCE = f"arn:aws:iot:us-east-1:{OURS.account}:provisioningtemplate/lamps"


def trust(service: str = "iot.amazonaws.com", **further: Any) -> str:
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}, **further}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def policy(**statement: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*", **statement}]})


async def new_role(world: World, trust_policy: str, document: str | None = None) -> None:
    await world.admin("role.create", name="provisioning", trust_policy=trust_policy)
    if document is not None:
        await world.admin("policy.put", name="p", document=document)
        await world.admin("policy.attach", principal="role/provisioning", policy="p")


async def effects(world: World, role: str = ROLE) -> Authorize:
    context = RequestContext(api="mqtt", operation="RegisterThing", now=NOW)
    return await Roles(world.directory).effects(context, OURS, role, SOURCE)


async def test_the_policies_of_a_role_decide(world: World) -> None:
    await new_role(world, trust(), policy(Action="iot:CreateThing"))
    authorize = await effects(world)
    authorize("iot:CreateThing", ("x",), {})
    with pytest.raises(Denied) as denied:
        authorize("iot:UpdateThing", ("x",), {})
    assert (denied.value.principal, denied.value.action, denied.value.resource) == (ROLE, "iot:UpdateThing", "x")


async def test_conditions_can_use_the_region_and_the_keys_of_the_effect(world: World) -> None:
    known = {"StringEquals": {"aws:RequestedRegion": OURS.region}, "ArnEquals": {"iot:thingArn": SOURCE}}
    await new_role(world, trust(), policy(Action="iot:AttachThingPrincipal", Condition=known))
    authorize = await effects(world)
    authorize("iot:AttachThingPrincipal", ("x",), {"iot:thingArn": SOURCE})
    with pytest.raises(Denied):
        authorize("iot:AttachThingPrincipal", ("x",), {})


async def test_a_role_can_trust_a_single_template(world: World) -> None:
    await new_role(world, trust(Condition={"ArnEquals": {"aws:SourceArn": SOURCE}}))
    await effects(world)
    with pytest.raises(Denied):
        await Roles(world.directory).effects(
            RequestContext(api="mqtt", operation="RegisterThing", now=NOW), OURS, ROLE, f"{SOURCE}2"
        )


@pytest.mark.parametrize(
    "role", [ROLE.replace(":role/", ":user/"), ROLE.replace(OURS.account, THEIRS.account), f"{ROLE}2", "x"]
)
async def test_only_a_role_of_the_account_can_be_assumed(world: World, role: str) -> None:
    await new_role(world, trust())
    with pytest.raises(Denied) as denied:
        await effects(world, role)
    assert (denied.value.principal, denied.value.action) == (role, "sts:AssumeRole")


async def test_a_role_that_does_not_trust_the_service_cannot_be_assumed(world: World) -> None:
    await new_role(world, trust("ec2.amazonaws.com"))
    with pytest.raises(Denied):
        await effects(world)


async def test_a_disabled_role_cannot_be_assumed(world: World) -> None:
    await new_role(world, trust())
    await world.admin("role.disable", name="provisioning")
    with pytest.raises(Denied):
        await effects(world)


async def test_a_trial_decides_as_the_role_does(world: World) -> None:
    own_network = {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}
    await new_role(world, trust(), policy(Action="iot:CreateThing", Condition=own_network, Sid="Things"))
    roles = Roles(world.directory)
    for address in (None, "192.0.2.7", "198.51.100.7"):
        trial = await roles.try_role(OURS, ROLE, SOURCE, NOW, address)
        context = RequestContext(api="mqtt", operation="RegisterThing", now=NOW, address=address)
        authorize = await roles.effects(context, OURS, ROLE, SOURCE)
        assert trial.refused is None
        for action in ("iot:CreateThing", "iot:UpdateThing"):
            tried = trial.decide(action, ("x",), {})
            assert tried.allowed == (action == "iot:CreateThing" and address == "192.0.2.7")
            if tried.allowed:
                authorize(action, ("x",), {})
                assert tried.why == "statement Things of policy p allows it"
            else:
                with pytest.raises(Denied):
                    authorize(action, ("x",), {})
                assert tried.why == "no statement allows it"
        closest = trial.decide("iot:CreateThing", ("x",), {}).closest
        assert ("IpAddress of aws:SourceIp" in str(closest)) == (address != "192.0.2.7")


@pytest.mark.parametrize(
    ("trusted", "role", "why"),
    [
        (trust("ec2.amazonaws.com"), ROLE, "its trust policy does not allow iot.amazonaws.com to assume it"),
        (trust(), f"{ROLE}2", "there is no such role, or it is disabled"),
        (trust(), ROLE.replace(OURS.account, THEIRS.account), "it is not a role of this account"),
    ],
)
async def test_a_trial_tells_why_a_role_cannot_be_assumed(world: World, trusted: str, role: str, why: str) -> None:
    await new_role(world, trusted, policy(Action="*"))
    trial = await Roles(world.directory).try_role(OURS, role, SOURCE, NOW)
    assert trial.refused == why
    tried = trial.decide("iot:CreateThing", ("x",), {})
    assert (tried.allowed, tried.why) == (False, f"the role cannot be assumed: {why}")
