"""Settings: flags override variables, variables the file, and the file defaults. Each mistake is one line."""

from __future__ import annotations

import contextlib
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from thingmint.http.memory import MIB
from thingmint.mqtt.broker.upstream import Upstream
from thingmint.mqtt.broker.upstream.names import RABBITMQ
from thingmint.mqtt.broker.upstream.target import Login, Target
from thingmint.mqtt.rates import NO_RATES, Rates
from thingmint.services.function_calls import Function
from thingmint.services.quotas import NO_QUOTAS, Quotas
from thingmint.settings import (
    LISTENERS,
    BrokerSettings,
    ConfigError,
    ConnectionSettings,
    Settings,
    load,
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(flags: dict[str, Any] | None = None, config: Path | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(flags or {}, config)
    assert "\n" not in str(caught.value).strip()
    return caught.value


@pytest.mark.parametrize(
    "target", ["ftp://x/", "//x", "x", "entry-point:", "http:", "https:///x", "http://[", "javascript:x"]
)
def test_malformed_hook_targets_are_refused(target: str) -> None:
    assert refused({"hooks": {"arn:aws:lambda:us-east-1:1:function:f": target}}).setting.startswith("hooks")


@pytest.mark.parametrize("target", ["http://127.0.0.1:8080/x", "https://example.org", "entry-point:mine"])
def test_hook_targets_are_accepted(target: str) -> None:
    [function] = load({"hooks": {"arn": target}}).functions_in_force().by_arn.values()
    python = target == "entry-point:mine"
    assert function == Function("arn", url=None if python else target, entry_point="mine" if python else None)


class TestPrecedence:
    def test_defaults_without_any_settings(self) -> None:
        settings = load({})
        assert settings.model_dump() == {
            "data_dir": Path("data"),
            "store": None,
            "store_file": None,
            "host": "127.0.0.1",
            "api_port": 8443,
            "http_port": 8080,
            "grpc_port": 9443,
            "mqtt_port": 8883,
            "mqtt_alpn_port": None,
            "credentials_port": None,
            "mqtt_proxy_socket": None,
            "mqtt_proxy_port": None,
            "mqtt_proxy_fingerprints": [],
            "hooks": None,
            "presence": None,
            "export_hooks": {},
            "endpoints": {},
            "default_account": None,
            "broker": None,
            "bulk": None,
            "key_pool": 32,
            "log_format": "console",
            "dev": False,
            "ca_key": "p256",
            "ca_passphrase": None,
            "ca_passphrase_file": None,
            "master_key": None,
            "master_key_file": None,
            "server_certificate": None,
            "server_key": None,
            "server_certificates": {},
            "listener_certificate_lifetime": timedelta(days=90),
            "reinstate_revoked": False,
            "limits": "generous",
            "quotas": None,
            "connections": None,
            "tls_profile": None,
            "mqtt_rates": None,
            "mqtt_outage_grace": timedelta(seconds=60),
            "unauthenticated_request_bytes": 32 * MIB,
            "authenticated_request_bytes": 256 * MIB,
            "unauthenticated_rate": 50,
            "disk_reserve_bytes": 8 * MIB,
            "audit_retention": None,
            "audit_activity_retention": timedelta(days=90),
            "audit_activity_bytes": 1024 * MIB,
            "console": None,
            "yandex_fingerprint": "sha256",
            "yandex_operations_pending": timedelta(0),
            "yandex_metadata_port": None,
            "yandex_metadata_service_account": None,
        }

    @pytest.mark.parametrize("flag", [None, 4])
    @pytest.mark.parametrize("variable", [None, "3"])
    @pytest.mark.parametrize("line", [None, "key_pool = 2"])
    def test_flags_override_variables_and_variables_the_file(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, flag: int | None, variable: str | None, line: str | None
    ) -> None:
        if variable:
            monkeypatch.setenv("THINGMINT_KEY_POOL", variable)
        if line:
            (folder / "thingmint.toml").write_text(line)
        expected = flag or int(variable or 0) or (2 if line else 32)
        assert load({"key_pool": flag}).key_pool == expected

    def test_settings_come_from_different_sources(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "thingmint.toml").write_text('host = "a"\napi_port = 1\nlog_format = "json"\ndev = true')
        monkeypatch.setenv("THINGMINT_HOST", "b")
        monkeypatch.setenv("THINGMINT_API_PORT", "2")
        settings = load({"host": "c", "dev": None})
        assert (settings.host, settings.api_port, settings.log_format, settings.dev) == ("c", 2, "json", True)

    def test_a_flag_with_the_value_false_overrides(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("THINGMINT_DEV", "true")
        assert load({}).dev
        assert not load({"dev": False}).dev

    def test_settings_are_immutable(self) -> None:
        settings: Any = load({})
        with pytest.raises(ValidationError):
            settings.host = "x"


class TestFile:
    def test_the_flag_overrides_the_variable(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (("thingmint.toml", 1), ("variable.toml", 2), ("flag.toml", 3)):
            (folder / name).write_text(f"key_pool = {value}")
        assert load({}).key_pool == 1
        monkeypatch.setenv("THINGMINT_CONFIG", "variable.toml")
        assert load({}).key_pool == 2
        assert load({}, Path("flag.toml")).key_pool == 3

    @pytest.mark.parametrize("by", ["flag", "variable"])
    def test_a_named_file_must_exist(self, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
        if by == "variable":
            monkeypatch.setenv("THINGMINT_CONFIG", "absent.toml")
        error = refused(config=Path("absent.toml") if by == "flag" else None)
        assert str(error) == "config: there is no file absent.toml"

    @pytest.mark.parametrize("content", [b"key_pool", b"key_pool = ", b"\xff", b"[a\n", b"a = 1\na = 2"])
    def test_the_file_must_be_toml(self, folder: Path, content: bytes) -> None:
        (folder / "thingmint.toml").write_bytes(content)
        assert str(refused()).startswith("thingmint.toml: is not valid TOML: ")


class TestMistakes:
    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("key_pol = 1", "key_pol: is not a setting; did you mean key_pool?"),
            ('api-port = "1"', "api-port: is not a setting; did you mean api_port?"),
            ("zzz = 1", "zzz: is not a setting"),
            ("[httpd]\nhost = 'a'", "httpd: is not a setting"),
        ],
    )
    def test_an_unknown_key_is_named(self, folder: Path, line: str, message: str) -> None:
        (folder / "thingmint.toml").write_text(line)
        assert str(refused()) == f"{message} (in thingmint.toml)"

    @pytest.mark.parametrize(
        ("variable", "message"),
        [
            ("THINGMINT_KEY_POL", "THINGMINT_KEY_POL: is not a setting; did you mean key_pool?"),
            ("THINGMINT_PASSPHRASE", "THINGMINT_PASSPHRASE: is not a setting; did you mean ca_passphrase?"),
            ("THINGMINT_ZZZ", "THINGMINT_ZZZ: is not a setting"),
            ("THINGMINT_", "THINGMINT_: is not a setting"),
            ("THINGMINT_CONFIGURATION", "THINGMINT_CONFIGURATION: is not a setting"),
        ],
    )
    def test_an_unknown_variable_is_named(self, monkeypatch: pytest.MonkeyPatch, variable: str, message: str) -> None:
        monkeypatch.setenv(variable, "1")
        assert str(refused()) == message

    def test_variables_of_other_programs_are_ignored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("THINGMINT_YC_ENDPOINT", "THINGMINTX", "MY_THINGMINT_HOST"):
            monkeypatch.setenv(name, "1")
        assert load({}).host == "127.0.0.1"

    @pytest.mark.parametrize(
        ("name", "value", "setting"),
        [
            ("api_port", "65536", "api-port"),
            ("api_port", "-1", "api-port"),
            ("http_port", "http", "http-port"),
            ("http_port", "", "http-port"),
            ("key_pool", "-1", "key-pool"),
            ("key_pool", "4097", "key-pool"),
            ("key_pool", "1.5", "key-pool"),
            ("log_format", "xml", "log-format"),
            ("dev", "perhaps", "dev"),
            ("ca_key", "rsa1024", "ca-key"),
            ("listener_certificate_lifetime", "1", "listener-certificate-lifetime"),
            ("listener_certificate_lifetime", "soon", "listener-certificate-lifetime"),
        ],
    )
    @pytest.mark.parametrize("source", ["flag", "variable", "file"])
    def test_a_bad_value_names_its_setting(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, source: str, name: str, value: str, setting: str
    ) -> None:
        if source == "variable":
            monkeypatch.setenv(f"THINGMINT_{name.upper()}", value)
        elif source == "file":
            (folder / "thingmint.toml").write_text(f"{name} = '{value}'")
        error = refused({name: value} if source == "flag" else {})
        assert error.setting == setting
        assert str(error).startswith(f"{setting}: ")


class TestDurations:
    @pytest.mark.parametrize(
        ("written", "seconds"),
        [("45s", 45), ("45", 45), ("30m", 1800), ("12h", 43200), ("1.5d", 129600), ("90d", 7776000), ("P90D", 7776000)],
    )
    def test_forms_of_a_duration(self, written: str, seconds: int) -> None:
        settings = load({"listener_certificate_lifetime": written})
        assert settings.listener_certificate_lifetime == timedelta(seconds=seconds)


class TestPassphrase:
    @pytest.mark.parametrize(
        ("content", "passphrase"),
        [("correct horse\n", b"correct horse"), ("sesam", b"sesam"), ("p\u00e4ss", "päss".encode())],
    )
    def test_the_passphrase_comes_from_a_file(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, content: str, passphrase: bytes
    ) -> None:
        (folder / "secret").write_text(content, "utf-8")
        monkeypatch.setenv("THINGMINT_CA_PASSPHRASE_FILE", str(folder / "secret"))
        assert load({}).passphrase() == passphrase

    def test_the_passphrase_comes_from_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("THINGMINT_CA_PASSPHRASE", "correct horse")
        assert load({}).passphrase() == b"correct horse"

    def test_there_is_no_passphrase_by_default(self) -> None:
        assert load({}).passphrase() is None

    def test_a_missing_passphrase_file_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("THINGMINT_CA_PASSPHRASE_FILE", "absent")
        with pytest.raises(ConfigError, match=r"^ca-passphrase-file: cannot be read: No such file or directory$"):
            load({}).passphrase()

    @pytest.mark.parametrize("source", ["variable", "file"])
    def test_an_empty_passphrase_is_refused(self, folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
        if source == "variable":
            monkeypatch.setenv("THINGMINT_CA_PASSPHRASE", "")
        else:
            (folder / "secret").write_text("\n")
            monkeypatch.setenv("THINGMINT_CA_PASSPHRASE_FILE", str(folder / "secret"))
        with pytest.raises(ConfigError, match="is empty"):
            load({}).passphrase()

    def test_the_passphrase_is_never_shown(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("THINGMINT_CA_PASSPHRASE", "correct horse")
        settings = load({})
        assert "correct horse" not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"
        monkeypatch.delenv("THINGMINT_CA_PASSPHRASE")
        (folder / "thingmint.toml").write_text("ca_passphrase = ['correct horse']")
        assert "correct horse" not in str(refused())


def test_every_setting_can_be_a_variable() -> None:
    # A name that begins like one of the exceptions would be accepted without a check.
    assert not [name for name in Settings.model_fields if name.startswith(("config", "yc_"))]
    assert not [name for name in os.environ if name.startswith("THINGMINT_")]


class TestMasterKeys:
    @pytest.mark.parametrize(
        ("text", "keys"),
        [
            ("aa" * 32, [b"\xaa" * 32]),
            ("AA" * 32 + "\n", [b"\xaa" * 32]),
            (f"{'aa' * 32}\n{'bb' * 32}", [b"\xaa" * 32, b"\xbb" * 32]),
        ],
    )
    @pytest.mark.parametrize("in_file", [False, True])
    def test_the_current_key_comes_first(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, keys: list[bytes], in_file: bool
    ) -> None:
        (folder / "key").write_text(text)
        monkeypatch.setenv(
            "THINGMINT_MASTER_KEY_FILE" if in_file else "THINGMINT_MASTER_KEY", "key" if in_file else text
        )
        settings = load({})
        assert settings.master_keys() == keys
        assert "aaaa" not in repr(settings).lower()

    def test_there_are_no_master_keys_by_default(self) -> None:
        assert load({}).master_keys() is None

    @pytest.mark.parametrize("text", ["", "aa", "aa" * 33, "zz" * 32, f"{'aa' * 32}\n{'bb' * 31}"])
    def test_malformed_master_keys_are_refused(self, folder: Path, text: str) -> None:
        (folder / "key").write_text(text)
        for setting, value in (("master_key", text), ("master_key_file", folder / "key")):
            with pytest.raises(ConfigError, match="must be 64 hexadecimal digits"):
                load({setting: value}).master_keys()

    def test_a_missing_master_key_file_is_named(self) -> None:
        with pytest.raises(ConfigError, match="master-key-file: cannot be read"):
            load({"master_key_file": "missing"}).master_keys()


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        ("limits", "aws", "aws"),
        ("limits", "none", "none"),
        ("limits", "azure", None),
        ("disk_reserve_bytes", "0", 0),
        ("disk_reserve_bytes", "1048576", MIB),
        ("disk_reserve_bytes", "-1", None),
        ("audit_activity_retention", "30d", timedelta(days=30)),
        ("audit_activity_retention", "59m", None),
        ("audit_activity_bytes", "16777216", 16 * MIB),
        ("audit_activity_bytes", "1000", None),
        ("audit_retention", "90d", timedelta(days=90)),
        ("audit_retention", "1h", timedelta(hours=1)),
        ("audit_retention", "59m", None),
        ("audit_retention", "long", None),
    ],
)
def test_limits_and_retention(monkeypatch: pytest.MonkeyPatch, setting: str, text: str, value: object) -> None:
    monkeypatch.setenv(f"THINGMINT_{setting.upper()}", text)
    if value is None:
        assert refused().setting == setting.replace("_", "-")
    else:
        assert getattr(load({}), setting) == value


class TestQuotas:
    @pytest.mark.parametrize(
        ("limits", "expected"),
        [
            ("generous", Quotas()),
            ("aws", Quotas(users=5000, roles=1000, policies=1500)),
            ("none", NO_QUOTAS),
        ],
    )
    def test_quotas_of_the_profiles(self, limits: str, expected: Quotas) -> None:
        assert load({"limits": limits}).quotas_in_force() == expected

    def test_single_quotas_override_the_profile(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "thingmint.toml").write_text('limits = "aws"\n[quotas]\nusers = 7\ncertificates = 20000000\n')
        monkeypatch.setenv("THINGMINT_QUOTAS__DEVICES", "1000")
        monkeypatch.setenv("THINGMINT_QUOTAS__USERS", "8")
        found = load({}).quotas_in_force()
        assert found == Quotas(users=8, roles=1000, policies=1500, devices=1000, certificates=20_000_000)

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("[quotas]\nuser = 1", "quotas.user: is not a setting; did you mean users?"),
            ("[quotas]\nusers = 0", "quotas.users"),
            ("[quotas]\nusers = 100001", "quotas.users"),
            ('[quotas]\nusers = "many"', "quotas.users"),
            ("quotas = 3", "quotas"),
        ],
    )
    def test_wrong_quotas_are_refused(self, folder: Path, text: str, named: str) -> None:
        (folder / "thingmint.toml").write_text(text)
        assert str(refused()).startswith(named)

    @pytest.mark.parametrize("variable", ["THINGMINT_QUOTAS__USER", "THINGMINT_HOST__USERS", "THINGMINT_QUOTA__USERS"])
    def test_unknown_quota_variables_are_refused(self, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
        monkeypatch.setenv(variable, "3")
        assert "is not a setting" in str(refused())


class TestRates:
    def test_aws_quotas_unless_limits_says_none(self) -> None:
        assert load({}).rates_in_force() == load({"limits": "aws"}).rates_in_force() == Rates(100, 50, 524_288)
        assert load({"limits": "none"}).rates_in_force() == NO_RATES

    def test_each_rate_can_be_set(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "thingmint.toml").write_text("[mqtt_rates]\npublishes = 500\n")
        monkeypatch.setenv("THINGMINT_MQTT_RATES__SUBSCRIBES", "0")
        assert load({}).rates_in_force() == Rates(500, None, 524_288)
        assert load({"limits": "none"}).rates_in_force() == Rates(500, None, None)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("publish = 1", "mqtt_rates.publish: is not a setting; did you mean publishes?"),
            ("publishes = -1", "mqtt-rates.publishes"),
        ],
    )
    def test_wrong_rates_are_refused(self, folder: Path, text: str, message: str) -> None:
        (folder / "thingmint.toml").write_text(f"[mqtt_rates]\n{text}\n")
        assert str(refused()).startswith(message)


