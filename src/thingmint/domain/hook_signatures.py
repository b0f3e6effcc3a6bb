"""The header with which a receiver of a hook's requests verifies that this server sent them."""

from __future__ import annotations

import hashlib
import hmac

SIGNATURE_HEADER = "Thingmint-Signature"


def signature(secret: bytes, body: bytes, now: float) -> str:
    """Returns the header's value: the time ``t``, and ``v1``, the HMAC-SHA256 of "t.body" under the secret."""
    time = int(now)
    mac = hmac.new(secret, b"%d." % time + body, hashlib.sha256)
    return f"t={time},v1={mac.hexdigest()}"
