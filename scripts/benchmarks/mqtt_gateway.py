"""The MQTT gateway: the cost of connecting, publishing and idle devices, compared with Mosquitto."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

from benchmarks.devices import Devices
from benchmarks.figures import Budget, Figure
from benchmarks.fleet import make_fleet, register
from benchmarks.machine import resident_bytes
from benchmarks.measuring import SERVE, mean_cost, measured, quantile
from benchmarks.mosquitto import mosquitto_version, running_mosquitto
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.bench import Bench
    from benchmarks.fleet import DeviceFleet
    from benchmarks.load import Outcome
    from thingmint.testing import RunningServer

__all__ = ["MQTT_STEPS", "NO_RATES", "connecting", "mqtt_gateway"]

MQTT_STEPS = 5

NO_RATES = {f"THINGMINT_MQTT_RATES__{name}": "0" for name in ("PUBLISHES", "SUBSCRIBES", "RECEIVED")}
_AT_ONCE = 32  # devices that connect at the same time
_CLIENTS = 50  # devices that publish, each one message at a time
_EVICTED = 20
_SETTLE = 1.0  # seconds
_WARM_UP = 0.5
_TURNS = 3


@dataclass(frozen=True, slots=True)
class _Subject:
    """A server under measurement."""

    name: str
    pid: int
    port: int
    ca: Path
    fleet: DeviceFleet

    def devices(self) -> Devices:
        return Devices(self.port, self.ca, self.fleet.identities)


class _ConnectingDevices(Devices):
    """Devices that connect and disconnect, as a load with the method ``run``."""

    def run(self, *, seconds: float) -> Outcome:
        return self.visit(_AT_ONCE, seconds)


def connecting(bench: Bench) -> _ConnectingDevices:
    """A load of devices that connect and disconnect."""
    fleet = make_fleet(Path(tempfile.mkdtemp(prefix="mqtt-", dir=bench.server.data_dir.parent)) / "fleet", 1_000)
    register(bench.server, fleet)
    return _ConnectingDevices(bench.server.ports["mqtt"], bench.server.ca, fleet.identities)


def mqtt_gateway(bench: Bench) -> list[Figure]:
    """Measures on a new server, so that its memory is used by the devices only."""
    folder = Path(tempfile.mkdtemp(prefix="mqtt-", dir=bench.server.data_dir.parent))
    try:
        with contextlib.ExitStack() as stack:
            fleet = make_fleet(folder / "fleet", 1_000 if bench.quick else 5_000)
            server = stack.enter_context(running_server(folder / "data", arguments=SERVE, environment=NO_RATES))
            register(server, fleet)
            subjects = list(_subjects(stack, folder, server, fleet))
            figures = [] if len(subjects) > 1 else [_absent()]
            figures += _memory(bench, subjects)
            figures += _connects(bench, subjects)
            for echo in (False, True):
                figures += _round_trips(bench, subjects, echo=echo)
            return [*figures, *_evictions(bench, server, subjects[0])]
    finally:
        shutil.rmtree(folder)


def _subjects(
    stack: contextlib.ExitStack, folder: Path, server: RunningServer, fleet: DeviceFleet
) -> Iterator[_Subject]:
    yield _Subject("Thingmint", server.process.pid, server.ports["mqtt"], server.ca, fleet)
    version = mosquitto_version()
    if version is not None:
        mosquitto = stack.enter_context(running_mosquitto(folder, fleet))
        yield _Subject(f"Mosquitto {version}", mosquitto.pid, mosquitto.port, fleet.ca, fleet)


def _absent() -> Figure:
    return Figure("mqtt", "Servers to compare with: Mosquitto is not on this machine", 0, "")


def _memory(bench: Bench, subjects: Sequence[_Subject]) -> list[Figure]:
    bench.step("memory of idle devices")
    figures = []
    for subject in subjects:
        count = len(subject.fleet.identities)
        with subject.devices() as devices:
            devices.visit(_AT_ONCE, 2 * _WARM_UP)
        time.sleep(_SETTLE)
        before = resident_bytes(subject.pid)
        with subject.devices() as devices:
            devices.stay(count)
            time.sleep(_SETTLE)
            each = (resident_bytes(subject.pid) - before) / count / 1e3
        budget = Budget(35, at_most=True) if subject is subjects[0] else None
        figures.append(Figure("mqtt", f"Memory of an idle device, of {count:,}, {subject.name}", each, "KB", budget))
    return figures


def _connects(bench: Bench, subjects: Sequence[_Subject]) -> list[Figure]:
    def warm_up(devices: Devices) -> None:
        devices.visit(_AT_ONCE, _WARM_UP)

    def run(devices: Devices) -> Outcome:
        return devices.visit(_AT_ONCE, bench.seconds(5))

    what = "mTLS connects (TCP, TLS 1.3, CONNECT, DISCONNECT)"
    return _compared(bench, subjects, what, warm_up, run, Budget(1.0, at_most=False))


def _round_trips(bench: Bench, subjects: Sequence[_Subject], *, echo: bool) -> list[Figure]:
    def warm_up(devices: Devices) -> None:
        devices.stay(_CLIENTS)
        devices.publish(_WARM_UP, echo=echo)

    def run(devices: Devices) -> Outcome:
        return devices.publish(bench.seconds(3), echo=echo)

    what = "delivered to its publisher and acknowledged" if echo else "acknowledged"
    return _compared(bench, subjects, f"QoS 1, {_CLIENTS} clients with window 1, {what}", warm_up, run)


def _compared(
    bench: Bench,
    subjects: Sequence[_Subject],
    what: str,
    warm_up: Callable[[Devices], None],
    run: Callable[[Devices], Outcome],
    budget: Budget | None = None,
) -> list[Figure]:
    """Measures the subjects in turns, so that other load on the machine affects all of them alike."""
    bench.step(f"mqtt: {what}")
    with contextlib.ExitStack() as stack:
        loads = [(subject.pid, stack.enter_context(subject.devices())) for subject in subjects]
        for _, devices in loads:
            warm_up(devices)
        turns = [
            [measured(pid, partial(run, devices)) for pid, devices in loads]
            for _ in range(1 if bench.quick else _TURNS)
        ]
    figures = []
    if len(subjects) > 1:
        ratios = sorted(other.server / own.server for (_, own), (_, other) in turns)
        spread = f" ({ratios[0]:.2f} to {ratios[-1]:.2f})" if len(ratios) > 1 else ""
        text = f"{what}, per CPU-second against Mosquitto{spread}"
        figures.append(Figure("mqtt", text, statistics.median(ratios), "ratio", budget))
    for subject, outcomes in zip(subjects, zip(*turns, strict=True), strict=True):
        rate = statistics.mean(rate for rate, _ in outcomes)
        cost = mean_cost([cost for _, cost in outcomes])
        figures.append(Figure("mqtt", f"{what}, {subject.name}", rate, "/s", cost=cost))
    return figures


def _evictions(bench: Bench, server: RunningServer, subject: _Subject) -> list[Figure]:
    """The time from the answer to UpdateCertificate (INACTIVE) until the device's connection is closed."""
    bench.step("mqtt: evictions")
    client: Any = boto3.session.Session().client("iot", **server.boto3_arguments())
    certificates = dict(zip(subject.fleet.identities, subject.fleet.certificates, strict=True))
    answered = []
    with subject.devices() as devices:
        identities = devices.stay(_EVICTED)
        devices.begin_waiting()
        for identity in identities:
            client.update_certificate(certificateId=certificates[identity].fingerprint, newStatus="INACTIVE")
            answered.append(time.perf_counter())
        closed = devices.waited()
    client.close()
    latencies = sorted(max(0.0, end - start) * 1e3 for start, end in zip(answered, closed, strict=True))
    what = "From a certificate's deactivation to its connection's end"
    return [
        Figure("mqtt", f"{what}, p50", quantile(latencies, 0.5), "ms"),
        Figure("mqtt", f"{what}, the slowest of {_EVICTED}", latencies[-1], "ms", Budget(1000, at_most=True)),
    ]
