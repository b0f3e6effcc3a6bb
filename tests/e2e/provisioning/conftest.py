"""A server with a fleet to be provisioned, and a pre-provisioning hook whose answers the test sets."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import iot_client
from tests.e2e.logs import check_log
from tests.e2e.provisioning.support import LAMBDA, Fleet, HookServer
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from thingmint.testing import RunningServer


@pytest.fixture(scope="package")
def hook() -> Iterator[HookServer]:
    with HookServer().running() as hook:
        yield hook


@pytest.fixture(scope="package")
def provisioning_server(hook: HookServer, new_store: Callable[[], dict[str, str]]) -> Iterator[RunningServer]:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        dead = unused.getsockname()[1]
    hooks = {
        LAMBDA: f"http://127.0.0.1:{hook.port}/may-it",
        f"{LAMBDA}-dead": f"http://127.0.0.1:{dead}/",
        f"{LAMBDA}-missing": "entry-point:there-is-none",
    }
    arguments = ["--log-format=json", "--key-pool=8"]
    environment = {"THINGMINT_HOOKS": json.dumps(hooks), **new_store()}
    with running_server(arguments=arguments, environment=environment) as running:
        yield running
        log = running.output.read_text(errors="replace")
        check_log(log)


@pytest.fixture(scope="package")
def fleet(provisioning_server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    client: Any = iot_client(provisioning_server)
    with contextlib.closing(client):
        yield Fleet.of(provisioning_server, client, tmp_path_factory.mktemp("fleet"))
