"""Accounts, principals, credentials and policies: making, changing and ending them."""

from __future__ import annotations

from thingmint.access.administration.accounts import Accounts
from thingmint.access.administration.common import PrincipalKind
from thingmint.access.administration.credentials import Credentials
from thingmint.access.administration.policies import Policies
from thingmint.access.administration.principals import Principals

__all__ = ["Administration", "PrincipalKind"]


class Administration(Accounts, Principals, Credentials, Policies):
    """Every method is one transaction. Principals are named by kind and name within their account."""
