"""A caller: who stands behind a request, once that is established."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.identity.errors import Denied, Invalid
from thingmint.identity.registration import Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Caller"]


@dataclass(frozen=True, slots=True)
class Caller:
    """``permissions`` are actions such as iot:DescribeCertificate; * is all of them. The first region is the home."""

    account: str
    regions: Sequence[str]
    principal: str
    arn: str
    credential: str
    permissions: frozenset[str]

    def require(self, action: str) -> None:
        """Raises Denied unless the caller may."""
        if "*" not in self.permissions and action not in self.permissions:
            raise Denied(self.arn, action)

    def scope(self, region: str | None = None) -> Scope:
        """The account's ``region``, or its home. Raises Invalid for one that it does not have."""
        if region is None:
            return Scope(self.account, self.regions[0])
        if region not in self.regions:
            raise Invalid("region", f"must be one that this account has: {', '.join(self.regions)}")
        return Scope(self.account, region)
