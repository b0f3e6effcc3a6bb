"""A caller who may do nothing gets the same refusal whether or not what the request names exists."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.issuers import new_issuer
from tests.unit import vectors
from tests.unit.console.browser import text_of
from tests.unit.console.test_every_page import CLOSED, opened
from tests.unit.console.test_pages import allow, user
from tests.unit.console.test_provisioning import ROLE, new_import, role, task, template
from tests.world import OURS
from thingmint.services.certificate_activity import CertificateActivity
from thingmint.services.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from tests.unit.console.browser import Browser, Site
    from tests.world import World
    from thingmint.console.page import Page

DENY: dict[str, object] = {"Effect": "Deny", "Action": "*", "Resource": "*"}
DOCUMENT = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}]}
OPEN = {
    "/sign-out": "it ends the own session",
    "/region": "it is kept in a cookie of the browser",
    "/file": "it sends back what was sent",
    "/playground": "the contracts are public",
    "/playground/{api}/{id}": "the contracts are public, and the API refuses the call",
    "/playground/{api}/{id}/code": "the code is of what was typed",
}

# What stands in a parameter or a field with this name, on pages below this path; the first that fits.
NAMED: list[tuple[str, Mapping[str, str]]] = [
    ("/access/user/{name}/token-policy", {"name": "user", "id": "user token"}),
    ("/access/user", {"name": "user", "id": "user key"}),
    ("/access/role", {"name": "role", "id": "role session"}),
    ("/access/service-account", {"name": "service account", "id": "service account key"}),
    ("/access/attach/user", {"name": "user", "policy": "policy"}),
    ("/access/detach/user", {"name": "user", "policy": "policy"}),
    ("/access/attach/role", {"name": "role", "policy": "policy"}),
    ("/access/detach/role", {"name": "role", "policy": "policy"}),
    ("/access/attach/service-account", {"name": "service account", "policy": "policy"}),
    ("/access/detach/service-account", {"name": "service account", "policy": "policy"}),
    ("/access/policy", {"name": "policy", "was": "policy"}),
    ("/access/new-user", {"name": "user"}),
    ("/access/new-role", {"name": "role"}),
    ("/access/new-service-account", {"name": "service account"}),
    ("/access/audit", {"q": "user"}),
    ("/certificates", {"id": "certificate", "policy": "device policy", "q": "certificate", "ca": "ca"}),
    ("/things", {"name": "thing", "q": "thing", "certificate": "certificate"}),
    ("/cas", {"id": "ca"}),
    ("/connect/yandex", {"id": "device", "registry": "registry", "name": "device name"}),
    ("/connect", {"name": "thing"}),
    ("/devices", {"id": "device", "registry": "registry"}),
    ("/policies", {"name": "device policy", "target": "certificate"}),
    ("/playground/record", {"request": "request", "at": "at"}),
    ("/provisioning/templates", {"name": "template", "certificate": "certificate"}),
    ("/provisioning/imports", {"id": "import"}),
    ("/provisioning/tasks", {"id": "task"}),
    ("/provisioning", {"name": "template"}),
    ("/refusals/simulator", {"device": "certificate"}),
    ("/refusals", {"id": "refusal", "device": "certificate", "policy": "device policy", "thing": "thing"}),
    ("/sessions", {"client_id": "thing", "q": "thing"}),
]
FIXED = {
    "document": json.dumps(DOCUMENT),
    "verb": "disable",
    "status": "INACTIVE",
    "new_status": "INACTIVE",
    "automatic": "ENABLE",
    "enabled": "true",
    "version": "1",
    "count": "1",
    "text": "x",
    "role": ROLE,
    "action": "Connect",
    "since": "1",
}


async def existing(world: World) -> dict[str, str]:
    """One of everything that a request can name."""
    await role(world, "iot:*")
    await template(world)
    await world.aws("CreateThing", thingName="pump-1")
    await world.aws("CreatePolicy", policyName="connects", policyDocument=json.dumps(DOCUMENT))
    certificate = await world.certificate()
    root = new_issuer("Root", now=vectors.NOW, begins=vectors.NOW, ends=vectors.NOW.replace(year=vectors.NOW.year + 1))
    ca = await world.aws("RegisterCACertificate", caCertificate=root.pem, certificateMode="SNI_ONLY", setAsActive=True)
    registry = await world.registry(name="registry")
    device = await world.device(registry, name="lamp-1")
    refusals = Refusals(world.store, world.clock)
    refusals.note(OURS, certificate, "pump-1", "iot:Publish", "topic/a", "no", "no", lambda: ["no"])
    await refusals.flush()
    ((refusal,),) = await world.rows("SELECT key FROM refusals")
    activity = CertificateActivity(world.store, world.clock)
    activity.connected(OURS, certificate, "pump-1", "192.0.2.7")
    await activity.flush()
    await world.admin("user.create", name="alice")
    await world.admin("service-account.create", name="robot")
    await world.admin("policy.put", name="mine", document=json.dumps(DOCUMENT))
    key = await world.admin("key.create", principal="user/alice")
    api_token = await world.admin("token.create", principal="user/alice")
    robot_key = await world.admin("key.create", principal="service-account/robot")
    return {
        "user": "alice",
        "user key": key["access_key_id"],
        "user token": api_token["token"].split("_")[1],
        "role": ROLE.rpartition("/")[2],
        "role session": key["access_key_id"],
        "service account": "robot",
        "service account key": next(str(robot_key[name]) for name in ("access_key_id", "id") if name in robot_key),
        "policy": "mine",
        "certificate": certificate,
        "ca": ca["certificateId"],
        "device policy": "connects",
        "thing": "pump-1",
        "registry": registry,
        "device": device,
        "device name": "lamp-1",
        "template": "pumps",
        "import": (await new_import(world)).id,
        "task": (await task(world)).id,
        "refusal": str(refusal),
        "request": "00000000-0000-4000-8000-000000000000",
        "at": "1700000000000000",
    }


def missing(known: str) -> str:
    """A name of the same form that nothing has."""
    if known.isdigit():
        return str(int(known) + 1)
    last = next(place for place in range(len(known) - 1, -1, -1) if known[place].isalnum())
    digit = known[last].isdigit()
    other = ("8" if known[last] != "8" else "7") if digit else ("b" if known[last] != "b" else "a")
    return known[:last] + (other.upper() if known[last].isupper() else other) + known[last + 1 :]


def named_on(page: Page, values: Mapping[str, str]) -> dict[str, str]:
    found = next((names for path, names in NAMED if page.path.startswith(path)), {})
    return {name: values[kind] for name, kind in found.items()}


async def asked(browser: Browser, page: Page, values: Mapping[str, str], token: str) -> httpx.Response:
    fields = named_on(page, values)
    path = re.sub(r"\{(\w+)\}", lambda match: fields.get(match[1], "x"), page.path)
    if page.method == "GET":
        kept = "&".join(f"{name}={value}" for name, value in {**fields, "version": "1"}.items())
        path = f"{path}?{kept}"
    return await opened(browser, page, path, form_token=token, **FIXED | fields)


async def test_a_caller_who_may_nothing_learns_nothing(site: Site, world: World) -> None:
    there = await existing(world)
    absent = {kind: missing(value) for kind, value in there.items()}
    browser = await site.signed_in(await user(world, "nobody", DENY))
    token = await browser.token("/playground")
    answers: dict[tuple[str, str], Any] = {}
    for page in CLOSED:
        if page.path in OPEN:
            continue
        shown = []
        for values in (there, absent):
            answer = await asked(browser, page, values, token)
            text = text_of(answer)
            for value in sorted(values.values(), key=len, reverse=True):
                text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "NAME", text)
            shown.append((answer.status_code, text))
        answers[page.method, page.path] = shown
    wrong = [(page, *found) for page, found in answers.items() if found[0] != found[1] or found[0][0] != 403]
    assert not wrong, "\n".join(map(str, wrong))
    assert len(answers) > 100


async def test_the_pages_left_out_exist() -> None:
    assert set(OPEN) <= {page.path for page in CLOSED}


async def test_a_role_of_yandex_only_begins_with_its_devices(site: Site, world: World) -> None:
    await world.device(await world.registry(name="boilers"), name="boiler-1")
    may = ["yandex:RegistryService.List", "yandex:DeviceService.List"]
    browser = await site.signed_in(await user(world, "viewer", allow(*may)))
    answer = await browser.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/devices")
    assert "boiler-1" in text_of(await browser.get("/devices"))


async def test_the_error_page_of_the_overview_does_not_lead_to_itself(site: Site, world: World) -> None:
    browser = await site.signed_in(await user(world, "new", allow("iot:DescribeEndpoint")))
    answer = await browser.get("/")
    assert answer.status_code == 403
    card = answer.text.partition('<section class="card">')[2]
    assert ('href="/console/playground"' in card, 'href="/console/"' in card) == (True, False)


@pytest.mark.parametrize(
    ("may", "leads_to"),
    [
        ([], None),
        (["iot:CreateThing"], None),
        (["iot:CreateThing", "iot:CreateKeysAndCertificate"], "/console/connect"),
        (["yandex:DeviceService.Create"], "/console/connect/yandex/new"),
    ],
)
async def test_the_overview_offers_to_connect_a_device_to_who_may(
    site: Site, world: World, may: list[str], leads_to: str | None
) -> None:
    browser = await site.signed_in(await user(world, "viewer", allow("iot:ListCertificates", *may)))
    main = (await browser.get("/")).text.partition("<main")[2]
    found = set(re.findall(r'<a[^>]*href="([^"]*)"[^>]*>Connect a device<', main))
    assert found == ({leads_to} if leads_to else set())
