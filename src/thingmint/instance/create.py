"""Creates an instance, and opens it.

All files are made in D/.new and moved to D when they are complete. So after an interrupted `init`, the next one either
begins again or finishes it.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from thingmint.access.administration import AdminChange
from thingmint.access.administration.accounts import new_account
from thingmint.access.administration.credentials import first_sealed
from thingmint.access.administration.credentials import reseal as reseal_all
from thingmint.access.audit import AuditedStore, AuditLog
from thingmint.access.local_admin import local_request, recorded
from thingmint.access.vault import MASTER_KEY_BYTES, Vault, VaultError
from thingmint.domain.errors import Invalid
from thingmint.domain.issuing_ca import CertificateAuthority, OwnAuthorities, generate_root_key, make_root
from thingmint.domain.keys import generate_authorized_key
from thingmint.domain.names import ACCOUNT_ID, is_region
from thingmint.instance.audit_key import make_audit_key, read_audit_key
from thingmint.instance.clients import write_client_files
from thingmint.instance.key_files import is_encrypted, load_key
from thingmint.instance.layout import DataDirectory, make_private, sync_directory, write_private
from thingmint.services.certificates import utc_now
from thingmint.services.hostnames import add_hostnames, canonical_hostname, list_hostnames
from thingmint.settings import ConfigError
from thingmint.store.copying import UNFINISHED
from thingmint.store.database import Database, DatabaseError, keep_instance_keys, list_instance_keys
from thingmint.store.disk_reserve import DiskReserve
from thingmint.store.integrity import find_damage_quickly

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import KeySerializationEncryption

    from thingmint.domain.certificate_profiles import Profile
    from thingmint.domain.issuing_ca import RootKeyType
    from thingmint.store.engine import Store


_log = structlog.get_logger("thingmint.instance")

DEFAULT_REGION = "us-east-1"

# Files that may be in a directory without an instance.
_HARMLESS = frozenset({".new", "lock", "lost+found", "thingmint.toml"})
_COMPLETE = "complete"


def check_hostname(name: str) -> str:
    """The name in canonical form: an IP address, or a DNS name in lower case. Raises ConfigError."""
    try:
        return canonical_hostname(name)
    except Invalid as error:
        raise ConfigError("hostname", error.reason) from None


def check_region(name: str) -> str:
    """The name. Raises ConfigError unless AWS's SDKs accept it as a region."""
    if not is_region(name):
        raise ConfigError("region", f"{name!r} is not a region's name such as us-east-1")
    return name


def exists(directory: DataDirectory) -> bool:
    """True if the directory has an instance. Finishes an `init` that was interrupted while it moved the files."""
    new = directory.root / ".new"
    if (new / _COMPLETE).exists():
        _move_into_place(new, directory.root)
    elif new.exists():
        shutil.rmtree(new)
    return directory.ca.exists()


def check_account_id(id: str) -> str:
    """The id. Raises ConfigError unless it has the form of AWS's account numbers."""
    if not re.fullmatch(ACCOUNT_ID, id):
        raise ConfigError("account-id", "must be the 12 digits of an account's number")
    return id


async def create(
    directory: DataDirectory,
    *,
    hostnames: Sequence[str],
    regions: Sequence[str],
    root_key: RootKeyType,
    passphrase: bytes | None,
    master_keys: Sequence[bytes] | None,
    now: datetime,
    database: Database | None = None,
    account: str | None = None,
) -> None:
    """Makes an instance in a directory that is empty and locked. Clients are given the first of ``hostnames``.

    ``account`` is the number of the first account; None draws one.

    ``database`` must be empty; None is a file in the directory.
    """
    if hostnames[0].startswith("*"):
        raise ConfigError("hostname", f"{hostnames[0]} cannot come first: clients need a name that they can connect to")
    new = new_directory(directory)
    suffix = secrets.token_hex(4)
    _write_root(new.ca, new.ca_key, f"Thingmint Listener CA {suffix}", root_key, passphrase, now)
    _write_root(new.device_ca, new.device_ca_key, f"Thingmint Device CA {suffix}", root_key, passphrase, now)
    if master_keys is None:
        master_keys = [secrets.token_bytes(MASTER_KEY_BYTES)]
        write_master_keys(new, master_keys)
    make_audit_key(new, passphrase)
    if database is None:
        write_private(new.database, b"")
    store = await _open(database or Database.in_file(new.database))
    try:
        if await store.read(list_hostnames):
            raise ConfigError(
                "store", f"{database} holds an instance already: use its data directory, or another database"
            )
        change, pair = AdminChange(now, Vault(*master_keys)), generate_authorized_key()
        credentials = await store.write(lambda tx: new_account(tx, change, "default", regions, pair, account))
        await store.write(lambda tx: add_hostnames(tx, hostnames))
    finally:
        await store.close()
    write_client_files(new, directory, credentials, regions[0])
    move_into_place(new, directory)


