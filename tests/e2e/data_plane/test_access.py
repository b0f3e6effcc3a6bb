"""Who may call the data plane, how requests are signed, and the form of its errors."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from botocore import UNSIGNED, xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.e2e.access.local_admin import LocalAdmin, allow, deny, keys_of
from tests.e2e.conftest import iot_client
from tests.e2e.data_plane.conftest import data_client
from tests.e2e.data_plane.test_messages import refusal
from tests.e2e.mqtt.conftest import new_name
from tests.e2e.wire import exchange
from thingmint.aws.operations import DATA_OPERATIONS
from thingmint.testing import running_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.mqtt.conftest import Devices
    from tests.e2e.signing import Signer
    from tests.e2e.wire import Answer
    from thingmint.testing import RunningServer

pytestmark = pytest.mark.both_engines

_INPUT: dict[str, dict[str, Any]] = {
    "topic": {"topic": "a/b"},
    "client": {"clientId": "c"},
    "thing": {"thingName": "t"},
}
_ON = {
    "Publish": "topic",
    "GetRetainedMessage": "topic",
    "ListRetainedMessages": "",
    "GetConnection": "client",
    "DeleteConnection": "client",
    "ListSubscriptions": "client",
}
_UNSERVED: dict[str, dict[str, Any]] = {
    "GetThingShadow": {"thingName": "t"},
    "UpdateThingShadow": {"thingName": "t", "payload": b"{}"},
    "DeleteThingShadow": {"thingName": "t"},
    "ListNamedShadowsForThing": {"thingName": "t"},
    "SendDirectMessage": {"clientId": "c", "topic": "a/b"},
}


def of_aws(answer: Answer, status: int, code: str) -> str:
    """Checks the form of an error, and returns its message."""
    assert (answer.status, answer.aws_code) == (status, code), answer
    document = answer.json()
    assert document.keys() == {"message", "traceId"}
    assert document["traceId"] == answer.headers["x-amzn-requestid"]
    message: str = document["message"]
    return message


def test_each_operation_needs_its_permission_on_its_resource(server: RunningServer, devices: Devices) -> None:
    assert _ON.keys() == DATA_OPERATIONS.keys()
    admin = LocalAdmin(server)
    for name, kind in _ON.items():
        given = _INPUT.get(kind, {})
        resource = devices.arn(f"{kind}/{next(iter(given.values()))}") if kind else "*"
        for statement, allowed in (
            (allow(f"iot:{name}", resource), True),
            (allow(f"iot:{name}", resource + "x") if kind else deny("iot:*"), False),
            (allow("iot:DescribeThing"), False),
        ):
            with contextlib.closing(data_client(server, **keys_of(admin.key(admin.user(statement))))) as client:
                call = getattr(client, xform_name(name))
                if not allowed:
                    assert refusal(call, **given) == (403, "ForbiddenException", "Forbidden"), name
                elif name in ("Publish", "ListRetainedMessages"):
                    call(**given)
                else:
                    assert refusal(call, **given)[1] == "ResourceNotFoundException", name


def test_retained_messages_need_a_further_permission(server: RunningServer, devices: Devices) -> None:
    admin, topic = LocalAdmin(server), new_name("t")
    may = allow("iot:Publish", devices.arn("topic/*"))
    with contextlib.closing(data_client(server, **keys_of(admin.key(admin.user(may))))) as client:
        client.publish(topic=topic)
        assert refusal(client.publish, topic=topic, retain=True)[:2] == (403, "ForbiddenException")
    may = allow(["iot:Publish", "iot:RetainPublish"], devices.arn(f"topic/{topic}"))
    with contextlib.closing(data_client(server, **keys_of(admin.key(admin.user(may))))) as client:
        client.publish(topic=topic, retain=True)


def test_another_account_sees_nothing(server: RunningServer, data: Any, devices: Devices) -> None:
    other = LocalAdmin(server).ask("account.create", name=new_name())
    topic, name = new_name("t"), new_name()
    data.publish(topic=topic, payload=b"ours", retain=True)
    with (
        contextlib.closing(data_client(server, **keys_of(other))) as theirs,
        devices.connected(None, name, clean_start=False, session_expiry=60) as device,
    ):
        device.subscribe(topic)
        assert device.receive().payload == b"ours"
        missing = (404, "ResourceNotFoundException")
        assert refusal(theirs.get_retained_message, topic=topic)[:2] == missing
        assert theirs.list_retained_messages()["retainedTopics"] == []
        assert refusal(theirs.get_connection, clientId=name)[:2] == missing
        assert refusal(theirs.delete_connection, clientId=name, cleanSession=True)[:2] == missing
        assert refusal(theirs.list_subscriptions, clientId=name)[:2] == missing
        theirs.publish(topic=topic, payload=b"theirs", retain=True)
        assert device.nothing_comes()
        token = data.list_retained_messages(maxResults=1).get("nextToken", "x")
        assert refusal(theirs.list_retained_messages, nextToken=token)[1] == "InvalidRequestException"
    assert data.get_retained_message(topic=topic)["payload"] == b"ours"


@pytest.mark.parametrize("service", ["iotdata", "iotdevicegateway"])
def test_clients_without_an_sdk(signer: Signer, devices: Devices, service: str) -> None:
    """A topic in the path may have its slashes as they are, and the answer has the body that AWS gives."""
    signer, topic = replace(signer, service=service), new_name("t")
    with devices.connected() as device:
        device.subscribe(f"{topic}/a")
        for target in (f"/topics/{topic}/a?qos=1", f"/topics/{topic}%2Fa?qos=1"):
            answer = signer.send("POST", target, body=b"[1]")
            assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
            assert answer.json() == {"message": "OK", "traceId": answer.headers["x-amzn-requestid"]}
            assert device.receive().payload == b"[1]"
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert signer.send("POST", f"/topics/{topic}", headers=form, body=b"\x00").status == 200
    assert signer.send("GET", f"/retainedMessage/{topic}/a").status == 404
    assert signer.send("GET", "/retainedMessage").status == 200


def test_the_two_planes_are_signed_for_separately(server: RunningServer, signer: Signer) -> None:
    data = replace(signer, service="iotdata")
    headers = data.headers("POST", "/topics/a")
    good = headers["Authorization"]
    # A signature for another service is not one for this service.
    for service in ("iotdevicegateway", "iot"):
        changed = headers | {"Authorization": good.replace("/iotdata/", f"/{service}/")}
        answer = exchange(server, "POST", "/topics/a", changed, b"")
        assert (answer.status, answer.aws_code) == (403, "InvalidSignatureException")
    assert signer.send("POST", "/topics/a").aws_code == "UnknownOperationException"
    assert data.send("GET", "/things").aws_code == "UnknownOperationException"
    message = of_aws(exchange(server, "POST", "/topics/a", {}, b""), 403, "MissingAuthenticationTokenException")
    assert message == "Missing Authentication Token"


def test_what_is_not_served_is_told_in_awss_form(server: RunningServer, data: Any, signer: Signer) -> None:
    assert {*_UNSERVED, *DATA_OPERATIONS} == set(data.meta.service_model.operation_names)
    for name, given in _UNSERVED.items():
        expected = (501, "NotImplementedException", f"{name} is not served by Thingmint yet.")
        assert refusal(getattr(data, xform_name(name)), **given) == expected
    admin = LocalAdmin(server)
    with contextlib.closing(data_client(server, **keys_of(admin.key(admin.user(allow("iot:Publish")))))) as client:
        assert refusal(client.get_thing_shadow, thingName="t")[:2] == (403, "ForbiddenException")
    with contextlib.closing(boto3.session.Session().client("iot-jobs-data", **server.boto3_arguments())) as jobs:
        expected = (501, "NotImplementedException", "GetPendingJobExecutions is not served by Thingmint yet.")
        assert refusal(jobs.get_pending_job_executions, thingName="t") == expected
    signer = replace(signer, service="iotdata")
    of_aws(signer.send("PUT", "/topics/a"), 405, "MethodNotAllowedException")
    of_aws(signer.send("POST", "/retainedMessage"), 405, "MethodNotAllowedException")
    of_aws(signer.send("GET", "/jobs"), 404, "UnknownOperationException")
    of_aws(signer.send("GET", "/things/t/jobs"), 404, "UnknownOperationException")
    of_aws(signer.send("GET", "/retainedMessage?maxResults=0"), 400, "InvalidRequestException")
    of_aws(signer.send("GET", "/retainedMessage?nextToken=x"), 400, "InvalidRequestException")
    of_aws(signer.send("POST", "/topics/%ff"), 400, "InvalidRequestException")


@pytest.mark.sqlite
def test_every_operation_names_the_missing_signature(server: RunningServer) -> None:
    config = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1})
    with contextlib.closing(data_client(server, config=config)) as client:
        for name, kind in _ON.items():
            status, code, _ = refusal(getattr(client, xform_name(name)), **_INPUT.get(kind, {}))
            assert (status, code) == (403, "MissingAuthenticationTokenException"), name


def test_calls_are_in_the_audit_log(server: RunningServer, data: Any, devices: Devices) -> None:
    name = new_name()
    with devices.connected(None, name) as device:
        data.delete_connection(clientId=name)
        device.until_closed()
    parameters = {"event": "DeleteConnection", "resource": devices.arn(f"client/{name}")}
    headers = {"authorization": f"Bearer {server.token}"}
    answer = httpx.get(f"{server.http_url}/v1/audit", params=parameters, headers=headers, trust_env=False)
    assert [record["outcome"] for record in answer.json()["data"]["records"]] == ["success"]


@pytest.mark.sqlite
def test_throttling_is_429(tmp_path: Path) -> None:
    def throttled(call: Any) -> set[tuple[int, str]]:
        refused = set()
        for _ in range(40):
            try:
                call()
            except ClientError as error:
                answer: Any = error.response
                refused.add((answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]))
        return refused

    with (
        running_server(tmp_path / "data", arguments=["--limits=aws"]) as server,
        contextlib.closing(data_client(server)) as data,
        contextlib.closing(iot_client(server)) as iot,
    ):
        assert throttled(data.list_retained_messages) == {(429, "ThrottlingException")}
        assert throttled(partial(data.publish, topic="a")) == set()
        assert throttled(iot.list_things) == {(400, "ThrottlingException")}
