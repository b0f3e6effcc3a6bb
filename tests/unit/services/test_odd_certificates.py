"""Odd certificates and requests in the operations of all APIs, in their answers, and in audit records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from tests import odd_certificates as odd
from tests.e2e.yandex.certificates import certificate, rsa_spki
from tests.issuers import new_issuer
from tests.unit import vectors
from tests.unit.services.test_ca_certificates import code_of, prove, register, take
from tests.unit.services.test_jit_registration import AUTO, Gateway
from tests.unit.services.test_template_execution import register as provision
from tests.unit.vectors import to_pem
from tests.world import OURS
from thingmint.access.audit import AuditedStore
from thingmint.access.context import Outcome, RequestContext
from thingmint.domain.certificate_parts import as_tls_sends_it
from thingmint.domain.certificates import fingerprint_of
from thingmint.domain.errors import Disallowed, InvalidCertificate, InvalidSigningRequest, ProvisioningFailed
from thingmint.domain.status import Status
from thingmint.services.accounts import keep_setting
from thingmint.services.bindings import bind, parse_submitted
from thingmint.services.certificates import register_new
from thingmint.services.device_registry import DEVICES
from thingmint.services.issuing import prepare_own

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.issuers import Issuer
    from tests.world import World
    from thingmint.store.engine import Transaction

CERTIFICATES, REQUESTS = odd.certificates(), odd.requests()
WITHOUT_SECONDS = odd.without_seconds()["no seconds"]
SHA_1 = "is signed with SHA-1, which is broken; sign it with SHA-256"


def pem(der: bytes) -> str:
    return to_pem(der, "CERTIFICATE")


def csr(der: bytes) -> str:
    return to_pem(der, "CERTIFICATE REQUEST")


def root() -> Issuer:
    return new_issuer("A Maker's Root", vectors.ec_key(), now=vectors.NOW)


def under(made: Issuer, **parts: bytes) -> bytes:
    """Return a certificate that the root issued."""
    return odd.certificate(None, outer=None, issuer=made.certificate.subject.public_bytes(), **parts)


async def test_certificates_that_openssl_reads_are_registered_and_described(world: World) -> None:
    for case, der in CERTIFICATES.items():
        known_to_tls = as_tls_sends_it(der)
        assert known_to_tls is not None
        made = await world.aws("RegisterCertificateWithoutCA", certificatePem=pem(der), status="ACTIVE")
        assert made["certificateId"] == fingerprint_of(known_to_tls), case
        described = await world.aws("DescribeCertificate", certificateId=made["certificateId"])
        assert described["certificateDescription"]["certificatePem"] == pem(known_to_tls), case


async def test_odd_certificates_are_bound_and_returned_unchanged(world: World) -> None:
    registry = await world.registry()
    for case, der in CERTIFICATES.items():
        device = await world.device(registry)
        await world.yandex("DeviceService.AddCertificate", device_id=device, certificate_data=pem(der))
        [listed] = (await world.yandex("DeviceService.ListCertificates", device_id=device)).certificates
        assert listed.certificate_data == pem(der), case
        assert listed.fingerprint == fingerprint_of(as_tls_sends_it(der) or b""), case


async def test_requests_that_openssl_verifies_get_certificates(world: World) -> None:
    for case, der in REQUESTS.items():
        made = await world.aws("CreateCertificateFromCsr", certificateSigningRequest=csr(der))
        issued = x509.load_pem_x509_certificate(made["certificatePem"].encode())
        assert list(issued.subject), case


async def test_an_odd_certificate_is_registered_under_a_ca(world: World) -> None:
    made = root()
    ca = await prove(world, made)
    id = await register(world, pem(under(made, subject=odd.NAMES["underscore in PrintableString"])))
    described = await world.aws("DescribeCertificate", certificateId=id)
    assert described["certificateDescription"]["caCertificateId"] == ca


async def test_a_verification_certificate_can_be_odd(world: World) -> None:
    made = root()
    code = (await code_of(world)).encode()
    proof = under(made, subject=odd.common_name(odd.PRINTABLE, code), rest=odd.extensions(odd.NO_CA, odd.NO_CA))
    await world.aws("RegisterCACertificate", caCertificate=made.pem, verificationCertificate=pem(proof))


@pytest.mark.parametrize("kind", ["underscore in PrintableString", "of indefinite length"])
async def test_an_odd_certificate_is_registered_just_in_time(world: World, kind: str) -> None:
    made = root()
    ca = await take(world, made, **AUTO)
    der = under(made, subject=odd.NAMES[kind], rest=odd.extensions(odd.dns_names(b"a"), odd.dns_names(b"b")))
    gateway = Gateway(world)
    registration = await gateway.connect_der(der)
    assert registration is not None
    assert (registration.status, registration.ca) == (Status.PENDING_ACTIVATION, ca)


async def test_a_weak_digest_is_named_by_each_operation(world: World) -> None:
    made = root()
    await take(world, made, **AUTO)
    weak = under(made, algorithm=odd.ECDSA_SHA1)
    refused: list[tuple[type[Exception], Callable[[], Awaitable[Any]]]] = [
        (InvalidCertificate, lambda: register(world, pem(weak))),
        (Disallowed, lambda: Gateway(world).connect_der(weak)),
        (InvalidCertificate, lambda: prove_with(world, weak)),
        (
            InvalidSigningRequest,
            lambda: world.aws(
                "CreateCertificateFromCsr", certificateSigningRequest=csr(odd.request(algorithm=odd.ECDSA_SHA1))
            ),
        ),
    ]
    for error, call in refused:
        with pytest.raises(error) as caught:
            await call()
        assert SHA_1 in str(caught.value)
    assert await world.count("registrations") == 0
    # A certificate that is only compared byte for byte may have any signature.
    await world.certificate(pem=pem(weak))


async def prove_with(world: World, verification: bytes) -> None:
    made = new_issuer("Another Root", vectors.ec_key(), now=vectors.NOW)
    await world.aws("RegisterCACertificate", caCertificate=made.pem, verificationCertificate=pem(verification))


@pytest.mark.parametrize(
    "spelled",
    [
        [(odd.ORGANIZATION, odd.UTF8, b"Thingmint"), (odd.COMMON_NAME, odd.UTF8, b"Thingmint Test CA")],
        [(odd.ORGANIZATION, odd.PRINTABLE, b"THINGMINT"), (odd.COMMON_NAME, odd.PRINTABLE, b" thingmint  test ca ")],
    ],
)
async def test_requests_with_the_name_of_our_own_ca_are_refused(
    world: World, spelled: list[tuple[str, int, bytes]]
) -> None:
    subject = odd.name(*(odd.attribute(*each) for each in spelled))
    with pytest.raises(InvalidSigningRequest) as refused:
        await world.aws("CreateCertificateFromCsr", certificateSigningRequest=csr(odd.request(subject)))
    assert refused.value.reason == "has a subject that is the name of one of this server's own certificate authorities"


async def test_requests_with_the_key_of_our_own_ca_are_refused(world: World) -> None:
    request = odd.request(key=vectors.ca_key())
    with pytest.raises(InvalidSigningRequest) as refused:
        await world.aws("CreateCertificateFromCsr", certificateSigningRequest=csr(request))
    assert refused.value.reason == "has the key of one of this server's own certificate authorities"


async def audited(world: World, body: Callable[[Transaction], Awaitable[Any]]) -> str | None:
    """Return the reason in the audit record of a change why devices cannot connect."""
    context = RequestContext(api="yandex", operation="AddIt", now=world.clock())
    await AuditedStore(world.store, world.clock).of(context, Outcome()).write(body)
    ((record,),) = await world.rows("SELECT record FROM audit_records WHERE record LIKE '%AddIt%'")
    reason: str | None = json.loads(record).get("cannot_connect")
    return reason


@pytest.mark.parametrize(
    ("text", "weak_keys", "reason"),
    [
        (pem(odd.certificate()), False, None),
        (pem(odd.certificate(subject=odd.NAMES["underscore in PrintableString"])), False, None),
        (
            certificate(rsa_spki(1536)),
            False,
            "it has an RSA key of 1536 bits; the account's setting weak_keys would allow it",
        ),
        (certificate(rsa_spki(1536)), True, None),
        (certificate(rsa_spki(512)), True, "it has an RSA key of 512 bits, which can be broken easily"),
        (
            pem(odd.certificate(vectors.ec_key("secp256k1"))),
            False,
            "it has an EC key on secp256k1, which TLS does not offer",
        ),
        (
            pem(WITHOUT_SECONDS),
            False,
            "this server's TLS library cannot read it; a TLS proxy in front of the server may",
        ),
    ],
)
async def test_the_audit_record_says_why_a_bound_certificate_cannot_connect(
    world: World, text: str, weak_keys: bool, reason: str | None
) -> None:
    device, change = await world.device(await world.registry()), world.change()
    if weak_keys:
        await world.write(lambda tx: keep_setting(tx, OURS.account, "weak_keys", "true"))
    submitted = parse_submitted(change, text, "pem")

    async def body(tx: Transaction) -> None:
        await bind(tx, change, await DEVICES.get(tx, OURS.account, device), submitted)

    assert await audited(world, body) == reason


async def test_the_audit_record_says_why_a_registered_certificate_cannot_connect(world: World) -> None:
    change = world.change()
    new = prepare_own(change, pem(WITHOUT_SECONDS), Status.ACTIVE, "pem")
    reason = await audited(world, lambda tx: register_new(tx, change, new, Status.ACTIVE))
    assert reason is not None
    assert reason.startswith("this server's TLS library cannot read it")


async def register_thing(world: World, **properties: str) -> Any:
    return await provision(world, {"certificate": {"Type": "AWS::IoT::Certificate", "Properties": properties}})


async def test_templates_accept_odd_certificates_too(world: World) -> None:
    await register_thing(world, CertificateSigningRequest=csr(REQUESTS["no attributes"]))
    await register_thing(world, CertificatePem=pem(CERTIFICATES["subject: underscore in PrintableString"]))
    # Without a CA, any signature is accepted.
    await register_thing(world, CertificatePem=pem(odd.certificate(algorithm=odd.ECDSA_SHA1)))
    made = root()
    await take(world, made)
    for properties in (
        {"CertificateSigningRequest": csr(odd.request(algorithm=odd.ECDSA_SHA1))},
        {"CertificatePem": pem(under(made, algorithm=odd.ECDSA_SHA1)), "CACertificatePem": made.pem},
    ):
        with pytest.raises(ProvisioningFailed) as failed:
            await register_thing(world, **properties)
        assert SHA_1 in failed.value.reason
