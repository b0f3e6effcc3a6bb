"""The pages of provisioning: templates, claims, bulk registration and imports."""

from __future__ import annotations

import asyncio
import html
import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.access.test_roles import policy, trust
from tests.unit.console.browser import Site, text_of
from tests.unit.console.test_pages import EVIL, NAMES, allow, user
from tests.unit.services.provisioning_support import LAMBDA
from tests.world import OURS, THEIRS
from thingmint.domain.arns import Scope, arn
from thingmint.domain.templates import CERTIFICATE_ID
from thingmint.server.console import progress_of_tasks
from thingmint.services.imports import IMPORTS, Import, Result, advance
from thingmint.services.registration_tasks import TASKS, RegistrationTask, TaskStatus, add_records
from thingmint.services.templates import compile_template

if TYPE_CHECKING:
    from tests.world import World

ROLE = f"arn:aws:iam::{OURS.account}:role/provisioning"
PUMPS = arn(OURS, "provisioningtemplate/pumps")
SUBJECT = "AWS::IoT::Certificate::CommonName"
CERTIFICATE = {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": CERTIFICATE_ID}}}


def body(parameters: dict[str, str | None], name: str = "Serial", **thing: Any) -> str:
    declared = {
        each: {"Type": "String"} | ({} if default is None else {"Default": default})
        for each, default in parameters.items()
    }
    thing = {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": name}, **thing}}
    policies = {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "telemetry"}}
    resources = {"certificate": CERTIFICATE, "thing": thing, "policy": policies}
    return json.dumps({"Parameters": declared, "Resources": resources, "DeviceConfiguration": {"at": {"Ref": name}}})


BODY = body({"Serial": None, "Site": "home"}, AttributePayload={"site": {"Ref": "Site"}})
AWAY = BODY.replace("home", "away")
JITP = body({SUBJECT: None, CERTIFICATE_ID: None}, SUBJECT)


async def template(world: World, name: str = "pumps", text: str = BODY, scope: Scope = OURS, **members: Any) -> None:
    given = {"templateName": name, "templateBody": text, "provisioningRoleArn": ROLE, "enabled": True} | members
    await world.aws("CreateProvisioningTemplate", scope, **given)


async def role(world: World, *actions: str) -> None:
    """A role that may perform the actions, and the policy that the templates attach."""
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow("iot:*")]})
    await world.aws("CreatePolicy", policyName="telemetry", policyDocument=document)
    await world.admin("role.create", name="provisioning", trust_policy=trust())
    await world.admin("policy.put", name="p", document=policy(Action=list(actions), Sid="All"))
    await world.admin("policy.attach", principal="role/provisioning", policy="p")


# -- templates ----------------------------------------------------------------------------------------------------


async def test_the_list_of_templates(site: Site, world: World) -> None:
    await template(world)
    await template(world, "sensors", JITP, type="JITP", enabled=False)
    await world.aws("CreateProvisioningTemplateVersion", templateName="pumps", templateBody=BODY, setAsDefault=True)
    await template(world, "theirs", scope=THEIRS)
    text = text_of(await (await site.signed_in()).get("/provisioning"))
    assert "pumps Fleet provisioning Enabled 2 2 provisioning" in text
    assert "sensors Just in time Disabled 1 1 provisioning" in text
    assert "theirs" not in text


async def test_the_page_of_a_template_parses_no_resources(site: Site, world: World) -> None:
    await template(world)
    await world.aws("CreateProvisioningTemplateVersion", templateName="pumps", templateBody=AWAY)
    compile_template.cache_clear()
    text = text_of(await (await site.signed_in()).get("/provisioning/templates/pumps"))
    assert "(by default home)" in text
    assert "(by default away)" in text
    assert compile_template.cache_info().misses == 0


