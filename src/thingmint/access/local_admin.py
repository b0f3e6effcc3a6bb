"""Runs the administrator's commands. The local administrator needs only access to the data directory."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from thingmint.access.administration import COMMANDS, AdminChange
from thingmint.access.administration.accounts import list_accounts
from thingmint.access.administration.inputs import InAccount
from thingmint.access.context import LOCAL_ADMIN, Outcome, RequestContext
from thingmint.access.operations import run
from thingmint.domain.errors import Invalid, NotFound
from thingmint.domain.validation import flaw
from thingmint.services.quotas import NO_QUOTAS, Quotas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from thingmint.access.administration import Command
    from thingmint.access.administration.inputs import Input
    from thingmint.access.audit import AuditedStore, AuditLog
    from thingmint.access.vault import Vault


def local_request(operation: str, now: datetime) -> RequestContext:
    return RequestContext(api=LOCAL_ADMIN, operation=operation, user_agent="thingmint command line", now=now)


@contextmanager
def recorded(context: RequestContext, trail: AuditLog) -> Iterator[Outcome]:
    """Adds the record of the block to ``trail``, whether it returns or raises."""
    outcome = Outcome()
    try:
        yield outcome
    except BaseException as error:
        outcome.code = type(error).__name__
        raise
    finally:
        trail.add(context, outcome)


@dataclass(frozen=True, slots=True)
class Administration:
    """Runs commands of any caller."""

    store: AuditedStore
    vault: Vault
    clock: Callable[[], datetime]
    quotas: Quotas = NO_QUOTAS

    async def run(self, command: Command, context: RequestContext, outcome: Outcome, given: Input) -> Any:
        """The command's answer. Raises DomainErrors."""
        change = AdminChange(context.now, self.vault, self.quotas, context)
        return await run(command.operation, self.store.of(context, outcome), change, given)


async def as_local_admin(admin: Administration, trail: AuditLog, name: str, given: Mapping[str, Any]) -> Any:
    """The answer of a command that the local administrator runs. Raises DomainErrors."""
    command = COMMANDS.get(name)
    if command is None:
        raise NotFound("command", name)
    context = local_request(command.event(), admin.clock())
    try:
        checked = checked_input(command, given)
        if isinstance(checked, InAccount):
            if not checked.account:
                accounts = await admin.store.read(list_accounts)
                checked = checked.model_copy(update={"account": accounts[0].id})
            context = replace(context, account=checked.account)
        context = replace(context, operation=command.event(checked), parameters=command.parameters(checked))
    except BaseException:
        with recorded(context, trail):
            raise
    with recorded(context, trail) as outcome:
        return await admin.run(command, context, outcome, checked)


def checked_input(command: Command, given: Mapping[str, Any]) -> Input:
    """The command's input. Raises Invalid."""
    try:
        return command.input.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "input"
        raise Invalid(field, flaw(first)) from None
