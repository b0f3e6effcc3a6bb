"""Accounts, principals, credentials and policies: making, changing and ending them.

Functions of a transaction. Principals are named by kind and name within their account.
"""

from __future__ import annotations

from thingmint.access.administration.common import AdminChange, PrincipalKind

__all__ = ["AdminChange", "PrincipalKind"]
