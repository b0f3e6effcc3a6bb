"""Examples of Yandex IoT Core: registries, devices and brokers, messages, operations, IAM tokens."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recording.aws_certificates import own_certificate
from recording.certificates import Key, fingerprint, pem
from recording.stand_ins import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from recording.recorder import Json, Recorder

PASSWORD = "Example-password-1"


@dataclass(frozen=True)
class Home:
    """The ids of the account's first folder and service account."""

    folder: str
    service_account: str


def record(yandex: Recorder, home: Home, jwt: str, connect: Callable[[str], None]) -> None:
    """``jwt`` is signed by the service account. ``connect`` lets the device with an id connect once, with PASSWORD."""
    tokens(yandex, home, jwt)
    registry = registries(yandex, home.folder)
    device = devices(yandex, registry, home.folder, connect)
    messages(yandex, registry, device)
    exports(yandex, registry, home)
    broker = brokers(yandex, home.folder)
    operations(yandex, device)
    endings(yandex, home, registry, device, broker)


def registries(yandex: Recorder, folder: str) -> str:
    new: Json = {"folderId": folder, "name": "lamps", "description": "Street lamps", "labels": {"city": "berlin"}}
    made = yandex("RegistryService.Create", "A registry", **new)
    yandex("RegistryService.Create", "A name that is taken", 409, **new)
    id = str(made["response"]["id"])
    given = {"registry_id": id}
    yandex("RegistryService.Get", "One registry", **given)
    yandex("RegistryService.GetByName", "A registry by its name", folderId=folder, registryName="lamps")
    yandex("RegistryService.List", "The registries of a folder", folderId=folder)
    change: Json = {"updateMask": "description,labels", "description": "All street lamps", "labels": {"country": "de"}}
    yandex("RegistryService.Update", "Description and labels", **given, **change)
    yandex("RegistryService.Disable", "A registry with its devices", **given)
    yandex("RegistryService.Enable", "A registry", **given)
    _credentials(yandex, "RegistryService", given, "registry")
    yandex("RegistryService.ListOperations", "The last two operations", **given, pageSize=2)
    return id


def devices(yandex: Recorder, registry: str, folder: str, connect: Callable[[str], None]) -> str:
    new: Json = {"registryId": registry, "name": "lamp-17", "labels": {"pole": "12a"}}
    aliases: Json = {"topicAliases": {"lamp17": "$devices/{id}/events"}}
    made = yandex("DeviceService.Create", "A device with a topic alias", **new, **aliases)
    first = own_certificate(yandex, Key("lamp-24").certificate())
    with_certificate: Json = {"name": "lamp-24", "certificates": [{"certificateData": pem(first)}]}
    yandex("DeviceService.Create", "A device with its certificate", registryId=registry, **with_certificate)
    id = str(made["response"]["id"])
    given = {"device_id": id}
    _credentials(yandex, "DeviceService", given, "device")
    own = pem(first)
    yandex("DeviceService.AddCertificate", "A certificate of another device", 409, **given, certificateData=own)
    yandex("DeviceService.AddCertificate", "A text that is no certificate", 400, **given, certificateData="x")
    unknown = {"device_id": UNKNOWN[1], "certificateData": own}
    yandex("DeviceService.AddCertificate", "A device that the account does not have", 404, **unknown)
    yandex("DeviceService.AddPassword", **given, password=PASSWORD)
    connect(id)
    yandex("DeviceService.Get", "One device", **given)
    yandex("DeviceService.Get", "With its last connection", **given, deviceView="FULL")
    yandex("DeviceService.GetByName", "A device by its name", registryId=registry, deviceName="lamp-17")
    yandex("DeviceService.List", "The first page of a registry", registryId=registry, pageSize=1)
    yandex("DeviceService.List", "All devices of a folder", folderId=folder)
    change: Json = {"updateMask": "labels", "labels": {"pole": "12b"}}
    yandex("DeviceService.Update", "Other labels", **given, **change)
    yandex("DeviceService.ListOperations", "The last two operations", **given, pageSize=2)
    yandex("RegistryService.ListDeviceTopicAliases", "All aliases", registry_id=registry)
    return id


