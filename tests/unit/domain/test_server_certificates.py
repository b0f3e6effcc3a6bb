"""Which server certificates are usable, and which of them a client gets."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests import issuers
from tests.unit import vectors
from thingmint.domain.errors import Invalid
from thingmint.domain.server_certificates import (
    TLS_LISTENERS,
    PlacedCertificate,
    ServerCertificate,
    choose_shown,
    read_server_certificate,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.issuers import Issuer

NOW = vectors.NOW
DAY = timedelta(days=1)
CA = x509.BasicConstraints(ca=True, path_length=None)
KEY = vectors.ec_key()


def intermediate(issuer: Issuer, name: str, key: Any = None, **facts: Any) -> Issuer:
    key = key or vectors.ec_key("secp384r1")
    return issuers.Issuer(key, issuer.sign(name, key, extensions=(CA,), **facts), NOW)


ROOT = issuers.new_issuer("Root", vectors.ca_key(), now=NOW)
MIDDLE = intermediate(ROOT, "Middle")


def names(*hosts: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])


def signed(*hosts: str, issuer: Issuer = MIDDLE, key: Any = KEY, more: Sequence[Any] = (), **facts: Any) -> str:
    """The PEM of a server certificate."""
    return issuers.pem(issuer.sign(hosts[0], key, extensions=(names(*hosts), *more), **facts))


def key_pem(key: Any = KEY, password: bytes | None = None, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    pem: bytes = key.private_bytes(Encoding.PEM, form, encryption)
    return pem


def read(*chain: str, key: bytes | None = None) -> ServerCertificate:
    return read_server_certificate("".join(chain).encode(), key_pem() if key is None else key, NOW)


@pytest.mark.parametrize(
    "chain",
    [
        [signed("localhost", issuer=ROOT)],
        [signed("localhost", issuer=ROOT), ROOT.pem],
        [signed("localhost"), MIDDLE.pem],
        [signed("localhost"), MIDDLE.pem, ROOT.pem],
        ["Bag Attributes\n", signed("localhost"), "\n# issuer\n", MIDDLE.pem],
        [signed("localhost", issuer=ROOT, more=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])])],
        [signed("localhost", issuer=ROOT, more=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])])],
        [signed("localhost", issuer=ROOT, more=[issuers.key_usage(signs=False)])],
    ],
)
def test_usable_chains(chain: list[str]) -> None:
    found = read(*chain)
    assert found.certificate.public_key() == KEY.public_key()
    assert found.chain_pem.count(b"BEGIN CERTIFICATE") == sum("BEGIN CERTIFICATE" in each for each in chain)
    assert found.names == ("localhost",)
    assert "PrivateKey" not in repr(found)


def test_a_self_signed_certificate_is_usable() -> None:
    """As `openssl req -x509` makes it: it is its own root."""
    alone = issuers.new_issuer("localhost", KEY, now=NOW, extensions=(CA, names("localhost")))
    assert read(alone.pem).root == "CN=localhost"


def test_files_as_other_programs_write_them() -> None:
    chain = signed("localhost", issuer=ROOT)
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    for key in (parameters + key_pem(form=PrivateFormat.TraditionalOpenSSL), key_pem().replace(b"\n", b"\r\n")):
        assert read(chain.replace("\n", "\r\n"), key=key).names == ("localhost",)
        assert read(f"\ufeff{chain}", key=b"\xef\xbb\xbf" + key).names == ("localhost",)
    for encoding in ("utf-16", "utf-32"):
        with pytest.raises(Invalid, match="has no certificates in PEM"):
            read_server_certificate(chain.encode(encoding), key_pem(), NOW)


@pytest.mark.parametrize("kind", ["rsa", "secp256r1", "secp384r1", "secp521r1"])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_usable_keys(kind: str, form: PrivateFormat) -> None:
    key: Any = vectors.rsa_key() if kind == "rsa" else vectors.ec_key(kind)
    chain = signed("localhost", issuer=ROOT, key=key)
    pem = key_pem(key, form=form)
    for content in (pem, b"# the key\n" + pem, chain.encode() + pem, pem + chain.encode()):
        found = read(chain, key=content)
        assert found.key_type == ("RSA" if kind == "rsa" else "EC")
        assert found.key.private_numbers() == key.private_numbers()


EXPIRED = intermediate(ROOT, "Expired CA", ends=NOW - DAY)
WEAK = intermediate(ROOT, "Weak CA", vectors.rsa_key(1024))
ENCIPHERMENT = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=True,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
NO_CA = issuers.Issuer(KEY, ROOT.sign("No CA", KEY), NOW)


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ([""], "certificate has no certificates in PEM, or one that cannot be read"),
        (["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"], "certificate has no certificates in PEM"),
        ([signed("localhost"), ROOT.pem], "number 2 (Root) did not sign the one before (localhost): put the server's"),
        ([signed("localhost"), ROOT.pem, MIDDLE.pem], "number 2 (Root) did not sign the one before (localhost)"),
        ([signed("localhost"), MIDDLE.pem, MIDDLE.pem], "number 3 (Middle) did not sign the one before (Middle)"),
        ([MIDDLE.pem, signed("localhost")], "begins with a CA certificate; the server's own certificate must be the"),
        ([signed("localhost", issuer=NO_CA), NO_CA.pem], "number 2 (No CA) is no CA certificate"),
        ([signed("localhost", ends=NOW - timedelta(seconds=1)), MIDDLE.pem], "certificate expired on 2026-11-21 11:59"),
        ([signed("localhost", begins=NOW + DAY), MIDDLE.pem], "certificate is not valid before 2026-11-22 12:00 UTC"),
        ([signed("localhost", issuer=EXPIRED), EXPIRED.pem], "expired on 2026-11-20 12:00 UTC (Expired CA); renew it"),
        (
            [signed("localhost", issuer=WEAK), WEAK.pem],
            "an RSA key of 1024 bits; 2048 to 8192 are accepted (Weak CA)",
        ),
        (
            [signed("localhost", more=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])]), MIDDLE.pem],
            "is not a server's certificate: its extended key usage is without serverAuth",
        ),
        ([signed("localhost", more=[ENCIPHERMENT]), MIDDLE.pem], "its key usage is without digitalSignature"),
    ],
)
def test_unusable_chains(chain: list[str], message: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(*chain)
    assert message in str(caught.value)
    assert caught.value.field == "certificate"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (b"", "key has no private key in PEM"),
        (signed("localhost").encode(), "key has no private key in PEM"),
        (key_pem(password=b"secret"), "key is encrypted with a passphrase, which is not supported; openssl pkey -in"),
        (
            key_pem(password=b"secret", form=PrivateFormat.TraditionalOpenSSL),
            "key is encrypted with a passphrase, which is not supported",
        ),
        (
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "a private key that cannot be read",
        ),
        (key_pem(vectors.ed25519_key()), "key has a key that is neither RSA nor ECDSA"),
        (key_pem(vectors.ca_key()), "key is not the key of the certificate for localhost"),
        (key_pem(vectors.rsa_key()), "key is not the key of the certificate for localhost"),
        (key_pem(vectors.ec_key("secp384r1")), "key is not the key of the certificate for localhost"),
    ],
)
def test_unusable_keys(key: bytes, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(signed("localhost", issuer=ROOT), key=key)
    assert message in str(caught.value)
    assert caught.value.field == "key"


def test_weak_keys_and_unknown_curves_are_refused() -> None:
    for key, message in [
        (vectors.rsa_key(1024), "has an RSA key of 1024 bits; 2048 to 8192 are accepted (localhost)"),
        (
            vectors.ec_key("secp256k1"),
            "an EC key on another curve than secp256r1, secp384r1, secp521r1 (localhost)",
        ),
    ]:
        with pytest.raises(Invalid) as caught:
            read(signed("localhost", issuer=ROOT, key=key), key=key_pem(key))
        assert message in str(caught.value)


def test_a_root_at_the_end_may_be_old() -> None:
    """Clients have roots of their own, and check neither the dates nor the signature of one that is sent."""
    old = issuers.new_issuer("Old Root", vectors.ca_key(), now=NOW, begins=NOW - 9 * DAY, ends=NOW - DAY)
    found = read(signed("localhost", issuer=old), old.pem)
    assert found.root == "CN=Old Root"
    assert found.not_after == found.certificate.not_valid_after_utc


def test_the_first_end_of_the_chain_counts() -> None:
    soon = intermediate(ROOT, "Soon", ends=NOW + 5 * DAY)
    assert read(signed("localhost", issuer=soon), soon.pem).not_after == soon.certificate.not_valid_after_utc
    assert read(signed("localhost", ends=NOW + DAY), MIDDLE.pem).not_after == (NOW + DAY).replace(microsecond=0)


def test_the_root_is_named_even_if_it_is_not_sent() -> None:
    for chain in ([signed("localhost"), MIDDLE.pem], [signed("localhost"), MIDDLE.pem, ROOT.pem]):
        assert read(*chain).root == "CN=Root"


def test_names() -> None:
    alternatives = [x509.DNSName("Iot.Example.org"), x509.DNSName("*.devices.example.org")]
    addresses = [x509.IPAddress(ip_address(each)) for each in ("192.0.2.1", "2001:db8::1")]
    san = x509.SubjectAlternativeName([*alternatives, *addresses])
    found = read(issuers.pem(ROOT.sign("other.example.org", KEY, extensions=(san,))))
    assert found.names == ("Iot.Example.org", "*.devices.example.org", "192.0.2.1", "2001:db8::1")
    for name in ("iot.example.org", "a.devices.example.org", "*.devices.example.org", "192.0.2.1", "2001:DB8:0::1"):
        assert found.covers(name), name
    for name in ("other.example.org", "devices.example.org", "a.b.devices.example.org", "192.0.2.2", "example.org"):
        assert not found.covers(name), name


def test_a_common_name_is_no_host_name() -> None:
    found = read(issuers.pem(ROOT.sign("localhost", KEY)))
    assert (found.names, found.covers("localhost")) == ((), False)


class Places:
    """Certificates at places. Each is known by its setting."""

    def __init__(self, *placed: PlacedCertificate, hostnames: Sequence[str] = ()) -> None:
        self.placed = placed
        self.hostnames = hostnames
        self.own = (certificate("own"), certificate("own", vectors.rsa_key()))
        self.known = {id(each.certificate): each.setting for each in placed}

    def at(self, listener: Any, name: str | None) -> str:
        """The settings of the certificates that a client gets."""
        shown = choose_shown(self.placed, listener, self.own, self.hostnames).of(name)
        return "own" if shown is self.own else " ".join(self.known[id(each)] for each in shown)


def certificate(host: str, key: Any = KEY) -> ServerCertificate:
    return ServerCertificate(ROOT.sign(host, key, extensions=(names(host),)), key)


def placed(setting: str, *shown_names: str, on: Any = TLS_LISTENERS, covers: str = "a.test", key: Any = KEY) -> Any:
    return PlacedCertificate(setting, certificate(covers, key), frozenset(on), shown_names)


@pytest.mark.parametrize(
    ("listener", "name", "expected"),
    [
        ("api", None, "all"),
        ("api", "unknown.test", "all"),
        ("mqtt", None, "mqtt"),
        ("mqtt", "unknown.test", "mqtt"),
        ("api", "named.test", "named"),
        ("mqtt", "named.test", "named-mqtt"),
        ("grpc", "x.wild.test", "wild"),
        ("grpc", "named.wild.test", "exact"),
        ("grpc", "x.y.wild.test", "all"),
        ("grpc", "wild.test", "all"),
        ("api", "a.test", "all"),
        ("api", "mine.test", "own"),
        ("api", "mine.wild.test", "wild"),
        ("api", "x.mine.test", "own"),
        ("api", "127.0.0.1", "all"),
    ],
)
def test_the_closest_place_is_chosen(listener: str, name: str | None, expected: str) -> None:
    places = Places(
        placed("all"),
        placed("mqtt", on=["mqtt"]),
        placed("named", "named.test"),
        placed("named-mqtt", "named.test", on=["mqtt"]),
        placed("wild", "*.wild.test"),
        placed("exact", "named.wild.test"),
        hostnames=["Mine.test", "*.mine.test", "mine.wild.test", "a.test", "named.test", "127.0.0.1"],
    )
    assert places.at(listener, name) == expected


def test_without_a_default_the_instances_own_certificate_is_shown() -> None:
    places = Places(placed("named", "named.test", on=["api"]), hostnames=["localhost"])
    assert [places.at(each, "named.test") for each in TLS_LISTENERS] == ["named", "own", "own"]
    assert [places.at(each, "localhost") for each in TLS_LISTENERS] == ["own"] * 3
    assert not choose_shown([], "mqtt", places.own, ["localhost"]).by_name


def test_one_certificate_of_each_type_of_key() -> None:
    rsa = placed("rsa", key=vectors.rsa_key())
    assert Places(rsa, placed("ec")).at("api", None) == "ec rsa"
    with pytest.raises(Invalid) as caught:
        Places(rsa, placed("one"), placed("two")).at("api", None)
    assert str(caught.value) == "two and one are both on api, and both have EC keys"
    with pytest.raises(Invalid, match=r"two and one are both for x\.test on api, and both have EC keys"):
        Places(placed("one", "x.test"), placed("two", "y.test", "x.test")).at("api", None)
