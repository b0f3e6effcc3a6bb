"""An account made in moto is imported, and compared with the copy item by item.

moto serves no provisioning templates, no lists of CA certificates, no tags of IoT, no markers, no exclusive principals,
and never throttles: unit tests with a stub have these, and test_aws_thingmint.py has another Thingmint.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.e2e.conftest import iot_client
from tests.e2e.importing.aws_accounts import MOTO_KEYS, THINGS, findings, furnish, import_aws, new_instance, snapshot
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ACCOUNT = "123456789012"  # moto's
REGIONS = ("eu-west-1", "us-east-2")


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


@pytest.fixture(scope="module")
def iot_of(moto: str) -> Iterator[Callable[[str], Any]]:
    session = boto3.session.Session(aws_access_key_id="mock", aws_secret_access_key="mock")
    clients = {region: session.client("iot", region_name=region, endpoint_url=moto) for region in REGIONS}
    for client in clients.values():
        furnish(client)
    yield clients.__getitem__
    for client in clients.values():
        client.close()


def regions() -> list[str]:
    return [word for region in REGIONS for word in ("--region", region)]


def test_an_account_in_moto_comes_item_by_item(moto: str, iot_of: Callable[[str], Any], tmp_path: Path) -> None:
    iot_of("eu-west-1").create_role_alias(roleAlias="camera", roleArn="arn:aws:iam::123456789012:role/camera")
    data = new_instance(tmp_path, ACCOUNT, *REGIONS)
    status, planned = import_aws(data, moto, *regions(), "--dry-run", env=MOTO_KEYS)
    done, report = import_aws(data, moto, *regions(), env=MOTO_KEYS)
    assert (status, done) == (1, 1), "what is not served did not come"
    assert {kind: count for kind, count in planned["counts"].items() if kind.endswith(".new")} == {
        kind: count for kind, count in report["counts"].items() if kind.endswith(".new")
    }
    assert report["counts"]["certificate.new"] == len(REGIONS) * (THINGS + 1)
    assert not [key for key in report["counts"] if key.endswith((".conflict", ".completed", ".same"))]
    told = findings(report)
    assert "eu-west-1: role alias (1): camera" in told["not_served", "refused"]
    assert told["host_name", "noted"] == list(REGIONS)
    assert len(told["certificate", "noted"]) == len(REGIONS) * (THINGS + 1), "moto's ids are not the SHA-256 of the DER"
    with running_server(data) as server:
        for region in REGIONS:
            there = snapshot(iot_of(region))
            ours = iot_client(server, region_name=region)
            try:
                assert snapshot(ours) == there
            finally:
                ours.close()
        _, again = import_aws(data, moto, *regions(), env=MOTO_KEYS)
        assert not [key for key in again["counts"] if key.endswith((".new", ".completed", ".conflict"))]
        assert again["counts"]["certificate.same"] == len(REGIONS) * (THINGS + 1)


@pytest.mark.usefixtures("iot_of")
def test_what_is_here_with_other_content_stays(moto: str, tmp_path: Path) -> None:
    data = new_instance(tmp_path, ACCOUNT, *REGIONS)
    with running_server(data) as server:
        ours = iot_client(server, region_name="eu-west-1")
        try:
            ours.create_thing(thingName="lamp-1", attributePayload={"attributes": {"room": "another"}})
            before = ours.describe_thing(thingName="lamp-1")
            _, report = import_aws(data, moto, "--region", "eu-west-1", env=MOTO_KEYS)
            assert ours.describe_thing(thingName="lamp-1") | {"ResponseMetadata": 0} == before | {"ResponseMetadata": 0}
        finally:
            ours.close()
    assert findings(report)["thing", "conflict"] == ["eu-west-1: lamp-1"]
    assert report["counts"]["thing.new"] == THINGS - 1


@pytest.mark.usefixtures("iot_of")
def test_another_number_of_the_account_is_noted(moto: str, tmp_path: Path) -> None:
    data = new_instance(tmp_path, "222222222222", *REGIONS)
    _, report = import_aws(data, moto, "--region", "us-east-2", "--dry-run", env=MOTO_KEYS)
    (told,) = [each for each in report["findings"] if each["kind"] == "account"]
    assert f"thingmint access account create NAME --id {ACCOUNT}" in told["reason"]
