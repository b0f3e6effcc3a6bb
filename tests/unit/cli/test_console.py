"""`thingmint console` says where its links can be opened."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from thingmint.cli import console


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("https://localhost:8443/console", "With HTTPS:        "),
        ("https://[::1]:8443/console", "With HTTPS:        "),
        ("https://iot.example:8443/console", "From other ones:   "),
        ("https://192.0.2.7:8443/console", "From other ones:   "),
    ],
)
def test_a_link_to_this_machine_is_not_called_one_for_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, label: str
) -> None:
    link = {"local": "http://127.0.0.1:8080/console", "url": url, "seconds": 300}
    monkeypatch.setattr("thingmint.admin.call", lambda *_, **__: link)
    monkeypatch.setattr(console, "held", lambda _: (SimpleNamespace(root=None, admin_socket=None), None))
    monkeypatch.setattr(console, "check_exists", lambda _: None)
    console.open_console(output="table")
    assert f"{label}{url}" in capsys.readouterr().out.splitlines()
