"""Generates RSA-2048 keys and nothing else, to compare CreateKeysAndCertificate with.

Run as a program, it prints keys per second and CPU seconds per key.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time

from cryptography.hazmat.primitives.asymmetric import rsa

__all__ = ["bare_generation"]


def bare_generation(threads: int, seconds: float) -> tuple[float, float]:
    """Keys per second that a separate process generates, and CPU seconds per key."""
    command = [sys.executable, "-I", __file__, str(threads), str(seconds)]
    rate, cost = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(rate), float(cost)


def _generate(seconds: float, rates: list[float], costs: list[float]) -> None:
    made, start, cpu = 0, time.perf_counter(), time.thread_time()
    while time.perf_counter() - start < seconds:
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        made += 1
    rates.append(made / (time.perf_counter() - start))
    costs.append((time.thread_time() - cpu) / made)


def _main(threads: int, seconds: float) -> None:
    rates: list[float] = []
    costs: list[float] = []
    workers = [threading.Thread(target=_generate, args=(seconds, rates, costs)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(sum(rates), statistics.mean(costs))


if __name__ == "__main__":
    _main(int(sys.argv[1]), float(sys.argv[2]))
