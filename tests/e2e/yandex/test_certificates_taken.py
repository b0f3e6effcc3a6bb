"""AddCertificate takes what fleets really have, and nothing that is not one certificate."""

from __future__ import annotations

import base64
import secrets
import time
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from yandex.cloud.iot.devices.v1 import device_service_pb2, registry_service_pb2

from tests.e2e.yandex.certificates import (
    certificate,
    der_of,
    ec_spki,
    ed448_spki,
    ed25519_spki,
    pem_of,
    private_key_pem,
    rsa_spki,
    sha256_of,
)
from tests.e2e.yandex.clients import Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tests.e2e.yandex.clients import Cloud

TAKEN: dict[str, Callable[[], str]] = {
    "P-256": certificate,
    "P-384": lambda: certificate(ec_spki(ec.SECP384R1())),
    "secp256k1": lambda: certificate(ec_spki(ec.SECP256K1())),
    "brainpoolP256r1": lambda: certificate(ec_spki(ec.BrainpoolP256R1())),
    "Ed25519": lambda: certificate(ed25519_spki()),
    "RSA-512": lambda: certificate(rsa_spki(512)),
    "RSA-1024": lambda: certificate(rsa_spki(1024)),
    "RSA-1024 v1": lambda: certificate(rsa_spki(1024), version=1),
    "RSA-4096": lambda: certificate(rsa_spki(4096)),
    "RSA-8192": lambda: certificate(rsa_spki(8192)),
    "v1": lambda: certificate(version=1),
    "expired": lambda: certificate(not_before="200201000000Z", not_after="200301000000Z"),
    "not valid yet": lambda: certificate(not_before="450101000000Z", not_after="460101000000Z"),
    "negative serial": lambda: certificate(serial=-(secrets.randbits(60) + 1)),
    "serial zero": lambda: certificate(serial=0),
    "64 KiB with text around": lambda: certificate().ljust(64 * 1024, "\n"),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_taken(cloud: Cloud, wire_name: str, kind: str) -> None:
    device, pem = cloud.device(), TAKEN[kind]()
    assert cloud.add(device, pem, wire_name).done
    [listed] = cloud.certificates(device)
    assert (listed.fingerprint, listed.certificate_data) == (sha256_of(pem), pem)


def damaged() -> str:
    der = bytearray(der_of(certificate()))
    der[1] ^= 0x7F
    return pem_of(bytes(der))


REFUSED: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "only spaces": lambda: " \n\t",
    "two certificates": lambda: certificate() + certificate(),
    "the same one twice": lambda: certificate() * 2,
    "a private key in front": lambda: private_key_pem() + certificate(),
    "a private key behind": lambda: certificate() + private_key_pem(),
    "only a private key": private_key_pem,
    "over 64 KiB": lambda: certificate().ljust(64 * 1024 + 1, "\n"),
    "garbage": lambda: "certificate",
    "base64 without boundaries": lambda: base64.b64encode(der_of(certificate())).decode(),
    "no end": lambda: certificate().partition("-----END")[0],
    "cut off": lambda: pem_of(der_of(certificate())[:-10]),
    "more behind": lambda: pem_of(der_of(certificate()) + b"\0"),
    "damaged": damaged,
    "another label": lambda: certificate().replace("CERTIFICATE", "PUBLIC KEY"),
    "a request": lambda: certificate().replace("CERTIFICATE", "CERTIFICATE REQUEST"),
    "RSA-8193": lambda: certificate(rsa_spki(8193)),
    "RSA-16384": lambda: certificate(rsa_spki(16384)),
    "Ed448": lambda: certificate(ed448_spki()),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(cloud: Cloud, wire_name: str, kind: str) -> None:
    device, pem = cloud.device(), REFUSED[kind]()
    with pytest.raises(Refused) as refused:
        cloud.add(device, pem, wire_name)
    assert refused.value.code == "INVALID_ARGUMENT"
    assert list(refused.value.violations) == ["certificate_data"]
    assert refused.value.http_status in (None, 400)
    assert cloud.certificates(device) == []


def test_nul_is_refused(cloud: Cloud, wire_name: str) -> None:
    with pytest.raises(Refused) as refused:
        cloud.add(cloud.device(), certificate() + "\0", wire_name)
    assert list(refused.value.violations) == ["certificate_data"]


def test_the_field_is_named_in_lists_too(cloud: Cloud, wire_name: str) -> None:
    wire, registry = cloud.wire(wire_name), cloud.registry()
    requests: dict[str, Any] = {
        "DeviceService/Create": device_service_pb2.CreateDeviceRequest(registry_id=registry),
        "RegistryService/Create": registry_service_pb2.CreateRegistryRequest(folder_id=cloud.folder, name="two-certs"),
    }
    for method, request in requests.items():
        for pem in (certificate(), private_key_pem()):
            request.certificates.add(certificate_data=pem)
        with pytest.raises(Refused) as refused:
            wire.call(method, request)
        assert list(refused.value.violations) == ["certificates[1].certificate_data"]
    assert not wire.call("DeviceService/List", device_service_pb2.ListDevicesRequest(registry_id=registry)).devices


def test_a_private_key_is_nowhere_afterwards(cloud: Cloud, wire_name: str) -> None:
    key = private_key_pem()
    secret_lines = key.splitlines()[1:-1]
    with pytest.raises(Refused) as refused:
        cloud.add(cloud.device(), certificate() + key, wire_name, key="with-a-key")
    assert not any(line in str(refused.value.status) for line in secret_lines)
    deadline = time.monotonic() + 10  # over gRPC the line is written after the answer
    while refused.value.request_ids[0] not in (log := cloud.server.output.read_text()):
        assert time.monotonic() < deadline, "the refusal itself is in the log"
        time.sleep(0.01)
    files = [path for path in cloud.server.data_dir.rglob("*") if path.is_file()]
    assert any(path.name == "thingmint.db-wal" for path in files), "what was written last is looked through too"
    for content in (log.encode(), *(path.read_bytes() for path in files)):
        assert not any(line.encode() in content for line in secret_lines)


def test_bound_once_in_an_account(cloud: Cloud, wire_name: str) -> None:
    """To a device or to a registry; again once it is free."""
    wire, pem = cloud.wire(wire_name), certificate()
    first, second = cloud.device(), cloud.device()
    cloud.add(first, pem, wire_name)
    request = registry_service_pb2.CreateRegistryRequest(folder_id=cloud.folder, name=f"late-{wire_name}")
    request.certificates.add(certificate_data=pem)
    attempts: list[Callable[[], Any]] = [
        lambda: cloud.add(first, pem, wire_name),
        lambda: cloud.add(second, f"{pem}\n", wire_name),
        lambda: wire.call("RegistryService/Create", request),
    ]
    for again in attempts:
        with pytest.raises(Refused) as refused:
            again()
        assert refused.value.code == "ALREADY_EXISTS"
        assert refused.value.http_status in (None, 409)
        assert sha256_of(pem) in refused.value.text
    cloud.remove(first, sha256_of(pem), wire_name)
    registry = registry_service_pb2.CreateRegistryMetadata()
    wire.call("RegistryService/Create", request).metadata.Unpack(registry)
    with pytest.raises(Refused) as refused:
        cloud.add(second, pem, wire_name)
    assert refused.value.code == "ALREADY_EXISTS"
    wire.call("RegistryService/Delete", registry_service_pb2.DeleteRegistryRequest(registry_id=registry.registry_id))
    assert cloud.add(second, pem, wire_name).done
