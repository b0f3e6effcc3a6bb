"""The settings that are tables with keys of their own."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from thingmint.domain.names import is_hostname
from thingmint.domain.server_certificates import TLS_LISTENERS, TlsListenerName
from thingmint.domain.tls_profiles import TlsProfileName
from thingmint.http.connection_limits import Limits
from thingmint.http.memory import MIB
from thingmint.mqtt.broker.upstream import RABBITMQ, STANDARD, Login, Target, Upstream, tls_context
from thingmint.services.export_hooks import ExportHook, check_files
from thingmint.services.quotas import MAX_PROBED
from thingmint.settings.values import ConfigError, Duration, shown_name

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


NOT_A_SWITCH = "must not be true or false"


def check_form(model: type[BaseModel], name: str | None, value: object) -> object:
    """Returns the value. Raises ValueError for values that fit the field's type and are surely a mistake."""
    annotation = model.model_fields[name].annotation if name is not None else None
    if isinstance(value, bool) and annotation is not bool:
        raise ValueError(NOT_A_SWITCH)
    if isinstance(value, str) and "\0" in value:
        raise ValueError("must not have a zero byte in it")
    if value == "" and "Path" in str(annotation):
        raise ValueError("must not be empty")
    return value


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _check_form(cls, value: object, info: ValidationInfo) -> object:
        return check_form(cls, info.field_name, value)


class Endpoint(Table):
    """The account and region of the devices that name one host (SNI)."""

    account: str = Field(pattern=r"^[0-9]{12}$", description="The account's 12 digits.", examples=["123456789012"])
    region: str = Field(min_length=1, description="One of the account's regions.", examples=["us-east-1"])
    cloud: Literal["aws", "yandex"] = Field(
        default="aws", description="The cloud whose devices use this name: their topics and client ids differ."
    )


_Probed = Annotated[int, Field(ge=1, le=MAX_PROBED)] | None
_Counted = Annotated[int, Field(ge=1)] | None
_Rate = Annotated[int, Field(ge=0)] | None


class QuotaSettings(Table):
    """The quotas that differ from those of ``limits``."""

    users: _Probed = Field(default=None, description="Users in an account.", examples=[200])
    roles: _Probed = Field(default=None, description="Roles in an account.", examples=[200])
    service_accounts: _Probed = Field(default=None, description="Service accounts in an account.", examples=[200])
    policies: _Probed = Field(
        default=None, description="An account's own policies for users and roles.", examples=[200]
    )
    role_aliases: _Probed = Field(default=None, description="Role aliases in a region of an account.", examples=[20])
    billing_groups: _Probed = Field(
        default=None, description="Billing groups in a region of an account.", examples=[100]
    )
    folders: _Probed = Field(default=None, description="Folders in an account.", examples=[20])
    registries: _Probed = Field(default=None, description="Device registries in a folder.", examples=[100])
    devices: _Counted = Field(default=None, description="Devices in a device registry.", examples=[100_000])
    certificates: _Counted = Field(
        default=None, description="Certificates in all regions of an account.", examples=[1_000_000]
    )


_MOST_CONNECTIONS = 1_000_000
_Connections = Annotated[int, Field(ge=1, le=_MOST_CONNECTIONS)] | None

Listener = Literal["api", "http", "grpc", "mqtt", "credentials"]
# All clients of the plain listener share an address, that of this machine.
_CONNECTION_LIMITS: dict[Listener, Limits] = {
    "api": Limits(total=4096, per_address=3072, half_open=2000, half_open_per_address=1500, reserve=512),
    "http": Limits(total=1024, per_address=1024, half_open=1024, half_open_per_address=1024, reserve=0),
    "grpc": Limits(total=2048, per_address=1536, half_open=1000, half_open_per_address=750, reserve=256),
    "mqtt": Limits(),
    "credentials": Limits(total=1024, per_address=768, half_open=512, half_open_per_address=200, reserve=128),
}
LISTENERS = tuple(_CONNECTION_LIMITS)


class ListenerLimits(Table):
    """The limits of one listener that differ from its defaults."""

    total: _Connections = Field(default=None, description="All connections.", examples=[8192])
    per_address: _Connections = Field(default=None, description="Connections from one address.", examples=[6144])
    half_open: _Connections = Field(default=None, description="TLS handshakes in progress.", examples=[1000])
    half_open_per_address: _Connections = Field(
        default=None, description="TLS handshakes in progress from one address.", examples=[200]
    )
    reserve: Annotated[int, Field(ge=0, le=_MOST_CONNECTIONS)] | None = Field(
        default=None, description="Connections kept for addresses that have fewer than 32.", examples=[512]
    )


class ConnectionSettings(Table):
    """The limits on connections, by listener."""

    api: ListenerLimits = ListenerLimits()
    http: ListenerLimits = ListenerLimits()
    grpc: ListenerLimits = ListenerLimits()
    mqtt: ListenerLimits = ListenerLimits()
    credentials: ListenerLimits = ListenerLimits()

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


class TlsProfileSettings(Table):
    """The TLS profiles, by listener. That of gRPC cannot be changed, because grpcio has no such option."""

    api: TlsProfileName = Field(default="default", description="HTTPS.")
    mqtt: TlsProfileName = Field(default="default", description="All listeners for devices that use TLS.")


