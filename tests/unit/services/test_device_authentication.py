"""Authenticating devices, for every listener, by the current content of the store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.unit import vectors
from tests.world import OURS
from thingmint.domain.arns import Scope
from thingmint.services.authentication_decisions import (
    Accepted,
    AuthenticationRequest,
    Decision,
    Rejected,
    RejectionReason,
    client_id_flaw,
)
from thingmint.services.compiled_policies import PolicySets
from thingmint.services.device_authentication import DeviceAuthenticator
from thingmint.services.hostnames import HostNames
from thingmint.services.owner_authentication import OwnerAuthenticator
from thingmint.store.engine import StoreWrapper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from tests.world import World
    from thingmint.store.engine import Body, Row, Store, Value

    T = TypeVar("T")


@pytest.mark.parametrize("client_id", ["dev-1", "00:11:22", "a/b", "ünïcode", "x" * 128])
def test_usable_client_ids(client_id: str) -> None:
    assert client_id_flaw(client_id) is None


@pytest.mark.parametrize("client_id", ["$aws", "a+b", "a#", "a*", "why?", "a\nb", "a\x7f", "a\u202eb"])
def test_unusable_client_ids(client_id: str) -> None:
    assert client_id_flaw(client_id) is not None


def document(*allowed: str) -> str:
    """Return a policy that allows to connect, and to publish to the topics."""
    actions = [("iot:Connect", "client/*"), *(("iot:Publish", f"topic/{topic}") for topic in allowed)]
    statements = [
        {"Effect": "Allow", "Action": action, "Resource": f"arn:aws:iot:{OURS.region}:{OURS.account}:{resource}"}
        for action, resource in actions
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


class NoPassword:
    """A verifier for which every password is wrong."""

    async def verify(self, *_: str) -> None:
        return None


@pytest.mark.parametrize(
    ("password", "why"),
    [("wrong", "the password is wrong for"), ("", "no password was sent for"), (None, "no password")],
)
async def test_a_wrong_password_names_its_owner_to_the_operator_only(
    world: World, password: str | None, why: str
) -> None:
    """The client has proven nothing: the answer is that to an unknown id, and no account publishes an event."""
    device = await world.device(await world.registry())
    owners = OwnerAuthenticator(world.store, cast("Any", NoPassword()))
    authenticator = DeviceAuthenticator(world.store, HostNames({}), world.clock, OURS.account, owners=owners)

    async def refused(user_name: str) -> Rejected:
        request = AuthenticationRequest(None, None, None, "192.0.2.7", "c", (), user_name=user_name, password=password)
        decision = await authenticator.authenticate(request)
        assert isinstance(decision, Rejected)
        return decision

    known, unknown, odd = await refused(device), await refused("are00000000000000000"), await refused("<b>")
    assert {each.reason for each in (known, unknown, odd)} == {RejectionReason.PASSWORD}
    assert (known.scope, known.bound_to) == (None, None)
    assert known.claimed is not None
    assert (known.claimed[0].account, known.claimed[1]) == (OURS.account, f"yandex:device/{device}")
    assert known.why.startswith(why)
    assert known.why.endswith(f" device {device}")
    assert (unknown.claimed, odd.claimed) == (None, None)
    assert unknown.why == "no device, registry or broker has the id are00000000000000000"
    assert "<b>" not in odd.why, "a password may have been sent as the user name"


class CountingStore(StoreWrapper):
    """Counts transactions, and statements outside of transactions."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.reads = self.single = 0

    async def read(self, body: Body[T]) -> T:
        self.reads += 1
        return await super().read(body)

    async def fetch_all(self, sql: str, *parameters: Value) -> list[Row]:
        self.single += 1
        return await super().fetch_all(sql, *parameters)


