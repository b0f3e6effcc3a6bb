"""Just-in-time registration at the gateway: rejections, events and audit records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.issuers import new_issuer
from tests.unit.services.test_ca_certificates import BY_BODY, issuer, take, update
from tests.world import FINGERPRINT, OURS
from thingmint.access.audit import AuditedStore
from thingmint.access.authorization import Roles
from thingmint.domain.certificates import fingerprint_of
from thingmint.domain.errors import Denied, Unavailable
from thingmint.mqtt.jit_registration import JitRegistration, jit_throttle
from thingmint.mqtt.peer import Peer
from thingmint.mqtt.protocol.limits import AWS_LIMITS
from thingmint.mqtt.rates import NO_RATES, RateLimit
from thingmint.mqtt.sessions import Session
from thingmint.services.authentication_decisions import Rejected, RejectionReason
from thingmint.services.device_facts import NoHostName
from thingmint.services.hostnames import HostNames

if TYPE_CHECKING:
    from tests.issuers import Issuer
    from tests.world import World
    from thingmint.access.throttle import Throttle
    from thingmint.domain.arns import Scope
    from thingmint.domain.messages import Message

FINGERPRINT_ONLY = Peer("192.0.2.7", 4711, "0" * 64)


def peer(der: bytes) -> Peer:
    return Peer("192.0.2.7", 4711, fingerprint_of(der), der)


class Gateway:
    """A JitRegistration with a CA that allows it. ``events``: the published messages."""

    def __init__(self, world: World, root: Issuer, ca: str, throttle: Throttle | None = None) -> None:
        self.world = world
        self.root = root
        self.ca = ca
        self.events: list[tuple[Scope, Message]] = []
        broker = SimpleNamespace(publish=lambda scope, message: self.events.append((scope, message)))
        store = AuditedStore(world.store, world.clock)
        throttle = throttle or jit_throttle("none")
        roles = Roles(world.directory)
        self._register = JitRegistration(
            store,
            world.environment,
            cast("Any", broker),
            roles,
            throttle,
            world.clock,
            HostNames({"iot.example": OURS}),
        )

    def device(self) -> Peer:
        """Returns a peer with a new certificate."""
        return peer(self.root.sign().public_bytes(Encoding.DER))

    async def connect(self, who: Peer, where: Scope | NoHostName = OURS) -> Rejected | None:
        return await self._register(who.request("c"), where)

    async def refuse(self, who: Peer) -> Rejected:
        refused = await self.connect(who)
        assert refused is not None
        return refused

    def event(self) -> dict[str, Any]:
        ((scope, message),) = self.events
        assert (scope, message.topic) == (OURS, f"$aws/events/certificates/registered/{self.ca}")
        event: dict[str, Any] = orjson.loads(message.payload)
        return event

    async def records(self) -> list[dict[str, Any]]:
        """Returns the audit records about devices."""
        rows = await self.world.rows("SELECT record FROM audit_records ORDER BY id")
        return [record for record in map(orjson.loads, (row[0] for row in rows)) if record["event"] != "CreateAccount"]


@pytest.fixture
async def gateway(world: World) -> Gateway:
    root = issuer()
    return Gateway(world, root, await take(world, root, allowAutoRegistration=True))


async def test_a_fingerprint_without_certificate_is_not_registered(gateway: Gateway) -> None:
    """A TLS proxy may forward only a fingerprint."""
    assert await gateway.connect(FINGERPRINT_ONLY) is None


@pytest.mark.parametrize("cut", [None, 0, -1])
async def test_an_unreadable_certificate_is_refused(gateway: Gateway, cut: int | None) -> None:
    der = b"garbage" if cut is None else gateway.root.sign().public_bytes(Encoding.DER)[:cut]
    refused = await gateway.refuse(peer(der))
    assert refused.reason is RejectionReason.NOT_AUTHORIZED
    assert await gateway.world.count("registrations") == 0


async def test_a_certificate_of_an_unknown_ca_is_ignored(gateway: Gateway) -> None:
    made = new_issuer(now=gateway.world.clock.now).sign()
    assert await gateway.connect(peer(made.public_bytes(Encoding.DER))) is None


async def test_a_newly_registered_device_is_closed_without_an_answer(gateway: Gateway) -> None:
    device = gateway.device()
    refused = await gateway.refuse(device)
    assert (refused.reason, refused.scope) == (RejectionReason.RECONNECT, OURS)
    assert await gateway.world.shown(f"SELECT {FINGERPRINT} FROM registrations") == [(device.fingerprint,)]


async def test_a_new_certificate_publishes_an_event(gateway: Gateway) -> None:
    device = gateway.device()
    await gateway.refuse(device)
    assert gateway.event() == {
        "certificateId": device.fingerprint,
        "caCertificateId": gateway.ca,
        "timestamp": int(gateway.world.clock.now.timestamp() * 1000),
        "certificateStatus": "PENDING_ACTIVATION",
        "awsAccountId": OURS.account,
        "certificateRegistrationTimestamp": None,
        "sourceIp": "192.0.2.7",
    }


async def test_the_event_obeys_the_switch_of_its_account(gateway: Gateway) -> None:
    device = gateway.device()
    for enabled in (False, True):
        switches = {"CA_CERTIFICATE": {"Enabled": enabled}}
        await gateway.world.aws("UpdateEventConfigurations", eventConfigurations=switches)
        assert (await gateway.refuse(device)).reason is RejectionReason.RECONNECT
        assert len(gateway.events) == enabled


async def test_a_waiting_certificate_publishes_an_event_again(gateway: Gateway) -> None:
    device = gateway.device()
    await gateway.refuse(device)
    registered_at = gateway.world.clock.now
    gateway.events.clear()
    gateway.world.clock.advance(seconds=2)
    assert (await gateway.refuse(device)).reason is RejectionReason.RECONNECT
    event = gateway.event()
    assert event["certificateRegistrationTimestamp"] == str(int(registered_at.timestamp() * 1000))
    assert event["timestamp"] == int(gateway.world.clock.now.timestamp() * 1000)
    assert len(await gateway.records()) == 1


async def test_a_registration_is_audited_with_the_device_as_caller(gateway: Gateway) -> None:
    device = gateway.device()
    await gateway.refuse(device)
    (record,) = await gateway.records()
    arn = f"arn:aws:iot:us-east-1:{OURS.account}:cert/{device.fingerprint}"
    assert (record["event"], record["outcome"], record["address"]) == ("RegisterCertificate", "success", "192.0.2.7")
    assert (record["account"], record["principal"], record["resource"]) == (OURS.account, arn, arn)
    assert (record["ca"], record["provisioned"], record["resources"]) == (gateway.ca, False, [arn])


async def test_the_rejection_of_a_revoked_certificate_has_its_account(gateway: Gateway) -> None:
    made = gateway.root.sign()
    device = peer(made.public_bytes(Encoding.DER))
    await gateway.refuse(device)
    for status in ("INACTIVE", "REVOKED"):
        await gateway.world.aws("UpdateCertificate", certificateId=device.fingerprint, newStatus=status)
    await gateway.world.aws("DeleteCertificate", certificateId=device.fingerprint)
    gateway.events.clear()
    refused = await gateway.refuse(device)
    assert (refused.reason, refused.scope) == (RejectionReason.NOT_AUTHORIZED, OURS)
    assert refused.why == "the certificate is not registered just in time: it was revoked"
    assert gateway.events == []


async def test_the_rejection_for_an_inactive_ca_has_no_account(gateway: Gateway) -> None:
    await update(gateway.world, gateway.ca, newStatus="INACTIVE")
    refused = await gateway.refuse(gateway.device())
    assert (refused.reason, refused.scope) == (RejectionReason.NOT_AUTHORIZED, None)


async def test_the_rejection_names_the_needed_host_name(gateway: Gateway) -> None:
    """The account has not proven that it owns the CA."""
    device = gateway.device()
    refused = await gateway.connect(device, NoHostName(None))
    assert refused is not None
    assert (refused.reason, refused.scope) == (RejectionReason.NOT_AUTHORIZED, None)
    assert "the device must send a host name (SNI): iot.example (account 111111111111, us-east-1)" in refused.why
    assert refused.facts == {"certificate": device.fingerprint}
    assert await gateway.world.count("registrations") == 0


async def test_a_missing_provisioning_role_prevents_registration(gateway: Gateway) -> None:
    await update(gateway.world, gateway.ca, registrationConfig=BY_BODY)
    refused = await gateway.refuse(gateway.device())
    assert str(Denied(BY_BODY["roleArn"], "sts:AssumeRole", BY_BODY["roleArn"], explicit=False)) in refused.why
    assert await gateway.world.count("registrations") == 0


async def test_a_provisioned_device_publishes_no_event(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    await update(gateway.world, gateway.ca, registrationConfig=BY_BODY)

    async def effects(*_: object) -> Any:
        return lambda *_: None

    monkeypatch.setattr(Roles, "effects", effects)
    assert (await gateway.refuse(gateway.device())).reason is RejectionReason.RECONNECT
    assert await gateway.world.rows("SELECT status FROM registrations") == [("ACTIVE",)]
    assert gateway.events == []
    assert (await gateway.records())[-1]["provisioned"]


@pytest.mark.parametrize("where", [OURS, NoHostName(OURS.account)])
async def test_a_device_that_became_active_meanwhile_has_to_reconnect(
    gateway: Gateway, where: Scope | NoHostName
) -> None:
    device = gateway.device()
    await gateway.connect(device)
    await gateway.world.store.write(lambda tx: tx.execute("UPDATE registrations SET status = 'ACTIVE'"))
    gateway.events.clear()
    refused = await gateway.connect(device, where)
    assert refused is not None
    assert (refused.reason, gateway.events) == (RejectionReason.RECONNECT, [])


@pytest.mark.parametrize("failing", ["read", "write"])
async def test_an_unavailable_store_raises(gateway: Gateway, failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **_options: object) -> None:
        raise Unavailable

    monkeypatch.setattr(gateway.world.store, failing, fail)
    with pytest.raises(Unavailable):
        await gateway.connect(gateway.device())


async def test_certificates_cas_and_accounts_are_throttled_separately(gateway: Gateway) -> None:
    """A device that reconnects again and again does not use up the rates of its CA and account."""
    throttle = jit_throttle("generous", lambda: 0.0)
    throttled = Gateway(gateway.world, gateway.root, gateway.ca, throttle)
    device = throttled.device()
    answers = [await throttled.refuse(device) for _ in range(10)]
    answered, throttled_since = [RejectionReason.RECONNECT] * 3, [RejectionReason.TOO_MANY] * 7
    assert [answer.reason for answer in answers] == answered + throttled_since
    assert {answer.why for answer in answers[3:]} == {"it attempts just-in-time registration too often"}
    assert len(throttled.events) == 3
    others = [await throttled.refuse(throttled.device()) for _ in range(210)]
    assert others[-1].why == "too many just-in-time registrations at once"
    assert len(throttled.events) == 2 + 200


async def test_a_rejection_is_not_evaluated_again() -> None:
    """Otherwise the published change of a new registration would make the gateway accept the device at once."""
    feed, connections = SimpleNamespace(stale=False, fresh_until=0.0, interruptions=0), SimpleNamespace(generation=0)
    rejections = [Rejected(RejectionReason.RECONNECT, "reconnect")]

    async def authenticate(_: object) -> Rejected:
        connections.generation += 1
        return rejections.pop()

    services = SimpleNamespace(
        feed=feed,
        connections=connections,
        authenticator=SimpleNamespace(authenticate=authenticate),
        limits=AWS_LIMITS,
        rate_limit=RateLimit(NO_RATES),
    )
    session = Session(cast("Any", services), FINGERPRINT_ONLY)
    assert (await session._authenticate()).why == "reconnect"  # type: ignore[union-attr]
