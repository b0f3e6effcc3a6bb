"""Two processes on one database: what the API changes in one of them holds for connections to the other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from yandex.cloud.iot.devices.v1 import device_service_pb2, registry_service_pb2

from tests.e2e.conftest import new_database
from tests.e2e.databases import several
from tests.e2e.mqtt.devices import Closed, Device
from tests.e2e.wire import until
from tests.e2e.yandex.clients import PASSWORD, Cloud
from tests.e2e.yandex.owners import Owners
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.testing import RunningServer
    from thingmint.testing.postgres import Postgres

ALLOWED = 30.0  # seconds, of which one is promised


class Processes(NamedTuple):
    """The API is called in one process, and devices connect to the other one."""

    owners: Owners
    server: RunningServer

    def log_in(self, id: str, client_id: str = "client", password: str = PASSWORD) -> Device:
        device = Device(self.server, None)
        device.connect(client_id, username=id, password=password.encode())
        return device


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Processes]:
    folder = tmp_path_factory.mktemp("processes")
    with several(folder, new_database(postgres)) as (first, second):
        cloud = Cloud(first)
        yield Processes(Owners(cloud, folder), second)
        cloud.close()
        for server in (first, second):
            assert "Traceback" not in server.output.read_text(errors="replace")


def test_a_deleted_password_ends_its_connections_and_is_forgotten(processes: Processes) -> None:
    cloud = processes.owners.cloud
    id = cloud.device(processes.owners.registry, password=PASSWORD)
    with processes.log_in(id, "a") as device, processes.log_in(processes.owners.device) as other:
        request = device_service_pb2.ListDevicePasswordsRequest(device_id=id)
        (password,) = cloud.grpc.call("DeviceService/ListPasswords", request).passwords
        delete = device_service_pb2.DeleteDevicePasswordRequest(device_id=id, password_id=password.id)
        cloud.grpc.call("DeviceService/DeletePassword", delete)
        device.until_closed(ALLOWED)
        assert other.is_open
    until(lambda: refuses(processes, id), seconds=ALLOWED, what="the password is wrong in the other process")
    add = device_service_pb2.AddDevicePasswordRequest(device_id=id, password=PASSWORD)
    cloud.grpc.call("DeviceService/AddPassword", add)
    processes.log_in(id).drop()


def refuses(processes: Processes, id: str) -> bool:
    with Device(processes.server, None) as device:
        try:
            device.connect("b", username=id, password=PASSWORD.encode())
        except Closed:
            return True
    return False


def hears(device: Device, filter: str) -> bool:
    time.sleep(0.2)  # a connection may have few refusals
    return device.subscribe(filter) == [1]


@pytest.mark.parametrize("what", ["Disable", "Delete"])
def test_a_disabled_registry_and_a_deleted_device_end_their_connections(processes: Processes, what: str) -> None:
    cloud = processes.owners.cloud
    registry = cloud.registry(password=PASSWORD)
    id = cloud.device(registry, password=PASSWORD)
    with processes.log_in(id) as device, processes.log_in(registry) as of_registry:
        if what == "Delete":
            cloud.grpc.call("DeviceService/Delete", device_service_pb2.DeleteDeviceRequest(device_id=id))
        else:
            request = registry_service_pb2.DisableRegistryRequest(registry_id=registry)
            cloud.grpc.call("RegistryService/Disable", request)
            of_registry.until_closed(ALLOWED)
        device.until_closed(ALLOWED)
    if what == "Disable":
        enable = registry_service_pb2.EnableRegistryRequest(registry_id=registry)
        cloud.grpc.call("RegistryService/Enable", enable)
        until(lambda: not refuses(processes, id), seconds=ALLOWED, what="the device may connect again")


def test_new_aliases_hold_for_open_connections_in_the_other_process(processes: Processes) -> None:
    cloud = processes.owners.cloud
    id = cloud.device(processes.owners.registry, password=PASSWORD)
    with (
        processes.log_in(id) as device,
        processes.log_in(processes.owners.registry) as registry,
    ):
        assert device.subscribe("#") == [1]
        update = device_service_pb2.UpdateDeviceRequest(
            device_id=id,
            update_mask=FieldMask(paths=["topic_aliases"]),
            topic_aliases={"fresh/": "$devices/{id}/"},
        )
        cloud.grpc.call("DeviceService/Update", update)
        until(lambda: hears(registry, "fresh/events"), seconds=ALLOWED, what="the registry knows the alias")
        assert not device.publish("$me/device/events").failed
        assert registry.receive().topic == "fresh/events"
        assert not registry.publish("fresh/commands").failed
        assert device.receive().topic == "fresh/commands"


def test_an_owner_that_connects_to_the_other_process_is_taken_over(processes: Processes) -> None:
    owners = processes.owners
    with Device(owners.cloud.server, owners.credentials["device"]) as old:
        old.connect("same")
        with processes.log_in(owners.device, "same") as new, processes.log_in(owners.ids["other"], "same") as other:
            assert old.until_closed(ALLOWED).reason is Reason.SESSION_TAKEN_OVER
            assert new.is_open
            assert other.is_open
