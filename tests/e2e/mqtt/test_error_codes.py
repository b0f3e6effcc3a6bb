"""Devices get the codes and alerts that docs/errors.md documents."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from tests.documents import names_in, page, sections, tables
from tests.e2e.access.local_admin import allow
from tests.e2e.mqtt.conftest import ALLOW_ALL, Devices, new_name
from tests.e2e.mqtt.devices import Closed, credential
from thingmint.mqtt.protocol.packets import ConnAck, Connect
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.mqtt.conftest import Gateway
    from tests.e2e.mqtt.devices import Device

ROWS = {
    int(row["code"], 16): row["in"].split(", ") for row in tables(sections(page("errors"))["Reason codes of MQTT 5"])[0]
}
RETURN_CODES = {int(row["return code"]) for row in tables(sections(page("errors"))["CONNACK of MQTT 3.1.1"])[0]}


def refused(fleet: Devices, device: Device, connect: Connect) -> Reason | None:
    """Returns the reason in CONNACK; None if the connection is closed without a CONNACK."""
    with device:
        device.send(connect)
        try:
            return device.expect(ConnAck).reason
        except Closed:
            return None


@pytest.mark.parametrize(
    ("client_id", "status", "reason", "return_code"),
    [
        ("device", "INACTIVE", Reason.NOT_AUTHORIZED, None),
        ("a+b", "ACTIVE", Reason.CLIENT_IDENTIFIER_NOT_VALID, 2),
        ("x" * 129, "ACTIVE", Reason.CLIENT_IDENTIFIER_NOT_VALID, 2),
    ],
)
def test_refused_connects_get_the_documented_connack(
    mine: Devices, client_id: str, status: str, reason: Reason, return_code: int | None
) -> None:
    made = mine.credential(status=status)
    assert refused(mine, mine.dial(made, 5), Connect(5, client_id)) is reason
    assert "CONNACK" in ROWS[reason]
    old = refused(mine, mine.dial(made, 4), Connect(4, client_id))
    assert (old is None) is (return_code is None)
    assert return_code is None or return_code in RETURN_CODES


def test_an_unsupported_version_gets_the_documented_connack(mine: Devices) -> None:
    with mine.dial(mine.credential(), 4) as device:
        device.send_bytes(b"\x10\x0e\x00\x04MQTT\x03\x02\x00\x3c\x00\x02ab")
        assert device.expect(ConnAck).reason is Reason.UNSUPPORTED_PROTOCOL_VERSION
    assert 1 in RETURN_CODES


OUTCOMES: dict[Reason, tuple[str, Callable[[Device], Any]]] = {
    Reason.NO_MATCHING_SUBSCRIBERS: ("PUBACK", lambda device: device.publish("lonely/topic")),
    Reason.NO_SUBSCRIPTION_EXISTED: ("UNSUBACK", lambda device: device.unsubscribe("lonely/topic")[0]),
    Reason.TOPIC_FILTER_INVALID: ("SUBACK", lambda device: device.subscribe("a/b/c/d/e/f/g/h/i")[0]),
    Reason.TOPIC_NAME_INVALID: ("PUBACK", lambda device: device.publish("a/b/c/d/e/f/g/h/i")),
}


@pytest.mark.parametrize("reason", OUTCOMES, ids=lambda reason: reason.name)
def test_packets_get_the_documented_reason(mine: Devices, reason: Reason) -> None:
    packet, ask = OUTCOMES[reason]
    with mine.connected() as device:
        assert ask(device) is reason
    assert packet in ROWS[reason]


def test_denied_requests_get_not_authorized(mine: Devices) -> None:
    with mine.connected(mine.credential(allow("iot:Connect"))) as device:
        assert device.publish("a") is Reason.NOT_AUTHORIZED
    with mine.connected(mine.credential(allow("iot:Connect"))) as device:
        assert device.subscribe("a") == [Reason.NOT_AUTHORIZED]
    assert {"PUBACK", "SUBACK"} <= set(ROWS[Reason.NOT_AUTHORIZED])


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        (Reason.QOS_NOT_SUPPORTED, b"\x34\x07\x00\x01a\x00\x01\x00x"),
        (Reason.PROTOCOL_ERROR, b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x02ab"),
        (Reason.MALFORMED_PACKET, b"\x36\x07\x00\x01a\x00\x01\x00x"),
        (Reason.TOPIC_ALIAS_INVALID, b"\x30\x08\x00\x01a\x03\x23\x00\x00x"),
        (Reason.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED, b"\x82\x09\x00\x01\x02\x0b\x01\x00\x01a\x00"),
        (Reason.PACKET_TOO_LARGE, b"\x30\xff\xff\xff\x7f"),
    ],
    ids=lambda value: value.name if isinstance(value, Reason) else "",
)
def test_invalid_packets_get_the_documented_disconnect(mine: Devices, reason: Reason, data: bytes) -> None:
    with mine.connected() as device:
        device.send_bytes(data)
        assert device.until_closed().reason is reason
    assert "DISCONNECT" in ROWS[reason]


def test_a_taken_over_connection_gets_the_documented_disconnect(mine: Devices) -> None:
    made, name = mine.credential(ALLOW_ALL), new_name()
    with mine.connected(made, name) as first, mine.connected(made, name):
        assert first.until_closed().reason is Reason.SESSION_TAKEN_OVER
    assert "DISCONNECT" in ROWS[Reason.SESSION_TAKEN_OVER]


def alert_of(gateway: Gateway, port: str, prepare: Callable[[ssl.SSLContext], None]) -> str:
    context = ssl.create_default_context(cafile=str(gateway.server.ca))
    prepare(context)
    with socket.create_connection(("127.0.0.1", gateway.server.ports[port])) as raw:
        try:
            with context.wrap_socket(raw, server_hostname="localhost"):
                return ""
        except ssl.SSLError as error:
            return str(error).lower().replace(" ", "_")


def _only_tls11(context: ssl.SSLContext) -> None:
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1


def _only_cbc(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-SHA")


@pytest.mark.parametrize(
    ("alert", "port", "prepare"),
    [
        ("handshake_failure", "mqtt", _only_cbc),
        ("protocol_version", "mqtt", _only_tls11),
        ("no_application_protocol", "mqtt-alpn", lambda context: context.set_alpn_protocols(["h2"])),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_failed_handshakes_get_the_documented_alert(
    gateway: Gateway, alert: str, port: str, prepare: Callable[[ssl.SSLContext], None]
) -> None:
    assert alert in alert_of(gateway, port, prepare)
    [row] = [row for row in tables(sections(page("errors"))["TLS alerts"])[0] if alert in names_in(row["alert"])]
    assert row["sent by"] == "server"


def test_an_unknown_certificate_gets_connack_and_no_alert(mine: Devices) -> None:
    assert refused(mine, mine.dial(credential(mine.folder), 5), Connect(5, "x")) is Reason.NOT_AUTHORIZED
