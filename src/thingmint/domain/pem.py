"""Reading PEM that callers send (RFC 7468)."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thingmint.domain.errors import Invalid


MAX_PEM_BYTES = 64 * 1024

_BEGIN = re.compile(r"-----BEGIN ([^-\r\n]{1,64})-----")
# Looser than RFC 7468 on purpose: a private key with a damaged boundary must not be stored either. Two patterns,
# because a single pattern that begins with the boundary would try up to 60 characters from each dash of the text.
_PRIVATE_KEY = re.compile(r"PRIVATE[\W_]*+KEY", re.IGNORECASE)
_BOUNDARY = re.compile(r"(?:BEGIN|END|--)[^\r\n]*\Z", re.IGNORECASE)
_BOUNDARY_LENGTH = 65  # characters before the words
# RFC 1421 4.4: header lines, followed by an empty line.
_HEADERS = re.compile(r"\s*(?:[A-Za-z0-9-]+:[^\n]*\n)+\r?\n")
_WHITE_SPACE = str.maketrans("", "", " \t\r\n\f\v")


@dataclass(frozen=True, slots=True)
class PemKind:
    """The expected kind of block: its name, its labels (the usual one first), and the error for other input."""

    noun: str
    labels: tuple[str, ...]
    error: type[Invalid]

    def damaged(self, field: str) -> Invalid:
        return self.error(field, f"is not a well-formed PEM {self.noun}: it is truncated or damaged")


def one_block(text: str, field: str, kind: PemKind) -> bytes:
    """Return the content of the PEM block in ``text``, which must have exactly one block, of ``kind``.

    Text around the block is allowed, as `openssl x509 -text` writes it. Raises the kind's error, which names ``field``.
    """
    if not text.strip():
        raise kind.error(field, "must not be empty")
    if len(text) > MAX_PEM_BYTES:
        raise kind.error(field, f"must be at most {MAX_PEM_BYTES} bytes")
    if "\0" in text:
        raise kind.error(field, "must not contain NUL")
    if _holds_private_key(text):
        raise kind.error(
            field,
            f"contains a private key: send only the {kind.noun}. The key was neither stored nor logged here, "
            "but it has travelled, so replace it",
        )
    found = _BEGIN.findall(text)
    if not found:
        raise kind.error(field, f"is not a PEM {kind.noun}: it has no line -----BEGIN {kind.labels[0]}-----")
    if len(found) > 1:
        raise kind.error(field, f"must contain exactly one PEM block, not {len(found)}")
    if found[0] not in kind.labels:
        raise kind.error(field, f"is not a PEM {kind.noun}: its block has another label than {kind.labels[0]}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise kind.error(field, "must be Unicode text") from None
    begin, end = f"-----BEGIN {found[0]}-----", f"-----END {found[0]}-----"
    body, is_complete, _ = text.partition(begin)[2].partition(end)
    if r"\n" in body:
        raise kind.error(field, r"has line ends that are written as a backslash and an n (\n)")
    body = body[headers.end() :] if (headers := _HEADERS.match(body)) else body
    try:
        content = base64.b64decode(body.translate(_WHITE_SPACE), validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not is_complete or not content:
        raise kind.damaged(field)
    return content


def _holds_private_key(text: str) -> bool:
    starts = (found.start() for found in _PRIVATE_KEY.finditer(text))
    return any(_BOUNDARY.search(text[max(0, start - _BOUNDARY_LENGTH) : start]) for start in starts)
