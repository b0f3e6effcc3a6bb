"""The pages of Yandex devices, registries and brokers: what they show, and the changes that they make."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.unit.console.browser import Site, text_of
from tests.unit.console.test_pages import allow, certificate_pem, user
from tests.world import THEIRS
from thingmint.domain.certificates import parse_certificate
from thingmint.domain.keys import OWN_KEYS

if TYPE_CHECKING:
    from tests.world import World

CHANGES = ("add-certificate", "remove-certificate", "add-password", "remove-password", "deleted")


def fingerprint_of(pem: str) -> str:
    return parse_certificate(pem, "pem", OWN_KEYS)[0].fingerprint


async def owner_of(world: World, kind: str) -> str:
    registry = await world.registry(name="greenhouse")
    if kind == "registry":
        return registry
    return await world.device(registry, name="lamp")


@pytest.mark.parametrize("kind", ["device", "registry"])
async def test_a_certificate_is_added_and_removed(site: Site, world: World, kind: str) -> None:
    id, pem = await owner_of(world, kind), certificate_pem("lamp-7")
    browser = await site.signed_in()
    page, base = f"/devices/{id}", f"/devices/{kind}/{id}"
    assert (
        f"/console/playground/yandex/{kind.capitalize()}Service.AddCertificate?{kind}_id={id}"
        in (await browser.get(page)).text
    )
    answer = await browser.send(f"{base}/add-certificate", page, certificate_data=pem)
    assert answer.status_code == 303, text_of(answer)
    text = text_of(await browser.get(page))
    assert "lamp-7" in text
    assert "Active" in text
    assert "Certificate added" in text
    assert (await browser.send(f"{base}/add-certificate", page, certificate_data=pem)).status_code == 409
    asked = await browser.get(f"{base}/remove-certificate?certificate={fingerprint_of(pem)}")
    assert "disconnected at once" in text_of(asked)
    answer = await browser.send(f"{base}/remove-certificate", page, certificate=fingerprint_of(pem))
    assert answer.status_code == 303, text_of(answer)
    text = text_of(await browser.get(page))
    assert "It has no certificate." in text
    assert "Certificate removed" in text
    service = f"{kind.capitalize()}Service"
    done = {event for event, outcome, _ in await site.records() if outcome != "refused"}
    assert {f"{service}.AddCertificate", f"{service}.DeleteCertificate"} <= done


async def test_a_password_is_shown_once_and_removed(site: Site, world: World) -> None:
    id = await owner_of(world, "device")
    browser = await site.signed_in()
    base = f"/devices/device/{id}"
    answer = await browser.send(f"{base}/add-password", f"/devices/{id}")
    assert "no-store" in answer.headers["cache-control"]
    found = re.search(r'<code id="secret-2">([^<]+)</code>', answer.text)
    assert found is not None
    page = await browser.get(f"/devices/{id}")
    assert found[1] not in page.text
    (row,) = await world.rows("SELECT id FROM passwords")
    assert str(row[0]) in page.text
    await site.trail.close()
    records = await world.rows("SELECT record FROM audit_records")
    assert not any(found[1] in str(record) for record in records)
    assert (await browser.send(f"{base}/remove-password", "/things", password="x")).status_code == 404
    assert (await browser.send(f"{base}/remove-password", "/things", password=row[0])).status_code == 303
    assert await world.rows("SELECT id FROM passwords") == []


async def test_deleting_asks_first_and_says_what_prevents_it(site: Site, world: World) -> None:
    registry = await world.registry(name="greenhouse")
    device = await world.device(registry, name="lamp")
    browser = await site.signed_in()
    page = await browser.get(f"/devices/registry/{registry}/delete")
    assert "It still has devices. Delete them first." in text_of(page)
    assert "/deleted" not in page.text
    assert (await browser.send(f"/devices/registry/{registry}/deleted")).status_code == 409
    assert f"/devices/device/{device}/deleted" in (await browser.get(f"/devices/device/{device}/delete")).text
    for kind, id in (("device", device), ("registry", registry)):
        assert (await browser.send(f"/devices/{kind}/{id}/deleted")).status_code == 303
        assert (await browser.get(f"/devices/{id}")).status_code == 404
    done = {event for event, outcome, _ in await site.records() if outcome != "refused"}
    assert {"DeviceService.Delete", "RegistryService.Delete"} <= done


async def test_other_callers_and_other_kinds_change_nothing(site: Site, world: World) -> None:
    id, pem = await owner_of(world, "device"), certificate_pem("lamp-7")
    theirs = await world.registry(THEIRS, name="theirs")
    browser = await site.signed_in()
    reads = await site.signed_in(await user(world, "reads", allow("yandex:DeviceService.Get", "iot:List*")))
    page = await reads.get(f"/devices/{id}")
    assert page.status_code == 200
    assert "/devices/device/" not in page.text
    token = await reads.token("/things")
    given = {"certificate_data": pem, "certificate": "a" * 64, "password": "x"}
    for change in CHANGES:
        assert (await browser.send(f"/devices/registry/{id}/{change}", **given)).status_code == 404, change
        assert (await browser.send(f"/devices/registry/{theirs}/{change}", **given)).status_code == 404, change
        answer = await reads.post(f"/devices/device/{id}/{change}", None, form_token=token, **given)
        assert answer.status_code == 403, change
    assert await world.rows("SELECT certificate FROM bindings") == []


async def test_the_page_names_the_registry_and_says_whether_the_device_is_connected(site: Site, world: World) -> None:
    id = await owner_of(world, "device")
    browser = await site.signed_in()
    text = text_of(await browser.get(f"/devices/{id}"))
    assert "in the registry greenhouse" in text
    assert "Not connected" in text
    await world.execute(
        "INSERT INTO device_activity (device, auth_address, auth_at, pub_at, sub_at, online_at, disconnected_at) "
        "VALUES ($1, '192.0.2.7', 1700000000000000, 0, 0, 0, 0)",
        id,
    )
    assert "lamp Connected" in text_of(await browser.get(f"/devices/{id}"))


@pytest.mark.parametrize("kind", ["device", "registry"])
async def test_the_list_of_certificates_has_the_names_of_their_owners(site: Site, world: World, kind: str) -> None:
    """Certificates of Yandex devices often have the common name "localhost"."""
    id = await owner_of(world, kind)
    browser = await site.signed_in()
    added = await browser.send(f"/devices/{kind}/{id}/add-certificate", certificate_data=certificate_pem("localhost"))
    assert added.status_code == 303
    name, getting = {"device": "lamp", "registry": "greenhouse"}[kind], f"yandex:{kind.capitalize()}Service.Get"
    assert f"{kind} {name}" in text_of(await browser.get("/certificates"))
    for actions, is_named in ((("iot:ListCertificates",), False), (("iot:ListCertificates", getting), True)):
        other = await site.signed_in(await user(world, f"reader-{len(actions)}", allow(*actions)))
        assert (f"{kind} {name}" in text_of(await other.get("/certificates"))) == is_named