async def test_documents_of_other_versions_need_their_own_permission(site: Site, world: World) -> None:
    await template(world)
    await world.aws("CreateProvisioningTemplateVersion", templateName="pumps", templateBody=AWAY)
    actions = ("iot:DescribeProvisioningTemplate", "iot:ListProvisioningTemplateVersions")
    reading = {**allow("iot:DescribeProvisioningTemplateVersion"), "Resource": PUMPS}
    elsewhere = {**reading, "Resource": PUMPS.replace("pumps", "sensors")}
    for name, statement, is_shown in (("a", reading, True), ("b", elsewhere, False)):
        browser = await site.signed_in(await user(world, name, allow(*actions), statement))
        text = text_of(await browser.get("/provisioning/templates/pumps"))
        assert "Version 2" in text
        assert "home" in text, "the document of the default version"
        assert ("away" in text, "You may not read its document" in text) == (is_shown, not is_shown)


async def test_one_template_and_its_buttons(site: Site, world: World) -> None:
    await template(world, description="Pumps of all sites")
    await world.aws(
        "CreateProvisioningTemplateVersion", templateName="pumps", templateBody=BODY.replace("home", "away")
    )
    browser = await site.signed_in()
    page = "/provisioning/templates/pumps"
    answer = await browser.get(page)
    text = text_of(answer)
    for fact in (
        "Pumps of all sites",
        "Enabled",
        PUMPS,
        "Parameters: Serial , Site (by default home)",
        "No hook is asked",
    ):
        assert fact in text, (fact, text)
    assert '  "Parameters": {\n    "Serial": {' in html.unescape(answer.text), "the document has line breaks"
    for path, fields, said in (
        ("enabled", {"enabled": "false"}, "pumps is disabled."),
        ("default", {"version": "2"}, "Devices are provisioned with version 2 now."),
        ("hook", {"target": LAMBDA}, "Before pumps provisions a device, it asks the hook."),
        ("delete-version", {"version": "1"}, "Version 1 is deleted."),
    ):
        assert (await browser.send(f"{page}/{path}", page, **fields)).headers["location"] == f"/console{page}", path
        assert said in text_of(await browser.get(page))
    text = text_of(await browser.get(page))
    happened = text.partition("What happened")[2]
    assert "Version deleted now · user/administrator" in happened
    assert "Changed now · user/administrator" in happened
    described = await world.aws("DescribeProvisioningTemplate", templateName="pumps")
    assert (described["enabled"], described["defaultVersionId"]) == (False, 2)
    assert described["preProvisioningHook"] == {"targetArn": LAMBDA, "payloadVersion": "2020-04-01"}
    for path, fields, status in (
        ("enabled", {"enabled": "yes"}, 400),
        ("enabled", {}, 400),
        ("default", {"version": "x"}, 400),
        ("default", {"version": "9" * 30}, 400),
        ("default", {"version": "1"}, 404),
        ("delete-version", {"version": "2"}, 400),
        ("hook", {"target": "no ARN"}, 400),
    ):
        assert (await browser.send(f"{page}/{path}", page, **fields)).status_code == status, (path, fields)
    await browser.send(f"{page}/hook", page, target="")
    assert "asks no hook any more" in text_of(await browser.get(page))
    assert "claims become invalid" in text_of(await browser.get(f"{page}/delete"))
    assert (await browser.send(f"{page}/deleted", f"{page}/delete")).headers["location"] == "/console/provisioning"
    assert (await browser.get(page)).status_code == 404
    records = [json.loads(text) for (text,) in await world.rows("SELECT record FROM audit_records")]
    events = [(each["event"], each["parameters"]) for each in records if each.get("resources") == [PUMPS]]
    assert ("UpdateProvisioningTemplate", {"templateName": "pumps", "enabled": "false"}) in events
    assert ("DeleteProvisioningTemplate", {"templateName": "pumps"}) in events


# -- the editor ---------------------------------------------------------------------------------------------------

NEW = {"name": "lamps", "role": ROLE, "type": "FLEET_PROVISIONING", "description": "All lamps", "document": BODY}


