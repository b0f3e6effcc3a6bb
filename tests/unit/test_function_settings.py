"""The setting hooks.functions: what a function is, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thingmint.services.function_calls import Function
from thingmint.settings import ConfigError, load

ACCOUNTS = ["123456789012"]
URL = {"url": "https://hooks.example.org/check", "secret": "s3cr3t", "accounts": ACCOUNTS}
PYTHON = {"entry_point": "check", "accounts": ACCOUNTS}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def functions(**given: Any) -> dict[str, Function]:
    return dict(load({"hooks": {"functions": given}}).functions_in_force().by_name)


def refused(hooks: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load({"hooks": hooks}).functions_in_force()
    assert "\n" not in str(caught.value).strip()
    assert "s3cr3t" not in str(caught.value)
    return caught.value


def test_all_from_the_file(folder: Path) -> None:
    (folder / "secret").write_text("s3cr3t\n")
    (folder / "thingmint.toml").write_text(
        "[hooks]\n'arn:aws:lambda:us-east-1:123456789012:function:old' = 'http://old.example.org/'\n"
        "[hooks.functions.check]\nurl = 'https://hooks.example.org/'\nsecret_file = 'secret'\n"
        "accounts = ['123456789012', '210987654321']\n"
        "[hooks.functions.serials]\nentry_point = 'package.module:serials'\naccounts = ['123456789012']\n"
    )
    found = load({}).functions_in_force()
    assert found.by_name == {
        "check": Function(
            "check",
            frozenset({"123456789012", "210987654321"}),
            "https://hooks.example.org/",
            secret_file=Path("secret"),
        ),
        "serials": Function("serials", frozenset(ACCOUNTS), entry_point="package.module:serials"),
    }
    assert found.by_name["check"].signing_secret() == b"s3cr3t"
    [old] = found.by_arn.values()
    assert (old.url, old.accounts, old.signing_secret()) == ("http://old.example.org/", None, None)


def test_a_secret_is_not_in_a_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load({"hooks": {"functions": {"check": URL}}})
    found = settings.functions_in_force()
    assert found.by_name["check"].signing_secret() == b"s3cr3t"
    assert "s3cr3t" not in f"{settings!r}{settings}{found!r}"


@pytest.mark.parametrize(
    "wrong",
    [
        *({"url": url} for url in ("", "ftp://x/", "//x", "x", "https:///x", "https://[", "https://u:p@x/")),
        *({"url": url} for url in ("https://x:y/", "https://x:99999/", "https://x/#a")),
        *({"accounts": accounts} for accounts in ([], ["1"], "123456789012", ["123456789012\n"], [123456789012], None)),
        *({"secret": secret} for secret in ("", None, 5, True, "s3cr3t\0")),
        {"secret_file": "secret"},
        {"url": None},
        {"entry_point": "check"},
        {"url": "http://localhost/", "ca_file": "ca"},
    ],
)
def test_what_cannot_be_a_function(wrong: dict[str, Any]) -> None:
    assert refused({"functions": {"check": URL | wrong}}).setting.startswith("hooks.functions.check")


@pytest.mark.parametrize("wrong", [{"secret": "s3cr3t"}, {"secret_file": "x"}, {"ca_file": "x"}, {"entry_point": ""}])
def test_what_cannot_be_a_python_function(wrong: dict[str, Any]) -> None:
    assert refused({"functions": {"check": PYTHON | wrong}}).setting.startswith("hooks.functions.check")


@pytest.mark.parametrize("name", ["", "a b", "a:b", "x" * 65, "\u00e9"])
def test_a_function_has_the_name_of_a_lambda_function(name: str) -> None:
    assert refused({"functions": {name: PYTHON}}).setting.startswith("hooks.functions.")


@pytest.mark.parametrize("file", ["secret_file", "ca_file"])
@pytest.mark.parametrize("content", [None, b"", b"\n"])
def test_a_file_that_cannot_be_used_is_a_mistake(folder: Path, file: str, content: bytes | None) -> None:
    if content is not None:
        (folder / "file").write_bytes(content)
    given = {"url": URL["url"], "accounts": ACCOUNTS, file: "file"}
    error = refused({"functions": {"check": given if file == "secret_file" else given | {"secret": "s3cr3t"}}})
    assert "a file of it cannot be used" in str(error)


def test_a_misspelled_table_says_what_can_be_there() -> None:
    assert "functions" in str(refused({"function": {"check": URL}}))
    assert "did you mean secret_file?" in str(refused({"functions": {"check": URL | {"secret_fil": "x"}}}))
