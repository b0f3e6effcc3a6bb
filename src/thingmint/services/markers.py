"""Until the last list is converted."""

from __future__ import annotations

from thingmint.services.pages import PageTokens as Markers

__all__ = ["Markers"]