def new_directory(directory: DataDirectory) -> DataDirectory:
    """Makes D/.new, for ``move_into_place``. Raises ConfigError if D has any other files."""
    others = sorted({entry.name for entry in directory.root.iterdir()} - _HARMLESS)
    if others:
        raise ConfigError("data-dir", f"{directory.root} is not empty ({others[0]}) and holds no Thingmint instance")
    directory.root.chmod(0o700)
    new = DataDirectory(directory.root / ".new")
    new.root.mkdir(mode=0o700)
    return new


def move_into_place(new: DataDirectory, directory: DataDirectory) -> None:
    """Moves a complete instance to its directory. If this is interrupted, ``exists`` finishes it."""
    write_private(new.root / _COMPLETE, b"")
    _move_into_place(new.root, directory.root)


def write_master_keys(directory: DataDirectory, keys: Sequence[bytes]) -> None:
    write_private(directory.master_key, "".join(f"{key.hex()}\n" for key in keys).encode())


def read_master_keys(directory: DataDirectory) -> list[bytes]:
    """The master keys, the current one first. Raises ConfigError."""
    try:
        keys = [bytes.fromhex(line) for line in directory.master_key.read_text().split()]
    except (OSError, ValueError) as error:
        raise ConfigError("data-dir", f"{directory.master_key} does not hold a master key: {error}") from None
    if not keys or any(len(key) != MASTER_KEY_BYTES for key in keys):
        raise ConfigError("data-dir", f"{directory.master_key} does not hold a master key: it is incomplete")
    return keys


def _move_into_place(new: Path, root: Path) -> None:
    # ca.pem is moved last, because its presence means that the instance is complete.
    entries = sorted((entry for entry in new.iterdir() if entry.name != _COMPLETE), key=lambda e: e.name == "ca.pem")
    for entry in entries:
        entry.rename(root / entry.name)
    sync_directory(root)
    shutil.rmtree(new)
    sync_directory(root)


def _write_root(
    certificate_path: Path,
    key_path: Path,
    common_name: str,
    root_key: RootKeyType,
    passphrase: bytes | None,
    now: datetime,
) -> None:
    key = generate_root_key(root_key)
    write_private(key_path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, _encryption(passphrase)))
    write_private(certificate_path, make_root(common_name, key, now).public_bytes(Encoding.PEM))


def _encryption(passphrase: bytes | None) -> KeySerializationEncryption:
    return BestAvailableEncryption(passphrase) if passphrase else NoEncryption()


async def reseal(directory: DataDirectory, keys: Sequence[bytes], database: Database | None = None) -> int:
    """Seals every recoverable secret under the first of ``keys``. Returns how many there are. Raises ConfigError."""
    vault, store = Vault(*keys), await open_store(directory, database)
    trail = AuditLog(store, utc_now)
    try:
        context = local_request("RotateMasterKey", utc_now())
        with recorded(context, trail) as outcome:
            await check_master_key(store, vault)
            audited = AuditedStore(store, utc_now).of(context, outcome)
            return await audited.write(lambda tx: reseal_all(tx, vault))
    finally:
        await trail.close()
        await store.close()


async def rotate(directory: DataDirectory, database: Database | None = None) -> int:
    """Seals every recoverable secret under a new master key. Returns how many there are.

    Until all are sealed, the file has both keys. So an interrupted rotation makes no secret unreadable, and can be
    repeated.
    """
    old = read_master_keys(directory)
    new = [secrets.token_bytes(MASTER_KEY_BYTES), *old]
    write_master_keys(directory, new)
    count = await reseal(directory, new, database)
    write_master_keys(directory, new[:1])
    return count


def open_vault(directory: DataDirectory, master_keys: Sequence[bytes] | None) -> Vault:
    try:
        return Vault(*(master_keys or read_master_keys(directory)))
    except (TypeError, VaultError) as error:
        raise ConfigError("master-key", f"is not a master key: {error}") from None


async def check_master_key(store: Store, vault: Vault) -> None:
    """Opens one of the sealed secrets. Raises ConfigError if the key is another instance's."""
    sealed = await store.read(first_sealed)
    try:
        if sealed is not None:
            vault.open(sealed[1], sealed[0])
    except VaultError:
        raise ConfigError(
            "master-key", "does not open the secrets of this data directory: it is another instance's key"
        ) from None


async def open_store(directory: DataDirectory, database: Database | None, reserve: int = 0) -> Store:
    """The store of an instance: ``database``, or with None the file in the directory. Raises ConfigError."""
    kept = DiskReserve(directory.disk_reserve, reserve) if reserve else None
    return await _open(database or Database.in_file(directory.database), kept, directory.database_timelines)


