"""Real brokers, each with private ports and a private folder. `make services` installs them."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["RunningBroker", "mosquitto", "program", "rabbitmq"]

_PATIENCE = 60.0  # seconds; RabbitMQ takes ten on an idle machine
_RABBITMQ_ITSELF = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # Debian's script in /usr/sbin changes user and folder


def program(name: str) -> str:
    """Returns the path of a program. Skips the test if it is not installed."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not there: `make services` installs it")
    return found


def free_port() -> int:
    """Returns a free port below the ephemeral ports, so that no client gets it before the broker starts."""
    while True:
        port = secrets.randbelow(12_000) + 20_000
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            return port


@dataclass(slots=True)
class RunningBroker:
    """``settings``: the table [broker] of thingmint.toml, without the version."""

    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    port: int
    settings: dict[str, str]
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                cwd=self.folder,  # for Erlang's crash dumps
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # RabbitMQ runs as a child of its script: signals go to both
            )
        deadline = time.monotonic() + _PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail((self.folder / "output").read_text(errors="replace"))
            time.sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        self._signal(signal.SIGKILL)
        self.process.wait()
        while True:  # the broker's port may be free a moment after the end of the script
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                return
            time.sleep(0.01)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stops the broker's processes with SIGSTOP. Its connections stay open."""
        self._signal(signal.SIGSTOP)
        try:
            while not all(state == "T" for state in self._states()):
                time.sleep(0.001)
            yield
        finally:
            self._signal(signal.SIGCONT)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def _states(self) -> Iterator[str]:
        """Yields the states of all threads of its processes (proc(5)): a signal takes a moment."""
        assert self.process is not None
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if int(_fields(stat)[2]) == self.process.pid:  # the process group
                    yield from (_fields(thread)[0] for thread in stat.parent.glob("task/*/stat"))

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)


def _fields(stat: Path) -> list[str]:
    """Returns the fields after the program's name, which may contain spaces: state, parent, group and more."""
    return stat.read_text().rpartition(") ")[2].split()


@contextlib.contextmanager
def mosquitto(folder: Path, *further: str) -> Iterator[RunningBroker]:
    """``further``: additional lines of the configuration."""
    command = program("mosquitto")
    port = free_port()
    lines = ["user root", "persistence true", f"persistence_location {folder}/", "autosave_interval 1"]
    lines += [
        "autosave_on_changes true",
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        "log_type all",
        *further,
    ]
    configuration = folder / "mosquitto.conf"
    configuration.write_text("\n".join(lines) + "\n")
    broker = RunningBroker(
        [command, "-c", str(configuration)], os.environ, folder, port, {"url": f"mqtt://127.0.0.1:{port}"}
    )
    try:
        broker.start()
        yield broker
    finally:
        broker.end()


@contextlib.contextmanager
def rabbitmq(folder: Path) -> Iterator[RunningBroker]:
    command = program("rabbitmq-server")
    if _RABBITMQ_ITSELF.exists():
        command = str(_RABBITMQ_ITSELF)
    port, epmd_port = free_port(), free_port()
    (folder / "plugins").write_text("[rabbitmq_mqtt].\n")
    (folder / "rabbitmq.conf").write_text(
        f"listeners.tcp = none\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\nmqtt.allow_anonymous = false\n"
    )
    (folder / "password").write_text("guest\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),  # for the cookie
        "LC_ALL": "C.UTF-8",
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"thingmint-{port}@localhost",
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        # By default its schedulers wait actively, and take CPU time from other tests.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
    }
    settings = {
        "url": f"mqtt://127.0.0.1:{port}",
        "dialect": "rabbitmq",
        "username": "guest",
        "password_file": str(folder / "password"),
    }
    broker = RunningBroker([command], environment, folder, port, settings)
    # Erlang would start a name daemon (epmd), which keeps running.
    epmd = subprocess.Popen([program("epmd"), "-port", str(epmd_port), "-address", "127.0.0.1"])
    try:
        broker.start()
        yield broker
    finally:
        broker.end()
        epmd.terminate()
        epmd.wait()
