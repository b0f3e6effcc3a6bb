"""The code for other clients on the pages of the playground."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.console.browser import text_of

if TYPE_CHECKING:
    import httpx

    from tests.unit.console.browser import Browser, Site

EVIL = "<script>alert('x')</script>"
KEY = "-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----\n"


def code_of(answer: httpx.Response, client: str) -> str:
    found = re.search(rf'<code id="code-{client}">(.*?)</code>', answer.text, re.DOTALL)
    assert found is not None
    return html.unescape(found[1])


async def send(browser: Browser, path: str, page: str, **fields: Any) -> httpx.Response:
    return await browser.send(path, page=page, **{name.replace("__", "-"): value for name, value in fields.items()})


@pytest.mark.parametrize(
    ("api", "id", "clients"),
    [
        ("aws", "CreateKeysAndCertificate", ["curl", "aws", "boto3", "terraform", "mqtt-json", "mqtt-cbor"]),
        ("aws", "ListThings", ["curl", "aws", "boto3"]),
        ("yandex", "DeviceService.AddCertificate", ["curl", "grpcurl", "yandexcloud"]),
        ("yandex", "RegistryService.AddDataStreamExport", ["grpcurl", "yandexcloud"]),
        ("native", "policy-put", ["curl", "thingmint"]),
    ],
)
async def test_each_operation_has_the_clients_of_its_api(site: Site, api: str, id: str, clients: list[str]) -> None:
    browser = await site.signed_in()
    answer = await browser.get(f"/playground/{api}/{id}")
    assert re.findall(r'<code id="code-([a-z0-9-]+)">', answer.text) == clients
    assert "data/clients" in text_of(answer)


async def test_the_code_has_this_servers_address_and_the_callers_region(site: Site) -> None:
    browser = await site.signed_in()
    answer = await browser.get("/playground/aws/CreateKeysAndCertificate")
    assert "https://iot.example.org:8443/keys-and-certificate" in code_of(answer, "curl")
    assert "aws:amz:us-east-1:iot" in code_of(answer, "curl")
    assert 'client.connect("iot.example.org", 8883)' in code_of(answer, "mqtt-json")
    grpc = await browser.get("/playground/yandex/DeviceService.List")
    assert "iot.example.org:9443" in code_of(grpc, "grpcurl")


async def test_typing_shows_the_code_and_calls_nothing(site: Site) -> None:
    browser = await site.signed_in()
    page = "/playground/aws/CreateThing"
    answer = await send(browser, f"{page}/code", page, thingName="pump-7")
    assert answer.status_code == 200
    assert "--thing-name pump-7" in code_of(answer, "aws")
    assert 'value="pump-7"' in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert await site.world.rows("SELECT name FROM things") == []
    await site.trail.close()
    assert not [row for row in await site.world.rows("SELECT record FROM audit_records") if "CreateThing" in str(row)]


async def test_a_call_shows_its_code(site: Site) -> None:
    browser = await site.signed_in()
    page = "/playground/aws/CreateThing"
    answer = await send(browser, page, page, thingName="pump-7", attributePayload='{"attributes": {"a": "b"}}')
    assert answer.status_code == 200
    assert """--data '{"attributePayload": {"attributes": {"a": "b"}}}'""" in code_of(answer, "curl")


async def test_code_needs_the_form_token(site: Site) -> None:
    browser = await site.signed_in()
    answer = await browser.client.post("/console/playground/aws/CreateThing/code", data={"thingName": "x"})
    assert answer.status_code == 400


async def test_hostile_values_stay_text(site: Site) -> None:
    browser = await site.signed_in()
    for api, id, field in (
        ("aws", "CreateThing", "thingName"),
        ("yandex", "DeviceService.Create", "name"),
        ("native", "policy-put", "name"),
    ):
        page = f"/playground/{api}/{id}"
        answer = await send(browser, f"{page}/code", page, **{field: EVIL})
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
        assert EVIL in text_of(answer).replace("'\"'\"'", "'")


async def test_secrets_and_private_keys_are_not_shown_again(site: Site) -> None:
    browser = await site.signed_in()
    page = "/playground/yandex/DeviceService.Create"
    answer = await send(browser, f"{page}/code", page, registryId="r", password="Pa55word-Pa55word", description=KEY)
    assert "Pa55word" not in answer.text
    assert "MC4CAQAw" not in answer.text
    assert "env.PASSWORD" in code_of(answer, "curl")
    assert "Set the variable PASSWORD" in text_of(answer)
    assert "Save the private key as description.key" in text_of(answer)


async def test_certificates_are_files_of_the_page(site: Site) -> None:
    browser = await site.signed_in()
    page = "/playground/yandex/DeviceService.AddCertificate"
    pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    answer = await send(browser, f"{page}/code", page, device_id="d", certificateData=pem)
    assert 'Path("certificate.pem").read_text()' in code_of(answer, "yandexcloud")
    assert "Save it as certificate.pem" in text_of(answer)
    assert pem.strip() in answer.text


async def test_long_values_have_no_code(site: Site) -> None:
    browser = await site.signed_in()
    page = "/playground/aws/CreateThing"
    for deep in (
        '{"a": ' * 200 + "1" + "}" * 200,
        f'{{"attributes": {{{", ".join(f"{chr(34)}{n}{chr(34)}: 1" for n in range(4000))}}}}}',
    ):
        answer = await send(browser, f"{page}/code", page, thingName="x", attributePayload=deep)
        assert answer.status_code == 200
    answer = await send(browser, f"{page}/code", page, thingName="x", attributePayload='{"a": ' * 200 + "1" + "}" * 200)
    assert "too long to show" in text_of(answer)
