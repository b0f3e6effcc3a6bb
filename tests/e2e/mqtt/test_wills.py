"""Wills: when they are published, and when not."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import deny
from tests.e2e.mqtt.conftest import ALLOW_ALL, new_name
from tests.e2e.mqtt.devices import Closed, Device
from tests.e2e.wire import until
from thingmint.mqtt.protocol.packets import Connect, Will
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.mqtt.conftest import Devices, Gateway
    from tests.e2e.mqtt.devices import Credential


@pytest.fixture
def witness(mine: Devices) -> Iterator[Device]:
    with mine.connected() as device:
        device.subscribe("wills/#")
        yield device


def will_on(witness: Device, topic: str, patience: float = 3.0) -> bytes | None:
    """Returns the payload of the will on a topic; None if there is none."""
    try:
        message = witness.read(patience)
    except TimeoutError:
        return None
    assert getattr(message, "topic", None) == topic, message
    payload: bytes = message.payload  # type: ignore[union-attr]
    return payload


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("drop", True),
        ("reset", True),
        ("garbage", True),
        ("disconnect", False),
        ("disconnect with will", True),
    ],
)
def test_the_end_of_a_connection_decides_about_its_will(
    mine: Devices, witness: Device, version: Any, end: str, expected: bool
) -> None:
    if version == 4 and end == "disconnect with will":
        pytest.skip("3.1.1 knows no reasons")
    topic = new_name("wills/a")
    will = Will(topic, b"last words", qos=1)
    with mine.connected(version=version, will=will) as device:
        if end == "drop":
            device.drop()
        elif end == "reset":
            device.reset()
        elif end == "garbage":
            device.send_bytes(b"\xff" * 64)
        else:
            device.disconnect(Reason.DISCONNECT_WITH_WILL if end == "disconnect with will" else Reason.SUCCESS)
        if expected:
            assert will_on(witness, topic) == b"last words"
        else:
            mine.connected().drop()  # a round trip, so that the will would have been published
            assert witness.nothing_comes()


def test_a_retained_will_needs_retain_publish(mine: Devices, witness: Device) -> None:
    topic = new_name("wills/a")
    mine.connected(will=Will(topic, b"kept", retain=True)).drop()
    assert will_on(witness, topic) == b"kept"
    made = mine.credential(ALLOW_ALL, deny("iot:RetainPublish"))
    refused(mine, made, Will(topic, b"not kept", retain=True))
    mine.connected(made, will=Will(topic, b"not kept either")).drop()
    assert will_on(witness, topic) == b"not kept either"
    with mine.connected() as late:
        late.subscribe(topic)
        assert late.receive().payload == b"kept"
        late.publish(topic, b"", retain=True)


def refused(devices: Devices, made: Credential, will: Will) -> dict[str, Any]:
    """Connects with a will that may not be published. Returns the line in the log."""
    for version in (4, 5):
        with pytest.raises(Closed) as closed:
            devices.connected(made, version=version, will=will)
        assert closed.value.reason is (Reason.NOT_AUTHORIZED if version == 5 else None)
    line: dict[str, Any] = until(lambda: devices.log(made, "refused"), seconds=5, what="the refusal is logged")[0]
    return line


def test_a_will_that_may_not_be_published_refuses_connect(mine: Devices) -> None:
    topic = new_name("wills/a")
    made = mine.credential(ALLOW_ALL, deny("iot:Publish", mine.arn(f"topic/{topic}")))
    line = refused(mine, made, Will(topic, b"no"))
    assert (line["action"], line["resource"]) == ("iot:Publish", mine.arn(f"topic/{topic}"))
    mine.connected(made, will=Will(f"{topic}/other", b"yes")).disconnect()


def test_a_will_is_authorized_again_when_it_is_published(mine: Devices, witness: Device) -> None:
    topic, made = new_name("wills/a"), mine.credential()
    mine.connected(made, will=Will(topic, b"no", delay=1), session_expiry=60).drop()
    mine.attach(made, deny("iot:Publish", mine.arn(f"topic/{topic}")))
    (line,) = until(lambda: mine.log(made, "refused"), seconds=5, what="the refusal is logged")
    assert (line["action"], line["resource"]) == ("iot:Publish", mine.arn(f"topic/{topic}"))
    assert witness.nothing_comes()


@pytest.mark.parametrize("topic", ["$aws/events/presence/connected/x", "$aws/certificates/create/json/accepted", "$x"])
def test_a_will_cannot_use_reserved_topics(mine: Devices, topic: str) -> None:
    with mine.connected() as listener:
        listener.subscribe("$aws/events/presence/connected/x", "$aws/+/create/json/accepted")
        refused(mine, mine.credential(), Will(topic, b"forged"))
        assert listener.nothing_comes()


def test_a_will_waits_for_its_delay(mine: Devices, witness: Device) -> None:
    topic, made, name = new_name("wills/a"), mine.credential(), new_name()
    will = Will(topic, b"late", delay=1)
    lasting: dict[str, Any] = {"session_expiry": 60, "clean_start": False}
    began = time.monotonic()
    mine.connected(made, name, will=will, **lasting).drop()
    assert will_on(witness, topic, 5) == b"late"
    assert time.monotonic() - began > 0.9
    # A device that reconnects in time cancels its will.
    mine.connected(made, name, will=will, **lasting).drop()
    with mine.connected(made, name, **lasting):
        assert will_on(witness, topic, 1.5) is None


@pytest.mark.parametrize("how", ["new session", "session ends", "expiry is shorter"])
def test_a_will_delay_ends_with_the_session(mine: Devices, witness: Device, how: str) -> None:
    """MQTT 5, 3.1.3.2.2: the will is published at the end of the delay or of the session, the earlier of both."""
    topic, made, name = new_name("wills/a"), mine.credential(), new_name()
    will = Will(topic, b"now", delay=600)
    expiry = 1 if how == "expiry is shorter" else 3600
    device = mine.connected(made, name, will=will, session_expiry=expiry)
    if how == "session ends":
        device.disconnect(Reason.DISCONNECT_WITH_WILL, session_expiry=0)
    else:
        device.drop()
    again = mine.connected(made, name, clean_start=True) if how == "new session" else contextlib.nullcontext()
    with again:
        assert will_on(witness, topic) == b"now"


def test_a_takeover_publishes_the_will(mine: Devices, witness: Device) -> None:
    topic, made, name = new_name("wills/a"), mine.credential(), new_name()
    with mine.connected(made, name, will=Will(topic, b"taken over")), mine.connected(made, name):
        assert will_on(witness, topic) == b"taken over"


def test_the_will_of_a_deactivated_certificate_is_not_published(mine: Devices, witness: Device) -> None:
    topic, made = new_name("wills/a"), mine.credential()
    mine.connected(made, will=Will(topic, b"late", delay=1), session_expiry=60).drop()
    mine.set_status(made, "INACTIVE")
    assert will_on(witness, topic, 2) is None


def test_a_will_is_not_published_after_a_move_to_another_account(gateway: Gateway, witness: Device) -> None:
    """Its permissions in the new account do not apply in the old one."""
    topic, mine, other = new_name("wills/a"), gateway.mine, gateway.other
    made = mine.credential()
    with mine.dial(made, endpoint="localhost") as device:
        device.connect(new_name(), will=Will(topic, b"late", delay=1), session_expiry=60)
    mine.set_status(made, "INACTIVE")
    mine.iot.delete_certificate(certificateId=made.fingerprint, forceDelete=True)
    other.register(made, ALLOW_ALL)
    assert will_on(witness, topic, 2) is None


def test_the_will_of_a_refused_connect_is_not_published(mine: Devices, witness: Device) -> None:
    topic = new_name("wills/a")
    made = mine.credential(deny("iot:Connect"), ALLOW_ALL)
    with mine.dial(made) as device:
        device.send(Connect(5, new_name(), will=Will(topic, b"never in")))
        device.until_closed()
    assert will_on(witness, topic, 0.5) is None
