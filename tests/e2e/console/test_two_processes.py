"""Two processes on one database: the overview counts the devices of both, and its stream tells of both."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.e2e.conftest import iot_client
from tests.e2e.console.browser import signed_in, text_of, until
from tests.e2e.console.streams import stream
from tests.e2e.databases import connected, device, several

if TYPE_CHECKING:
    from pathlib import Path


def test_two_processes_count_their_devices_together(tmp_path: Path, url: str) -> None:
    with several(tmp_path, url) as (first, second), contextlib.ExitStack() as stack:
        made = device(tmp_path, iot_client(first))
        browsers = [stack.enter_context(signed_in(server)) for server in (first, second)]

        def shown() -> list[bool]:
            return [f"Connected now {count}" in text_of(browser.get("/")) for browser in browsers]

        count = 0
        assert all(shown())
        streams = [
            stack.enter_context(stream(server, browser))
            for server, browser in zip((first, second), browsers, strict=True)
        ]
        with connected(first, made, "lamp"), connected(second, made, "shade"), connected(second, made, "pump"):
            count = 3
            until(lambda: all(shown()))
            for opened in streams:
                assert [opened.readline() for _ in range(2)][1] == b"event: connections\n"
            second.kill()
            count = 1
            until(lambda: f"Connected now {count}" in text_of(browsers[0].get("/")))


def test_pages_of_one_process_follow_what_another_one_does(tmp_path: Path, url: str) -> None:
    with several(tmp_path, url) as (first, second), contextlib.ExitStack() as stack:
        browser = stack.enter_context(signed_in(first))
        iot = iot_client(second)
        made = iot.create_keys_and_certificate()["certificateId"]
        one = device(tmp_path, iot)
        opened = {
            name: stack.enter_context(stream(first, browser, path))
            for name, path in (
                ("certificates", "certificates"),
                ("certificate", f"certificate?of={made}"),
                ("connections", "session?of=lamp"),
            )
        }
        for each in opened.values():
            each.readline()
        iot.create_keys_and_certificate()
        assert opened["certificates"].readline() == b"event: certificates\n"
        iot.update_certificate(certificateId=made, newStatus="ACTIVE")
        assert opened["certificate"].readline() == b"event: certificates\n"
        with connected(second, one, "lamp"):
            assert opened["connections"].readline() == b"event: connections\n"
