"""The provisioning topics, and the answers on them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import cbor2
import pytest

from tests.unit import vectors
from tests.unit.services.provisioning_support import ROLE, ensure_registered
from tests.unit.services.provisioning_support import body as template_body
from tests.world import OURS
from thingmint.access.audit import AuditedStore
from thingmint.access.authorization import Roles
from thingmint.access.context import Caller
from thingmint.access.throttle import Rate, Throttle
from thingmint.domain.errors import LimitExceeded, Throttled, Unavailable
from thingmint.mqtt.payloads import write_payload
from thingmint.mqtt.provisioning import ProvisioningTopics, provisioning_request

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.access.context import Outcome, RequestContext

SECRET = "-----BEGIN RSA PRIVATE KEY-----"
CALLER = Caller(OURS.account, (OURS.region,), "f" * 64, "device", "arn", "f" * 64, ())


@pytest.mark.parametrize(
    ("topic", "operation", "template", "format"),
    [
        ("$aws/certificates/create/json", "CreateKeysAndCertificate", None, "json"),
        ("$aws/certificates/create-from-csr/cbor", "CreateCertificateFromCsr", None, "cbor"),
        ("$aws/provisioning-templates/a_B-1/provision/json", "RegisterThing", "a_B-1", "json"),
    ],
)
def test_a_topic_is_a_request_for_an_operation(topic: str, operation: str, template: str | None, format: str) -> None:
    request = provisioning_request(topic)
    assert request is not None
    assert (request.operation.name, request.template, request.format) == (operation, template, format)
    assert request.replies == (f"{topic}/accepted", f"{topic}/rejected")


@pytest.mark.parametrize(
    "topic",
    [
        "$aws/certificates/create",
        "$aws/certificates/create/json/accepted",
        "$aws/certificates/create/xml",
        "$aws/certificates/create/json\n",
        "$aws/provisioning-templates//provision/json",
        f"$aws/provisioning-templates/{'a' * 37}/provision/json",
        "$aws/provisioning-templates/a/b/provision/json",
        "$aws/provisioning-templates/é/provision/json",
        "aws/certificates/create/json",
    ],
)
def test_other_topics_are_not_requests(topic: str) -> None:
    assert provisioning_request(topic) is None


class Log:
    def __init__(self, world: World) -> None:
        self.outcomes: list[Outcome] = []
        self.now = world.clock

    def provisioned(self, context: RequestContext, outcome: Outcome, **facts: object) -> None:
        self.outcomes.append(outcome)


class Topics:
    """The topics as one device uses them, with a claim certificate."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.log = Log(world)
        self.throttle = Throttle(None, {})

    async def ask(self, topic: str, document: object = None, *, format: str = "json") -> tuple[str, Any]:
        """Returns the last part of the answer's topic, and its payload."""
        request = provisioning_request(f"$aws/{topic}/{format}")
        assert request is not None
        store, roles = AuditedStore(self.world.store, self.world.clock), Roles(self.world.directory)
        log = cast("Any", self.log)
        topics = ProvisioningTopics(store, self.world.environment, roles, self.throttle, log)
        payload = b"" if document is None else write_payload(cast("Any", document), request.format)
        answered, reply = await topics.answer(request, payload, "192.0.2.1", "device", OURS, CALLER)
        assert answered.startswith(request.topic)
        return answered.rpartition("/")[2], json.loads(reply) if format == "json" else cbor2.loads(reply)

    async def records(self) -> list[dict[str, Any]]:
        """Returns the audit records about this device."""
        rows = await self.world.rows("SELECT record FROM audit_records ORDER BY id")
        return [record for record in (json.loads(row[0]) for row in rows) if record["principal"] == CALLER.arn]


@pytest.fixture
def topics(world: World) -> Topics:
    return Topics(world)


async def test_create_keys_returns_certificate_key_and_token(topics: Topics) -> None:
    kind, made = await topics.ask("certificates/create")
    assert kind == "accepted"
    assert set(made) == {"certificateId", "certificatePem", "privateKey", "certificateOwnershipToken"}


async def test_create_from_csr_returns_certificate_and_token(topics: Topics) -> None:
    kind, made = await topics.ask("certificates/create-from-csr", {"certificateSigningRequest": vectors.csr_pem()})
    assert kind == "accepted"
    assert set(made) == {"certificateId", "certificatePem", "certificateOwnershipToken"}


