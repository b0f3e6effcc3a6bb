"""Files that are sent as they are, or compressed to clients that take gzip (RFC 9110, 12.5.3)."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thingmint.http.messages import Answer, Incoming

_MEDIA = (b"text/", b"application/json", b"image/svg+xml")
_WORTHWHILE = 512  # bytes that a file must have to be compressed


@dataclass(frozen=True, slots=True)
class File:
    """An answer in the encodings that it has; ``compressed`` is None if that would save nothing."""

    plain: Answer
    compressed: Answer | None

    @classmethod
    def of(cls, answer: Answer) -> File:
        """Compress the answer, unless its content is compressed already. An ``etag`` becomes that of the encoding."""
        headers = dict(answer.headers)
        if len(answer.body) < _WORTHWHILE or not headers[b"content-type"].startswith(_MEDIA):
            return cls(answer, None)
        headers[b"vary"] = b"accept-encoding"
        plain = replace(answer, headers=list(headers.items()))
        headers[b"content-encoding"] = b"gzip"
        if b"etag" in headers:
            headers[b"etag"] = headers[b"etag"][:-1] + b'-gzip"'
        return cls(plain, replace(answer, headers=list(headers.items()), body=gzip.compress(answer.body, mtime=0)))

    def answer(self, incoming: Incoming) -> Answer:
        """The answer in the encoding that the client takes."""
        return self.compressed if self.compressed is not None and _accepts_gzip(incoming) else self.plain


def _accepts_gzip(incoming: Incoming) -> bool:
    for part in (incoming.header(b"accept-encoding") or b"").lower().split(b","):
        coding, _, weight = part.replace(b" ", b"").partition(b";")
        if coding == b"gzip":
            return weight not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return False
