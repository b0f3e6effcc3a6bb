"""Commands of whoever may read the data directory, and their records in the audit trail."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from thingmint.access.commands import COMMANDS
from thingmint.access.exchange import CURRENT, OPERATOR, Exchange
from thingmint.access.inputs import InAccount
from thingmint.domain.errors import Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from thingmint.access.administration import Administration
    from thingmint.access.audit import AuditTrail
    from thingmint.access.commands import Command
    from thingmint.access.inputs import Input

__all__ = ["as_operator", "operating"]


@asynccontextmanager
async def operating(operation: str, trail: AuditTrail) -> AsyncIterator[Exchange]:
    """The exchange of something that the operator does; however it ends, ``trail`` has it afterwards."""
    exchange = Exchange(face=OPERATOR, operation=operation, user_agent="thingmint command line")
    token = CURRENT.set(exchange)
    try:
        yield exchange
    except BaseException as error:
        exchange.error_code = type(error).__name__
        raise
    finally:
        CURRENT.reset(token)
        trail.add(exchange)


async def as_operator(admin: Administration, trail: AuditTrail, name: str, given: Mapping[str, Any]) -> Any:
    """Runs a command for whoever may read the data directory. Raises DomainErrors."""
    command = COMMANDS.get(name)
    if command is None:
        raise NotFound("command", name)
    async with operating(command.usual_event, trail) as exchange:
        checked = _checked(command, given)
        if isinstance(checked, InAccount):
            if not checked.account:
                accounts = await admin.list_accounts()
                checked = checked.model_copy(update={"account": accounts[0][0]})
            exchange.account = checked.account
        exchange.operation = command.event(checked)
        exchange.parameters = command.parameters(checked)
        return await command.run(admin, checked)


def _checked(command: Command, given: Mapping[str, Any]) -> Input:
    try:
        return command.input.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"])) or "input"
        raise Invalid(field, f"is not valid: {first['msg'].removeprefix('Value error, ')}") from None