async def test_a_template_is_made_in_the_editor(site: Site, world: World) -> None:
    await world.admin("role.create", name="provisioning", trust_policy=trust())
    browser = await site.signed_in()
    page = "/provisioning/new"
    answer = await browser.get(page)
    assert f'<option value="{ROLE}">' in answer.text
    assert "The template is valid, and there is nothing to warn of." in text_of(answer)
    assert "becomes active" in text_of(answer)
    assert "CommonName" in text_of(await browser.get(f"{page}?type=JITP"))
    assert (await browser.get(f"{page}?type=x")).status_code == 400
    answer = await browser.send("/provisioning/check", page, **NEW | {"document": '{\n "Resources": {,}\n}'})
    assert answer.status_code == 200
    text = text_of(answer)
    assert "1 error has to be mended before the template can be saved." in text
    assert "Line 2, column 16" in text
    assert 'value="All lamps"' in answer.text, "the form keeps what was typed"
    for wrong, part in (
        ({"document": "{}"}, "must have"),
        ({"name": "a b"}, "must be 1 to 36 letters"),
        ({"role": "x"}, "must be the ARN of an IAM role"),
        ({"description": "a\x01b"}, "must be printable text"),
    ):
        answer = await browser.send(page, page, **NEW | wrong)
        assert answer.status_code == 400, wrong
        assert part in text_of(answer), wrong
    theirs = ROLE.replace(OURS.account, THEIRS.account)
    assert (await browser.send(page, page, **NEW | {"role": theirs})).status_code == 403
    assert await world.count("provisioning_templates") == 0
    made = await browser.send(page, page, **NEW, enabled="1")
    assert made.headers["location"] == "/console/provisioning/templates/lamps"
    described = await world.aws("DescribeProvisioningTemplate", templateName="lamps")
    assert described["description"] == "All lamps"
    assert (described["enabled"], described["type"]) == (True, "FLEET_PROVISIONING")
    assert json.loads(described["templateBody"]) == json.loads(BODY)
    again = await browser.send(page, page, **NEW)
    assert (again.status_code, "already exists" in text_of(again)) == (409, True)


async def test_a_version_is_added_in_the_editor(site: Site, world: World) -> None:
    await template(world)
    browser = await site.signed_in()
    page = "/provisioning/templates/pumps/new-version"
    assert "Serial" in text_of(await browser.get(page))
    checked = await browser.send("/provisioning/templates/pumps/check", page, document=AWAY.replace("String", "Text"))
    assert "Parameters.Serial.Type must be String." in text_of(checked)
    assert (await browser.send(page, page, document="{}")).status_code == 400
    for number, fields, default in ((2, {}, 1), (3, {"is_default": "1"}, 3)):
        made = await browser.send(page, page, document=AWAY, **fields)
        assert made.headers["location"] == "/console/provisioning/templates/pumps"
        assert f"Version {number} is made." in text_of(await browser.get("/provisioning/templates/pumps"))
        described = await world.aws("DescribeProvisioningTemplate", templateName="pumps")
        assert described["defaultVersionId"] == default
    for _ in range(2):
        await browser.send(page, page, document=AWAY)
    full = await browser.send(page, page, document=AWAY)
    assert (full.status_code, "has 5 versions already" in text_of(full)) == (409, True)


@pytest.mark.parametrize("world", ["sqlite", "postgres"], indirect=True)
async def test_a_default_version_is_made_of_the_default_version(site: Site, world: World) -> None:
    await template(world)
    browser = await site.signed_in()
    page = "/provisioning/templates/pumps/new-version"
    (of,) = re.findall(r'name="of" value="(\d+)"', (await browser.get(page)).text)
    checked = await browser.send("/provisioning/templates/pumps/check", page, of=of, document=AWAY)
    assert f'name="of" value="{of}"' in checked.text
    given = {"form_token": await browser.token(page), "of": of, "document": AWAY}
    answers = await asyncio.gather(*(browser.post(page, None, is_default="1", **given) for _ in range(2)))
    assert sorted(each.status_code for each in answers) == [303, 409]
    (refused,) = (each for each in answers if each.status_code == 409)
    assert "Version 2 of pumps is the default now. Open the template again" in text_of(refused)
    assert (await browser.post(page, None, **given)).status_code == 303, "it does not become the default"


