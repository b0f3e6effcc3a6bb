"""All settings, with their defaults and bounds."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, TomlConfigSettingsSource

from thingmint.access.audit_sealer import Kept
from thingmint.access.throttle import FailureThrottle, LimitsProfile, Rate
from thingmint.domain.issuing_ca import RootKeyType
from thingmint.http.memory import MIB
from thingmint.logs import LogFormat
from thingmint.mqtt.rates import NO_RATES, Rates
from thingmint.services.quotas import AWS_QUOTAS, NO_QUOTAS, Quotas
from thingmint.settings.bulk import BulkSettings
from thingmint.settings.console import ConsoleSettings
from thingmint.settings.functions import HookSettings
from thingmint.settings.presence import PresenceSetting
from thingmint.settings.tables import (
    BrokerSettings,
    ConnectionSettings,
    Endpoint,
    ExportHookSettings,
    Listener,
    QuotaSettings,
    RateSettings,
    ServerCertificateSettings,
    TlsProfileSettings,
    check_form,
)
from thingmint.settings.values import ConfigError, Duration, Port, endpoint_name, hex_keys, not_empty, store_url
from thingmint.store.database import Database, parse_store_url

if TYPE_CHECKING:
    from pydantic_settings import PydanticBaseSettingsSource

    from thingmint.http.connection_limits import Limits
    from thingmint.services.export_hooks import Hooks
    from thingmint.services.functions import Functions

PREFIX = "THINGMINT_"
"""The beginning of each variable's name."""
_UNAUTHENTICATED_BURST = 20  # seconds of the rate


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    data_dir: Path = Field(
        Path("data"),
        description="The data directory, relative to the working directory.",
        examples=["/var/lib/thingmint"],
    )
    store: Annotated[SecretStr, AfterValidator(store_url)] | None = Field(
        None,
        description="The database for records: sqlite: (a file in the data directory) or "
        "postgresql://USER@HOST/DATABASE.",
        examples=["postgresql://thingmint@db.example.org/thingmint"],
    )
    store_file: Path | None = Field(
        None,
        description="A file that contains the URL of the database; use it when the URL has a password.",
        examples=["/run/secrets/thingmint-store"],
    )
    disk_reserve_bytes: int = Field(
        8 * MIB,
        ge=0,
        le=1024 * MIB,
        description="Disk space to reserve; the server frees it when the disk is full. 0 reserves nothing.",
    )
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="The address on which HTTPS, gRPC and MQTT listen. Plain HTTP always listens on 127.0.0.1.",
        examples=["0.0.0.0"],  # noqa: S104 - not listened on
    )
    api_port: Port = Field(8443, description="The HTTPS port. 0 picks a free port.")
    http_port: Port = Field(8080, description="The port for plain HTTP. 0 picks a free port.")
    grpc_port: Port = Field(9443, description="The port for gRPC with TLS. 0 picks a free port.")
    mqtt_port: Port = Field(8883, description="The port for devices (MQTT with TLS). 0 picks a free port.")
    mqtt_alpn_port: Port | None = Field(
        None,
        description="A second port for devices, where each client must offer the ALPN protocol x-amzn-mqtt-ca or mqtt.",
        examples=[443],
    )
    credentials_port: Port | None = Field(
        None,
        description="A port where devices get temporary credentials of role aliases (AWS's credential provider).",
        examples=[8444],
    )
    mqtt_proxy_socket: Path | None = Field(
        None,
        description="A Unix socket for a proxy that terminates the devices' TLS and sends PROXY v2 headers.",
        examples=["/run/thingmint/mqtt.sock"],
    )
    mqtt_proxy_port: Port | None = Field(
        None,
        description="A TLS port for such proxies. It needs mqtt_proxy_fingerprints.",
        examples=[8884],
    )
    mqtt_proxy_fingerprints: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(
        [],
        description="The SHA-256 fingerprints of the proxies' certificates (of the DER, in lower-case hexadecimal).",
        examples=['["' + "3f" * 32 + '"]'],
    )
    tls_profile: TlsProfileSettings | None = Field(
        None,
        description="The TLS versions and cipher suites that the listeners offer.",
        examples=['{mqtt = "compatible"}'],
    )
    server_certificate: Path | None = Field(
        None,
        description="A server certificate of your own for all listeners, followed by those of the CAs that signed it, "
        "in PEM. It needs server_key.",
        examples=["/etc/thingmint/fullchain.pem"],
    )
    server_key: Path | None = Field(
        None,
        description="Its private key, in PEM and not encrypted.",
        examples=["/etc/thingmint/privkey.pem"],
    )
    server_certificates: dict[str, ServerCertificateSettings] = Field(
        {},
        description="Server certificates of your own for some listeners or host names, by names of your choice.",
        examples=[
            '{fleet = {certificate = "/etc/thingmint/mqtt.pem", key = "/etc/thingmint/mqtt.key", listeners = ["mqtt"]}}'
        ],
    )
    listener_certificate_lifetime: Duration = Field(
        timedelta(days=90),
        ge=timedelta(seconds=2),
        le=timedelta(days=3650),
        description="The lifetime of the listeners' certificate. The running server renews it after two thirds of it.",
        examples=["90d"],
    )
    ca_key: RootKeyType = Field(
        "p256", description="The key type of the two root CAs, for a new data directory only: p256 or rsa2048."
    )
    ca_passphrase: SecretStr | None = Field(
        None,
        description="Encrypts the CA keys and the audit key of a new data directory, and opens them at each start.",
    )
    ca_passphrase_file: Path | None = Field(
        None,
        description="A file that contains this passphrase. White space around it is ignored.",
        examples=["/run/secrets/thingmint-ca"],
    )
    master_key: SecretStr | None = Field(
        None,
        description="The master key as 64 hexadecimal digits, if it is not kept in the data directory. Older keys may "
        "follow it.",
    )
    master_key_file: Path | None = Field(
        None,
        description="A file that contains the master key.",
        examples=["/run/secrets/thingmint-master-key"],
    )
    key_pool: int = Field(
        32, ge=0, le=4096, description="The number of RSA key pairs that the server prepares in memory."
    )
    reinstate_revoked: bool = Field(False, description="Allow a REVOKED certificate to be activated again.")
    endpoints: dict[Annotated[str, AfterValidator(endpoint_name)], Endpoint] = Field(
        {},
        description="Host names by which devices choose an account and a region.",
        examples=['{"iot.example.org" = {account = "123456789012", region = "us-east-1"}}'],
    )
    default_account: Annotated[str, Field(pattern="^([0-9]{12}|none)$")] | None = Field(
        None,
        description="The account of devices that name no endpoint and whose certificate no account has proven to own: "
        "12 digits, or none. Without it, the first account.",
        examples=["123456789012"],
    )
    hooks: HookSettings | None = Field(
        None,
        description="The URLs and Python functions to call in place of Lambda functions.",
        examples=['{functions = {check = {entry_point = "check", accounts = ["123456789012"]}}}'],
    )
    presence: PresenceSetting = None
    export_hooks: dict[str, ExportHookSettings] = Field(
        {},
        description="HTTP hooks that get the records of data stream exports, by names of your choice.",
        examples=[
            '{telemetry = {database = "etn", stream = "telemetry", url = "https://telemetry.example.org/records"}}'
        ],
    )
    bulk: BulkSettings | None = Field(
        None, description="The buckets and the reports of bulk registration.", examples=["{report_bytes = 1073741824}"]
    )
    mqtt_rates: RateSettings | None = Field(
        None, description="The packets and bytes that one device may send in a second.", examples=["{publishes = 500}"]
    )
    mqtt_outage_grace: Duration = Field(
        timedelta(seconds=60),
        ge=timedelta(0),
        le=timedelta(hours=1),
        description="How long devices stay connected while the database cannot be read. 0 disconnects them at once.",
        examples=["60s"],
    )
    broker: BrokerSettings | None = Field(
        None,
        description="An external MQTT broker for the devices' messages, in place of the embedded broker.",
        examples=['{url = "mqtts://broker.example.org"}'],
    )
    limits: LimitsProfile = Field(
        "generous",
        description="The request rates and quotas of an account: generous, aws (AWS's published limits) or none.",
    )
    quotas: QuotaSettings | None = Field(
        None,
        description="The number of users, devices, certificates and so on, where it differs from what limits means.",
        examples=["{users = 200}"],
    )
    connections: ConnectionSettings | None = Field(
        None,
        description="The number of connections to each listener, in all and from one address.",
        examples=["{mqtt = {total = 100000}}"],
    )
    unauthenticated_rate: int = Field(
        50,
        ge=0,
        le=1_000_000,
        description="The requests without valid credentials that one address may send in a second, in bursts of 20 "
        "times as many. 0 sets no limit.",
    )
    unauthenticated_request_bytes: int = Field(
        32 * MIB,
        ge=4 * MIB,
        description="Memory for requests whose credentials are not verified yet. One address may use half of it.",
    )
    authenticated_request_bytes: int = Field(
        256 * MIB,
        ge=4 * MIB,
        description="Memory for requests of authenticated callers, and for answers that they do not read. One account "
        "may use half of it.",
    )
    dev: bool = Field(
        False, description="Allow the native API without credentials, from this machine only. For development."
    )
    audit_retention: Duration | None = Field(
        None,
        ge=timedelta(hours=1),
        description="How long audit records are kept. Without it, records of changes are kept forever.",
        examples=["400d"],
    )
    audit_activity_retention: Duration = Field(
        timedelta(days=90),
        ge=timedelta(hours=1),
        description="How long audit records of reads and refusals are kept, never longer than audit_retention.",
        examples=["90d"],
    )
    audit_activity_bytes: int = Field(
        1024 * MIB, ge=16 * MIB, description="Space in the database for audit records of reads and refusals."
    )
    console: ConsoleSettings | None = Field(
        None, description="The web console and its sign-in.", examples=['{idle = "30m"}']
    )
    yandex_fingerprint: Literal["sha256", "sha1"] = Field(
        "sha256",
        description="The form of certificate fingerprints in answers of the Yandex API. Requests may use both forms.",
    )
    yandex_operations_pending: Duration = Field(
        timedelta(0),
        ge=timedelta(0),
        le=timedelta(minutes=10),
        description="How long operations of the Yandex API stay unfinished. For tests of clients.",
        examples=["2s"],
    )
    yandex_metadata_port: Port | None = Field(
        None,
        description="A port on 127.0.0.1 that gives every program of this machine IAM tokens of "
        "yandex_metadata_service_account, as the metadata service of Yandex Cloud does.",
        examples=[8081],
    )
    yandex_metadata_service_account: str | None = Field(
        None,
        pattern=r"^[a-z0-9]{1,50}$",
        description="The id of the service account that yandex_metadata_port needs.",
        examples=["aje0123456789abcdefg"],
    )
    log_format: LogFormat = Field(
        "console", description="The format of the log on standard error: console for people, json for programs."
    )

    @field_validator("export_hooks")
    @classmethod
    def _check_streams(cls, hooks: dict[str, ExportHookSettings]) -> dict[str, ExportHookSettings]:
        if len({(hook.database, hook.stream) for hook in hooks.values()}) < len(hooks):
            raise ValueError("must have one hook for each stream of a database")
        return hooks

    @field_validator("*", mode="before")
    @classmethod
    def _check_form(cls, value: object, info: ValidationInfo) -> object:
        return check_form(cls, info.field_name, value)

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
        """The master keys, the one in force first; None if the key is in the data directory. Raises ConfigError."""
        if self.master_key is not None:
            return hex_keys("master-key", self.master_key.get_secret_value())
        if self.master_key_file is not None:
            try:
                return hex_keys("master-key-file", self.master_key_file.read_text())
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError("master-key-file", f"cannot be read: {error}") from None
        return None

    def database(self) -> Database | None:
        """The database; None for the file in the data directory. Raises ConfigError."""
        url = self.store.get_secret_value() if self.store is not None else None
        if url is None and self.store_file is not None:
            try:
                url = parse_store_url(self.store_file.read_text().strip())
            except (OSError, ValueError) as error:
                raise ConfigError("store-file", f"cannot be used: {error}") from None
        return None if url in (None, "sqlite:") else Database(str(url))

    def quotas_in_force(self) -> Quotas:
        """The quotas of ``limits``, except where ``quotas`` sets others."""
        usual = {"generous": Quotas(), "aws": AWS_QUOTAS, "none": NO_QUOTAS}[self.limits]
        return replace(usual, **self.quotas.model_dump(exclude_none=True)) if self.quotas else usual

    def export_hooks_in_force(self) -> Hooks:
        """By database and stream. Raises ConfigError."""
        return {(each.database, each.stream): each.hook() for each in self.export_hooks.values()}

    def functions_in_force(self) -> Functions:
        """Raises ConfigError."""
        return (self.hooks or HookSettings()).in_force()

    def server_certificates_in_force(self) -> dict[str, ServerCertificateSettings]:
        """By the name of the setting. Raises ConfigError if a certificate or a key is missing."""
        found = {f"server-certificates.{name}": each.named(name) for name, each in self.server_certificates.items()}
        if (self.server_certificate is None) != (self.server_key is None):
            missing = "server-key" if self.server_key is None else "server-certificate"
            raise ConfigError(missing, "is missing: server_certificate and server_key need each other")
        if self.server_certificate is not None and self.server_key is not None:
            pair = ServerCertificateSettings(certificate=self.server_certificate, key=self.server_key)
            found = {"server-certificate": pair, **found}
        return found

    def connection_limits(self, listener: Listener) -> Limits:
        return (self.connections or ConnectionSettings()).limits(listener)

    def tls_profiles(self) -> TlsProfileSettings:
        return self.tls_profile or TlsProfileSettings()

    def failure_throttle(self) -> FailureThrottle:
        return FailureThrottle(self.unauthenticated_rate_in_force())

    def unauthenticated_rate_in_force(self) -> Rate | None:
        """The rate for callers without valid credentials, of one address. None is no limit."""
        rate = self.unauthenticated_rate
        return Rate(rate, rate * _UNAUTHENTICATED_BURST) if rate else None

    def rates_in_force(self) -> Rates:
        """The rates of ``limits``, except where ``mqtt_rates`` sets others."""
        given = self.mqtt_rates.model_dump(exclude_none=True) if self.mqtt_rates is not None else {}
        usual = NO_RATES if self.limits == "none" else Rates()
        return replace(usual, **{name: rate or None for name, rate in given.items()})

    def audit_kept(self) -> tuple[Kept, Kept]:
        """How long records of changes are kept, and those of reads and refusals: never longer than changes."""
        activity = min(self.audit_activity_retention, self.audit_retention or self.audit_activity_retention)
        return Kept(self.audit_retention), Kept(activity, self.audit_activity_bytes)

    def passphrase(self) -> bytes | None:
        """The CA keys' passphrase; None if none is set. Raises ConfigError for an empty one."""
        if self.ca_passphrase is not None:
            return not_empty("ca-passphrase", self.ca_passphrase.get_secret_value().encode())
        if self.ca_passphrase_file is not None:
            try:
                return not_empty("ca-passphrase-file", self.ca_passphrase_file.read_bytes().strip())
            except OSError as error:
                raise ConfigError("ca-passphrase-file", f"cannot be read: {error.strerror}") from None
        return None
