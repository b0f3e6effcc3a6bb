"""Devices of Yandex IoT Core over MQTT: the cost of connecting, publishing and idle devices.

The rules of Yandex IoT Core are compared with those of AWS IoT, on the same server.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import ssl
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from yandex.cloud.iot.devices.v1.device_service_pb2 import CreateDeviceRequest

from benchmarks.devices import Devices
from benchmarks.figures import Budget, Figure
from benchmarks.fleet import make_fleet, register
from benchmarks.machine import resident_bytes
from benchmarks.measuring import SERVE, mean_cost, measured
from benchmarks.mqtt_gateway import NO_RATES
from benchmarks.yandex import WIRES, YandexFleet
from thingmint.services.password_hashing import PasswordHasher, new_password
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.bench import Bench
    from benchmarks.devices import Identity
    from benchmarks.fleet import DeviceFleet
    from benchmarks.load import Outcome
    from thingmint.testing import RunningServer

__all__ = ["YANDEX_MQTT_STEPS", "yandex_mqtt"]

YANDEX_MQTT_STEPS = 7

_CASE = "yandex-mqtt"
_AT_ONCE = 32  # devices that connect at the same time
_CLIENTS = 50  # devices that publish, each one message at a time
_SETTLE = 1.0  # seconds
_WARM_UP = 0.5
_TURNS = 3
_CALLERS = 32  # of Publish
_CALLED = 64  # devices for which Publish is called in turn
_BYTES = 100  # of a message
_EARLY = 100  # devices that connect before memory is measured
_HASHES = 20
_ALL_MESSAGES = "bench/+/data"
_PUBLISHES = f"QoS 1, {_CLIENTS} clients with window 1, acknowledged"

_HEARS = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
        {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": f"arn:aws:iot:*:*:topicfilter/{_ALL_MESSAGES}"},
        {"Effect": "Allow", "Action": "iot:Receive", "Resource": "arn:aws:iot:*:*:topic/bench/*"},
    ],
}


@dataclass(frozen=True, slots=True)
class _World:
    """A server with devices under the rules of AWS IoT and of Yandex IoT Core.

    All Yandex devices have a certificate. Some have a password that was ``chosen`` by a person, all others one that
    Thingmint ``generated``. The hearers receive what all devices publish.
    """

    server: RunningServer
    fleet: YandexFleet
    ids: Sequence[str]
    aws: Sequence[Identity]
    aws_hearer: Identity
    yandex: Sequence[Identity]
    registry: Identity
    chosen: Sequence[Identity]
    generated: Sequence[Identity]

    @property
    def pid(self) -> int:
        return self.server.process.pid

    def devices(self, identities: Sequence[Identity]) -> Devices:
        return Devices(self.server.ports["mqtt"], self.server.ca, identities)


def yandex_mqtt(bench: Bench) -> list[Figure]:
    """Measures on a new server, so that its memory is used by the devices only."""
    folder = Path(tempfile.mkdtemp(prefix="yandex-mqtt-", dir=bench.server.data_dir.parent))
    try:
        with running_server(folder / "data", arguments=SERVE, environment=NO_RATES) as server:
            bench.step("Yandex devices with certificates, aliases and passwords")
            world = _make_world(server, folder, 1_000 if bench.quick else 3_000, 64 if bench.quick else 200)
            return [
                *_memory(bench, world),
                *_hashing(bench, world),
                *_connects(bench, world),
                *_publishes(bench, world),
                *_heard_publishes(bench, world),
                *_api_publishes(bench, world),
            ]
    finally:
        shutil.rmtree(folder)


def _make_world(server: RunningServer, folder: Path, count: int, chosen: int) -> _World:
    aws, hearer, yandex, registry = (
        make_fleet(folder / name, size)
        for name, size in (("aws", count), ("hearer", 1), ("yandex", count), ("registry", 1))
    )
    register(server, aws)
    register(server, hearer, _HEARS)
    passwords = [secrets.token_urlsafe() + "aA1" if at < chosen else new_password() for at in range(count)]
    with YandexFleet(server, _pems(registry)[0]) as fleet:
        # With this alias a device publishes to the same topics as the AWS device with the same client id.
        ids = fleet.create(
            [
                CreateDeviceRequest(
                    certificates=[CreateDeviceRequest.Certificate(certificate_data=pem)],
                    topic_aliases={f"bench/bench-{at}/": "$devices/{id}/events/"},
                    password=password,
                )
                for at, (pem, password) in enumerate(zip(_pems(yandex), passwords, strict=True))
            ]
        )
    logins = list(zip(ids, passwords, strict=True))
    return _World(
        server,
        fleet,
        ids,
        aws.identities,
        hearer.identities[0],
        yandex.identities,
        registry.identities[0],
        logins[:chosen],
        logins[chosen:],
    )


def _pems(fleet: DeviceFleet) -> list[str]:
    return [ssl.DER_cert_to_PEM_cert(certificate.der) for certificate in fleet.certificates]


def _memory(bench: Bench, world: _World) -> list[Figure]:
    """The devices measured first stay connected: else the others would get the memory that is free then.

    For the same reason some devices of both kinds connect before.
    """
    bench.step("memory of idle Yandex devices")
    figures, sizes = [], []
    with contextlib.ExitStack() as stack:
        kinds = [
            (name, identities, stack.enter_context(world.devices(identities)))
            for name, identities in (("AWS device", world.aws), ("Yandex device", world.yandex))
        ]
        for _, _, devices in kinds:
            devices.visit(_AT_ONCE, 2 * _WARM_UP)
            devices.stay(_EARLY)
        for name, identities, devices in kinds:
            time.sleep(_SETTLE)
            before = resident_bytes(world.pid)
            devices.stay(len(identities))
            time.sleep(_SETTLE)
            sizes.append((resident_bytes(world.pid) - before) / len(identities) / 1e3)
            figures.append(Figure(_CASE, f"Memory of an idle {name}, of {len(identities):,}", sizes[-1], "KB"))
    what = "Memory of an idle Yandex device, against an AWS device"
    return [*figures, Figure(_CASE, what, sizes[1] / sizes[0], "ratio", Budget(1.15, at_most=True))]


def _hashing(bench: Bench, world: _World) -> list[Figure]:
    """The first connection of each device with a chosen password. From then on the server remembers the passwords."""
    what = "Connects, Yandex device by a chosen password, the first time"
    bench.step(what)
    one_core = Figure(_CASE, "Argon2id hashes of passwords, one core", _hashes_per_cpu_second(), "/s")
    with world.devices(world.chosen) as devices:
        rate, cost = measured(world.pid, lambda: devices.visit(_AT_ONCE, count=len(world.chosen)))
    return [one_core, Figure(_CASE, what, rate, "/s", cost=cost)]


def _hashes_per_cpu_second() -> float:
    async def hash_all() -> None:
        for _ in range(_HASHES):
            await hasher.argon2id("owner", "password")

    hasher, before = PasswordHasher(threads=1), time.process_time()
    asyncio.run(hash_all())
    hasher.close()
    return _HASHES / (time.process_time() - before)


def _connects(bench: Bench, world: _World) -> list[Figure]:
    bench.step("connects of Yandex devices")
    with contextlib.ExitStack() as stack:
        loads = {
            name: partial(stack.enter_context(world.devices(identities)).visit, _AT_ONCE)
            for name, identities in (
                ("AWS device by certificate", world.aws),
                ("Yandex device by certificate", world.yandex),
                ("Yandex device by a generated password", world.generated),
                ("Yandex device by a chosen password that is remembered", world.chosen),
            )
        }
        return _compared(bench, world, "Connects", loads, 3)


def _publishes(bench: Bench, world: _World) -> list[Figure]:
    bench.step("publishes of Yandex devices")
    with contextlib.ExitStack() as stack:
        aws, yandex = (stack.enter_context(world.devices(each)) for each in (world.aws, world.yandex))
        for devices in (aws, yandex):
            devices.stay(_CLIENTS)
        loads: dict[str, Callable[..., Outcome]] = {
            "AWS device": aws.publish,
            "Yandex device through an alias": yandex.publish,
            "Yandex device to $me/device/events": partial(yandex.publish, topic="$me/device/events/data"),
            "Yandex device to $me/device/state": partial(yandex.publish, topic="$me/device/state/data"),
        }
        return _compared(bench, world, _PUBLISHES, loads, 2)


def _heard_publishes(bench: Bench, world: _World) -> list[Figure]:
    bench.step("publishes of Yandex devices that their registry receives")
    with contextlib.ExitStack() as stack:
        aws, yandex = (stack.enter_context(world.devices(each)) for each in (world.aws, world.yandex))
        for devices in (aws, yandex):
            devices.stay(_CLIENTS)
        loads = {
            "AWS device": partial(aws.publish, hearer=(world.aws_hearer, _ALL_MESSAGES)),
            "Yandex device through an alias": partial(yandex.publish, hearer=(world.registry, _ALL_MESSAGES)),
        }
        return _compared(bench, world, f"{_PUBLISHES} and received by one subscriber", loads, 2)


def _api_publishes(bench: Bench, world: _World) -> list[Figure]:
    bench.step("DeviceDataService.Publish")
    figures = []
    for wire in WIRES:
        with world.fleet.publish(wire, _CALLERS, world.ids[:_CALLED], _BYTES) as load:
            load.run(seconds=_WARM_UP)
            rate, cost = measured(world.pid, partial(load.run, seconds=bench.seconds(2)))
        figures.append(Figure(_CASE, f"DeviceDataService.Publish ({wire}), {_CALLERS} clients", rate, "/s", cost=cost))
    return figures


def _compared(
    bench: Bench, world: _World, what: str, loads: Mapping[str, Callable[..., Outcome]], seconds: float
) -> list[Figure]:
    """Measures the loads in turns, so that other load on the machine affects all alike. The first is AWS's."""
    for run in loads.values():
        run(seconds=_WARM_UP)
    turns = [
        {name: measured(world.pid, partial(run, seconds=bench.seconds(seconds))) for name, run in loads.items()}
        for _ in range(1 if bench.quick else _TURNS)
    ]
    first = next(iter(loads))
    figures = []
    for name in loads:
        rate = statistics.mean(turn[name][0] for turn in turns)
        cost = mean_cost([turn[name][1] for turn in turns])
        figures.append(Figure(_CASE, f"{what}, {name}", rate, "/s", cost=cost))
        if name != first:
            ratio = statistics.median(turn[first][1].server / turn[name][1].server for turn in turns)
            figures.append(Figure(_CASE, f"{what}, {name}, per CPU-second against the {first}", ratio, "ratio"))
    return figures
