"""The OpenAPI documents of the three APIs, and the examples that they embed."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from thingmint.aws import openapi as aws
from thingmint.native import openapi as native
from thingmint.yandex import openapi as yandex

if TYPE_CHECKING:
    from collections.abc import Iterator

MAKERS = {"aws": aws.document, "yandex": yandex.document, "native": native.document}


@cache
def document(api: str) -> dict[str, Any]:
    return MAKERS[api]()


def operations(api: str) -> Iterator[dict[str, Any]]:
    whole = document(api)
    yield from (operation for item in whole["paths"].values() for operation in item.values())
    yield from whole.get("x-thingmint-grpc-only", ())


@cache
def by_id(api: str) -> dict[str, dict[str, Any]]:
    return {operation["operationId"]: operation for operation in operations(api)}


def response(api: str, operation: dict[str, Any], status: str) -> dict[str, Any]:
    """The response of an operation, which may be a reference."""
    found: dict[str, Any] = operation["responses"][status]
    if "$ref" in found:
        found = document(api)["components"]["responses"][found["$ref"].rpartition("/")[2]]
    return found


@cache
def recorded(api: str) -> dict[str, list[dict[str, Any]]]:
    """The examples as `make examples` wrote them."""
    found: dict[str, list[dict[str, Any]]] = json.loads(
        resources.files(f"thingmint.{api}").joinpath("examples.json").read_text("utf-8")
    )
    return found
