"""The administrator's commands: making, changing and ending accounts, principals, credentials and policies.

Principals are named by kind and name within their account.
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
"""In the order in which they are listed."""
