"""The pages of CAs: this server's, those that accounts register, and when they end."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import allow, document
from tests.e2e.commands import in_process
from tests.e2e.console.browser import Browser, signed_in, text_of
from tests.issuers import new_issuer, pem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from thingmint.testing import RunningServer

EVIL = "a, b+c<script>window.changed=true</script>"


@pytest.fixture
def browser(server: RunningServer) -> Iterator[Browser]:
    with signed_in(server) as browser:
        yield browser


@pytest.fixture(scope="module")
def outsider(server: RunningServer) -> Iterator[Browser]:
    """The browser of another account's administrator."""
    made = in_process("access", "account", "create", "cas", "--data-dir", server.data_dir, "--output", "json")
    with signed_in(server, json.loads(made.stdout)["token"]) as browser:
        yield browser


@pytest.fixture
def ca(iot: Any) -> Iterator[str]:
    """The id of a new CA with two certificates, which ends in 10 days."""
    now = datetime.now(UTC)
    made = new_issuer(EVIL, now=now, begins=now - timedelta(days=30), ends=now + timedelta(days=10))
    id = iot.register_ca_certificate(caCertificate=made.pem, certificateMode="SNI_ONLY", setAsActive=True)
    for name in ("a", "b"):
        iot.register_certificate(certificatePem=pem(made.sign(name)), caCertificatePem=made.pem)
    yield id["certificateId"]
    iot.update_ca_certificate(certificateId=id["certificateId"], newStatus="INACTIVE")
    iot.delete_ca_certificate(certificateId=id["certificateId"])


def answer_to(browser: Browser, path: str, **fields: str) -> str:
    """The text of the page that is shown after a form was sent."""
    sent = browser.post(path, **fields)
    assert sent.status_code == 303, text_of(sent)
    return text_of(browser.client.get(sent.headers["location"]))


def row_of(answer: httpx.Response, id: str) -> str:
    """The text of the row of a table that has the id."""
    (row,) = [each for each in re.findall(r"<tr.*?</tr>", answer.text, re.DOTALL) if id in each]
    return text_of(type(answer)(200, text=row))


@pytest.mark.both_engines
def test_registered_cas(browser: Browser, outsider: Browser, iot: Any, ca: str) -> None:
    listed, shown = browser.get("/cas"), browser.get(f"/cas/{ca}")
    assert row_of(listed, ca) == f"{EVIL} {ca[:12]}… Active 2 Off Ends in 9 d Within 90 days 75 of 100"
    assert text_of(shown).count(EVIL) >= 2
    assert "2 certificates" in text_of(shown)
    for answer in (listed, shown):
        assert EVIL not in answer.text
    assert "2 certificates Clear" in text_of(browser.get("/certificates", ca=ca))
    assert ca not in outsider.get("/cas").text
    assert "No CA is registered" in text_of(outsider.get("/cas"))
    answers = [
        outsider.get(f"/cas/{ca}"),
        outsider.post(f"/cas/{ca}/status", status="INACTIVE"),
        outsider.post(f"/cas/{ca}/registration", automatic="ENABLE"),
    ]
    assert [answer.status_code for answer in answers] == [404] * 3
    assert "The CA certificate is deactivated." in answer_to(browser, f"/cas/{ca}/status", status="INACTIVE")
    assert "registration is on." in answer_to(browser, f"/cas/{ca}/registration", automatic="ENABLE")
    described = iot.describe_ca_certificate(certificateId=ca)["certificateDescription"]
    assert (described["status"], described["autoRegistrationStatus"]) == ("INACTIVE", "ENABLE")
    assert " Inactive 2 Registration Ends" in row_of(browser.get("/cas"), ca)


def test_the_servers_own_certificates(browser: Browser, server: RunningServer) -> None:
    text = text_of(browser.get("/cas"))
    assert "Issues device and claim certificates In the data directory, not encrypted Ends in" in text
    assert re.search(r"Listener CA [^.]* Signs the certificates of the listeners. Clients and devices trust it", text)
    assert "The bar is the part of the validity that has passed." in text
    assert "All names HTTPS, gRPC, MQTT Renewed by the server Ends in" in text
    assert str(server.data_dir) not in text


@pytest.mark.parametrize(
    ("path", "status"),
    [("/cas?page=x", 400), ("/cas/x", 404), ("/cas/" + "g" * 64, 400), ("/cas/" + "0" * 64, 404)],
)
def test_wrong_addresses(browser: Browser, path: str, status: int) -> None:
    assert browser.get(path).status_code == status


def test_wrong_forms(browser: Browser, ca: str) -> None:
    for path in (f"/cas/{ca}/status", f"/cas/{ca}/registration"):
        assert browser.post(path).status_code == 400
        assert browser.post(path, status="X", automatic="X").status_code == 400
        assert browser.client.post(f"/console{path}", data={"status": "INACTIVE"}).status_code == 400


def test_the_pages_need_permissions(server: RunningServer, ca: str, tmp_path: Path) -> None:
    def cli(*arguments: str) -> str:
        return in_process("access", *arguments, "--data-dir", server.data_dir, "--output", "json").stdout

    cli("user", "create", "ca-lister")
    (tmp_path / "policy.json").write_text(
        document(allow("iot:ListCACertificates", ["*"]), allow("iot:ListThings", ["*"]))
    )
    cli("policy", "put", "ca-lister", "--document", str(tmp_path / "policy.json"))
    token = json.loads(cli("token", "create", "user/ca-lister", "--lifetime", "1h"))["token"]
    with signed_in(server, token) as browser:
        assert browser.get("/cas").status_code == 403
        cli("policy", "attach", "user/ca-lister", "--policy", "ca-lister")
        assert " Active \N{EN DASH} Off" in row_of(browser.get("/cas"), ca)
        assert browser.get(f"/cas/{ca}").status_code == 403
        assert browser.post(f"/cas/{ca}/status", status="INACTIVE").status_code == 403
