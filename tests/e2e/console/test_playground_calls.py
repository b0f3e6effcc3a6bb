"""Calls from the playground in Chromium: both published operations, until a device connects with what they made."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from playwright.sync_api import Error

from tests.e2e.console.conftest import AXE
from tests.e2e.console.test_chromium import EVIL, NARROW, WIDE, ZOOMED, violations
from tests.e2e.yandex.mqtt_clients import Pair, connected

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page

    from thingmint.testing import RunningServer

BOTH = pytest.mark.parametrize("has_script", [True, False], ids=["with JavaScript", "without"])
ADD = "/playground/yandex/DeviceService.AddCertificate"


@dataclass(frozen=True)
class Saved:
    """The files of a certificate and of its key."""

    certificate: Path
    key: Path


def try_it(page: Page) -> None:
    page.get_by_role("button", name="Try it").click()


def save(page: Page, button: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    assert not download.value.url.startswith("data:")
    return path


def show(page: Page, name: str) -> Locator:
    """The field, after the part of the form that it is in was opened."""
    field = page.locator(f"#field-{name}")
    closed = page.locator("#try details:not([open])", has=field)
    if closed.count():
        closed.locator("summary").first.click()
    return field


def fact(page: Page, heading: str, term: str) -> str:
    card = page.locator("section", has=page.get_by_role("heading", name=heading, exact=True))
    return card.locator("dl div", has_text=term).locator("dd").first.inner_text()


@pytest.fixture
def devices(open_console: Callable[..., Page]) -> dict[str, str]:
    """Two registries with a device each, made in the playground. Their ids by name."""
    page, ids = open_console(), {}
    for registry, device in (("first", EVIL), ("second", "pump")):
        page.goto("/console/playground/yandex/RegistryService.Create")
        page.get_by_label("folderId", exact=False).first.select_option(index=1)
        try_it(page)
        made = json.loads(page.locator("#answer").inner_text())
        ids[registry] = made["response"]["id"]
        page.goto("/console/playground/yandex/DeviceService.Create")
        page.locator("#field-registryId").select_option(ids[registry])
        show(page, "description").fill(device)
        try_it(page)
        ids[device] = json.loads(page.locator("#answer").inner_text())["response"]["id"]
    return ids


@BOTH
def test_create_keys_and_certificate(
    open_console: Callable[..., Page], server: RunningServer, iot: Any, tmp_path: Path, has_script: bool
) -> None:
    page = open_console("/playground/aws/CreateKeysAndCertificate", java_script_enabled=has_script)
    page.locator("#field-setAsActive").select_option("true")
    try_it(page)
    page.get_by_text("The call is done: 200 OK").wait_for()
    shown = page.locator("#secret-1")
    assert not shown.is_visible()
    page.get_by_text("Show the private key once").click()
    key = shown.inner_text()
    assert key.startswith("-----BEGIN")
    saved = Saved(save(page, "Save certificate.pem", tmp_path), save(page, "Save private.key", tmp_path))
    assert saved.key.read_text().strip() == key.strip()
    assert "The whole record" in page.locator("#record").inner_text()
    assert fact(page, "Audit record", "Through").startswith("Thingmint console; Mozilla")

    arn = json.loads(page.locator("#answer").inner_text())["certificateArn"]
    name = f"all-{has_script}"
    statement = {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    page.goto("/console/playground/aws/CreatePolicy")
    page.locator("#field-policyName").fill(name)
    page.locator("#field-policyDocument").fill(document)
    try_it(page)
    page.goto(f"/console/playground/aws/AttachPolicy?policyName={name}&target={arn}")
    try_it(page)
    page.get_by_text("The call is done: 200 OK").wait_for()
    with connected(server, saved, client_id="by-playground") as client:
        assert client.publish("a/b")

    line = key.splitlines()[1]
    assert line not in server.output.read_text()
    assert line not in page.content()
    listed = {each["certificateArn"]: each["status"] for each in iot.list_certificates(pageSize=250)["certificates"]}
    assert listed[arn] == "ACTIVE"


def test_the_browser_keeps_no_secret(chromium: Browser, server: RunningServer, tmp_path: Path) -> None:
    """Neither its history nor its caches and stores, in a profile on disk. Going back shows no page with the key."""
    program = shutil.which("chromium")
    profile = tmp_path / "profile"
    context = chromium.browser_type.launch_persistent_context(
        profile, executable_path=program, args=["--no-sandbox"], base_url=server.http_url, accept_downloads=True
    )
    page = context.new_page()
    page.goto("/console/sign-in")
    page.fill("#token", server.token)
    page.get_by_role("button", name="Sign in").click()
    page.goto("/console/playground/aws/CreateKeysAndCertificate")
    try_it(page)
    page.get_by_text("Show the private key once").click()
    key = page.locator("#secret-1").inner_text()
    save(page, "Save private.key", tmp_path)
    page.goto("/console/")
    with pytest.raises(Error, match="ERR_CACHE_MISS"):  # the browser would have to send the form again
        page.go_back()
    page.close()
    page = context.new_page()
    page.goto("/console/")
    kept = page.evaluate("JSON.stringify([localStorage, sessionStorage, history.state])")
    assert set(json.loads(kept)[1]) <= {"htmx-current-path-for-history"}, kept
    assert "PRIVATE" not in kept
    context.close()
    lines = [line.encode() for line in key.splitlines()[1:4]]
    files = [each for each in profile.rglob("*") if each.is_file()]
    assert len(files) > 20
    found = [each for each in files if any(line in each.read_bytes() for line in lines)]
    assert found == []


@BOTH
def test_add_certificate_by_pasting(
    open_console: Callable[..., Page], server: RunningServer, devices: dict[str, str], tmp_path: Path, has_script: bool
) -> None:
    pair = Pair(tmp_path, "pasted")
    page = open_console(ADD, java_script_enabled=has_script)
    assert page.locator("#field-device_id option", has_text=devices["pump"]).count() == 0
    page.get_by_label("Registry of the device").select_option(devices["second"])
    if not has_script:
        page.get_by_role("button", name="Show its devices").click()
    page.locator("#field-device_id option", has_text=devices["pump"]).wait_for(state="attached")
    page.locator("#field-device_id").select_option(devices["pump"])
    page.locator("#field-certificateData").fill(pair.pem)
    try_it(page)
    page.get_by_text("The call is done: 200 OK").wait_for()
    assert page.get_by_role("img", name="The Operation is done, with a response").count() == 1
    assert fact(page, "Audit record", "Event") == "yandex.cloud.audit.iot.devices.AddDeviceCertificate"
    assert page.locator("#field-device_id").input_value() == devices["pump"]
    with connected(server, pair) as client:
        assert client.publish(f"$devices/{devices['pump']}/events")
    try_it(page)
    page.get_by_role("alert").wait_for()
    assert "ALREADY_EXISTS" in page.get_by_role("alert").inner_text()


def test_add_certificate_with_a_pair_that_the_browser_made(
    open_console: Callable[..., Page], server: RunningServer, devices: dict[str, str], tmp_path: Path
) -> None:
    page = open_console(f"{ADD}?device_id={devices[EVIL]}")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    page.get_by_role("button", name="Make a test pair in the browser").click()
    page.get_by_text("The certificate is in the field.").wait_for()
    try_it(page)
    page.get_by_text("Save the private key first").wait_for()
    assert page.url.endswith(f"device_id={devices[EVIL]}")
    saved = Saved(save(page, "Save the certificate", tmp_path), save(page, "Save the private key", tmp_path))
    certificate = x509.load_pem_x509_certificate(saved.certificate.read_bytes())
    key = load_pem_private_key(saved.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == certificate.public_key()
    certificate.verify_directly_issued_by(certificate)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    assert certificate.signature_hash_algorithm is not None
    assert certificate.version is x509.Version.v3
    try_it(page)
    page.get_by_text("The call is done: 200 OK").wait_for()
    assert any("BEGIN+CERTIFICATE" in each for each in sent)
    assert not any("PRIVATE" in each for each in sent)
    with connected(server, saved) as client:
        assert client.publish(f"$devices/{devices[EVIL]}/events")


def test_pairs_are_well_formed_every_time(open_console: Callable[..., Page]) -> None:
    """Serial numbers, and the two numbers of a signature, need a leading zero sometimes."""
    page = open_console(ADD)
    make = "async () => { const all = []; while (all.length < 600) all.push(await makePair()); return all; }"
    for made in page.evaluate(make):
        certificate = x509.load_pem_x509_certificate(made["certificate"].encode())
        certificate.verify_directly_issued_by(certificate)
        assert 0 < certificate.serial_number < 1 << 127


def test_a_certificate_is_read_from_a_file(
    open_console: Callable[..., Page], devices: dict[str, str], tmp_path: Path
) -> None:
    pair = Pair(tmp_path, EVIL.replace("/", "-"))
    page = open_console("/playground/yandex/RegistryService.AddCertificate")
    page.locator("#field-registry_id").select_option(devices["first"])
    choose = page.locator("input[type=file]")
    choose.set_input_files(pair.key)
    page.get_by_text("The file has a private key.").wait_for()
    large = tmp_path / "large.pem"
    large.write_text("a" * 70_000)
    choose.set_input_files(large)
    page.get_by_text("The file has more than 64 KB.").wait_for()
    assert page.locator("#field-certificateData").input_value() == ""
    choose.set_input_files(pair.certificate)
    page.get_by_text("is in the field.").wait_for()
    try_it(page)
    page.get_by_text("The call is done: 200 OK").wait_for()
    assert not page.evaluate("window.changed")


def test_certificates_of_the_browser_authenticate_in_tls(
    open_console: Callable[..., Page], server: RunningServer, devices: dict[str, str], tmp_path: Path
) -> None:
    """A pair for a registry, read back from the page by OpenSSL, which is stricter about DER than a browser."""
    page = open_console("/playground/yandex/RegistryService.AddCertificate")
    page.locator("#typed-registry_id").evaluate("each => { each.closest('details').open = true }")
    page.locator("#typed-registry_id").fill(devices["first"])
    page.get_by_role("button", name="Make a test pair in the browser").click()
    page.get_by_text("The certificate is in the field.").wait_for()
    saved = Saved(save(page, "Save the certificate", tmp_path), save(page, "Save the private key", tmp_path))
    context = ssl.create_default_context(cafile=server.ca)
    context.load_cert_chain(saved.certificate, saved.key)
    with (
        socket.create_connection(("127.0.0.1", server.ports["mqtt"]), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        assert secured.version() in ("TLSv1.2", "TLSv1.3")
    try_it(page)
    page.get_by_text("The call is done: 200 OK").wait_for()
    assert devices["first"] in fact(page, "Answer", "Request")


@BOTH
def test_the_record_of_a_read_is_shown(open_console: Callable[..., Page], has_script: bool) -> None:
    page = open_console("/playground/aws/DescribeEndpoint", java_script_enabled=has_script)
    try_it(page)
    page.get_by_text("The call is done: 200 OK").wait_for()
    if has_script:
        page.get_by_text("The whole record").wait_for(timeout=60_000)
        assert fact(page, "Audit record", "Event") == "DescribeEndpoint"
        return
    page.get_by_role("link", name="Look for the record").click()
    for _ in range(600):
        if page.get_by_text("The whole record").count():
            break
        page.wait_for_timeout(100)
        page.reload()
    assert "DescribeEndpoint" in page.locator("#record").inner_text()


def checked(page: Page, title: str) -> None:
    """Checks the open page: with all its parts open it has no violation and does not scroll sideways."""
    assert title in page.title()
    for details in page.locator("main details").all():
        details.evaluate("each => each.open = true")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), title
    if AXE.exists():
        assert violations(page) == [], title
    assert not page.evaluate("window.changed")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW, ZOOMED], ids=["wide", "narrow", "zoomed"])
def test_answers_have_no_violation_and_do_not_scroll_sideways(
    open_console: Callable[..., Page], devices: dict[str, str], scheme: str, viewport: dict[str, int]
) -> None:
    page = open_console(color_scheme=scheme, viewport=viewport, reduced_motion="reduce")
    page.goto("/console/playground/aws/CreateKeysAndCertificate")
    try_it(page)
    checked(page, "CreateKeysAndCertificate: 200")
    page.goto(f"/console/playground/aws/DescribeThing?thingName={EVIL}")
    try_it(page)
    checked(page, "DescribeThing: 400")
    page.goto(f"/console{ADD}?device_id={devices[EVIL]}")
    page.get_by_role("button", name="Make a test pair in the browser").click()
    page.get_by_text("The certificate is in the field.").wait_for()
    checked(page, "AddCertificate")
    with page.expect_download():
        page.get_by_role("button", name="Save the private key").click()
    try_it(page)
    checked(page, "AddCertificate: 200")
    if not AXE.exists():
        pytest.skip("axe-core was not found: make services fetches it")


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_form_with_an_error_comes_back(open_console: Callable[..., Page], chromium: Browser, viewport: Any) -> None:
    known = open_console()
    # A window of its own: the browser reports the status 400 as an error.
    context = chromium.new_context(storage_state=known.context.storage_state(), viewport=viewport)
    page = context.new_page()
    page.goto(known.url.removesuffix("/console/") + "/console/playground/aws/CreateThing?thingName=pump")
    show(page, "attributePayload").fill('{"attributes": ')
    try_it(page)
    checked(page, "CreateThing: not sent")
    assert "attributePayload is not valid JSON" in page.get_by_role("alert").inner_text()
    assert page.locator("#field-thingName").input_value() == "pump"
    assert page.locator("#field-attributePayload").get_attribute("aria-invalid") == "true"
    page.locator("#field-attributePayload").fill('{"attributes": {"model": "a"}}')
    try_it(page)
    page.get_by_text("The call is done: 200 OK").wait_for()
    context.close()
