"""The console of a real server: where it is, and that the APIs beside it answer as before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import boto3
import httpx
import pytest

from tests.e2e.commands import in_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.testing import RunningServer

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8", "sec-fetch-site": "none"}


@pytest.fixture
def browser(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.http_url, headers=BROWSER) as client:
        yield client


def test_the_servers_address_leads_browsers_to_the_console(server: RunningServer, browser: httpx.Client) -> None:
    answer = browser.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/")
    programs = [
        browser.get("/", headers={"accept": "*/*"}),
        browser.post("/"),
        browser.get("/?Action=GetCallerIdentity"),
        browser.get("/", headers={"authorization": f"Bearer {server.token}"}),
    ]
    assert all("location" not in answer.headers for answer in programs)
    assert all(answer.headers["content-type"] != "text/html; charset=utf-8" for answer in programs)
    assert browser.get("/consolex").headers["content-type"] == "application/json"


def test_sts_answers_at_the_same_address(server: RunningServer) -> None:
    env = server.environment()
    sts = boto3.client("sts", **server.boto3_arguments() | {"endpoint_url": env["AWS_ENDPOINT_URL_IOT"]})
    assert sts.get_caller_identity()["Arn"].endswith(":user/administrator")
    sts.close()


@pytest.mark.both_engines
def test_a_link_of_the_command_line_signs_in(server: RunningServer, browser: httpx.Client) -> None:
    made = in_process("console", "--data-dir", server.data_dir, "--output=json")
    link = json.loads(made.stdout)
    assert link["local"].startswith(f"{server.http_url}/console/sign-in/link?link=")
    assert link["url"].startswith(f"{server.api_url}/console/sign-in/link?link=")
    assert "Sign in as administrator" in browser.get(link["local"]).text
    secret = link["local"].partition("link=")[2]
    assert browser.post("/console/sign-in/link", data={"link": secret}).headers["location"] == "/console/"
    assert "<h1>Overview</h1>" in browser.get("/console/").text
    assert secret not in server.output.read_text()


def test_a_link_for_a_user_who_does_not_exist(server: RunningServer) -> None:
    made = in_process("console", "--data-dir", server.data_dir, "--user=bob")
    assert (made.returncode, made.stderr) == (1, "thingmint: user bob does not exist\n")


def test_over_tls_too(server: RunningServer) -> None:
    import ssl

    context = ssl.create_default_context(cafile=str(server.ca))
    with httpx.Client(base_url=server.api_url, headers=BROWSER, verify=context) as client:
        answer = client.post("/console/sign-in", data={"token": server.token})
        assert answer.headers["set-cookie"].startswith(f"__Host-thingmint-{server.ports['api']}-session=")
        assert "<h1>Overview</h1>" in client.get("/console/").text
        assert client.get("/console/", headers={"host": "evil.example"}).status_code == 421


def test_a_large_form_of_a_browser_that_is_not_signed_in(browser: httpx.Client) -> None:
    assert browser.post("/console/sign-in", data={"token": "a" * 2_000_000}).status_code == 400
