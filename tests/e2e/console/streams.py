"""The stream of events of a page, as a browser opens it."""

from __future__ import annotations

import contextlib
import http.client
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.console.browser import Browser
    from thingmint.testing import RunningServer


@contextlib.contextmanager
def stream(server: RunningServer, browser: Browser, name: str = "sessions") -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"], timeout=60)
    cookies = "; ".join(f"{each.name}={each.value}" for each in browser.client.cookies.jar)
    connection.request("GET", f"/console/updates/{name}", headers={"cookie": cookies})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.readline() == b"retry: 3000\n"
    yield answer
    connection.close()
