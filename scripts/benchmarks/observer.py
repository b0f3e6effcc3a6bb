"""A client that other clients must not disturb: requests /healthz repeatedly and measures the longest wait.

It is a separate process: in the process that loads the server it would wait for the interpreter. Run as a program, it
takes the port as its argument, and prints the longest wait when its standard input ends.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Observer"]

_REQUEST = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
_PAUSE = 0.002  # seconds between an answer and the next request
_SILENCE = 60.0  # seconds


class Observer:
    """A context manager for the process. ``longest`` is the longest wait in seconds, set at the end."""

    longest = float("inf")  # if it was not answered at all

    def __init__(self, port: int) -> None:
        self._port = port

    def __enter__(self) -> Self:
        command = [sys.executable, "-I", __file__, str(self._port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        printed, _ = self._process.communicate()
        if printed:
            self.longest = float(printed)


def _longest_wait(port: int) -> float:
    longest = 0.0
    with socket.create_connection(("127.0.0.1", port), _SILENCE) as connection:
        print("watching", flush=True)
        while not select.select([sys.stdin], [], [], _PAUSE)[0]:
            start = time.perf_counter()
            connection.sendall(_REQUEST)
            if not connection.recv(65_536):
                raise ConnectionError("the server closed the connection")
            longest = max(longest, time.perf_counter() - start)
    return longest


if __name__ == "__main__":
    print(_longest_wait(int(sys.argv[1])))
