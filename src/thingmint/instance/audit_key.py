"""The key that signs the audit log: made once, replaced on demand. The server refuses to start if it was lost."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from thingmint.access.audit import AuditedStore
from thingmint.access.audit_chain import append_checkpoint, chain_end, read_checkpoints
from thingmint.access.audit_keys import AuditKeys, key_text, replacement
from thingmint.access.context import Outcome
from thingmint.access.local_admin import local_request
from thingmint.instance.key_files import is_encrypted, load_key
from thingmint.instance.layout import write_private
from thingmint.settings import ConfigError
from thingmint.store import audit as sql
from thingmint.store.audit import STREAMS
from thingmint.store.database import list_instance_keys, replace_instance_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from thingmint.access.audit_chain import Checkpoint
    from thingmint.instance.layout import DataDirectory
    from thingmint.store.engine import Reader, Store, Transaction


_REKEY = "or run thingmint audit rekey, which makes a new key; signatures of the old key stay valid"


def make_audit_key(directory: DataDirectory, passphrase: bytes | None) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    write_private(directory.audit_public_key, _public_pem(key))
    _write_key(directory, key, passphrase)
    return key


async def check_audit_key(store: Reader, directory: DataDirectory) -> None:
    """Raises ConfigError if the key was lost. An instance of a version without audit keys has signed nothing."""
    if directory.audit_key.exists() or not await _has_signed(store, directory):
        return
    lost = f"{directory.audit_key}, the key that signs the audit log, is missing: restore it from a backup"
    raise ConfigError("data-dir", f"{lost}, {_REKEY}")


async def _has_signed(store: Reader, directory: DataDirectory) -> bool:
    if directory.audit_public_key.exists() or directory.audit_checkpoints.exists():
        return True
    if "audit" in await store.read(list_instance_keys):
        return True
    found = [await store.read(partial(sql.last_checkpoint, stream=stream)) for stream in STREAMS]
    return any(found)


def read_audit_key(directory: DataDirectory, passphrase: Callable[[], bytes | None]) -> Ed25519PrivateKey:
    """The key. Writes the file of its public half if that is missing. Raises ConfigError."""
    path, public = directory.audit_key, directory.audit_public_key
    key = _load_key(directory, passphrase)
    if not public.exists():
        write_private(public, _public_pem(key))
    elif _public_key(directory) != key.public_key():
        raise ConfigError(
            "data-dir", f"{path} is not the key of {public}: restore the one that belongs to it, {_REKEY}"
        )
    return key


def read_audit_keys(directory: DataDirectory) -> AuditKeys:
    """The public keys that verify the audit log's signatures. Raises ConfigError."""
    try:
        return AuditKeys.read(_public_key(directory), directory.audit_key_changes)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(directory.audit_key_changes, error) from None


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> ConfigError:
    why = error.strerror if isinstance(error, OSError) else "it is not text"
    return ConfigError("data-dir", f"{path} cannot be read: {why}: restore it from a backup")


async def rekey(
    store: Store, directory: DataDirectory, passphrase: Callable[[], bytes | None], now: datetime
) -> tuple[Ed25519PublicKey, bool]:
    """Replaces the key. Returns the new one, and True if the old one signed the replacement.

    Raises ConfigError, and Tampering if the end of a chain or a checkpoint is not readable. After an interruption the
    old or the new key is in use, or the two key files do not match and the next start refuses them. In each case it can
    run again.
    """
    former = _public_key(directory)
    read_audit_keys(directory)  # fails if the statements of earlier replacements cannot be read
    former_key = _former_key(directory, passphrase) if directory.audit_key.exists() else None
    if former_key is not None and former_key.public_key() != former:
        former_key = None
    load_key(directory.ca_key, passphrase)  # fails if the passphrase is wrong
    secret = passphrase() if is_encrypted(directory) else None
    new = Ed25519PrivateKey.generate()
    statement = replacement(new, former, former_key, await _signed_through(store, directory), now)
    try:
        append_checkpoint(directory.audit_key_changes, statement)
        _write_key(directory, new, secret)
        write_private(directory.audit_public_key, _public_pem(new))
    except OSError as error:
        why = f"{error.strerror}: mend that, and run thingmint audit rekey again"
        raise ConfigError("data-dir", f"{directory.root} cannot be written: {why}") from None
    await _record(store, former, new.public_key(), now, signed=former_key is not None)
    return new.public_key(), former_key is not None


async def _signed_through(store: Reader, directory: DataDirectory) -> dict[str, int]:
    """For each stream, the last record for which the former key may have signed a checkpoint.

    Raises ConfigError and Tampering.
    """
    through = {}
    for stream in STREAMS:
        end = await store.read(partial(chain_end, stream=stream))
        through[stream.name] = end[0] if end is not None else 0
    for checkpoint in kept_checkpoints(directory):
        through[checkpoint.stream] = max(checkpoint.sequence, through.get(checkpoint.stream, 0))
    return through


def kept_checkpoints(directory: DataDirectory) -> list[Checkpoint]:
    """The checkpoints of the directory's file, which may be missing. Raises ConfigError and Tampering."""
    path = directory.audit_checkpoints
    try:
        return list(read_checkpoints(path)) if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


async def _record(
    store: Store, former: Ed25519PublicKey, new: Ed25519PublicKey, now: datetime, *, signed: bool
) -> None:
    details = {"former": key_text(former), "key": key_text(new), "signed_by_former": signed}
    outcome = Outcome(details=details)
    digest = hashlib.sha256(_public_pem(new)).hexdigest()

    async def body(tx: Transaction) -> None:
        await replace_instance_key(tx, "audit", digest)

    await AuditedStore(store, lambda: now).of(local_request("ReplaceAuditKey", now), outcome).write(body)


def _former_key(directory: DataDirectory, passphrase: Callable[[], bytes | None]) -> Ed25519PrivateKey:
    """The key that is to be replaced. Raises ConfigError."""
    try:
        return _load_key(directory, passphrase)
    except ConfigError as error:
        if error.setting != "data-dir":
            raise
        reason = str(error).removeprefix("data-dir: ")
        advice = "restore it from a backup, or move it away and run this again, if the key is lost"
        raise ConfigError("data-dir", f"{reason}: {advice}") from None


def _load_key(directory: DataDirectory, passphrase: Callable[[], bytes | None]) -> Ed25519PrivateKey:
    path = directory.audit_key
    key = load_key(path, passphrase)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("data-dir", f"{path} is not an Ed25519 key")
    return key


def _public_key(directory: DataDirectory) -> Ed25519PublicKey:
    path = directory.audit_public_key
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        why = f"{error.strerror}: restore it from a backup, because only this key verifies the signatures"
        raise ConfigError("data-dir", f"{path} cannot be read: {why}") from None
    except ValueError:
        raise ConfigError("data-dir", f"{path} does not hold a public key: restore it from a backup") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError("data-dir", f"{path} is not an Ed25519 key: restore it from a backup")
    return key


def _write_key(directory: DataDirectory, key: Ed25519PrivateKey, passphrase: bytes | None) -> None:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    write_private(directory.audit_key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


def _public_pem(key: Ed25519PrivateKey | Ed25519PublicKey) -> bytes:
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
