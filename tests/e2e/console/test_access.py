"""The pages of access and audit: principals with keys and policies, and the search of the audit log."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import allow, document
from tests.e2e.commands import in_process
from tests.e2e.console.browser import Browser, signed_in, text_of, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thingmint.testing import RunningServer

EVIL = "<script>window.changed=true</script>"
LISTS = ["/access", "/access/roles", "/access/service-accounts", "/access/policies", "/access/audit"]


@pytest.fixture
def browser(server: RunningServer) -> Iterator[Browser]:
    with signed_in(server) as browser:
        yield browser


@pytest.fixture(scope="module")
def outsider(server: RunningServer) -> Iterator[Browser]:
    """The browser of another account's administrator."""
    made = in_process("access", "account", "create", "readers", "--data-dir", server.data_dir, "--output", "json")
    with signed_in(server, json.loads(made.stdout)["token"]) as browser:
        yield browser


def cli(server: RunningServer, *arguments: str) -> str:
    return in_process("access", *arguments, "--data-dir", server.data_dir, "--output", "json").stdout


@pytest.fixture(scope="module")
def clerk(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The token of a user with a policy of its own, and a description that looks like markup."""
    file: Path = tmp_path_factory.mktemp("policy") / "policy.json"
    file.write_text(document(allow("thingmint:ListUsers", ["*"]), allow("iot:ListThings", ["*"])))
    cli(server, "user", "create", "clerk")
    cli(server, "policy", "put", "clerks", "--document", str(file))
    cli(server, "policy", "attach", "user/clerk", "--policy", "clerks")
    made = cli(server, "token", "create", "user/clerk", "--lifetime", "1h", "--description", EVIL)
    token: str = json.loads(made)["token"]
    return token


@pytest.mark.both_engines
def test_a_principal_with_its_keys_and_policies(
    server: RunningServer, browser: Browser, outsider: Browser, clerk: str
) -> None:
    assert "clerk Active" in text_of(browser.get("/access"))
    made = "CreateUser Done the server's own machine user/clerk"
    assert until(lambda: made in text_of(browser.get("/access/audit", event="CreateUser")))
    with signed_in(server, clerk) as own:
        shown = browser.get("/access/user/clerk")
        text = text_of(shown)
        assert f"{EVIL} API token Active" in text
        assert clerk not in shown.text
        assert EVIL not in shown.text
        assert "Policies clerks" in text
        assert own.get("/access").status_code == 200
        for path in (*LISTS[1:], "/access/user/clerk", "/access/policy?name=clerks"):
            assert own.get(path).status_code == 403, path
        assert "/console/access/policies" not in own.get("/access").text
    assert "thingmint:ListUsers" in text_of(browser.get("/access/policy", name="clerks"))
    assert "clerk" not in text_of(outsider.get("/access")).replace("clerks", "")
    assert outsider.get("/access/user/clerk").status_code == 404
    assert outsider.get("/access/policy", name="clerks").status_code == 404
    assert "has no policy of its own" in text_of(outsider.get("/access/policies"))


def test_the_trust_policy_of_a_role(server: RunningServer, browser: Browser, tmp_path: Path) -> None:
    """Only callers that may list roles see whom a role trusts."""
    trusted = {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}
    (tmp_path / "trust.json").write_text(document(trusted))
    (tmp_path / "policy.json").write_text(document(allow("thingmint:ListAttachedRolePolicies", ["*"])))
    cli(server, "role", "create", "trusting", "--trust-policy", str(tmp_path / "trust.json"))
    assert "sts:AssumeRole" in text_of(browser.get("/access/role/trusting"))
    cli(server, "user", "create", "looker")
    cli(server, "policy", "put", "lookers", "--document", str(tmp_path / "policy.json"))
    cli(server, "policy", "attach", "user/looker", "--policy", "lookers")
    token = json.loads(cli(server, "token", "create", "user/looker", "--lifetime", "1h"))["token"]
    with signed_in(server, token) as looker:
        text = text_of(looker.get("/access/role/trusting"))
        assert "Role, made" in text
        assert "sts:AssumeRole" not in text


def test_the_lists(browser: Browser) -> None:
    for path in LISTS:
        assert browser.get(path).status_code == 200, path
    name = re.findall(r'name=(thingmint%2F\w+)"', browser.get("/access/policies").text)[0]
    assert "Statement" in text_of(browser.get(f"/access/policy?name={name}"))


@pytest.mark.both_engines
def test_the_audit_log_is_searched_in_pages(browser: Browser, outsider: Browser, iot: Any) -> None:
    names = [f"searched-{number}" for number in range(60)]
    for name in names:
        iot.create_thing(thingName=name, attributePayload={"attributes": {}})

    def found() -> bool:
        return names[-1] in browser.get("/access/audit", event="CreateThing").text

    assert until(found)
    first = browser.get("/access/audit", event="CreateThing", outcome="success")
    assert "50 records, and there are more" in text_of(first)
    (after,) = re.findall(r'href="/console(/access/audit[^"]*page=[^"]*)"', first.text)
    second = browser.get(after.replace("&amp;", "&"))
    assert names[5] in second.text
    assert names[-1] not in second.text
    resource = re.findall(r'title="(arn:aws:iot:[^"]*searched-59)"', first.text)[0]
    about = browser.get("/access/audit", q=resource)
    assert text_of(about).count("CreateThing Done") == 1
    assert "searched-" not in outsider.get("/access/audit", event="CreateThing").text
    assert "No record matches" in text_of(outsider.get("/access/audit", q=resource))
    evil = browser.get("/access/audit", q=EVIL, by="client_id", event=EVIL)
    assert EVIL not in evil.text
    assert evil.status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/access?page=x", 400),
        ("/access/policies?page=x", 400),
        ("/access/audit?page=x", 400),
        ("/access/audit?by=x", 400),
        ("/access/audit?outcome=x", 400),
        ("/access/audit?days=x", 400),
        ("/access/audit?q=" + "a" * 2049, 400),
        ("/access/audit?q=x&by=certificate", 200),
        ("/access/audit?q=%00", 400),
        ("/access/user/no-such", 404),
        ("/access/role/%3Cscript%3E", 404),
        ("/access/policy", 404),
        ("/access/policy?name=yandex/no.such", 404),
    ],
)
def test_wrong_addresses(browser: Browser, path: str, status: int) -> None:
    assert browser.get(path).status_code == status
