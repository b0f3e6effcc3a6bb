"""The console's cookies. Each instance on a machine has its own, as browsers share cookies between ports."""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.http.messages import Header, Incoming

SESSION = "session"
REGION = "region"
SAID = "said"
"""What the last form did, for the page that is shown next."""
_SAID_SECONDS = 60
_MAX_COOKIES = 8192  # bytes of the header that are looked at


class Cookies:
    """The cookies of one request. ``sign`` makes the signatures of those that the browser must not change.

    Over TLS the names have the prefix that keeps other hosts of the domain from setting them (``__Host-``).
    """

    def __init__(self, incoming: Incoming, sign: Callable[[str], str]) -> None:
        self._prefix = f"__Host-thingmint-{incoming.port}" if incoming.secure else f"thingmint-{incoming.port}"
        self._secure = incoming.secure
        self._sign = sign
        self._values = _parsed(incoming)

    def get(self, name: str) -> str | None:
        return self._values.get(f"{self._prefix}-{name}")

    def signed(self, name: str) -> str | None:
        """The value that ``set_signed`` stored; None if there is none, or it was altered."""
        content, _, signature = (self.get(name) or "").partition(".")
        if not signature.isascii() or not hmac.compare_digest(signature, self._sign(f"{name} {content}")):
            return None
        try:
            return base64.urlsafe_b64decode(content).decode()
        except ValueError:
            return None

    def set(self, name: str, value: str, seconds: int | None = None) -> Header:
        """A header that stores a cookie: for some seconds, or until the browser is closed."""
        parts = [f"{self._prefix}-{name}={value}", "Path=/", "HttpOnly", "SameSite=Lax"]
        parts += [f"Max-Age={seconds}"] if seconds is not None else []
        parts += ["Secure"] if self._secure else []
        return b"set-cookie", "; ".join(parts).encode("ascii")

    def set_signed(self, name: str, value: str, seconds: int) -> Header:
        content = base64.urlsafe_b64encode(value.encode()).decode()
        return self.set(name, f"{content}.{self._sign(f'{name} {content}')}", seconds)

    def say(self, kind: str, words: str) -> Header:
        """Keeps a sentence for the top of the next page; ``kind`` is that of an alert."""
        return self.set_signed(SAID, f"{kind} {words}"[:1000], _SAID_SECONDS)

    def said(self) -> tuple[str, str] | None:
        """The kind and the words that were kept."""
        kind, _, words = (self.signed(SAID) or "").partition(" ")
        return (kind, words) if words else None

    def drop(self, name: str) -> Header:
        return self.set(name, "", 0)


def _parsed(incoming: Incoming) -> dict[str, str]:
    headers = [value for name, value in incoming.headers if name == b"cookie"]
    text = b"; ".join(headers)[:_MAX_COOKIES].decode("latin-1")
    # Not http.cookies: its time grows with the square of the length (CVE-2024-7592), and it drops all cookies for one
    # that another application on this host has set.
    pairs = (part.strip().partition("=") for part in text.split(";"))
    return {name: value for name, _, value in pairs}
