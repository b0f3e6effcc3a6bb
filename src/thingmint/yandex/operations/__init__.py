"""The methods of Yandex Cloud that Thingmint serves."""

from __future__ import annotations

from thingmint.yandex.operations import devices, exports, owners, passwords, platform, registries  # noqa: F401 - this fills OPEN
from thingmint.yandex.operations.declaring import OPEN, OPERATIONS, WITHOUT_TRANSACTION

__all__ = ["OPEN", "OPERATIONS", "SERVED", "WITHOUT_TRANSACTION"]

SERVED = OPERATIONS.keys() | OPEN.keys() | WITHOUT_TRANSACTION.keys()
"""The gRPC paths of all served methods."""