class TestConnections:
    def test_default_connection_limits(self) -> None:
        limits = {listener: load({}).connection_limits(listener) for listener in LISTENERS}
        assert {name: (each.total, each.per_address, each.reserve) for name, each in limits.items()} == {
            "api": (4096, 3072, 512),
            "http": (1024, 1024, 0),
            "grpc": (2048, 1536, 256),
            "mqtt": (20_000, 5_000, 1_000),
            "credentials": (1024, 768, 128),
        }

    def test_connection_limits_can_be_set(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "thingmint.toml").write_text("[connections.api]\ntotal = 700\n[connections.mqtt]\nhalf_open = 8\n")
        monkeypatch.setenv("THINGMINT_CONNECTIONS__API__PER_ADDRESS", "600")
        settings = load({})
        assert (settings.connection_limits("api").total, settings.connection_limits("api").per_address) == (700, 600)
        assert settings.connection_limits("mqtt").half_open == 8
        assert settings.connection_limits("grpc") == ConnectionSettings().limits("grpc")

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("[connections.api]\ntotals = 1", "connections.api.totals: is not a setting; did you mean total?"),
            ("[connections.apis]\ntotal = 1", "connections.apis: is not a setting"),
            ("[connections.api]\ntotal = 0", "connections.api.total"),
            ("[connections.api]\nreserve = -1", "connections.api.reserve"),
            ("[connections.grpc]\ntotal = 256", "connections: grpc: reserve must be less than total"),
            ("mqtt_outage_grace = '2h'", "mqtt-outage-grace"),
            ("unauthenticated_request_bytes = 1", "unauthenticated-request-bytes"),
            ("unauthenticated_rate = -1", "unauthenticated-rate"),
        ],
    )
    def test_wrong_connection_limits_are_refused(self, folder: Path, text: str, named: str) -> None:
        (folder / "thingmint.toml").write_text(text)
        assert str(refused()).startswith(named)

    @pytest.mark.parametrize("name", ["API__TOTALS", "APIS__TOTAL", "API__TOTAL__MORE"])
    def test_unknown_connection_variables_are_refused(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setenv(f"THINGMINT_CONNECTIONS__{name}", "3")
        assert "is not a setting" in str(refused())


class TestEndpoints:
    def test_host_names_are_made_canonical(self, folder: Path) -> None:
        (folder / "thingmint.toml").write_text(
            '[endpoints."IoT.Example.org."]\naccount = "123456789012"\nregion = "eu-west-1"\n'
        )
        [(name, endpoint)] = load({}).endpoints.items()
        assert (name, endpoint.account, endpoint.region, endpoint.cloud) == (
            "iot.example.org",
            "123456789012",
            "eu-west-1",
            "aws",
        )

    @pytest.mark.parametrize(
        ("table", "setting"),
        [
            ('default_account = "any"', "default-account"),
            ('default_account = "1234567890123"', "default-account"),
            ('[endpoints."not a name"]\naccount = "123456789012"\nregion = "r"', "endpoints.not a name"),
            ('[endpoints."10.0.0.1"]\naccount = "123456789012"\nregion = "r"', "endpoints.10.0.0.1"),
            ('[endpoints."*.example.org"]\naccount = "123456789012"\nregion = "r"', "endpoints.*.example.org"),
            ('[endpoints."a.example"]\naccount = "12345"\nregion = "r"', "endpoints.a.example.account"),
            ('[endpoints."a.example"]\naccount = "123456789012"', "endpoints.a.example.region"),
            (
                '[endpoints."a.example"]\naccount = "123456789012"\nregion = "r"\ncloud = "azure"',
                "endpoints.a.example.cloud",
            ),
            ('[endpoints."a.example"]\naccount = "123456789012"\nregion = "r"\nport = 1', "endpoints.a.example.port"),
        ],
    )
    def test_wrong_endpoints_are_refused(self, folder: Path, table: str, setting: str) -> None:
        (folder / "thingmint.toml").write_text(table)
        assert refused().setting == setting


class TestBroker:
    def test_all_settings_of_a_broker(self, folder: Path) -> None:
        (folder / "secret").write_text("pass\n")
        (folder / "thingmint.toml").write_text(
            "[broker]\nurl = 'unix:///run/broker'\nversion = '3.1.1'\ndialect = 'rabbitmq'\n"
            "username = 'gw'\npassword_file = 'secret'\n"
        )
        settings = load({}).broker
        assert settings is not None
        upstream = settings.upstream()
        assert upstream == Upstream(Target(path="/run/broker"), 4, RABBITMQ, Login("gw", b"pass"))
        assert "pass'" not in f"{upstream}"

    @pytest.mark.parametrize("text", ['{"url": "mqtt://b"}', '{"url": "mqtt://b", "version": 5}'])
    def test_defaults_of_a_broker(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        monkeypatch.setenv("THINGMINT_BROKER", text)
        settings = load({}).broker
        assert settings is not None
        assert settings.upstream() == Upstream(Target("b", 1883))

    def test_tls_settings_of_a_broker(self) -> None:
        settings = BrokerSettings(url="mqtts://b")
        assert settings.upstream().target.tls is not None

    @pytest.mark.parametrize(
        ("text", "setting", "message"),
        [
            ("{}", "broker.url", "is missing"),
            ("x", "broker", "must be"),
            ('"mqtt://b"', "broker", "must be"),
            ('{"url": "http://b"}', "broker", "must be mqtt://HOST:PORT"),
            ('{"url": "mqtt://b:x"}', "broker", "[Pp]ort"),
            ('{"url": "mqtt://b", "version": "4"}', "broker.version", "must be 5 or 3.1.1"),
            ('{"url": "mqtt://b", "dialect": "x"}', "broker.dialect", "must be"),
            ('{"url": "mqtt://b", "usrname": "x"}', "broker.usrname", "is not a setting; did you mean username"),
            ('{"url": "mqtt://b", "ca_file": "x"}', "broker", "for mqtts:// only"),
            ('{"url": "mqtts://b", "key_file": "x"}', "broker", "needs a certificate_file"),
            ('{"url": "mqtt://b", "password_file": "x"}', "broker", "needs a username"),
        ],
    )
    def test_wrong_broker_settings_are_refused(
        self, monkeypatch: pytest.MonkeyPatch, text: str, setting: str, message: str
    ) -> None:
        monkeypatch.setenv("THINGMINT_BROKER", text)
        error = refused()
        assert error.setting == setting
        assert re.search(message, str(error))

    def test_a_broker_variable_that_is_not_json_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("THINGMINT_ENDPOINTS", "x")
        example = '{"iot.example.org": {"account": "123456789012", "region": "us-east-1"}}'
        assert str(refused()) == (
            f"endpoints: must be a table or a list, written as JSON, for example {example} (THINGMINT_ENDPOINTS)"
        )

    @pytest.mark.parametrize(
        "fields",
        [
            {"url": "mqtt://b", "username": "u", "password_file": "absent"},
            {"url": "mqtts://b", "ca_file": "absent"},
            {"url": "mqtts://b", "ca_file": "empty"},
            {"url": "mqtts://b", "certificate_file": "empty"},
        ],
    )
    def test_missing_or_empty_files_of_a_broker_are_refused(self, folder: Path, fields: dict[str, Any]) -> None:
        (folder / "empty").touch()
        with pytest.raises(ConfigError, match="cannot be"):
            BrokerSettings(**fields).upstream()


WRONG_TYPES = {
    "a number": {"api_port": "must be a whole number", "key_pool": "must be a whole number"},
    "true or false": {"dev": "must be true or false", "reinstate_revoked": "must be true or false"},
    "a duration": dict.fromkeys(
        ("listener_certificate_lifetime", "audit_retention", "mqtt_outage_grace"),
        "must be a duration such as 90d, 12h, 30m or 45s",
    ),
    "a table": dict.fromkeys(("hooks", "export_hooks", "endpoints", "broker", "quotas"), "must be a table"),
    "a list": {"mqtt_proxy_fingerprints": "must be a list"},
    "text": {"host": "must be text", "default_account": "must be text", "ca_passphrase": "must be text"},
    "a path": {"data_dir": "must be a path", "store_file": "must be a path"},
}
PYTHON = re.compile(
    r"True|False|None|timedelta|datetime|dictionary|instance of|<class|unable to parse|Input should|Value error"
)


@pytest.mark.parametrize(("name", "message"), [pair for each in WRONG_TYPES.values() for pair in each.items()])
@pytest.mark.parametrize("value", ["[[1]]", "{ x = [1] }", "1979-05-27"])
def test_wrong_types_in_the_file_are_refused(folder: Path, name: str, message: str, value: str) -> None:
    taken = {"hooks", "export_hooks", "endpoints", "quotas", "connections", "broker"} if "{" in value else set()
    if value == "[[1]]" and name == "mqtt_proxy_fingerprints":
        taken = {name}  # it is a list
    (folder / "thingmint.toml").write_text(f"{name} = {value}")
    error = refused()
    assert "(in thingmint.toml)" in str(error)
    assert not PYTHON.search(str(error)), error
    if name not in taken:
        assert str(error).startswith(f"{name.replace('_', '-')}: must ")


KINDS = {
    "a whole number from ": {"api_port", "mqtt_alpn_port", "key_pool", "unauthenticated_rate"},
    "a whole number of at least ": {"audit_activity_bytes"},
    "a table": {"endpoints", "hooks", "broker", "quotas", "connections", "tls_profile", "mqtt_rates"},
    "a list": {"mqtt_proxy_fingerprints"},
    "a path": {"data_dir", "store_file"},
    "text": {"host", "store", "ca_passphrase", "default_account"},
    "a duration": {"audit_retention", "mqtt_outage_grace"},
    "generous, aws or none": {"limits"},
}


@pytest.mark.parametrize("name", sorted(set(Settings.model_fields) - {"dev", "reinstate_revoked"}))
@pytest.mark.parametrize("source", ["flag", "file"])
def test_true_is_not_a_number_or_text(folder: Path, source: str, name: str) -> None:
    (folder / "thingmint.toml").write_text(f"{name} = true" if source == "file" else "")
    error = refused({name: True} if source == "flag" else {})
    where = f"--{name.replace('_', '-')}" if source == "flag" else "in thingmint.toml"
    told = re.fullmatch(rf"{name.replace('_', '-')}: must be (.+) \({where}\)", str(error))
    assert told, error
    assert "true or false" not in told[1]
    assert told[1].startswith(next((kind for kind, names in KINDS.items() if name in names), told[1]))


@pytest.mark.parametrize("name", sorted(set(Settings.model_fields) - {"data_dir", "ca_passphrase", "master_key"}))
@pytest.mark.parametrize("value", ["\u00e9 \x07", "[1", '{"a": {"b": {"c": 1}}}', "1e999", "nan", "-0.5", "9" * 400])
def test_arbitrary_variables_are_settings_or_config_errors(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"THINGMINT_{name.upper()}", value)
    variable = f"THINGMINT_{name.upper()}"
    with contextlib.suppress(ConfigError):
        load({})
        return  # a path, or a name
    error = str(refused())
    assert variable in error
    assert not PYTHON.search(error), error


def test_all_mistakes_of_a_file_are_named_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINGMINT_HTTP_PORT", "http")
    (folder / "thingmint.toml").write_text(
        'api_port = "x"\nkey_pol = 1\naudit_retention = "1s"\n[mqtt_rates]\nreceived = -1'
    )
    assert str(refused({"limits": "some"})).split("; ") == [
        "api-port: must be a whole number from 0 to 65535, for example 8443 (in thingmint.toml)",
        "http-port: must be a whole number from 0 to 65535, for example 8080 (THINGMINT_HTTP_PORT)",
        "mqtt-rates.received: must be at least 0, for example 1048576 (in thingmint.toml)",
        "limits: must be generous, aws or none (--limits)",
        'audit-retention: must be at least 1h, for example "400d" (in thingmint.toml)',
        "key_pol: is not a setting",
        "did you mean key_pool? (in thingmint.toml)",
    ]


@pytest.mark.parametrize("name", ["data_dir", "store_file", "ca_passphrase_file", "mqtt_proxy_socket", "host"])
def test_paths_are_not_empty_and_have_no_zero_bytes(folder: Path, name: str) -> None:
    for value, message in (("", "must not be empty"), ("a\\u0000b", "must not have a zero byte in it")):
        (folder / "thingmint.toml").write_text(f'{name} = "{value}"')
        assert message in str(refused())