@dataclass
class Device:
    """A device with a certificate, a thing named by its client id in nested groups, and a policy that lets it connect.

    ``here`` is the authenticator of a process that hears of changes at once, ``there`` that of one that never does.
    """

    world: World
    fingerprint: str
    here: DeviceAuthenticator
    there: DeviceAuthenticator

    @property
    def principal(self) -> str:
        return f"arn:aws:iot:{OURS.region}:{OURS.account}:cert/{self.fingerprint}"

    def group(self, name: str) -> str:
        return f"arn:aws:iot:{OURS.region}:{OURS.account}:thinggroup/{name}"

    async def aws(self, name: str, **members: Any) -> Any:
        return await self.world.aws(name, **members)

    async def policy(self, name: str, *allowed: str, target: str | None = None) -> None:
        await self.aws("CreatePolicy", policyName=name, policyDocument=document(*allowed))
        if target is not None:
            await self.aws("AttachPolicy", policyName=name, target=target)

    def request(self, **changed: Any) -> AuthenticationRequest:
        given = {"host_name": None, "address": "192.0.2.7", "client_id": "t", "connecting": (), **changed}
        return AuthenticationRequest(self.fingerprint, None, **given)

    async def decisions(self, **changed: Any) -> list[Decision]:
        return [await each.authenticate(self.request(**changed)) for each in (self.here, self.there)]

    async def publishes(self, *topics: str) -> set[str]:
        """Return the topics that the device may publish to, the same in every process."""
        found = []
        for decision in await self.decisions():
            assert isinstance(decision, Accepted), decision
            found.append({topic for topic in topics if decision.permissions.allows("Publish", topic)})
        assert found[0] == found[1]
        return found[0]


@pytest.fixture
async def device(world: World) -> Device:
    sets, fingerprint = PolicySets(), await world.certificate()
    world.store.followers.append(sets.forget)
    host_names, clock = HostNames({"iot.example": OURS}), world.clock
    here = DeviceAuthenticator(world.store, host_names, clock, OURS.account, policy_sets=sets)
    there = DeviceAuthenticator(world.store, host_names, clock, OURS.account)
    made = Device(world, fingerprint, here, there)
    await made.policy("connect", target=made.principal)
    for group, parent in (("root", {}), ("leaf", {"parentGroupName": "root"})):
        await made.aws("CreateThingGroup", thingGroupName=group, **parent)
    await made.aws("CreateThing", thingName="t")
    await made.aws("AttachThingPrincipal", thingName="t", principal=made.principal)
    await made.aws("AddThingToThingGroup", thingGroupName="leaf", thingName="t")
    return made


# -- one statement -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host_name", [None, "iot.example"])
@pytest.mark.parametrize("client_id", ["t", "other", None])
async def test_authentication_reads_the_store_with_one_statement(
    device: Device, host_name: str | None, client_id: str | None
) -> None:
    await device.policy("root", "a", target=device.group("root"))
    store = CountingStore(device.world.store)
    authenticator = DeviceAuthenticator(store, HostNames({"iot.example": OURS}), device.world.clock, OURS.account)
    connecting = () if client_id is not None else None
    request = device.request(host_name=host_name, client_id=client_id, connecting=connecting)
    assert isinstance(await authenticator.authenticate(request), Accepted)
    assert (store.reads, store.single) == (1, 1), "the policies were not known"
    assert isinstance(await authenticator.authenticate(request), Accepted)
    assert (store.reads, store.single) == (1, 2)
    assert isinstance(await authenticator.reauthenticate(request, OURS), Accepted)
    assert (store.reads, store.single) == (1, 3)


async def test_policies_of_many_devices_are_read_once(device: Device) -> None:
    other = await device.world.certificate(pem=vectors.certificate_pem())
    await device.aws("AttachPolicy", policyName="connect", target=device.principal.replace(device.fingerprint, other))
    store = CountingStore(device.world.store)
    authenticator = DeviceAuthenticator(store, HostNames({}), device.world.clock, OURS.account)
    await authenticator.authenticate(device.request())
    decision = await authenticator.authenticate(AuthenticationRequest(other, None, None, "", "x", ()))
    assert isinstance(decision, Accepted)
    assert (store.reads, store.single) == (1, 2)


class ChangingStore(StoreWrapper):
    """A store whose policies change just before they are read."""

    change: Callable[[], Awaitable[Any]] | None = None

    async def read(self, body: Body[T]) -> T:
        change, self.change = self.change, None
        if change is not None:
            await change()
        return await super().read(body)


async def test_a_policy_that_changes_during_authentication_is_read_again(device: Device) -> None:
    await device.policy("p", "a", target=device.principal)
    store = ChangingStore(device.world.store)
    authenticator = DeviceAuthenticator(store, HostNames({}), device.world.clock, OURS.account)

    async def replace() -> None:
        await device.aws("DetachPolicy", policyName="p", target=device.principal)
        await device.aws("DeletePolicy", policyName="p")
        await device.policy("p", "b", target=device.principal)

    store.change = replace
    decision = await authenticator.authenticate(device.request())
    assert isinstance(decision, Accepted)
    assert [decision.permissions.allows("Publish", topic) for topic in "ab"] == [False, True]


