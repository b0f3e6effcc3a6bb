"""Files are written atomically, and one process locks the directory."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from thingmint.instance.layout import DataDirectory, DirectoryInUse, DirectoryUnusable, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def _open_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


class TestWritePrivate:
    @pytest.mark.parametrize("content", [b"", b"x", b"x" * 1_000_000])
    def test_a_new_file_is_private(self, tmp_path: Path, content: bytes) -> None:
        write_private(tmp_path / "a", content)
        assert (tmp_path / "a").read_bytes() == content
        assert mode(tmp_path / "a") == 0o600
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_an_existing_file_is_replaced_and_made_private(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_bytes(b"old")
        path.chmod(0o644)
        inode = path.stat().st_ino
        with path.open("rb") as reader:
            write_private(path, b"new")
            assert reader.read() == b"old"  # a reader sees the old content or the new
        assert path.read_bytes() == b"new"
        assert mode(path) == 0o600
        assert path.stat().st_ino != inode

    @pytest.mark.parametrize("step", ["fsync", "replace", "write"])
    def test_a_failure_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
        (tmp_path / "a").write_bytes(b"old")

        def fail(*args: object, **kwargs: object) -> None:
            raise OSError(28, "No space left on device")

        match step:
            case "fsync":
                monkeypatch.setattr(os, "fsync", fail)
            case "replace":
                monkeypatch.setattr(Path, "replace", fail)
            case _:
                monkeypatch.setattr(os, "fdopen", lambda descriptor, mode: FullDisk(descriptor))
        with pytest.raises(OSError, match="No space left"):
            write_private(tmp_path / "a", b"new")
        assert (tmp_path / "a").read_bytes() == b"old"
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_a_file_is_synced_before_it_gets_its_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        steps = []
        fsync, replace = os.fsync, Path.replace

        def tracing_fsync(descriptor: int) -> None:
            steps.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
            fsync(descriptor)

        def tracing_replace(path: Path, target: Path) -> Path:
            steps.append("rename")
            assert mode(path) == 0o600
            return replace(path, target)

        monkeypatch.setattr(os, "fsync", tracing_fsync)
        monkeypatch.setattr(Path, "replace", tracing_replace)
        write_private(tmp_path / "a", b"new")
        assert steps == ["file", "rename", "directory"]


class FullDisk:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)

    def write(self, content: bytes) -> None:
        raise OSError(28, "No space left on device")


HOLD = """
import pathlib, sys
from thingmint.instance.layout import DataDirectory, DirectoryInUse
try:
    with DataDirectory(pathlib.Path(sys.argv[1])).hold():
        print("held")
except DirectoryInUse as error:
    print("in use:", error)
"""


class TestHold:
    @pytest.mark.parametrize("place", ["file", "file/below"])
    def test_a_place_where_no_directory_can_be_made_is_refused(self, tmp_path: Path, place: str) -> None:
        (tmp_path / "file").touch()
        with (
            pytest.raises(DirectoryUnusable, match=f"{place} cannot be used: "),
            DataDirectory(tmp_path / place).hold(),
        ):
            pass

    def test_one_process_at_a_time_has_the_lock(self, tmp_path: Path) -> None:
        directory = DataDirectory(tmp_path / "deep" / "data")
        with directory.hold():
            assert mode(directory.root) == 0o700
            assert mode(directory.root / "lock") == 0o600
            with pytest.raises(DirectoryInUse, match=r"deep/data$"), directory.hold():
                pass
            assert self.another_process(directory) == f"in use: {directory.root}"
        assert self.another_process(directory) == "held"
        with directory.hold():
            pass

    @staticmethod
    def another_process(directory: DataDirectory) -> str:
        command = [sys.executable, "-c", HOLD, str(directory.root)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()

    def test_the_lock_is_released_after_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError), DataDirectory(tmp_path).hold():
            raise RuntimeError
        with DataDirectory(tmp_path).hold():
            pass


def test_names_of_the_files() -> None:
    directory = DataDirectory(Path("/d"))
    assert {
        str(getattr(directory, name)) for name in ("ca", "device_ca", "listeners", "admin_socket", "aws_env", "token")
    } == {
        "/d/ca.pem",
        "/d/device-ca.pem",
        "/d/listeners.json",
        "/d/admin.sock",
        "/d/clients/aws.env",
        "/d/clients/token",
    }
