"""Requests that the console makes for a signed-in caller: they run as requests over the network do, and no further."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from structlog.testing import capture_logs

from tests.unit.invoking import invoker
from tests.world import ABROAD, THEIRS
from thingmint.access.audit import AuditLog
from thingmint.access.context import RequestContext
from thingmint.access.request_log import RequestLog
from thingmint.access.throttle import FailureThrottle, Rate, Throttle
from thingmint.domain.errors import Invalid
from thingmint.http.invoking import Invoked, PreparedRequest
from thingmint.http.memory import RequestMemory
from thingmint.http.messages import MAX_BODY_BYTES
from thingmint.metrics import Metrics

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope

ADDRESS = "192.0.2.7"
READ_ONLY = {
    "Version": "2012-10-17",
    "Statement": {"Effect": "Allow", "Action": ["iot:DescribeThing", "yandex:DeviceService.Get"], "Resource": "*"},
}


class Desk:
    """Runs requests as the users of a world."""

    def __init__(self, world: World, *, burst: float = 1000, failures: float = 1000, memory: int = 2**24) -> None:
        self.world = world
        self.trail = AuditLog(world.store, world.clock)
        budget = RequestMemory.of(unauthenticated=20_000, authenticated=memory)
        throttle = Throttle(Rate(0.001, burst), {}, lambda: 0.0)
        counted = FailureThrottle(Rate(0.001, failures), lambda: 0.0)
        self._invoke = invoker(world, RequestLog(Metrics(), self.trail), budget, throttle, counted)

    async def run(
        self,
        api: str,
        operation: str,
        prepared: PreparedRequest,
        *,
        token: str | None = None,
        scope: Scope | None = None,
    ) -> Invoked:
        caller = await self.world.directory.authenticate_token(token or self.world.ours.token)
        by = RequestContext(api="console", address=ADDRESS, user_agent="Mozilla/5.0", now=self.world.clock())
        return await self._invoke(by.by(caller, scope or caller.scope()), api, operation, prepared)

    async def records(self) -> list[dict[str, Any]]:
        await self.trail.close()
        rows = await self.world.rows("SELECT record FROM audit_records UNION ALL SELECT record FROM audit_activity")
        return [orjson.loads(row[0]) for row in rows]


def body_of(invoked: Invoked) -> Any:
    return orjson.loads(invoked.answer.body)


def post(path: str, body: object = None, method: str = "POST", **further: Any) -> PreparedRequest:
    return PreparedRequest(method, path, body=b"" if body is None else orjson.dumps(body), **further)


def get(path: str, query: str = "") -> PreparedRequest:
    return PreparedRequest("GET", path, query)


async def limited_token(world: World) -> str:
    await world.admin("user.create", name="reader")
    await world.admin("policy.put", name="reads", document=json.dumps(READ_ONLY))
    await world.admin("policy.attach", principal="user/reader", policy="reads")
    made = await world.admin("token.create", principal="user/reader", lifetime="1h")
    return str(made["token"])


async def test_a_change_runs_as_the_caller_and_leaves_one_record(world: World) -> None:
    desk = Desk(world)
    with capture_logs() as logs:
        done = await desk.run("aws", "CreateThing", post("/things/pump", {"attributePayload": {"attributes": {}}}))
    assert done.answer.status == 200
    assert body_of(done)["thingName"] == "pump"
    (record,) = [each for each in await desk.records() if each["event"] == "CreateThing"]
    assert record["request"] == done.context.id
    assert record["source"] == "iot.amazonaws.com"
    assert record["address"] == ADDRESS
    assert record["agent"] == "Thingmint console; Mozilla/5.0"
    assert record["resource"] == "arn:aws:iot:us-east-1:111111111111:thing/pump"
    (line,) = [each for each in logs if each["event"] == "request"]
    assert (line["api"], line["operation"], line["status"]) == ("aws", "CreateThing", 200)
    assert line["request_id"] == done.context.id


async def test_the_three_apis_answer_in_their_own_forms(world: World) -> None:
    desk, folder = Desk(world), world.ours.folder
    found = await desk.run("native", "DescribeCertificate", get(f"/v1/certificates/{'0' * 64}"))
    assert (found.answer.status, body_of(found)["error"]["code"]) == (404, "NOT_FOUND")
    made = await desk.run(
        "yandex", "RegistryService.Create", post("/iot-devices/v1/registries", {"folderId": folder, "name": "r"})
    )
    assert body_of(made)["response"]["name"] == "r"
    refused = await desk.run("yandex", "RegistryService.Get", get("/iot-devices/v1/registries/nothing"))
    assert (refused.answer.status, body_of(refused)["code"]) == (404, 5)
    missing = await desk.run("aws", "DescribeThing", get("/things/nothing"))
    assert missing.answer.status == 404
    assert (b"x-amzn-errortype", b"ResourceNotFoundException") in missing.answer.headers
    events = {each["event"]: each for each in await desk.records() if each["request"] == missing.context.id}
    assert events["DescribeThing"]["error"] == "ResourceNotFoundException"


async def test_a_caller_may_do_no_more_than_its_policies_allow(world: World) -> None:
    token, desk = await limited_token(world), Desk(world)
    await world.aws("CreateThing", thingName="pump")
    read = await desk.run("aws", "DescribeThing", get("/things/pump"), token=token)
    assert read.answer.status == 200
    attach = {"principal": "user/reader", "policy": "thingmint/FullAccess"}
    for api, operation, prepared in (
        ("aws", "DeleteThing", PreparedRequest("DELETE", "/things/pump")),
        ("native", "policy-attach", post("/v1/access/policy/attach", attach)),
        ("yandex", "RegistryService.Create", post("/iot-devices/v1/registries", {"folderId": world.ours.folder})),
    ):
        refused = await desk.run(api, operation, prepared, token=token)
        assert refused.answer.status == 403, (api, refused.answer.body)
        assert refused.outcome.code == refused.answer.code
    assert (await world.aws("DescribeThing", thingName="pump"))["thingName"] == "pump"
    events = [(each["event"], each["outcome"]) for each in await desk.records() if each["address"] == ADDRESS]
    assert ("DeleteThing", "refused") in events
    assert ("AttachUserPolicy", "refused") in events
    assert ("yandex.cloud.audit.iot.devices.CreateRegistry", "refused") in events


async def test_other_accounts_resources_are_not_found_or_refused(world: World) -> None:
    desk = Desk(world)
    await world.aws("CreateThing", THEIRS, thingName="theirs")
    device = await world.device(await world.registry(THEIRS, name="r"), THEIRS, name="d")
    assert (await desk.run("aws", "DescribeThing", get("/things/theirs"))).answer.status == 404
    got = await desk.run("yandex", "DeviceService.Get", get(f"/iot-devices/v1/devices/{device}"))
    assert got.answer.status in (403, 404)
    removed = await desk.run(
        "yandex", "DeviceService.Delete", PreparedRequest("DELETE", f"/iot-devices/v1/devices/{device}")
    )
    assert removed.answer.status in (403, 404)
    listed = await desk.run(
        "yandex", "RegistryService.List", get("/iot-devices/v1/registries", f"folderId={world.theirs.folder}")
    )
    assert listed.answer.status in (403, 404)
    named = await desk.run("native", "user-list", post("/v1/access/user/list", {"account": THEIRS.account}))
    assert named.answer.status == 404


async def test_aws_runs_in_the_region_of_the_caller(world: World) -> None:
    desk = Desk(world)
    await desk.run("aws", "CreateThing", post("/things/abroad"), scope=ABROAD)
    assert (await desk.run("aws", "DescribeThing", get("/things/abroad"))).answer.status == 404
    assert (await desk.run("aws", "DescribeThing", get("/things/abroad"), scope=ABROAD)).answer.status == 200
    # Folders have no region.
    listed = await desk.run(
        "yandex",
        "RegistryService.List",
        get("/iot-devices/v1/registries", f"folderId={world.ours.folder}"),
        scope=ABROAD,
    )
    assert listed.answer.status == 200


@pytest.mark.parametrize(
    ("api", "operation", "method", "path"),
    [
        ("native", "DescribeCertificate", "GET", "/v1/certificates/../audit"),
        ("native", "DescribeCertificate", "GET", "/v1/audit"),
        ("native", "DescribeCertificate", "DELETE", "/v1/certificates/a"),
        ("native", "DescribeCertificate", "GET", "/v1/certificates/a%2fb"),
        ("native", "DescribeCertificate", "GET", "/things/pump"),
        ("native", "DescribeCertificate", "GET", "/openapi.json"),
        ("native", "DescribeCertificate", "GET", "/console/certificates"),
        ("native", "DescribeCertificate", "GET", "/healthz"),
        ("aws", "DescribeThing", "GET", "/things/pump/principals"),
        ("aws", "DescribeThing", "GET", "/things/../policies/p"),
        ("aws", "DescribeThing", "GET", "/iot-devices/v1/devices/x"),
        ("aws", "DescribeThing", "GET", "/v1/audit"),
        ("aws", "DescribeThing", "GET", "things/pump"),
        ("aws", "DescribeThing", "GET", "https://other.example/things/pump"),
        ("aws", "DescribeThing", "GET", "//other.example/things/pump"),
        ("aws", "DescribeThing", "GET", "/things/pump?x=1"),
        ("aws", "DescribeThing", "GET", "/things/pump#x"),
        ("aws", "DescribeThing", "GET", "/things/pump HTTP/1.1\r\nHost: x"),
        ("aws", "DescribeThing", "GET", "/things/\u043d\u0430\u0441\u043e\u0441"),
        ("aws", "DescribeThing", "GET", "/things/" + "a" * 20_000),
        ("yandex", "DeviceService.Get", "GET", "/iot-devices/v1/devices/.."),
        ("yandex", "DeviceService.Get", "GET", "/iot-devices/v1/devices/a/certificates"),
        ("yandex", "DeviceService.Get", "GET", "/iot-devices/v1/devices/a:delete"),
        ("yandex", "DeviceService.Get", "GET", "/v1/audit"),
        ("yandex", "-", "GET", "/v1/audit?"),
    ],
)
async def test_a_path_of_another_operation_runs_nothing(
    world: World, api: str, operation: str, method: str, path: str
) -> None:
    desk = Desk(world)
    with capture_logs() as logs, pytest.raises(Invalid):
        await desk.run(api, operation, PreparedRequest(method, path))
    assert logs == []
    assert not [each for each in await desk.records() if each["address"] == ADDRESS]


async def test_methods_that_only_grpc_has(world: World) -> None:
    desk, registry = Desk(world), await world.registry(name="r")
    service = "/yandex.cloud.iot.devices.v1.RegistryService"
    name = "RegistryService.ListDataStreamExports"
    prepared = post(f"{service}/ListDataStreamExports", {"registryId": registry}, "gRPC")
    listed = await desk.run("yandex-grpc", name, prepared)
    assert (listed.answer.status, body_of(listed)) == (200, {})
    refused = await desk.run("yandex-grpc", name, prepared, token=await limited_token(world))
    assert (refused.answer.status, body_of(refused)["code"]) == (403, 7)
    wrong = await desk.run("yandex-grpc", name, replace(prepared, body=b'{"registryId": 1}'))
    assert wrong.answer.status == 400
    with pytest.raises(Invalid):  # it has an HTTP binding
        await desk.run("yandex-grpc", "RegistryService.Get", post(f"{service}/Get", {"registryId": registry}, "gRPC"))
    with pytest.raises(Invalid):  # a client can send this method over the network
        await desk.run("yandex", name, prepared)


async def test_a_percent_encoded_slash_stays_in_its_segment(world: World) -> None:
    found = await Desk(world).run("aws", "DescribeThing", get("/things/..%2Fpolicies%2Fp"))
    assert found.answer.status == 400  # the name of a thing has no slash
    found = await Desk(world).run("yandex", "DeviceService.Get", get("/iot-devices/v1/devices/a%2F..%2Fb"))
    assert found.answer.status in (400, 403, 404)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amzn-principal", "a\r\nx-amzn-iot-principal: b"),
        ("x-amzn-principal", "a\x00"),
        ("x-amzn-principal", " a"),
        ("x-amzn-principal", "\u043d\u0430\u0441\u043e\u0441"),
        ("Authorization", "Bearer t1.a.b"),
        ("Host", "iot.eu-central-1.amazonaws.com"),
        ("Cookie", "session=1"),
        ("X-Amz-Security-Token", "x"),
        ("Content-Length", "1"),
        ("Transfer-Encoding", "chunked"),
    ],
)
async def test_headers_that_a_form_may_not_send(world: World, name: str, value: str) -> None:
    prepared = PreparedRequest("GET", "/principals/things", headers=((name, value),))
    with pytest.raises(Invalid):
        await Desk(world).run("aws", "ListPrincipalThings", prepared)


async def test_bodies_are_bounded(world: World) -> None:
    with pytest.raises(Invalid, match="at most"):
        await Desk(world).run(
            "aws", "CreateThing", PreparedRequest("POST", "/things/a", body=b" " * (MAX_BODY_BYTES + 1))
        )
    body = b'{"attributePayload":{"attributes":{"a":"' + b"b" * 100_000 + b'"}}}'
    busy = await Desk(world, memory=40_000).run("aws", "CreateThing", PreparedRequest("POST", "/things/a", body=body))
    assert busy.answer.code == "ThrottlingException"
    read = await Desk(world).run("aws", "CreateThing", PreparedRequest("POST", "/things/a", body=body))
    assert read.answer.code == "InvalidRequestException"  # counted for the account, not for the address
    assert await world.count("things") == 0


async def test_calls_count_towards_the_rate_of_the_account(world: World) -> None:
    desk = Desk(world, burst=2)
    answers = [(await desk.run("aws", "DescribeThing", get("/things/a"))).answer.status for _ in range(3)]
    assert answers == [404, 404, 400]


async def test_methods_without_authentication_have_no_caller(world: World) -> None:
    desk = Desk(world, failures=1)
    wrong = post("/iam/v1/tokens", {"yandexPassportOauthToken": "tma_a_b"})
    first = await desk.run("yandex", "IamTokenService.Create", wrong)
    assert first.answer.status == 401
    assert first.context.caller is None
    again = await desk.run("yandex", "IamTokenService.Create", wrong)
    assert again.answer.status == 429  # counted for the address, as over the network


async def test_a_fault_of_the_server_is_an_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("wrong")

    monkeypatch.setattr("thingmint.aws.app.run", broken)
    with capture_logs() as logs:
        failed = await Desk(world).run("aws", "DescribeThing", get("/things/a"))
    assert failed.answer.status == 500
    assert failed.outcome.code == "Internal"
    assert "wrong" not in failed.answer.body.decode()
    assert [each["event"] for each in logs] == ["request_failed", "request"]


def test_secrets_are_not_in_the_text_of_a_request() -> None:
    assert "secret" not in repr(post("/certificates", {"password": "secret"}))
