"""A fleet to be provisioned: role, template, claim certificates, a pre-provisioning hook, and devices."""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import cbor2
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.e2e.access.local_admin import LocalAdmin, allow, document
from tests.e2e.material import csr_pem, key, key_pem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from thingmint.testing import RunningServer

__all__ = ["CREATE", "CREATE_FROM_CSR", "LAMBDA", "Device", "Fleet", "HookServer", "Identity", "rejection", "template"]

CREATE = "$aws/certificates/create"
CREATE_FROM_CSR = "$aws/certificates/create-from-csr"
LAMBDA = "arn:aws:lambda:us-east-1:123456789012:function:may-it"
PATIENCE = 20.0  # seconds, for what should take no time

TRUST = document(
    {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "iot.amazonaws.com"}},
)
CERTIFICATE = {
    "Type": "AWS::IoT::Certificate",
    "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"},
}


def template(*, policy: str = "fleet-device", **thing: Any) -> str:
    """Returns a template for a thing, named by its serial number, with an existing policy."""
    return json.dumps(
        {
            "Parameters": {"SerialNumber": {"Type": "String"}, "Site": {"Type": "String", "Default": "home"}},
            "Resources": {
                "thing": {
                    "Type": "AWS::IoT::Thing",
                    "Properties": {
                        "ThingName": {"Fn::Join": ["", ["lamp-", {"Ref": "SerialNumber"}]]},
                        "AttributePayload": {"site": {"Ref": "Site"}},
                    },
                    **thing,
                },
                "certificate": CERTIFICATE,
                "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": policy}},
            },
            "DeviceConfiguration": {"Url": {"Fn::Sub": "https://${Site}.example.org"}},
        }
    )


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, in files for clients."""

    fingerprint: str
    certificate: Path
    key: Path

    @staticmethod
    def kept(folder: Path, fingerprint: str, certificate_pem: str, private_pem: str) -> Identity:
        certificate, private = folder / f"{fingerprint[:16]}.crt", folder / f"{fingerprint[:16]}.key"
        certificate.write_text(certificate_pem)
        private.write_text(private_pem)
        return Identity(fingerprint, certificate, private)


class Device:
    """A device with paho, on MQTT 5 or 3.1.1. ``replies``: topic and payload of the received messages."""

    def __init__(self, server: RunningServer, identity: Identity, client_id: str, version: int = 5) -> None:
        protocol = MQTTProtocolVersion.MQTTv5 if version == 5 else MQTTProtocolVersion.MQTTv311
        self.replies: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.subscribed: queue.Queue[list[Any]] = queue.Queue()
        self.client_id = client_id
        self._connected: queue.Queue[Any] = queue.Queue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol)
        self._client.tls_set(str(server.ca), str(identity.certificate), str(identity.key))
        self._client.on_message = lambda _client, _data, message: self._heard(message)
        self._client.on_connect = lambda _client, _data, _flags, reason, _properties: self._connected.put(reason)
        self._client.on_subscribe = lambda _client, _data, _id, reasons, _properties: self.subscribed.put(reasons)
        self._port = server.ports["mqtt"]

    def __enter__(self) -> Device:
        self._client.connect("localhost", self._port, keepalive=60)
        self._client.loop_start()
        reason = self._connected.get(timeout=PATIENCE)
        if reason.is_failure:
            self.__exit__()
            raise ConnectionRefusedError(str(reason))
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _heard(self, message: paho.MQTTMessage) -> None:
        self.replies.put((message.topic, bytes(message.payload)))

    def subscribe(self, *filters: str) -> None:
        for filter in filters:
            self._client.subscribe(filter, qos=1)
            assert not any(reason.is_failure for reason in self.subscribed.get(timeout=PATIENCE)), filter

    def send(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=1)

    def ask(self, topic: str, payload: bytes = b"") -> tuple[bool, Any]:
        """Sends a request. Returns whether it was accepted, and the document of the reply."""
        self.send(topic, payload)
        answered, reply = self.replies.get(timeout=PATIENCE)
        assert answered in (f"{topic}/accepted", f"{topic}/rejected")
        return answered.endswith("accepted"), cbor2.loads(reply) if topic.endswith("cbor") else json.loads(reply)

    def certificate(self, kind: str = "secp256r1") -> dict[str, Any]:
        """Requests a certificate for ``key(kind)``."""
        payload = json.dumps({"certificateSigningRequest": csr_pem(kind)}).encode()
        accepted, reply = self.ask(f"{CREATE_FROM_CSR}/json", payload)
        assert accepted, reply
        answer: dict[str, Any] = reply
        return answer

    def register(self, template: str, token: str | None, **parameters: str) -> tuple[bool, Any]:
        asked: dict[str, Any] = {"parameters": parameters}
        if token is not None:
            asked["certificateOwnershipToken"] = token
        return self.ask(f"$aws/provisioning-templates/{template}/provision/json", json.dumps(asked).encode())


def rejection(device: Device, template: str, token: str | None, **parameters: str) -> tuple[int, str, str]:
    """Registers a thing, which must be rejected. Returns status, code and message."""
    accepted, reply = device.register(template, token, **parameters)
    assert not accepted, reply
    assert set(reply) == {"statusCode", "errorCode", "errorMessage"}
    return reply["statusCode"], reply["errorCode"], reply["errorMessage"]


@dataclass
class HookServer:
    """``answer`` returns status, headers and body. ``asked``: the requests."""

    answer: Callable[[dict[str, Any]], tuple[int, Mapping[str, str], bytes]] = lambda _: (200, {}, b"")
    asked: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    def set_answer(self, document: Any, status: int = 200, **headers: str) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.answer = lambda _: (status, headers, body)
        self.asked.clear()

    @contextlib.contextmanager
    def running(self) -> Iterator[HookServer]:
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                question = json.loads(self.rfile.read(int(self.headers["content-length"])))
                hook.asked.append(question)
                status, headers, body = hook.answer(question)
                with contextlib.suppress(OSError):  # the caller may have timed out
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_port
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


@dataclass
class Fleet:
    """``role`` may do everything; ``claim`` may provision by all templates."""

    server: RunningServer
    iot: Any
    folder: Path
    local_admin: LocalAdmin
    account: str
    role: str
    claim: Identity

    @staticmethod
    def of(server: RunningServer, iot: Any, folder: Path) -> Fleet:
        local_admin = LocalAdmin(server)
        local_admin.ask("role.create", name="fleet", trust_policy=TRUST)
        local_admin.ask("policy.attach", principal="role/fleet", policy="thingmint/FullAccess")
        account: str = local_admin.ask("account.list")[0]["id"]
        statements = [allow(["iot:Connect", "iot:Publish", "iot:Receive", "iot:Subscribe"], "*")]
        for name in ("fleet-claim", "fleet-device"):
            iot.create_policy(policyName=name, policyDocument=document(*statements))
        fleet = Fleet(server, iot, folder, local_admin, account, f"arn:aws:iam::{account}:role/fleet", None)  # type: ignore[arg-type]
        fleet.claim = fleet.new_claim()
        return fleet

    def new_claim(self, policy: str = "fleet-claim") -> Identity:
        made = self.iot.create_certificate_from_csr(certificateSigningRequest=csr_pem(), setAsActive=True)
        self.iot.attach_policy(policyName=policy, target=made["certificateArn"])
        return Identity.kept(self.folder, made["certificateId"], made["certificatePem"], key_pem(key("secp256r1")))

    def new_template(self, body: str | None = None, **further: Any) -> str:
        name = f"t-{secrets.token_hex(6)}"
        arguments = {"enabled": True, "provisioningRoleArn": self.role, "templateBody": body or template()} | further
        self.iot.create_provisioning_template(templateName=name, **arguments)
        return name

    def identity(self, made: Mapping[str, Any]) -> Identity:
        """Returns the identity in a reply to a device."""
        private = made.get("privateKey") or key_pem(key("secp256r1"))
        return Identity.kept(self.folder, made["certificateId"], made["certificatePem"], private)

    def device(self, identity: Identity | None = None, client_id: str | None = None, version: int = 5) -> Device:
        return Device(self.server, identity or self.claim, client_id or f"d-{secrets.token_hex(6)}", version)

    def status(self, fingerprint: str) -> str:
        described = self.iot.describe_certificate(certificateId=fingerprint)
        status: str = described["certificateDescription"]["status"]
        return status

    def log_since(self, size: int) -> Sequence[dict[str, Any]]:
        lines = self.server.output.read_bytes()[size:].splitlines()
        return [json.loads(line) for line in lines if line.startswith(b"{")]


def serial() -> str:
    return secrets.token_hex(8)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
