"""Helpers of the tests of things."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.signing import Signer

__all__ = ["CONFLICT", "HOSTILE", "INVALID", "NOT_FOUND", "answer", "exists", "pages", "sent"]

CONFLICT = (409, "VersionConflictException")
INVALID = (400, "InvalidRequestException")
NOT_FOUND = (404, "ResourceNotFoundException")

HOSTILE = [
    "x" * 10_240,
    "a/b",
    "../things",
    "%2e%2e",
    "a b",
    "é",
    "\u202e",
    "a\nb",
    "a\x00b",
    "*",
    "${iot:ClientId}",
    "' OR 1=1 --",
    "x" * 129,
]
"""Invalid names of resources."""


def answer(call: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    """Return the output without ResponseMetadata."""
    output: dict[str, Any] = call(**arguments)
    del output["ResponseMetadata"]
    return output


def pages(iot: Any, operation: str, items: str, **arguments: Any) -> list[Any]:
    """Return all items from boto3's paginator, with two items per page."""
    paginator = iot.get_paginator(operation).paginate(**arguments, PaginationConfig={"PageSize": 2})
    return [item for page in paginator for item in page[items]]


def exists(call: Callable[..., Any], **arguments: Any) -> tuple[int, str, str, str]:
    """Return status, id, ARN and message of a ResourceAlreadyExistsException."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response: Any = caught.value.response
    assert response["Error"]["Code"] == "ResourceAlreadyExistsException"
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    return status, response["resourceId"], response["resourceArn"], response["Error"]["Message"]


def sent(signer: Signer, method: str, path: str, name: str, body: Any = None) -> tuple[int, str | None, str]:
    """Send a request that boto3 refuses to send, with ``name`` percent-encoded in its path, and return the answer."""
    raw = b"" if body is None else json.dumps(body).encode()
    answer = signer.send(method, path.replace("NAME", quote(name, safe="")), body=raw)
    return answer.status, answer.aws_code, answer.json()["message"]
