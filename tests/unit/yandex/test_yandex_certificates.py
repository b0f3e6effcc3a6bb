"""AddCertificate accepts the certificates that fleets really use, and refuses anything but one certificate."""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
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
from tests.tables import each_row

from thingmint.domain.errors import InvalidCertificate

if TYPE_CHECKING:
    from tests.world import World

TAKEN = {
    "P-256": certificate(),
    "P-384": certificate(ec_spki(ec.SECP384R1())),
    "secp256k1": certificate(ec_spki(ec.SECP256K1())),
    "brainpoolP256r1": certificate(ec_spki(ec.BrainpoolP256R1())),
    "Ed25519": certificate(ed25519_spki()),
    "RSA-512": certificate(rsa_spki(512)),
    "RSA-1024": certificate(rsa_spki(1024)),
    "RSA-1024 v1": certificate(rsa_spki(1024), version=1),
    "RSA-4096": certificate(rsa_spki(4096)),
    "RSA-8192": certificate(rsa_spki(8192)),
    "v1": certificate(version=1),
    "expired": certificate(not_before="200201000000Z", not_after="200301000000Z"),
    "not valid yet": certificate(not_before="450101000000Z", not_after="460101000000Z"),
    "negative serial": certificate(serial=-(secrets.randbits(60) + 1)),
    "serial zero": certificate(serial=0),
    "64 KiB with line breaks after it": certificate().ljust(64 * 1024, "\n"),
}


@each_row("pem", TAKEN)
async def test_usual_certificates_are_accepted(world: World, pem: str) -> None:
    device = await world.device(await world.registry())
    await world.yandex("DeviceService.AddCertificate", device_id=device, certificate_data=pem)
    [listed] = (await world.yandex("DeviceService.ListCertificates", device_id=device)).certificates
    assert (listed.fingerprint, listed.certificate_data) == (sha256_of(pem), pem)


def damaged() -> str:
    der = bytearray(der_of(certificate()))
    der[1] ^= 0x7F
    return pem_of(bytes(der))


REFUSED = {
    "empty": "",
    "only spaces": " \n\t",
    "two certificates": certificate() + certificate(),
    "the same certificate twice": certificate() * 2,
    "a private key before it": private_key_pem() + certificate(),
    "a private key after it": certificate() + private_key_pem(),
    "only a private key": private_key_pem(),
    "over 64 KiB": certificate().ljust(64 * 1024 + 1, "\n"),
    "NUL": certificate() + "\0",
    "garbage": "certificate",
    "base64 without boundaries": base64.b64encode(der_of(certificate())).decode(),
    "no end line": certificate().partition("-----END")[0],
    "truncated DER": pem_of(der_of(certificate())[:-10]),
    "damaged DER": damaged(),
    "another label": certificate().replace("CERTIFICATE", "PUBLIC KEY"),
    "the label of a CSR": certificate().replace("CERTIFICATE", "CERTIFICATE REQUEST"),
    "RSA-8193": certificate(rsa_spki(8193)),
    "RSA-16384": certificate(rsa_spki(16384)),
    "Ed448": certificate(ed448_spki()),
}


@each_row("pem", REFUSED)
async def test_malformed_certificates_are_refused(world: World, pem: str) -> None:
    device = await world.device(await world.registry())
    with pytest.raises(InvalidCertificate) as caught:
        await world.yandex("DeviceService.AddCertificate", device_id=device, certificate_data=pem)
    assert caught.value.field == "certificate_data"
    assert await world.count("bindings") == 0
