"""Runs the commands of `thingmint access` for a person of the console, on the person's own account."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from thingmint.access.administration import COMMANDS, inputs
from thingmint.access.local_admin import checked_input

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from thingmint.access.administration import Command
    from thingmint.console.page import Call
    from thingmint.store.engine import Transaction

    Guard = Callable[[Transaction], Awaitable[None]]


async def administer(call: Call, name: str, /, **given: Any) -> Any:
    """The command's answer. Its permission and its audit record are those of the native API. Raises DomainErrors."""
    return await _run(call, COMMANDS[name], given)


async def administer_guarded(call: Call, name: str, guard: Guard, /, **given: Any) -> Any:
    """The same, unless ``guard`` raises. It runs in the command's transaction, so that no change comes between."""
    command = COMMANDS[name]

    async def apply(tx: Transaction, *passed: Any, **fixed: Any) -> Any:
        await guard(tx)
        return await command.apply(tx, *passed, **fixed)

    return await _run(call, replace(command, apply=apply), given)


async def administer_with(call: Call, name: str, fixed: Mapping[str, Any], /, **given: Any) -> Any:
    """The same, with further arguments of the command's function."""
    command = COMMANDS[name]
    return await _run(call, replace(command, fixed={**command.fixed, **fixed}), given)


async def _run(call: Call, command: Command, given: Mapping[str, Any]) -> Any:
    checked = checked_input(command, {"account": call.caller.account, **given})
    event = command.event(checked)
    call.may(f"thingmint:{event}")
    context = replace(call.context, operation=event, parameters=command.parameters(checked))
    return await call.parts.administration.run(command, context, call.outcome, checked)


def event_of(name: str, kind: str = "user") -> str:
    """The event of a command about a principal of this kind."""
    command = COMMANDS[name]
    if "{" not in command.event_form or "kind" in command.fixed:
        return command.event()
    return command.event(inputs.Principal(account="", principal=f"{kind}/any"))


def may_run(call: Call, name: str, kind: str = "user") -> bool:
    """True if the caller's policies allow the command. For what to show."""
    return call.allows(f"thingmint:{event_of(name, kind)}")