# -- changes -------------------------------------------------------------------------------------------------------


async def test_a_new_default_version_applies_immediately(device: Device) -> None:
    await device.policy("p", "a", target=device.principal)
    assert await device.publishes("a", "b") == {"a"}
    await device.aws("CreatePolicyVersion", policyName="p", policyDocument=document("b"), setAsDefault=True)
    assert await device.publishes("a", "b") == {"b"}
    await device.aws("SetDefaultPolicyVersion", policyName="p", policyVersionId="1")
    assert await device.publishes("a", "b") == {"a"}
    await device.aws("CreatePolicyVersion", policyName="p", policyDocument=document("c"), setAsDefault=False)
    assert await device.publishes("a", "b", "c") == {"a"}


async def test_a_recreated_policy_applies_immediately(device: Device) -> None:
    """Old and new policy are both version 1 of that name."""
    await device.policy("p", "a", target=device.principal)
    assert await device.publishes("a", "b") == {"a"}
    await device.aws("DetachPolicy", policyName="p", target=device.principal)
    await device.aws("DeletePolicy", policyName="p")
    assert await device.publishes("a", "b") == set()
    await device.policy("p", "b", target=device.principal)
    assert await device.publishes("a", "b") == {"b"}


async def test_policies_of_groups_apply_immediately(device: Device) -> None:
    await device.policy("p", "a")
    for group in ("root", "leaf"):
        assert await device.publishes("a") == set()
        await device.aws("AttachPolicy", policyName="p", target=device.group(group))
        assert await device.publishes("a") == {"a"}
        await device.aws("DetachPolicy", policyName="p", target=device.group(group))
    assert await device.publishes("a") == set()


async def test_changes_of_groups_and_things_apply_immediately(device: Device) -> None:
    await device.policy("p", "a", target=device.group("root"))
    assert await device.publishes("a") == {"a"}
    await device.aws("RemoveThingFromThingGroup", thingGroupName="leaf", thingName="t")
    assert await device.publishes("a") == set()
    await device.aws("AddThingToThingGroup", thingGroupName="root", thingName="t")
    assert await device.publishes("a") == {"a"}
    await device.aws("DetachThingPrincipal", thingName="t", principal=device.principal)
    assert await device.publishes("a") == set()


async def test_changed_attributes_apply_immediately(device: Device) -> None:
    variable = "${iot:Connection.Thing.Attributes[room]}"
    await device.policy("p", variable, target=device.principal)
    assert await device.publishes("hall", "attic") == set()
    for room in ("hall", "attic"):
        await device.aws("UpdateThing", thingName="t", attributePayload={"attributes": {"room": room}})
        assert await device.publishes("hall", "attic") == {room}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda device: device.aws("UpdateCertificate", certificateId=device.fingerprint, newStatus="INACTIVE"),
            "the certificate is INACTIVE, not ACTIVE",
        ),
        (
            lambda device: device.aws("DetachPolicy", policyName="connect", target=device.principal),
            "no statement allows it",
        ),
        (
            lambda device: device.aws(
                "CreatePolicyVersion",
                policyName="connect",
                policyDocument=document().replace("Allow", "Deny"),
                setAsDefault=True,
            ),
            "explicit deny in statement 1 of policy connect",
        ),
    ],
)
async def test_access_ends_immediately(device: Device, change: Callable[[Device], Awaitable[Any]], why: str) -> None:
    assert all(isinstance(decision, Accepted) for decision in await device.decisions())
    await change(device)
    for decision in await device.decisions():
        assert isinstance(decision, Rejected)
        assert (decision.reason, decision.scope) == (RejectionReason.NOT_AUTHORIZED, OURS)
        assert decision.why.endswith(why)


