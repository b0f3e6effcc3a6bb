"""The OpenAPI documents of the APIs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from thingmint.aws.openapi import document as aws_document
from thingmint.native.openapi import document as native_document
from thingmint.yandex.openapi import document as yandex_document

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONTRACTS: Final[Mapping[str, Callable[[], dict[str, Any]]]] = {
    "aws": aws_document,
    "yandex": yandex_document,
    "native": native_document,
}
"""What makes the document of each API."""
