"""A server whose first account has a bucket."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from tests.e2e.access.local_admin import LocalAdmin
from tests.e2e.bulk.support import ACCOUNT, Bulk
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.logs import check_log
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="package")
def bulk(new_store: Callable[[], dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bulk]:
    folder = tmp_path_factory.mktemp("bulk")
    bucket = folder / "bucket"
    bucket.mkdir()
    buckets = {"fleet": {"url": bucket.as_uri(), "accounts": [ACCOUNT]}}
    environment = {"THINGMINT_BULK": json.dumps({"buckets": buckets}), **new_store()}
    data = folder / "data"
    done = in_process("init", "--data-dir", data, "--account-id", ACCOUNT, env=environment)
    assert done.returncode == 0, done.stderr
    with running_server(data, arguments=["--log-format=json"], environment=environment) as server:
        with contextlib.closing(iot_client(server)) as iot:
            yield Bulk(server, iot, bucket, Bulk.role_of(LocalAdmin(server)))
        check_log(server.output.read_text(errors="replace"))
