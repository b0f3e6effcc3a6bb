"""The Yandex API, with the yandexcloud SDK; and the same certificate over the AWS API, with boto3."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
import tempfile
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Read when gRPC is imported or connects: the tour must not use the user's proxy to reach this machine.
os.environ["GRPC_VERBOSITY"] = "NONE"
os.environ["no_grpc_proxy"] = "localhost,127.0.0.1"  # noqa: SIM112 - gRPC's own spelling

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from google.protobuf.empty_pb2 import Empty
from yandex.cloud.iot.devices.v1.device_pb2 import Device, DeviceCertificate
from yandex.cloud.iot.devices.v1.device_service_pb2 import (
    AddDeviceCertificateMetadata,
    AddDeviceCertificateRequest,
    CreateDeviceMetadata,
    CreateDeviceRequest,
    DeleteDeviceCertificateMetadata,
    DeleteDeviceCertificateRequest,
    DeleteDeviceMetadata,
    DeleteDeviceRequest,
    ListDeviceCertificatesRequest,
)
from yandex.cloud.iot.devices.v1.device_service_pb2_grpc import DeviceServiceStub
from yandex.cloud.iot.devices.v1.registry_pb2 import Registry
from yandex.cloud.iot.devices.v1.registry_service_pb2 import (
    CreateRegistryMetadata,
    CreateRegistryRequest,
    DeleteRegistryMetadata,
    DeleteRegistryRequest,
)
from yandex.cloud.iot.devices.v1.registry_service_pb2_grpc import RegistryServiceStub
from yandexcloud import SDK  # type: ignore[attr-defined]  # re-exported without saying so

from tour import CheckFailed, aws, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tour import Tour

__all__ = ["certificates", "wait"]

# https://yandex.cloud/docs/iot-core/operations/certificates/create
_GUIDE = ("req", "-x509", "-newkey", "rsa:4096", "-keyout", "key.pem", "-out", "cert.pem", "-nodes", "-days", "365")
_SUBJECT = "/CN=localhost"


def certificates(tour: Tour) -> None:
    tour.stage("The Yandex IoT Core API, with yandexcloud")
    with _certificate_of_the_guide() as certificate_of_the_guide:
        _certificates(tour, certificate_of_the_guide)


def _certificates(tour: Tour, certificate_of_the_guide: Callable[[], tuple[str, str]]) -> None:
    environment = tour.server.environment("yandex")
    key_file = tour.server.data_dir / "clients" / "yandex-sa.json"

    with tour.step("RegistryService.Create") as step:
        sdk = SDK(
            endpoint=environment["THINGMINT_YC_ENDPOINT"],
            root_certificates=Path(environment["THINGMINT_YC_ROOT_CERTIFICATES"]).read_bytes(),
            service_account_key=json.loads(key_file.read_text()),
        )
        registries, devices = sdk.client(RegistryServiceStub), sdk.client(DeviceServiceStub)
        create = CreateRegistryRequest(folder_id=environment["THINGMINT_YC_FOLDER_ID"], name="boilers")
        registry = wait(sdk, registries.Create(create), Registry, CreateRegistryMetadata).response
        require(registry.status == Registry.ACTIVE, f"the registry is {Registry.Status.Name(registry.status)}")
        step.result = f"got an IAM token for the service account's key, and created the registry {registry.id}"
    with tour.step("DeviceService.Create") as step:
        made = wait(
            sdk,
            devices.Create(CreateDeviceRequest(registry_id=registry.id, name="boiler-1")),
            Device,
            CreateDeviceMetadata,
        )
        device = made.response.id
        require(made.response.registry_id == registry.id, "created a device in another registry")
        step.result = f"created the device {device} in the registry"
    with tour.step("A certificate made as in Yandex's guide") as step:
        pem, maker = certificate_of_the_guide()
        certificate = x509.load_pem_x509_certificate(pem.encode())
        require(certificate.subject == certificate.issuer, "is not self-signed")
        fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
        step.result = f"RSA-4096, self-signed, {certificate.subject.rfc4514_string()}, made with {maker}"
    with tour.step("DeviceService.AddCertificate") as step:
        add = AddDeviceCertificateRequest(device_id=device, certificate_data=pem)
        started = devices.AddCertificate(add)
        added = wait(sdk, started, DeviceCertificate, AddDeviceCertificateMetadata)
        expected = AddDeviceCertificateMetadata(device_id=device, fingerprint=fingerprint)
        require(added.meta == expected, f"returned the metadata {added.meta}")
        require(added.response.certificate_data == pem, "returned another certificate")
        step.result = f"added it (operation {started.id}); its fingerprint is the SHA-256 of the DER"
    with tour.step("DeviceService.ListCertificates") as step:
        _check_listed(devices, device, [fingerprint])
        step.result = "returned this certificate and no other"

    iot = aws.client(tour.server)
    with tour.step("DescribeCertificate of the AWS API") as step:
        described = iot.describe_certificate(certificateId=fingerprint)["certificateDescription"]
        require(described["status"] == "ACTIVE", f"returned the status {described['status']}")
        require(_der(described["certificatePem"]) == _der(pem), "returned another certificate")
        step.result = f"returned the same certificate, as {described['status']}; its certificateId is the fingerprint"
    with tour.step("UpdateCertificate(newStatus=INACTIVE) of the AWS API") as step:
        iot.update_certificate(certificateId=fingerprint, newStatus="INACTIVE")
        status = iot.describe_certificate(certificateId=fingerprint)["certificateDescription"]["status"]
        require(status == "INACTIVE", f"the status is {status}")
        _check_listed(devices, device, [fingerprint])
        step.result = "deactivated the certificate; the device still has it"
    with tour.step("DeviceService.AddCertificate a second time") as step:
        step.result = _refused(grpc.StatusCode.ALREADY_EXISTS, lambda: devices.AddCertificate(add))
    with tour.step("DeleteCertificate of the AWS API, while the device has the certificate") as step:
        step.result = aws.refused("DeleteConflictException", lambda: iot.delete_certificate(certificateId=fingerprint))

    with tour.step("The same device over REST") as step:
        # The server accepts an API token as the OAuth token of a Yandex account.
        oauth = {"yandexPassportOauthToken": tour.server.token}
        token = _rest(tour, "POST", "/iam/v1/tokens", oauth)["iamToken"]
        path = f"/iot-devices/v1/devices/{device}/certificates"
        listed = _rest(tour, "GET", path, token=token)["certificates"]
        require([each["fingerprint"] for each in listed] == [fingerprint], f"has the certificates {listed}")
        require(listed[0]["certificateData"] == pem, "has another certificate")
        step.result = "got an IAM token for the API token, and the same certificate as JSON"
    with tour.step("DeleteCertificate, and Delete of the device and the registry") as step:
        remove = DeleteDeviceCertificateRequest(device_id=device, fingerprint=fingerprint)
        wait(sdk, devices.DeleteCertificate(remove), Empty, DeleteDeviceCertificateMetadata)
        wait(sdk, devices.Delete(DeleteDeviceRequest(device_id=device)), Empty, DeleteDeviceMetadata)
        wait(sdk, registries.Delete(DeleteRegistryRequest(registry_id=registry.id)), Empty, DeleteRegistryMetadata)
        gone = aws.refused("ResourceNotFoundException", lambda: iot.describe_certificate(certificateId=fingerprint))
        step.result = f"deleted all three; DescribeCertificate of the AWS API is now {gone}"


@contextlib.contextmanager
def _certificate_of_the_guide() -> Iterator[Callable[[], tuple[str, str]]]:
    """A function that returns the certificate in PEM and what made it. openssl starts to search primes immediately."""
    openssl = shutil.which("openssl")
    if openssl is None:
        yield lambda: (_self_signed(), "cryptography (openssl is not installed)")
        return
    with tempfile.TemporaryDirectory(prefix="thingmint-guide-") as folder:
        process = subprocess.Popen(
            [openssl, *_GUIDE, "-subj", _SUBJECT],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

        def result() -> tuple[str, str]:
            _, error = process.communicate(timeout=60)
            require(process.returncode == 0, f"openssl failed: {error.strip()}")
            return (Path(folder) / "cert.pem").read_text(), "openssl req -x509 -newkey rsa:4096"

        try:
            yield result
        finally:
            process.kill()
            process.communicate()


def _self_signed() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=4096)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=365))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def wait(sdk: Any, operation: Any, response_type: type[Any], meta_type: type[Any]) -> Any:
    """The result of an operation, from the SDK's own waiter, which calls OperationService.Get."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the SDK, about itself
        return sdk.wait_operation_and_get_result(operation, response_type=response_type, meta_type=meta_type)


