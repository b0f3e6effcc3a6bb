"""Each served operation of AWS with input that violates constraints of the model, and with input at its limits.

The operations come from the code and the input from the model, so a new operation is tested without a change here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.aws_input import Inputs
from tests.e2e.logs import check_log
from tests.e2e.signing import Signer
from thingmint.aws.operations import DATA_OPERATIONS, OPERATIONS
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.aws_input import Sent
    from tests.e2e.wire import Answer
    from thingmint.testing import RunningServer

_INPUTS = {"iot": Inputs("iot"), "iotdata": Inputs("iot-data")}
_SERVED = [*(("iot", name) for name in OPERATIONS), *(("iotdata", name) for name in DATA_OPERATIONS)]


@pytest.fixture(scope="module")
def own() -> Iterator[RunningServer]:
    """A server for these tests alone: the valid requests change it."""
    with running_server(arguments=["--log-format=json", "--key-pool=2"]) as server:
        yield server
        check_log(server.output.read_text(errors="replace"))


def asked(server: RunningServer, service: str, sent: Sent) -> Answer:
    signer = replace(Signer.of(server), service=service)
    return signer.send(sent.method, sent.target, headers=sent.headers, body=sent.body)


@pytest.mark.parametrize(("service", "operation"), _SERVED, ids=[name for _, name in _SERVED])
def test_input_outside_of_the_model_is_refused(own: RunningServer, service: str, operation: str) -> None:
    wrong = []
    for case in (*_INPUTS[service].broken(operation), *_INPUTS[service].broken_twice(operation)):
        answer = asked(own, service, case.sent)
        members = {"message"} if service == "iot" else {"message", "traceId"}
        form = (answer.status, answer.aws_code, set(answer.json())) == (400, "InvalidRequestException", members)
        message = answer.json().get("message")
        if not form or (message != case.message if case.message is not None else "validation error" in message):
            wrong.append(f"{case.what}: {answer.status} {answer.aws_code} {message}")
    assert wrong == []


@pytest.mark.parametrize(("service", "operation"), _SERVED, ids=[name for _, name in _SERVED])
def test_input_at_the_limits_of_the_model_never_breaks(own: RunningServer, service: str, operation: str) -> None:
    wrong = []
    for case in _INPUTS[service].edges(operation):
        answer = asked(own, service, case.sent)
        if answer.status >= 500 or "validation error" in answer.body.decode(errors="replace"):
            wrong.append(f"{case.what}: {answer.status} {answer.aws_code} {answer.body[:300]!r}")
    assert wrong == []
