"""Token buckets: they limit the calls of an account, by operation, and the unauthenticated requests of an address.

Each process has its own buckets, so n processes together allow n times the rate.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from thingmint.domain.errors import Throttled
from thingmint.domain.names import source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thingmint.access.context import Outcome, RequestContext
    from thingmint.domain.errors import DomainError


LimitsProfile = Literal["generous", "aws", "none"]

_MAX_BUCKETS = 100_000
_FEW_BUCKETS = 64
"""Up to this number, unused buckets are not removed."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket gains ``per_second`` tokens and has at most ``burst``."""

    per_second: float
    burst: float


UPDATES = "ConsoleUpdate"
"""What updates of the console's open pages count as, so that they take no calls from the APIs."""

# AWS's published rates per account and region (calls a second), where they differ from the usual one.
_USUAL_AWS_RATE = Rate(10, 10)
AWS_RATES: Mapping[str, Rate] = {
    "CreateCertificateFromCsr": Rate(15, 15),
    "AttachPolicy": Rate(15, 15),
    "AttachThingPrincipal": Rate(15, 15),
    "DetachThingPrincipal": Rate(15, 15),
    "CreateThing": Rate(15, 15),
    "DescribeThing": Rate(350, 350),
    "GetEffectivePolicies": Rate(50, 50),
    "AssumeRoleWithCertificate": Rate(50, 50),
    "GetPolicyVersion": Rate(15, 15),
    "ListAttachedPolicies": Rate(15, 15),
    "ListPrincipalPolicies": Rate(15, 15),
    "mqtt:CreateCertificateFromCsr": Rate(20, 20),
    "Publish": Rate(20_000, 20_000),
    "GetRetainedMessage": Rate(500, 500),
    UPDATES: Rate(100, 200),
}

# More than one machine can serve: this only keeps a runaway script from taking all capacity.
_GENEROUS = Rate(20_000, 40_000)


class Throttle:
    """``usual`` is the rate of every operation that is not in ``rates``; None means no limit."""

    def __init__(
        self, usual: Rate | None, rates: Mapping[str, Rate], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._usual = usual
        self._rates = rates
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def take(self, account: str, operation: str) -> None:
        """Takes a token. Raises Throttled, with the seconds after which a call will succeed."""
        rate = self._rates.get(operation, self._usual)
        if rate is None:
            return
        now = self._clock()
        key = (account, operation)
        level, at = self._buckets.pop(key, (rate.burst, now))
        level = min(rate.burst, level + (now - at) * rate.per_second)
        if level < 1:
            self._buckets[key] = (level, now)
            raise Throttled("Rate exceeded", retry_after=math.ceil((1 - level) / rate.per_second * 1000) / 1000)
        self._buckets[key] = (level - 1, now)
        if len(self._buckets) > _FEW_BUCKETS:
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Removes the buckets unused for longest, at most two: a full bucket is the same as a new one."""
        for _ in range(2):
            key, (_, at) = next(iter(self._buckets.items()))
            rate = self._rates.get(key[1], self._usual)
            is_full = rate is None or (now - at) * rate.per_second >= rate.burst
            if not is_full and len(self._buckets) <= _MAX_BUCKETS:
                return
            del self._buckets[key]


class FailureThrottle:
    """Counts the requests of each address that are refused before a caller is known.

    Failures at an address never affect a valid credential: behind a NAT, many clients share an address.
    """

    def __init__(self, rate: Rate | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._throttle = Throttle(rate, {}, clock)

    def replace(self, rate: Rate | None) -> None:
        self._throttle = Throttle(rate, {}, self._clock)

    def count(self, context: RequestContext, outcome: Outcome, error: DomainError) -> DomainError:
        """The error to answer with: ``error``, or Throttled for an address that has failed too often."""
        if context.caller is not None or outcome.caller is not None or isinstance(error, Throttled):
            return error
        try:
            self._throttle.take(source_of(context.address or ""), "unauthenticated")
        except Throttled as throttled:
            outcome.throttled = True
            return throttled
        return error

    def take(self, context: RequestContext) -> None:
        """Counts a call of an operation that needs no credentials. Raises Throttled."""
        self._throttle.take(source_of(context.address or ""), context.operation)


def throttle_for(profile: LimitsProfile) -> Throttle:
    match profile:
        case "aws":
            return Throttle(_USUAL_AWS_RATE, AWS_RATES)
        case "generous":
            return Throttle(_GENEROUS, {})
        case "none":
            return Throttle(None, {})
