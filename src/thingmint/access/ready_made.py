"""Policies that need no account to write them: thingmint/NAME, and yandex/ROLE on a resource."""

from __future__ import annotations

from thingmint.domain.policy.ready import READY_MADE as DOCUMENTS
from thingmint.domain.policy.roles import ROLES, role_policy

__all__ = ["READY_MADE", "is_ready_made", "ready_made"]

_OURS = "thingmint/"
_YANDEX = "yandex/"

READY_MADE = (*(f"{_OURS}{name}" for name in DOCUMENTS), *(f"{_YANDEX}{role}" for role in ROLES))


def is_ready_made(name: str) -> bool:
    """No account's own policy can be named so: their names have no slash."""
    return "/" in name


def ready_made(name: str, resource: str) -> str | None:
    """The document, or None if there is no such policy. Raises Invalid for a resource that no role is granted on."""
    if name.startswith(_OURS):
        return DOCUMENTS.get(name.removeprefix(_OURS))
    role = name.removeprefix(_YANDEX)
    return role_policy(role, resource) if name.startswith(_YANDEX) and role in ROLES else None
