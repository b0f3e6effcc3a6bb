"""Settings: flags first, then THINGMINT_* variables, then thingmint.toml, then the defaults here."""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError, TomlConfigSettingsSource

from thingmint.access.sealing import Kept
from thingmint.access.throttle import FailureThrottle, LimitsProfile, Rate
from thingmint.access.vault import MASTER_KEY_BYTES
from thingmint.domain.durations import parse_duration
from thingmint.domain.issuing_ca import RootKeyType
from thingmint.domain.names import is_hostname
from thingmint.http.connection_limits import Limits
from thingmint.http.memory import MIB
from thingmint.logs import LogFormat
from thingmint.mqtt.broker.names import RABBITMQ, STANDARD
from thingmint.mqtt.broker.target import Login, Target, tls_context
from thingmint.mqtt.broker.upstream import Upstream
from thingmint.mqtt.rates import NO_RATES, Rates
from thingmint.services.quotas import MAX_PROBED, NO_QUOTAS, Quotas
from thingmint.store.database import Database, parse_store_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_settings import PydanticBaseSettingsSource


_PREFIX = "THINGMINT_"
_FILE_NAME = "thingmint.toml"
_UNAUTHENTICATED_BURST = 20  # seconds of the rate
# Variables of this prefix that are read by others: where the file is, and what clients are told.
_CONFIG = "THINGMINT_CONFIG"
_FOR_CLIENTS = "THINGMINT_YC_"


class ConfigError(Exception):
    """A setting is wrong. ``setting`` is spelled as the flag is, without dashes in front."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(f"{setting}: {message}")
        self.setting = setting


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]


def _endpoint_name(name: str) -> str:
    name = name.lower().removesuffix(".")
    if not is_hostname(name):
        raise ValueError("must be named by host names, such as iot.example.org")
    return name


def _store_url(url: SecretStr) -> SecretStr:
    parse_store_url(url.get_secret_value())
    return url


def _hook_target(url: str) -> str:
    scheme, separator, rest = url.partition(":")
    if scheme == "entry-point" and rest:
        return url
    parts = urlsplit(url)
    if not separator or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must map ARNs to http or https URLs, or to entry-point:NAME")
    return url


class Endpoint(BaseModel):
    """Whom a host name stands for: devices that name it (SNI) are this account's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    account: str = Field(pattern=r"^[0-9]{12}$")
    region: str = Field(min_length=1)
    cloud: Literal["aws", "yandex"] = "aws"


_Probed = Annotated[int, Field(ge=1, le=MAX_PROBED)] | None
_Counted = Annotated[int, Field(ge=1)] | None
_Rate = Annotated[int, Field(ge=0)] | None


class QuotaSettings(BaseModel):
    """Those that differ from what ``limits`` means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    users: _Probed = None
    roles: _Probed = None
    service_accounts: _Probed = None
    policies: _Probed = None
    folders: _Probed = None
    registries: _Probed = None
    devices: _Counted = None
    certificates: _Counted = None


_MOST_CONNECTIONS = 1_000_000
_Connections = Annotated[int, Field(ge=1, le=_MOST_CONNECTIONS)] | None

Listener = Literal["api", "http", "grpc", "mqtt"]
# All clients of the plain listener share an address, that of this machine.
_CONNECTION_LIMITS: dict[Listener, Limits] = {
    "api": Limits(total=4096, per_address=3072, half_open=2000, half_open_per_address=1500, reserve=512),
    "http": Limits(total=1024, per_address=1024, half_open=1024, half_open_per_address=1024, reserve=0),
    "grpc": Limits(total=2048, per_address=1536, half_open=1000, half_open_per_address=750, reserve=256),
    "mqtt": Limits(),
}
LISTENERS = tuple(_CONNECTION_LIMITS)


class ListenerLimits(BaseModel):
    """Those that differ from the usual ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    total: _Connections = None
    per_address: _Connections = None
    half_open: _Connections = None
    half_open_per_address: _Connections = None
    reserve: Annotated[int, Field(ge=0, le=_MOST_CONNECTIONS)] | None = None


class ConnectionSettings(BaseModel):
    """How many connections there may be, by listener."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api: ListenerLimits = ListenerLimits()
    http: ListenerLimits = ListenerLimits()
    grpc: ListenerLimits = ListenerLimits()
    mqtt: ListenerLimits = ListenerLimits()

    def limits(self, listener: Listener) -> Limits:
        given: ListenerLimits = getattr(self, listener)
        return replace(_CONNECTION_LIMITS[listener], **given.model_dump(exclude_none=True))

    @model_validator(mode="after")
    def _leave_places(self) -> ConnectionSettings:
        for listener in _CONNECTION_LIMITS:
            limits = self.limits(listener)
            if limits.reserve >= limits.total:
                raise ValueError(f"{listener}: reserve must be less than total")
        return self


class RateSettings(BaseModel):
    """What one device may send in a second. Those that differ from what ``limits`` means; 0 is no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    publishes: _Rate = None
    subscribes: _Rate = None
    received: _Rate = None


