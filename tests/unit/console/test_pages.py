"""The pages: what they show, whom they ask, and that names from outside stay text."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.issuers import new_issuer
from tests.unit import vectors
from tests.unit.console.browser import Site, text_of
from tests.world import OURS, THEIRS
from thingmint.domain.arns import arn_of
from thingmint.services.certificate_activity import CertificateActivity
from thingmint.services.health import Check
from thingmint.services.refusals import Refusals

if TYPE_CHECKING:
    from tests.world import World

EVIL = "<script>alert('x')</script>"
NAMES = [
    EVIL,
    '"><img src=x onerror=alert(1)>',
    "x" * 64,
    "\N{CYRILLIC CAPITAL LETTER ZHE}" * 20,
    "{{ 7 * 7 }}",
    "a & b",
]


def certificate_pem(name: str, days: int = 100) -> str:
    return vectors.certificate_pem(common_name=name, not_after=vectors.NOW + timedelta(days=days))


async def user(world: World, name: str, *statements: dict[str, object]) -> str:
    """An API token of a new user with a policy of these statements."""
    await world.admin("user.create", name=name)
    document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    await world.admin("policy.put", name=name, document=document)
    await world.admin("policy.attach", principal=f"user/{name}", policy=name)
    token: str = (await world.admin("token.create", principal=f"user/{name}"))["token"]
    return token


def allow(*actions: str) -> dict[str, object]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": "*"}


@pytest.mark.parametrize("name", NAMES)
async def test_names_from_outside_stay_text(site: Site, world: World, name: str) -> None:
    id = await world.certificate(pem=certificate_pem(name))
    await world.aws("CreateThing", thingName="pump", attributePayload={"attributes": {"a": "b"}})
    await world.aws("AttachThingPrincipal", thingName="pump", principal=arn_of(OURS, id))
    root = new_issuer(name, now=vectors.NOW, begins=vectors.NOW, ends=vectors.NOW + timedelta(days=9))
    given = {"caCertificate": root.pem, "certificateMode": "SNI_ONLY", "setAsActive": True}
    ca = (await world.aws("RegisterCACertificate", **given))["certificateId"]
    registry = await world.registry(name="registry", description=name)
    device = await world.device(registry, name="device", description=name)
    refusals = Refusals(world.store, world.clock)
    refusals.note(OURS, id, name, "iot:Publish", name, name, name, lambda: [name])
    await refusals.flush()
    ((group,),) = await world.rows("SELECT key FROM refusals")
    activity = CertificateActivity(world.store, world.clock)
    activity.connected(OURS, id, name, "192.0.2.7")
    await activity.flush()
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    await world.admin("role.create", name="fleet", trust_policy=document)
    site.checks.append(Check("disk", "error", name))
    world.environment.endpoints[OURS] = "iot.example.org"
    browser = await site.signed_in()
    pages = [
        "/",
        "/certificates",
        f"/certificates?{'&'.join(['q=pump', 'status=ACTIVE'])}",
        "/certificates/change-all",
        f"/certificates/{id}",
        f"/certificates/{id}/revoke",
        "/things",
        "/things/pump",
        "/things/pump/delete",
        "/connect",
        "/connect/pump",
        "/devices",
        f"/devices/{device}",
        f"/devices/{registry}",
        f"/devices/device/{device}/delete",
        f"/devices/registry/{registry}/delete",
        f"/devices/device/{device}/remove-certificate?certificate={id}",
        f"/devices/device/{device}/remove-password?password=x",
        "/sessions",
        "/cas",
        f"/cas/{ca}",
        "/access/user/administrator",
        "/access/policies",
        "/access/policy/edit",
        "/access/new-role",
        "/access/role/fleet/trust",
        "/access/user/administrator/new-token",
        f"/access/user/administrator/token-policy?id={world.ours.token.split('_')[1]}",
        "/policies",
        "/policies/edit",
        "/access/audit",
        f"/playground/yandex/DeviceService.AddCertificate?device_id={device}",
        "/refusals",
        "/refusals/unknown",
        f"/refusals/{group}",
        f"/refusals/simulator?device={id}",
    ]
    shown = ""
    for path in pages:
        answer = await browser.get(path)
        assert answer.status_code == 200, (path, text_of(answer))
        shown += text_of(answer)
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        assert not re.search(r"<script(?! src=)|\sstyle=|\son\w+=\"", re.sub(r"&[a-z#0-9]+;", "", answer.text)), path
    assert name in shown
    answer = await browser.client.get("/console/certificates", params={"q": name})
    assert "<script>alert" not in answer.text
    assert name in text_of(answer)


async def test_each_link_of_each_page_leads_where_it_says(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump", 3))
    await world.certificate(pem=certificate_pem("valve", 100))
    await world.aws("CreateThing", thingName="pump:valve")
    await world.aws("AttachThingPrincipal", thingName="pump:valve", principal=arn_of(OURS, id))
    refusals = Refusals(world.store, world.clock)
    refusals.note(OURS, id, "a&b=c", "iot:Publish", "a&b", "a&b")
    await refusals.flush()
    browser, waiting, seen = await site.signed_in(), ["/console/"], {"/console/"}
    while waiting:
        path = waiting.pop()
        answer = await browser.client.get(path)
        assert answer.status_code == 200, (path, text_of(answer)[:500])
        if not answer.headers["content-type"].startswith("text/html"):
            continue
        for found in re.findall(r'\shref="(/console[^"#]*)', answer.text):
            link = html.unescape(found)
            assert not re.search(r"&(amp|lt|gt|quot|#\d+);", link), (path, link)
            if link not in seen and not link.startswith(("/console/static/", "/console/playground/")):
                seen.add(link)
                waiting.append(link)
    assert "/console/certificates?status=ACTIVE&ends=weeks" in seen


async def test_the_link_of_the_chart_lists_what_the_chart_counts(site: Site, world: World) -> None:
    for days in (0, 1, 3, 90, 91, 170, 180, 200, 400):
        await world.certificate(pem=certificate_pem(f"pump {days}", days))
    browser = await site.signed_in()
    overview = await browser.get("/")
    (chart,) = re.findall(r'<svg class="chart wide"[^>]*chart-wide.*?</svg>', overview.text)
    counted = sum(int(number) for number in re.findall(r"<title>Week of [^<]*: (\d+)</title>", chart))
    listed = await browser.get("/certificates?status=ACTIVE&ends=weeks")
    assert counted == len(re.findall(r'name="id" value="[0-9a-f]{64}"', listed.text))
    assert "--ends-from 20" in listed.text


async def test_the_overview_in_words(site: Site, world: World) -> None:
    browser = await site.signed_in()
    assert "No certificate was added in the last 30 days." in text_of(await browser.get("/"))
    for days in (6, 8, 20, 60):
        await world.certificate(pem=certificate_pem(f"pump {days}", days))
    refusals = Refusals(world.store, world.clock)
    refusals.note(OURS, "a" * 64, "pump", "iot:Connect", None, f"it waits for activation under the CA {'c0de' * 16}")
    await refusals.flush()
    site.checks += [Check("authorities", "warning", "A root ends soon."), Check("jobs", "ok", "No job failed.")]
    page = await browser.get("/")
    text = text_of(page)
    assert "Refused, last hour 1 It waits for activation under the CA Ending in 30 days" in text
    assert "CAs A root ends soon." in text
    assert "Background jobs No job failed." in text
    assert "Authorities" not in text
    (chart,) = re.findall(r'<svg class="chart wide"[^>]*chart-wide.*?</svg>', page.text)
    kinds = re.findall(r'class="bar (\w*)"[^>]*><title>Week of [^<]*: (\d)<', chart)
    assert sum(int(number) for kind, number in kinds if kind == "soon") >= 1
    for kind, number in kinds[2:5]:
        assert (kind, int(number) <= 2) == ("near", True)


async def test_cas_that_end_soon_are_marked(site: Site, world: World) -> None:
    marks = {10: "Within 90 days", 89: "Within 90 days", 100: "Within 180 days", 200: ""}
    for days in marks:
        ends = vectors.NOW + timedelta(days=days)
        root = new_issuer(f"Root {days}", now=vectors.NOW, begins=vectors.NOW - timedelta(days=900), ends=ends)
        given = {"caCertificate": root.pem, "certificateMode": "SNI_ONLY", "setAsActive": True}
        await world.aws("RegisterCACertificate", **given)
    page = await (await site.signed_in()).get("/cas")
    rows = {days: re.search(rf">Root {days}<.*?</tr>", page.text, re.DOTALL) for days in marks}
    for days, row in rows.items():
        assert row is not None, days
        found = re.search(r'class="pill (?:warn|bad)">([^<]*)<', row[0])
        assert (found[1] if found else "") == marks[days], days


async def test_long_ids_in_reasons_are_short(site: Site, world: World) -> None:
    id, ca = await world.certificate(), "c0de" * 16
    refusals = Refusals(world.store, world.clock)
    refusals.note(OURS, id, "pump", "iot:Connect", "", f"registered <just> in time under CA {ca}: activate it")
    await refusals.flush()
    ((group,),) = await world.rows("SELECT key FROM refusals")
    browser = await site.signed_in()
    for path in ("/", "/refusals", f"/refusals/{group}"):
        answer = await browser.get(path)
        assert f'under CA <span class="mono" title="{ca}">c0dec0dec0de…</span>: activate it' in answer.text, path
        assert "&lt;just&gt;" in answer.text, path
        assert ca not in text_of(answer), path


async def test_pages_without_any_row(site: Site) -> None:
    browser = await site.signed_in()
    expected = {
        "/": "There are no certificates yet",
        "/certificates": "There are no certificates yet",
        "/things": "There are no things yet",
        "/devices": "There is no registry",
        "/sessions": "No device is connected",
        "/sessions?q=x": "No session matches",
        "/cas": "No CA is registered",
        "/access/roles": "There are no roles yet",
        "/access/policies": "This account has no policy of its own",
        "/access/audit?q=x": "No record matches",
        "/refusals": "No device was refused",
        "/provisioning": "There are no templates in us-east-1",
        "/provisioning/tasks": "There are no tasks in us-east-1",
        "/provisioning/imports": "There was no import",
        "/refusals?client_id=x": "Nothing matches",
        "/refusals/simulator": "Simulate a device",
        "/certificates?status=REVOKED": "There are no certificates yet",
        "/certificates?q=x": "There are no certificates yet. Connect a device",
        "/things?q=x": "No thing has such a name",
        "/things?q=\N{CYRILLIC SMALL LETTER A}": "No thing has such a name",
    }
    for path, sentence in expected.items():
        assert sentence in text_of(await browser.get(path)), path


async def test_the_list_says_how_many_there_are_and_what_the_search_understands(site: Site, world: World) -> None:
    for number in range(27):
        id = await world.certificate(pem=certificate_pem(f"pump-{number}"))
    await world.aws("UpdateCertificate", certificateId=id, newStatus="INACTIVE")
    browser = await site.signed_in()
    expected = {
        "": "25 of 27 certificates",
        "?status=ACTIVE": "25 of 26 certificates",
        "?status=INACTIVE": "1 certificate Clear",
        "?status=REVOKED": "No certificate matches these filters.",
        "?without=thing": "25 certificates shown, and there may be more",
        "?q=PUMP-26": "1 certificate Clear",
        "?q=x": "No certificate matches x . The search understands",
        "?q=xxxx&status=ACTIVE": "No certificate with these filters matches xxxx .",
        "?q=abc": "For an id, type 4 digits or more",
    }
    for query, sentence in expected.items():
        assert sentence in text_of(await browser.get(f"/certificates{query}")), query


async def test_the_overview(site: Site, world: World) -> None:
    for days in (3, 20, 60, 60, 400):
        await world.certificate(pem=certificate_pem(f"pump {days}", days))
    ended = await world.certificate(pem=certificate_pem("ended", -1))
    refusals = Refusals(world.store, world.clock)
    for _ in range(3):
        refusals.note(OURS, ended, "lamp-7", "iot:Subscribe", "topicfilter/a", "no statement allows it")
    await refusals.flush()
    site.connected = 4
    text = text_of(await (await site.signed_in()).get())
    for figure in ("6 certificates in us-east-1", "Connected now 4", "Refused, last hour 3", "Ending in 30 days 2"):
        assert figure in text, text
    assert "1 in 7 days" in text
    assert "lamp-7 may not subscribe No statement allows it, 3 times since" in text
    assert "1 certificate is active, but ended" in text
    assert "1 certificate is ending in 7 days" in text
    assert "Active 6" in text


async def test_the_list_in_pages(site: Site, world: World) -> None:
    ids = []
    for number in range(30):
        world.clock.advance(seconds=1)
        ids.append(await world.certificate(pem=certificate_pem(f"pump {number}")))
    browser = await site.signed_in()
    first = await browser.get("/certificates")
    listed = re.findall(r'name="id" value="([0-9a-f]{64})"', first.text)
    assert listed == ids[:4:-1]
    link = re.search(r'href="([^"]+)">Next page', first.text)
    assert link is not None
    second = await browser.client.get(link[1].replace("&amp;", "&"))
    assert re.findall(r'name="id" value="([0-9a-f]{64})"', second.text) == ids[4::-1]
    assert "First page" in second.text
    assert "Next page" not in second.text
    assert (await browser.get("/certificates?page=x")).status_code == 400
    other = await site.signed_in(world.theirs.token)
    assert (await other.client.get(link[1].replace("&amp;", "&"))).status_code == 400, "the token is of our list"


async def test_filters(site: Site, world: World) -> None:
    soon_id = await world.certificate(pem=certificate_pem("soon", 5))
    late_id = await world.certificate(pem=certificate_pem("late", 200))
    await world.aws("UpdateCertificate", certificateId=late_id, newStatus="REVOKED")
    await world.aws("CreateThing", thingName="pump")
    await world.aws("AttachThingPrincipal", thingName="pump", principal=arn_of(OURS, soon_id))
    activity = CertificateActivity(world.store, world.clock)
    activity.connected(OURS, soon_id, "pump", "192.0.2.7")
    await activity.flush()
    browser = await site.signed_in()

    async def found(**fields: str) -> list[str]:
        answer = await browser.client.get("/console/certificates", params=fields)
        assert answer.status_code == 200, text_of(answer)
        return sorted(re.findall(r'class="title wide"><a href="[^"]+">(\w+)</a>', answer.text))

    assert await found() == ["late", "soon"]
    assert await found(status="REVOKED") == ["late"]
    assert await found(ends="7") == ["soon"]
    assert await found(ends="later") == ["late"]
    assert await found(ends="past") == []
    assert await found(seen="day") == ["soon"]
    assert await found(seen="never") == ["late"]
    assert await found(seen="not-7") == []
    assert await found(without="thing") == ["late"]
    assert await found(without="policy") == ["late", "soon"]
    assert await found(q="soon") == ["soon"]
    assert await found(q=soon_id[:8]) == ["soon"]
    assert await found(q="pump") == ["soon"]
    assert await found(q="pump", status="REVOKED") == []
    assert await found(q="pump", seen="day", ends="7", without="policy") == ["soon"]
    for wrong in ({"status": "x"}, {"ends": "8"}, {"seen": "not-x"}, {"without": "x"}, {"ca": "x"}, {"at": "x"}):
        assert (await browser.client.get("/console/certificates", params=wrong)).status_code == 400, wrong


async def test_the_file_of_the_list(site: Site, world: World) -> None:
    await world.certificate(pem=certificate_pem('=HYPERLINK("https://evil.example")'))
    await world.certificate(pem=certificate_pem("a, b"))
    answer = await (await site.signed_in()).get("/certificates.csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="certificates.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {row["common name"] for row in rows} == {'\'=HYPERLINK("https://evil.example")', "a, b"}
    assert all(row["status"] == "ACTIVE" and row["ends"].endswith(" UTC") for row in rows)


async def test_many_are_changed_after_their_number_was_typed(site: Site, world: World) -> None:
    ids = [await world.certificate(pem=certificate_pem(f"pump {number}")) for number in range(3)]
    await world.aws("UpdateCertificate", certificateId=ids[2], newStatus="REVOKED")
    browser = await site.signed_in()
    token = await browser.token("/certificates")
    asked = await browser.post("/certificates/change", form_token=token, id=ids, status="INACTIVE")
    assert "Deactivate 3 certificates" in text_of(asked)
    assert (await statuses(world))[ids[0]] == "ACTIVE"
    for wrong in ("", "2", "x", "\N{ARABIC-INDIC DIGIT THREE}"):
        answer = await browser.post("/certificates/changed", form_token=token, id=ids, status="INACTIVE", count=wrong)
        assert answer.status_code == 400, wrong
    assert (await statuses(world))[ids[0]] == "ACTIVE"
    answer = await browser.post("/certificates/changed", form_token=token, id=ids, status="INACTIVE", count="3")
    assert answer.headers["location"] == "/console/certificates"
    text = text_of(await browser.get("/certificates"))
    assert f"2 certificates deactivated. 1 not: {ids[2][:12]}…: Status cannot be changed from REVOKED" in text
    assert "2 certificates deactivated" not in text_of(await browser.get("/certificates")), "it is said once"
    assert await statuses(world) == {ids[0]: "INACTIVE", ids[1]: "INACTIVE", ids[2]: "REVOKED"}
    for form in ({}, {"id": "x"}, {"id": ids, "status": "PENDING_TRANSFER"}, {"id": [f"{n:064x}" for n in range(26)]}):
        answer = await browser.post("/certificates/change", form_token=token, **form)
        assert answer.status_code == 400, form


async def statuses(world: World) -> dict[str, str]:
    listed = await world.aws("ListCertificates", pageSize=50)
    return {each["certificateId"]: each["status"] for each in listed["certificates"]}


async def test_one_certificate_and_its_buttons(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump-7"))
    await world.aws("CreatePolicy", policyName="telemetry", policyDocument=POLICY)
    browser = await site.signed_in()
    page = f"/certificates/{id}"
    text = text_of(await browser.get(page))
    for fact in ("pump-7", "Active", f"AWS ARN {arn_of(OURS, id)}", f"Yandex fingerprint {id}", "BEGIN CERTIFICATE"):
        assert fact in text, fact
    assert (await browser.send(f"{page}/attach-policy", page, policy="telemetry")).status_code == 303
    assert "Detach" in text_of(await browser.get(page))
    assert (await browser.send(f"{page}/detach-policy", page, policy="telemetry")).status_code == 303
    assert (await browser.send(f"{page}/attach-policy", page, policy="other")).status_code == 404
    assert (await browser.send(f"{page}/deleted", page)).status_code == 409, "it is active"
    assert (await browser.send(f"{page}/status", page, status="INACTIVE")).status_code == 303
    text = text_of(await browser.get(page))
    assert "The certificate is deactivated." in text
    assert "Set to inactive" in text
    assert (await browser.get(f"{page}/pem")).text.startswith("-----BEGIN CERTIFICATE-----")
    assert "cannot be activated again" in text_of(await browser.get(f"{page}/revoke"))
    assert (await browser.send(f"{page}/deleted", f"{page}/delete")).headers["location"] == "/console/certificates"
    assert (await browser.get(page)).status_code == 404


POLICY = json.dumps({"Version": "2012-10-17", "Statement": [allow("iot:Connect")]})


async def test_changes_have_the_records_of_the_api(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump-7"))
    browser = await site.signed_in()
    await browser.send(f"/certificates/{id}/status", f"/certificates/{id}", status="INACTIVE")
    records = [json.loads(text) for (text,) in await world.rows("SELECT record FROM audit_records")]
    (record,) = [each for each in records if each["event"] == "UpdateCertificate"]
    assert record["resources"] == [arn_of(OURS, id)]
    assert record["parameters"] == {"certificateId": id, "newStatus": "INACTIVE"}


async def test_addresses_of_other_accounts_lead_nowhere(site: Site, world: World) -> None:
    id = await world.certificate(THEIRS, certificate_pem("theirs"))
    await world.aws("CreateThing", THEIRS, thingName="theirs")
    registry = await world.registry(THEIRS, name="theirs")
    browser = await site.signed_in()
    token = await browser.token()
    for path in (
        f"/certificates/{id}",
        f"/certificates/{id}/pem",
        f"/certificates/{id}/revoke",
        "/certificates/x",
        f"/certificates/{'g' * 64}",
        "/things/theirs",
        "/things/theirs/delete",
        "/things/%00",
        "/things/%ed%a0%80",
        f"/devices/{registry}",
        f"/devices?registry={registry}",
        "/devices/%00",
    ):
        assert (await browser.get(path)).status_code in (400, 404), path
    for path in (f"/certificates/{id}/status", f"/certificates/{id}/deleted"):
        assert (await browser.post(path, form_token=token, status="REVOKED")).status_code == 404
    for path in ("/certificates", "/things", "/devices", "/"):
        assert "theirs" not in (await browser.get(path)).text
    changed = await browser.post("/certificates/changed", form_token=token, id=id, status="REVOKED", count=1)
    assert changed.status_code == 303
    described = await world.aws("DescribeCertificate", THEIRS, certificateId=id)
    assert described["certificateDescription"]["status"] == "ACTIVE"


async def test_pages_show_what_policies_allow(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump-7"))
    nothing = await site.signed_in(await user(world, "nothing", allow("iot:DescribeEndpoint")))
    for path in ("/", "/certificates", "/certificates.csv", f"/certificates/{id}", "/things", "/devices"):
        answer = await nothing.get(path)
        assert answer.status_code == 403, path
        assert "is not authorized to perform" in text_of(answer)
    reads = await site.signed_in(await user(world, "reads", allow("iot:List*", "iot:Describe*")))
    site.checks.append(Check("disk", "error", "0 MiB are free"))
    overview = text_of(await reads.get())
    assert "The server needs attention" in overview
    assert "0 MiB are free" not in overview
    text = text_of(await reads.get("/certificates"))
    assert "pump-7" in text
    assert "Continue" not in text
    text = text_of(await reads.get(f"/certificates/{id}"))
    assert "Deactivate" not in text
    assert "no record of it that you may see" in text
    assert "Refused, last hour" not in text_of(await reads.get())
    token = await reads.token()
    forms: dict[str, dict[str, Any]] = {
        f"/certificates/{id}/status": {"status": "REVOKED"},
        f"/certificates/{id}/deleted": {},
        f"/certificates/{id}/attach-policy": {"policy": "x"},
        "/certificates/change": {"id": id, "status": "REVOKED"},
        "/certificates/changed": {"id": id, "status": "REVOKED", "count": 1},
    }
    for path, fields in forms.items():
        assert (await reads.post(path, form_token=token, **fields)).status_code == 403, path
    assert await statuses(world) == {id: "ACTIVE"}


async def test_a_narrowed_token_stays_narrowed(site: Site, world: World) -> None:
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]})
    token = (await world.admin("token.create", principal="user/administrator", policy=policy))["token"]
    assert (await (await site.signed_in(token)).get("/certificates")).status_code == 403


async def test_a_thing_shows_groups_only_to_callers_that_may_list_them(site: Site, world: World) -> None:
    await world.aws("CreateThing", thingName="lamp-1")
    group = await world.aws("CreateThingGroup", thingGroupName="greenhouse")
    await world.aws("AddThingToThingGroup", thingName="lamp-1", thingGroupName="greenhouse")
    await world.aws("CreatePolicy", policyName="water", policyDocument=POLICY)
    await world.aws("AttachPolicy", policyName="water", target=group["thingGroupArn"])
    seen = {}
    for name, more in (("describes", ()), ("groups", ("iot:ListThingGroupsForThing",)), ("all", ("iot:List*",))):
        browser = await site.signed_in(await user(world, name, allow("iot:DescribeThing", *more)))
        text = text_of(await browser.get("/things/lamp-1"))
        seen[name] = ("greenhouse" in text, "water" in text)
    assert seen == {"describes": (False, False), "groups": (True, False), "all": (True, True)}
