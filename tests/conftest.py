"""What all tests share."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from thingmint.testing.postgres import NoPostgres, Postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.postgres import PostgresDatabase
    from tests.world import World

# No test may pick up the developer's own cloud, settings or proxy.
for _name in list(os.environ):
    if _name.startswith(("AWS_", "THINGMINT_")) or _name.lower().endswith("_proxy"):
        del os.environ[_name]
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

# Over a hundred servers are started: none compiles its modules again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def _use_memory_for_files(folder: str = "/dev/shm") -> None:
    """Stores are synced thousands of times, and a process that is killed, the worst that tests do, loses nothing that
    was written: no test needs a disk. Nothing changes for those who set TMPDIR, and where memory is short."""
    if "TMPDIR" in os.environ or not os.access(folder, os.W_OK | os.X_OK):
        return
    there = os.statvfs(folder)
    if there.f_bavail * there.f_frsize >= 2 * 2**30 and not there.f_flag & os.ST_NOEXEC:  # hooks are executed
        os.environ["TMPDIR"] = tempfile.tempdir = folder


_use_memory_for_files()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Unit tests open no socket (an event loop's own pair, which is of AF_UNIX, aside)."""
    unit = Path(__file__).parent / "unit"
    for item in items:
        if unit in item.path.parents:
            item.add_marker(pytest.mark.disable_socket)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What the services do must be the same on both engines."""
    services = Path(__file__).parent / "unit" / "services"
    marked = metafunc.definition.get_closest_marker("sqlite") is not None
    if "world" in metafunc.fixturenames and services in metafunc.definition.path.parents and not marked:
        metafunc.parametrize("world", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_database() -> Iterator[PostgresDatabase]:
    """One a worker; starting it takes a second."""
    from tests.postgres import PostgresDatabase

    try:
        server = Postgres()
    except NoPostgres as error:
        pytest.skip(f"PostgreSQL was not found: {error}")
    with server:
        yield PostgresDatabase(server)


@pytest.fixture
def postgres(postgres_database: PostgresDatabase) -> str:
    """The URL of a database that is migrated, and empty."""
    return asyncio.run(postgres_database.emptied())


@pytest.fixture
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    from tests.world import new_world  # here, as it imports most of the product

    """On SQLite; tests of the services run on PostgreSQL too, unless they are marked to be about SQLite."""
    postgres = request.getfixturevalue("postgres_database") if getattr(request, "param", "") == "postgres" else None
    async with new_world(tmp_path, postgres=postgres) as opened:
        yield opened
