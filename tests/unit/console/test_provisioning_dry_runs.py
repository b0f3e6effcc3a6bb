"""The pages of dry runs: what a template would make for a device, and what a caller may see of it."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.issuers import pem
from tests.unit.access.test_roles import policy
from tests.unit.console.browser import Site, text_of
from tests.unit.console.test_pages import NAMES, allow, user
from tests.unit.console.test_provisioning import JITP, ROLE, SUBJECT, body, role, template
from tests.unit.services.provisioning_support import LAMBDA
from tests.unit.services.test_ca_certificates import issuer
from tests.world import FINGERPRINT, THEIRS

if TYPE_CHECKING:
    import httpx

    from tests.unit.console.browser import Browser
    from tests.world import World


async def tried(browser: Browser, name: str = "pumps", **fields: Any) -> httpx.Response:
    path = f"/provisioning/templates/{name}/dry-run"
    return await browser.post(path, form_token=await browser.token(path), **fields)


async def test_a_dry_run_shows_what_would_be_made_and_refused(site: Site, world: World) -> None:
    await template(world)
    await role(world, "iot:UpdateCertificate", "iot:CreateThing", "iot:AttachThingPrincipal")
    browser = await site.signed_in()
    form = await browser.get("/provisioning/templates/pumps/dry-run")
    assert 'name="parameter:Serial"' in form.text
    assert 'placeholder="home"' in form.text
    before = world.dump()
    answer = await tried(browser, **{"parameter:Serial": "pump-7"})
    assert world.dump() == before
    text = text_of(answer)
    for part in (
        "Such a device would be refused. The role may not perform iot:AttachPolicy on cert/",
        "What would be made if it were allowed",
        "Changed Certificate of the device Status: active, and pending activation now",
        "Changed Policy telemetry Attached to the certificate",
        "New Thing pump-7 Attribute site: home Has the certificate",
        "1 of 4 refused",
        "iot:CreateThing thing/pump-7 allowed statement All of policy p allows it",
        "at pump-7",
        "thingmint provisioning dry-run pumps --parameter Serial=pump-7",
    ):
        assert part in text, (part, text)
    assert 'value="pump-7"' in answer.text, "the form keeps what was typed"
    await world.admin("policy.put", name="p", document=policy(Action="iot:*"))
    text = text_of(await tried(browser, **{"parameter:Serial": "pump-7", "parameter:Site": "away"}))
    assert "Such a device would be provisioned." in text
    assert "Attribute site: away" in text
    await world.aws("CreateThing", thingName="pump-7", attributePayload={"attributes": {"site": "home"}})
    text = text_of(await tried(browser, **{"parameter:Serial": "pump-7", "parameter:Site": "away"}))
    assert "Thing pump-7 already exists with another AttributePayload" in text
    assert "What the template asks for" in text


async def test_a_dry_run_of_another_version(site: Site, world: World) -> None:
    await template(world)
    await role(world, "iot:*")
    given = {"templateName": "pumps", "templateBody": body({"Name": None}, "Name")}
    await world.aws("CreateProvisioningTemplateVersion", **given)
    browser = await site.signed_in()
    form = await browser.get("/provisioning/templates/pumps/dry-run?version=2")
    assert 'name="parameter:Name"' in form.text
    text = text_of(await tried(browser, version="2", **{"parameter:Name": "lamp"}))
    assert "New Thing lamp" in text
    assert "--version 2" in text
    assert (await browser.get("/provisioning/templates/pumps/dry-run?version=3")).status_code == 404


async def test_a_dry_run_just_in_time(site: Site, world: World) -> None:
    await template(world, "sensors", JITP, type="JITP")
    await role(world, "iot:*")
    browser = await site.signed_in()
    form = text_of(await browser.get("/provisioning/templates/sensors/dry-run"))
    assert "CommonName" in form
    text = text_of(await tried(browser, "sensors", **{f"parameter:{SUBJECT}": "sensor-7"}))
    assert "Such a device would be provisioned." in text
    assert "New Thing sensor-7" in text
    root = issuer("Factory")
    text = text_of(await tried(browser, "sensors", pem=pem(root.sign("sensor-8"))))
    assert "no CA that the account has registered in this region signed it" in text
    assert "New Thing sensor-8" in text
    config = {"templateName": "sensors", "roleArn": ROLE}
    given = {"certificateMode": "SNI_ONLY", "setAsActive": True, "allowAutoRegistration": True}
    await world.aws("RegisterCACertificate", caCertificate=root.pem, registrationConfig=config, **given)
    text = text_of(await tried(browser, "sensors", pem=pem(root.sign("sensor-8"))))
    assert "Such a device would be provisioned." in text
    answer = await browser.get("/provisioning/templates/sensors")
    ((ca,),) = await world.shown(f"SELECT {FINGERPRINT} FROM ca_certificates")
    assert f"/console/cas/{ca}" in answer.text
    answer = await tried(browser, "sensors", pem="-----BEGIN CERTIFICATE-----\nx")
    assert answer.status_code == 400
    assert "BEGIN CERTIFICATE-----\nx" in answer.text, "the form keeps what was typed"


async def test_the_hook_is_shown_and_not_called(site: Site, world: World) -> None:
    await template(world, preProvisioningHook={"targetArn": LAMBDA})
    await role(world, "iot:*")
    text = text_of(await tried(await site.signed_in(), client_id="c-7", **{"parameter:Serial": "pump-7"}))
    assert "The hook is not asked here: it decides first." in text
    assert '"clientId": "c-7"' in text


@pytest.mark.parametrize("name", NAMES)
async def test_parameters_from_outside_stay_text(site: Site, world: World, name: str) -> None:
    document = body({name: name}, name)
    await template(world, text=document, description="x")
    await role(world, "iot:*")
    browser = await site.signed_in()
    answers = [
        await browser.get("/provisioning/templates/pumps"),
        await browser.get("/provisioning/templates/pumps/dry-run"),
        await tried(browser, **{f"parameter:{name}": name, "client_id": name, "address": name[:60]}),
        await tried(browser, certificate=name[:60]),
        await tried(browser, pem=name),
    ]
    for answer in answers:
        assert answer.status_code in (200, 400), text_of(answer)
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        assert not re.search(r"<script(?! src=)|\sstyle=|\son\w+=\"", re.sub(r"&[a-z#0-9]+;", "", answer.text))
    assert name in html.unescape(answers[1].text)


async def test_a_dry_run_uses_only_certificates_that_the_caller_may_see(site: Site, world: World) -> None:
    await template(world)
    id, theirs = await world.certificate(), await world.certificate(THEIRS)
    one = await site.signed_in(await user(world, "one", allow("thingmint:TestProvisioning")))
    assert (await tried(one, certificate=id)).status_code == 403
    answer = await tried(await site.signed_in(), certificate=theirs)
    assert f"certificate {theirs} does not exist" in text_of(answer)


async def test_a_dry_run_hides_things_and_certificates_that_the_caller_may_not_describe(
    site: Site, world: World
) -> None:
    await template(world)
    await template(world, "sensors", JITP, type="JITP")
    await role(world, "iot:*")
    await world.aws("CreateThing", thingName="pump", attributePayload={"attributes": {"wifi": "hunter2"}})
    one = await site.signed_in(await user(world, "one", allow("thingmint:TestProvisioning")))
    for browser, is_shown in ((await site.signed_in(), True), (one, False)):
        text = text_of(await tried(browser, **{"parameter:Serial": "pump"}))
        assert "pump" in text
        assert ("hunter2" in text) == is_shown
        assert ("Type, attributes and groups: not compared, and not shown now" in text) != is_shown
    assert (await tried(one, "sensors", pem=pem(issuer("Factory").sign("pump")))).status_code == 403