async def test_who_passes_no_role_makes_no_template(site: Site, world: World) -> None:
    one = await site.signed_in(await user(world, "one", allow("iot:*")))
    assert (await one.send("/provisioning/new", "/provisioning/new", **NEW)).status_code == 403
    two = await site.signed_in(await user(world, "two", allow("iot:*", "iam:PassRole")))
    assert (await two.send("/provisioning/new", "/provisioning/new", **NEW)).status_code == 303


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_typed_in_the_editor_stays_text(site: Site, name: str) -> None:
    browser = await site.signed_in()
    fields = dict.fromkeys(("name", "role", "description", "document"), name)
    for path in ("/provisioning/check", "/provisioning/new"):
        answer = await browser.send(path, "/provisioning/new", **fields)
        assert answer.status_code in (200, 400)
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text


# -- claims -------------------------------------------------------------------------------------------------------


async def test_a_claim_is_shown_once(site: Site, world: World) -> None:
    world.environment.endpoints[OURS] = "iot.example.org"
    await template(world)
    browser = await site.signed_in()
    page = "/provisioning/templates/pumps"
    assert "No claim is valid now" in text_of(await browser.get(page))
    answer = await browser.send(f"{page}/claims", page)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    key = re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s(\S+)", html.unescape(answer.text))
    assert key is not None
    await site.trail.close()
    assert key[1] not in "\n".join(world.dump())
    ((claim,),) = await world.shown("SELECT fingerprint FROM provisioning_claims")
    shown = await browser.get(page)
    assert claim in shown.text
    assert key[1] not in shown.text
    await world.aws("DeleteProvisioningTemplate", templateName="pumps")
    await template(world)
    assert "No claim is valid now" in text_of(await browser.get(page)), "it was of a template that is gone"
    assert (await browser.send("/provisioning/templates/lamps/claims", page)).status_code == 404


async def test_claims_are_listed_until_they_end(site: Site, world: World) -> None:
    await template(world)
    await template(world, "lamps")
    made = (await world.aws("CreateProvisioningClaim", templateName="pumps"))["certificateId"]
    browser = await site.signed_in()
    assert made in (await browser.get("/provisioning/templates/pumps")).text
    assert made not in (await browser.get("/provisioning/templates/lamps")).text
    world.clock.advance(minutes=5)
    assert made not in (await browser.get("/provisioning/templates/pumps")).text


# -- bulk registration --------------------------------------------------------------------------------------------


async def task(world: World, scope: Scope = OURS, **fields: Any) -> RegistrationTask:
    now = world.clock()
    new = RegistrationTask(
        scope=scope,
        id=world.change().new_id(),
        status=TaskStatus.IN_PROGRESS,
        template=BODY,
        bucket="factory",
        key="devices.json",
        role_arn=ROLE,
        created_at=now,
        modified_at=now,
        runs_for=None,
        message=None,
        size=1000,
        file_version="1",
    )
    new = replace(new, **fields)
    await world.write(lambda tx: TASKS.insert(tx, new))
    return new


async def test_tasks_of_bulk_registration(site: Site, world: World) -> None:
    world.environment.endpoints[OURS] = "iot.example.org"
    browser = await site.signed_in()
    made = await task(world, position=250, succeeded=1234, failed=5)
    theirs = await task(world, THEIRS, key="theirs.json")
    listed = await browser.get("/provisioning/tasks")
    text = text_of(listed)
    assert "devices.json Running 25 %" in text
    assert "1,234 5" in text
    assert "theirs.json" not in text
    assert 'data-poll="' in listed.text
    page = f"/provisioning/tasks/{made.id}"
    answer = await browser.get(page)
    assert 'data-poll="' in answer.text
    assert 'value="25"' in answer.text
    for path in (f"/provisioning/tasks/{theirs.id}", "/provisioning/tasks/x", "/provisioning/tasks/%00"):
        assert (await browser.get(path)).status_code == 404, path
    assert (await browser.send(f"/provisioning/tasks/{theirs.id}/stop", page)).status_code == 404
    assert (await browser.send(f"{page}/stop", page)).headers["location"] == f"/console{page}"
    assert "Stopping" in text_of(await browser.get(page))

    async def ended(tx: Any) -> None:
        reports = await add_records(tx, made, {"ERRORS": [{"offset": 1}], "RESULTS": []})
        ended = replace(reports, status=TaskStatus.FAILED, message=f"The file changed {EVIL}")
        await TASKS.update(tx, ended)

    await world.write(ended)
    answer = await browser.get(page)
    assert "hx-trigger" not in answer.text.split("<main")[1]
    text = text_of(answer)
    assert f"The file changed {EVIL}" in text
    assert "Lines that failed File 1" in text
    assert "Devices that were registered no file yet" in text
    assert (await browser.send(f"{page}/stop", "/")).status_code == 409
    assert "devices.json" in text_of(await browser.get("/provisioning/tasks?status=Failed"))
    assert "No task has this status" in text_of(await browser.get("/provisioning/tasks?status=Completed"))
    assert (await browser.get("/provisioning/tasks?status=x")).status_code == 400


