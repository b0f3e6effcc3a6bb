"""The machine, and the resources that processes use, as Linux reports them."""

from __future__ import annotations

import contextlib
import os
import platform
import ssl
import statistics
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Usage", "describe_machine", "family_seconds", "peak_resident_bytes", "resident_bytes", "sync_time", "usage"]

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = 4096
_PACKAGES = (
    "thingmint",
    "cryptography",
    "botocore",
    "uvicorn",
    "uvloop",
    "httptools",
    "starlette",
    "grpcio",
    "protobuf",
)


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds of one process (all its threads), and of the whole machine."""

    process: float
    machine: float

    def __sub__(self, before: Usage) -> Usage:
        return Usage(self.process - before.process, self.machine - before.machine)


def usage(pid: int) -> Usage:
    # The command can contain spaces and brackets; the fields after its last bracket are numbers (proc(5)).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    whole = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = whole[3] + whole[4]
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS, (sum(whole) - idle) / _TICKS)


def family_seconds(pid: int) -> float:
    """CPU seconds of a process and of its children that are still running."""
    seconds = usage(pid).process
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # a process that ends during this loop
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                seconds += usage(int(path.parent.name)).process
    return seconds


def resident_bytes(pid: int) -> int:
    """RSS."""
    return _status(pid, "VmRSS")


def peak_resident_bytes(pid: int) -> int:
    """The highest RSS since the process was started."""
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/status has no {name}")


def sync_time(folder: Path, *, times: int = 200) -> float:
    """The median time of fdatasync() after overwriting one page, in seconds. This is like a small commit to a WAL."""
    path = folder / "sync-time"
    took = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.write(descriptor, os.urandom(_PAGE * times))
        os.fsync(descriptor)
        for number in range(times):
            os.pwrite(descriptor, os.urandom(_PAGE), number * _PAGE)
            start = time.perf_counter()
            os.fdatasync(descriptor)
            took.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(took)


def describe_machine(folder: Path) -> Mapping[str, str]:
    """The properties of the machine that benchmarks depend on. ``folder`` is on the disk with the data."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory": f"{memory / 2**30:.0f} GiB",
        "data directory on": _file_system(folder),
        "system": f"{_distribution()}, Linux {platform.release()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "Python": f"{platform.python_version()}, {ssl.OPENSSL_VERSION}",
        "packages": ", ".join(f"{package} {version(package)}" for package in _PACKAGES),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return "unknown"


def _file_system(folder: Path) -> str:
    """Type and device of the file system that contains ``folder``."""
    best = ("", "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, mount, kind = line.split()[:3]
        if folder.resolve().is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, f"{kind} ({device})")
    return best[1]
