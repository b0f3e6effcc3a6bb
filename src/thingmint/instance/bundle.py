"""An instance's keys in one encrypted file, to copy them to another host that serves the same database."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from thingmint.instance.create import move_into_place, new_directory
from thingmint.instance.layout import write_private
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.instance.layout import DataDirectory

# This format has a key from the passphrase by scrypt (RFC 7914), and the files encrypted with AES-256-GCM.
_FORM = b"thingmint-bundle-1\n"
_SALT_BYTES = 16
_NONCE_BYTES = 12
_MAX_BYTES = 1024 * 1024

_REQUIRED = ("ca.key", "ca.pem", "device-ca.key", "device-ca.pem", "audit.key", "audit.pem")
_OPTIONAL = (
    "audit-keys.jsonl",
    "master.key",
    "clients/aws.env",
    "clients/yandex.env",
    "clients/yandex-sa.json",
    "clients/token",
)


class BundleError(Exception):
    """The file is not a bundle, or the passphrase does not open it."""


def pack(directory: DataDirectory, passphrase: bytes) -> bytes:
    """The bundle. Keys that are encrypted under the CA passphrase stay so. Raises ConfigError if a key is missing."""
    files = {}
    for name in (*_REQUIRED, *_OPTIONAL):
        path = directory.root / name
        if path.exists():
            files[name] = base64.b64encode(path.read_bytes()).decode()
        elif name in _REQUIRED:
            raise ConfigError("data-dir", f"{path} is missing")
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    return _FORM + salt + nonce + _cipher(passphrase, salt).encrypt(nonce, orjson.dumps(files), _FORM)


def unpack(bundle: bytes, passphrase: bytes) -> dict[str, bytes]:
    """The bundle's files by their paths in a data directory. Raises BundleError."""
    if not bundle.startswith(_FORM) or len(bundle) > _MAX_BYTES:
        raise BundleError("is not a bundle of this version")
    salt, nonce, sealed = _cut(bundle[len(_FORM) :], _SALT_BYTES, _NONCE_BYTES)
    try:
        files = orjson.loads(_cipher(passphrase, salt).decrypt(nonce, sealed, _FORM))
    except (InvalidTag, ValueError):
        raise BundleError("was altered, or the passphrase is wrong") from None
    return {name: base64.b64decode(content) for name, content in files.items() if name in (*_REQUIRED, *_OPTIONAL)}


def join(directory: DataDirectory, files: dict[str, bytes]) -> None:
    """Makes a data directory from another host's keys. The directory is empty and locked. Raises ConfigError."""
    new = new_directory(directory)
    new.clients.mkdir(mode=0o700)
    for name, content in files.items():
        write_private(new.root / name, content)
    move_into_place(new, directory)


def read_bundle(path: Path) -> bytes:
    """Raises BundleError."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise BundleError(f"cannot be read: {error.strerror}") from None


def _cipher(passphrase: bytes, salt: bytes) -> AESGCM:
    return AESGCM(Scrypt(salt=salt, length=32, n=2**15, r=8, p=1).derive(passphrase))


def _cut(data: bytes, *sizes: int) -> list[bytes]:
    parts = []
    for size in sizes:
        parts.append(data[:size])
        data = data[size:]
    return [*parts, data]
