"""The load over gRPC: one process with N channels, each of which makes one unary call at a time.

It uses the protocol of ``load.py`` on standard input and output: a first order with the method, the metadata and the
requests (bytes), then one order in each line. If an answer is not OK, it prints the answer on standard error and ends.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["GRPC_VERBOSITY"] = "NONE"  # read when gRPC is imported

import grpc
import grpc.aio

if TYPE_CHECKING:
    from collections.abc import Iterator

_READY = 10.0  # seconds
_SILENCE = 30.0  # seconds without an answer


class _Clients:
    """Channels that share no connection, as if they were on different machines."""

    def __init__(self, first: dict[str, Any]) -> None:
        credentials = grpc.ssl_channel_credentials(Path(first["ca"]).read_bytes())
        target = f"{first['host']}:{first['port']}"
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self._channels = [
            grpc.aio.secure_channel(target, credentials, options=options) for _ in range(first["connections"])
        ]
        self._calls: list[Any] = [channel.unary_unary(first["method"]) for channel in self._channels]
        self._metadata = tuple((name, value) for name, value in first["metadata"])

    async def connect(self) -> None:
        async with asyncio.timeout(_READY):
            for channel in self._channels:
                await channel.channel_ready()

    async def drive(self, requests: Iterator[bytes], seconds: float, count: int) -> dict[str, Any]:
        latencies: list[float] = []
        sent = 0
        cpu, start = time.process_time(), time.perf_counter()
        end = start + seconds

        async def one_client(call: Any) -> None:
            nonlocal sent
            now = time.perf_counter()
            while now < end and sent < count:
                sent += 1
                before = now
                await call(next(requests), metadata=self._metadata, timeout=_SILENCE)
                now = time.perf_counter()
                latencies.append(now - before)

        await asyncio.gather(*(one_client(call) for call in self._calls))
        took = time.perf_counter() - start
        latencies.sort()
        return {
            "answered": len(latencies),
            "seconds": took,
            "cpu": time.process_time() - cpu,
            "latencies": latencies,
        }


async def _serve_orders() -> None:
    first = json.loads(sys.stdin.readline())
    requests = itertools.cycle([base64.b64decode(request) for request in first["requests"]])
    clients = _Clients(first)
    await clients.connect()
    print("{}", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        print(json.dumps(await clients.drive(requests, order["seconds"], order["count"])), flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(_serve_orders())
    except (grpc.RpcError, TimeoutError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