# The published ones: IAM's of users, roles and customer managed policies in an account.
_AWS_QUOTAS = Quotas(users=5000, roles=1000, policies=1500)


class BrokerSettings(BaseModel):
    """An MQTT broker that carries the devices' messages, in place of the embedded one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    version: Annotated[Literal["5", "3.1.1"], BeforeValidator(str)] = "5"
    dialect: Literal["standard", "rabbitmq"] = "standard"
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> BrokerSettings:
        secure = Target.of(self.url).secure
        if not secure and (self.ca_file or self.certificate_file or self.key_file):
            raise ValueError("ca_file, certificate_file and key_file are for mqtts:// only")
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError("key_file needs a certificate_file")
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs a username")
        return self

    def upstream(self) -> Upstream:
        """Reads the files. Raises ConfigError."""
        target = Target.of(self.url)
        try:
            if target.secure:
                target = replace(target, tls=tls_context(self.ca_file, self.certificate_file, self.key_file))
        except OSError as error:
            raise ConfigError("broker", f"the files for TLS cannot be used: {error}") from None
        password = None
        if self.password_file is not None:
            try:
                password = self.password_file.read_bytes().strip()
            except OSError as error:
                raise ConfigError("broker", f"password_file cannot be read: {error.strerror}") from None
        return Upstream(
            target,
            version=5 if self.version == "5" else 4,
            dialect=RABBITMQ if self.dialect == "rabbitmq" else STANDARD,
            login=Login(self.username, password),
        )


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    data_dir: Path = Path("data")
    store: Annotated[SecretStr, AfterValidator(_store_url)] | None = None
    store_file: Path | None = None
    host: str = "127.0.0.1"
    api_port: int = Field(8443, ge=0, le=65535)
    http_port: int = Field(8080, ge=0, le=65535)
    grpc_port: int = Field(9443, ge=0, le=65535)
    mqtt_port: int = Field(8883, ge=0, le=65535)
    mqtt_alpn_port: int | None = Field(None, ge=0, le=65535)
    mqtt_proxy_socket: Path | None = None
    mqtt_proxy_port: int | None = Field(None, ge=0, le=65535)
    mqtt_proxy_edges: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = []
    endpoints: dict[Annotated[str, AfterValidator(_endpoint_name)], Endpoint] = {}
    default_account: Annotated[str, Field(pattern="^([0-9]{12}|none)$")] | None = None
    hooks: dict[str, Annotated[str, AfterValidator(_hook_target)]] = {}
    broker: BrokerSettings | None = None
    key_pool: int = Field(32, ge=0, le=4096)
    log_format: LogFormat = "console"
    dev: bool = False
    ca_key: RootKeyType = "p256"
    ca_passphrase: SecretStr | None = None
    ca_passphrase_file: Path | None = None
    master_key: SecretStr | None = None
    master_key_file: Path | None = None
    listener_certificate_lifetime: Duration = Field(
        timedelta(days=90), ge=timedelta(seconds=2), le=timedelta(days=3650)
    )
    reinstate_revoked: bool = False
    limits: LimitsProfile = "generous"
    quotas: QuotaSettings | None = None
    connections: ConnectionSettings | None = None
    mqtt_rates: RateSettings | None = None
    unauthenticated_request_bytes: int = Field(32 * MIB, ge=4 * MIB)
    authenticated_request_bytes: int = Field(256 * MIB, ge=4 * MIB)
    unauthenticated_rate: int = Field(50, ge=0, le=1_000_000)
    disk_reserve_bytes: int = Field(8 * MIB, ge=0, le=1024 * MIB)
    audit_retention: Duration | None = Field(None, ge=timedelta(hours=1))
    audit_activity_retention: Duration = Field(timedelta(days=90), ge=timedelta(hours=1))
    audit_activity_bytes: int = Field(1024 * MIB, ge=16 * MIB)
    yandex_fingerprint: Literal["sha256", "sha1"] = "sha256"
    yandex_operations_pending: Duration = Field(timedelta(0), ge=timedelta(0), le=timedelta(minutes=10))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    def master_keys(self) -> list[bytes] | None:
        """The master keys, the one in force first, where they are not kept in the data directory."""
        if self.master_key is not None:
            return _hex_keys("master-key", self.master_key.get_secret_value())
        if self.master_key_file is not None:
            try:
                return _hex_keys("master-key-file", self.master_key_file.read_text())
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError("master-key-file", f"cannot be read: {error}") from None
        return None

    def database(self) -> Database | None:
        """Where the records are, if not in the data directory's own file. Raises ConfigError."""
        url = self.store.get_secret_value() if self.store is not None else None
        if url is None and self.store_file is not None:
            try:
                url = parse_store_url(self.store_file.read_text().strip())
            except (OSError, ValueError) as error:
                raise ConfigError("store-file", f"cannot be used: {error}") from None
        return None if url in (None, "sqlite:") else Database(str(url))

    def quotas_in_force(self) -> Quotas:
        """What ``limits`` means, but for those that are set."""
        usual = {"generous": Quotas(), "aws": _AWS_QUOTAS, "none": NO_QUOTAS}[self.limits]
        return replace(usual, **self.quotas.model_dump(exclude_none=True)) if self.quotas else usual

    def connection_limits(self, listener: Listener) -> Limits:
        return (self.connections or ConnectionSettings()).limits(listener)

    def failure_throttle(self) -> FailureThrottle:
        """For callers without valid credentials, by address."""
        rate = self.unauthenticated_rate
        return FailureThrottle(Rate(rate, rate * _UNAUTHENTICATED_BURST) if rate else None)

    def rates_in_force(self) -> Rates:
        """What ``limits`` means, but for those that are set."""
        given = self.mqtt_rates.model_dump(exclude_none=True) if self.mqtt_rates is not None else {}
        usual = NO_RATES if self.limits == "none" else Rates()
        return replace(usual, **{name: rate or None for name, rate in given.items()})

    def audit_kept(self) -> tuple[Kept, Kept]:
        """Of changes, and of reads and refusals, which are not kept for longer than the former."""
        activity = min(self.audit_activity_retention, self.audit_retention or self.audit_activity_retention)
        return Kept(self.audit_retention), Kept(activity, self.audit_activity_bytes)

    def passphrase(self) -> bytes | None:
        """The CA keys' passphrase, if one is set. Raises ConfigError for one that is set and empty."""
        if self.ca_passphrase is not None:
            return _not_empty("ca-passphrase", self.ca_passphrase.get_secret_value().encode())
        if self.ca_passphrase_file is not None:
            try:
                return _not_empty("ca-passphrase-file", self.ca_passphrase_file.read_bytes().strip())
            except OSError as error:
                raise ConfigError("ca-passphrase-file", f"cannot be read: {error.strerror}") from None
        return None


