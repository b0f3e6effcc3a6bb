"""Starts a real Thingmint server for tests: a separate process, with free ports and a new data directory.

with running_server() as server:
    iot = boto3.client("iot", **server.boto3_arguments())
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["RunningServer", "ServerFailed", "running_server"]

_STOP_TIMEOUT = 40.0
_DEFAULTS = {"THINGMINT_KEY_POOL": "2"}  # a key pair takes about 60 ms of CPU, and most tests need none


class ServerFailed(Exception):
    """The server ended, or was not ready in time. The text has the reason and the server's output."""


@dataclass(slots=True)
class RunningServer:
    data_dir: Path
    output: Path  # the file with standard output and standard error
    process: subprocess.Popen[bytes]
    ports: Mapping[str, int]  # by listener: "api", "http", "grpc", "mqtt"

    @property
    def api_url(self) -> str:
        return f"https://localhost:{self.ports['api']}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['http']}"

    @property
    def ca(self) -> Path:
        """The CA certificate that clients have to trust."""
        return self.data_dir / "ca.pem"

    @property
    def device_ca(self) -> Path:
        return self.data_dir / "device-ca.pem"

    @property
    def token(self) -> str:
        """A token of the native API."""
        return (self.data_dir / "clients" / "token").read_text().strip()

    def environment(self, name: str = "aws") -> dict[str, str]:
        """The variables of clients/NAME.env."""
        text = (self.data_dir / "clients" / f"{name}.env").read_text()
        return dict(word.split("=", 1) for word in shlex.split(text, comments=True))

    def boto3_arguments(self) -> dict[str, Any]:
        """Returns the arguments with which boto3.client("iot", …) connects to this server."""
        env = self.environment()
        return {
            "endpoint_url": env["AWS_ENDPOINT_URL_IOT"],
            "region_name": env["AWS_DEFAULT_REGION"],
            "aws_access_key_id": env["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
            "verify": env["AWS_CA_BUNDLE"],
        }

    def stop(self) -> int:
        """Stops the server with SIGTERM. Returns the exit status."""
        self.process.terminate()
        return self.process.wait(_STOP_TIMEOUT)

    def kill(self) -> None:
        """Kills the server with SIGKILL, as if the host lost power."""
        self.process.kill()
        self.process.wait(_STOP_TIMEOUT)


@contextlib.contextmanager
def running_server(
    data_dir: Path | None = None,
    *,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = (sys.executable, "-m", "thingmint"),
    start_timeout: float = 30.0,
) -> Iterator[RunningServer]:
    """Starts `thingmint serve`, and stops it at the end if it still runs.

    Without ``data_dir``, a new directory is made, and removed at the end together with the log. With ``data_dir``, the
    log is written next to it, and both are kept. ``arguments`` are added to `thingmint serve`, ``environment`` to the
    variables; other THINGMINT_* variables are not passed on. By default the key pool has 2 key pairs. ``program`` may
    be another version of Thingmint. ``start_timeout`` is in seconds. Raises ServerFailed.
    """
    folder = Path(tempfile.mkdtemp(prefix="thingmint-")) if data_dir is None else None
    place = folder / "data" if folder is not None else data_dir
    assert place is not None
    output = place.with_name(f"{place.name}.log")
    listeners = place / "listeners.json"
    listeners.unlink(missing_ok=True)  # left by a server that was killed
    command = [*program, "serve", f"--data-dir={place}"]
    command += ["--api-port=0", "--http-port=0", "--grpc-port=0", "--mqtt-port=0"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("THINGMINT_")}
    variables = inherited | _DEFAULTS | dict(environment or {})
    try:
        with output.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=variables,
            )
        try:
            ports = _wait_until_ready(process, listeners, output, start_timeout)
            yield RunningServer(place, output, process, ports)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(_STOP_TIMEOUT)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(
    process: subprocess.Popen[bytes], listeners: Path, output: Path, timeout: float
) -> dict[str, int]:
    deadline = time.monotonic() + timeout
    while not listeners.exists():
        status = process.poll()
        if status is not None or time.monotonic() > deadline:
            what = f"was not ready after {timeout:g} seconds" if status is None else f"ended with status {status}"
            raise ServerFailed(f"The server {what}. It printed:\n{output.read_text(errors='replace')}")
        time.sleep(0.02)
    ports: dict[str, int] = json.loads(listeners.read_text())
    return ports
