"""What a call hands to the services: where and when it happens, what its caller may do, and the parts of the server.

``access`` makes these from the request; the services know no request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from thingmint.domain.ids import new_uuid

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.domain.ids import TimeOrderedIds
    from thingmint.domain.issuing_ca import CertificateAuthority, OwnAuthorities
    from thingmint.domain.policies import ContextValue
    from thingmint.services.hooks import HookTable
    from thingmint.services.keypool import KeyPool
    from thingmint.services.messages import Messages
    from thingmint.services.page_tokens import PageTokens
    from thingmint.services.quotas import Quotas


T = TypeVar("T")

Authorize = Callable[[str, Sequence[str], Mapping[str, "ContextValue"]], None]
"""Action, a resource with all that contain it (the narrowest first), and what is known besides. Raises Denied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The parts of the server that operations use, made once at start.

    ``device_ca`` and ``claim_ca`` sign the certificates of devices and of provisioning claims; ``own_authorities``
    knows the keys of all CAs that this server has or had. ``endpoints`` are the host names of accounts and regions that
    have one of their own. ``certificate_ids`` makes the store's ids of certificates. ``reinstate_revoked`` lets REVOKED
    certificates become ACTIVE again. ``counts`` is what operations count for /metrics.
    """

    device_ca: CertificateAuthority
    claim_ca: CertificateAuthority
    own_authorities: OwnAuthorities
    keys: KeyPool
    page_tokens: PageTokens
    endpoints: dict[Scope, str]
    hooks: HookTable
    messages: Messages
    certificate_ids: TimeOrderedIds
    quotas: Quotas
    reinstate_revoked: bool = False
    counts: Counter[str] = field(default_factory=Counter)


class Ids:
    """What one call makes up: ids above all. A body that is run again draws the same ones of a kind in the same
    order."""

    __slots__ = ("_left", "_made")

    def __init__(self) -> None:
        self._made: dict[str, list[Any]] = {}
        self._left: dict[str, list[Any]] = {}

    def restart(self) -> None:
        """Before each run of the body."""
        self._left = {kind: made[::-1] for kind, made in self._made.items()}

    def renew(self) -> None:
        """Forgets them all, as one of them was taken."""
        self._made, self._left = {}, {}

    def draw(self, make: Callable[[], T], kind: str = "") -> T:
        if left := self._left.get(kind):
            drawn: T = left.pop()
            return drawn
        made = make()
        self._made.setdefault(kind, []).append(made)
        return made


@dataclass(frozen=True, slots=True)
class Query:
    """What a call that reads knows. ``now`` is when it came, by the instance's clock."""

    scope: Scope
    now: datetime
    environment: Environment
    authorize: Authorize

    @property
    def account(self) -> str:
        return self.scope.account

    def may(self, action: str, *resources: str, context: Mapping[str, ContextValue] | None = None) -> None:
        """Raises Denied unless the caller may, on the first of ``resources`` or on any further one that contains it."""
        self.authorize(action, resources or ("*",), context or {})


@dataclass(frozen=True, slots=True)
class Change(Query):
    """What a call that writes knows. Everything in it is made before the transaction, so a body can be run again."""

    ids: Ids = field(default_factory=Ids)

    def new_id(self, make: Callable[[], str] = new_uuid) -> str:
        """An id, a UUID unless ``make`` makes another kind; the same one if the body is run again."""
        return self.ids.draw(make)

    def new_certificate_id(self) -> int:
        return self.ids.draw(lambda: self.environment.certificate_ids(self.now), "certificate")
