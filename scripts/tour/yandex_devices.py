"""A device and a registry of Yandex IoT Core over MQTT, with paho-mqtt: as in Yandex's samples, but for the address."""

from __future__ import annotations

import json
import queue
import ssl
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion
from yandex.cloud.iot.devices.v1.device_pb2 import Device
from yandex.cloud.iot.devices.v1.device_service_pb2 import CreateDeviceMetadata, CreateDeviceRequest
from yandex.cloud.iot.devices.v1.device_service_pb2_grpc import DeviceServiceStub
from yandex.cloud.iot.devices.v1.registry_pb2 import Registry
from yandex.cloud.iot.devices.v1.registry_service_pb2 import (
    CreateRegistryMetadata,
    CreateRegistryRequest,
    DisableRegistryMetadata,
    DisableRegistryRequest,
)
from yandex.cloud.iot.devices.v1.registry_service_pb2_grpc import RegistryServiceStub
from yandexcloud import SDK  # type: ignore[attr-defined]  # re-exported without saying so

from tour import require
from tour.yandex import wait

if TYPE_CHECKING:
    from tour import Tour

__all__ = ["SECONDS", "YandexClient", "expired_certificate", "messages"]

SECONDS = 20
_PASSWORD = "A-password-of-1-registry"


class YandexClient:
    """A connection with a certificate and its key, or with an id and a password. ``name`` is its client id."""

    def __init__(
        self, tour: Tour, name: str, files: tuple[Path, Path] | None = None, login: tuple[str, str] | None = None
    ) -> None:
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, name)
        context = ssl.create_default_context(cafile=tour.server.ca)
        if files is not None:
            context.load_cert_chain(*files)
        self.client.tls_set_context(context)
        if login is not None:
            self.client.username_pw_set(*login)
        self.connected: queue.Queue[bool] = queue.Queue()
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.subscribed, self.ended = threading.Event(), threading.Event()
        self.client.on_connect = lambda _c, _d, _f, code, _p: self.connected.put(not code.is_failure)
        self.client.on_disconnect = lambda *_: self.ended.set()
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = lambda _c, _d, message: self.messages.put((message.topic, bytes(message.payload)))
        self.client.connect("localhost", tour.server.ports["mqtt"])
        self.client.loop_start()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def messages(tour: Tour) -> None:
    tour.stage("Devices of Yandex IoT Core, with paho-mqtt (no policy is attached)")
    with tempfile.TemporaryDirectory(prefix="thingmint-tour-") as folder:
        _messages(tour, expired_certificate(Path(folder), "boiler"))


def _messages(tour: Tour, files: tuple[Path, Path]) -> None:
    clients: list[YandexClient] = []
    pem = files[0].read_text()
    environment = tour.server.environment("yandex")
    sdk = SDK(
        endpoint=environment["THINGMINT_YC_ENDPOINT"],
        root_certificates=Path(environment["THINGMINT_YC_ROOT_CERTIFICATES"]).read_bytes(),
        service_account_key=json.loads((tour.server.data_dir / "clients" / "yandex-sa.json").read_text()),
    )
    registries, devices = sdk.client(RegistryServiceStub), sdk.client(DeviceServiceStub)

    def client(name: str, files: tuple[Path, Path] | None = None, login: tuple[str, str] | None = None) -> YandexClient:
        clients.append(YandexClient(tour, name, files, login))
        return clients[-1]

    try:
        with tour.step("A registry with a password, a device with a certificate and an alias") as step:
            folder = environment["THINGMINT_YC_FOLDER_ID"]
            create = CreateRegistryRequest(folder_id=folder, name="heating", password=_PASSWORD)
            registry = wait(sdk, registries.Create(create), Registry, CreateRegistryMetadata).response
            request = CreateDeviceRequest(
                registry_id=registry.id,
                name="boiler",
                certificates=[CreateDeviceRequest.Certificate(certificate_data=pem)],
                topic_aliases={"boiler/": "$devices/{id}/events/"},
            )
            device = wait(sdk, devices.Create(request), Device, CreateDeviceMetadata).response
            step.result = f"created {registry.id} and {device.id}; the certificate expired in 2021"
        with tour.step("The device by its certificate, the registry by its password") as step:
            boiler, listener = client("boiler", files), client("listener", login=(registry.id, _PASSWORD))
            for each in (boiler, listener):
                require(each.connected.get(timeout=SECONDS), "refused the connection")
            step.result = "accepted both connections"
        with tour.step("The device publishes to boiler/temperature, an alias") as step:
            listener.client.subscribe("$devices/+/events/#", qos=1)
            require(listener.subscribed.wait(SECONDS), "did not answer the subscription")
            boiler.client.publish("boiler/temperature", b"65", qos=1)
            got = listener.messages.get(timeout=SECONDS)
            require(got == (f"$devices/{device.id}/events/temperature", b"65"), f"delivered {got}")
            step.result = f"the registry received 65 on {got[0]}"
        with tour.step("The certificate of the device, and a wrong password") as step:
            refused = client("refused", files, (device.id, "not-The-password-1"))
            require(not refused.connected.get(timeout=SECONDS), "accepted the connection")
            step.result = "refused: where both are given, the password decides"
        with tour.step("RegistryService.Disable") as step:
            disable = registries.Disable(DisableRegistryRequest(registry_id=registry.id))
            wait(sdk, disable, Registry, DisableRegistryMetadata)
            for each in (boiler, listener):
                require(each.ended.wait(SECONDS), "left a connection open")
            step.result = "closed the connections of the registry and of its device"
    finally:
        for each in clients:
            each.close()


def expired_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Self-signed, of CN=localhost as Yandex's guide has it, and expired: the files of it and its key."""
    key, begins = ec.generate_private_key(ec.SECP256R1()), datetime(2020, 1, 1, tzinfo=UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    builder: Any = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    certificate = builder.not_valid_before(begins).not_valid_after(begins + timedelta(days=400))
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(certificate.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files
