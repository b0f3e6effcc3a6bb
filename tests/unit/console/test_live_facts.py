"""Pages of devices tell at once whether they are connected: what is stored of connections follows seconds later."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from tests.unit.console.browser import text_of
from tests.unit.console.test_pages import certificate_pem
from tests.world import OURS
from thingmint.domain.arns import arn_of
from thingmint.services.authentication_decisions import session_name
from thingmint.services.certificate_activity import CertificateActivity
from thingmint.services.device_activity import Activity, store_activity
from thingmint.services.messages import ConnectionFacts
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from tests.unit.console.browser import Browser, Site
    from tests.world import World


@dataclass
class Connection:
    certificate_id: str
    thing: str | None = "pump"

    @property
    def facts(self) -> ConnectionFacts:
        return ConnectionFacts(self.thing, 60, 0, "192.0.2.7", 1, "192.0.2.1", 8883)


async def card(browser: Browser, id: str) -> str:
    """The text of the certificate's card about its connection."""
    answer = await browser.get(f"/certificates/{id}")
    found = re.search(r"<h2>Connection</h2>(.*?)</section>", answer.text, re.DOTALL)
    assert found is not None, text_of(answer)
    return " ".join(re.sub(r"<[^>]*>", " ", found[1]).split())


async def test_a_device_that_has_just_connected(site: Site, world: World) -> None:
    id, other = [await world.certificate(pem=certificate_pem(name)) for name in ("a", "b")]
    await world.aws("CreateThing", thingName="pump")
    for each in (id, other):
        await world.aws("AttachThingPrincipal", thingName="pump", principal=arn_of(OURS, each))
    browser, connection = await site.signed_in(), cast("Any", Connection(id))
    assert "No device has connected with this certificate yet." in await card(browser, id)
    world.clients.add(OURS, "pump", connection)
    shown = await card(browser, id)
    assert "Connected as pump since" in shown
    assert "192.0.2.7" in shown
    assert "No device has connected" not in shown
    assert "No device has connected" in await card(browser, other), "it is connected with the first one"


async def test_a_yandex_device_that_has_just_disconnected(site: Site, world: World) -> None:
    device = await world.device(await world.registry(name="boilers"), name="boiler-1")
    begun = to_micros(world.clock())
    await world.store.write(lambda tx: store_activity(tx, {device: Activity("192.0.2.7", begun)}))
    browser, connection = await site.signed_in(), cast("Any", Connection(""))
    name = session_name(device, device)
    world.clients.add(OURS, name, connection)
    assert "Connected. The device connected" in text_of(await browser.get(f"/connect/yandex/{device}"))
    world.clock.advance(seconds=30)
    world.clients.remove(OURS, name, connection, "CLIENT_INITIATED_DISCONNECT")
    world.clock.advance(seconds=1)
    assert "It was connected." in text_of(await browser.get(f"/connect/yandex/{device}"))
    assert "Disconnected 1 s ago" in text_of(await browser.get(f"/devices/{device}"))


async def test_a_device_that_has_just_disconnected(site: Site, world: World) -> None:
    world.environment.endpoints[OURS] = "iot.example.org"
    id = await world.certificate(pem=certificate_pem("a"))
    await world.aws("CreateThing", thingName="pump")
    await world.aws("AttachThingPrincipal", thingName="pump", principal=arn_of(OURS, id))
    activity = CertificateActivity(world.store, world.clock)
    for client_id in ("pump", "by-another-name"):
        connection = cast("Any", Connection(id, "pump" if client_id == "pump" else None))
        activity.connected(OURS, id, client_id, "192.0.2.7")
        await activity.flush()
        world.clients.add(OURS, client_id, connection)
        browser = await site.signed_in()
        assert "Connected. The device connected" in text_of(await browser.get("/connect/pump")), client_id
        world.clock.advance(seconds=30)
        world.clients.remove(OURS, client_id, connection, "CLIENT_INITIATED_DISCONNECT")
        world.clock.advance(seconds=1)
        text = text_of(await browser.get("/connect/pump"))
        assert "It was connected. The device connected last" in text, client_id
        shown = await card(browser, id)
        assert "Not connected Last seen 1 s ago" in shown, client_id
        assert "Disconnected 1 s ago" in shown, client_id