# -- imports ------------------------------------------------------------------------------------------------------


async def new_import(world: World, account: str = OURS.account, **fields: Any) -> Import:
    now = world.clock()
    new = Import(world.change().new_id(), account, "aws", "AWS, eu-west-1", "x" * 64, {}, {}, 0, now, now)
    new = replace(new, **fields)
    await world.write(lambda tx: IMPORTS.insert(tx, new))
    return new


async def test_imports_with_progress_and_findings(site: Site, world: World) -> None:
    made, theirs = await new_import(world), await new_import(world, THEIRS.account, origin="theirs")
    results = [Result("thing", "new", f"t-{number}") for number in range(20)]
    results += [Result("policy", "conflict", f"p-{number}", f"because {EVIL}") for number in range(60)]
    results += [Result("thing", "refused", EVIL, "its name is too long")]
    place = {"done": 81, "total": 400}
    await world.write(lambda tx: advance(tx, made.id, {}, place, results, world.clock()))
    browser = await site.signed_in()
    listed = await browser.get("/provisioning/imports")
    text = text_of(listed)
    assert "AWS, eu-west-1 aws Running 20 %" in text
    assert "theirs" not in text
    assert 'data-poll="' in listed.text
    page = f"/provisioning/imports/{made.id}"
    text = text_of(await browser.get(page)).replace("\N{EN DASH}", "-")
    for part in (
        "20 % is done: 81 of 400 items",
        "Policy - - - - 60 -",
        "Thing 20 - - - - 1",
        "p-49",
        f"because {EVIL}",
    ):
        assert part in text, (part, text)
    assert "p-50" not in text
    answer = await browser.get(f"{page}?after=50")
    assert "its name is too long" in text_of(answer)
    assert "First page" in answer.text
    text = text_of(await browser.get(f"{page}?kind=thing&outcome=refused"))
    assert "its name is too long" in text
    assert "p-1 " not in text
    world.clock.advance(minutes=2)
    answer = await browser.get(page)
    assert "Interrupted" in text_of(answer)
    assert "hx-trigger" not in answer.text.split("<main")[1]
    for path in (f"/provisioning/imports/{theirs.id}", "/provisioning/imports/x", f"{page}?outcome=x"):
        assert (await browser.get(path)).status_code in (400, 404), path


async def test_the_progress_of_an_import_that_tells_no_total(site: Site, world: World) -> None:
    made = await new_import(world, place={"done": 7})
    browser = await site.signed_in()
    page = f"/provisioning/imports/{made.id}"
    assert "The source does not tell how many there are" in text_of(await browser.get(page))
    await world.write(lambda tx: IMPORTS.update(tx, replace(made, finished_at=world.clock() + timedelta(seconds=1))))
    assert "100 % is done." in text_of(await browser.get(page))


# -- permissions --------------------------------------------------------------------------------------------------

