"""Assembles the server from its parts, and handles signals, start and stop."""

from thingmint.server.serving import Ready, serve

__all__ = ["Ready", "serve"]
