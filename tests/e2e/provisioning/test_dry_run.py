"""Dry runs of provisioning templates over the native API and on the command line, compared with real devices."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.access.local_admin import allow, document
from tests.e2e.commands import in_process
from tests.e2e.provisioning.support import LAMBDA, TRUST, serial, template

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.provisioning.support import Fleet, HookServer

pytestmark = pytest.mark.both_engines


@pytest.fixture
def native(fleet: Fleet) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {fleet.server.token}"}
    with httpx.Client(base_url=fleet.server.http_url, headers=headers, timeout=20) as client:
        yield client


def tried(native: httpx.Client, **body: Any) -> Any:
    answer = native.post("/v1/provisioning/dry-run", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def changed(run: Any, kind: str) -> dict[str, Any]:
    """What of a thing, a policy or the certificate is another one afterwards."""
    lines = [each for each in run["changes"] if each["subject"].startswith(kind)]
    return {each["what"]: each["after"] for each in lines if each["before"] != each["after"]}


def test_a_dry_run_tells_what_a_device_gets(fleet: Fleet, native: httpx.Client) -> None:
    name, number = fleet.new_template(), serial()
    for site in ("attic", "cellar"):
        parameters = {"SerialNumber": number + site, "Site": site}
        run = tried(native, template=name, parameters=parameters)
        assert run["succeeds"] is True
        assert all(each["allowed"] for each in run["actions"])
        with fleet.device() as device:
            made = device.certificate()
            accepted, reply = device.register(name, made["certificateOwnershipToken"], **parameters)
        assert accepted, reply
        assert run["device_configuration"] == reply["deviceConfiguration"]
        thing = fleet.iot.describe_thing(thingName=reply["thingName"])
        expected = {"exists": "yes", "attribute site": thing["attributes"]["site"], "has the certificate": "yes"}
        assert changed(run, f"thing {reply['thingName']}") == expected
        assert changed(run, "certificate") == {"status": fleet.status(made["certificateId"])}
        assert changed(run, "policy fleet-device") == {"attached to the certificate": "yes"}
    again = tried(native, template=name, parameters={**parameters, "Site": "attic"})
    assert again["succeeds"] is False
    with fleet.device() as device:
        token = device.certificate()["certificateOwnershipToken"]
        accepted, reply = device.register(name, token, **{**parameters, "Site": "attic"})
    assert not accepted
    assert again["failures"][0]["reason"] in reply["errorMessage"]


def test_a_dry_run_tells_what_the_role_may_not_do(fleet: Fleet, native: httpx.Client) -> None:
    ask = fleet.local_admin.ask
    role = f"dry-{serial()}"
    ask("role.create", name=role, trust_policy=TRUST)
    ask("policy.put", name=role, document=document(allow(["iot:CreateThing", "iot:UpdateCertificate"], "*")))
    ask("policy.attach", principal=f"role/{role}", policy=role)
    name = fleet.new_template(provisioningRoleArn=f"arn:aws:iam::{fleet.account}:role/{role}")
    parameters = {"SerialNumber": serial()}
    run = tried(native, template=name, parameters=parameters)
    refused = [each["action"] for each in run["actions"] if not each["allowed"]]
    assert refused == ["iot:AttachPolicy", "iot:AttachThingPrincipal"]
    with fleet.device() as device:
        token = device.certificate()["certificateOwnershipToken"]
        accepted, reply = device.register(name, token, **parameters)
    assert not accepted
    assert "AccessDeniedException" in reply["errorMessage"]
    ask("policy.put", name=role, document=document(allow(["iot:*"], "*")))
    assert tried(native, template=name, parameters=parameters)["succeeds"] is True


def test_the_hook_is_not_called(fleet: Fleet, native: httpx.Client, hook: HookServer) -> None:
    hook.set_answer({"allowProvisioning": False})
    name = fleet.new_template(preProvisioningHook={"targetArn": LAMBDA})
    run = tried(native, template=name, parameters={"SerialNumber": serial()}, client_id="c-7")
    assert run["succeeds"] is True
    assert run["hook_question"]["clientId"] == "c-7"
    assert hook.asked == []


def test_a_document_can_be_tried_before_it_is_a_version(fleet: Fleet, native: httpx.Client, tmp_path: Path) -> None:
    name, number = fleet.new_template(), serial()
    new = template().replace("lamp-", "pump-")
    run = tried(native, template=name, document=new, parameters={"SerialNumber": number})
    assert (run["succeeds"], run["version"]) == (True, None)
    assert changed(run, f"thing pump-{number}")["exists"] == "yes"
    file = tmp_path / "new.json"
    file.write_text(new)
    command = ["provisioning", "dry-run", name, "--parameter", f"SerialNumber={number}", "--document", str(file)]
    done = in_process(*command, "--data-dir", fleet.server.data_dir)
    assert f"thing pump-{number}" in done.stdout, done.stderr
    assert len(fleet.iot.list_provisioning_template_versions(templateName=name)["versions"]) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"template": "there-is-none"}, 404),
        ({"template": "T", "version": 7}, 404),
        ({"template": "T", "version": 0}, 400),
        ({"template": "T", "certificate": "0" * 64}, 404),
        ({"template": "T", "certificate": "x"}, 400),
        ({"template": "T", "certificate_pem": "x"}, 400),
        ({"template": "T", "address": "x"}, 400),
        ({"template": "T", "document": "{}"}, 400),
        ({"template": "T", "parameters": {"a": 1}}, 400),
        ({"template": "T", "parameters": {"a": "x" * 5000}}, 400),
    ],
)
def test_wrong_requests_are_refused(fleet: Fleet, native: httpx.Client, body: dict[str, Any], status: int) -> None:
    name = fleet.new_template()
    given = {**body, "template": name} if body.get("template") == "T" else body
    assert native.post("/v1/provisioning/dry-run", json=given).status_code == status


def test_claims_are_listed(fleet: Fleet, native: httpx.Client) -> None:
    name = fleet.new_template()
    made = fleet.iot.create_provisioning_claim(templateName=name)
    (claim,) = native.get("/v1/provisioning/claims", params={"template": name}).json()["data"]["claims"]
    assert claim["certificate"] == made["certificateId"]
    assert set(claim) == {"certificate", "created_at", "expires_at"}
    assert native.get("/v1/provisioning/claims", params={"template": "there-is-none"}).status_code == 404
    listed = in_process("provisioning", "claims", name, "--data-dir", fleet.server.data_dir, "--output", "json")
    assert json.loads(listed.stdout) == [claim]


def test_imports_of_the_account_are_listed(native: httpx.Client) -> None:
    assert native.get("/v1/imports").json()["data"] == {"imports": []}
    unknown = "0b9c2f0e-6a43-4c52-a4c4-8f2a4f3f5d11"
    assert native.get("/v1/import-findings", params={"id": unknown}).status_code == 404


def test_the_command_line_says_the_same(fleet: Fleet, native: httpx.Client) -> None:
    name, number = fleet.new_template(), serial()
    command = ["provisioning", "dry-run", name, "--data-dir", str(fleet.server.data_dir)]
    good = in_process(*command, "--parameter", f"SerialNumber={number}", "--output", "json")
    assert good.returncode == 0
    found, expected = json.loads(good.stdout), tried(native, template=name, parameters={"SerialNumber": number})
    for each in (found, expected):
        for stand_in in ("certificate", "changes", "actions"):
            each.pop(stand_in)
    assert found == expected
    good = in_process(*command, "--parameter", f"SerialNumber={number}")
    assert good.returncode == 0
    for part in ("Such a device would be provisioned.", f"thing lamp-{number}", "exists: - -> yes", "iot:CreateThing"):
        assert part in good.stdout, (part, good.stdout)
    bad = in_process(*command)
    assert bad.returncode == 1
    assert "Cannot resolve reference value: SerialNumber" in bad.stdout
    assert in_process(*command, "--parameter", "x").returncode == 2
    assert in_process(*command, "--pem", "/there-is-none").returncode == 2


def test_only_callers_that_may_test_provisioning_can(fleet: Fleet) -> None:
    name = fleet.new_template(template())
    user = f"u-{serial()}"
    ask = fleet.local_admin.ask
    ask("user.create", name=user)
    token = ask("token.create", principal=f"user/{user}")["token"]
    headers = {"authorization": f"Bearer {token}"}
    body = {"template": name, "parameters": {"SerialNumber": "1"}}
    url = f"{fleet.server.http_url}/v1/provisioning/dry-run"
    assert httpx.post(url, headers=headers, json=body).status_code == 403
    ask("policy.attach", principal=f"user/{user}", policy="thingmint/ReadOnly")
    assert httpx.post(url, headers=headers, json=body).status_code == 200


def test_what_a_thing_has_needs_the_permission_to_describe_it(fleet: Fleet, native: httpx.Client) -> None:
    name, number, ask = fleet.new_template(), serial(), fleet.local_admin.ask
    thing, user = f"lamp-{number}", f"u-{number}"
    fleet.iot.create_thing(thingName=thing, attributePayload={"attributes": {"wifi": "hunter2"}})
    ask("user.create", name=user)
    ask("policy.put", name=user, document=document(allow(["thingmint:TestProvisioning"], "*")))
    ask("policy.attach", principal=f"user/{user}", policy=user)
    headers = {"authorization": f"Bearer {ask('token.create', principal=f'user/{user}')['token']}"}
    body = {"template": name, "parameters": {"SerialNumber": number}}
    assert "hunter2" in json.dumps(tried(native, **body))
    with httpx.Client(base_url=fleet.server.http_url, headers=headers, timeout=20) as client:
        run = tried(client, **body)
    assert "hunter2" not in json.dumps(run)
    assert {"subject": f"thing {thing}", "what": "exists", "before": "yes", "after": "yes"} in run["changes"]
    command = ["provisioning", "dry-run", name, "--data-dir", str(fleet.server.data_dir)]
    assert "hunter2" in in_process(*command, "--parameter", f"SerialNumber={number}").stdout