async def _open(database: Database, reserve: DiskReserve | None = None, timelines: Path | None = None) -> Store:
    try:
        return await database.open(reserve, timelines)
    except DatabaseError as error:
        raise ConfigError("data-dir" if database.file else "store", str(error)) from None


async def check_keys(store: Store, directory: DataDirectory, replaced: str = "") -> None:
    """Raises ConfigError unless the store's records were made with the directory's keys.

    A store of a version without this check accepts the first keys. The key named ``replaced``, which is about to be
    replaced, is not checked.
    """
    files = [directory.ca, directory.device_ca, directory.audit_public_key]
    expected = {file.stem: _digest(file) for file in files if file.exists() and file.stem != replaced}
    known = await store.read(list_instance_keys)
    if UNFINISHED in known:
        raise ConfigError("store", "holds an unfinished copy: run thingmint store copy again")
    for name in expected.keys() & known.keys():
        if known[name] != expected[name]:
            reason = f"holds the records of another instance, not of {directory.root}: {name}.pem does not match them"
            raise ConfigError("store", reason)
    if expected.keys() - known.keys():
        await store.write(lambda tx: keep_instance_keys(tx, expected))


def _digest(file: Path) -> str:
    """Raises ConfigError."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError("data-dir", f"{file} cannot be read: {error.strerror}") from None


def _check_file(database: Database) -> None:
    """Raises ConfigError."""
    if database.file is None or not database.file.exists():
        return
    damage, whole = find_damage_quickly(database.file)
    if damage:
        what = f"{database.file} is damaged ({damage[0]}): restore it from a backup"
        raise ConfigError("data-dir", f"{what}; thingmint store check shows more")
    if not whole:
        _log.info("database_checked_in_part", advice="the file is large: thingmint store check reads all of it")


def _check_clock(certificate: x509.Certificate, path: Path) -> None:
    """Raises ConfigError if the clock is outside of the root's validity, which bounds that of issued certificates."""
    now, begin, end = utc_now(), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= now < end:
        valid = f"{path} is valid from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
        raise ConfigError("clock", f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, and {valid}: set the clock")


@dataclass(frozen=True, slots=True, repr=False)
class Instance:
    """An open instance: its store, and the keys in its data directory."""

    directory: DataDirectory
    store: Store
    vault: Vault
    _passphrase: Callable[[], bytes | None]

    @classmethod
    async def open(
        cls,
        directory: DataDirectory,
        passphrase: Callable[[], bytes | None],
        master_keys: Sequence[bytes] | None,
        database: Database | None = None,
        reserve: int = 0,
    ) -> Instance:
        """``passphrase`` is called only if a key is encrypted; ``master_keys`` are given if the directory has none.

        ``reserve`` is the size of the disk reserve, in bytes; a database on another machine needs none.

        Raises ConfigError if a file does not open, or files do not belong together.
        """
        vault = open_vault(directory, master_keys)
        for path in make_private(directory):
            _log.warning("was_open_to_others", path=str(path), advice="now private; find out who may have read it")
        _check_file(database or Database.in_file(directory.database))
        return cls(directory, await open_store(directory, database, reserve), vault, passphrase)

    def listener_authority(self, profile: Profile) -> CertificateAuthority:
        return self._authority(self.directory.ca, self.directory.ca_key, profile)

    def device_authority(self, profile: Profile) -> CertificateAuthority:
        return self._authority(self.directory.device_ca, self.directory.device_ca_key, profile)

    def own_authorities(self) -> OwnAuthorities:
        """All certificates in the roots' files. A root that was replaced may stay there, after its successor."""
        found: list[x509.Certificate] = []
        for path in (self.directory.ca, self.directory.device_ca):
            try:
                found += x509.load_pem_x509_certificates(path.read_bytes())
            except (OSError, ValueError) as error:
                raise ConfigError("data-dir", f"{path} cannot be read: {error}") from None
        return OwnAuthorities(found)

    def audit_key(self) -> Ed25519PrivateKey:
        """The key that signs the audit log. An instance of a version without audit keys gets one now."""
        if not self.directory.audit_key.exists():
            return make_audit_key(self.directory, self._passphrase() if is_encrypted(self.directory) else None)
        return read_audit_key(self.directory, self._passphrase)

    def _authority(self, certificate_path: Path, key_path: Path, profile: Profile) -> CertificateAuthority:
        try:
            certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError("data-dir", f"{certificate_path} cannot be read: {error}") from None
        _check_clock(certificate, certificate_path)
        key = load_key(key_path, self._passphrase)
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ConfigError("data-dir", f"{key_path} holds a key that is neither RSA nor EC")
        if key.public_key() != certificate.public_key():
            raise ConfigError("data-dir", f"{key_path} is not the key of {certificate_path}")
        return CertificateAuthority(certificate, key, profile)
