"""The complete table of status transitions."""

from __future__ import annotations

import itertools

import pytest

from tests.tables import each_row
from thingmint.domain.errors import InvalidState
from thingmint.domain.status import Status, check_initial, check_update

SETTABLE = ("ACTIVE", "INACTIVE", "REVOKED")
# The statuses that a caller can set, by the current status.
ALLOWED = {
    "ACTIVE": SETTABLE,
    "INACTIVE": SETTABLE,
    "REVOKED": ("REVOKED",),
    "PENDING_TRANSFER": (),
    "REGISTER_INACTIVE": SETTABLE,
    "PENDING_ACTIVATION": SETTABLE,
}
ALLOWED_WITH_REINSTATEMENT = ALLOWED | {"REVOKED": SETTABLE}


def test_the_table_names_every_status() -> None:
    assert set(ALLOWED) == set(Status)


@each_row("reinstate", [False, True])
@each_row(("current", "new"), list(itertools.product(ALLOWED, ALLOWED)))
def test_status_updates_follow_the_table(current: str, new: str, reinstate: bool) -> None:
    if new in (ALLOWED_WITH_REINSTATEMENT if reinstate else ALLOWED)[current]:
        check_update("f" * 64, Status(current), Status(new), reinstate=reinstate)
        return
    with pytest.raises(InvalidState) as refused:
        check_update("f" * 64, Status(current), Status(new), reinstate=reinstate)
    assert (refused.value.kind, refused.value.id) == ("certificate", "f" * 64)


@pytest.mark.parametrize(
    ("current", "new", "reason"),
    [
        ("ACTIVE", "PENDING_TRANSFER", "Status PENDING_TRANSFER can only be set by the service itself"),
        ("PENDING_TRANSFER", "ACTIVE", "Status cannot be changed while a transfer is pending"),
        ("REVOKED", "ACTIVE", "Status cannot be changed from REVOKED to ACTIVE"),
        # Invalid for every current status.
        ("PENDING_TRANSFER", "PENDING_TRANSFER", "Status PENDING_TRANSFER can only be set by the service itself"),
    ],
)
def test_refused_updates_have_a_reason(current: str, new: str, reason: str) -> None:
    with pytest.raises(InvalidState) as refused:
        check_update("f" * 64, Status(current), Status(new), reinstate=False)
    assert refused.value.reason == reason


@pytest.mark.parametrize("status", list(Status))
def test_initial_statuses(status: Status) -> None:
    if status in SETTABLE:
        check_initial(status)
        return
    with pytest.raises(InvalidState) as refused:
        check_initial(status)
    assert refused.value.reason == f"Not allowed to register certificate with {status} status"
