"""Refusals of devices that no account has, such as those with an unknown certificate: for the operator only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.access.authorization import is_allowed
from thingmint.console.page import links_of, page, url
from thingmint.domain.errors import Denied
from thingmint.services.refusals import NO_ACCOUNT, list_refusals

if TYPE_CHECKING:
    from thingmint.console.page import Call
    from thingmint.http.messages import Answer

PATH = "/refusals/unknown"
_ACTION = "thingmint:ListRefusals"
_ROWS = 25


async def may_see_unknown(call: Call) -> bool:
    """True for callers of the operator's account, the oldest one, that may list the refusals of all regions."""
    in_all = is_allowed(call.context, _ACTION, ("*",), None)
    return in_all and await call.parts.verification.may(call.caller.account)


@page(PATH, "ListRefusals")
async def unknown(call: Call) -> Answer:
    call.may(_ACTION)
    if not await may_see_unknown(call):
        raise Denied(call.caller.arn, _ACTION, "*", explicit=False)
    cursor = call.cursor(_ROWS)
    found = await call.read(lambda tx: list_refusals(tx, call.change, cursor, scope=NO_ACCOUNT))
    return call.render(
        "refusals_unknown.html",
        groups=found.items,
        tabs=tabs(PATH),
        **links_of(PATH, cursor, found.next_token),
    )


def tabs(current: str) -> list[tuple[str, str, bool]]:
    """The links to the lists of refusals."""
    found = (("Devices of this account", "/refusals"), ("Unknown devices", PATH))
    return [(title, url(path), path == current) for title, path in found]
