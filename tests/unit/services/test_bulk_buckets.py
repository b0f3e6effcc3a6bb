"""The buckets of bulk registration: which account has which, and which keys name a file."""

# ruff: noqa: ASYNC240 - the files of a test

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from thingmint.domain.errors import Invalid, NotFound, Unavailable
from thingmint.services.bulk_buckets import Bucket, Buckets, Folder, InputFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OURS, THEIRS = "111111111111", "222222222222"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bucket"
    (folder / "week-1").mkdir(parents=True)
    (folder / "week-1" / "devices.jsonl").write_text("0123456789")
    (tmp_path / "secret.jsonl").write_text("secret")
    return folder


@pytest.fixture
def buckets(folder: Path) -> Iterator[Buckets]:
    buckets = Buckets({"fleet": Bucket((OURS,), Folder(folder))})
    yield buckets
    buckets.close()


async def test_a_file_below_the_folder_is_read_in_parts(buckets: Buckets) -> None:
    file = await buckets.look(OURS, "fleet", "week-1/devices.jsonl")
    assert file.size == 10
    assert await buckets.read(OURS, "fleet", "week-1/devices.jsonl", 3, 4) == (file, b"3456")


@pytest.mark.parametrize(("account", "name"), [(THEIRS, "fleet"), (OURS, "other"), (THEIRS, "other")])
async def test_an_account_has_only_its_buckets(buckets: Buckets, account: str, name: str) -> None:
    with pytest.raises(NotFound) as refused:
        await buckets.look(account, name, "week-1/devices.jsonl")
    assert str(refused.value) == str(NotFound("bucket", name))


@pytest.mark.parametrize(
    "key",
    [
        "../secret.jsonl",
        "week-1/../../secret.jsonl",
        "week-1/../week-1/devices.jsonl",
        "/etc/passwd",
        "./week-1/devices.jsonl",
        "week-1//devices.jsonl",
        "week-1/devices.jsonl/",
        "week-1/devices.jsonl/more",
        "..",
        ".",
        "",
        "missing.jsonl",
        "missing/devices.jsonl",
        "week-1",
        "link.jsonl",
        "linked/secret.jsonl",
        "linked-in/devices.jsonl",
        "pipe",
        "socket",
        "x" * 300,
    ],
)
async def test_other_keys_are_refused(buckets: Buckets, folder: Path, key: str) -> None:
    (folder / "link.jsonl").symlink_to(folder.parent / "secret.jsonl")
    (folder / "linked").symlink_to(folder.parent)
    (folder / "linked-in").symlink_to(folder / "week-1")
    os.mkfifo(folder / "pipe")
    os.mknod(folder / "socket", 0o140600)
    with pytest.raises(Invalid) as refused:
        await buckets.look(OURS, "fleet", key)
    assert refused.value.field == "inputFileKey"
    with pytest.raises(Invalid):
        await buckets.read(OURS, "fleet", key, 0, 1)


async def test_each_change_of_a_file_changes_its_version(buckets: Buckets, folder: Path) -> None:
    file = folder / "week-1" / "devices.jsonl"
    key, found = "week-1/devices.jsonl", set[InputFile]()
    for content in ("0123456789", "01234", "01235"):
        other = folder / "other"
        other.write_text(content)
        os.utime(other, ns=(0, 0))
        file.unlink()
        (folder / "in between").touch()  # which may take the number of the file that was deleted
        other.rename(file)
        found.add(await buckets.look(OURS, "fleet", key))
        (folder / "in between").unlink()
    assert len(found) == 3


async def test_a_folder_that_cannot_be_read_is_no_fault_of_the_caller(buckets: Buckets, folder: Path) -> None:
    folder.rename(folder.parent / "moved")
    with pytest.raises(Unavailable):
        await buckets.look(OURS, "fleet", "week-1/devices.jsonl")


async def test_the_folder_itself_may_be_a_link(buckets: Buckets, folder: Path) -> None:
    folder.rename(folder.parent / "moved")
    folder.symlink_to(folder.parent / "moved")
    assert (await buckets.look(OURS, "fleet", "week-1/devices.jsonl")).size == 10


async def test_replaced_buckets_hold_at_once(buckets: Buckets, folder: Path) -> None:
    await buckets.look(OURS, "fleet", "week-1/devices.jsonl")
    buckets.replace({"fleet": Bucket((THEIRS,), Folder(folder))})
    with pytest.raises(NotFound):
        await buckets.look(OURS, "fleet", "week-1/devices.jsonl")
    assert (await buckets.look(THEIRS, "fleet", "week-1/devices.jsonl")).size == 10