def _credentials(yandex: Recorder, service: str, given: dict[str, str], noun: str) -> None:
    """The methods of certificates and passwords."""
    certificate = own_certificate(yandex, Key(f"{noun} of Example Corp").certificate())
    added = {**given, "certificateData": pem(certificate)}
    yandex(f"{service}.AddCertificate", f"A certificate for a {noun}", **added)
    yandex(f"{service}.ListCertificates", f"The certificates of a {noun}", **given)
    digits = fingerprint(certificate)
    yandex(f"{service}.DeleteCertificate", f"A certificate of a {noun}", **given, fingerprint=digits)
    made = yandex(f"{service}.AddPassword", f"A password for a {noun}", **given, password=PASSWORD)
    yandex(f"{service}.ListPasswords", f"The passwords of a {noun}", **given)
    id = made["response"]["id"]
    yandex(f"{service}.DeletePassword", f"A password of a {noun}", **given, password_id=id)


def messages(yandex: Recorder, registry: str, device: str) -> None:
    data = base64.b64encode(b'{"on":true}').decode()
    topic = f"$devices/{device}"
    yandex("DeviceDataService.Publish", "An event", device_id=device, topic=f"{topic}/events", data=data)
    yandex("DeviceDataService.Publish", "A topic for commands", 403, device_id=device,
        topic=f"{topic}/commands", data=data)  # fmt: skip
    yandex("RegistryDataService.Publish", "A command", registry_id=registry, topic=f"{topic}/commands", data=data)


def exports(yandex: Recorder, registry: str, home: Home) -> None:
    given = {"registryId": registry}
    made = yandex(
        "RegistryService.AddDataStreamExport",
        "All events of devices",
        **given,
        name="events",
        mqttTopicFilter="$devices/+/events/#",
        database="/ru-central1/example/lamps",
        stream="events",
        serviceAccountId=home.service_account,
    )
    yandex("RegistryService.ListDataStreamExports", "The export of a registry", **given)
    id = made["response"]["id"]
    yandex("RegistryService.DeleteDataStreamExport", "An export", **given, dataStreamExportId=id)


def brokers(yandex: Recorder, folder: str) -> str:
    made = yandex("BrokerService.Create", "A broker", folderId=folder, name="plant", labels={"city": "berlin"})
    id = str(made["response"]["id"])
    given = {"broker_id": id}
    yandex("BrokerService.Get", "One broker", **given)
    yandex("BrokerService.List", "The brokers of a folder", folderId=folder)
    yandex("BrokerService.Update", "Another name", **given, updateMask="name", name="plant-1")
    _credentials(yandex, "BrokerService", given, "broker")
    data = base64.b64encode(b"18.5").decode()
    yandex("BrokerDataService.Publish", "A message", broker_id=id, topic="hall/temperature", data=data)
    yandex("BrokerService.ListOperations", "The last two operations", **given, pageSize=2)
    return id


def operations(yandex: Recorder, device: str) -> None:
    listed = yandex.poll("DeviceService.ListOperations", device_id=device, pageSize=1)
    given = {"operation_id": listed["operations"][0]["id"]}
    yandex("OperationService.Get", "An operation that is done", **given)
    yandex("OperationService.Cancel", "An operation that is done", **given)
    yandex("OperationService.Cancel.post", "An operation that is done", **given)
    yandex("OperationService.Get", "An id that the account does not have", 404, operation_id=UNKNOWN[1])
    yandex("ApiEndpointService.List", "All services", caller="anonymous")
    yandex(
        "ApiEndpointService.Get",
        "The address for devices and registries",
        caller="anonymous",
        api_endpoint_id="iot-devices",
    )


def tokens(yandex: Recorder, home: Home, jwt: str) -> None:
    made: Any = yandex("IamTokenService.Create", "For the JWT of a service account", caller="anonymous", jwt=jwt)
    yandex("IamTokenService.CreateForServiceAccount", "To act as a service account",
        serviceAccountId=home.service_account)  # fmt: skip
    given = {"iamToken": made["iamToken"]}
    yandex("IamTokenService.Revoke", "A token that is not needed any more", caller="anonymous", **given)
    yandex("DeviceService.List", "Without a valid token", 401, caller="unknown",
        registryId=UNKNOWN[1])  # fmt: skip


def endings(yandex: Recorder, home: Home, registry: str, device: str, broker: str) -> None:
    yandex("RegistryService.Delete", "A registry that has devices", 400, registry_id=registry)
    yandex("BrokerService.Delete", "A broker", broker_id=broker)
    yandex("DeviceService.Delete", "A device", device_id=device)
    empty = yandex("RegistryService.Create", folderId=home.folder, name="empty")
    yandex("RegistryService.Delete", "A registry without devices", registry_id=empty["response"]["id"])
