"""Sealed secrets open only with the same master key and for the same owner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thingmint.access.vault import MASTER_KEY_BYTES, Vault, VaultError

VAULT = Vault(b"m" * MASTER_KEY_BYTES)
SEALED = VAULT.seal("a secret", "AKIAEXAMPLE")


@given(st.text(), st.text(alphabet=st.characters(codec="utf-8")))
def test_a_sealed_secret_opens_again(secret: str, owner: str) -> None:
    secret = secret.encode("utf-8", "replace").decode()
    sealed = VAULT.seal(secret, owner)
    assert VAULT.open(sealed, owner) == secret
    assert VAULT.seal(secret, owner) != sealed
    assert Vault(b"m" * MASTER_KEY_BYTES).open(sealed, owner) == secret


def test_a_sealed_secret_does_not_contain_the_secret() -> None:
    assert b"secret" not in SEALED


@pytest.mark.parametrize(
    ("vault", "sealed", "owner"),
    [
        (Vault(b"M" * MASTER_KEY_BYTES), SEALED, "AKIAEXAMPLE"),
        (VAULT, SEALED, "AKIAEXAMPLF"),
        (VAULT, SEALED[:-1], "AKIAEXAMPLE"),
        (VAULT, SEALED + b"\0", "AKIAEXAMPLE"),
        (VAULT, SEALED[1:] + SEALED[:1], "AKIAEXAMPLE"),
        (VAULT, bytes([SEALED[0] ^ 1]) + SEALED[1:], "AKIAEXAMPLE"),
        (VAULT, SEALED[:-1] + bytes([SEALED[-1] ^ 1]), "AKIAEXAMPLE"),
        (VAULT, SEALED[:12], "AKIAEXAMPLE"),
        (VAULT, SEALED[:3], "AKIAEXAMPLE"),
        (VAULT, b"", "AKIAEXAMPLE"),
    ],
)
def test_other_keys_owners_and_bytes_do_not_open(vault: Vault, sealed: bytes, owner: str) -> None:
    with pytest.raises(VaultError) as refused:
        vault.open(sealed, owner)
    assert str(refused.value) == f"the secret of {owner} does not open with this master key"


@pytest.mark.parametrize("size", [0, 16, MASTER_KEY_BYTES - 1, MASTER_KEY_BYTES + 1])
def test_a_master_key_must_have_32_bytes(size: int) -> None:
    with pytest.raises(VaultError, match="must be 32 bytes"):
        Vault(b"m" * size)


def test_each_purpose_has_its_own_key() -> None:
    keys = {VAULT.derive("markers"), VAULT.derive("sealing"), Vault(b"M" * 32).derive("markers"), b"m" * 32}
    assert len(keys) == 4
    assert {len(key) for key in keys} == {32}
    assert VAULT.derive("markers") == VAULT.derive("markers")
