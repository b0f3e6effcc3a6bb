"""Quotas of stored resources, and their errors in each API."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from yandex.cloud.iot.devices.v1 import device_service_pb2, registry_service_pb2

from tests.e2e.access.local_admin import LocalAdmin, error_of, refusal
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.logs import check_log
from tests.e2e.material import csr_pem
from tests.e2e.provisioning.support import CREATE, CREATE_FROM_CSR, Fleet
from tests.e2e.yandex.certificates import certificate
from tests.e2e.yandex.clients import Cloud, Refused
from thingmint.admin import AdminError
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thingmint.testing import RunningServer


@pytest.fixture(scope="module")
def small() -> Iterator[RunningServer]:
    quotas = {"USERS": "2", "FOLDERS": "2", "REGISTRIES": "1", "DEVICES": "1", "CERTIFICATES": "2"}
    with running_server(environment={f"THINGMINT_QUOTAS__{name}": value for name, value in quotas.items()}) as server:
        yield server


def test_certificates_have_a_quota(small: RunningServer) -> None:
    message = "The quota of 2 certificates for each account is used up"
    local_admin = LocalAdmin(small)
    with contextlib.closing(iot_client(small)) as iot, local_admin.bearer(small.token) as native:
        made = [iot.create_certificate_from_csr(certificateSigningRequest=csr_pem()) for _ in range(2)]
        for call, given in (
            (iot.create_certificate_from_csr, {"certificateSigningRequest": csr_pem()}),
            (iot.create_keys_and_certificate, {}),
        ):
            assert refusal(call, **given) == (410, "LimitExceededException", message)
        answer = native.post("/v1/certificates", json={"csr": csr_pem()})
        assert (error_of(answer), answer.json()["error"]["message"]) == ((409, "CONFLICT"), message)
        resource = {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateSigningRequest": csr_pem()}}
        body = json.dumps({"Resources": {"certificate": resource}})
        # RegisterThing has no LimitExceededException: a failed effect is a failure of the template.
        failed = (400, "ResourceRegistrationFailureException", message)
        assert refusal(iot.register_thing, templateBody=body) == failed
        assert len(iot.list_certificates()["certificates"]) == 2
        iot.delete_certificate(certificateId=made[0]["certificateId"])
        iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())
        for each in iot.list_certificates()["certificates"]:
            iot.delete_certificate(certificateId=each["certificateId"])


@pytest.mark.parametrize("wire", ["grpc", "rest"])
def test_registries_and_devices_have_a_quota(small: RunningServer, wire: str) -> None:
    with contextlib.closing(Cloud(small)) as cloud:

        def refused(method: str, request: Any) -> str:
            with pytest.raises(Refused) as caught:
                cloud.wire(wire).call(method, request)
            assert caught.value.code == "RESOURCE_EXHAUSTED"
            assert caught.value.http_status in (None, 429)
            return caught.value.text

        registry = cloud.registry()
        again = registry_service_pb2.CreateRegistryRequest(folder_id=cloud.folder)
        assert refused("RegistryService/Create", again).endswith("The quota of 1 registries for each folder is used up")
        device = cloud.device(registry)
        another = device_service_pb2.CreateDeviceRequest(registry_id=registry)
        assert refused("DeviceService/Create", another).endswith("The quota of 1 devices for each registry is used up")
        for _ in range(2):
            cloud.add(device, certificate())
        third = device_service_pb2.AddDeviceCertificateRequest(device_id=device, certificate_data=certificate())
        message = refused("DeviceService/AddCertificate", third)
        assert message.endswith("The quota of 2 certificates for each account is used up")
        cloud.grpc.call("DeviceService/Delete", device_service_pb2.DeleteDeviceRequest(device_id=device))
        cloud.grpc.call("RegistryService/Delete", registry_service_pb2.DeleteRegistryRequest(registry_id=registry))


def test_users_and_folders_have_a_quota(small: RunningServer) -> None:
    local_admin = LocalAdmin(small)
    local_admin.ask("user.create", name="second")
    local_admin.ask("folder.create", name="second")
    for noun in ("user", "folder"):
        with pytest.raises(AdminError, match=f"The quota of 2 {noun}s for each account is used up"):
            local_admin.ask(f"{noun}.create", name="third")
    with local_admin.bearer(small.token) as native:
        assert error_of(native.post("/v1/access/user/create", json={"name": "third"})) == (409, "CONFLICT")
    done = in_process("access", "user", "create", "third", "--data-dir", small.data_dir)
    assert (done.returncode, "quota of 2 users" in done.stderr) == (1, True)


def test_the_quota_of_certificates_holds_over_mqtt(tmp_path: Path) -> None:
    with (
        running_server(arguments=["--log-format=json"], environment={"THINGMINT_QUOTAS__CERTIFICATES": "2"}) as server,
        contextlib.closing(iot_client(server)) as iot,
    ):
        fleet = Fleet.of(server, iot, tmp_path)  # its claim certificate is the first certificate
        with fleet.device() as device:
            device.certificate()
            asked = json.dumps({"certificateSigningRequest": csr_pem()}).encode()
            for topic, payload in ((CREATE_FROM_CSR, asked), (CREATE, b"")):
                assert device.ask(f"{topic}/json", payload) == (
                    False,
                    {
                        "statusCode": 410,
                        "errorCode": "LimitExceeded",
                        "errorMessage": "The quota of 2 certificates for each account is used up",
                    },
                )
        assert len(iot.list_certificates()["certificates"]) == 2
        check_log(server.output.read_text())


def test_a_new_quota_counts_existing_resources() -> None:
    with running_server() as server, contextlib.closing(iot_client(server)) as iot:
        for _ in range(3):
            iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())
        server.stop()
        config = server.data_dir.parent / "thingmint.toml"
        config.write_text("[quotas]\ncertificates = 4\n")
        with (
            running_server(server.data_dir, arguments=[f"--config={config}"]) as again,
            contextlib.closing(iot_client(again)) as client,
        ):
            client.create_certificate_from_csr(certificateSigningRequest=csr_pem())
            for _ in range(2):
                assert refusal(client.create_certificate_from_csr, certificateSigningRequest=csr_pem())[0] == 410
        listed = in_process("audit", "list", "--data-dir", server.data_dir, "--output", "json")
        assert [r["error"] for r in json.loads(listed.stdout) if r["outcome"] == "refused"] == [
            "LimitExceededException"
        ] * 2
