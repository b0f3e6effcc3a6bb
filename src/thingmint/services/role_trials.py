"""What a role may do, told without doing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.domain.policies import ContextValue


@dataclass(frozen=True, slots=True)
class TriedAction:
    """An action of a role on a resource. ``closest`` are the statements that deny a refused one, or nearly allow it."""

    action: str
    resource: str
    allowed: bool
    why: str
    closest: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RoleTrial:
    """``refused`` is why the role cannot be assumed. ``decide`` takes what an Authorize takes."""

    refused: str | None
    decide: Callable[[str, Sequence[str], Mapping[str, ContextValue]], TriedAction]


class TryRole(Protocol):
    """Tells what a role may do on behalf of ``source``. ``role`` and ``source`` are ARNs."""

    def __call__(
        self, scope: Scope, role: str, source: str, now: datetime, address: str | None = None
    ) -> Awaitable[RoleTrial]: ...
