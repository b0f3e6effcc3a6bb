"""The context of a call to the services: account and region, time, authorization, and the parts of the server.

``access`` makes it from the request. The services do not depend on requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from thingmint.domain.ids import new_uuid
from thingmint.services.search_turns import SearchTurns

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.domain.ids import TimeOrderedIds
    from thingmint.domain.issuing_ca import CertificateAuthority, OwnAuthorities
    from thingmint.domain.policies import ContextValue
    from thingmint.services.bulk_buckets import Buckets
    from thingmint.services.event_configurations import EventSwitches
    from thingmint.services.functions import FunctionTable
    from thingmint.services.health import HealthReport
    from thingmint.services.keypool import KeyPool
    from thingmint.services.last_messages import LastMessages
    from thingmint.services.messages import MessageExports, Messages
    from thingmint.services.page_tokens import PageTokens
    from thingmint.services.password_hashing import PasswordHasher
    from thingmint.services.quotas import Quotas
    from thingmint.services.report_links import ReportLinks
    from thingmint.services.role_trials import TryRole


T = TypeVar("T")

Authorize = Callable[[str, Sequence[str], Mapping[str, "ContextValue"]], None]
"""Arguments: action; resource and all that contain it, the narrowest first; further condition keys. Raises Denied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The parts of the server that operations use, made once at start.

    ``device_ca`` and ``claim_ca`` sign device certificates and claim certificates; ``own_authorities`` has the keys of
    this server's current and former CAs. ``endpoints`` has the host names that are assigned to an account and region.
    ``certificate_ids`` makes the store's ids of certificates. ``reinstate_revoked`` allows REVOKED certificates to
    become ACTIVE again. ``health`` is None where no health can be told. ``searches`` limits searches. ``counts`` are
    counters for /metrics. ``try_role`` tells what a role may do.
    """

    device_ca: CertificateAuthority
    claim_ca: CertificateAuthority
    own_authorities: OwnAuthorities
    keys: KeyPool
    page_tokens: PageTokens
    endpoints: dict[Scope, str]
    functions: FunctionTable
    messages: Messages
    exports: MessageExports
    last_messages: LastMessages
    events: EventSwitches
    passwords: PasswordHasher
    certificate_ids: TimeOrderedIds
    quotas: Quotas
    buckets: Buckets
    report_links: ReportLinks
    try_role: TryRole
    reinstate_revoked: bool = False
    health: HealthReport | None = None
    searches: SearchTurns = field(default_factory=SearchTurns)
    counts: Counter[str] = field(default_factory=Counter)


class Ids:
    """The random values, such as ids, of one call. If the transaction's body runs again, it draws the same values of
    each kind in the same order."""

    __slots__ = ("_left", "_made")

    def __init__(self) -> None:
        self._made: dict[str, list[Any]] = {}
        self._left: dict[str, list[Any]] = {}

    def restart(self) -> None:
        """Call before each run of the transaction's body."""
        self._left = {kind: made[::-1] for kind, made in self._made.items()}

    def renew(self) -> None:
        """Drop all values, because another row already has one of them."""
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
    """The context of a call that reads. ``now`` is the time of the call by the instance's clock."""

    scope: Scope
    now: datetime
    environment: Environment
    authorize: Authorize

    @property
    def account(self) -> str:
        return self.scope.account

    def may(self, action: str, *resources: str, context: Mapping[str, ContextValue] | None = None) -> None:
        """Raise Denied unless the caller is allowed ``action`` on the first of ``resources``.

        The further ``resources`` contain the first; an Allow on one of them is enough.
        """
        self.authorize(action, resources or ("*",), context or {})


@dataclass(frozen=True, slots=True)
class Change(Query):
    """The context of a call that writes. It does not change when the transaction's body runs again."""

    ids: Ids = field(default_factory=Ids)

    def new_id(self, make: Callable[[], str] = new_uuid) -> str:
        """Return a new id, by default a UUID; the same one if the body runs again."""
        return self.ids.draw(make)

    def new_certificate_id(self) -> int:
        return self.ids.draw(lambda: self.environment.certificate_ids(self.now), "certificate")
