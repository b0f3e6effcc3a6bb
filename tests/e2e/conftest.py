"""A real server for the end-to-end tests. Tests share it within a worker if they leave nothing that affects others."""

from __future__ import annotations

import asyncio
import functools
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import asyncpg
import boto3
import pytest
from botocore.config import Config

from tests.api_documents import by_id, response
from tests.e2e.logs import check_log
from tests.e2e.signing import Signer
from thingmint.testing import RunningServer, running_server
from thingmint.testing.postgres import NoPostgres, Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs tests that are marked ``both_engines`` on both engines, to show that clients see no difference."""
    if "engine" in metafunc.fixturenames:
        engines = [pytest.param("sqlite", id=pytest.HIDDEN_PARAM)]
        marked = {marker.name for marker in metafunc.definition.iter_markers()}
        if "both_engines" in marked and "sqlite" not in marked:
            engines.append(pytest.param("postgres"))
        metafunc.parametrize("engine", engines, scope="session")


@pytest.fixture(scope="session")
def new_store(engine: str) -> Iterator[Callable[[], dict[str, str]]]:
    """A function that returns the settings for a new, empty store."""
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
        # No request of this worker's tests may have caused an unexpected error.
        log = running.output.read_text(errors="replace")
        check_log(log)


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
    """A check that the server still runs and its certificates did not change; also made at the end of the test."""
    before = registered(iot)

    def check() -> None:
        assert server.process.poll() is None, server.output.read_text()
        assert registered(iot) == before

    yield check
    check()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A server with durable commits, as in production: tests kill processes and servers."""
    try:
        server = Postgres({"max_connections": "100", "shared_buffers": "32MB"})
    except NoPostgres as error:
        pytest.skip(f"PostgreSQL was not found: {error}")
    with server:
        yield server


@pytest.fixture
def url(postgres: Postgres) -> str:
    """The URL of a new, empty database."""
    return new_database(postgres)


def new_database(postgres: Postgres) -> str:
    name = f"t{secrets.token_hex(6)}"

    async def make() -> None:
        connection = await asyncpg.connect(postgres.url())
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    with ThreadPoolExecutor(1) as thread:  # in the main thread, Playwright's event loop may run
        thread.submit(asyncio.run, make()).result()
    return postgres.url(name)


def registered(iot: Any) -> list[tuple[str, str]]:
    """Ids and statuses of all certificates, newest first."""
    pages = iot.get_paginator("list_certificates").paginate(PaginationConfig={"PageSize": 250})
    return [(c["certificateId"], c["status"]) for page in pages for c in page["certificates"]]


def iot_client(server: RunningServer, **overrides: Any) -> Any:
    """A boto3 client without retries, so that a test sees the first answer."""
    arguments = server.boto3_arguments() | {"config": Config(retries={"total_max_attempts": 1})} | overrides
    client = _session().client("iot", **arguments)
    client.meta.events.register("after-call.iot", _check_documented)
    return client


def _check_documented(model: Any, parsed: Mapping[str, Any], **_: Any) -> None:
    """Asserts that the OpenAPI document has an error of an operation."""
    if "Error" in parsed:
        code, responses = parsed["Error"]["Code"], by_id("aws")[model.name]["responses"]
        texts = [response("aws", by_id("aws")[model.name], status)["description"] for status in responses]
        assert any(f"- `{code}`: " in text for text in texts), f"{model.name} has no error {code}"


@functools.cache
def _session() -> Any:
    """One session for all clients: each session loads the service model, which takes longer than most tests."""
    return boto3.session.Session()
