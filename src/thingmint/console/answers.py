"""Answers for browsers: each has the headers that keep a page from being misused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.http.messages import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.http.messages import Header, Stream

ROOT = "/console"
HTML = b"text/html; charset=utf-8"
_POLICY = b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"

_SECURITY = [
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_RETRY = b"retry: 3000\n\n"  # milliseconds until the browser opens a stream again
_NOT_STORED = (b"cache-control", b"no-store")


def page_answer(
    body: str | bytes,
    status: int = 200,
    *,
    headers: Sequence[Header] = (),
    code: str | None = None,
    media: bytes = HTML,
) -> Answer:
    """An answer that no cache keeps."""
    sent = body if isinstance(body, bytes) else body.encode()
    return Answer(status, [(b"content-type", media), _NOT_STORED, *_SECURITY, *headers], sent, code)


def stream_answer(stream: Stream) -> Answer:
    """Events for a page. The last header tells nginx not to collect them."""
    headers = [(b"content-type", b"text/event-stream"), _NOT_STORED, *_SECURITY, (b"x-accel-buffering", b"no")]
    return Answer(200, headers, _RETRY, stream=stream)


def file_answer(body: bytes, media: bytes, headers: Sequence[Header] = ()) -> Answer:
    """A file whose address changes with its content."""
    kept = (b"cache-control", b"public, max-age=31536000, immutable")
    return Answer(200, [(b"content-type", media), kept, *_SECURITY, *headers], body)


def redirect(location: str, *, headers: Sequence[Header] = (), code: str | None = None) -> Answer:
    """Sends the browser to ``location`` with GET."""
    return Answer(303, [(b"location", location.encode("ascii")), _NOT_STORED, *_SECURITY, *headers], b"", code)