PAGES = {
    "/provisioning": "iot:ListProvisioningTemplates",
    "/provisioning/templates/pumps": "iot:DescribeProvisioningTemplate",
    "/provisioning/templates/pumps/delete": "iot:DeleteProvisioningTemplate",
    "/provisioning/new": "iot:CreateProvisioningTemplate",
    "/provisioning/templates/pumps/new-version": (
        "iot:CreateProvisioningTemplateVersion iot:DescribeProvisioningTemplate"
    ),
    "/provisioning/templates/pumps/dry-run": "thingmint:TestProvisioning",
    "/provisioning/tasks": "iot:ListThingRegistrationTasks iot:DescribeThingRegistrationTask",
    "/provisioning/imports": "thingmint:ListImports",
}
FORMS: dict[str, dict[str, Any]] = {
    "enabled": {"enabled": "false"},
    "default": {"version": "1"},
    "hook": {"target": ""},
    "deleted": {},
    "delete-version": {"version": "1"},
    "dry-run": {"parameter:Serial": "x"},
    "claims": {},
    "new-version": {"document": BODY},
    "check": {"document": BODY},
}


async def test_each_page_needs_its_action(site: Site, world: World) -> None:
    await template(world)
    made, known = await task(world), await new_import(world)
    nothing = await site.signed_in(await user(world, "nothing", allow("iot:DescribeEndpoint")))
    token = await nothing.token("/connect")
    for path in (*PAGES, f"/provisioning/tasks/{made.id}", f"/provisioning/imports/{known.id}"):
        assert (await nothing.get(path)).status_code == 403, path
    for path, fields in FORMS.items():
        sent = await nothing.post(f"/provisioning/templates/pumps/{path}", form_token=token, **fields)
        assert sent.status_code == 403, path
    assert (await nothing.post(f"/provisioning/tasks/{made.id}/stop", form_token=token)).status_code == 403
    for number, (path, actions) in enumerate(PAGES.items()):
        one = await site.signed_in(await user(world, f"one-{number}", allow(*actions.split())))
        assert (await one.get(path)).status_code == 200, path
    described = await world.aws("DescribeProvisioningTemplate", templateName="pumps")
    assert described["enabled"] is True
    assert await world.count("provisioning_claims") == 0


async def test_a_template_shows_what_policies_allow(site: Site, world: World) -> None:
    await template(world)
    await world.aws("CreateProvisioningTemplateVersion", templateName="pumps", templateBody=BODY)
    made = (await world.aws("CreateProvisioningClaim", templateName="pumps"))["certificateId"]
    reads = await site.signed_in(await user(world, "reads", allow("iot:DescribeProvisioningTemplate")))
    answer = await reads.get("/provisioning/templates/pumps")
    text = text_of(answer)
    for hidden in ("Disable", "Dry run", "Make a claim", "Delete", "Version 2", "Change the hook"):
        assert hidden not in text, hidden
    assert made not in answer.text


async def test_templates_of_other_accounts_lead_nowhere(site: Site, world: World) -> None:
    await template(world, "theirs", scope=THEIRS)
    browser = await site.signed_in()
    token = await browser.token()
    for path in PAGES:
        if "/templates/" in path:
            for name in ("theirs", "%00", "a%2Fb", "x" * 300):
                assert (await browser.get(path.replace("pumps", name))).status_code in (400, 404), (path, name)
    for path, fields in FORMS.items():
        sent = await browser.post(f"/provisioning/templates/theirs/{path}", form_token=token, **fields)
        assert sent.status_code == 404, path
    assert (await browser.post("/provisioning/templates/theirs/deleted", form_token="x")).status_code == 400


async def test_the_progress_of_tasks_and_imports_is_known_by_account(site: Site, world: World) -> None:
    assert await progress_of_tasks(world.store) == {}
    ours = await task(world, position=250, runs_for=OURS.account)
    await task(world, THEIRS, runs_for=THEIRS.account)
    before = await progress_of_tasks(world.store)
    assert set(before) == {OURS.account, THEIRS.account}
    await world.write(lambda tx: TASKS.update(tx, replace(ours, position=500)))
    after = await progress_of_tasks(world.store)
    assert after[OURS.account] != before[OURS.account]
    assert after[THEIRS.account] == before[THEIRS.account]
    await world.write(lambda tx: TASKS.update(tx, replace(ours, runs_for=None, status=TaskStatus.COMPLETED)))
    assert OURS.account not in await progress_of_tasks(world.store), "its end is a change, too"
