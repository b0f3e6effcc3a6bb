"""docs/settings.md says what the settings are: the same groups, order, flags, defaults and descriptions."""

from __future__ import annotations

import inspect
import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from tests.documents import names_in, page, plain, sections, tables
from thingmint.cli.main import init, serve
from thingmint.domain.tls_profiles import TLS_PROFILES
from thingmint.server.reloading import settings_changes
from thingmint.services.quotas import Quotas
from thingmint.settings import LISTENERS, BrokerSettings, ConfigError, Settings, load
from thingmint.settings.bulk import BucketSettings, BulkSettings
from thingmint.settings.console import ConsoleSettings, OidcSettings
from thingmint.settings.functions import FunctionSettings
from thingmint.settings.presence import PresenceSettings
from thingmint.settings.reference import FORMER_NAMES, GROUPS, RELOADED, default_of, example_of, help_of
from thingmint.settings.tables import (
    Endpoint,
    ExportHookSettings,
    ListenerLimits,
    QuotaSettings,
    RateSettings,
    ServerCertificateSettings,
    TlsProfileSettings,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

SECTIONS = sections(page("settings"))
TABLES: list[type[BaseModel]] = [
    BrokerSettings,
    ConsoleSettings,
    Endpoint,
    ExportHookSettings,
    FunctionSettings,
    ListenerLimits,
    OidcSettings,
    PresenceSettings,
    QuotaSettings,
    RateSettings,
    ServerCertificateSettings,
    TlsProfileSettings,
]

NEED_OTHER_KEYS = (FunctionSettings, PresenceSettings)


def flags_of(command: Any) -> set[str]:
    return {name for name in inspect.signature(command).parameters if name in Settings.model_fields}


def rows(section: str, at: int = 0) -> dict[str, dict[str, str]]:
    """A table's rows, by the setting that its first column names."""
    return {names_in(next(iter(row.values())))[0]: row for row in tables(SECTIONS[section])[at]}


def test_each_setting_is_in_one_group_in_the_order_of_the_model() -> None:
    assert [name for names in GROUPS.values() for name in names] == list(Settings.model_fields)


def test_the_page_has_the_groups_in_order() -> None:
    assert [title for title in SECTIONS if title in GROUPS] == list(GROUPS)


@pytest.mark.parametrize("group", GROUPS)
def test_the_table_of_a_group(group: str) -> None:
    found = rows(group)
    assert list(found) == list(GROUPS[group])
    flags = flags_of(serve) | flags_of(init)
    for name, row in found.items():
        flag = f"`--{name.replace('_', '-')}`" if name in flags else ""
        assert (row["flag"], row["variable"]) == (flag, f"`THINGMINT_{name.upper()}`")
        assert plain(row["default"]) == default_of(name), name
        assert plain(row["what it does"]).startswith(str(Settings.model_fields[name].description)), name
        assert row["SIGHUP"] == ("yes" if name in RELOADED else ""), name


def test_sighup_puts_in_force_what_the_page_marks() -> None:
    nothing: Any = None
    changes = settings_changes(nothing, nothing)
    assert {name for names in changes for name in names} == RELOADED


@pytest.mark.parametrize(
    ("section", "at", "model"),
    [
        ("TLS", 1, TlsProfileSettings),
        ("Your own server certificates", 0, ServerCertificateSettings),
        ("Endpoints", 0, Endpoint),
        ("Hooks", 0, FunctionSettings),
        ("Presence", 0, PresenceSettings),
        ("Export hooks", 0, ExportHookSettings),
        ("Bulk registration", 0, BucketSettings),
        ("Bulk registration", 1, BulkSettings),
        ("Rates of devices", 0, RateSettings),
        ("Broker", 1, BrokerSettings),
        ("Quotas", 0, QuotaSettings),
        ("Connections", 0, ListenerLimits),
        ("Console", 1, ConsoleSettings),
        ("Console", 2, OidcSettings),
    ],
)
def test_the_table_of_a_setting_that_is_a_table(section: str, at: int, model: type[BaseModel]) -> None:
    found = rows(section, at)
    assert list(found) == list(model.model_fields)
    for name, row in found.items():
        assert str(model.model_fields[name].description) in map(plain, row.values()), name
        if "default" in row and model in (BrokerSettings, Endpoint) and row["default"]:
            assert plain(row["default"]) == str(model.model_fields[name].default or "none").lower()


def test_the_numbers_of_quotas() -> None:
    for limits in ("generous", "aws"):
        quotas = load({"limits": limits}).quotas_in_force()
        for name, row in rows("Quotas").items():
            number = getattr(quotas, name)
            assert row[f"`{limits}`"] == ("none" if number is None else f"{number:,}"), name
    assert Quotas() == load({}).quotas_in_force()


def test_the_numbers_of_connections() -> None:
    settings = load({})
    for name, row in rows("Connections").items():
        limits = [getattr(settings.connection_limits(listener), name) for listener in LISTENERS]
        assert [row[f"`{listener}`"] for listener in LISTENERS] == [f"{limit:,}" for limit in limits]


def test_the_numbers_of_rates() -> None:
    for name, row in rows("Rates of devices").items():
        assert row["default"].partition(", ")[0] == f"{getattr(load({}).rates_in_force(), name):,}"


def test_the_profiles_of_tls() -> None:
    assert list(rows("TLS")) == list(TLS_PROFILES)


def test_former_names_on_the_page() -> None:
    found = {names_in(row["former name"])[0]: names_in(row["today"])[0] for row in tables(SECTIONS["Former names"])[0]}
    assert found == FORMER_NAMES
    assert set(FORMER_NAMES.values()) <= set(Settings.model_fields)
    assert not set(FORMER_NAMES) & set(Settings.model_fields)


def test_the_example_of_the_file() -> None:
    text = page("settings").partition("```toml\n")[2].partition("```")[0]
    assert set(tomllib.loads(text)) <= set(Settings.model_fields)


def test_help_has_the_description_and_the_default() -> None:
    assert help_of("mqtt_port") == "The port for devices (MQTT with TLS). 0 picks a free port. (default: 8883)"


@pytest.mark.parametrize("model", [Settings, *TABLES])
def test_each_setting_has_a_description(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize("name", [name for name, field in Settings.model_fields.items() if field.examples])
def test_examples_are_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    example = example_of(Settings.model_fields[name], in_file=False)
    if example is None:  # a duration, which the message shows
        example = str((Settings.model_fields[name].examples or [])[0])
    monkeypatch.setenv(f"THINGMINT_{name.upper()}", example)
    assert getattr(load({}), name) is not None
    written = example_of(Settings.model_fields[name], in_file=True)
    if written is not None and written.startswith(("{", "[")):
        assert json.dumps(tomllib.loads(f"value = {written}")["value"]) == example


@pytest.mark.parametrize("model", [each for each in TABLES if each not in NEED_OTHER_KEYS])
def test_examples_of_tables_are_accepted(model: type[BaseModel]) -> None:
    required = {
        name: field.examples[0] for name, field in model.model_fields.items() if field.is_required() and field.examples
    }
    for name, field in model.model_fields.items():
        if field.examples and not name.endswith("_file"):
            assert getattr(model(**required | {name: field.examples[0]}), name) is not None


def test_a_former_name_answers_with_the_new_one(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for old, new in FORMER_NAMES.items():
        (tmp_path / "thingmint.toml").write_text(f"{old} = []")
        with pytest.raises(ConfigError) as caught:
            load({})
        assert str(caught.value) == f"{old}: is now called {new} (in thingmint.toml)"
        (tmp_path / "thingmint.toml").unlink()
        monkeypatch.setenv(f"THINGMINT_{old.upper()}", "[]")
        with pytest.raises(ConfigError) as caught:
            load({})
        assert str(caught.value) == f"THINGMINT_{old.upper()}: is now called THINGMINT_{new.upper()}"


def test_a_former_name_in_a_table_is_only_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    for old in FORMER_NAMES:
        monkeypatch.setenv(f"THINGMINT_QUOTAS__{old.upper()}", "[]")
        with pytest.raises(ConfigError, match="is not a setting"):
            load({})
        monkeypatch.undo()
