"""Commands of those who may read the data directory, and their records in the audit log."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from thingmint.access.commands import COMMANDS
from thingmint.access.context import LOCAL_ADMIN, Outcome, RequestContext
from thingmint.access.inputs import InAccount
from thingmint.domain.errors import Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from thingmint.access.administration import Administration
    from thingmint.access.audit import AuditTrail
    from thingmint.access.commands import Command
    from thingmint.access.inputs import Input

__all__ = ["as_local_admin", "local_request", "recorded"]


def local_request(operation: str, now: datetime) -> RequestContext:
    return RequestContext(api=LOCAL_ADMIN, operation=operation, user_agent="thingmint command line", now=now)


@contextmanager
def recorded(context: RequestContext, trail: AuditTrail) -> Iterator[Outcome]:
    """However the block ends, ``trail`` has its record afterwards."""
    outcome = Outcome()
    try:
        yield outcome
    except BaseException as error:
        outcome.code = type(error).__name__
        raise
    finally:
        trail.add(context, outcome)


async def as_local_admin(admin: Administration, trail: AuditTrail, name: str, given: Mapping[str, Any]) -> Any:
    """Runs a command for the local administrator. Raises DomainErrors."""
    command = COMMANDS.get(name)
    if command is None:
        raise NotFound("command", name)
    context = local_request(command.usual_event, admin.now())
    try:
        checked = _checked(command, given)
        if isinstance(checked, InAccount):
            if not checked.account:
                accounts = await admin.list_accounts()
                checked = checked.model_copy(update={"account": accounts[0][0]})
            context = replace(context, account=checked.account)
        context = replace(context, operation=command.event(checked), parameters=command.parameters(checked))
    except BaseException:
        with recorded(context, trail):
            raise
    with recorded(context, trail) as outcome:
        return await command.run(admin.of(context, outcome), checked)


def _checked(command: Command, given: Mapping[str, Any]) -> Input:
    try:
        return command.input.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"])) or "input"
        raise Invalid(field, f"is not valid: {first['msg'].removeprefix('Value error, ')}") from None
