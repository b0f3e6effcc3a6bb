"""What the streams of pages tell of certificates, and of one session, device or certificate only."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.unit.console.test_updates import Opened, stream, update_of
from tests.unit.services.test_certificate_counts import imported
from tests.world import ABROAD, OURS, THEIRS
from thingmint.domain.arns import Scope, arn, arn_of
from thingmint.services.authentication_decisions import session_name
from thingmint.services.live_changes import CONNECTIONS, name_of, names_about
from thingmint.store.outbox import publish_change

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.unit.console.browser import Site
    from tests.world import World

pytestmark = pytest.mark.usefixtures("events_at_once")
OTHER = "0" * 64
CERTIFICATES = "event: certificates\ndata: 1\n\n"
CONNECTED = "event: connections\ndata: 1\n\n"


async def create(world: World, _: str) -> None:
    await world.aws("CreateKeysAndCertificate")


async def import_some(world: World, _: str) -> None:
    await imported(world, OURS, 3)


async def deactivate(world: World, id: str) -> None:
    await world.aws("UpdateCertificate", certificateId=id, newStatus="INACTIVE")


async def delete(world: World, id: str) -> None:
    await world.aws("UpdateCertificate", certificateId=id, newStatus="INACTIVE")
    await world.aws("DeleteCertificate", certificateId=id)


async def attach(world: World, id: str) -> None:
    await world.aws("CreateThing", thingName="pump")
    await world.aws("AttachThingPrincipal", thingName="pump", principal=arn_of(OURS, id))


@pytest.mark.parametrize("change", [create, import_some, deactivate, delete, attach])
@pytest.mark.parametrize("name", ["overview", "certificates"])
async def test_changes_of_certificates_are_told(
    site: Site, world: World, name: str, change: Callable[[World, str], Awaitable[None]]
) -> None:
    id = await world.certificate()
    async with stream(await site.signed_in(), name) as opened:
        await world.certificate(THEIRS)
        await world.certificate(ABROAD)
        await change(world, id)
        assert await opened.part() == CERTIFICATES


async def test_the_change_of_a_yandex_owner_is_told_though_it_has_no_region(site: Site, world: World) -> None:
    async with stream(await site.signed_in(), "certificates") as opened:
        await world.write(lambda tx: publish_change(tx, Scope(OURS.account, ""), "owner", "are1", world.clock()))
        assert await opened.part() == CERTIFICATES


async def test_the_page_of_a_certificate_hears_of_that_one_only(site: Site, world: World) -> None:
    id = await world.certificate()
    async with stream(await site.signed_in(), f"certificate?of={id}") as opened:
        await import_some(world, id)
        site.updates.changed(OURS, name_of("certificates", OTHER))
        assert site.updates._scopes[OURS].timer is None, "no event waits"
        await deactivate(world, id)
        assert await opened.part() == CERTIFICATES


async def test_the_page_of_a_deleted_certificate_says_so(site: Site, world: World) -> None:
    id = await world.certificate()
    browser = await site.signed_in()
    address, token = update_of((await browser.get(f"/certificates/{id}")).text)
    assert (await browser.get(address, thingmint_update=token)).status_code == 200
    await delete(world, id)
    answer = await browser.get(address, thingmint_update=token)
    assert (answer.status_code, "The certificate was deleted" in answer.text) == (286, True)
    assert (await browser.get(f"/certificates/{id}")).status_code == 404


@pytest.mark.parametrize(
    ("path", "subject", "other"),
    [
        ("session?of=pump%201", "pump 1", "pump"),
        ("session?of=pump&owner=are1", session_name("pump", "are1"), "pump"),
        ("connect?of=pump", "pump", session_name("pump", "are1")),
        ("device?of=are1", session_name("are1", "are1"), "are1"),
    ],
)
async def test_the_page_of_a_device_hears_of_that_one_only(site: Site, path: str, subject: str, other: str) -> None:
    async with stream(await site.signed_in(), path) as opened:
        for name in (CONNECTIONS, name_of(CONNECTIONS, other)):
            site.updates.changed(OURS, name)
        assert site.updates._scopes[OURS].timer is None, "no event waits"
        for name in names_about(CONNECTIONS, subject):
            site.updates.changed(OURS, name)
            assert await opened.part() == CONNECTED


async def test_streams_about_one_need_what_its_page_needs(site: Site, world: World) -> None:
    registry = await world.registry()
    device, other = await world.device(registry), await world.device(registry)
    id = await world.certificate()
    statements = [
        ("iot:GetConnection", arn(OURS, "client/pump")),
        ("iot:DescribeEndpoint", "*"),
        ("iot:DescribeThing", arn(OURS, "thing/pump")),
        ("iot:DescribeCertificate", arn_of(OURS, id)),
        ("yandex:DeviceService.Get", f"yandex:device/{device}"),
    ]
    await world.admin("user.create", name="watcher")
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": each, "Resource": on} for each, on in statements],
    }
    await world.admin("policy.put", name="watcher", document=json.dumps(document))
    await world.admin("policy.attach", principal="user/watcher", policy="watcher")
    token = (await world.admin("token.create", principal="user/watcher"))["token"]
    browser = await site.signed_in(token)
    wanted = {
        "session?of=pump": 200,
        "session?of=other": 403,
        "connect?of=pump": 200,
        "connect?of=other": 403,
        f"certificate?of={id}": 200,
        f"certificate?of={OTHER}": 403,
        f"device?of={device}": 200,
        f"device?of={other}": 403,
        "device?of=none": 403,
        "device?of=" + "x" * 5000: 403,
        "certificate?of=x": 400,
        "session": 400,
        "overview": 403,
    }
    found = {}
    for path in wanted:
        opened = Opened(browser, f"/updates/{path}", {})
        await opened.part()
        found[path] = opened.status
        if opened.status == 200:
            await world.admin("policy.detach", principal="user/watcher", policy="watcher")
            await site.updates.check()
            assert "event: end" in await opened.part(), path
            await world.admin("policy.attach", principal="user/watcher", policy="watcher")
        await opened.close()
    assert found == wanted


async def test_pages_name_the_stream_of_what_they_show(site: Site, world: World) -> None:
    await world.aws("CreateThing", thingName="pump:1")
    id = await world.certificate()
    browser = await site.signed_in()
    assert f'sse-connect="/console/updates/certificate?of={id}"' in (await browser.get(f"/certificates/{id}")).text
    assert 'sse-connect="/console/updates/certificates"' in (await browser.get("/certificates")).text
    await world.admin("hostname.add", name="iot.example.org")
    assert 'sse-connect="/console/updates/connect?of=pump%3A1"' in (await browser.get("/connect/pump:1")).text


async def test_results_of_a_search_do_not_follow(site: Site, world: World) -> None:
    await world.certificate()
    browser = await site.signed_in()
    assert "sse:certificates" in (await browser.get("/certificates?status=ACTIVE")).text
    assert "sse:certificates" not in (await browser.get("/certificates?q=device")).text


async def test_open_and_refused_streams_are_counted(site: Site) -> None:
    browser = await site.signed_in()
    async with stream(browser, "certificates"), stream(browser), stream(browser), stream(browser):
        assert (await browser.get("/updates/sessions")).status_code == 429
        assert dict(site.updates.by_page) == {"certificates": 1, "sessions": 3}
    assert site.updates.by_page.get("sessions", 0) == 0
    assert dict(site.updates.refused) == {"session": 1, "account": 0, "server": 0}


async def test_the_next_page_of_a_list_that_pages_share_can_be_opened(site: Site, world: World) -> None:
    await imported(world, OURS, 30)
    browser = await site.signed_in()
    address, token = update_of((await browser.get("/certificates?ends=later")).text)
    for _ in range(2):
        answer = await browser.get(address, thingmint_update=token)
        (following,) = re.findall(r'href="/console(/certificates\?[^"]*page=[^"]*)"', answer.text)
        assert (await browser.get(html.unescape(following))).status_code == 200
        world.clock.advance(seconds=1)  # the filter is about another time, and the list is shared still
