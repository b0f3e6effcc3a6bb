"""The page of a refusal offers what changes the decision, and only that."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.unit.console.browser import text_of
from tests.unit.console.test_device_policies import GOOD
from tests.unit.console.test_pages import allow, certificate_pem, user
from tests.world import OURS
from thingmint.access.audit import AuditedStore
from thingmint.domain.arns import arn_of
from thingmint.services.authentication_decisions import password_flaw
from thingmint.services.device_registry import Device
from thingmint.services.refusals import Refusals

if TYPE_CHECKING:
    from tests.unit.console.browser import Browser, Site
    from tests.world import World

ANY = "arn:aws:iot:*:*"
OF_THING = "${iot:Connection.Thing.ThingName}"


async def policy(world: World, name: str, *statements: tuple[str, str, str], to: str = "") -> None:
    written = [
        {"Effect": effect, "Action": f"iot:{action}", "Resource": f"{ANY}:{on}"} for effect, action, on in statements
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": written})
    await world.aws("CreatePolicy", policyName=name, policyDocument=document)
    if to:
        await world.aws("AttachPolicy", policyName=name, target=arn_of(OURS, to))


async def refused(world: World, id: str, client_id: str, action: str = "Connect", topic: str = "") -> str:
    """The path of the refusal's page."""
    refusals = Refusals(world.store, world.clock)
    kind = {"Connect": "client", "Subscribe": "topicfilter"}.get(action, "topic")
    resource = f"arn:aws:iot:{OURS.region}:{OURS.account}:{kind}/{topic or client_id}"
    refusals.note(OURS, id, client_id, f"iot:{action}", resource, "no statement allows it", "192.0.2.7")
    await refusals.flush()
    rows = await world.rows("SELECT key FROM refusals ORDER BY last_at DESC, key LIMIT 1")
    return f"/refusals/{rows[0][0]}"


async def offered(browser: Browser, path: str) -> dict[str, Any]:
    """The cures of the page: what each form or link would do. ``first`` is that of the primary button."""
    answer = await browser.get(path)
    assert answer.status_code == 200, text_of(answer)
    card = re.search(r"<h2>Cures</h2>(.*?)</section>", answer.text, re.DOTALL)
    if card is None:
        return {}
    text = card[1]
    found: dict[str, Any] = {
        each: True for each in ("activate", "attach-thing", "bind", "attach") if f'{path}/{each}"' in text
    }
    if "attach" in found:
        found["attach"] = re.findall(r"<option>(.*?)</option>", text)
    if edited := re.findall(r"/policies/edit\?name=([\w-]+)", text):
        found["edit"] = edited
    if "CreateKeysAndCertificate" in text:
        found["renew"] = True
    if "<details" in text:
        found["folded"] = True
    (first,) = re.findall(r'class="button[^"]*\bprimary\b[^"]*"[^>]*>([^<]*)<', text) or [""]
    return {**found, "first": first}


