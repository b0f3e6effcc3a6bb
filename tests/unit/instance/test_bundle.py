"""A bundle of one host's keys opens on another host, with the passphrase only."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from tests.unit.instance.test_create import directory, make
from thingmint.instance.bundle import BundleError, join, pack, unpack
from thingmint.instance.create import exists
from thingmint.instance.layout import DataDirectory
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["directory"]

PASSPHRASE = b"correct horse"


async def test_another_directory_gets_the_same_keys(directory: DataDirectory, tmp_path: Path) -> None:
    await make(directory)
    bundle = pack(directory, PASSPHRASE)
    other = DataDirectory(tmp_path / "other")
    with other.hold():
        join(other, unpack(bundle, PASSPHRASE))
    assert exists(other)
    names = [path.relative_to(other.root) for path in other.root.rglob("*") if path.is_file() and path.name != "lock"]
    assert {path.name for path in names} >= {"ca.key", "device-ca.key", "master.key", "audit.key", "token"}
    for name in names:
        assert (other.root / name).read_bytes() == (directory.root / name).read_bytes()
        assert stat.S_IMODE((other.root / name).stat().st_mode) == 0o600
    assert not other.database.exists()


async def test_only_the_passphrase_opens_a_bundle(directory: DataDirectory) -> None:
    await make(directory)
    bundle = pack(directory, PASSPHRASE)
    assert b"PRIVATE KEY" not in bundle
    for altered in (bundle[:-1], bundle[:-1] + bytes([bundle[-1] ^ 1]), bundle[:40], bundle + b"x"):
        with pytest.raises(BundleError, match="was altered, or the passphrase"):
            unpack(altered, PASSPHRASE)
    with pytest.raises(BundleError, match="was altered, or the passphrase"):
        unpack(bundle, b"another horse")
    with pytest.raises(BundleError, match="is not a bundle"):
        unpack(b"something else", PASSPHRASE)


async def test_an_incomplete_instance_is_not_packed(directory: DataDirectory) -> None:
    await make(directory)
    directory.audit_key.unlink()
    with pytest.raises(ConfigError, match=r"audit\.key is missing"):
        pack(directory, PASSPHRASE)


async def test_a_directory_with_files_is_left_unchanged(directory: DataDirectory, tmp_path: Path) -> None:
    await make(directory)
    other = DataDirectory(tmp_path / "other")
    other.root.mkdir()
    (other.root / "mine").write_text("x")
    with pytest.raises(ConfigError, match="is not empty"):
        join(other, unpack(pack(directory, PASSPHRASE), PASSPHRASE))
    assert [path.name for path in other.root.iterdir()] == ["mine"]
