"""Page tokens: the position at which the next page begins, sealed so that only the same list accepts the token."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from typing import TYPE_CHECKING

from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from thingmint.domain.arns import Scope

Position = tuple[int, str]
"""The position of a row in its list: microseconds (0 in lists without times), and a name or id."""

_MICROS = struct.Struct(">q")
_MAC_BYTES = 16


class PageTokens:
    """Seals positions with a key of the instance. A token is valid only for its account, region and list.

    The alphabet is that of AWS's Marker shape: standard base64.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, listing: str, scope: Scope, position: Position) -> str:
        packed = _MICROS.pack(position[0]) + position[1].encode()
        return base64.b64encode(packed + self._mac(listing, scope, packed)).decode()

    def open(self, listing: str, scope: Scope, token: str, field: str = "marker") -> Position:
        """Return the position in ``token``. Raises Invalid, which names ``field``, for any other text."""
        try:
            sealed = base64.b64decode(token, validate=True)
        except (binascii.Error, ValueError):
            sealed = b""
        packed, mac = sealed[:-_MAC_BYTES], sealed[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(listing, scope, packed)):
            raise Invalid(field, "is not one that this list returned")
        return _MICROS.unpack_from(packed)[0], packed[_MICROS.size :].decode()

    def _mac(self, listing: str, scope: Scope, packed: bytes) -> bytes:
        context = "\0".join((listing, *scope, "")).encode()
        return hmac.new(self._key, context + packed, hashlib.sha256).digest()[:_MAC_BYTES]
