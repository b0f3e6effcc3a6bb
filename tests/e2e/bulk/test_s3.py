"""A bucket of S3, in moto's server."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.e2e.access.local_admin import LocalAdmin, refusal
from tests.e2e.bulk.support import ACCOUNT, Bulk, line
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from thingmint.domain.errors import Unavailable
from thingmint.services.bulk_buckets import Bucket, Buckets, S3Bucket
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The URL of a server of moto."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(moto: str) -> Iterator[Any]:
    session = boto3.session.Session(aws_access_key_id="mock", aws_secret_access_key="mock", region_name="us-east-1")
    with contextlib.closing(session.client("s3", endpoint_url=moto)) as s3:
        s3.create_bucket(Bucket="acme-lamps")
        yield s3


def test_a_task_reads_a_bucket_of_s3(moto: str, s3: Any, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text("[default]\naws_access_key_id = mock\naws_secret_access_key = mock\n")
    place = {"endpoint_url": moto, "region": "us-east-1", "credentials_file": str(credentials)}
    usual = {"accounts": [ACCOUNT], **place}
    buckets = {
        "fleet": {"url": "s3://acme-lamps/registrations", **usual},
        "gone": {"url": "s3://no-such-bucket", **usual},
        "dead": {"url": "s3://acme-lamps", **usual, "endpoint_url": "http://127.0.0.1:9"},
    }
    environment = {"THINGMINT_BULK": json.dumps({"buckets": buckets})}
    data = tmp_path / "data"
    assert in_process("init", "--data-dir", data, "--account-id", ACCOUNT).returncode == 0
    # Some 1.8 MB, which takes two reads.
    lines = [line(f"lamp-{number}") for number in range(40)] + ["#" * 30_000] * 60 + [line("last")]
    s3.put_object(Bucket="acme-lamps", Key="registrations/week-1/lamps.jsonl", Body="\n".join(lines))
    s3.put_object(Bucket="acme-lamps", Key="secret.jsonl", Body=line("secret"))
    with (
        running_server(data, environment=environment) as server,
        contextlib.closing(iot_client(server)) as iot,
    ):
        bulk = Bulk(server, iot, tmp_path, Bulk.role_of(LocalAdmin(server)))
        task = bulk.start("week-1/lamps.jsonl")
        shown = bulk.ended(task)
        assert (shown["status"], shown["successCount"], shown["failureCount"]) == ("Completed", 41, 60)
        assert [each["offset"] for each in bulk.report(task, "RESULTS")] == [*range(40), 100]
        for key in ("secret.jsonl", "../secret.jsonl", "week-1"):
            refused = refusal(iot.start_thing_registration_task, **bulk.arguments(key))
            assert refused[:2] == (400, "InvalidRequestException"), key
        gone, dead = (bulk.arguments("week-1/lamps.jsonl", inputFileBucket=bucket) for bucket in ("gone", "dead"))
        assert refusal(iot.start_thing_registration_task, **gone)[:2] == (400, "InvalidRequestException")
        assert refusal(iot.start_thing_registration_task, **dead)[:2] == (503, "ServiceUnavailableException")


class _Cut(BaseHTTPRequestHandler):
    """Answers with 3 of 1,000 bytes, and ends the connection in order or with a reset."""

    def do_GET(self) -> None:
        self.send_response(206)
        self.send_header("content-length", "1000")
        self.send_header("content-range", "bytes 0-999/1000")
        self.send_header("etag", '"1"')
        self.end_headers()
        self.wfile.write(b"abc")
        if self.path.endswith("reset"):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("key", ["fin", "reset"])
async def test_a_connection_that_breaks_in_a_file_is_tried_again(key: str, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text("[default]\naws_access_key_id = mock\naws_secret_access_key = mock\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Cut) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = S3Bucket("lamps", "", f"http://127.0.0.1:{server.server_port}", "us-east-1", credentials)
        buckets = Buckets({"fleet": Bucket((ACCOUNT,), place)})
        with pytest.raises(Unavailable):
            await buckets.read(ACCOUNT, "fleet", key, 0, 1000)
        buckets.close()
        server.shutdown()
