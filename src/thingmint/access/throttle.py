"""Token buckets: how many calls of a kind an account may make.

They are per process: n processes together let n times as much through.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from thingmint.domain.errors import Throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


LimitsProfile = Literal["generous", "aws", "none"]

_MAX_BUCKETS = 100_000


@dataclass(frozen=True, slots=True)
class Rate:
    """``per_second`` is what a bucket gains, ``burst`` what it holds."""

    per_second: float
    burst: float


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
    "GetPolicyVersion": Rate(15, 15),
    "ListAttachedPolicies": Rate(15, 15),
    "ListPrincipalPolicies": Rate(15, 15),
    "mqtt:CreateCertificateFromCsr": Rate(20, 20),
}

# More than one machine serves; it only keeps a runaway script from taking all of it.
_GENEROUS = Rate(20_000, 40_000)


class Throttle:
    """``usual`` holds for every operation that ``rates`` does not name."""

    def __init__(
        self, usual: Rate | None, rates: Mapping[str, Rate], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._usual = usual
        self._rates = rates
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def take(self, account: str, operation: str) -> None:
        """Raises Throttled, with the seconds after which a call will be let through."""
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
        if len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)  # the one unused for longest, so full or nearly


def throttle_for(profile: LimitsProfile) -> Throttle:
    match profile:
        case "aws":
            return Throttle(_USUAL_AWS_RATE, AWS_RATES)
        case "generous":
            return Throttle(_GENEROUS, {})
        case "none":
            return Throttle(None, {})
