"""Calls to AWS: rates, throttling, faults, credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore import exceptions

from tests.unit.importing.aws.stub_account import Clock, StubAccount, failure
from thingmint.importing.batches import SourceError
from thingmint.importing.sources.aws.calls import Calls, Denied, NotServed, NotThere, Rejected

if TYPE_CHECKING:
    from collections.abc import Mapping


def calls_of(account: StubAccount, clock: Clock | None = None, rate: float | None = 0) -> Calls:
    clock = clock or Clock()
    client: Any = account
    return Calls(client, rate, sleep=clock.sleep, monotonic=clock)


def failing(*errors: Exception) -> StubAccount:
    """An account whose calls raise these errors in turn; later ones succeed."""
    account = StubAccount()
    left = list(errors)

    def fault(_operation: str, _given: Mapping[str, Any]) -> None:
        if left:
            raise left.pop(0)

    account.fault = fault
    return account


def test_each_operation_has_its_own_rate() -> None:
    clock = Clock()
    calls = calls_of(StubAccount(), clock, rate=None)
    began = clock.now
    for _ in range(11):
        calls.call("ListThings")
    assert clock.now - began == pytest.approx(1)
    for _ in range(16):
        calls.call("ListAttachedPolicies", target="arn")
    assert clock.now - began == pytest.approx(2)


def test_a_rate_of_the_caller_is_kept() -> None:
    clock = Clock()
    calls = calls_of(StubAccount(), clock, rate=100)
    began = clock.now
    for _ in range(101):
        calls.call("ListThings")
    assert clock.now - began == pytest.approx(1)


@pytest.mark.parametrize(
    "error",
    [
        failure("ListThings", "ThrottlingException"),
        failure("ListThings", "TooManyRequestsException", 429),
        failure("ListThings", "InternalFailureException", 500),
        failure("ListThings", "ServiceUnavailableException", 503),
        failure("ListThings", "503", 503),
        exceptions.EndpointConnectionError(endpoint_url="https://iot.example"),
        exceptions.ReadTimeoutError(endpoint_url="https://iot.example"),
        exceptions.ConnectionClosedError(endpoint_url="https://iot.example"),
    ],
)
def test_passing_faults_are_waited_out(error: Exception) -> None:
    account = failing(*[error] * 3)
    clock = Clock()
    assert calls_of(account, clock).call("ListThings") == {"things": []}
    assert account.calls["ListThings"] == 4
    assert clock.now > 1000


@pytest.mark.parametrize("rate", [0, 10])
def test_throttling_slows_down_the_calls_for_a_while(rate: float) -> None:
    clock = Clock()
    calls = calls_of(failing(*[failure("ListThings", "ThrottlingException")] * 4), clock, rate)
    calls.call("ListThings")
    shortest = 1 / rate if rate else 0

    def seconds_for(count: int) -> float:
        began = clock.now
        for _ in range(count):
            calls.call("ListThings")
        return (clock.now - began) / count

    assert seconds_for(5) > 1.2 * shortest + 0.03
    seconds_for(500)
    assert seconds_for(5) == pytest.approx(shortest)


def test_throttling_slows_down_the_other_calls_of_the_operation() -> None:
    account = failing(*[failure("ListThings", "ThrottlingException")] * 6)
    clock = Clock()
    calls = calls_of(account, clock)
    calls.call("ListThings")
    assert clock.now - 1000 > 20, "the waits double"


def test_a_fault_that_does_not_pass_stops_the_import() -> None:
    clock = Clock()
    calls = calls_of(failing(*[failure("ListThings", "ThrottlingException")] * 10_000), clock)
    with pytest.raises(SourceError, match=r"AWS throttles the calls.* goes on where it stopped"):
        calls.call("ListThings")
    assert 900 < clock.now - 1000 < 1000


def test_a_server_that_does_not_answer_any_more_stops_the_import() -> None:
    clock, told = Clock(), list[str]()
    account = StubAccount()
    client: Any = account
    calls = Calls(client, 0, sleep=clock.sleep, monotonic=clock, tell=told.append)
    calls.call("ListThings")

    def vanish(_operation: str, _given: Mapping[str, Any]) -> None:
        raise exceptions.EndpointConnectionError(endpoint_url="https://iot.example")

    account.fault = vanish
    with pytest.raises(SourceError, match=r"no answer .* goes on where it stopped"):
        calls.call("ListThings")
    assert 60 < clock.now - 1000 < 130
    assert told[0] == "ListThings: no answer (EndpointConnectionError); trying again"
    assert len(told) <= 4, "not a line for each attempt"


def test_an_address_where_nothing_answers_is_told_soon() -> None:
    clock = Clock()
    nothing = exceptions.EndpointConnectionError(endpoint_url="https://iot.example")
    with pytest.raises(SourceError, match="no answer"):
        calls_of(failing(*[nothing] * 100), clock).call("ListThings")
    assert clock.now - 1000 < 15


@pytest.mark.parametrize(
    "code",
    ["ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId", "RequestExpired"],
)
def test_credentials_that_ended_stop_the_import_with_advice(code: str) -> None:
    account = failing(failure("ListThings", code, 403))
    with pytest.raises(SourceError, match=f"{code}.*renew them.* goes on where it stopped"):
        calls_of(account).call("ListThings")
    assert account.calls["ListThings"] == 1


@pytest.mark.parametrize(
    "error",
    [
        exceptions.NoCredentialsError(),
        exceptions.TokenRetrievalError(provider="sso", error_msg="the session ended"),
        exceptions.UnauthorizedSSOTokenError(),
        exceptions.CredentialRetrievalError(provider="process", error_msg="no"),
    ],
)
def test_credentials_that_cannot_be_had_stop_the_import(error: Exception) -> None:
    with pytest.raises(SourceError, match=r"AWS cannot be called.* goes on where it stopped"):
        calls_of(failing(error)).call("ListThings")


def test_a_certificate_that_is_not_trusted_stops_the_import() -> None:
    error = exceptions.SSLError(endpoint_url="https://iot.example", error=ValueError("self-signed"))
    with pytest.raises(SourceError, match=r"AWS_CA_BUNDLE"):
        calls_of(failing(error)).call("ListThings")


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("AccessDeniedException", 403, Denied),
        ("UnauthorizedException", 401, Denied),
        ("ForbiddenException", 403, Denied),
        ("ResourceNotFoundException", 404, NotThere),
        ("NotImplementedException", 501, NotServed),
        ("UnknownOperationException", 404, NotServed),
        ("500", 500, NotServed),  # moto's answer to operations that it does not know
        ("404", 404, NotServed),
        ("InvalidRequestException", 400, Rejected),
    ],
)
def test_other_errors_are_told_apart(code: str, status: int, expected: type[Exception]) -> None:
    with pytest.raises(expected):
        calls_of(failing(failure("ListThings", code, status))).call("ListThings")


def test_an_operation_that_is_not_served_is_not_called_again() -> None:
    account = failing(failure("ListThings", "NotImplementedException", 501))
    calls = calls_of(account)
    for _ in range(3):
        with pytest.raises(NotServed):
            calls.call("ListThings")
    assert account.calls["ListThings"] == 1


def test_a_list_that_never_ends_stops_the_import() -> None:
    account = StubAccount(page=1)
    account.thing("a")
    account.thing("b")
    account.page = 0
    with pytest.raises(SourceError, match="same page"):
        list(calls_of(account).all("ListThings", "things"))


def test_calls_end_when_the_import_does() -> None:
    calls = calls_of(StubAccount())
    calls.end()
    with pytest.raises(SourceError, match="stopped"):
        calls.call("ListThings")
