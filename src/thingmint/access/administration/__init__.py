"""The administrator's commands: they create, change and delete accounts, principals, credentials and policies.

A command names a principal by its kind and its name within the account.
"""

from __future__ import annotations

from thingmint.access.administration import accounts, credentials, hostnames, policies, principals
from thingmint.access.administration.declaring import DECLARED, AdminChange, Command
from thingmint.access.administration.inputs import PrincipalKind

__all__ = ["COMMANDS", "NOUNS", "AdminChange", "Command", "PrincipalKind"]

NOUNS = (accounts, credentials, hostnames, policies, principals)
"""The modules whose import declares the commands."""

_LISTED = (
    "account",
    "hostname",
    "region",
    "folder",
    "user",
    "service-account",
    "role",
    "key",
    "token",
    "session",
    "policy",
)

COMMANDS = {command.name: command for noun in _LISTED for command in DECLARED.values() if command.noun == noun}
"""By name, in the order of listings."""
