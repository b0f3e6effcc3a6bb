"""A server under measurement, and the steps that all cases share."""

from __future__ import annotations

import re
import sys
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from benchmarks.load import Load, Target
from benchmarks.measuring import POOL, measured
from benchmarks.signed import new_csr

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.figures import Cost
    from thingmint.testing import RunningServer

__all__ = ["Bench", "certificate_ids"]

_CERTIFICATES = 64  # for which DescribeCertificate asks in turn
_WARM_UP = 0.5  # seconds
_PATIENCE = 60.0  # seconds, for the pool to fill
_POOL_READY = re.compile(r"^thingmint_key_pool_ready (\S+)$", re.MULTILINE)


@dataclass(slots=True)
class Bench:
    """A server under measurement. ``quick`` shortens everything; ``step`` is called as each measurement begins.

    ``against`` is another checkout. Cases that can do so measure its server and this one's in turns.
    """

    server: RunningServer
    quick: bool = False
    step: Callable[[str], None] = print
    against: Path | None = None

    @property
    def https(self) -> Target:
        return Target(self.server.ports["api"], self.server.ca)

    @property
    def http(self) -> Target:
        return Target(self.server.ports["http"])

    def seconds(self, full: float) -> float:
        return max(1.5, full / 4) if self.quick else full

    def certificate_ids(self) -> list[str]:
        """The ids of new certificates."""
        return certificate_ids(self.server, _CERTIFICATES)

    def wait_for_pool(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            with urllib.request.urlopen(f"{self.server.http_url}/metrics") as answer:
                found = _POOL_READY.search(answer.read().decode())
            if found is not None and float(found[1]) >= POOL:
                return
            time.sleep(0.1)
        raise TimeoutError(f"the key pool was not full after {_PATIENCE:.0f} seconds")

    def rate(self, load: Load, seconds: float) -> tuple[float, Cost]:
        """Answers per second under full load."""
        self.wait_for_pool()  # its threads must be idle
        with load:
            load.run(seconds=_WARM_UP)
            return self.measured(load, seconds)

    def measured(self, load: Load, seconds: float = 3600.0, count: int = sys.maxsize) -> tuple[float, Cost]:
        """Answers per second, for ``seconds`` or for ``count`` requests."""
        return measured(self.server.process.pid, lambda: load.run(seconds=seconds, count=count))


def certificate_ids(server: RunningServer, count: int) -> list[str]:
    client: Any = boto3.session.Session().client("iot", **server.boto3_arguments())
    request = new_csr()
    made = [client.create_certificate_from_csr(certificateSigningRequest=request) for _ in range(count)]
    client.close()
    return [certificate["certificateId"] for certificate in made]
