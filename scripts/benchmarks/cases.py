"""The measurements: each puts load on a running server and returns figures."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.access import access_costs
from benchmarks.bare import bare_generation
from benchmarks.console import CONSOLE_STEPS, console
from benchmarks.engines import ENGINES, ENGINES_STEPS, engines
from benchmarks.figures import Budget, Figure
from benchmarks.hostile import HOSTILE_STEPS, hostile
from benchmarks.imports import IMPORTS_STEPS, imports
from benchmarks.lint import lint_cost
from benchmarks.load import Load
from benchmarks.machine import resident_bytes, sync_time
from benchmarks.measuring import POOL, mean_cost, quantile
from benchmarks.mqtt_gateway import MQTT_STEPS, mqtt_gateway
from benchmarks.provisioning import PROVISIONING_STEPS, provisioning
from benchmarks.signed import Signer, bearer_get, new_csr, plain_get
from benchmarks.yandex import WIRES, YandexFleet
from benchmarks.yandex_mqtt import YANDEX_MQTT_STEPS, yandex_mqtt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.bench import Bench
    from benchmarks.figures import Cost
    from benchmarks.yandex import Wire

__all__ = ["CASES", "Case"]

_SLOW_SYNC = 0.0002  # seconds; on slower disks there is no budget for changes
_WARM_UP = 0.5  # seconds
_LOG_DELAY = 0.2  # seconds; the log entry of a request is written after its answer


@dataclass(frozen=True, slots=True)
class Case:
    """``steps`` is how often ``run`` calls Bench.step."""

    name: str
    steps: int
    run: Callable[[Bench], list[Figure]]


def idle(bench: Bench) -> list[Figure]:
    """The memory of a new server. Must be the first case."""
    bench.step("idle memory")
    start = time.monotonic()
    bench.wait_for_pool()
    time.sleep(max(0.0, 5.0 - (time.monotonic() - start)))
    megabytes = resident_bytes(bench.server.process.pid) / 1e6
    return [Figure("idle", "Idle memory (RSS)", megabytes, "MB", Budget(150, at_most=True))]


def burst(bench: Bench) -> list[Figure]:
    bench.step("bursts on the key pool")
    bursts = 6 if bench.quick else 20
    costs: list[Cost] = []
    log = bench.server.output
    with Load(bench.https, 4, [Signer(bench.server).create_keys()]) as load:
        load.run(count=4)
        time.sleep(_LOG_DELAY)
        offset = log.stat().st_size
        for _ in range(bursts):
            bench.wait_for_pool()
            costs.append(bench.measured(load, count=POOL)[1])
    time.sleep(_LOG_DELAY)
    server = sorted(_server_times(log, offset, "CreateKeysAndCertificate"))
    if len(server) != bursts * POOL:
        raise ValueError(f"the log has {len(server)} requests instead of {bursts * POOL}")
    what = "CreateKeysAndCertificate, bursts of 32 over 4 connections, "
    cost = mean_cost(costs)
    return [
        Figure("burst", f"{what}server time p50", quantile(server, 0.5), "ms", Budget(3, at_most=True)),
        Figure("burst", f"{what}server time p99", quantile(server, 0.99), "ms", Budget(15, at_most=True)),
        Figure("burst", f"{what}p50 at the client", cost.p50 * 1000, "ms", cost=cost),
    ]


def sustained(bench: Bench) -> list[Figure]:
    threads = os.cpu_count() or 1
    seconds = bench.seconds(9)
    bare: list[tuple[float, float]] = []
    served: list[tuple[float, Cost]] = []
    for turn in (1, 2):
        bench.step(f"bare RSA-2048 generation, turn {turn}")
        bench.wait_for_pool()
        bare.append(bare_generation(threads, seconds))
        bench.step(f"sustained CreateKeysAndCertificate, turn {turn}")
        with Load(bench.https, 4 * threads, [Signer(bench.server).create_keys()]) as load:
            load.run(count=POOL + 4 * threads)  # uses up the keys in the pool
            served.append(bench.measured(load, seconds))
    bare_rate = statistics.mean(rate for rate, _ in bare)
    bare_cost = statistics.mean(cost for _, cost in bare)
    rate = statistics.mean(rate for rate, _ in served)
    cost = mean_cost([cost for _, cost in served])
    what = "CreateKeysAndCertificate, sustained"
    return [
        Figure("sustained", f"{what}, against bare generation", rate / bare_rate, "ratio", Budget(0.90, at_most=False)),
        Figure("sustained", "the same, per CPU-second", bare_cost / cost.server, "ratio"),
        Figure("sustained", what, rate, "/s", cost=cost),
        Figure("sustained", f"RSA-2048 generation, bare, {threads} threads", bare_rate, "/s"),
    ]


def csr(bench: Bench) -> list[Figure]:
    sync = sync_time(bench.server.data_dir)
    figures = [Figure("csr", "fdatasync of one page in the data directory, median", sync * 1000, "ms")]
    request = Signer(bench.server).create_from_csr(new_csr())
    costs = []
    for connections in (32, 1):
        what = f"CreateCertificateFromCsr (P-256), {connections} client{'s' * (connections > 1)}"
        bench.step(what)
        rate, cost = bench.rate(Load(bench.https, connections, [request]), bench.seconds(6))
        figures.append(Figure("csr", what, rate, "/s", _durable(connections, sync), cost))
        costs.append(cost.server)
    bench.step("the lint by itself")
    lint = lint_cost(1_000 if bench.quick else 3_000)
    what = "CreateCertificateFromCsr (P-256), 32 clients, of the server CPU the lint"
    figures.append(Figure("csr", what, lint * 1e6, "us"))
    figures.append(Figure("csr", f"{what}, share", lint / costs[0], "ratio", Budget(0.15, at_most=True)))
    return figures


def _durable(connections: int, sync: float) -> Budget | None:
    """The budget for changes; None for one client and for slow disks."""
    return Budget(1500, at_most=False) if connections == 32 and sync <= _SLOW_SYNC else None


def describe(bench: Bench) -> list[Figure]:
    server = bench.server
    ids = bench.certificate_ids()
    https, http = Signer(server), Signer(server, tls=False)
    signed = [https.describe(id) for id in ids]
    plain = [http.describe(id) for id in ids]
    native = [bearer_get(f"/v1/certificates/{id}", "localhost", server.token) for id in ids]
    budget = Budget(5000, at_most=False)
    variants = (
        ("DescribeCertificate, 32 clients", bench.https, 32, signed, budget),
        ("DescribeCertificate, 1 client", bench.https, 1, signed, None),
        ("DescribeCertificate, plain HTTP, 32 clients", bench.http, 32, plain, None),
        ("GET /v1/certificates/{id} (native), 32 clients", bench.https, 32, native, None),
    )
    figures = []
    for what, target, connections, requests, limit in variants:
        bench.step(what)
        rate, cost = bench.rate(Load(target, connections, requests), bench.seconds(6))
        figures.append(Figure("describe", what, rate, "/s", limit, cost))
    return figures


def access(bench: Bench) -> list[Figure]:
    """The cost of authentication, authorization and audit: together, against a request without them, and separately."""
    server = bench.server
    ids = bench.certificate_ids()
    signer = Signer(server)
    variants = (
        ("GET /healthz (no access control), 32 clients", [plain_get("/healthz", "localhost")]),
        ("the same, native", [bearer_get(f"/v1/certificates/{id}", "localhost", server.token) for id in ids]),
        ("the same, SigV4", [signer.describe(id) for id in ids]),
    )
    costs = []
    for what, requests in variants:
        bench.step(f"access: {what}")
        costs.append(bench.rate(Load(bench.https, 32, requests), bench.seconds(4)))
    (baseline, probe), (_, native), (_, signed) = costs
    bench.step("access: the parts by themselves")
    parts = access_costs(server, ids[0], 2_000 if bench.quick else 10_000)
    what = "DescribeCertificate, server CPU"
    return [
        Figure("access", variants[0][0], baseline, "/s", cost=probe),
        Figure("access", f"{what} beyond /healthz, native", (native.server - probe.server) * 1e6, "us"),
        Figure("access", f"{what} beyond /healthz, SigV4", (signed.server - probe.server) * 1e6, "us"),
        *(Figure("access", f"of that, {part}", seconds * 1e6, "us") for part, seconds in parts.items()),
    ]


def add_certificate(wire: Wire) -> Callable[[Bench], list[Figure]]:
    def run(bench: Bench) -> list[Figure]:
        sync = sync_time(bench.server.data_dir)
        figures = []
        with YandexFleet(bench.server) as fleet:
            for connections, seconds, highest in ((32, bench.seconds(4), 3000), (1, bench.seconds(2), 1000)):
                what = f"AddCertificate ({wire}, P-256), {connections} client{'s' * (connections > 1)}"
                bench.step(what)
                load = fleet.add(wire, connections, round((_WARM_UP + seconds) * highest))
                rate, cost = bench.rate(load, seconds)
                figures.append(Figure(f"add-{wire.lower()}", what, rate, "/s", _durable(connections, sync), cost))
        return figures

    return run


def get_device(bench: Bench) -> list[Figure]:
    figures = []
    with YandexFleet(bench.server) as fleet:
        for wire, (connections, seconds) in itertools.product(WIRES, ((32, 4), (1, 2))):
            what = f"DeviceService.Get ({wire}), {connections} client{'s' * (connections > 1)}"
            bench.step(what)
            rate, cost = bench.rate(fleet.get(wire, connections), bench.seconds(seconds))
            figures.append(Figure("get-device", what, rate, "/s", None, cost))
    return figures


def _server_times(log: Path, offset: int, operation: str) -> list[float]:
    """The milliseconds of each request, from the server's log."""
    with log.open("rb") as file:
        file.seek(offset)
        lines = [json.loads(line) for line in file]
    return [line["ms"] for line in lines if line.get("event") == "request" and line["operation"] == operation]


# In this order: idle measures the memory of a server that has not served a request.
CASES = (
    Case("idle", 1, idle),
    Case("burst", 1, burst),
    Case("sustained", 4, sustained),
    Case("csr", 3, csr),
    Case("describe", 4, describe),
    Case("access", 4, access),
    *(Case(f"add-{wire.lower()}", 2, add_certificate(wire)) for wire in WIRES),
    Case("get-device", 4, get_device),
    Case(ENGINES, ENGINES_STEPS, engines),
    Case("mqtt", MQTT_STEPS, mqtt_gateway),
    Case("yandex-mqtt", YANDEX_MQTT_STEPS, yandex_mqtt),
    Case("provisioning", PROVISIONING_STEPS, provisioning),
    Case("imports", IMPORTS_STEPS, imports),
    Case("console", CONSOLE_STEPS, console),
    Case("hostile", HOSTILE_STEPS, hostile),
)
