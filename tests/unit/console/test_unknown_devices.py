"""Refusals of devices that no account has: only the operator's account sees them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.unit.console.browser import text_of
from tests.unit.console.test_pages import EVIL, allow, user
from tests.world import OURS
from thingmint.services.refusals import Refusals

if TYPE_CHECKING:
    from tests.unit.console.browser import Site
    from tests.world import World

UNKNOWN = "5e" * 32
PATH = "/refusals/unknown"


async def test_the_operator_sees_unknown_certificates(site: Site, world: World) -> None:
    browser = await site.signed_in()
    assert "No unknown device was refused" in text_of(await browser.get(PATH))
    refusals = Refusals(world.store, world.clock)
    for number in range(30):
        reason = f"no certificate {UNKNOWN} is registered"
        refusals.note(None, None, f"{EVIL}{number}", "iot:Connect", None, reason, "192.0.2.7")
    await refusals.flush()
    listed = await browser.get("/refusals")
    assert 'href="/console/refusals/unknown"' in listed.text
    assert EVIL not in text_of(listed), "the list of the account has its own devices only"
    answer = await browser.get(PATH)
    assert f"{EVIL}29" in text_of(answer)
    assert EVIL not in answer.text
    assert f'title="{UNKNOWN}">5e5e5e5e5e5e…</span>' in answer.text
    assert "Next page" in answer.text
    assert "/playground/aws/RegisterCertificateWithoutCA" in answer.text


@pytest.mark.parametrize("shown", ["5e5e", "5e5e5e5e5e5e…", "5E:5E:5E", " 5e5e5e... ", UNKNOWN, f"0x{UNKNOWN}"])
async def test_refusals_are_found_by_the_first_digits(site: Site, world: World, shown: str) -> None:
    refusals = Refusals(world.store, world.clock)
    for number, id in enumerate((UNKNOWN, "5d" + "ff" * 31, "5f" * 32, "6e" * 32)):
        refusals.note(OURS, id, f"pump-{number}", "iot:Connect", None, "no")
    await refusals.flush()
    browser = await site.signed_in()
    answer = await browser.client.get("/console/refusals", params={"certificate": shown})
    text = text_of(answer)
    assert [number for number in range(4) if f"pump-{number} may not connect" in text] == [0]
    command = re.search(r"thingmint refusal list --certificate (\w+)", text)
    assert command is not None
    assert UNKNOWN.startswith(command[1])
    for wrong in ("5e5", "zzzz", "0" * 65, "5e%", "\N{ARABIC-INDIC DIGIT ONE}" * 8):
        answer = await browser.client.get("/console/refusals", params={"certificate": wrong})
        assert answer.status_code == 400, wrong
        assert "4 or more digits" in text_of(answer)


async def test_others_see_how_the_operator_sees_them(site: Site, world: World) -> None:
    limited = allow("thingmint:ListRefusals") | {"Condition": {"StringEquals": {"aws:RequestedRegion": "us-east-1"}}}
    tokens = [
        world.theirs.token,
        await user(world, "here", limited),
        await user(world, "things", allow("iot:ListThings")),
    ]
    for number, token in enumerate(tokens):
        browser = await site.signed_in(token)
        assert (await browser.get(PATH)).status_code == 403, number
        listed = await browser.get("/refusals")
        if number < 2:
            assert "thingmint refusal list --account none" in text_of(listed), number
        assert f'href="/console{PATH}"' not in listed.text, number
    reader = await site.signed_in(await user(world, "reader", allow("thingmint:ListRefusals")))
    assert (await reader.get(PATH)).status_code == 200
