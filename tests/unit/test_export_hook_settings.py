"""The setting export_hooks: what can be a hook, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thingmint.http.memory import MIB
from thingmint.services.export_hooks import ExportHook
from thingmint.settings import ConfigError, load


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(hook: dict[str, Any]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load({"export_hooks": {"a": hook}})
    assert "\n" not in str(caught.value).strip()
    return caught.value


EXPORT_HOOK = {"database": "d", "stream": "s", "url": "https://example.org/records"}


def test_defaults() -> None:
    hooks = load({"export_hooks": {"a": EXPORT_HOOK}}).export_hooks_in_force()
    assert hooks == {("d", "s"): ExportHook("d", "s", "https://example.org/records", 1, 1.0, 64 * MIB)}


def test_all_from_the_file(folder: Path) -> None:
    (folder / "token").write_text("secret")
    (folder / "thingmint.toml").write_text(
        "[export_hooks.a]\ndatabase = 'd'\nstream = 's'\nurl = 'http://localhost:9/x?y=z'\nbatch = 10\n"
        "cutoff = '1m'\nqueue_bytes = 1048576\ntoken_file = 'token'\n"
    )
    [hook] = load({}).export_hooks_in_force().values()
    assert (hook.url, hook.batch, hook.cutoff, hook.queue_bytes) == ("http://localhost:9/x?y=z", 10, 60.0, MIB)
    assert hook.token_file == Path("token")


@pytest.mark.parametrize(
    "wrong",
    [
        *({"url": url} for url in ("", "ftp://x/", "//x", "x", "http:", "https:///x", "http://[", "https://u:p@x/")),
        *({"batch": number} for number in (0, 11, -1, "x", True, 1.5)),
        *({"cutoff": time} for time in ("0s", "0.5s", "61s", "x", "")),
        *({"queue_bytes": number} for number in (0, MIB - 1, -MIB, "x")),
        {"url": "http://example.org/", "token_file": "token"},
        {"url": "http://localhost/", "ca_file": "ca"},
        *({name: ""} for name in EXPORT_HOOK),
        *({name: "a\0b"} for name in EXPORT_HOOK),
    ],
)
def test_what_cannot_be_a_hook(wrong: dict[str, Any]) -> None:
    error = refused(EXPORT_HOOK | wrong)
    assert error.setting.startswith("export-hooks")
    assert "pydantic" not in str(error)


def test_keys_that_a_hook_does_not_have() -> None:
    assert "token: is not a setting" in str(refused(EXPORT_HOOK | {"token": "secret"}))


@pytest.mark.parametrize("missing", EXPORT_HOOK)
def test_what_a_hook_must_have(missing: str) -> None:
    given = {name: value for name, value in EXPORT_HOOK.items() if name != missing}
    assert missing in str(refused(given))


def test_a_stream_has_one_hook() -> None:
    same = EXPORT_HOOK | {"url": "https://example.com/"}
    with pytest.raises(ConfigError, match="one hook"):
        load({"export_hooks": {"a": EXPORT_HOOK, "b": same}})
    # The two texts together are the same, the streams are not.
    load({"export_hooks": {"a": EXPORT_HOOK | {"stream": "d/s"}, "b": EXPORT_HOOK | {"database": "d/d"}}})


@pytest.mark.parametrize("name", ["token_file", "ca_file"])
@pytest.mark.parametrize("content", [None, b"\xff"])
def test_files_that_are_none(folder: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (folder / "file").write_bytes(content)
    settings = load({"export_hooks": {"a": EXPORT_HOOK | {name: "file"}}})
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        settings.export_hooks_in_force()
    assert caught.value.setting == "export-hooks"
