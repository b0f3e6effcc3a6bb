"""Calls from the playground: as whom they run, what the page shows of them, and what is kept of a secret."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from structlog.testing import capture_logs

from tests.unit import vectors
from tests.unit.console.browser import Site, text_of
from tests.unit.console.test_pages import allow, user
from tests.world import ABROAD, OURS, THEIRS
from thingmint.access.audit_records import AuditRecords
from thingmint.domain.errors import NotFound, Throttled, Unavailable

if TYPE_CHECKING:
    import httpx

    from tests.unit.console.browser import Browser
    from tests.world import World
    from thingmint.domain.errors import DomainError

EVIL = "<script>alert('x')</script>"
RECORD = "/playground/record/00000000-0000-0000-0000-000000000000"
_HIDDEN = re.compile(r'<input type="hidden" name="text" value="([^"]+)">')


async def call(browser: Browser, api: str, operation: str, **fields: Any) -> httpx.Response:
    named = {name.replace("__", "-"): value for name, value in fields.items()}
    return await browser.send(f"/playground/{api}/{operation}", page=f"/playground/{api}/{operation}", **named)


async def records(site: Site) -> list[dict[str, Any]]:
    await site.trail.close()
    rows = await site.world.rows("SELECT record FROM audit_records UNION ALL SELECT record FROM audit_activity")
    return [orjson.loads(row[0]) for row in rows]


async def things(world: World) -> list[str]:
    return [row[0] for row in await world.rows("SELECT name FROM things ORDER BY name")]


def waits_for(answer: httpx.Response) -> tuple[str, str]:
    """The address that the page asks for the record, and the token with which it does."""
    found = re.search(r'id="record-wait"[^>]* hx-get="/console([^"]+)"[^>]*"Thingmint-Update": "(\w+)"', answer.text)
    assert found is not None, answer.text
    return html.unescape(found[1]), found[2]


async def test_a_call_runs_and_leaves_one_record(site: Site, world: World) -> None:
    browser = await site.signed_in()
    with capture_logs() as logs:
        answer = await call(browser, "aws", "CreateThing", thingName="pump")
    text = text_of(answer)
    assert answer.status_code == 200, text
    assert answer.headers["cache-control"] == "no-store"
    assert await things(world) == ["pump"]
    assert "The call is done: 200 OK" in text
    assert '"thingName": "pump"' in text
    assert "POST /things/pump" in text
    assert 'value="pump"' in answer.text  # the form keeps what was typed
    found = [each for each in await records(site) if each["event"] not in ("ConsoleSignIn", "DescribeApi")]
    assert [(each["event"], each["outcome"], each["source"]) for each in found] == [
        ("CreateThing", "success", "iot.amazonaws.com")
    ]
    assert found[0]["agent"].startswith("Thingmint console; ")
    assert found[0]["request"] in text
    assert "The whole record" in text
    assert [(each["api"], each["operation"]) for each in logs if each["event"] == "request"][-2:] == [
        ("aws", "CreateThing"),
        ("console", "CallOperation"),
    ]


async def test_the_record_of_a_read_follows(site: Site, world: World) -> None:
    browser = await site.signed_in()
    answer = await call(browser, "aws", "DescribeThing", thingName="nothing")
    assert "ResourceNotFoundException. thing nothing does not exist" in text_of(answer)
    address, token = waits_for(answer)
    early = await browser.get(address, thingmint_update=token)
    assert waits_for(early) == (address, token)
    await site.trail.flush()
    later = await browser.get(address, thingmint_update=token)
    assert (later.headers["hx-retarget"], later.headers["hx-reselect"]) == ("#record", "#record")
    assert '"event": "DescribeThing"' in text_of(later)
    opened = await browser.get(address)
    assert "hx-retarget" not in opened.headers
    assert '"event": "DescribeThing"' in text_of(opened)
    other = site.browser()
    assert (await other.post("/sign-in", token=world.theirs.token)).status_code == 303
    assert "DescribeThing" not in (await other.get(address)).text
    await call(browser, "aws", "DescribeThing", thingName="nothing")  # counted, not recorded
    address, token = waits_for(await call(browser, "aws", "DescribeThing", thingName="nothing"))
    await site.trail.flush()
    world.clock.advance(seconds=30)
    late = await browser.get(address, thingmint_update=token)
    assert "hx-retarget" not in late.headers
    assert "Refusals that repeat are counted" in text_of(late)
    assert "hx-get" not in late.text


@pytest.mark.parametrize(
    "path",
    [
        "/playground/record/x/1790000000000000",
        f"{RECORD}/x",
        f"{RECORD}/999999999999999999",
        f"{RECORD}/\N{ARABIC-INDIC DIGIT ONE}790000000000000",
    ],
)
async def test_wrong_addresses_of_records(site: Site, path: str) -> None:
    assert (await (await site.signed_in()).get(path)).status_code == 400


@pytest.mark.parametrize("moment", ["1000000000000000", "99999999999999999"])
async def test_the_page_does_not_wait_for_a_record_of_another_time(site: Site, moment: str) -> None:
    answer = await (await site.signed_in()).get(f"{RECORD}/{moment}")
    assert answer.status_code == 200
    assert "hx-get" not in answer.text


async def test_what_the_policies_do_not_allow_is_refused(site: Site, world: World) -> None:
    await world.aws("CreateThing", thingName="pump")
    browser = await site.signed_in(await user(world, "reader", allow("iot:DescribeThing")))
    read = await call(browser, "aws", "DescribeThing", thingName="pump")
    assert "The call is done" in text_of(read)
    assert "Your policies do not allow you to read the audit log" in text_of(read)
    assert "DescribeThing" in text_of(read)
    assert (await browser.get(f"{RECORD}/1790000000000000")).status_code == 403
    refused = await call(browser, "aws", "DeleteThing", thingName="pump")
    text = text_of(refused)
    assert "403 Forbidden" in text
    assert "Ask an administrator for a policy that allows iot:DeleteThing on arn:aws:iot:us-east-1:" in text
    assert await things(world) == ["pump"]
    for api, operation, fields in (
        ("native", "policy-attach", {"principal": "user/reader", "policy": "thingmint/FullAccess"}),
        ("native", "token-create", {"principal": "user/administrator"}),
        ("yandex", "RegistryService.Create", {"folderId": world.ours.folder}),
        ("yandex", "IamTokenService.CreateForServiceAccount", {"serviceAccountId": "aje1"}),
    ):
        answer = await call(browser, api, operation, **fields)
        assert "403 Forbidden" in text_of(answer), (operation, text_of(answer))
    refusals = [each["event"] for each in await records(site) if each["outcome"] == "refused"]
    assert {"DeleteThing", "AttachUserPolicy", "yandex.cloud.audit.iot.devices.CreateRegistry"} <= set(refusals)


async def test_other_accounts_are_out_of_reach(site: Site, world: World) -> None:
    registry = await world.registry(THEIRS, name="their-registry")
    device = await world.device(registry, THEIRS, name="their-device")
    await world.aws("CreateThing", THEIRS, thingName="their-thing")
    own = await world.device(await world.registry(name="our-registry"), name="our-device")
    browser = await site.signed_in()
    page = await browser.get(f"/playground/yandex/DeviceService.AddCertificate?of_registry={registry}")
    assert own in page.text
    assert "our-registry" in page.text
    assert "their" not in page.text
    assert device not in page.text
    for api, operation, fields in (
        ("aws", "DescribeThing", {"thingName": "their-thing"}),
        ("aws", "DeleteThing", {"thingName": "their-thing"}),
        ("yandex", "DeviceService.Get", {"device_id": device}),
        ("yandex", "DeviceService.Delete", {"device_id": device}),
        ("yandex", "DeviceService.List", {"registryId": registry}),
        ("native", "user-list", {"account": THEIRS.account}),
    ):
        answer = await call(browser, api, operation, **fields)
        assert "their-device" not in answer.text
        assert operation == "DeleteThing" or re.search("40[34] (Forbidden|Not Found)", text_of(answer)), operation
    assert await things(world) == ["their-thing"]
    assert await world.count("devices") == 2


async def test_lists_have_what_the_caller_may_list_only(site: Site, world: World) -> None:
    registry = await world.registry(name="secret-registry")
    await world.device(registry, name="secret-device")
    browser = await site.signed_in(await user(world, "few", allow("iot:DescribeThing")))
    page = await browser.get("/playground/yandex/DeviceService.AddCertificate")
    assert page.status_code == 200
    assert "secret-" not in page.text
    assert registry not in page.text
    assert "There is no device to choose" in text_of(page)
    browser = await site.signed_in(await user(world, "more", allow("yandex:RegistryService.List")))
    page = await browser.get("/playground/yandex/DeviceService.AddCertificate")
    assert "secret-registry" in page.text
    assert "secret-device" not in page.text


@pytest.mark.parametrize(
    "value", ["../policies/p", "..", "a/b", "%2f..%2fpolicies", "a?x=y", "a#b", "a\r\nhost: evil", EVIL]
)
async def test_hostile_values_stay_values(site: Site, world: World, value: str) -> None:
    await world.aws("CreateThing", thingName="pump")
    browser = await site.signed_in()
    for api, operation, field in (
        ("aws", "DeleteThing", "thingName"),
        ("yandex", "DeviceService.Delete", "device_id"),
        ("native", "DeleteCertificate", "id"),
    ):
        answer = await call(browser, api, operation, **{field: value})
        assert answer.status_code in (200, 400)
        assert "The call is done" not in text_of(answer), operation
        assert "<script>alert" not in answer.text
        assert "\nhost" not in "".join(f"{name}: {text}" for name, text in answer.headers.items())
    for field in ("x__amzn__principal", "maxResults", "nextToken"):
        answer = await call(browser, "aws", "ListPrincipalThings", **{"x__amzn__principal": "a", field: value})
        assert answer.status_code in (200, 400)
        assert "<script>alert" not in answer.text
    assert await things(world) == ["pump"]


@pytest.mark.parametrize("data", ["\N{SNOWMAN}", "a", "/w==", "!", "a b"])
async def test_payloads_that_are_no_text(site: Site, data: str) -> None:
    answer = await call(
        await site.signed_in(), "yandex", "DeviceDataService.Publish", device_id="x", topic="t", data=data
    )
    assert answer.status_code == 200
    assert re.search("40[034] ", text_of(answer))


async def test_a_form_with_errors_runs_nothing(site: Site) -> None:
    browser = await site.signed_in()
    answer = await call(browser, "aws", "CreateThing", thingName="pump", attributePayload="{")
    assert answer.status_code == 400
    assert "attributePayload is not valid JSON" in text_of(answer)
    assert 'value="pump"' in answer.text
    answer = await call(browser, "aws", "DescribeThing", thingName="")
    assert answer.status_code == 400
    assert "thingName is needed for the path" in text_of(answer)
    answer = await call(browser, "aws", "ListThings", maxResults="five")
    assert answer.status_code == 400
    assert "maxResults must be a whole number" in text_of(answer)
    assert await things(site.world) == []
    done = [each for each in await records(site) if each["source"] != "thingmint"]
    assert done == []


async def test_the_private_key_is_on_the_answers_page_only(site: Site, world: World) -> None:
    browser = await site.signed_in()
    with capture_logs() as logs:
        answer = await call(browser, "aws", "CreateKeysAndCertificate", setAsActive="true")
    hidden = html.unescape(_HIDDEN.findall(answer.text)[0])
    key = hidden.splitlines()[1]
    assert hidden.startswith("-----BEGIN")
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    # Beside the form that saves it, it is in a part of the page that is closed until a button opens it.
    parts = re.findall(r"<details class=\"secret\">(.*?)</details>", answer.text, re.DOTALL)
    assert [key in html.unescape(part) for part in parts] == [True]
    assert html.unescape(answer.text).count(key) == 2
    assert "Show the private key once" in text_of(answer)
    assert not re.search(r'(?:href|src|action|hx-get)="[^"]*PRIVATE', answer.text)
    assert "data:" not in answer.text
    assert '"PrivateKey": "(not shown here)"' in text_of(answer)
    await site.trail.close()
    assert key not in "".join(world.dump()) + repr(logs)

    with capture_logs() as logs:
        saved = await browser.send("/file", name="private.key", text=hidden.replace("\n", "\r\n"))
    assert saved.text == hidden
    assert saved.headers["content-disposition"] == 'attachment; filename="private.key"'
    assert saved.headers["cache-control"] == "no-store"
    assert saved.headers["content-type"] == "application/octet-stream"
    await site.trail.close()
    assert key not in "".join(world.dump()) + repr(logs)


@pytest.mark.parametrize(
    ("api", "operation", "fields", "button"),
    [
        ("native", "CreateKeysAndCertificate", {}, "Show the private key once"),
        ("native", "key-create", {"principal": "user/administrator"}, "Show the secret access key once"),
        ("native", "token-create", {"principal": "user/administrator"}, "Show the token once"),
        ("yandex", "IamTokenService.Create", {"yandexPassportOauthToken": ""}, "Show the iam token once"),
    ],
)
async def test_all_secrets_are_held_back(
    site: Site, world: World, api: str, operation: str, fields: dict[str, str], button: str
) -> None:
    browser = await site.signed_in()
    given = {name: value or world.ours.token for name, value in fields.items()}
    with capture_logs() as logs:
        answer = await call(browser, api, operation, **given)
    assert button in text_of(answer), text_of(answer)
    assert "(not shown here)" in text_of(answer)
    secret = html.unescape(_HIDDEN.findall(answer.text)[0])
    closed = re.sub(r"<details class=\"secret\">.*?</details>", "", answer.text, flags=re.DOTALL)
    assert secret.splitlines()[-1] not in html.unescape(_HIDDEN.sub("", closed))
    await site.trail.close()
    assert secret.splitlines()[-1] not in "".join(world.dump()) + repr(logs)
    assert world.ours.token not in answer.text


@pytest.mark.parametrize(
    ("name", "text", "status"),
    [
        ("private.key", "a", 200),
        ("", "a", 400),
        ("private.key", "", 400),
        ('a"; filename="b.exe', "a", 400),
        ("a\r\nset-cookie: x=y", "a", 400),
        ("../private.key", "a", 400),
        ("page.html", "<script>alert(1)</script>", 200),
        ("private.key", "a" * 70_000, 400),
    ],
)
async def test_files(site: Site, name: str, text: str, status: int) -> None:
    answer = await (await site.signed_in()).send("/file", name=name, text=text)
    assert answer.status_code == status
    assert "set-cookie" not in answer.headers
    if status == 200:
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"].startswith("attachment")


async def test_what_a_person_typed_secretly_is_not_shown_again(site: Site, world: World) -> None:
    browser, registry = await site.signed_in(), await world.registry(name="r")
    given = {"registryId": registry, "name": "d", "password": "Correct-Horse-9-Battery", "description": "visible"}
    answer = await call(browser, "yandex", "DeviceService.Create", **given)
    assert "The call is done" in text_of(answer), text_of(answer)
    assert "visible" in answer.text
    assert "Correct-Horse" not in answer.text
    key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEG\n-----END PRIVATE KEY-----\n"
    answer = await call(browser, "aws", "RegisterCertificateWithoutCA", certificatePem=key)
    assert "400 Bad Request" in text_of(answer)
    assert "PRIVATE KEY" not in answer.text


async def test_forms_need_their_token_and_a_session(site: Site, world: World) -> None:
    browser, address = await site.signed_in(), "/playground/aws/CreateThing"
    other = await site.signed_in()
    for token in ("", "0" * 64, await other.token()):
        assert (await browser.post(address, form_token=token, thingName="pump")).status_code == 400
    for headers in ({"origin": "https://evil.example", "sec-fetch-site": "cross-site"}, {"origin": "null"}):
        answer = await browser.post(address, headers, form_token=await browser.token(), thingName="pump")
        assert answer.status_code == 400
    altered = site.browser()
    cookies = "; ".join(f"{name}={value[:-1]}_" for name, value in browser.client.cookies.items())
    answer = await altered.post(address, {"cookie": cookies}, form_token=await browser.token(), thingName="pump")
    assert answer.status_code == 401
    assert (await site.browser().post(address, thingName="pump")).status_code == 401
    assert await things(world) == []
    token = await browser.token()
    await world.admin("user.disable", name="administrator")
    answer = await browser.post(address, form_token=token, thingName="pump")
    assert answer.status_code in (303, 401)
    assert await things(world) == []


async def test_unknown_operations(site: Site) -> None:
    browser = await site.signed_in()
    token = await browser.token()
    for path in ("/playground/aws/Nothing", "/playground/nothing/CreateThing", "/playground/aws/DeviceService.Get"):
        answer = await browser.post(path, form_token=token)
        assert answer.status_code == 404
    answer = await browser.post(f"/playground/aws/{EVIL}", form_token=token)
    assert answer.status_code == 404
    assert "<script>alert" not in answer.text


async def test_an_operation_that_is_not_served(site: Site) -> None:
    answer = await call(await site.signed_in(), "aws", "CreateJob", jobId="a", targets="arn")
    text = text_of(answer)
    assert "NotImplementedException" in text
    assert "501 Not Implemented" in text
    assert "Choose another operation" in text


async def test_the_chosen_region(site: Site, world: World) -> None:
    browser = await site.signed_in()
    await browser.send("/region", region=ABROAD.region)
    await call(browser, "aws", "CreateThing", thingName="pump")
    assert [tuple(row) for row in await world.rows("SELECT region, name FROM things")] == [(ABROAD.region, "pump")]
    with pytest.raises(NotFound):
        await world.aws("DescribeThing", OURS, thingName="pump")


async def test_the_operation_of_a_change_is_a_diagram(site: Site, world: World) -> None:
    device = await world.device(await world.registry(name="r"), name="d")
    browser = await site.signed_in()
    fields = {"device_id": device, "certificateData": vectors.certificate_pem()}
    answer = await call(browser, "yandex", "DeviceService.AddCertificate", **fields)
    assert "The call is done" in text_of(answer), text_of(answer)
    assert "The Operation is done, with a response" in answer.text
    assert "AddDeviceCertificateMetadata" in answer.text
    again = await call(browser, "yandex", "DeviceService.AddCertificate", **fields)
    assert "409 Conflict" in text_of(again)
    assert "The Operation is done" not in again.text
    read = await call(browser, "yandex", "DeviceService.Get", device_id=device)
    assert "<svg" not in read.text


async def test_an_operation_that_is_not_finished(world: World) -> None:
    world.pending = timedelta(minutes=1)
    registry = await world.registry(name="r")
    device = await world.device(registry, name="d")
    browser = await Site(world).signed_in()
    certificate = vectors.certificate_pem()
    for state in ("response", "error"):  # the second time, the certificate is bound already
        fields = {"device_id": device, "certificateData": certificate}
        answer = await call(browser, "yandex", "DeviceService.AddCertificate", **fields)
        assert "The Operation is running" in answer.text
        found = re.search(
            r'<a href="/console(/playground/yandex/OperationService.Get\?operation_id=(\w+))">', answer.text
        )
        assert found is not None
        assert f'value="{found[2]}"' in (await browser.get(found[1])).text
        world.clock.advance(seconds=61)
        later = await call(browser, "yandex", "OperationService.Get", operation_id=found[2])
        assert f"The Operation is done, with {'a response' if state == 'response' else 'an error'}" in later.text
        assert "AddDeviceCertificateMetadata" in later.text
        assert "Look at it again" not in later.text


async def test_a_method_that_only_grpc_has(site: Site, world: World) -> None:
    registry = await world.registry(name="r")
    answer = await call(await site.signed_in(), "yandex", "RegistryService.ListDataStreamExports", registryId=registry)
    assert "The call is done" in text_of(answer), text_of(answer)


async def test_lists_of_devices(site: Site, world: World) -> None:
    first, second = await world.registry(name="first"), await world.registry(name="second")
    one, two = await world.device(first, name="one"), await world.device(second, name="two")
    browser, page = await site.signed_in(), "/playground/yandex/DeviceService.AddCertificate"
    shown = (await browser.get(page)).text
    assert f'<option value="{one}">one ({one})</option>' in shown
    assert two not in shown
    shown = (await browser.get(f"{page}?of_registry={second}&device_id={two}")).text
    assert f'<option value="{two}" selected>two ({two})</option>' in shown
    assert one not in shown
    for strange in ("x" * 200, EVIL, ""):
        answer = await browser.client.get(f"/console{page}", params={"of_registry": strange})
        assert answer.status_code == 200
        assert one in answer.text
    typed = await browser.send(page, page=page, device_id=[one, two], certificateData=vectors.certificate_pem())
    assert f"POST /iot-devices/v1/devices/{two}/certificates" in text_of(typed)
    registries = (await browser.get("/playground/yandex/RegistryService.AddCertificate")).text
    assert f'<option value="{first}">first ({first})</option>' in registries


async def test_a_long_answer_is_cut(site: Site, world: World) -> None:
    properties = {"thingTypeDescription": "a" * 2000}
    for number in range(200):
        await world.aws("CreateThingType", thingTypeName=f"type-{number}", thingTypeProperties=properties)
    answer = await call(await site.signed_in(), "aws", "ListThingTypes", maxResults="250")
    assert "more characters are not shown" in text_of(answer)
    assert len(answer.text) < 300_000


async def test_tokens_for_others_need_a_credential_to_end_with(site: Site, world: World) -> None:
    made = await world.admin("service-account.create", name="robot")
    fields = {"serviceAccountId": made["id"]}
    answer = await call(await site.signed_in(), "yandex", "IamTokenService.CreateForServiceAccount", **fields)
    assert "Show the iam token once" in text_of(answer), text_of(answer)
    browser = site.browser()
    await browser.post("/sign-in/link", link=await site.sessions.new_link())
    answer = await call(browser, "yandex", "IamTokenService.CreateForServiceAccount", **fields)
    assert "FAILED_PRECONDITION" in text_of(answer), text_of(answer)
    assert "sign in with an API token" in text_of(answer)


@pytest.mark.parametrize("error", [Unavailable("the database is away"), Throttled("wait", retry_after=1)])
async def test_a_private_key_is_shown_if_the_log_cannot_be_read(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: DomainError
) -> None:
    browser = await site.signed_in()

    async def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(AuditRecords, "list", fail)
        answer = await call(browser, "aws", "CreateKeysAndCertificate", setAsActive="true")
    assert answer.status_code == 200
    assert "-----BEGIN RSA PRIVATE KEY-----" in answer.text
    address, token = waits_for(answer)
    record = await browser.get(address, thingmint_update=token)
    assert "CreateKeysAndCertificate" in text_of(record), "the page finds the record later"


async def test_secrets_are_not_shown_again_by_form_address_and_request(site: Site) -> None:
    browser = await site.signed_in()
    context = '{"password": "S3CRET"}'
    answer = await call(browser, "aws", "TestInvokeAuthorizer", authorizerName="a", mqttContext=context, token="S3CRET")
    assert "NotImplementedException" in answer.text
    assert "S3CRET" not in answer.text
    form = await browser.client.get("/console/playground/aws/TestInvokeAuthorizer", params={"mqttContext": context})
    assert "S3CRET" not in form.text
    for name in ("-----BEGIN PRIVATE KEY-----S3CRET", "-----BEGIN EC PRIVATE KEY-----\nS3CRET"):
        for operation in ("CreateThing", "DescribeThing"):
            assert "S3CRET" not in (await call(browser, "aws", operation, thingName=name)).text
        assert "S3CRET" not in (await call(browser, "aws", "ListThings", attributeName=name)).text
    assert "GET /things/pump" in text_of(await call(browser, "aws", "DescribeThing", thingName="pump"))
