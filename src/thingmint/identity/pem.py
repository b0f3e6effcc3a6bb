"""Reading PEM that strangers send (RFC 7468)."""

from __future__ import annotations

import re

from thingmint.identity.errors import Invalid

__all__ = ["MAX_PEM_BYTES", "one_block"]

MAX_PEM_BYTES = 64 * 1024

_BEGIN = re.compile(r"-----BEGIN ([^-\r\n]{1,64})-----")
# Looser than RFC 7468 on purpose: a key with a mangled boundary is still a key that must not be kept.
_PRIVATE_KEY = re.compile(r"BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY", re.IGNORECASE)


def one_block(text: str, field: str, labels: tuple[str, ...], noun: str) -> bytes:
    """``text`` as ASCII, once it is known to hold exactly one PEM block and that block has one of ``labels``.

    Text around the block is allowed, as `openssl x509 -text` writes it. Raises Invalid, naming ``field``.
    """
    if not text.strip():
        raise Invalid(field, "must not be empty")
    if len(text) > MAX_PEM_BYTES:
        raise Invalid(field, f"must be at most {MAX_PEM_BYTES} bytes")
    if _PRIVATE_KEY.search(text):
        raise Invalid(
            field,
            f"contains a private key: send only the {noun}. The key was neither stored nor logged here, "
            "but it has travelled, so replace it",
        )
    found = _BEGIN.findall(text)
    if not found:
        raise Invalid(field, f"is not a PEM {noun}: it has no line -----BEGIN {labels[0]}-----")
    if len(found) > 1:
        raise Invalid(field, f"must hold exactly one PEM block, not {len(found)}")
    if found[0] not in labels:
        raise Invalid(field, f"is not a PEM {noun}: its block has another label than {labels[0]}")
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        raise Invalid(field, "must be ASCII text") from None
