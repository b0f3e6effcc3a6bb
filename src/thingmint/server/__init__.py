"""Assembles the parts, and owns signals, start and stop."""

from thingmint.server.serving import Ready, serve

__all__ = ["Ready", "serve"]
