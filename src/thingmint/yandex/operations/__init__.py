"""The methods of Yandex Cloud that Thingmint serves."""

from __future__ import annotations

from thingmint.yandex.operations import (  # noqa: F401 - this fills OPEN
    devices,
    exports,
    owners,
    passwords,
    platform,
    publishing,
    registries,
)
from thingmint.yandex.operations.declaring import OPEN, OPERATIONS, WITHOUT_TRANSACTION

__all__ = ["OPEN", "OPERATIONS", "SERVED", "WITHOUT_TRANSACTION"]

SERVED = OPERATIONS.keys() | OPEN.keys() | WITHOUT_TRANSACTION.keys()
"""The gRPC paths of all served methods."""
