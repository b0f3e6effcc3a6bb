"""After SIGKILL under load, every answered operation is found over gRPC and REST."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import httpx
from yandex.cloud.iot.devices.v1.device_service_pb2 import AddDeviceCertificateRequest

from tests.e2e.yandex.certificates import certificate, sha256_of
from tests.e2e.yandex.clients import Cloud, Refused
from thingmint.testing import running_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.yandex.clients import Wire

WORKERS = 8
ENOUGH = 120  # answers before the kill
ROUNDS = 2


def test_every_answered_operation_is_found_after_a_kill(tmp_path: Path) -> None:
    data = tmp_path / "data"
    answered: list[tuple[str, str, str]] = []  # operation, device, fingerprint
    for _ in range(ROUNDS):
        with running_server(data) as server:
            cloud = Cloud(server)
            registry = cloud.registry()
            devices = [cloud.device(registry) for _ in range(WORKERS)]
            wires = (cloud.grpc, cloud.rest)  # made before the threads need them
            goal, counts = len(answered) + ENOUGH, [0] * WORKERS
            threads = [
                threading.Thread(target=load, args=(wires[number % 2], devices[number], answered, counts, number))
                for number in range(WORKERS)
            ]
            for thread in threads:
                thread.start()
            deadline = time.monotonic() + 60
            while len(answered) < goal and time.monotonic() < deadline:
                time.sleep(0.001)
            server.kill()
            for thread in threads:
                thread.join(30)
                assert not thread.is_alive()
            cloud.close()
            assert len(answered) >= goal
            assert all(counts), "each worker got answers"
    with running_server(data) as server:
        cloud = Cloud(server)
        bound = {device: {each.fingerprint for each in cloud.certificates(device)} for _, device, _ in answered}
        for number, (operation, device, fingerprint) in enumerate(answered):
            assert cloud.operation(operation, ("grpc", "rest")[number % 2]).done
            assert fingerprint in bound[device]
        cloud.close()


def load(wire: Wire, device: str, answered: list[tuple[str, str, str]], counts: list[int], number: int) -> None:
    """Adds certificates until the server is gone or refuses them."""
    while True:
        pem = certificate()
        request = AddDeviceCertificateRequest(device_id=device, certificate_data=pem)
        try:
            operation = wire.call("DeviceService/AddCertificate", request, timeout=10)
        except (Refused, httpx.TransportError):
            return
        answered.append((operation.id, device, sha256_of(pem)))
        counts[number] += 1
