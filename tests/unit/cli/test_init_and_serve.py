"""`thingmint init`, and `thingmint serve` with wrong settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.tables import each_row

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.shell import Cli


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def contents(data: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}


# -- init ---------------------------------------------------------------------------------------------------------


def test_a_second_init_changes_nothing(cli: Cli, data: Path) -> None:
    cli("init", "--data-dir", data)
    before = contents(data)
    for _ in range(2):
        assert "no key and no credential was changed" in cli("init", "--data-dir", data)
        assert "Added" not in cli("init", "--data-dir", data, "--hostname=localhost", "--region=us-east-1")
    assert contents(data) == before


def test_a_second_init_adds_names_and_regions(cli: Cli, data: Path) -> None:
    cli("init", "--data-dir", data, "--hostname=iot.example.org")
    before = contents(data)
    names = ["--hostname=Second.Example.Org", "--hostname=iot.example.org", "--region=eu-west-1"]
    said = cli("init", "--data-dir", data, *names)
    assert "no key and no credential was changed" in said
    assert "Added hostnames: second.example.org\n" in said
    assert "Added regions: eu-west-1\n" in said
    assert "Added" not in cli("init", "--data-dir", data, *names)
    after = contents(data)
    assert {path for path in before | after if before.get(path) != after.get(path)} == {data / "thingmint.db"}


def test_init_uses_a_given_account_number(cli: Cli, data: Path) -> None:
    cli("init", "--data-dir", data, "--account-id=012345678901")
    assert "012345678901" in cli("access", "account", "list", "--data-dir", data)
    before = contents(data)
    assert "no key and no credential" in cli("init", "--data-dir", data, "--account-id=012345678901")
    refusal = cli.refused("init", "--data-dir", data, "--account-id=123456789012", "--region=eu-west-1")
    assert refusal.startswith("account-id: the first account of this instance is 012345678901; to add one: ")
    assert contents(data) == before


def test_init_names_the_next_command_with_its_settings_file(cli: Cli, tmp_path: Path, data: Path) -> None:
    (tmp_path / "other.toml").write_text("")
    assert cli("init", "--data-dir", data).endswith(f"Next: thingmint serve --data-dir {data}\n")
    printed = cli("init", "--config=other.toml", "--data-dir", tmp_path / "second")
    assert printed.endswith(f"Next: thingmint serve --config other.toml --data-dir {tmp_path / 'second'}\n")


def test_init_prints_json(cli: Cli, data: Path) -> None:
    made = orjson.loads(cli("init", "--data-dir", data, "--output=json"))
    assert made == {"data_dir": str(data), "created": True, "hostnames": [], "regions": []}
    again = orjson.loads(cli("init", "--data-dir", data, "--output=json", "--hostname=a.example.org"))
    assert again == {"data_dir": str(data), "created": False, "hostnames": ["a.example.org"], "regions": []}


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("--hostname=not a name", "hostname: 'not a name' is neither a DNS name nor an IP address"),
        ("--hostname=", "hostname: '' is neither a DNS name nor an IP address"),
        ("--hostname=http://example.org", "hostname: 'http://example.org' is neither"),
        ("--region=US EAST", "region: 'US EAST' is not a region's name such as us-east-1"),
        ("--region=", "region: '' is not a region's name"),
        ("--account-id=12345678901", "account-id: must be the 12 digits"),
        ("--account-id=١٢٣٤٥٦٧٨٩٠١٢", "account-id: must be the 12 digits"),
        ("--account-id=", "account-id: must be the 12 digits"),
    ],
)
def test_init_with_wrong_names_creates_nothing(cli: Cli, data: Path, argument: str, line: str) -> None:
    assert cli.refused("init", "--data-dir", data, argument).startswith(line)
    assert not data.exists()


def test_the_first_name_cannot_be_a_wildcard(cli: Cli, data: Path) -> None:
    """Clients are given the first name, and must be able to connect to it."""
    assert cli.refused("init", "--data-dir", data, "--hostname=*.things.test").startswith("hostname: ")


@pytest.mark.parametrize("command", ["init", "serve"])
def test_a_directory_with_other_files_is_left_unchanged(cli: Cli, data: Path, command: str) -> None:
    data.mkdir()
    (data / "thesis.tex").write_text("irreplaceable")
    refusal = cli.refused(command, "--data-dir", data)
    assert refusal.startswith(f"data-dir: {data} is not empty (thesis.tex)")
    assert (data / "thesis.tex").read_text() == "irreplaceable"


@pytest.mark.parametrize("command", ["init", "serve"])
def test_a_file_is_refused_as_data_directory(cli: Cli, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("")
    assert cli.refused(command, "--data-dir", tmp_path / "file").startswith("data-dir: ")


# -- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "variables", "file", "line"),
    [
        (["--api-port=99999"], {}, "", "api-port: "),
        (["--key-pool=-1"], {}, "", "key-pool: "),
        (["--grpc-port=65536"], {}, "", "grpc-port: "),
        (["--grpc-port=-1"], {}, "", "grpc-port: "),
        ([], {"THINGMINT_YANDEX_FINGERPRINT": "md5"}, "", "yandex-fingerprint: "),
        ([], {"THINGMINT_YANDEX_OPERATIONS_PENDING": "-PT1S"}, "", "yandex-operations-pending: "),
        ([], {"THINGMINT_API_PORT": "many"}, "", "api-port: "),
        ([], {"THINGMINT_API_PORT": ""}, "", "api-port: "),
        ([], {"THINGMINT_HTTP_PORT": "-1"}, "", "http-port: "),
        ([], {"THINGMINT_DEV": "maybe"}, "", "dev: "),
        ([], {"THINGMINT_LOG_FORMAT": "xml"}, "", "log-format: "),
        ([], {"THINGMINT_CA_KEY": "dsa"}, "", "ca-key: "),
        ([], {"THINGMINT_LISTENER_CERTIFICATE_LIFETIME": "soon"}, "", "listener-certificate-lifetime: "),
        ([], {"THINGMINT_LISTENER_CERTIFICATE_LIFETIME": "PT1S"}, "", "listener-certificate-lifetime: "),
        ([], {"THINGMINT_APIPORT": "1"}, "", "THINGMINT_APIPORT: is not a setting; did you mean api_port?"),
        ([], {"THINGMINT_WHATEVER": "1"}, "", "THINGMINT_WHATEVER: is not a setting"),
        ([], {"THINGMINT_CONFIG": "/nowhere.toml"}, "", "config: there is no file /nowhere.toml"),
        (["--config=/nowhere.toml"], {}, "", "config: there is no file /nowhere.toml"),
        ([], {"THINGMINT_CA_PASSPHRASE_FILE": "/nowhere"}, "", "ca-passphrase-file: cannot be read"),
        ([], {}, "api_port = 99999\n", "api-port: "),
        ([], {}, "apiport = 1\n", "apiport: is not a setting; did you mean api_port?"),
        ([], {}, "[server]\nport = 1\n", "server: is not a setting"),
        ([], {}, 'host = "unclosed\n', "thingmint.toml: is not valid TOML: "),
        ([], {}, "dev = true\nhost = '0.0.0.0'\n", "dev: allows requests without credentials, so it"),
    ],
)
def test_wrong_settings_are_one_line_that_names_them(
    cli: Cli, tmp_path: Path, arguments: list[str], variables: dict[str, str], file: str, line: str
) -> None:
    for name, value in variables.items():
        cli.monkeypatch.setenv(name, value)
    if file:
        (tmp_path / "thingmint.toml").write_text(file)
    assert cli.refused("serve", "--data-dir", "data", *arguments).startswith(line)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_dev_is_for_loopback_only(cli: Cli, data: Path, host: str) -> None:
    assert cli.refused("serve", "--data-dir", data, "--dev", "--host", host).startswith("dev: ")
    assert not data.exists()


@pytest.mark.parametrize(
    ("argument", "setting"),
    [
        ("--api-port=many", "api-port"),
        ("--grpc-port=x", "grpc-port"),
        ("--log-format=xml", "log-format"),
        ("--nope", "nope"),
    ],
)
def test_wrong_flags_are_one_line(cli: Cli, data: Path, argument: str, setting: str) -> None:
    assert setting in cli.refused("serve", "--data-dir", data, argument)


def test_a_passphrase_encrypts_the_keys_and_names_are_added_without_it(cli: Cli, data: Path) -> None:
    with cli.monkeypatch.context() as patch:
        patch.setenv("THINGMINT_CA_PASSPHRASE", "correct horse")
        cli("init", "--data-dir", data)
    for name in ("ca.key", "device-ca.key"):
        pem = (data / name).read_bytes()
        assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
        load_pem_private_key(pem, b"correct horse")
    assert "Added hostnames" in cli("init", "--data-dir", data, "--hostname=other.example.org")


def test_help_names_every_flag_of_the_contract(cli: Cli) -> None:
    shown = cli("serve", "--help")
    for flag in ("--data-dir", "--host", "--api-port", "--http-port", "--key-pool", "--log-format", "--dev"):
        assert flag in shown
    shown = cli("init", "--help")
    for flag in ("--data-dir", "--hostname", "--region"):
        assert flag in shown


@pytest.mark.parametrize(
    ("arguments", "ending"),
    [
        (["serve", "extra"], "see thingmint serve --help"),
        (["serve", "--no-such-flag"], "see thingmint serve --help"),
        (["audit", "list", "--output", "x"], "see thingmint audit list --help"),
        (["access", "key", "create"], "see thingmint access key create --help"),
        (["no-such-command"], "see thingmint --help"),
    ],
)
def test_a_usage_error_names_the_help_of_its_command(cli: Cli, arguments: list[str], ending: str) -> None:
    assert cli.refused(*arguments).endswith(ending)


@each_row(
    ("arguments", "message"),
    [
        ("serve --api-port x", "api-port: must be a whole number from 0 to 65535, for example 8443 (--api-port)"),
        ("serve --mqtt-port 1.5", "mqtt-port: must be a whole number from 0 to 65535, for example 8883 (--mqtt-port)"),
        ("serve --grpc-port 65536", "grpc-port: must be at most 65,535, for example 9443 (--grpc-port)"),
        ("serve --key-pool many", "key-pool: must be a whole number from 0 to 4096, for example 32 (--key-pool)"),
        ("serve --log-format xml", "log-format: must be console or json (--log-format)"),
        ("serve --limits azure", "limits: must be generous, aws or none (--limits)"),
        ("init --ca-key rsa1024", "ca-key: must be p256 or rsa2048 (--ca-key)"),
        ("audit list --limit 0", "limit: must be a whole number from 1 to 10000, for example 50 (--limit)"),
        ("audit list --limit x", "limit: must be a whole number from 1 to 10000, for example 50 (--limit)"),
    ],
)
def test_a_flag_of_a_wrong_type_names_the_accepted_values(cli: Cli, arguments: str, message: str) -> None:
    assert cli.refused(*arguments.split()) == message
