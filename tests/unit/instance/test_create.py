"""An instance is made once and completely, even after interruptions."""

from __future__ import annotations

import shutil
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from structlog.testing import capture_logs

from tests.unit.vectors import NOW, name, rsa_key
from thingmint.access.administration.credentials import reseal
from thingmint.access.directory import Directory
from thingmint.domain.certificate_profiles import DEVICE
from thingmint.domain.issuing_ca import CertificateRequest
from thingmint.instance import audit_key as audit_key_module
from thingmint.instance import create as create_module
from thingmint.instance.create import Instance, check_hostname, check_region, create, exists
from thingmint.instance.layout import DataDirectory
from thingmint.services.hostnames import DEFAULT_HOSTNAMES, list_hostnames
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def directory(tmp_path: Path) -> DataDirectory:
    made = DataDirectory(tmp_path / "data")
    made.root.mkdir()
    return made


async def make(
    directory: DataDirectory,
    *,
    root_key: Any = "p256",
    passphrase: bytes | None = None,
    master_keys: list[bytes] | None = None,
) -> None:
    """As `thingmint init` does."""
    if not exists(directory):
        making = create(
            directory,
            hostnames=["localhost", "::1"],
            regions=["us-east-1"],
            root_key=root_key,
            passphrase=passphrase,
            master_keys=master_keys,
            now=NOW,
        )
        await making


async def check_whole(directory: DataDirectory) -> None:
    assert exists(directory)
    assert {path.name for path in directory.root.iterdir()} == {
        "ca.pem",
        "ca.key",
        "device-ca.pem",
        "device-ca.key",
        "master.key",
        "audit.key",
        "audit.pem",
        "thingmint.db",
        "clients",
    }
    instance = await Instance.open(directory, lambda: None, None)
    assert await instance.store.read(list_hostnames) == ["localhost", "::1"]
    found = Directory(instance.store, instance.vault, lambda: NOW)
    caller = await found.authenticate_token(directory.token.read_text().strip())
    lines = directory.aws_env.read_text().splitlines()
    env = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    same, secret = await found.find_access_key(env["AWS_ACCESS_KEY_ID"], None)
    assert secret == env["AWS_SECRET_ACCESS_KEY"]
    assert same.account == caller.account
    await instance.store.close()
    request = CertificateRequest(name("x"), rsa_key().public_key())
    for authority in (instance.device_authority(DEVICE), instance.listener_authority(DEVICE)):
        issued = authority.sign(authority.prepare(request, NOW.replace(year=2030)))
        x509.load_der_x509_certificate(issued.der).verify_directly_issued_by(authority.certificate)


class TestCreate:
    async def test_create_makes_every_file(self, directory: DataDirectory) -> None:
        assert not exists(directory)
        await make(directory)
        await check_whole(directory)
        for path in directory.root.rglob("*"):
            expected = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == expected, path
        assert stat.S_IMODE(directory.root.stat().st_mode) == 0o700

    async def test_the_two_roots_are_separate_cas(self, directory: DataDirectory) -> None:
        await make(directory)
        listener, device = (x509.load_pem_x509_certificate(p.read_bytes()) for p in (directory.ca, directory.device_ca))
        assert listener.public_key() != device.public_key()
        assert listener.subject != device.subject
        for root, key in ((listener, directory.ca_key), (device, directory.device_ca_key)):
            assert root.not_valid_after_utc.year > 2049
            root.verify_directly_issued_by(root)
            assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            private_key = load_pem_private_key(key.read_bytes(), None)
            assert isinstance(private_key, ec.EllipticCurvePrivateKey)
            assert private_key.curve.name == "secp256r1"
            assert private_key.public_key() == root.public_key()
            assert key.read_text().startswith("-----BEGIN PRIVATE KEY-----")

    @pytest.mark.parametrize(
        ("root_key", "type"), [("p256", ec.EllipticCurvePrivateKey), ("rsa2048", rsa.RSAPrivateKey)]
    )
    async def test_the_roots_keys_have_the_chosen_type(
        self, directory: DataDirectory, root_key: str, type: Any
    ) -> None:
        await make(directory, root_key=root_key)
        await check_whole(directory)
        assert isinstance(load_pem_private_key(directory.device_ca_key.read_bytes(), None), type)

    async def test_two_instances_share_nothing(self, tmp_path: Path) -> None:
        made = []
        for folder in ("a", "b"):
            directory = DataDirectory(tmp_path / folder)
            directory.root.mkdir()
            await make(directory)
            made.append(directory)
        for file in ("ca", "ca_key", "device_ca", "device_ca_key", "master_key", "token", "aws_env"):
            assert getattr(made[0], file).read_bytes() != getattr(made[1], file).read_bytes()
        keys = [
            {line for line in one.aws_env.read_text().splitlines() if line.startswith("AWS_") and "KEY" in line}
            for one in made
        ]
        assert (len(keys[0]), keys[0] & keys[1]) == (2, set())

    async def test_a_second_init_changes_nothing(self, directory: DataDirectory) -> None:
        await make(directory)
        before = {path: path.read_bytes() for path in directory.root.rglob("*") if path.is_file()}
        await make(directory)
        assert {path: path.read_bytes() for path in directory.root.rglob("*") if path.is_file()} == before

    @pytest.mark.parametrize("other_file", ["notes.txt", "thingmint.db", "ca.key", ".hidden"])
    async def test_a_directory_with_other_files_is_refused(self, directory: DataDirectory, other_file: str) -> None:
        (directory.root / other_file).write_text("mine")
        with pytest.raises(
            ConfigError, match=f"is not empty \\({other_file}\\) and holds no Thingmint instance"
        ) as refused:
            await make(directory)
        assert refused.value.setting == "data-dir"
        assert [path.name for path in directory.root.iterdir()] == [other_file]
        assert (directory.root / other_file).read_text() == "mine"

    @pytest.mark.parametrize("file", ["lock", "thingmint.toml"])
    async def test_files_that_are_allowed_in_a_new_directory(self, directory: DataDirectory, file: str) -> None:
        (directory.root / file).touch()
        await make(directory)
        (directory.root / file).unlink()
        await check_whole(directory)


