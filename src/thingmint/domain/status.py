"""The state machine of a registration (AWS IoT's certificate statuses; Yandex's are a subset)."""

from __future__ import annotations

from enum import StrEnum

from thingmint.domain.errors import InvalidState


class Status(StrEnum):
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    REVOKED = "REVOKED"
    PENDING_TRANSFER = "PENDING_TRANSFER"
    REGISTER_INACTIVE = "REGISTER_INACTIVE"
    PENDING_ACTIVATION = "PENDING_ACTIVATION"


_SETTABLE = frozenset({Status.ACTIVE, Status.INACTIVE, Status.REVOKED})


def check_initial(status: Status) -> None:
    """Raise InvalidState unless callers may register a certificate with that status."""
    if status not in _SETTABLE:
        raise InvalidState("certificate", "", f"Not allowed to register certificate with {status} status")


def check_update(fingerprint: str, current: Status, new: Status, *, reinstate: bool) -> None:
    """Raise InvalidState unless callers may change ``current`` to ``new``, which may be the same.

    AWS's guide says that a revoked certificate "can't be used again"; with ``reinstate`` it can.
    """
    if new not in _SETTABLE:
        raise InvalidState("certificate", fingerprint, f"Status {new} can only be set by the service itself")
    if current is Status.PENDING_TRANSFER:
        raise InvalidState("certificate", fingerprint, "Status cannot be changed while a transfer is pending")
    if current is Status.REVOKED and new is not Status.REVOKED and not reinstate:
        raise InvalidState("certificate", fingerprint, f"Status cannot be changed from REVOKED to {new}")
