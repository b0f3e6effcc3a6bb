"""The pages of device policies: versions, targets, the editor, and whom they ask."""

from __future__ import annotations

import asyncio
import html
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.console.browser import Site, text_of
from tests.unit.console.test_pages import EVIL, NAMES, allow, certificate_pem, user
from tests.world import OURS, THEIRS
from thingmint.domain.arns import arn_of

if TYPE_CHECKING:
    from tests.world import World

GOOD = json.dumps({"Version": "2012-10-17", "Statement": [allow("iot:Connect")]})
OTHER = json.dumps({"Version": "2012-10-17", "Statement": [allow("iot:Publish")]})
ONE = "/policies/one?name=telemetry"


async def test_a_policy_is_written_attached_and_deleted(site: Site, world: World) -> None:
    browser = await site.signed_in()
    assert "There are no device policies yet" in text_of(await browser.get("/policies"))
    example = await browser.get("/policies/edit")
    assert "there is nothing to warn of" in text_of(example)
    made = await browser.send("/policies/save", "/policies/edit", name="telemetry", document=GOOD)
    assert made.headers["location"] == f"/console{ONE}"
    assert (await browser.send("/policies/save", "/policies/edit", name="telemetry", document=GOOD)).status_code == 409
    text = text_of(await browser.get(ONE))
    assert "Allows iot:Connect on every resource." in text
    assert "disconnect other devices" in text
    added = {"name": "telemetry", "document": OTHER}
    assert (await browser.send("/policies/save-version", ONE, **added)).status_code == 303
    assert "Version 1 is in force" in text_of(await browser.get(ONE))
    assert "Allows iot:Publish" in text_of(await browser.get(f"{ONE}&version=2"))
    assert (await browser.send("/policies/default", ONE, name="telemetry", version="2")).status_code == 303
    assert "Version 2 is in force" in text_of(await browser.get(ONE))
    assert (await browser.send("/policies/version-deleted", ONE, name="telemetry", version="2")).status_code == 409
    assert "Delete version 1 of telemetry?" in text_of(
        await browser.get("/policies/delete-version?name=telemetry&version=1")
    )
    assert (await browser.send("/policies/version-deleted", ONE, name="telemetry", version="1")).status_code == 303
    assert (await browser.send("/policies/save-version", ONE, is_default="1", **added)).status_code == 303
    assert "Version 3 is in force" in text_of(await browser.get(ONE))
    assert (await browser.send("/policies/deleted", ONE, name="telemetry")).status_code == 409, "it has two versions"
    await browser.send("/policies/version-deleted", ONE, name="telemetry", version="2")
    assert (await browser.send("/policies/deleted", ONE, name="telemetry")).headers["location"] == "/console/policies"
    assert (await browser.get(ONE)).status_code == 404
    done = [event for event, outcome, _ in await site.records() if outcome == "success" and "olicy" in event]
    changes = [event for event in done if not event.startswith("Get")]
    assert changes == [
        "CreatePolicy",
        "CreatePolicyVersion",
        "SetDefaultPolicyVersion",
        "DeletePolicyVersion",
        "CreatePolicyVersion",
        "DeletePolicyVersion",
        "DeletePolicy",
    ]


