"""Starts servers and checks them step by step with real clients. Exit status 0 means that every step passed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from thingmint.testing import ServerFailed, running_server
from tour import StepFailed, Tour, access, aws, devices, moving, native, processes, server, yandex, yandex_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# In this order: `stopping` stops the server, so it is the last stage.
STAGES: Sequence[Callable[[Tour], None]] = (
    server.listening,
    aws.certificates,
    native.keys_and_certificate,
    yandex.certificates,
    access.users_and_audit,
    devices.mqtt_gateway,
    yandex_devices.messages,
    moving.from_yandex,
    moving.from_aws,
    processes.sharing_a_database,
    server.stopping,
)

_TAIL = 20  # lines


def main(stages: Sequence[Callable[[Tour], None]] = STAGES) -> int:
    console = Console(highlight=False, soft_wrap=True)
    console.print("Starting a server with a temporary data directory, on free ports.")
    try:
        with running_server() as running:
            tour = Tour(console, running)
            grpc = f"port {running.ports['grpc']}"
            console.print(escape(f"It listens on {running.api_url}, on {running.http_url} and, for gRPC, on {grpc}."))
            try:
                for stage in stages:
                    stage(tour)
            except StepFailed:
                _show_log(console, running.output.read_text(errors="replace"))
                return 1
    except ServerFailed as error:
        console.print("[bold red]The server did not start.[/]")
        _show_log(console, str(error))
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted. The server is stopped and its data deleted.")
        return 130
    console.print(f"\n[bold green]All {tour.steps} steps passed.[/] Next: make serve, which keeps its data in ./data.")
    return 0


def _show_log(console: Console, log: str) -> None:
    lines = log.splitlines()
    console.print(f"\n[bold]The end of the server's log[/] ({min(len(lines), _TAIL)} of {len(lines)} lines):")
    for line in lines[-_TAIL:]:
        console.print(escape(f"  {line}"))


if __name__ == "__main__":
    sys.exit(main())
