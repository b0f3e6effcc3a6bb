"""Explains a missed budget: profiles the server's event loop under the same load."""

from __future__ import annotations

import json
import os
import signal
import sysconfig
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import thingmint
from benchmarks.bench import Bench
from benchmarks.load import Load
from benchmarks.measuring import SERVE
from benchmarks.mqtt_gateway import connecting
from benchmarks.signed import Signer, new_csr
from benchmarks.yandex import YandexFleet
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from benchmarks.load import Outcome
    from benchmarks.yandex import Wire

__all__ = ["LOADS", "Profile", "profile"]

_SAMPLING = Path(__file__).parent / "sampling"
# The folders of modules. site-packages comes before the standard library, which contains it.
_ROOTS = (
    str(Path(thingmint.__file__).parent.parent),
    sysconfig.get_path("purelib"),
    sysconfig.get_path("stdlib"),
)
_WARM_UP = 0.5  # seconds
_SECONDS = 6.0
_WAIT = 10.0
_ADDED = 10_000  # certificates; enough for a server that misses the budget
_LINES = 15

# (file, qualified name, line), outermost first
_Stack = list[tuple[str, str, int]]


@dataclass(frozen=True, slots=True)
class Profile:
    """CPU time of the event loop's thread per request, in seconds, the greatest first.

    ``own`` is the time of each file's functions themselves; ``total`` is the time of each function with its callees.
    """

    case: str
    rate: float
    per_request: float
    own: Sequence[tuple[str, float]]
    total: Sequence[tuple[str, float]]


class _Load(Protocol):
    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def run(self, *, seconds: float) -> Outcome: ...


def _keys(connections: int) -> Callable[[Bench], Load]:
    return lambda bench: Load(bench.https, connections, [Signer(bench.server).create_keys()])


def _csr(bench: Bench) -> Load:
    return Load(bench.https, 32, [Signer(bench.server).create_from_csr(new_csr())])


def _describe(bench: Bench) -> Load:
    signer = Signer(bench.server)
    return Load(bench.https, 32, [signer.describe(id) for id in bench.certificate_ids()])


def _add(wire: Wire) -> Callable[[Bench], Load]:
    def load(bench: Bench) -> Load:
        with YandexFleet(bench.server) as fleet:
            return fleet.add(wire, 32, _ADDED)

    return load


# How each case loads the server.
LOADS: Mapping[str, Callable[[Bench], _Load]] = {
    "burst": _keys(4),
    "sustained": _keys(8),
    "csr": _csr,
    "describe": _describe,
    "add-grpc": _add("gRPC"),
    "add-rest": _add("REST"),
    "mqtt": connecting,
}


def profile(case: str, data_dir: Path) -> Profile:
    """Starts a server with the sampler on ``data_dir``, and puts the load of the case on it."""
    samples = data_dir.with_name(f"{data_dir.name}.samples")
    path = os.pathsep.join([str(_SAMPLING), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"PYTHONPATH": path, "BENCH_SAMPLES": str(samples)}
    with running_server(data_dir, arguments=SERVE, environment=environment) as server:
        bench = Bench(server)
        load = LOADS[case](bench)
        bench.wait_for_pool()
        with load:
            load.run(seconds=_WARM_UP)
            server.process.send_signal(signal.SIGUSR1)
            outcome = load.run(seconds=_SECONDS)
            server.process.send_signal(signal.SIGUSR2)
            stacks = _read(samples)
    return _summary(case, outcome.rate, outcome.answered, stacks)


def _read(samples: Path) -> list[tuple[_Stack, float]]:
    deadline = time.monotonic() + _WAIT
    while not samples.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the server's profiler wrote nothing")
        time.sleep(0.05)
    stacks: list[tuple[_Stack, float]] = json.loads(samples.read_text())
    samples.unlink()
    return stacks


def _summary(case: str, rate: float, answered: int, stacks: Sequence[tuple[_Stack, float]]) -> Profile:
    own: defaultdict[str, float] = defaultdict(float)
    total: defaultdict[str, float] = defaultdict(float)
    everywhere = set.intersection(*(_functions(stack) for stack, _ in stacks)) if stacks else set()
    for stack, seconds in stacks:
        own[_short(stack[-1][0])] += seconds
        for function in _functions(stack) - everywhere:  # without the frames that only lead to the event loop
            total[function] += seconds
    return Profile(
        case,
        rate,
        sum(seconds for _, seconds in stacks) / answered,
        _greatest(own, answered),
        _greatest(total, answered),
    )


def _greatest(seconds: Mapping[str, float], answered: int) -> list[tuple[str, float]]:
    ordered = sorted(seconds.items(), key=lambda item: item[1], reverse=True)
    return [(name, spent / answered) for name, spent in ordered[:_LINES]]


def _functions(stack: _Stack) -> set[str]:
    return {f"{_short(file)}: {name}" for file, name, _ in stack}


def _short(file: str) -> str:
    """The path, starting with the package."""
    for folder in _ROOTS:
        if file.startswith(folder):
            return file.removeprefix(folder).lstrip("/")
    return file
