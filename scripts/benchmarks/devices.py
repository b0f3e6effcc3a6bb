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

__all__ = ["Devices", "Identity"]

Identity = Path | tuple[str, str]

_MODULE = "benchmarks.mqtt_client"
_SCRIPTS = Path(__file__).parent.parent


class Devices:
    """A context manager for the process; leaving it closes all connections. All methods raise LoadFailed.

    Devices trust ``ca``, and use the ``identities`` in turn: each is a file with a certificate and its key, or a user
    name and a password.
    """

    def __init__(self, port: int, ca: Path, identities: Sequence[Identity]) -> None:
        self._first = {"port": port, "ca": str(ca), "identities": [_fields(identity) for identity in identities]}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-Es", "-m", _MODULE],
            cwd=_SCRIPTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._order(self._first)
        self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def visit(self, devices: int, seconds: float = 3600.0, count: int = sys.maxsize) -> Outcome:
        """Connects, waits for CONNACK and disconnects, repeatedly: for ``seconds``, or ``count`` times.

        Each connection uses another identity.
        """
        return self._run("visit", devices=devices, seconds=seconds, count=count)

    def stay(self, devices: int) -> list[Path]:
        """Connects devices that stay connected, and returns the files of those that have certificates."""
        self._order({"order": "stay", "devices": devices})
        return [Path(path) for path in self._answer()["identities"] if path is not None]

    def publish(
        self,
        seconds: float,
        *,
        topic: str = "bench/{}/data",
        echo: bool = False,
        hearer: tuple[Identity, str] | None = None,
        size: int = 100,
    ) -> Outcome:
        """Devices that stayed publish at QoS 1, one message at a time, to ``topic`` with the client id in it.

        With ``echo``, each subscribes to its topic and gets its messages back. ``hearer`` connects too, and subscribes
        to a filter; then a message counts once it is received there.
        """
        heard = {"identity": _fields(hearer[0]), "filter": hearer[1]} if hearer is not None else None
        return self._run("publish", seconds=seconds, topic=topic, echo=echo, hearer=heard, bytes=size)

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


def _fields(identity: Identity) -> Sequence[str | None]:
    """The fields of mqtt_client's Identity."""
    return [str(identity)] if isinstance(identity, Path) else [None, *identity]
