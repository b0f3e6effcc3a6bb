"""A real server for the end-to-end tests; one for all tests of a worker that leave nothing behind that matters."""

from __future__ import annotations

import asyncio
import functools
import secrets
from typing import TYPE_CHECKING, Any

import asyncpg
import boto3
import pytest
from botocore.config import Config

from tests.e2e.signing import Signer
from thingmint.testing import RunningServer, running_server
from thingmint.testing.postgres import NoPostgres, Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A selection of tests shows that clients find no difference between the engines."""
    if "engine" in metafunc.fixturenames:
        engines = [pytest.param("sqlite", id=pytest.HIDDEN_PARAM)]
        marked = {marker.name for marker in metafunc.definition.iter_markers()}
        if "both_engines" in marked and "sqlite" not in marked:
            engines.append(pytest.param("postgres"))
        metafunc.parametrize("engine", engines, scope="session")


@pytest.fixture(scope="session")
def new_store(engine: str) -> Iterator[Callable[[], dict[str, str]]]:
    """Gives the settings of a store with nothing in it."""
    if engine == "sqlite":
        yield dict
        return
    try:
        postgres = Postgres()
    except NoPostgres as error:
        pytest.skip(f"PostgreSQL was not found: {error}")
    with postgres:
        yield lambda: {"THINGMINT_STORE": new_database(postgres)}


@pytest.fixture(scope="session")
def server(new_store: Callable[[], dict[str, str]]) -> Iterator[RunningServer]:
    with running_server(arguments=["--log-format=json", "--key-pool=8"], environment=new_store()) as running:
        yield running
        # Whatever the tests of this worker sent, nothing surprised the server.
        log = running.output.read_text(errors="replace")
        assert "Traceback" not in log
        assert '"level":"error"' not in log


@pytest.fixture(scope="session")
def iot(server: RunningServer) -> Iterator[Any]:
    client = iot_client(server)
    yield client
    client.close()


@pytest.fixture(scope="session")
def signer(server: RunningServer) -> Signer:
    return Signer.of(server)


@pytest.fixture
def unchanged(server: RunningServer, iot: Any) -> Iterator[Callable[[], None]]:
    """Checks, when called and at the test's end, that the server answers and that nothing was stored or altered."""
    before = registered(iot)

    def check() -> None:
        assert server.process.poll() is None, server.output.read_text()
        assert registered(iot) == before

    yield check
    check()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """As safe as it is in use: processes and servers are killed."""
    try:
        server = Postgres({"max_connections": "100", "shared_buffers": "32MB"})
    except NoPostgres as error:
        pytest.skip(f"PostgreSQL was not found: {error}")
    with server:
        yield server


@pytest.fixture
def url(postgres: Postgres) -> str:
    """Of a database with nothing in it."""
    return new_database(postgres)


def new_database(postgres: Postgres) -> str:
    name = f"t{secrets.token_hex(6)}"

    async def make() -> None:
        connection = await asyncpg.connect(postgres.url())
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    asyncio.run(make())
    return postgres.url(name)


def registered(iot: Any) -> list[tuple[str, str]]:
    """Ids and statuses of all certificates, newest first."""
    pages = iot.get_paginator("list_certificates").paginate(PaginationConfig={"PageSize": 250})
    return [(c["certificateId"], c["status"]) for page in pages for c in page["certificates"]]


def iot_client(server: RunningServer, **overrides: Any) -> Any:
    """boto3's client, told not to try again, so that a test sees the first answer."""
    arguments = server.boto3_arguments() | {"config": Config(retries={"total_max_attempts": 1})} | overrides
    return _session().client("iot", **arguments)


@functools.cache
def _session() -> Any:
    """One for all clients, as each reads the service's model anew, which takes longer than most tests."""
    return boto3.session.Session()