class ServerCertificateSettings(Table):
    """A certificate that some listeners show, or that is shown under some host names."""

    certificate: Path = Field(
        description="The certificate, followed by those of the CAs that signed it, in PEM.",
        examples=["/etc/thingmint/mqtt-fullchain.pem"],
    )
    key: Path = Field(
        description="Its private key, in PEM and not encrypted.", examples=["/etc/thingmint/mqtt-privkey.pem"]
    )
    listeners: list[TlsListenerName] = Field(
        default=list(TLS_LISTENERS),
        min_length=1,
        description="The listeners that show it: api, grpc and mqtt, or some of them.",
        examples=[["mqtt"]],
    )
    names: list[Annotated[str, AfterValidator(shown_name)]] = Field(
        default=[],
        description="The host names (SNI) for which it is shown, such as mqtt.example.org or *.example.org. Without "
        "them, all that have no certificate of their own.",
        examples=[["mqtt.example.org"]],
    )
    check_names: bool = Field(
        default=True, description="Refuse a certificate that does not cover these names. false is for old devices."
    )

    def named(self, table: str) -> ServerCertificateSettings:
        """The settings of the table with this name. A host name or a wildcard stands for ``names``."""
        if self.names or "." not in table or not is_hostname(table.removeprefix("*.")):
            return self
        return self.model_copy(update={"names": [shown_name(table)]})


class RateSettings(Table):
    """The rates of one device that differ from those of ``limits``. 0 is no limit."""

    publishes: _Rate = Field(default=None, description="PUBLISH packets of one connection.", examples=[500])
    subscribes: _Rate = Field(
        default=None, description="SUBSCRIBE and UNSUBSCRIBE packets of one connection.", examples=[100]
    )
    received: _Rate = Field(default=None, description="Bytes from one connection.", examples=[1_048_576])


class ExportHookSettings(Table):
    """An HTTP hook that gets the records of data stream exports, in place of one of Yandex's data streams."""

    database: str = Field(
        min_length=1,
        description="The database that AddDataStreamExport names.",
        examples=["/ru-central1/b1g1234567890abcdefg/etn1234567890abcdefg"],
    )
    stream: str = Field(min_length=1, description="The stream that AddDataStreamExport names.", examples=["telemetry"])
    url: str = Field(
        description="The http or https URL to which batches are sent with POST.",
        examples=["https://telemetry.example.org/records"],
    )
    batch: int = Field(default=1, ge=1, le=10, description="The number of messages in a full batch, at most 10.")
    cutoff: Duration = Field(
        default=timedelta(seconds=1),
        ge=timedelta(seconds=1),
        le=timedelta(seconds=60),
        description="How long the first message of a batch waits for the others, at most a minute.",
        examples=["1s"],
    )
    queue_bytes: int = Field(
        default=64 * MIB,
        ge=MIB,
        le=16 * 1024 * MIB,
        description="The space for the messages of one export that wait; beyond it the oldest are dropped.",
    )
    token_file: Path | None = Field(
        default=None,
        description="A file that contains a bearer token for the hook. It is read again for each batch.",
        examples=["/run/secrets/telemetry-token"],
    )
    ca_file: Path | None = Field(
        default=None,
        description="The CA certificates that verify the hook's certificate, in PEM. Without it, the system's.",
        examples=["/etc/thingmint/telemetry-ca.pem"],
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> ExportHookSettings:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ValueError("url must be an http or https URL without a user name")
        if parts.scheme == "http" and self.ca_file is not None:
            raise ValueError("ca_file is for https URLs only")
        if parts.scheme == "http" and self.token_file is not None and parts.hostname not in _LOOPBACK:
            raise ValueError("token_file needs an https URL, or the name of this machine, localhost")
        return self

    def hook(self) -> ExportHook:
        """Raises ConfigError if a file cannot be read."""
        hook = ExportHook(cutoff=self.cutoff.total_seconds(), **self.model_dump(exclude={"cutoff"}))
        try:
            check_files(hook)
        except (OSError, UnicodeError) as error:
            raise ConfigError("export-hooks", f"a file of the hook for {self.stream} cannot be used: {error}") from None
        return hook


class BrokerSettings(Table):
    """An external MQTT broker, in place of the embedded one."""

    url: str = Field(
        description="mqtt://HOST:PORT (default port 1883), mqtts://HOST:PORT (8883) or unix:///PATH.",
        examples=["mqtts://broker.example.org:8883"],
    )
    version: Annotated[Literal["5", "3.1.1"], BeforeValidator(str)] = Field(
        default="5", description="The MQTT version that the broker speaks: 5 or 3.1.1. Devices may use either version."
    )
    dialect: Literal["standard", "rabbitmq"] = Field(
        default="standard", description="rabbitmq for RabbitMQ, which treats dots and asterisks in topics as special."
    )
    username: str | None = Field(default=None, description="The user name for all connections.", examples=["thingmint"])
    password_file: Path | None = Field(
        default=None,
        description="A file that contains the password. White space around it is ignored.",
        examples=["/run/secrets/broker-password"],
    )
    ca_file: Path | None = Field(
        default=None,
        description="The CA certificates that verify the broker's certificate, in PEM. Without it, the system's.",
        examples=["/etc/thingmint/broker-ca.pem"],
    )
    certificate_file: Path | None = Field(
        default=None,
        description="A client certificate for the broker, in PEM.",
        examples=["/etc/thingmint/broker-client.pem"],
    )
    key_file: Path | None = Field(
        default=None,
        description="The client certificate's private key, in PEM and not encrypted.",
        examples=["/etc/thingmint/broker-client.key"],
    )

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
        """Returns the broker, with the contents of the files. Raises ConfigError."""
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
