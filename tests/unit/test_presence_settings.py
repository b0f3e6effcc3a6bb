"""The setting presence: what can be a hook, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from thingmint.settings import ConfigError, load
from thingmint.settings.presence import presence_hook

if TYPE_CHECKING:
    from pathlib import Path

HOOK = {"url": "https://presence.example.org/events", "secret": "x"}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"url": "ftp://presence.example.org"}, "url must be an http or https URL"),
        ({"url": "https://user@presence.example.org"}, "without a user name"),
        ({"secret": ""}, "needs a secret"),
        ({"secret": None}, "needs a secret"),
        ({"secret_file": "secret"}, "not both"),
        ({"url": "http://localhost:1", "ca_file": "ca.pem"}, "ca_file is for https URLs only"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_what_is_refused(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load({"presence": HOOK | changed})


def test_the_files_are_read_at_start(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    settings = load({"presence": {"url": HOOK["url"], "secret_file": str(secret)}})
    with pytest.raises(ConfigError, match="a file of it cannot be used"):
        presence_hook(settings.presence)
    secret.write_text(" s3cret\n")
    function = presence_hook(settings.presence)
    assert function is not None
    assert function.signing_secret() == b"s3cret"


def test_there_is_no_hook_by_default() -> None:
    assert presence_hook(load({}).presence) is None
    assert "secret" not in repr(presence_hook(load({"presence": HOOK}).presence)).replace("secret_file", "")
