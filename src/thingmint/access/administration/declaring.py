"""Declares the administrator's commands, once for the command line, the admin socket and the native API.

A command is ``async def create(tx, change, given)``: ``given`` is its input model, and it returns plain JSON values.
With ``prepare``, the command's last argument is what ``prepare`` returned.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from thingmint.access.operations import Operation
from thingmint.domain.errors import Invalid, NotFound
from thingmint.domain.names import NAME
from thingmint.domain.policies import Kind, compile_policy
from thingmint.services.change import Ids
from thingmint.services.quotas import NO_QUOTAS, Quotas
from thingmint.store.outbox import publish_access_change

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.access.administration.inputs import Input, PrincipalKind
    from thingmint.access.context import RequestContext
    from thingmint.access.vault import Vault
    from thingmint.store.engine import Transaction

T = TypeVar("T")
Json = dict[str, Any]
Apply = TypeVar("Apply", bound=Callable[..., Awaitable[Any]])

MAX_POLICY_SIZE = 6144  # characters without white space, IAM's limit
_NAME = re.compile(NAME)

# Parts of event names by kind of principal, as CloudTrail and Yandex Audit Trails call them. In AWS STS a session of a
# role comes from AssumeRole, any other session from GetSessionToken.
_WORDS: Mapping[PrincipalKind, Mapping[str, str]] = {
    "user": {"Principal": "User", "Key": "AccessKey", "Session": "GetSessionToken"},
    "role": {"Principal": "Role", "Key": "AccessKey", "Session": "AssumeRole"},
    "service-account": {"Principal": "ServiceAccount", "Key": "Key", "Session": "GetSessionToken"},
}

DECLARED: dict[str, Command] = {}


class Secrets(Json):
    """An answer with secrets: its repr() has only the names of its fields, so logs and tracebacks show no secret."""

    def __repr__(self) -> str:
        return f"<{', '.join(self)}>"


@dataclass(frozen=True, slots=True)
class AdminChange:
    """A command's context. ``request`` is the caller's request, or None for the server's own housekeeping."""

    now: datetime
    vault: Vault
    quotas: Quotas = NO_QUOTAS
    request: RequestContext | None = None
    ids: Ids = field(default_factory=Ids)

    def once(self, make: Callable[[], T]) -> T:
        """What ``make`` returns, such as an id or a secret: the same value if the transaction runs again."""
        return self.ids.draw(make)


@dataclass(frozen=True, slots=True)
class Command:
    """``instance_wide`` commands concern more than one account, so only the operator of the machine may run them.

    ``event_form`` is the event's name in the audit log: CloudTrail's name for commands that IAM or STS has too,
    Yandex Audit Trails' for folders, service accounts and authorized keys. With the prefix thingmint: it is the action
    that policies allow. {Principal}, {Key} and {Session} in it depend on the kind of principal.
    ``fixed`` are further arguments of ``apply``, for functions that serve several commands.
    """

    noun: str
    verb: str
    summary: str
    input: type[Input]
    event_form: str
    apply: Callable[..., Awaitable[Any]]
    prepare: Callable[[AdminChange, Any], Awaitable[Any]] | None
    instance_wide: bool
    fixed: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.noun}.{self.verb}"

    @property
    def operation(self) -> Operation:
        writes = self.verb not in ("attached", "list", "show")
        apply = partial(self.apply, **self.fixed)
        return Operation(
            name=self.name, apply=partial(_publishing, apply) if writes else apply, prepare=self.prepare, writes=writes
        )

    def event(self, given: Input | None = None) -> str:
        """The event's name; without an input, the name for a user. Raises Invalid for a malformed principal."""
        if "{" not in self.event_form:
            return self.event_form
        kind = self.fixed.get("kind") or ("user" if given is None else given.kind)
        return self.event_form.format_map(_WORDS[kind])

    @property
    def events(self) -> tuple[str, ...]:
        """All names that the event can have, which depend on the kind of principal."""
        kinds = (self.fixed["kind"],) if "kind" in self.fixed else self.input.KINDS
        return tuple(dict.fromkeys(self.event_form.format_map(_WORDS[kind]) for kind in kinds))

    def parameters(self, given: Input) -> dict[str, str]:
        """The fields of the input that the audit record shows."""
        values = ((name, getattr(given, name)) for name in given.AUDITED)
        audited = {name: str(value) for name, value in values if value is not None}
        return audited | {"status": self.fixed["status"]} if "status" in self.fixed else audited


async def _publishing(apply: Callable[..., Awaitable[Any]], tx: Transaction, change: AdminChange, *given: Any) -> Any:
    """Runs the command and publishes that access changed, as any command can change permissions."""
    result = await apply(tx, change, *given)
    await publish_access_change(tx, change.now)
    return result


def command(
    name: str,
    summary: str,
    input: type[Input],
    event: str,
    *,
    prepare: Callable[[AdminChange, Any], Awaitable[Any]] | None = None,
    instance_wide: bool = False,
    **fixed: Any,
) -> Callable[[Apply], Apply]:
    """Declares a command; see Command for the arguments.

    Listings show a noun's commands in the order of declaration. Of stacked decorators the lowest declares first.
    """
    noun, verb = name.split(".")

    def declare(apply: Apply) -> Apply:
        assert name not in DECLARED, f"{name} is declared twice"
        DECLARED[name] = Command(noun, verb, summary, input, event, apply, prepare, instance_wide, fixed)
        return apply

    return declare


def shown(time: datetime | None) -> str | None:
    return time.isoformat(timespec="seconds") if time is not None else None


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Invalid("name", "must be 1 to 64 letters, digits or any of +=,.@_-")


def check_document(document: str | None, kind: Kind, name: str = "") -> None:
    """Raises MalformedPolicy."""
    if document is not None:
        compile_policy(document, kind=kind, name=name, max_size=MAX_POLICY_SIZE)


async def check_account(tx: Transaction, account: str) -> None:
    """Raises NotFound."""
    if await tx.fetch_one("SELECT 1 FROM accounts WHERE id = $1", account) is None:
        raise NotFound("account", account)