@pytest.mark.parametrize("kind", ["device", "registry"])
async def test_certificates_of_a_disabled_registry_and_of_its_devices_do_not_connect(device: Device, kind: str) -> None:
    world = device.world
    registry = await world.registry()
    owner = {"registry_id": registry} if kind == "registry" else {"device_id": await world.device(registry)}
    described = await device.aws("DescribeCertificate", certificateId=device.fingerprint)
    pem = described["certificateDescription"]["certificatePem"]
    await world.yandex(f"{kind.title()}Service.AddCertificate", **owner, certificate_data=pem)
    for method, expected in (("Disable", Rejected), ("Enable", Accepted)):
        await world.yandex(f"RegistryService.{method}", registry_id=registry)
        assert ("registry", registry) in await world.published(Scope(OURS.account, ""))
        for decision in await device.decisions():
            assert isinstance(decision, expected)
            if isinstance(decision, Rejected):
                assert decision.why == f"registry {registry} is disabled"
            else:
                assert (OURS.account, "", "registry", registry) in decision.dependencies
    await world.yandex("RegistryService.Disable", registry_id=await world.registry())
    assert all(isinstance(decision, Accepted) for decision in await device.decisions())


# -- what listeners ask --------------------------------------------------------------------------------------------


async def test_a_device_without_a_session_needs_no_permission_to_connect(device: Device) -> None:
    """Over HTTPS, for credentials, for a will: the policies decide only about the action itself."""
    await device.aws("DetachPolicy", policyName="connect", target=device.principal)
    await device.policy("p", "a", target=device.group("leaf"))
    assert all(isinstance(decision, Accepted) for decision in await device.decisions(connecting=None))
    for decision in await device.decisions(client_id=None, connecting=None):
        assert isinstance(decision, Accepted)
        assert not decision.permissions.allows("Publish", "a"), "without a client id it is no thing"


async def test_an_exclusive_thing_needs_no_client_id(device: Device) -> None:
    await device.aws("DetachThingPrincipal", thingName="t", principal=device.principal)
    given = {"thingName": "t", "principal": device.principal, "thingPrincipalType": "EXCLUSIVE_THING"}
    await device.aws("AttachThingPrincipal", **given)
    for decision in await device.decisions(client_id=None, connecting=None):
        assert isinstance(decision, Accepted)
        assert decision.thing == "t"


async def test_policies_can_depend_on_connect_attributes(device: Device) -> None:
    text = json.loads(document())
    condition = {"ForAllValues:StringEquals": {"iot:ConnectAttributes": ["LastWill"]}}
    text["Statement"][0]["Condition"] = condition
    given = {"policyName": "connect", "policyDocument": json.dumps(text), "setAsDefault": True}
    await device.aws("CreatePolicyVersion", **given)
    for attributes, accepted in (((), True), (("LastWill",), True), (("PersistentConnect",), False)):
        for decision in await device.decisions(connecting=attributes):
            assert isinstance(decision, Accepted) == accepted


async def test_invalid_requests_are_refused_without_the_store(world: World) -> None:
    store = CountingStore(world.store)
    authenticator = DeviceAuthenticator(store, HostNames({}), world.clock)
    without = await authenticator.authenticate(AuthenticationRequest(None, None, None, "192.0.2.7", "c", ()))
    unusable = await authenticator.authenticate(AuthenticationRequest("0" * 64, None, None, "192.0.2.7", "a+b", ()))
    assert isinstance(without, Rejected)
    assert (without.reason, without.why) == (RejectionReason.NOT_AUTHORIZED, "no client certificate was presented")
    assert isinstance(unusable, Rejected)
    assert (unusable.reason, store.single) == (RejectionReason.CLIENT_ID, 0)


async def test_an_unknown_certificate_is_refused(world: World) -> None:
    authenticator = DeviceAuthenticator(world.store, HostNames({"iot.example": OURS}), world.clock)
    unknown = await authenticator.authenticate(AuthenticationRequest("0" * 64, None, None, "192.0.2.7", "c", ()))
    assert isinstance(unknown, Rejected)
    assert (unknown.scope, unknown.why) == (None, f"no certificate {'0' * 64} is registered")


async def test_fields_of_an_accepted_device(device: Device) -> None:
    for decision in await device.decisions():
        assert isinstance(decision, Accepted)
        assert (decision.scope, decision.fingerprint, decision.thing) == (OURS, device.fingerprint, "t")
        assert decision.registration is not None
        assert decision.registration.status == "ACTIVE"
        assert decision.expires_at == vectors.NOW.replace(microsecond=0) + timedelta(days=365)
        assert (*OURS, "policy", "connect") in decision.dependencies
