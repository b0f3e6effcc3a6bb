"""Reads the settings, and reports all mistakes in one line."""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict, SettingsError

from thingmint.domain.validation import described
from thingmint.settings.bulk import BulkSettings
from thingmint.settings.functions import FunctionSettings
from thingmint.settings.presence import PresenceSettings
from thingmint.settings.reference import FORMER_NAMES, bounds_of, example_of, field_at, kind_of
from thingmint.settings.settings import PREFIX, Settings
from thingmint.settings.tables import (
    NOT_A_SWITCH,
    BrokerSettings,
    ConnectionSettings,
    Endpoint,
    ListenerLimits,
    QuotaSettings,
    RateSettings,
    ServerCertificateSettings,
    TlsProfileSettings,
)
from thingmint.settings.values import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

_FILE_NAME = "thingmint.toml"
# Variables with the prefix that are not settings: the path of the file, and those that clients read.
_CONFIG = "THINGMINT_CONFIG"
_FOR_CLIENTS = "THINGMINT_YC_"


def load(flags: Mapping[str, Any], config: Path | None = None) -> Settings:
    """Returns the settings in force; a flag that is None was not given. Raises ConfigError with all mistakes."""
    _refuse_unknown_variables(os.environ)
    file = _config_file(config)

    class Configured(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    try:
        return Configured(**{name: value for name, value in flags.items() if value is not None})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), f"is not valid TOML: {error}") from None
    except SettingsError as error:
        field = str(error).partition('"')[2].partition('"')[0]  # it has no attribute with the name
        words = f"must be a table or a list, written as JSON{_example((field,), in_file=False)}"
        raise ConfigError(field.replace("_", "-") or "config", f"{words}{_source(field, flags, file)}") from None
    except ValidationError as error:
        found = [_mistake(each, flags, file) for each in error.errors(include_url=False, include_input=False)]
        first, *further = dict.fromkeys(found)
        raise ConfigError(first[0], "; ".join([first[1], *(f"{name}: {what}" for name, what in further)])) from None


def _mistake(error: ErrorDetails, flags: Mapping[str, Any], file: Path | None) -> tuple[str, str]:
    """Returns the setting's name and what is wrong with it, with the flag, variable or file that it is from."""
    name = ".".join(str(part) for part in error["loc"] if part != "[key]")
    source = _source(str(error["loc"][0]), flags, file) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        if new_name := FORMER_NAMES.get(name):
            return name, f"is now called {new_name}{source}"
        part = ListenerLimits if name.startswith("connections.") else _PARTS.get(name.partition(".")[0], Settings)
        return name, f"is not a setting{_suggestion(str(error['loc'][-1]), part)}{source}"
    return name.replace("_", "-"), f"{_accepted(error, in_file=source.startswith(' (in '))}{source}"


def _accepted(error: ErrorDetails, *, in_file: bool) -> str:
    """Returns what the value must be, with an example."""
    words, field = described(error), field_at(error["loc"])
    if field is None or error["type"] == "missing":
        return words
    if words == NOT_A_SWITCH:
        words = kind_of(field)
    elif error["type"].startswith(("int_", "time_delta_")):
        words += bounds_of(field)
    return words if "such as" in words else f"{words}{_example(error['loc'], in_file=in_file)}"


def _example(path: Sequence[int | str], *, in_file: bool) -> str:
    field = field_at(path)
    example = example_of(field, in_file=in_file) if field is not None else None
    return f", for example {example}" if example is not None else ""


def _source(name: str, flags: Mapping[str, Any], file: Path | None) -> str:
    if flags.get(name) is not None:
        return f" (--{name.replace('_', '-')})"
    variable = f"{PREFIX}{name}".upper()
    variables = [each for each in os.environ if each.upper() == variable or each.upper().startswith(f"{variable}__")]
    if variables:
        return f" ({', '.join(sorted(variables))})"
    return f" (in {file})" if file is not None else ""


_PARTS: dict[str, type[BaseModel]] = {
    "broker": BrokerSettings,
    "bulk": BulkSettings,
    "connections": ConnectionSettings,
    "endpoints": Endpoint,
    "hooks": FunctionSettings,
    "mqtt_rates": RateSettings,
    "presence": PresenceSettings,
    "quotas": QuotaSettings,
    "server_certificates": ServerCertificateSettings,
    "tls_profile": TlsProfileSettings,
}
"""The settings that are tables with keys of their own."""
_SET_BY_VARIABLES: dict[tuple[type[BaseModel], str], type[BaseModel]] = {
    (Settings, "quotas"): QuotaSettings,
    (Settings, "connections"): ConnectionSettings,
    (Settings, "mqtt_rates"): RateSettings,
    (Settings, "tls_profile"): TlsProfileSettings,
    **{(ConnectionSettings, listener): ListenerLimits for listener in ConnectionSettings.model_fields},
}
"""The tables whose keys can be variables of their own, by the model and the field that they are in."""


def _config_file(named: Path | None) -> Path | None:
    if named is None and (variable := os.environ.get(_CONFIG)):
        named = Path(variable)
    if named is not None:
        if not named.is_file():
            raise ConfigError("config", f"there is no file {named}")
        return named
    return Path(_FILE_NAME) if Path(_FILE_NAME).is_file() else None


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    for variable in environment:
        if not variable.startswith(PREFIX) or variable == _CONFIG or variable.startswith(_FOR_CLIENTS):
            continue
        model: type[BaseModel] | None = Settings
        for part in variable.removeprefix(PREFIX).lower().split("__"):
            if model is None:
                raise ConfigError(variable, "is not a setting")
            if model is Settings and (new_name := FORMER_NAMES.get(part)):
                raise ConfigError(variable, f"is now called {PREFIX}{new_name.upper()}")
            if part not in model.model_fields:
                raise ConfigError(variable, f"is not a setting{_suggestion(part, model)}")
            model = _SET_BY_VARIABLES.get((model, part))


def _suggestion(name: str, settings: type[BaseModel] = Settings) -> str:
    close = difflib.get_close_matches(name.replace("-", "_"), settings.model_fields, n=1)
    return f"; did you mean {close[0]}?" if close else ""
