"""A registration: one account's claim, in one region, on a certificate that others may have claimed too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.domain.status import Status

__all__ = ["CertificateMode", "Origin", "Registration", "Scope", "arn_of"]

CertificateMode = Literal["DEFAULT", "SNI_ONLY"]

# How the certificate came to us: with keys that we made, signed by us from a CSR, or brought along.
Origin = Literal["keys", "csr", "registered"]


class Scope(NamedTuple):
    """Whose registrations are meant: ids are unique, and seen, within an account and region only."""

    account: str
    region: str


def arn_of(scope: Scope, fingerprint: str) -> str:
    """A certificate's ARN, as AWS forms it."""
    return f"arn:aws:iot:{scope.region}:{scope.account}:cert/{fingerprint}"


@dataclass(frozen=True, slots=True)
class Registration:
    scope: Scope
    fingerprint: str
    status: Status
    mode: CertificateMode
    origin: Origin
    created_at: datetime
    modified_at: datetime
    generation: str  # a UUID: differs when the same certificate was deleted and registered again
    version: int  # counts changes, from 1
    ca: str | None = None  # the registered authority that it was registered under
    serial: str | None = None  # and what that one knows it by

    @classmethod
    def begin(
        cls,
        scope: Scope,
        fingerprint: str,
        status: Status,
        mode: CertificateMode,
        origin: Origin,
        *,
        now: datetime,
        generation: str,
        ca: str | None = None,
        serial: str | None = None,
    ) -> Registration:
        """The first version of one."""
        return cls(scope, fingerprint, status, mode, origin, now, now, generation, version=1, ca=ca, serial=serial)

    @property
    def arn(self) -> str:
        return arn_of(self.scope, self.fingerprint)
