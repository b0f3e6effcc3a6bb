"""Fixtures of the services' tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.services.provisioning_support import POLICY, Provisioning

if TYPE_CHECKING:
    from tests.world import World


@pytest.fixture
async def provisioning(world: World) -> Provisioning:
    """A provisioning setup with a policy, a thing type and three groups that templates can name."""
    await world.aws("CreatePolicy", policyName="all", policyDocument=POLICY)
    await world.aws("CreateThingType", thingTypeName="lamps")
    for name in ("one", "two", "three"):
        await world.aws("CreateThingGroup", thingGroupName=name)
    await world.published()
    world.audit_resources()
    return Provisioning(world)
