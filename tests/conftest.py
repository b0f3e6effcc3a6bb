"""Fixtures and settings for all tests."""

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

# No test may use the developer's own cloud, settings or proxy.
for _name in list(os.environ):
    if _name.startswith(("AWS_", "THINGMINT_")) or _name.lower().endswith("_proxy"):
        del os.environ[_name]
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

# The tests start over a hundred servers, which would compile their modules each time without byte code.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def _use_memory_for_files(folder: str = "/dev/shm") -> None:
    """Puts temporary files into memory, unless TMPDIR is set or memory is short.

    Tests sync stores thousands of times, which is slow on a disk. They need no disk: the worst fault in a test is a
    killed process, after which all written data is still there.
    """
    if "TMPDIR" in os.environ or not os.access(folder, os.W_OK | os.X_OK):
        return
    there = os.statvfs(folder)
    if there.f_bavail * there.f_frsize >= 2 * 2**30 and not there.f_flag & os.ST_NOEXEC:  # hooks are executed
        os.environ["TMPDIR"] = tempfile.tempdir = folder


_use_memory_for_files()


# `make test-slow` runs these: they kill processes, fill disks, wait for time-outs, open a browser, or run whole pages.
SLOW = frozenset(
    {
        "e2e/access/test_commands.py",
        "e2e/bulk/test_kills.py",
        "e2e/bulk/test_s3.py",
        "e2e/console/test_administration.py",
        "e2e/console/test_chromium.py",
        "e2e/console/test_connect.py",
        "e2e/console/test_documents.py",
        "e2e/console/test_equivalents.py",
        "e2e/console/test_matrix.py",
        "e2e/console/test_oidc.py",
        "e2e/console/test_openid_provider.py",
        "e2e/console/test_playground_calls.py",
        "e2e/console/test_playground_code.py",
        "e2e/console/test_playground_pages.py",
        "e2e/console/test_provisioning_pages.py",
        "e2e/console/test_refusals.py",
        "e2e/console/test_screenshots.py",
        "e2e/console/test_two_processes.py",
        "e2e/console/test_updates.py",
        "e2e/data_plane/test_several_processes.py",
        "e2e/fleet/test_kills.py",
        "e2e/importing/test_aws_moto.py",
        "e2e/importing/test_aws_thingmint.py",
        "e2e/importing/test_csv_import.py",
        "e2e/importing/test_interrupted_imports.py",
        "e2e/importing/test_yandex_import.py",
        "e2e/mqtt/test_slow_clients.py",
        "e2e/mqtt/test_stopping.py",
        "e2e/mqtt/test_vanished_connections.py",
        "e2e/provisioning/test_certificate_providers.py",
        "e2e/provisioning/test_keeping.py",
        "e2e/test_client_ids.py",
        "e2e/test_credential_provider.py",
        "e2e/test_demo.py",
        "e2e/test_durability_and_secrecy.py",
        "e2e/test_examples.py",
        "e2e/test_failover.py",
        "e2e/test_faults.py",
        "e2e/test_fleet_facts.py",
        "e2e/test_full_disk.py",
        "e2e/test_leases.py",
        "e2e/test_old_stores.py",
        "e2e/test_openapi.py",
        "e2e/test_outage.py",
        "e2e/test_postgres.py",
        "e2e/test_reload.py",
        "e2e/test_server_certificates.py",
        "e2e/test_transfers.py",
        "e2e/test_why.py",
        "e2e/things/test_billing_groups.py",
        "e2e/things/test_large_groups.py",
        "e2e/upstream/test_behaviour.py",
        "e2e/upstream/test_interruptions.py",
        "e2e/upstream/test_lifecycle_events.py",
        "e2e/upstream/test_registry_events.py",
        "e2e/upstream/test_several_processes.py",
        "e2e/upstream/test_yandex.py",
        "e2e/yandex/test_endpoints.py",
        "e2e/yandex/test_exports.py",
        "e2e/yandex/test_hostnames.py",
        "e2e/yandex/test_last_messages.py",
        "e2e/yandex/test_monitoring.py",
        "e2e/yandex/test_node_sdk.py",
        "e2e/yandex/test_power_cut.py",
        "e2e/yandex/test_publishing.py",
    }
)
_PAGES = "test_blocks_run[docs/"  # the README's blocks are not slow


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks slow tests. Forbids unit tests to open sockets, except the AF_UNIX pair of an event loop."""
    tests = Path(__file__).parent
    for item in items:
        path = item.path.relative_to(tests).as_posix()
        if path.startswith("unit/"):
            item.add_marker(pytest.mark.disable_socket)
        if path in SLOW or item.name.startswith(_PAGES):
            item.add_marker(pytest.mark.slow)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs the tests of the services and of imports on both engines, which must behave the same."""
    unit, parents = Path(__file__).parent / "unit", metafunc.definition.path.parents
    on_both = unit / "services" in parents or unit / "importing" in parents
    marked = metafunc.definition.get_closest_marker("sqlite") is not None
    if "world" in metafunc.fixturenames and on_both and not marked:
        metafunc.parametrize("world", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_database() -> Iterator[PostgresDatabase]:
    """One for each worker, because starting it takes a second."""
    from tests.postgres import PostgresDatabase

    try:
        server = Postgres()
    except NoPostgres as error:
        pytest.skip(f"PostgreSQL was not found: {error}")
    with server:
        yield PostgresDatabase(server)


@pytest.fixture
def postgres(postgres_database: PostgresDatabase) -> str:
    """The URL of a database with the schema and no rows."""
    return asyncio.run(postgres_database.emptied())


@pytest.fixture
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A world on SQLite. Tests of services and imports run on PostgreSQL too, unless they have the mark ``sqlite``."""
    from tests.world import new_world  # here, because it imports most of the product

    postgres = request.getfixturevalue("postgres_database") if getattr(request, "param", "") == "postgres" else None
    async with new_world(tmp_path, postgres=postgres) as opened:
        yield opened
