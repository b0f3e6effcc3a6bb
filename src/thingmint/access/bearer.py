"""Bearer tokens in an Authorization header (RFC 6750 2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Iterable


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The token, or None without the header. Raises Unauthenticated for another scheme, or several headers."""
    values = [value for name, value in headers if name == b"authorization"]
    if not values:
        return None
    scheme, _, token = values[0].decode("latin-1").partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("malformed", "The Authorization header must be sent once, as: Bearer <token>")
    return token.strip()
