"""AWS's published rates: the errors of callers that exceed them, in each API, and the clients' own retries."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from typer.testing import CliRunner
from yandex.cloud.iot.devices.v1 import device_service_pb2, registry_service_pb2

from tests.e2e.access.local_admin import LocalAdmin, keys_of
from tests.e2e.conftest import iot_client
from tests.e2e.yandex.clients import Cloud, Refused, open_channel, path_of
from thingmint.cli.main import app
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from thingmint.testing import RunningServer

_MANY = 40  # calls at once, of an operation that takes 10 a second


@pytest.fixture(scope="module")
def strict() -> Iterator[RunningServer]:
    with running_server(environment={"THINGMINT_LIMITS": "aws"}) as server:
        yield server


def test_limits_is_a_flag_of_serve() -> None:
    assert "--limits" in CliRunner().invoke(app, ["serve", "--help"]).output


def first_refusal(call: Callable[[], Any], error: type[Exception]) -> Any:
    for _ in range(_MANY * 5):
        try:
            call()
        except error as refused:
            return refused
    raise AssertionError("never throttled")


def test_aws_callers_are_throttled(strict: RunningServer) -> None:
    with contextlib.closing(iot_client(strict)) as iot:
        response = first_refusal(iot.list_certificates, ClientError).response
        assert response["Error"] == {"Code": "ThrottlingException", "Message": "Rate exceeded"}
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
        iot.describe_endpoint()  # another operation has its own bucket


def test_native_callers_are_throttled(strict: RunningServer) -> None:
    with httpx.Client(base_url=strict.http_url, headers={"authorization": f"Bearer {strict.token}"}) as native:
        answer = next(a for _ in range(_MANY * 5) if (a := native.get("/v1/certificates")).status_code != 200)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json()["error"] == {"code": "RATE_LIMITED", "message": "Rate exceeded"}


@pytest.mark.parametrize("wire", ["grpc", "rest"])
def test_yandex_callers_are_throttled(strict: RunningServer, wire: str) -> None:
    cloud = Cloud(strict)
    request = registry_service_pb2.ListRegistriesRequest(folder_id=cloud.folder)
    refused = first_refusal(lambda: cloud.wire(wire).call("RegistryService/List", request), Refused)
    assert (refused.code, refused.text) == ("RESOURCE_EXHAUSTED", "Rate exceeded")
    assert refused.http_status in (None, 429)
    assert len(refused.request_ids) == 1
    if wire == "rest":
        headers = {"authorization": f"Bearer {cloud.token}"}
        url = f"/iot-devices/v1/registries?folderId={cloud.folder}"
        answers = (cloud.http.get(url, headers=headers) for _ in range(_MANY * 5))
        assert next(a for a in answers if a.status_code == 429).headers["retry-after"] == "1"
    cloud.close()


def test_boto3_retries_throttled_calls(strict: RunningServer) -> None:
    config = Config(retries={"mode": "standard", "total_max_attempts": 8})
    with contextlib.closing(iot_client(strict, config=config)) as iot:
        answers = [iot.list_certificates(pageSize=1) for _ in range(_MANY)]
    assert max(answer["ResponseMetadata"]["RetryAttempts"] for answer in answers) > 0


def test_grpc_retries_throttled_calls(strict: RunningServer) -> None:
    policy = {
        "maxAttempts": 5,
        "initialBackoff": "0.3s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
    }
    config = {"methodConfig": [{"name": [{}], "retryPolicy": policy}]}
    cloud = Cloud(strict)
    request = device_service_pb2.ListDevicesRequest(folder_id=cloud.folder).SerializeToString()
    metadata = (("authorization", f"Bearer {cloud.token}"),)

    def codes_of_many_at_once(**options: Any) -> list[grpc.StatusCode]:
        """The codes of many calls at once. The bucket has 10 tokens, and gains 10 a second."""
        with open_channel(strict.ca, strict.ports["grpc"], **options) as channel:
            call: Any = channel.unary_unary(path_of("DeviceService/List"))
            pending = [call.future(request, metadata=metadata, timeout=30) for _ in range(20)]
            return [one.code() for one in pending]

    empty = codes_of_many_at_once(**{"grpc.enable_retries": 0})
    assert empty.count(grpc.StatusCode.RESOURCE_EXHAUSTED) >= 5
    before = throttled(strict)
    assert set(codes_of_many_at_once(**{"grpc.service_config": json.dumps(config)})) == {grpc.StatusCode.OK}
    assert throttled(strict) >= before + 10, "the bucket was empty, and the library retried"
    cloud.close()


def throttled(server: RunningServer) -> float:
    """How often DeviceService.List was throttled until now."""
    name = 'thingmint_requests_total{api="yandex",operation="DeviceService.List",status="429"} '
    lines = httpx.get(f"{server.http_url}/metrics").text.splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_each_account_has_its_own_rate(strict: RunningServer) -> None:
    other = LocalAdmin(strict).ask("account.create", name="other")
    with (
        contextlib.closing(iot_client(strict)) as mine,
        contextlib.closing(iot_client(strict, **keys_of(other))) as its,
    ):
        first_refusal(mine.list_certificates, ClientError)
        its.list_certificates()
