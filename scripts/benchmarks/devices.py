"""Devices as a load: starts and controls the process of ``mqtt_client.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmarks.load import LoadFailed, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

__all__ = ["Devices"]

_PROGRAM = Path(__file__).with_name("mqtt_client.py")


class Devices:
    """A context manager for the process; leaving it closes all connections. All methods raise LoadFailed.

    Devices use the ``identities`` (files with a certificate and its key) in turn, and trust ``ca``.
    """

    def __init__(self, port: int, ca: Path, identities: Sequence[Path]) -> None:
        self._first = {"port": port, "ca": str(ca), "identities": [str(path) for path in identities]}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-I", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._order(self._first)
        self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def visit(self, devices: int, seconds: float) -> Outcome:
        """Connects, waits for CONNACK and disconnects, repeatedly. Each connection uses another identity."""
        return self._run("visit", devices=devices, seconds=seconds)

    def stay(self, devices: int) -> list[Path]:
        """Connects devices that stay connected, and returns their identities."""
        self._order({"order": "stay", "devices": devices})
        return [Path(path) for path in self._answer()["identities"]]

    def publish(self, seconds: float, *, echo: bool, size: int = 100) -> Outcome:
        """Devices that stayed publish at QoS 1, one message at a time; with ``echo``, each to itself."""
        return self._run("publish", seconds=seconds, echo=echo, bytes=size)

    def provision(self, devices: int, seconds: float, **how: Any) -> Outcome:
        """Provisions devices. ``how`` are template, prefix, csr, key and folder (see ``mqtt_client.py``)."""
        return self._run("provision", devices=devices, seconds=seconds, **how)

    def begin_waiting(self) -> None:
        """Starts to wait until the server closes the connections of all devices that stayed."""
        self._order({"order": "wait"})
        self._answer()

    def waited(self) -> list[float]:
        """The time at which each connection was closed (time.perf_counter()), in the order of the connects."""
        return [float(moment) for moment in self._answer()["moments"]]

    def _run(self, order: str, **further: Any) -> Outcome:
        self._order({"order": order, **further})
        answer = self._answer()
        return Outcome(answer["answered"], answer["seconds"], answer["cpu"], answer["latencies"])

    def _order(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._fail()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _fail(self) -> None:
        assert self._process.stderr is not None
        raise LoadFailed(self._process.stderr.read().decode(errors="replace").strip())