class Interrupted(BaseException):
    """Ends the work as a kill would: no handler of errors catches it."""


class Interruption:
    """Raises Interrupted after a number of steps."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self._left == 0:
                raise Interrupted
            self._left -= 1
            return function(*args, **kwargs)

        return wrapped


class TestInterruptions:
    """The steps: 11 files are written, 9 entries are moved, and the rest is removed."""

    @pytest.mark.parametrize("steps", range(34))
    async def test_the_next_create_finishes_or_begins_again(
        self, directory: DataDirectory, monkeypatch: pytest.MonkeyPatch, steps: int
    ) -> None:
        interruption = Interruption(steps)
        with monkeypatch.context() as patch:
            for module, function in (
                (create_module, "write_private"),
                (audit_key_module, "write_private"),
                (create_module, "write_client_files"),
                (create_module, "sync_directory"),
                (shutil, "rmtree"),
                (Path, "rename"),
                (Path, "mkdir"),
            ):
                patch.setattr(module, function, interruption.before(getattr(module, function)))
            try:
                await make(directory)
            except Interrupted:
                interrupted = True
            else:
                interrupted = False
        assert interrupted == (steps < STEPS)
        # A root that clients trust already must not be replaced.
        before = directory.ca.read_bytes() if directory.ca.exists() else None
        if before is not None:  # a client that sees ca.pem can rely on the other files
            assert directory.ca_key.exists()
            assert directory.database.exists()
            assert directory.token.exists()
        await make(directory)
        await check_whole(directory)
        assert before in (None, directory.ca.read_bytes())

    async def test_a_complete_instance_is_finished_not_replaced(
        self, directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(path: Path, target: Path) -> Path:
            raise Interrupted

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", interrupted)
            with pytest.raises(Interrupted):
                await make(directory)
        prepared = (directory.root / ".new" / "ca.key").read_bytes()
        await make(directory)
        assert directory.ca_key.read_bytes() == prepared


# mkdir .new, 9 files (two of each root, master key, two of audit, database, the mark) and those of clients at once,
# the moves of 9 entries, rmtree, and sync_directory before and after it. mkdir of clients/ is one more.
STEPS = 24


async def open_all(directory: DataDirectory) -> None:
    instance = await Instance.open(directory, lambda: None, None)
    try:
        instance.device_authority(DEVICE)
        instance.listener_authority(DEVICE)
    finally:
        await instance.store.close()


class TestOpen:
    async def test_a_directory_that_others_can_read_becomes_private(self, directory: DataDirectory) -> None:
        await make(directory)
        directory.root.chmod(0o755)
        with capture_logs() as logs:
            await open_all(directory)
        assert stat.S_IMODE(directory.root.stat().st_mode) == 0o700
        assert [line["log_level"] for line in logs] == ["warning"]

    @pytest.mark.parametrize("root_key", ["p256", "rsa2048"])
    async def test_encrypted_keys_open_with_the_passphrase(self, directory: DataDirectory, root_key: str) -> None:
        await make(directory, passphrase=b"correct horse", root_key=root_key)
        for key in (directory.ca_key, directory.device_ca_key):
            assert key.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        instance = await Instance.open(directory, lambda: b"correct horse", None)
        assert instance.device_authority(DEVICE).certificate != instance.listener_authority(DEVICE).certificate
        await instance.store.close()

    @pytest.mark.parametrize(
        ("passphrase", "message"), [(None, "is encrypted: set THINGMINT_CA_PASSPHRASE"), (b"wrong", "does not open")]
    )
    async def test_encrypted_keys_need_the_right_passphrase(
        self, directory: DataDirectory, passphrase: bytes | None, message: str
    ) -> None:
        await make(directory, passphrase=b"correct horse")
        instance = await Instance.open(directory, lambda: passphrase, None)
        with pytest.raises(ConfigError, match=message) as refused:
            instance.device_authority(DEVICE)
        assert refused.value.setting == "ca-passphrase"
        await instance.store.close()

    async def test_a_master_key_from_the_settings_is_used(self, directory: DataDirectory) -> None:
        await make(directory, master_keys=[b"m" * 32])
        assert not directory.master_key.exists()
        for keys in ([b"m" * 32], [b"n" * 32, b"m" * 32]):
            instance = await Instance.open(directory, lambda: None, keys)
            assert await instance.store.write(partial(reseal, vault=instance.vault)) == 1
            await instance.store.close()
        for missing in (None, [b"m" * 31]):
            with pytest.raises(ConfigError):
                await Instance.open(directory, lambda: None, missing)

    async def test_the_audit_key_is_encrypted_and_of_type_ed25519(self, directory: DataDirectory) -> None:
        await make(directory, passphrase=b"correct horse")
        instance = await Instance.open(directory, lambda: b"correct horse", None)
        public = load_pem_public_key(directory.audit_public_key.read_bytes())
        assert instance.audit_key().public_key() == public
        directory.audit_key.write_bytes(directory.ca_key.read_bytes())
        with pytest.raises(ConfigError, match="is not an Ed25519 key"):
            instance.audit_key()
        await instance.store.close()

    async def test_the_passphrase_is_asked_for_only_if_a_key_is_encrypted(self, directory: DataDirectory) -> None:
        await make(directory)
        asked: list[None] = []
        instance = await Instance.open(directory, lambda: asked.append(None), None)
        await instance.store.close()
        assert not asked

    @pytest.mark.parametrize("content", [b"", b"zz", b"00" * 31, b"\xff"])
    async def test_a_damaged_master_key_is_refused(self, directory: DataDirectory, content: bytes) -> None:
        await make(directory)
        directory.master_key.write_bytes(content)
        with pytest.raises(ConfigError, match="does not hold a master key"):
            await Instance.open(directory, lambda: None, None)

    @pytest.mark.parametrize(
        ("file", "damage"),
        [
            ("master_key", None),
            ("database", None),
            ("database", b"not a database, but long enough to be looked at" * 100),
            ("ca_key", None),
            ("ca", b""),
            ("device_ca", None),
            ("device_ca_key", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"),
        ],
    )
    async def test_a_missing_or_damaged_file_is_named(
        self, directory: DataDirectory, file: str, damage: bytes | None
    ) -> None:
        await make(directory)
        path = getattr(directory, file)
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage)
        with pytest.raises(ConfigError) as refused:
            await open_all(directory)
        assert refused.value.setting == "data-dir"

    async def test_a_key_that_does_not_match_its_certificate_is_refused(self, directory: DataDirectory) -> None:
        await make(directory)
        directory.device_ca_key.write_bytes(directory.ca_key.read_bytes())
        with pytest.raises(ConfigError):
            await open_all(directory)


class TestNames:
    @pytest.mark.parametrize(
        ("written", "canonical"),
        [
            *((name, name) for name in DEFAULT_HOSTNAMES),
            ("IoT.Example.ORG", "iot.example.org"),
            ("*.example.org", "*.example.org"),
            ("a_b.example.org", "a_b.example.org"),
            ("a" * 63, "a" * 63),
            ("0:0:0:0:0:0:0:1", "::1"),
            ("2001:DB8::1", "2001:db8::1"),
        ],
    )
    def test_host_names_are_made_canonical(self, written: str, canonical: str) -> None:
        assert check_hostname(written) == canonical

    @pytest.mark.parametrize(
        "written",
        [
            "",
            " ",
            "a b",
            "a..b",
            ".a",
            "a.",
            "-a",
            "a-",
            "*",
            "a.*.b",
            "https://a",
            "a:8443",
            "[::1]",
            "a\n",
            "a/b",
            "b\u00fccher.example",
            "a" * 64,
            ".".join(["a" * 50] * 6),
            "256.1.1.1",
        ],
    )
    def test_wrong_host_names_are_refused(self, written: str) -> None:
        with pytest.raises(ConfigError) as refused:
            check_hostname(written)
        assert refused.value.setting == "hostname"
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize("name", ["us-east-1", "eu-central-1", "us-gov-west-1", "ru-central1", "local"])
    def test_region_names_are_accepted(self, name: str) -> None:
        assert check_region(name) == name

    @pytest.mark.parametrize(
        "name", ["", "US-EAST-1", "us_east_1", "us-east-1\n", "us--east", "-us", "us-", "a.b", "a" * 64]
    )
    def test_wrong_region_names_are_refused(self, name: str) -> None:
        with pytest.raises(ConfigError) as refused:
            check_region(name)
        assert refused.value.setting == "region"