def load(flags: Mapping[str, Any], config: Path | None = None) -> Settings:
    """The settings in force; a flag that is None was not given. Raises ConfigError for the first that is wrong."""
    _refuse_unknown_variables(os.environ)
    file = _config_file(config)

    class Configured(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    try:
        return Configured(**{name: value for name, value in flags.items() if value is not None})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), f"is not valid TOML: {error}") from None
    except SettingsError as error:
        field = str(error).partition('"')[2].partition('"')[0]  # it has no attribute that tells
        raise ConfigError(field.replace("_", "-") or "config", "is a table: as a variable it is JSON") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"] if part != "[key]")
        if first["type"] == "extra_forbidden":
            part = ListenerLimits if name.startswith("connections.") else _PARTS.get(name.partition(".")[0], Settings)
            raise ConfigError(name, f"is not a setting{_suggestion(str(first['loc'][-1]), part)}") from None
        raise ConfigError(name.replace("_", "-"), first["msg"].removeprefix("Value error, ")) from None


_PARTS: dict[str, type[BaseModel]] = {
    "broker": BrokerSettings,
    "connections": ConnectionSettings,
    "endpoints": Endpoint,
    "mqtt_rates": RateSettings,
    "quotas": QuotaSettings,
}
"""The tables of the file that have settings of their own."""
_SET_BY_VARIABLES: dict[tuple[type[BaseModel], str], type[BaseModel]] = {
    (Settings, "quotas"): QuotaSettings,
    (Settings, "connections"): ConnectionSettings,
    (Settings, "mqtt_rates"): RateSettings,
    **{(ConnectionSettings, listener): ListenerLimits for listener in ConnectionSettings.model_fields},
}
"""Those whose settings have variables of their own, by where they stand."""


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
        if not variable.startswith(_PREFIX) or variable == _CONFIG or variable.startswith(_FOR_CLIENTS):
            continue
        model: type[BaseModel] | None = Settings
        for part in variable.removeprefix(_PREFIX).lower().split("__"):
            if model is None:
                raise ConfigError(variable, "is not a setting")
            if part not in model.model_fields:
                raise ConfigError(variable, f"is not a setting{_suggestion(part, model)}")
            model = _SET_BY_VARIABLES.get((model, part))


def _hex_keys(setting: str, text: str) -> list[bytes]:
    try:
        keys = [bytes.fromhex(line) for line in text.split()]
    except ValueError:
        keys = []
    if not keys or any(len(key) != MASTER_KEY_BYTES for key in keys):
        raise ConfigError(setting, "must be 64 hexadecimal digits")
    return keys


def _not_empty(setting: str, passphrase: bytes) -> bytes:
    if not passphrase:
        raise ConfigError(setting, "is empty: leave it out to keep the keys unencrypted")
    return passphrase


def _suggestion(name: str, settings: type[BaseModel] = Settings) -> str:
    close = difflib.get_close_matches(name.replace("-", "_"), settings.model_fields, n=1)
    return f"; did you mean {close[0]}?" if close else ""
