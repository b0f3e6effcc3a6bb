"""The master key, the secrets that it seals, and the keys that are derived from it."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MASTER_KEY_BYTES = 32
_NONCE_BYTES = 12


class VaultError(Exception):
    """A sealed secret does not open: it was sealed under another master key, or was altered."""


class Vault:
    """Seals recoverable secrets (AES-256-GCM), and derives keys for other purposes (HKDF, RFC 5869)."""

    def __init__(self, master_key: bytes, *former_keys: bytes) -> None:
        """During a rotation, ``former_keys`` still open the secrets that they sealed."""
        for key in (master_key, *former_keys):
            if len(key) != MASTER_KEY_BYTES:
                raise VaultError(f"a master key must be {MASTER_KEY_BYTES} bytes")
        self._master_key = master_key
        self._sealing = [AESGCM(_derive(key, "sealing")) for key in (master_key, *former_keys)]

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for that purpose only."""
        return _derive(self._master_key, purpose)

    def seal(self, secret: str, owner: str) -> bytes:
        """``owner`` names what the secret belongs to: sealed for one owner, it does not open for another."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._sealing[0].encrypt(nonce, secret.encode(), owner.encode())

    def open(self, sealed: bytes, owner: str) -> str:
        for sealing in self._sealing:
            try:
                return sealing.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], owner.encode()).decode()
            except (InvalidTag, ValueError):
                continue
        raise VaultError(f"the secret of {owner} does not open with this master key")


def _derive(master_key: bytes, purpose: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=f"thingmint {purpose}".encode()).derive(master_key)
