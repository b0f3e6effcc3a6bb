"""The directory of a run: keys, certificates, the list of what is made, and what the run is.

A device's key and certificate signing request are on disk before it is registered, and stay the same afterwards. A line
of manifest.csv is written after the files of its device. So a run can go on after a kill at any moment.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from cryptography import x509

from thingmint.fleet.durable_files import open_private, sync_folder, write_all, write_durably
from thingmint.fleet.keys import certificate_fits, csr_fits, key_pem, load_key, make_csr, make_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from thingmint.fleet.devices import Device
    from thingmint.fleet.keys import KeyType

_NAMED = {"template": "thing", "registry": "device_id"}
FILES = ("key.pem", "certificate.pem", "csr.pem")
ZIP = "devices.zip"

_RUN, _MANIFEST, _CA = "run.json", "manifest.csv", "ca.pem"
_THREADS = 8  # most of the time they wait for the disk


class FolderError(Exception):
    """The directory cannot be used for the run. The text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A directory that this process has locked. ``plan`` is what the run makes, from run.json."""

    path: Path
    plan: Mapping[str, Any]
    _lock: int
    _pool: ThreadPoolExecutor

    @classmethod
    def begun(cls, path: Path) -> RunFolder | None:
        """Open the directory of a run that was begun, or return None if it is empty or missing. Raises FolderError."""
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FolderError(f"{path} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise FolderError(f"another process makes devices in {path} now") from None
        try:
            plan = orjson.loads((path / _RUN).read_bytes())
        except FileNotFoundError:
            os.close(lock)
            if any(each.name != f".{_RUN}.new" for each in path.iterdir()):
                raise FolderError(f"{path} is in use for something else: choose an empty or a new directory") from None
            return None
        except (OSError, ValueError):
            os.close(lock)
            raise FolderError(f"{path / _RUN} is damaged: restore it from a backup") from None
        return cls(path, plan, lock, ThreadPoolExecutor(_THREADS))

    @classmethod
    def new(cls, path: Path, plan: Mapping[str, Any], ca: bytes) -> RunFolder:
        """Begin a run in a new or empty directory. Raises FolderError and OSError."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        write_durably(path / _RUN, orjson.dumps(plan, option=orjson.OPT_INDENT_2) + b"\n")
        sync_folder(path)
        sync_folder(path.parent)
        begun = cls.begun(path)
        assert begun is not None, "it has a run.json now"
        write_durably(path / _CA, ca)
        return begun

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        os.close(self._lock)

    def count_done(self) -> int:
        """Return how many devices are complete, and drop what a kill left behind them. Raises FolderError."""
        with open_private(self.path / _MANIFEST, append=True) as descriptor:
            with os.fdopen(os.dup(descriptor), "rb") as file:
                whole, done = 0, -1  # the header is no device
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    if done >= 0 and not line.startswith(f"{self.plan['start'] + done},".encode()):
                        raise FolderError(f"{self.path / _MANIFEST} was changed by hand: line {done + 2} is another's")
                    whole, done = whole + len(line), done + 1
            os.ftruncate(descriptor, whole)
            if done < 0:
                os.lseek(descriptor, 0, os.SEEK_SET)
                named = _NAMED[self.plan["kind"]]
                write_all(descriptor, f"number,name,{named},certificate_id,serial_number,not_after\n".encode())
                os.fsync(descriptor)
        return max(done, 0)

    def requests(self, devices: Sequence[Device], type: KeyType) -> list[str]:
        """Return the devices' certificate signing requests. What is not there yet is made, and is on disk then."""
        found = list(self._pool.map(lambda device: self._request(device, type), devices))
        sync_folder(self.path)
        return found

    def complete(
        self, devices: Sequence[Device], requests: Sequence[str], answers: Sequence[Mapping[str, Any]]
    ) -> None:
        """Write the certificates of devices that are registered, then their lines. Raises FolderError."""
        for device, request, answer in zip(devices, requests, answers, strict=True):
            if not certificate_fits(answer["certificate_pem"], request):
                raise FolderError(f"the certificate of {device.name} has another key than {device.name}/key.pem")
        list(self._pool.map(self._write_certificate, devices, answers))
        lines = io.StringIO()
        rows = csv.writer(lines, lineterminator="\n")
        for device, answer in zip(devices, answers, strict=True):
            serial = x509.load_pem_x509_certificate(answer["certificate_pem"].encode()).serial_number
            row = [answer["name"], answer["certificate_id"], f"{serial:x}", answer["not_after"]]
            rows.writerow([device.number, device.name, *row])
        with open_private(self.path / _MANIFEST, append=True) as descriptor:
            os.lseek(descriptor, 0, os.SEEK_END)
            write_all(descriptor, lines.getvalue().encode())
            os.fsync(descriptor)

    def names(self) -> Iterator[str]:
        """Yield the names of the devices that are complete."""
        with (self.path / _MANIFEST).open(newline="") as file:
            for row in csv.DictReader(file):
                yield row["name"]

    def write_zip(self) -> Path:
        """Pack everything that devices and people need into devices.zip, unless it is there. Raises FolderError."""
        target = self.path / ZIP
        if target.exists():
            return target
        temporary = target.with_name(f".{ZIP}.new")
        with open_private(temporary) as descriptor, os.fdopen(os.dup(descriptor), "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for name in (_CA, _MANIFEST):
                    archive.write(self.path / name, name)
                for name in self.names():
                    for each in FILES:
                        try:
                            archive.write(self.path / name / each, f"{name}/{each}")
                        except FileNotFoundError:
                            raise FolderError(f"{self.path / name / each} is gone: restore it from a backup") from None
            file.flush()
            os.fsync(descriptor)
        temporary.replace(target)
        sync_folder(self.path)
        return target

    def remove_keys(self) -> None:
        """Remove the private keys, which are in devices.zip, from the devices' folders."""
        assert (self.path / ZIP).exists(), "the keys are in it"
        for name in self.names():
            (self.path / name / "key.pem").unlink(missing_ok=True)
            sync_folder(self.path / name)

    def _request(self, device: Device, type: KeyType) -> str:
        folder = self.path / device.name
        folder.mkdir(mode=0o700, exist_ok=True)
        key_file, csr_file = folder / "key.pem", folder / "csr.pem"
        try:
            key = load_key(key_file.read_bytes())
            if key is None:
                raise FolderError(f"{key_file} is damaged: restore it from a backup, or remove {folder}")
        except FileNotFoundError:
            key = make_key(type)
            write_durably(key_file, key_pem(key))
            csr_file.unlink(missing_ok=True)
        try:
            request = csr_file.read_bytes()
        except FileNotFoundError:
            request = b""
        if not csr_fits(request, key):
            request = make_csr(key, device.name)
            write_durably(csr_file, request)
        sync_folder(folder)
        return request.decode()

    def _write_certificate(self, device: Device, answer: Mapping[str, Any]) -> None:
        folder = self.path / device.name
        write_durably(folder / "certificate.pem", answer["certificate_pem"].encode())
        sync_folder(folder)