async def test_a_policy_is_attached_by_id_name_or_arn(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump"))
    await world.aws("CreateThingGroup", thingGroupName="greenhouse")
    await world.aws("CreatePolicy", policyName="telemetry", policyDocument=GOOD)
    browser = await site.signed_in()
    for target in (id.upper(), "greenhouse"):
        assert (await browser.send("/policies/attach", ONE, name="telemetry", target=target)).status_code == 303
    text = text_of(await browser.get(ONE))
    assert f"Certificate {id[:12]}" in text
    assert "Thing group greenhouse" in text
    assert (await browser.send("/policies/detach", ONE, name="telemetry", target=arn_of(OURS, id))).status_code == 303
    assert f"Certificate {id[:12]}" not in text_of(await browser.get(ONE))
    for wrong, status in (("missing", 404), ("0" * 64, 404), ("arn:x", 400), ("", 400), ("a b", 400), (EVIL, 400)):
        answer = await browser.send("/policies/attach", ONE, name="telemetry", target=wrong)
        assert answer.status_code == status, wrong


async def test_the_editor_shows_a_document_of_one_line_in_lines(site: Site, world: World) -> None:
    await world.aws("CreatePolicy", policyName="telemetry", policyDocument=json.dumps(json.loads(GOOD)))
    page = await (await site.signed_in()).get("/policies/edit?name=telemetry")
    shown = html.unescape(page.text.partition("<textarea")[2].partition(">")[2].partition("</textarea>")[0]).strip()
    assert json.loads(shown) == json.loads(GOOD)
    assert shown.startswith('{\n  "Version"')


async def test_many_policies_and_targets_have_pages(site: Site, world: World) -> None:
    for number in range(53):
        await world.aws("CreatePolicy", policyName=f"p{number:02}", policyDocument=GOOD)
    await world.aws("CreatePolicy", policyName="telemetry", policyDocument=GOOD)
    for number in range(52):
        group = (await world.aws("CreateThingGroup", thingGroupName=f"g{number:02}"))["thingGroupArn"]
        await world.aws("AttachPolicy", policyName="telemetry", target=group)
    browser = await site.signed_in()
    for first in ("/policies", ONE):
        page = await browser.get(first)
        link = page.text.partition("Next page")[0].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")
        second = await browser.client.get(link)
        assert second.status_code == 200
        assert "First page" in second.text
        assert "Next page" not in second.text


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_typed_stays_text(site: Site, name: str) -> None:
    browser = await site.signed_in()
    document = json.dumps({"Version": "2012-10-17", "Statement": [{name: name}]})
    checked = await browser.send("/policies/check", "/policies/edit", name=name, document=document)
    assert checked.status_code == 200
    assert "error" in text_of(checked)
    for answer in (
        checked,
        await browser.send("/policies/save", "/policies/edit", name=name, document=GOOD),
        await browser.client.get("/console/policies/one", params={"name": name}),
        await browser.client.get("/console/policies/edit", params={"name": name}),
    ):
        assert answer.status_code in (200, 303, 400, 404)
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text


async def test_each_button_asks_for_the_permission_of_its_call(site: Site, world: World) -> None:
    await world.aws("CreatePolicy", policyName="telemetry", policyDocument=GOOD)
    id = await world.certificate(pem=certificate_pem("pump"))
    reads = await site.signed_in(await user(world, "reads", allow("iot:ListPolicies", "iot:GetPolicy")))
    shown = (await reads.get(ONE)).text.partition('<main id="main"')[2]
    for word in ("Delete", "New version", "Attach", "Put in force"):
        assert word not in shown
    for path in (
        "/policies/edit",
        "/policies/edit?name=telemetry",
        "/policies/delete?name=telemetry",
        f"{ONE}&version=1",
    ):
        assert (await reads.get(path)).status_code == 403, path
    token = await reads.token("/policies")
    forms: dict[str, dict[str, Any]] = {
        "/policies/check": {"document": GOOD},
        "/policies/save": {"document": GOOD},
        "/policies/save-version": {"document": GOOD},
        "/policies/default": {"version": "1"},
        "/policies/version-deleted": {"version": "1"},
        "/policies/deleted": {},
        "/policies/attach": {"target": id},
        "/policies/detach": {"target": id},
    }
    for path, fields in forms.items():
        assert (await reads.post(path, form_token=token, name="telemetry", **fields)).status_code == 403, path


async def test_policies_of_another_account_are_not_found(site: Site, world: World) -> None:
    await world.aws("CreatePolicy", THEIRS, policyName="telemetry", policyDocument=GOOD)
    theirs = await world.certificate(THEIRS, certificate_pem("theirs"))
    browser = await site.signed_in()
    token = await browser.token()
    assert "telemetry" not in (await browser.get("/policies")).text
    for path in (ONE, "/policies/edit?name=telemetry", "/policies/delete?name=telemetry"):
        assert (await browser.get(path)).status_code == 404
    forms: dict[str, dict[str, Any]] = {
        "/policies/save-version": {"document": GOOD},
        "/policies/default": {"version": "1"},
        "/policies/deleted": {},
        "/policies/attach": {"target": arn_of(THEIRS, theirs)},
    }
    for path, fields in forms.items():
        assert (await browser.post(path, form_token=token, name="telemetry", **fields)).status_code == 404, path


@pytest.mark.parametrize("version", ["1.5", "1e5", "\u00b2", "\u0661", "-1", "+1", "1_0", "01", "9" * 25, "x", EVIL])
async def test_versions_that_are_no_numbers_do_not_exist(site: Site, world: World, version: str) -> None:
    await world.aws("CreatePolicy", policyName="telemetry", policyDocument=GOOD)
    browser = await site.signed_in()
    shown = await browser.client.get(f"/console{ONE}", params={"name": "telemetry", "version": version})
    assert shown.status_code == 404
    for path in ("/policies/default", "/policies/version-deleted"):
        assert (await browser.send(path, ONE, name="telemetry", version=version)).status_code == 404


@pytest.mark.parametrize("world", ["sqlite", "postgres"], indirect=True)
async def test_a_default_version_is_made_of_the_one_in_force(site: Site, world: World) -> None:
    await world.aws("CreatePolicy", policyName="telemetry", policyDocument=GOOD)
    browser = await site.signed_in()
    edit = "/policies/edit?name=telemetry"
    (of,) = re.findall(r'name="of" value="(\d+)"', (await browser.get(edit)).text)
    checked = await browser.send("/policies/check", edit, name="telemetry", is_version="1", of=of, document=OTHER)
    assert f'name="of" value="{of}"' in checked.text
    token = await browser.token(edit)
    given = {"form_token": token, "name": "telemetry", "of": of, "document": OTHER}
    sent = [browser.post("/policies/save-version", None, is_default="1", **given) for _ in range(2)]
    answers = await asyncio.gather(*sent)
    assert sorted(each.status_code for each in answers) == [303, 409]
    (refused,) = (each for each in answers if each.status_code == 409)
    assert "Version 2 of telemetry is the default now. Open the policy again" in text_of(refused)
    assert (await browser.post("/policies/save-version", None, **given)).status_code == 303, "it puts nothing in force"
    wrong = given | {"of": "x", "is_default": "1"}
    assert (await browser.post("/policies/save-version", None, **wrong)).status_code == 400


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
async def test_a_document_is_saved_as_it_was_typed(site: Site, world: World, end: str) -> None:
    resource = "arn:aws:iot:us-east-1:111111111111:topic/a\u2028b\u2029c\u0085d"
    document = json.dumps(
        {"Version": "2012-10-17", "Statement": [allow("iot:Publish") | {"Resource": resource}]},
        ensure_ascii=False,
        indent=1,
    )
    browser = await site.signed_in()
    sent = document.replace("\n", end) + end
    made = await browser.send("/policies/save", "/policies/edit", name="telemetry", document=sent)
    assert made.status_code == 303, text_of(made)
    assert (await world.aws("GetPolicy", policyName="telemetry"))["policyDocument"] == document
