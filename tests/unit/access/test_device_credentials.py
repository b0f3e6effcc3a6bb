"""Temporary credentials that devices get by their certificates: their session tokens, and when they end."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.world import OURS
from thingmint.access.device_credentials import SERVICE, DeviceSessionIssuer
from thingmint.access.directory import Directory
from thingmint.domain.errors import Unauthenticated
from thingmint.services.authentication_decisions import AuthenticationRequest
from thingmint.services.device_authentication import DeviceAuthenticator
from thingmint.services.hostnames import HostNames

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.access.device_credentials import DeviceCredentials

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Principal": {"Service": SERVICE}, "Action": "sts:AssumeRole"},
    }
)
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": "iot:AssumeRoleWithCertificate", "Resource": "*"},
    }
)


class Devices:
    """A device with the policy, an alias, and what gives it credentials."""

    def __init__(self, world: World, fingerprint: str) -> None:
        self.world = world
        self.directory = Directory(world.store, world.vault, world.clock)
        authenticator = DeviceAuthenticator(world.store, HostNames(), world.clock, OURS.account)
        self.issuer = DeviceSessionIssuer(authenticator, world.store, self.directory, world.vault, world.clock)
        self.directory.device_sessions = self.issuer
        self.request = AuthenticationRequest(fingerprint, None, None, "192.0.2.1")

    async def credentials(self, **given: Any) -> DeviceCredentials:
        request = replace(self.request, **given)
        return await self.issuer.issue(await self.issuer.authenticate(request), request, "lamp")

    async def use(self, made: DeviceCredentials) -> str:
        caller, secret = await self.directory.find_access_key(made.access_key_id, made.session_token)
        assert secret == made.secret_access_key
        return caller.identity

    async def flaw(self, made: DeviceCredentials) -> str:
        with pytest.raises(Unauthenticated) as caught:
            await self.use(made)
        return caught.value.flaw


@pytest.fixture
async def devices(world: World) -> Devices:
    fingerprint = await world.certificate()
    await world.admin("role.create", name="up", trust_policy=TRUST)
    await world.aws("CreateRoleAlias", roleAlias="lamp", roleArn=f"arn:aws:iam::{OURS.account}:role/up")
    await world.aws("CreatePolicy", policyName="p", policyDocument=POLICY)
    arn = f"arn:aws:iot:us-east-1:{OURS.account}:cert/{fingerprint}"
    await world.aws("AttachPolicy", policyName="p", target=arn)
    return Devices(world, fingerprint)


async def test_credentials_expire_when_the_alias_says(devices: Devices) -> None:
    made, clock = await devices.credentials(), devices.world.clock
    assert made.ends == (clock.now + timedelta(hours=1)).replace(microsecond=0)
    assert await devices.use(made) == (f"arn:aws:sts::{OURS.account}:assumed-role/up/{devices.request.fingerprint}")
    clock.now = made.ends - timedelta(seconds=1)
    assert await devices.use(made)
    clock.now = made.ends
    assert await devices.flaw(made) == "expired"


async def test_a_token_is_for_its_own_access_key_only(devices: Devices) -> None:
    made, other = await devices.credentials(), await devices.credentials()
    for changed in (
        made._replace(session_token=other.session_token),
        made._replace(access_key_id=other.access_key_id),
        made._replace(session_token=made.session_token[:-4]),
        made._replace(session_token="tmd_"),
        made._replace(session_token="tmd_é"),
        made._replace(session_token="tms_" + made.session_token[4:]),
    ):
        assert await devices.flaw(changed) == "unknown"


async def test_no_row_is_stored_for_credentials(devices: Devices) -> None:
    before, writes = await devices.world.count("credentials"), devices.world.store.writes
    await devices.credentials()
    assert (await devices.world.count("credentials"), devices.world.store.writes) == (before, writes)


async def test_the_text_of_credentials_has_no_secret(devices: Devices) -> None:
    made = await devices.credentials()
    for text in (repr(made), str(made), f"{made}"):
        assert made.secret_access_key not in text
        assert made.session_token not in text


async def test_an_address_that_the_policy_demands_is_that_of_the_device(devices: Devices) -> None:
    document = json.loads(POLICY)
    document["Statement"]["Condition"] = {"IpAddress": {"aws:SourceIp": "192.0.2.1"}}
    await devices.world.aws(
        "CreatePolicyVersion", policyName="p", policyDocument=json.dumps(document), setAsDefault=True
    )
    assert await devices.use(await devices.credentials())


async def test_credentials_end_with_the_validity_of_the_certificate_where_it_is_checked(devices: Devices) -> None:
    world = devices.world
    await world.admin("account.set", name="check_validity", value="true")
    made = await devices.credentials()
    device = await devices.issuer.authenticate(devices.request)
    assert device.expires_at is not None
    world.clock.now = device.expires_at - timedelta(minutes=5)
    late = await devices.credentials()
    assert late.ends == device.expires_at.replace(microsecond=0)
    assert await devices.flaw(made) == "expired"
