"""Key pairs that the server makes, and policies for public keys."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, padding, rsa, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from tests.unit import vectors
from thingmint.domain.keys import CSR_KEYS, OWN_KEYS, KeyPolicy, generate_key_pair, throw_away_key

WITH_ED25519 = KeyPolicy(rsa_min=2048, rsa_max=2048, curves=frozenset(), ed25519=True)
OTHER_TYPE = "a key of a type that is not accepted; use RSA or ECDSA"
OTHER_TYPE_OR_ED25519 = "a key of a type that is not accepted; use RSA, ECDSA or Ed25519"


def test_key_pairs_are_rsa_2048_in_pem() -> None:
    pair = generate_key_pair()
    private = load_pem_private_key(pair.private_pem.encode(), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    assert (private.key_size, private.public_key().public_numbers().e) == (2048, 65537)
    assert pair.private_pem.startswith("-----BEGIN RSA PRIVATE KEY-----\n")  # PKCS#1
    assert pair.public_pem.startswith("-----BEGIN PUBLIC KEY-----\n")
    assert load_pem_public_key(pair.public_pem.encode()) == private.public_key() == pair.public_key
    signature = private.sign(b"message", padding.PKCS1v15(), SHA256())
    pair.public_key.verify(signature, b"message", padding.PKCS1v15(), SHA256())


def test_key_pairs_differ() -> None:
    assert generate_key_pair().private_pem != generate_key_pair().private_pem


def test_the_repr_of_a_key_pair_shows_no_key() -> None:
    pair = vectors.cheap_key_pair()
    assert repr(pair) == str(pair) == f"{pair}" == "<KeyPair>"
    assert f"{[pair]} {(pair,)!r}" == "[<KeyPair>] (<KeyPair>,)"


@pytest.mark.parametrize("curve", ["secp256r1", "secp384r1"])
def test_a_throw_away_key_on_a_curve_signs(curve: str) -> None:
    key = vectors.ec_key(curve)
    throw_away = throw_away_key(key)
    assert isinstance(throw_away, ec.EllipticCurvePrivateKey)
    assert throw_away is throw_away_key(key)
    assert throw_away.curve.name == curve
    assert throw_away.public_key() != key.public_key()
    signature = throw_away.sign(b"message", ec.ECDSA(SHA256()))
    throw_away.public_key().verify(signature, b"message", ec.ECDSA(SHA256()))


def test_a_throw_away_rsa_key_has_one_signature() -> None:
    key = vectors.rsa_key()
    throw_away = throw_away_key(key)
    assert isinstance(throw_away, rsa.RSAPrivateKey)
    assert throw_away is throw_away_key(key) is copy.copy(throw_away) is copy.deepcopy(throw_away)
    assert throw_away.key_size == key.key_size
    assert throw_away.public_key() != key.public_key()
    signature = throw_away.sign(b"message", padding.PKCS1v15(), SHA256())
    assert signature == throw_away.sign(b"another", padding.PKCS1v15(), SHA256())
    throw_away.public_key().verify(signature, b"", padding.PKCS1v15(), SHA256())
    with pytest.raises(NotImplementedError):
        throw_away.private_numbers()


@pytest.mark.parametrize(
    ("policy", "key", "violation"),
    [
        (CSR_KEYS, vectors.huge_rsa_public_key(2048), None),
        (CSR_KEYS, vectors.huge_rsa_public_key(3072), None),
        (CSR_KEYS, vectors.huge_rsa_public_key(4096), None),
        (
            CSR_KEYS,
            vectors.huge_rsa_public_key(2047),
            "an RSA key of 2047 bits; 2048 to 4096 are accepted",
        ),
        (
            CSR_KEYS,
            vectors.huge_rsa_public_key(4097),
            "an RSA key of 4097 bits; 2048 to 4096 are accepted",
        ),
        (OWN_KEYS, vectors.huge_rsa_public_key(4097), None),
        (
            OWN_KEYS,
            vectors.huge_rsa_public_key(8193),
            "an RSA key of 8193 bits; 2048 to 8192 are accepted",
        ),
        (CSR_KEYS, vectors.ec_key("secp256r1").public_key(), None),
        (CSR_KEYS, vectors.ec_key("secp521r1").public_key(), None),
        (
            CSR_KEYS,
            vectors.ec_key("secp256k1").public_key(),
            "an EC key on another curve than secp256r1, secp384r1, secp521r1",
        ),
        (CSR_KEYS, vectors.ed25519_key().public_key(), OTHER_TYPE),
        (WITH_ED25519, vectors.ed25519_key().public_key(), None),
        (
            WITH_ED25519,
            ed448.Ed448PrivateKey.generate().public_key(),
            OTHER_TYPE_OR_ED25519,
        ),
        (OWN_KEYS, x25519.X25519PrivateKey.generate().public_key(), OTHER_TYPE),
        (OWN_KEYS, dsa.generate_private_key(1024).public_key(), OTHER_TYPE),
    ],
)
def test_key_policies_accept_keys_by_type_and_size(policy: KeyPolicy, key: Any, violation: str | None) -> None:
    assert policy.violation(key) == violation
