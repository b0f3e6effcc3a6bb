"""A broker that hangs, is killed and restarts; and clients that connect to it directly."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.material import csr_pem
from tests.e2e.upstream.conftest import KINDS
from tests.e2e.upstream.device import Closed, Device, Identity, plain
from thingmint.mqtt.protocol.packets import PubAck, Publish, Will
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from tests.e2e.upstream.brokers import RunningBroker
    from tests.e2e.upstream.conftest import BrokeredServer
    from thingmint.mqtt.protocol.packets import ConnAck

pytestmark = pytest.mark.parametrize("own_server", KINDS[1:], indirect=True)


@pytest.fixture
def broker(brokered: BrokeredServer) -> RunningBroker:
    assert brokered.broker is not None
    return brokered.broker


def direct_client(brokered: BrokeredServer, client_id: str) -> Device:
    """Connects directly to the broker, like an application."""
    assert brokered.broker is not None
    login: dict[str, Any] = {"username": "guest", "password": b"guest"} if brokered.kind == "rabbitmq" else {}
    return plain(brokered.broker.port, client_id=client_id, version=5 if brokered.kind == "mosquitto-5" else 4, **login)


def reconnected(brokered: BrokeredServer, identity: Identity, client_id: str, **fields: Any) -> tuple[Device, ConnAck]:
    """Repeats the connection until it is accepted, like a device."""
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(Closed):
            device, connack = brokered.connect(identity, client_id, **fields)
            if not connack.reason.failed:
                return device, connack
            assert connack.reason is Reason.SERVER_UNAVAILABLE
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize("version", [5, 4])
def test_puback_waits_for_the_broker(
    brokered: BrokeredServer, broker: RunningBroker, identity: Identity, name: str, version: int
) -> None:
    device = brokered.device(identity, name, version=version)
    assert device.publish(f"{name}/a") is not None
    with broker.stopped():
        device.start_publish(f"{name}/a")
        assert device.nothing(PubAck, 1.0)
    assert not device.next(PubAck).reason.failed


def test_publishers_wait_while_the_broker_hangs(
    brokered: BrokeredServer, broker: RunningBroker, identity: Identity, name: str
) -> None:
    """The server's memory does not grow: the buffers of the device's socket fill."""
    device = brokered.device(identity, name)
    with broker.stopped():
        assert device.flood(f"{name}/a", bytes(100_000), 500) < 300  # 30 MB, most of them in the kernel's buffers
    # This connection sent half a packet, so it cannot be used any more. Others can.
    device.close()
    again, _ = reconnected(brokered, identity, f"{name}-again")
    assert again.publish(f"{name}/a")


def test_a_deactivation_applies_while_the_broker_hangs(
    brokered: BrokeredServer, broker: RunningBroker, iot: Any, name: str
) -> None:
    identity = Identity.new(iot, brokered.folder, brokered.policy)
    device = brokered.device(identity, name)
    with broker.stopped():
        iot.update_certificate(certificateId=identity.certificate_id, newStatus="INACTIVE")
        started = time.monotonic()
        device.is_closed(5)
        assert time.monotonic() - started < 1.0


def test_devices_reconnect_after_the_broker_restarts(
    brokered: BrokeredServer, broker: RunningBroker, identity: Identity, name: str
) -> None:
    will = Will(f"{name}/will", b"gone", 1, retain=True)
    device = brokered.device(identity, name, will=will)
    old = brokered.device(identity, f"{name}-old", version=4)
    device.subscribe(f"{name}/a")
    broker.kill()
    try:
        said = device.is_closed()
        assert said is not None
        assert said.reason is Reason.SERVER_BUSY  # DISCONNECT has no reason code "unavailable"
        old.is_closed()
        refused, connack = brokered.connect(identity, name)
        assert connack.reason is Reason.SERVER_UNAVAILABLE
        refused.is_closed()
        with pytest.raises(Closed):
            brokered.connect(identity, name, version=4)
    finally:
        broker.start()
    device, _ = reconnected(brokered, identity, name)
    device.subscribe(f"{name}/a")
    device.publish(f"{name}/a", b"again")
    assert device.message().payload == b"again"
    # The gateway's own connection is restored too, and sends the messages that waited.
    device.subscribe(f"{name}/will")
    assert device.message(40).payload == b"gone"
    device.publish(f"{name}/will", b"", retain=True)


def test_only_the_will_of_a_lost_connection_is_published(
    brokered: BrokeredServer, identity: Identity, name: str
) -> None:
    reader = brokered.device(identity, f"{name}-reader")
    reader.subscribe(f"{name}/+")
    disconnected = brokered.device(identity, f"{name}-disconnected", will=Will(f"{name}/disconnected", b"never"))
    disconnected.disconnect()
    lost = brokered.device(identity, f"{name}-lost", will=Will(f"{name}/lost", b"gone", 1))
    lost.close()
    assert reader.message().topic == f"{name}/lost"
    assert reader.nothing(Publish)


def test_client_ids_and_topics_are_prefixed_at_the_broker(
    brokered: BrokeredServer, iot: Any, identity: Identity, name: str
) -> None:
    account = _account(iot)
    with contextlib.closing(direct_client(brokered, f"direct-{name}")) as application:
        application.subscribe(f"{account}/us-east-1/{name}/#")
        device = brokered.device(identity, name)
        device.subscribe(f"{name}/down/#")
        device.publish(f"{name}/up", b"up")
        message = application.message()
        assert (message.topic, message.payload) == (f"{account}/us-east-1/{name}/up", b"up")
        application.publish(f"{account}/us-east-1/{name}/down/1", b"down")
        assert application.message().topic.endswith("down/1")
        message = device.message()
        assert (message.topic, message.payload) == (f"{name}/down/1", b"down")


def _account(iot: Any) -> str:
    arn: str = iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())["certificateArn"]
    return arn.split(":")[4]


def test_provisioning_topics_do_not_reach_the_broker(brokered: BrokeredServer, identity: Identity, name: str) -> None:
    """The replies have private keys, which must never be in a queue of the broker."""
    with contextlib.closing(direct_client(brokered, f"direct-{name}")) as listener:
        listener.subscribe("#")
        device = brokered.device(identity, name)
        for form in ("json", "cbor"):
            for topic in ("certificates/create", "certificates/create-from-csr", "provisioning-templates/t/provision"):
                for reply in ("accepted", "rejected"):
                    answer = device.subscribe(f"$aws/{topic}/{form}/{reply}")
                    assert not answer.reasons[0].failed
                device.publish(f"$aws/{topic}/{form}", b"{}")
        device.publish(f"{name}/end")
        while (message := listener.message()).topic != f"{_account_of(message)}/us-east-1/{name}/end":
            assert not any(word in message.topic for word in ("certificates", "provisioning"))
    assert brokered.broker is not None
    if brokered.kind != "rabbitmq":  # its log does not have the requests
        asked = (brokered.broker.folder / "output").read_text(errors="replace")
        assert f"us-east-1/{name}/end" in asked
        assert "aws/certificates" not in asked
        assert "aws/provisioning-templates" not in asked


def _account_of(message: Publish) -> str:
    return message.topic.partition("/")[0]
