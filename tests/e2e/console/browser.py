"""A browser without JavaScript for tests of the console against a real server."""

from __future__ import annotations

import html
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from thingmint.testing import RunningServer

_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]{64})"')


class Browser:
    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.client.get(f"/console{path}", params=query or None)

    def post(self, path: str, **fields: Any) -> httpx.Response:
        """Sends a form with the token of a page."""
        found = _TOKEN.search(self.get("/things").text) or _TOKEN.search(self.get("/").text)
        return self.client.post(f"/console{path}", data={"form_token": found[1] if found else "", **fields})


@contextmanager
def signed_in(server: RunningServer, token: str | None = None) -> Iterator[Browser]:
    headers = {"accept": "text/html", "sec-fetch-site": "same-origin"}
    with httpx.Client(base_url=server.http_url, headers=headers, timeout=30) as client:
        assert client.post("/console/sign-in", data={"token": token or server.token}).status_code == 303
        yield Browser(client)


def text_of(answer: httpx.Response) -> str:
    """The text of a page without its tags, white space as one space."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


def until(what: Callable[[], Any]) -> Any:
    """The first result that is not empty."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError("nothing was found in time")
