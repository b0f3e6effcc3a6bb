"""Changes of all certificates that the filters match."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.unit.console.browser import Site, text_of
from tests.unit.console.test_pages import EVIL, allow, certificate_pem, statuses, user
from tests.world import OURS, THEIRS
from thingmint.console import requests
from thingmint.console.page import PAGES
from thingmint.console.pages import certificates as list_of_certificates
from thingmint.console.pages import certificates_bulk
from thingmint.domain.arns import arn_of
from thingmint.domain.errors import Unavailable
from thingmint.services.certificate_search import search_states
from thingmint.services.certificates import update_status

if TYPE_CHECKING:
    import httpx
    import pytest

    from tests.unit.console.browser import Browser
    from tests.world import World

ALL = "/certificates/change-all"


async def certificates(world: World, number: int, days: int = 100) -> list[str]:
    return [await world.certificate(pem=certificate_pem(f"pump {each}", days)) for each in range(number)]


async def sent(browser: Browser, page: str, **changed: Any) -> httpx.Response:
    """Sends the form of the page, as a person does who types the number."""
    shown = (await browser.get(page)).text
    hidden = dict(re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)">', shown))
    count = re.search(r"Type (\d+) to confirm", shown)
    fields = {**hidden, "new_status": "INACTIVE", "count": count[1] if count else "0", **changed}
    return await browser.post("/certificates/changed-all", **fields)


async def test_all_that_match_are_changed_beyond_a_page_of_the_list(site: Site, world: World) -> None:
    ids = await certificates(world, 45)
    late = await certificates(world, 2, days=500)
    await world.aws("UpdateCertificate", certificateId=ids[0], newStatus="REVOKED")
    await world.aws("UpdateCertificate", certificateId=ids[1], newStatus="INACTIVE")
    browser = await site.signed_in()
    assert f"{ALL}?ends=" in (await browser.get("/certificates?ends=later")).text
    asked = text_of(await browser.get(f"{ALL}?ends=later"))
    assert "Change 47 certificates" in asked
    assert "Ends Later than 90 days" in asked
    assert "Active 45" in asked
    answer = await sent(browser, f"{ALL}?ends=later")
    text = text_of(answer)
    assert "44 certificates deactivated" not in text
    assert "45 certificates deactivated" in text
    assert "Skipped 1" in text
    assert "Failed 1" in text
    assert f"{ids[0][:12]}… Status cannot be changed from REVOKED" in text
    found = {each["certificateId"]: each["status"] for each in await listed(world)}
    assert {found[id] for id in (*ids[1:], *late)} == {"INACTIVE"}
    assert found[ids[0]] == "REVOKED"
    await site.trail.close()
    records = [json.loads(row[0]) for row in await world.rows("SELECT record FROM audit_records")]
    made = [each for each in records if each["event"] == "UpdateCertificate" and each["address"]]
    assert sorted(arn for each in made for arn in each["resources"]) == sorted(map(own_arn, (*ids[2:], *late)))
    assert max(len(each["resources"]) for each in made) == 20
    assert {each["parameters"]["newStatus"] for each in made} == {"INACTIVE"}


def own_arn(id: str) -> str:
    return arn_of(OURS, id)


async def listed(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await world.aws("ListCertificates", pageSize=250))["certificates"]
    return found


async def test_only_what_matches_is_changed(site: Site, world: World) -> None:
    ids = await certificates(world, 3)
    other = await world.certificate(pem=certificate_pem("lamp"))
    browser = await site.signed_in()
    answer = await sent(browser, f"{ALL}?q=lamp", new_status="REVOKED")
    assert "1 certificate revoked" in text_of(answer)
    assert await statuses(world) == {**dict.fromkeys(ids, "ACTIVE"), other: "REVOKED"}
    assert "No certificate matches" in text_of(await browser.get(f"{ALL}?q=missing"))


async def test_the_number_and_the_certificates_have_to_be_those_that_were_shown(site: Site, world: World) -> None:
    ids = await certificates(world, 3)
    browser = await site.signed_in()
    for wrong in ("", "2", "x"):
        assert (await sent(browser, ALL, count=wrong)).status_code == 400, wrong
    assert (await sent(browser, ALL, digest="0" * 64)).status_code == 409
    assert (await sent(browser, ALL, new_status="PENDING_TRANSFER")).status_code == 400
    assert (await sent(browser, ALL, new_status="")).status_code == 400
    assert (await sent(browser, ALL, at="1")).status_code == 400
    shown = (await browser.get(ALL)).text
    digest = re.search(r'name="digest" value="([0-9a-f]{64})"', shown)
    assert digest is not None
    await world.certificate(pem=certificate_pem("new"))
    assert (await sent(browser, ALL, digest=digest[1], count="3")).status_code == 409, "another certificate matches"
    assert set((await statuses(world)).values()) == {"ACTIVE"}
    assert len(ids) == 3


async def test_one_form_has_a_limit(site: Site, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await certificates(world, 7)
    monkeypatch.setattr(certificates_bulk, "LIMIT", 5)
    monkeypatch.setattr(certificates_bulk, "_READ_AT_ONCE", 2)
    browser = await site.signed_in()
    assert "Change 5 certificates" in text_of(await browser.get(ALL))
    answer = await sent(browser, ALL)
    assert "5 certificates deactivated" in text_of(answer)
    assert "More certificates may match" in text_of(answer)
    assert sorted((await statuses(world)).values()) == ["ACTIVE"] * 2 + ["INACTIVE"] * 5


async def test_a_store_that_fails_midway_is_told(site: Site, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await certificates(world, 30)
    browser = await site.signed_in()
    calls = 0

    async def failing(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 25:
            raise Unavailable("the disk is full")
        return await update_status(*given)

    monkeypatch.setattr(certificates_bulk, "update_status", failing)
    text = text_of(await sent(browser, ALL))
    assert "20 certificates deactivated" in text
    assert "10 certificates were not tried" in text
    assert sorted((await statuses(world)).values()) == ["ACTIVE"] * 10 + ["INACTIVE"] * 20


async def test_each_certificate_needs_its_own_permission(site: Site, world: World) -> None:
    ids = sorted(await certificates(world, 3))
    one: dict[str, object] = {"Effect": "Deny", "Action": "iot:UpdateCertificate", "Resource": arn_of(OURS, ids[0])}
    some = await site.signed_in(await user(world, "some", allow("iot:ListCertificates", "iot:UpdateCertificate"), one))
    reads = await site.signed_in(await user(world, "reads", allow("iot:ListCertificates")))
    assert (await reads.get(ALL)).status_code == 403
    assert "change-all" not in (await reads.get("/certificates")).text
    admin = await site.signed_in()
    shown = (await admin.get(ALL)).text
    hidden = dict(re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)">', shown))
    for browser, changed in ((reads, 0), (some, 2)):
        fields = {**hidden, "form_token": await browser.token("/certificates"), "count": "3", "new_status": "INACTIVE"}
        answer = await browser.post("/certificates/changed-all", **fields)
        assert f"{changed} certificates deactivated" in text_of(answer)
    assert (await statuses(world))[ids[0]] == "ACTIVE"


async def test_certificates_of_others_and_hostile_filters(site: Site, world: World) -> None:
    await world.certificate(THEIRS, certificate_pem("theirs"))
    browser = await site.signed_in()
    assert "No certificate matches" in text_of(await browser.get(ALL))
    for query in ({"q": EVIL}, {"q": "\N{CYRILLIC SMALL LETTER A}" * 200}):
        answer = await browser.client.get(f"/console{ALL}", params=query)
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
    for wrong in ("status=x", "ends=8", "ca=x"):
        assert (await browser.get(f"{ALL}?{wrong}")).status_code == 400


async def test_an_address_is_not_taken_for_one_with_a_parameter(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever module was imported first: /certificates/{id} could take it, too."""
    monkeypatch.setattr(requests, "PAGES", sorted(PAGES, key=lambda page: "{" not in page.path))
    browser = await Site(world).signed_in()
    assert (await browser.get(ALL)).status_code == 200


async def test_what_a_search_finds_is_read_in_parts(site: Site, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = await certificates(world, 7)
    browser = await site.signed_in()
    sizes: list[int] = []

    async def counted(*arguments: Any, **named: Any) -> Any:
        page = await search_states(*arguments, **named)
        sizes.append(len(page.items))
        return page

    monkeypatch.setattr(certificates_bulk, "_READ_AT_ONCE", 3)
    monkeypatch.setattr(list_of_certificates, "_FILE_ROWS_AT_ONCE", 3)
    monkeypatch.setattr(certificates_bulk, "search_states", counted)
    assert "Change 7 certificates" in text_of(await browser.get(f"{ALL}?q=pump&status=ACTIVE"))
    assert [size for size in sizes if size] == [3, 3, 1]
    file = (await browser.get("/certificates.csv?q=pump")).text
    assert all(file.count(id) == 1 for id in ids)
    monkeypatch.setattr(certificates_bulk, "LIMIT", 4)
    shown = text_of(await browser.get(f"{ALL}?q=pump"))
    assert "Change 4 certificates The first that the filters match" in shown
    assert "4 certificates deactivated" in text_of(await sent(browser, f"{ALL}?q=pump"))
