"""Pages of Yandex IoT Core ask policies as Yandex's API does, which has no regions, whichever one a browser chose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.console.browser import Site, text_of
from tests.unit.console.test_pages import allow, user
from tests.unit.console.test_updates import stream
from tests.world import ABROAD, OURS
from thingmint.services.refusals import Refusals

if TYPE_CHECKING:
    import httpx

    from tests.unit.console.browser import Browser
    from tests.world import World

_HOME, _ABROAD = OURS.region, ABROAD.region


def _region(effect: str, operator: str, region: str) -> dict[str, Any]:
    condition = {operator: {"aws:RequestedRegion": region}}
    return {"Effect": effect, "Action": "yandex:*", "Resource": "*", "Condition": condition}


_OTHERS = allow("iot:*", "thingmint:*")
POLICIES = {
    "allowed abroad": [_OTHERS, _region("Allow", "StringEquals", _ABROAD)],
    "allowed at home": [_OTHERS, _region("Allow", "StringEquals", _HOME)],
    "denied abroad": [allow("*"), _region("Deny", "StringEquals", _ABROAD)],
    "denied at home": [allow("*"), _region("Deny", "StringEquals", _HOME)],
    "denied elsewhere": [allow("*"), _region("Deny", "StringNotEquals", _ABROAD)],
    "allowed if there is a region": [_OTHERS, _region("Allow", "Null", "false")],
    "allowed without one": [_OTHERS, _region("Allow", "Null", "true")],
}


async def _called(browser: Browser, operation: str, **fields: str) -> httpx.Response:
    at = f"/playground/yandex/{operation}"
    return await browser.send(at, page=at, **fields)


@pytest.mark.parametrize("region", [_HOME, _ABROAD])
@pytest.mark.parametrize("policy", POLICIES)
async def test_pages_and_forms_decide_as_the_api(site: Site, world: World, policy: str, region: str) -> None:
    registry = await world.registry(name="registry")
    device = await world.device(registry, name="lathe")
    id = await world.certificate(scope=ABROAD if region == _ABROAD else OURS)
    refusals = Refusals(world.store, world.clock)
    scope = ABROAD if region == _ABROAD else OURS
    topic = f"arn:aws:iot:{region}:{OURS.account}:topic/$devices/{device}/events"
    refusals.note(scope, id, "pump", "iot:Publish", topic, "none")
    await refusals.flush()
    ((group,),) = await world.rows("SELECT key FROM refusals")
    browser = await site.signed_in(await user(world, "user", *POLICIES[policy]))
    assert (await browser.send("/region", page="/playground", region=region)).status_code == 303
    is_allowed = "PERMISSION_DENIED" not in (await _called(browser, "DeviceService.Get", device_id=device)).text
    assert is_allowed == (policy in ("denied abroad", "denied at home", "allowed without one")), "as the API decides"

    expected = 200 if is_allowed else 403
    for path in ("/devices", f"/devices?registry={registry}", f"/devices/{device}", f"/connect/yandex/{device}"):
        assert (await browser.get(path)).status_code == expected, path
    assert (await browser.get("/connect/yandex/new")).status_code == expected
    assert (await browser.get(f"/refusals/simulator?device={device}")).status_code == expected
    async with stream(browser, f"device?of={device}") as opened:
        assert opened.status == expected

    form = await browser.get("/playground/yandex/DeviceService.Get")
    assert ("lathe" in form.text) == is_allowed, "the list to choose from"
    said = "allow it for all resources" if is_allowed else "allow it for some resources"
    denied = policy == "denied elsewhere"
    assert ("do not allow it" if denied else said) in text_of(form)
    cure = await browser.get(f"/refusals/{group}")
    assert (f'value="{device}"' in cure.text) == is_allowed, "the cure that binds"

    made = await browser.send(
        "/connect/yandex/new", page="/playground", registry=registry, name="made", sign_in="certificate"
    )
    assert made.status_code == expected
    assert await world.count("devices") == 1 + is_allowed
    bound = await browser.send(f"/refusals/{group}/bind", page="/playground", device=device)
    assert bound.status_code == (303 if is_allowed else 403)


async def test_what_is_bound_is_bound_in_the_home_region(site: Site, world: World) -> None:
    device = await world.device(await world.registry(name="registry"), name="lathe")
    id = await world.certificate(scope=ABROAD)
    refusals = Refusals(world.store, world.clock)
    refusals.note(ABROAD, id, "pump", "iot:Connect", "x", "none")
    await refusals.flush()
    ((group,),) = await world.rows("SELECT key FROM refusals")
    browser = await site.signed_in()
    await browser.send("/region", region=_ABROAD)
    assert (await browser.send(f"/refusals/{group}/bind", device=device)).status_code == 303
    assert await world.rows("SELECT region FROM bindings") == [(_HOME,)]
    ((record,),) = await world.rows("SELECT record FROM audit_records WHERE record LIKE '%AddCertificate%'")
    assert f"arn:aws:iot:{_HOME}:" in record
    assert _ABROAD not in record


async def test_pages_of_other_apis_ask_with_the_region(site: Site, world: World) -> None:
    condition = {"StringEquals": {"aws:RequestedRegion": _ABROAD}}
    statement: dict[str, object] = {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition}
    browser = await site.signed_in(await user(world, "user", statement))
    assert (await browser.get("/certificates")).status_code == 403
    await browser.send("/region", page="/playground", region=_ABROAD)
    assert (await browser.get("/certificates")).status_code == 200