def _check_listed(devices: Any, device: str, expected: list[str]) -> None:
    listed = devices.ListCertificates(ListDeviceCertificatesRequest(device_id=device)).certificates
    fingerprints = [certificate.fingerprint for certificate in listed]
    require(fingerprints == expected, f"the device has {fingerprints}")


def _refused(code: grpc.StatusCode, call: Callable[[], object]) -> str:
    """A text that says how ``call`` was refused. Raises CheckFailed unless it was refused with ``code``."""
    try:
        call()
    except grpc.RpcError as error:
        got = error.code()
        require(got is code, f"was refused with {got.name}, not {code.name}: {error}")
        return f"refused with {got.name}"
    raise CheckFailed(f"was not refused with {code.name}")


def _rest(tour: Tour, method: str, path: str, body: Mapping[str, str] | None = None, token: str | None = None) -> Any:
    context = ssl.create_default_context(cafile=str(tour.server.ca))
    connection = http.client.HTTPSConnection("localhost", tour.server.ports["api"], timeout=30, context=context)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    if body is not None:
        headers["content-type"] = "application/json"
    try:
        connection.request(method, path, body=json.dumps(body) if body is not None else None, headers=headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        require(response.status == 200, f"{method} {path} was answered with {response.status}: {answer}")
        return answer
    finally:
        connection.close()


def _der(pem: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem)
