"""Token buckets, with a clock that only the tests advance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.vectors import NOW, FakeMonotonic
from thingmint.access import throttle as throttle_module
from thingmint.access.context import Outcome, RequestContext
from thingmint.access.throttle import AWS_RATES, FailureThrottle, Rate, Throttle, throttle_for
from thingmint.domain.errors import NotFound, Throttled, Unauthenticated

if TYPE_CHECKING:
    from thingmint.access.context import Caller
    from thingmint.domain.errors import DomainError


def passes(throttle: Throttle, tries: int, account: str = "a", operation: str = "CreateThing") -> int:
    """How many of ``tries`` calls are allowed."""
    passed = 0
    for _ in range(tries):
        try:
            throttle.take(account, operation)
        except Throttled:
            continue
        passed += 1
    return passed


@pytest.mark.parametrize(
    ("rate", "steps"),
    [
        # Seconds that pass, and how many of 100 calls are allowed then.
        (Rate(10, 10), [(0, 10), (0, 0), (0.05, 0), (0.05, 1), (1, 10), (3600, 10)]),
        (Rate(10, 25), [(0, 25), (1, 10), (2, 20), (60, 25)]),
        (Rate(0.5, 1), [(0, 1), (1, 0), (1, 1), (1.999, 0), (0.001, 1)]),
        (Rate(100, 1), [(0, 1), (0.005, 0), (0.005, 1), (1, 1)]),
    ],
)
def test_a_bucket_allows_its_burst_and_its_rate(rate: Rate, steps: list[tuple[float, int]]) -> None:
    clock = FakeMonotonic()
    throttle = Throttle(rate, {}, clock)
    for seconds, expected in steps:
        clock.now += seconds + 1e-6  # more than the rounding errors of the sums
        assert passes(throttle, 100) == expected, seconds


@pytest.mark.parametrize("rate", [Rate(10, 10), Rate(0.5, 1), Rate(350, 350), Rate(3, 1)])
def test_a_call_after_the_stated_wait_is_allowed(rate: Rate) -> None:
    clock = FakeMonotonic()
    throttle = Throttle(rate, {}, clock)
    passes(throttle, int(rate.burst))
    for _ in range(50):
        with pytest.raises(Throttled) as refused:
            throttle.take("a", "CreateThing")
        assert 0 < refused.value.retry_after <= 1 / rate.per_second + 0.001
        clock.now += refused.value.retry_after
        throttle.take("a", "CreateThing")


def test_each_account_and_operation_has_its_own_bucket() -> None:
    throttle = Throttle(Rate(1, 2), {"DescribeThing": Rate(1, 5)}, FakeMonotonic())
    for account in ("a", "b"):
        assert passes(throttle, 10, account) == 2
        assert passes(throttle, 10, account, "DeleteThing") == 2
        assert passes(throttle, 10, account, "DescribeThing") == 5


def test_full_buckets_are_removed() -> None:
    clock = FakeMonotonic()
    throttle = Throttle(Rate(1, 10), {}, clock)
    for number in range(100):
        throttle.take(f"{number}", "CreateThing")
    assert len(throttle._buckets) == 100
    clock.now += 10
    for number in range(100):
        throttle.take(f"new {number}", "CreateThing")
    assert len(throttle._buckets) == 100


def test_buckets_unused_for_longest_are_removed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle_module, "_MAX_BUCKETS", 3)
    monkeypatch.setattr(throttle_module, "_FEW_BUCKETS", 0)
    throttle = Throttle(Rate(1, 1), {}, FakeMonotonic())
    for account in ("a", "b", "c"):
        assert passes(throttle, 2, account) == 1
    assert passes(throttle, 1, "a") == 0  # used again, so b is removed
    assert passes(throttle, 1, "d") == 1
    assert len(throttle._buckets) == 3
    assert [passes(throttle, 1, account) for account in ("a", "c", "b")] == [0, 0, 1]


def test_rates_of_the_profiles() -> None:
    assert passes(throttle_for("none"), 100_000) == 100_000
    assert passes(throttle_for("generous"), 30_000) == 30_000
    aws = throttle_for("aws")
    for operation, expected in (
        ("CreateKeysAndCertificate", 10),
        ("CreateCertificateFromCsr", 15),
        ("CreateThing", 15),
    ):
        assert expected <= passes(aws, 200, operation=operation) < expected + 5, operation
    assert all(rate.burst >= 1 for rate in AWS_RATES.values())


class TestFailures:
    """Requests without valid credentials, by address."""

    @staticmethod
    def error_after_failure(
        throttle: FailureThrottle, address: str | None = "192.0.2.1", caller: Caller | None = None
    ) -> DomainError:
        context = RequestContext(address=address, caller=caller, now=NOW)
        return throttle.count(context, Outcome(), Unauthenticated("missing", "no token"))

    def test_an_address_that_fails_too_often_is_throttled(self) -> None:
        clock = FakeMonotonic()
        throttle = FailureThrottle(Rate(1, 3), clock)
        assert [type(self.error_after_failure(throttle)) for _ in range(4)] == [*[Unauthenticated] * 3, Throttled]
        assert isinstance(self.error_after_failure(throttle, "192.0.2.2"), Unauthenticated)
        clock.now += 1
        assert isinstance(self.error_after_failure(throttle), Unauthenticated)

    def test_an_ipv6_network_is_one_address(self) -> None:
        throttle = FailureThrottle(Rate(1, 1), FakeMonotonic())
        self.error_after_failure(throttle, "2001:db8::1")
        assert isinstance(self.error_after_failure(throttle, "2001:db8::2"), Throttled)
        assert isinstance(self.error_after_failure(throttle, "2001:db8:0:1::1"), Unauthenticated)

    def test_authenticated_callers_are_not_counted(self) -> None:
        throttle = FailureThrottle(Rate(1, 1), FakeMonotonic())
        caller: Any = object()
        for _ in range(5):
            assert isinstance(self.error_after_failure(throttle, caller=caller), Unauthenticated)
        outcome = Outcome(caller=caller)  # the operation itself authenticated the caller
        context = RequestContext(address="192.0.2.1", now=NOW)
        assert isinstance(throttle.count(context, outcome, NotFound("thing", "t")), NotFound)
        assert isinstance(self.error_after_failure(throttle), Unauthenticated)

    def test_without_a_rate_there_is_no_limit(self) -> None:
        throttle = FailureThrottle(None)
        assert all(isinstance(self.error_after_failure(throttle, None), Unauthenticated) for _ in range(10_000))
