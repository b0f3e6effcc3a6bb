"""The provisioning topics: which they are, and what is answered when nothing goes as it should."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

import cbor2
import pytest

from tests.tables import each_row
from tests.unit.vectors import NOW
from thingmint.access.audit import CURRENT
from thingmint.access.callers import Caller
from thingmint.access.throttle import Throttle
from thingmint.domain.errors import LimitExceeded, Throttled, Unavailable
from thingmint.domain.registration import Scope
from thingmint.mqtt.payloads import Unreadable, read_payload, write_payload
from thingmint.mqtt.peer import Peer
from thingmint.mqtt.provisioning import ProvisioningTopics, provisioning_request

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.access.context import Outcome, RequestContext

SCOPE = Scope("111111111111", "us-east-1")
SECRET = "-----BEGIN RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("topic", "operation", "template", "format"),
    [
        ("$aws/certificates/create/json", "CreateKeysAndCertificate", None, "json"),
        ("$aws/certificates/create-from-csr/cbor", "CreateCertificateFromCsr", None, "cbor"),
        ("$aws/provisioning-templates/a_B-1/provision/json", "RegisterThing", "a_B-1", "json"),
    ],
)
def test_topics(topic: str, operation: str, template: str | None, format: str) -> None:
    request = provisioning_request(topic)
    assert request is not None
    assert (request.operation, request.template, request.format) == (operation, template, format)
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
def test_what_is_no_request(topic: str) -> None:
    assert provisioning_request(topic) is None


class Log:
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def now(self) -> datetime:
        return NOW

    def provisioned(self, context: RequestContext, outcome: Outcome, **facts: object) -> None:
        self.outcomes.append(outcome)


class Failing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    async def create_keys(self, scope: Scope, claim: str) -> Any:
        request = CURRENT.get()
        assert request is not None
        assert request[0].operation == "CreateKeysAndCertificate"
        private_key = SECRET
        raise self.error if private_key else AssertionError


def answer(error: Exception, format: str = "json") -> tuple[str, Any, Outcome]:
    log = Log()
    topics = ProvisioningTopics(
        cast("Any", Failing(error)), cast("Any", None), cast("Any", None), Throttle(None, {}), cast("Any", log)
    )
    caller = Caller(SCOPE.account, (SCOPE.region,), "f" * 64, "device", "arn", "f" * 64, ())

    class Admitted:
        scope = SCOPE
        holder = type("Holder", (), {"fingerprint": "f" * 64})

    Admitted.caller = caller  # type: ignore[attr-defined]

    async def run() -> tuple[str, bytes]:
        request = provisioning_request(f"$aws/certificates/create/{format}")
        assert request is not None
        outcome = await topics.answer(request, b"", Peer("192.0.2.1", 1), "device", cast("Any", Admitted()))
        assert CURRENT.get() is None
        return outcome

    topic, reply = asyncio.run(run())
    (told,) = log.outcomes
    return topic.rpartition("/")[2], json.loads(reply) if format == "json" else cbor2.loads(reply), told


@pytest.mark.parametrize("format", ["json", "cbor"])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Throttled("Rate exceeded"), 429, "Throttling"),
        (LimitExceeded("account", SCOPE.account, "used up"), 410, "LimitExceeded"),
        (Unavailable("disk of /srv is full"), 503, "ServiceUnavailable"),
        (RuntimeError(SECRET), 500, "InternalFailure"),
        (AssertionError(), 500, "InternalFailure"),
        (TimeoutError(), 500, "InternalFailure"),
        (RecursionError(SECRET), 500, "InternalFailure"),
    ],
)
def test_it_never_raises_and_tells_nothing(
    error: Exception, status: int, code: str, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, document, told = answer(error, format)
    assert kind == "rejected"
    assert (document["statusCode"], document["errorCode"]) == (status, code)
    assert set(document) == {"statusCode", "errorCode", "errorMessage"}
    assert SECRET not in json.dumps(document)
    assert "/srv" not in json.dumps(document)
    assert (told.status, told.code) == (status, code)
    assert SECRET not in json.dumps(dict(told.details))
    assert ("Traceback" in capsys.readouterr().out) is (status == 500)


def test_cancellation_is_not_caught() -> None:
    with pytest.raises(asyncio.CancelledError):
        answer(cast("Any", asyncio.CancelledError()))


@each_row("tag", [*range(300), 1004, 43000, 55799, 2**32, 2**64 - 1])
def test_no_tag_of_cbor_is_taken(tag: int) -> None:
    values: list[Any] = ["2026-11-21T00:00:00Z", 0, b"\1", [1, 2], {}, [[]]]
    for value in values:
        for document in (cbor2.CBORTag(tag, value), {"a": cbor2.CBORTag(tag, value)}):
            with pytest.raises(Unreadable):
                read_payload(cbor2.dumps(document), "cbor")


@pytest.mark.parametrize("format", ["json", "cbor"])
def test_what_is_written_can_be_read(format: Any) -> None:
    document = {"a": "é", "b": {"c": "d"}}
    written = write_payload(document, format)
    assert read_payload(written, format) == document
    for end in range(len(written)):
        with pytest.raises(Unreadable):
            read_payload(written[:end], format)
    with pytest.raises(Unreadable):
        read_payload(written + b"\0", format)


def test_cbor_has_definite_lengths() -> None:
    assert write_payload({"a": "b"}, "cbor") == b"\xa1\x61a\x61b"
