"""Empty lists lead to what makes a first row."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.unit.console.browser import Site
    from tests.world import World


async def test_empty_lists_lead_to_what_makes_a_first_row(site: Site, world: World) -> None:
    browser = await site.signed_in()
    page = (await browser.get("/devices")).text
    for link in ("/console/connect/yandex/new", "/console/playground/yandex/RegistryService.Create"):
        assert f'href="{link}"' in page
    registry = await world.registry(name="greenhouse")
    await world.aws("CreateThing", thingName="pump")
    expected = {
        f"/devices?registry={registry}": f"/console/playground/yandex/DeviceService.Create?registry_id={registry}",
        "/things?q=x": "/console/things",
        "/things/pump": "/console/connect",
        "/certificates": "/console/connect",
        f"/devices/{registry}": "#certificate_data",
    }
    for path, link in expected.items():
        answer = await browser.get(path)
        assert f'href="{link}"' in answer.text, path
        if link.startswith("/console"):
            assert (await browser.get(link.removeprefix("/console"))).status_code == 200
    await world.aws("DeleteThing", thingName="pump")
    assert 'href="/console/playground/aws/CreateThing"' in (await browser.get("/things")).text
    assert (await browser.get("/playground/aws/CreateThing")).status_code == 200