async def test_an_inactive_certificate_is_activated_first(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump"))
    await world.aws("UpdateCertificate", certificateId=id, newStatus="INACTIVE")
    await policy(world, "allows", ("Allow", "Connect", "client/*"))
    await policy(world, "other", ("Allow", "Connect", "client/x"))
    browser, path = await site.signed_in(), await refused(world, id, "pump")
    cures = await offered(browser, path)
    assert cures == {"activate": True, "attach": ["allows"], "first": "Activate the certificate"}
    assert (await browser.send(f"{path}/activate", path)).status_code == 303
    cures = await offered(browser, path)
    assert cures == {"attach": ["allows"], "first": "Attach"}
    assert (await browser.send(f"{path}/attach", path, policy="allows")).status_code == 303
    assert await offered(browser, path) == {}, "it is allowed now"


@pytest.mark.parametrize("state", ["revoked", "ended"])
async def test_a_certificate_that_stays_useless_is_made_new(site: Site, world: World, state: str) -> None:
    id = await world.certificate(pem=certificate_pem("pump", 5))
    await policy(world, "allows", ("Allow", "Connect", "client/*"))
    if state == "revoked":
        await world.aws("UpdateCertificate", certificateId=id, newStatus="REVOKED")
    else:
        world.clock.advance(days=9)
    browser, path = await site.signed_in(), await refused(world, id, "pump")
    assert await offered(browser, path) == {"renew": True, "first": "Make a new certificate"}
    assert ("A revoked certificate stays revoked" in text_of(await browser.get(path))) == (state == "revoked")


async def test_the_thing_of_the_client_id_is_attached(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump"))
    await policy(world, "things", ("Allow", "Connect", f"client/{OF_THING}"), to=id)
    await policy(world, "unhelpful", ("Allow", "Publish", "topic/x"))
    browser, path = await site.signed_in(), await refused(world, id, "pump-7")
    assert "attach-thing" not in await offered(browser, path), "there is no such thing"
    await world.aws("CreateThing", thingName="pump-7")
    cures = await offered(browser, path)
    assert (cures["attach-thing"], cures["first"], "attach" in cures) == (True, "Attach the thing pump-7", False)
    reader = await site.signed_in(await user(world, "reader", allow("thingmint:ListRefusals", "iot:TestAuthorization")))
    assert await offered(reader, path) == {}
    assert (await reader.post(f"{path}/attach-thing", form_token=await reader.token(path))).status_code == 403
    assert (await browser.send(f"{path}/attach-thing", path)).status_code == 303
    assert await offered(browser, path) == {}
    assert "It is allowed now." in text_of(await browser.get(path))


async def test_a_thing_that_changes_nothing_is_not_offered(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump"))
    await world.aws("CreateThing", thingName="pump-7")
    await policy(world, "other", ("Allow", "Connect", "client/x"), to=id)
    browser, path = await site.signed_in(), await refused(world, id, "pump-7")
    assert await offered(browser, path) == {"edit": ["other"], "first": "Edit policy other"}
    await policy(world, "things", ("Allow", "Connect", f"client/{OF_THING}"))
    cures = await offered(browser, path)
    assert (cures["attach-thing"], cures["attach"]) == (True, ["things"]), "they help together"


async def test_the_policies_of_the_groups_of_a_thing_count(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump"))
    await world.aws("CreateThing", thingName="pump-7")
    group = await world.aws("CreateThingGroup", thingGroupName="pumps")
    await world.aws("AddThingToThingGroup", thingGroupName="pumps", thingName="pump-7")
    await policy(world, "of-group", ("Allow", "Connect", "client/*"))
    await world.aws("AttachPolicy", policyName="of-group", target=group["thingGroupArn"])
    cures = await offered(await site.signed_in(), await refused(world, id, "pump-7"))
    assert cures["attach-thing"] is True


async def test_a_policy_that_denies_is_edited(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump"))
    await policy(world, "denies", ("Allow", "Connect", "client/*"), ("Deny", "Publish", "topic/a"), to=id)
    await policy(world, "allows", ("Allow", "Publish", "topic/*"))
    browser, path = await site.signed_in(), await refused(world, id, "pump", "Publish", "a")
    assert await offered(browser, path) == {"edit": ["denies"], "first": "Edit policy denies"}
    assert (await browser.get("/policies/edit?name=denies")).status_code == 200


async def test_binding_to_a_yandex_device_is_folded_unless_it_is_likely(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump"))
    registry = await world.registry(name="boilers")
    await world.device(registry, name="boiler-1")
    await policy(world, "connects", ("Allow", "Connect", "client/*"), ("Allow", "Publish", "topic/x"), to=id)
    browser = await site.signed_in()
    cures = await offered(browser, await refused(world, id, "pump", "Publish", "pumps/state"))
    assert "bind" not in cures, "the rules of Yandex do not allow that topic"
    world.clock.advance(seconds=1)
    cures = await offered(browser, await refused(world, id, "pump", "Publish", "$me/device/events"))
    assert (cures["bind"], cures["first"], "folded" in cures) == (True, "Bind", False)
    other = await world.certificate(pem=certificate_pem("valve"))
    world.clock.advance(seconds=1)
    await policy(world, "allows", ("Allow", "Connect", "client/*"))
    cures = await offered(browser, await refused(world, other, "valve"))
    assert (cures["bind"], cures["folded"], cures["first"]) == (True, True, "Attach")
    world.clock.advance(seconds=1)
    cures = await offered(browser, await refused(world, other, "boiler-1"))
    assert (cures["first"], "folded" in cures) == ("Bind", False)


async def test_a_device_that_is_deleted_meanwhile_gets_no_certificate(
    site: Site, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await world.certificate(pem=certificate_pem("pump"))
    device = await world.device(await world.registry(name="greenhouse"), name="lamp")
    browser, path = await site.signed_in(), await refused(world, id, "lamp", "Publish", f"$devices/{device}/events")
    page = f"/devices/device/{device}/delete"
    token, read = await browser.token(page), AuditedStore.read

    async def read_before_deletion(store: AuditedStore, body: Any) -> Any:
        found = await read(store, body)
        if isinstance(found, Device):
            monkeypatch.setattr(AuditedStore, "read", read)
            deleted = await browser.post(f"/devices/device/{device}/deleted", form_token=token)
            assert deleted.status_code == 303, text_of(deleted)
        return found

    monkeypatch.setattr(AuditedStore, "read", read_before_deletion)
    answer = await browser.post(f"{path}/bind", form_token=token, device=device)
    assert answer.status_code == 404, text_of(answer)
    assert await world.rows("SELECT owner FROM bindings") == []
    assert await world.rows("SELECT owner FROM binding_counts") == []


async def test_a_policy_is_made_and_attached_where_no_policy_helps(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump"))
    browser, path = await site.signed_in(), await refused(world, id, "pump", "Publish", "water/1")
    assert (await offered(browser, path))["first"] == "Make a policy that allows it"
    (link,) = re.findall(r'href="/console(/policies/edit\?allow[^"]*)"', (await browser.get(path)).text)
    editor = html.unescape(link)
    text = text_of(await browser.get(editor))
    assert f"{OURS.account}:client/pump" in text
    assert f"{OURS.account}:topic/water/1" in text
    prefix = f"arn:aws:iot:{OURS.region}:{OURS.account}"
    allowed = [("Connect", f"{prefix}:client/pump"), ("Publish", f"{prefix}:topic/water/1")]
    statements = [{"Effect": "Allow", "Action": f"iot:{on}", "Resource": resource} for on, resource in allowed]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    wrong = await browser.send("/policies/save", editor, name="new", document="{", attach_to=id, refusal=path[10:])
    assert wrong.status_code == 400
    assert f'name="attach_to" value="{id}"' in wrong.text, "the form keeps what it is for"
    made = await browser.send("/policies/save", editor, name="new", document=document, attach_to=id, refusal=path[10:])
    assert (made.status_code, made.headers["location"]) == (303, f"/console{path}")
    assert await offered(browser, path) == {}, "it is allowed now"


@pytest.mark.parametrize("topic", ["water/*", "${iot:ClientId}", "a?"])
async def test_no_policy_is_proposed_that_would_allow_more_than_was_refused(
    site: Site, world: World, topic: str
) -> None:
    id = await world.certificate(pem=certificate_pem("pump"))
    browser, path = await site.signed_in(), await refused(world, id, "pump", "Publish", topic)
    assert "/policies/edit" not in (await browser.get(path)).text
    resource = quote(f"arn:aws:iot:{OURS.region}:{OURS.account}:topic/{topic}")
    assert (await browser.get(f"/policies/edit?allow=iot:Publish%20{resource}")).status_code == 400


async def test_who_may_not_attach_policies_is_not_offered_a_new_one(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump"))
    path = await refused(world, id, "pump")
    may = ["thingmint:ListRefusals", "iot:TestAuthorization", "iot:CreatePolicy"]
    browser = await site.signed_in(await user(world, "maker", allow(*may)))
    assert await offered(browser, path) == {}
    sent = {"name": "new", "document": GOOD, "attach_to": id}
    assert (await browser.send("/policies/save", "/policies/edit", **sent)).status_code == 403
    assert await world.rows("SELECT name FROM device_policies") == [], "no part of it was done"


async def test_the_client_id_of_the_certificates_own_thing_is_named(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump"))
    await world.aws("CreateThing", thingName="pump-1")
    await world.aws("AttachThingPrincipal", thingName="pump-1", principal=arn_of(OURS, id))
    await policy(world, "shared", ("Allow", "Connect", f"client/{OF_THING}"), to=id)
    browser, path = await site.signed_in(), await refused(world, id, "pump-2")
    assert "Let the device connect with the client id pump-1" in text_of(await browser.get(path))
    assert (await offered(browser, path))["first"] == "", "the policy that all things share is not the first choice"


async def test_a_wrong_password_leads_to_the_passwords_of_its_device(site: Site, world: World) -> None:
    device = await world.device(await world.registry(), name="boiler")
    refusals = Refusals(world.store, world.clock)
    why, resource = password_flaw("device", device, "wrong"), f"yandex:device/{device}"
    refusals.note(OURS, None, "<b>", "Connect", resource, why, "192.0.2.7", subject=resource)
    await refusals.flush()
    ((key,),) = await world.rows("SELECT key FROM refusals")
    path, browser = f"/refusals/{key}", await site.signed_in()
    text = text_of(await browser.get(path))
    assert "the password is wrong for device" in text
    assert "unless it sends one of the passwords of boiler." in text
    assert "It is allowed now" not in text, "the server cannot know which password the device has"
    assert "Only certificates sign it in" in text
    (link,) = re.findall(r'href="/console(/devices/[^"#]*)#passwords"', (await browser.get(path)).text)
    assert 'id="passwords"' in (await browser.get(link)).text
    await world.yandex("DeviceService.AddPassword", device_id=device, password="Long-enough-123")
    assert "It has 1; clients send its id as the user name" in text_of(await browser.get(path))
    limited = await site.signed_in(await user(world, "viewer", allow("thingmint:ListRefusals")))
    assert "boiler" not in text_of(await limited.get(path))


async def test_the_list_says_what_came_closest(site: Site, world: World) -> None:
    """A device without a policy and one with a wrong client id have the same reason."""
    refusals, why = Refusals(world.store, world.clock), "no policy is attached; <b>"
    refusals.note(OURS, "a" * 64, "c", "iot:Connect", "r", "no statement allows it", explain=lambda: [why])
    await refusals.flush()
    answer = await (await site.signed_in()).get("/refusals")
    assert why.capitalize() in text_of(answer)
    assert "<b>" not in answer.text


async def test_refused_provisioning_leads_to_a_dry_run(site: Site, world: World) -> None:
    refusals, prefix = Refusals(world.store, world.clock), f"arn:aws:iot:{OURS.region}:{OURS.account}"
    given = ("a" * 64, "pump", "iot:RegisterThing", f"{prefix}:provisioningtemplate/fleet")
    refusals.note(OURS, *given, "the role may not", explain=lambda: ["the role may not do <b>"])
    await refusals.flush()
    ((key,),) = await world.rows("SELECT key FROM refusals")
    answer = await (await site.signed_in()).get(f"/refusals/{key}")
    assert 'href="/console/provisioning/templates/fleet/dry-run"' in answer.text
    text = text_of(answer)
    assert "pump may not be provisioned" in text
    listed = await (await site.signed_in()).get("/refusals")
    assert f"/certificates/{'a' * 64}" not in answer.text + listed.text, "a claim certificate has no page"
    assert "The role may not do <b>" in text
    assert "It is allowed now" not in text
    limited = await site.signed_in(await user(world, "viewer", allow("thingmint:ListRefusals")))
    assert "dry-run" not in (await limited.get(f"/refusals/{key}")).text.partition("<main")[2].partition("<pre")[0]
