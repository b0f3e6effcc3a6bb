"""Assembles the server from its parts, and handles signals, start and stop."""

from thingmint.server.running import Ready
from thingmint.server.serving import serve

__all__ = ["Ready", "serve"]
