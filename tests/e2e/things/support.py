"""What the tests of things ask again and again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.signing import Signer

__all__ = ["HOSTILE", "INVALID", "NOT_FOUND", "pages", "sent"]

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
"""Names that no resource can have."""


def pages(call: Callable[..., Any], member: str, size: int, **arguments: Any) -> list[Any]:
    """All of a list, ``size`` at a time, to its end. Every page but the last is full."""
    found: list[Any] = []
    token: dict[str, str] = {}
    while True:
        page = call(maxResults=size, **arguments, **token)
        found += page[member]
        if "nextToken" not in page:
            assert page[member] or not found
            return found
        assert len(page[member]) == size
        token = {"nextToken": page["nextToken"]}


def sent(signer: Signer, method: str, path: str, name: str, body: Any = None) -> tuple[int, str | None, str]:
    """The answer to a request whose path holds ``name`` percent-encoded; what boto3 would not let through."""
    raw = b"" if body is None else json.dumps(body).encode()
    answer = signer.send(method, path.replace("NAME", quote(name, safe="")), body=raw)
    return answer.status, answer.aws_code, answer.json()["message"]