async def test_register_thing_uses_the_role_of_the_template(topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    async def effects(_: Roles, context: RequestContext, *further: object) -> Any:
        asked.append((context.operation, *further))
        return lambda *_: None

    monkeypatch.setattr(Roles, "effects", effects)
    body = template_body(Properties={"ThingName": {"Ref": "Site"}})
    template = {"templateName": "lamps", "templateBody": body, "provisioningRoleArn": ROLE, "enabled": True}
    await topics.world.aws("CreateProvisioningTemplate", **template)
    _, made = await topics.ask("certificates/create-from-csr", {"certificateSigningRequest": vectors.csr_pem()})
    await ensure_registered(topics.world, CALLER.credential, OURS)
    wanted = {"certificateOwnershipToken": made["certificateOwnershipToken"], "parameters": {"Site": "attic"}}
    answer = await topics.ask("provisioning-templates/lamps/provision", wanted)
    assert answer == ("accepted", {"deviceConfiguration": {"site": "attic"}, "thingName": "attic"})
    arn = f"arn:aws:iot:us-east-1:{OURS.account}:provisioningtemplate/lamps"
    assert asked == [("RegisterThing", OURS, ROLE, arn)]


async def test_a_change_is_audited_with_the_device_as_caller(topics: Topics) -> None:
    _, made = await topics.ask("certificates/create")
    (record,) = await topics.records()
    assert (record["event"], record["outcome"]) == ("CreateKeysAndCertificate", "success")
    assert (record["address"], record["clientId"]) == ("192.0.2.1", "device")
    assert record["resources"] == [f"arn:aws:iot:us-east-1:{OURS.account}:cert/{made['certificateId']}"]
    (outcome,) = topics.log.outcomes
    assert outcome.recorded
    assert outcome.status == 200


async def test_a_refusal_is_answered_and_logged(topics: Topics) -> None:
    kind, answer = await topics.ask("provisioning-templates/none/provision", {})
    assert kind == "rejected"
    assert answer == {
        "statusCode": 400,
        "errorCode": "InvalidTemplate",
        "errorMessage": "Template with name none does not exist.",
    }
    (outcome,) = topics.log.outcomes
    assert (outcome.status, outcome.code, outcome.recorded) == (400, "InvalidTemplate", False)
    assert outcome.resource == f"arn:aws:iot:us-east-1:{OURS.account}:provisioningtemplate/none"
    assert outcome.details == {"clientId": "device", "reason": "Template with name none does not exist."}


class Failing:
    """A key pool that raises an error."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def take(self, _account: str) -> None:
        private_key = SECRET
        raise self._error if private_key else AssertionError


def failing(topics: Topics, error: BaseException) -> Topics:
    topics.world.environment = replace(topics.world.environment, keys=cast("Any", Failing(error)))
    return topics


@pytest.mark.parametrize("format", ["json", "cbor"])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Throttled("Rate exceeded"), 429, "Throttling"),
        (LimitExceeded("account", OURS.account, "used up"), 410, "LimitExceeded"),
        (Unavailable("disk of /srv is full"), 503, "ServiceUnavailable"),
        (RuntimeError(SECRET), 500, "InternalFailure"),
        (AssertionError(), 500, "InternalFailure"),
        (TimeoutError(), 500, "InternalFailure"),
        (RecursionError(SECRET), 500, "InternalFailure"),
    ],
)
async def test_an_error_is_answered_without_its_text(
    topics: Topics, error: Exception, status: int, code: str, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, document = await failing(topics, error).ask("certificates/create", format=format)
    assert kind == "rejected"
    assert (document["statusCode"], document["errorCode"]) == (status, code)
    assert set(document) == {"statusCode", "errorCode", "errorMessage"}
    assert SECRET not in json.dumps(document)
    assert "/srv" not in json.dumps(document)
    (outcome,) = topics.log.outcomes
    assert (outcome.status, outcome.code) == (status, code)
    assert SECRET not in json.dumps(dict(outcome.details))
    assert ("Traceback" in capsys.readouterr().out) is (status == 500)


async def test_cancellation_is_raised(topics: Topics) -> None:
    with pytest.raises(asyncio.CancelledError):
        await failing(topics, asyncio.CancelledError()).ask("certificates/create")


async def test_requests_are_throttled_separately_from_the_control_plane(topics: Topics) -> None:
    topics.throttle = Throttle(None, {"mqtt:CreateKeysAndCertificate": Rate(1, 1)}, lambda: 0.0)
    assert (await topics.ask("certificates/create"))[0] == "accepted"
    assert (await topics.ask("certificates/create"))[1]["errorCode"] == "Throttling"
    assert (await topics.ask("provisioning-templates/none/provision", {}))[1]["errorCode"] == "InvalidTemplate"
    assert await topics.world.count("registrations") == 1


async def test_an_unreadable_payload_is_rejected(topics: Topics) -> None:
    for topic in ("certificates/create", "certificates/create-from-csr", "provisioning-templates/any/provision"):
        kind, answer = await topics.ask(topic, ["a"])
        assert (kind, answer["statusCode"], answer["errorCode"]) == ("rejected", 400, "InvalidPayload")
    assert topics.log.outcomes[0].details["reason"] == "the payload cannot be parsed"


@pytest.mark.parametrize("topic", ["certificates/create-from-csr", "provisioning-templates/any/provision"])
async def test_only_create_keys_accepts_an_empty_payload(topics: Topics, topic: str) -> None:
    assert (await topics.ask(topic))[1]["errorCode"] == "InvalidPayload"
    assert (await topics.ask("certificates/create"))[0] == "accepted"


async def test_a_csr_is_required(topics: Topics) -> None:
    assert (await topics.ask("certificates/create-from-csr", {}))[1]["errorCode"] == "InvalidPayload"
