"""Mosquitto, with which the MQTT gateway is compared: a separate process, with mutual TLS."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.load import LoadFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.fleet import DeviceFleet

__all__ = ["RunningMosquitto", "mosquitto_version", "running_mosquitto"]

# Without TCP_NODELAY each connection waits for a delayed acknowledgement, which would make the comparison unfair.
_CONFIGURATION = """\
listener {port} 127.0.0.1
cafile {ca}
certfile {server}
keyfile {server}
require_certificate true
allow_anonymous true
set_tcp_nodelay true
persistence false
max_connections -1
user root
"""
_PATIENCE = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class RunningMosquitto:
    pid: int
    port: int


def mosquitto_version() -> str | None:
    """The version of Mosquitto, or None if it is not installed."""
    program = _program()
    if program is None:
        return None
    # It prints its version, but exits with the status for a wrong option.
    first, *_ = subprocess.run([program, "-h"], check=False, capture_output=True, text=True).stdout.splitlines()
    return first.removeprefix("mosquitto version ")


@contextlib.contextmanager
def running_mosquitto(folder: Path, fleet: DeviceFleet) -> Iterator[RunningMosquitto]:
    """Mosquitto on a free port. It accepts the fleet's certificates only. Raises LoadFailed."""
    program = _program()
    assert program is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    configuration = folder / "mosquitto.conf"
    configuration.write_text(_CONFIGURATION.format(port=port, ca=fleet.ca, server=fleet.server))
    output = folder / "mosquitto.log"
    _raise_file_limit()  # Mosquitto inherits it
    with output.open("wb") as log:
        process = subprocess.Popen(
            [program, "-c", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise LoadFailed(f"Mosquitto did not start: {output.read_text(errors='replace')}")
            time.sleep(0.05)
        yield RunningMosquitto(process.pid, port)
    finally:
        process.terminate()
        process.wait(_PATIENCE)


def _program() -> str | None:
    """The path of mosquitto, or None. Debian installs it in /usr/sbin, which is only in root's PATH."""
    return shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
