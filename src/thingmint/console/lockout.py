"""Guards against a person who ends the own access, or the last administrator's, by one click.

Such a change needs the principal's name, typed by the person. The command line and the native API have no such
question: they do what they are told, as IAM does, and the command line works without any principal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.access.administration.policies import attached_to
from thingmint.access.administration.principals import find_principal, get_principal
from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from thingmint.console.administering import Guard
    from thingmint.console.page import Call
    from thingmint.store.engine import Transaction

ADMINISTRATOR = "thingmint/Administrator"
_MAX_ATTACHED = 100


async def warning_of(call: Call, kind: str, name: str, *, detached: str | None = None) -> str:
    """What a person should know before the principal is disabled or deleted; empty if none.

    ``detached`` is the policy that is detached instead. Raises NotFound.
    """
    return await call.read(lambda tx: _warning(tx, call, kind, name, detached))


def name_was_typed(call: Call, kind: str, name: str, *, detached: str | None = None) -> Guard:
    """Raises Invalid if there is a warning, unless the form's field ``confirm`` has the name.

    It belongs into the transaction of the change: two administrators could otherwise remove each other.
    """

    async def check(tx: Transaction) -> None:
        if await _warning(tx, call, kind, name, detached) and call.form.text("confirm") != name:
            raise Invalid("confirm", f"Type {name} to confirm")

    return check


async def _warning(tx: Transaction, call: Call, kind: str, name: str, detached: str | None) -> str:
    principal = await get_principal(tx, call.caller.account, kind, name)
    if detached not in (None, ADMINISTRATOR):
        return ""
    if await _is_last(tx, call.caller.account, kind, name):
        return (
            f"No other active user has the policy {ADMINISTRATOR}. Without one, people can manage the account only "
            "in a role that has it, or by the command line on the server's machine."
        )
    if principal.id == call.caller.principal:
        return "This is the one that you are signed in as, so you lose this access at once."
    return ""


async def _is_last(tx: Transaction, account: str, kind: str, name: str) -> bool:
    """True if it has the policy, and no other active user has. Service accounts cannot sign in to the console."""
    found = await attached_to(tx, account, ADMINISTRATOR, _MAX_ATTACHED)
    if not any((each.kind, each.name) == (kind, name) for each in found) or len(found) == _MAX_ATTACHED:
        return False
    for each in found:
        if each.kind == "user" and (each.kind, each.name) != (kind, name):
            other = await find_principal(tx, account, each.kind, each.name)
            if other is not None and other.status == "active":
                return False
    return True
