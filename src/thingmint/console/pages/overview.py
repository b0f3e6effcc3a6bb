"""The overview: what the fleet does now, and what needs its operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.console.answers import redirect
from thingmint.console.cookies import REGION
from thingmint.console.page import action, page, url

if TYPE_CHECKING:
    from thingmint.console.page import Call
    from thingmint.http.messages import Answer


@page("/", "ConsoleOverview")
async def overview(call: Call) -> Answer:
    return call.render("overview.html")


@action("/region", "ConsoleRegion")
async def choose_region(call: Call) -> Answer:
    """Shows another region of the account from now on, in this browser."""
    region = call.form.choice("region", call.caller.regions)
    return redirect(url("/"), headers=[call.cookies.set(REGION, region or call.scope.region)])
