"""The client files: they are valid shell, and lines that a person adds stay."""

from __future__ import annotations

import shlex
import stat
from typing import TYPE_CHECKING

import pytest

from thingmint.access.administration.declaring import Secrets
from thingmint.domain.names import authority_of
from thingmint.instance.clients import update_endpoints, write_client_files
from thingmint.instance.layout import DataDirectory

if TYPE_CHECKING:
    from pathlib import Path

CREDENTIALS = Secrets(
    account="123456789012",
    folder="b1g0",
    access_key_id="AKIAEXAMPLE",
    secret_access_key="s/ecret+",
    token="tma_a_b",
    authorized_key={"id": "aje1", "service_account_id": "aje0", "public_key": "public", "private_key": "private"},
)


def variables(text: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(text, comments=True))


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        ("localhost", "localhost:8443"),
        ("127.0.0.1", "127.0.0.1:8443"),
        ("::1", "[::1]:8443"),
        ("2001:db8::1", "[2001:db8::1]:8443"),
        ("iot.example.org", "iot.example.org:8443"),
    ],
)
def test_an_ipv6_address_with_a_port_has_brackets(host: str, authority: str) -> None:
    assert authority_of(host, 8443) == authority


@pytest.fixture(params=["data", "with blanks", "with 'quotes' and $signs", "{braces}"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> DataDirectory:
    made = DataDirectory(tmp_path / request.param)
    made.root.mkdir()
    write_client_files(made, made, CREDENTIALS, "eu-central-1")
    return made


def test_new_files_have_the_credentials(directory: DataDirectory) -> None:
    assert variables(directory.aws_env.read_text()) == {
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "s/ecret+",
        "AWS_SESSION_TOKEN": "",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL_IOT": "",
        "AWS_ENDPOINT_URL_IOT_DATA_PLANE": "",
        "AWS_ENDPOINT_URL_STS": "",
        "AWS_CA_BUNDLE": "",
    }
    assert "AWS_CA_BUNDLE replaces the trusted authorities for every AWS service" in directory.aws_env.read_text()
    assert f"set -a; . {shlex.quote(str(directory.aws_env))}" in directory.aws_env.read_text()
    assert directory.token.read_text() == "tma_a_b\n"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (directory.aws_env, directory.token)}
    assert modes == {0o600}
    assert stat.S_IMODE(directory.clients.stat().st_mode) == 0o700


def test_the_servers_addresses_are_updated(directory: DataDirectory) -> None:
    update_endpoints(directory, "::1", api_port=4711, grpc_port=1)
    found = variables(directory.aws_env.read_text())
    assert found["AWS_ENDPOINT_URL_IOT"] == found["AWS_ENDPOINT_URL_STS"] == "https://[::1]:4711"
    assert found["AWS_CA_BUNDLE"] == str(directory.root / "ca.pem")
    assert found["AWS_SECRET_ACCESS_KEY"] == "s/ecret+"
    update_endpoints(directory, "localhost", api_port=4712, grpc_port=1)
    assert variables(directory.aws_env.read_text())["AWS_ENDPOINT_URL_IOT"] == "https://localhost:4712"


def test_other_lines_stay_unchanged(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.clients.mkdir()
    mine = "# AWS_CA_BUNDLE=x\n\nMY_AWS_CA_BUNDLE=1\nAWS_PROFILE='a b'\n{}  export AWS_CA_BUNDLE=y\nAWS_CA_BUNDLES=z"
    directory.aws_env.write_text(mine.format("AWS_CA_BUNDLE=old\n"))
    (directory.clients / "yc.env").write_text("AWS_ENDPOINT_URL_IOT=old")
    (directory.clients / "token").write_text("AWS_ENDPOINT_URL_IOT=a token")
    update_endpoints(directory, "localhost", api_port=1, grpc_port=2)
    assert directory.aws_env.read_text() == mine.format(f"AWS_CA_BUNDLE={tmp_path}/ca.pem\n")
    assert (directory.clients / "yc.env").read_text() == "AWS_ENDPOINT_URL_IOT=https://localhost:1"
    assert (directory.clients / "token").read_text() == "AWS_ENDPOINT_URL_IOT=a token"


def test_correct_files_are_not_written_again(directory: DataDirectory) -> None:
    update_endpoints(directory, "localhost", api_port=1, grpc_port=2)
    inode = directory.aws_env.stat().st_ino
    update_endpoints(directory, "localhost", api_port=1, grpc_port=2)
    assert directory.aws_env.stat().st_ino == inode


def test_lines_of_later_versions_are_added(directory: DataDirectory) -> None:
    later = ("AWS_ENDPOINT_URL_IOT_DATA_PLANE", "AWS_ENDPOINT_URL_STS")
    new = directory.aws_env.read_text()
    update_endpoints(directory, "localhost", api_port=1, grpc_port=2)
    expected = directory.aws_env.read_text()
    old = "".join(line for line in new.splitlines(keepends=True) if not line.startswith(later))
    directory.aws_env.write_text(old)
    copy = directory.clients / "copy.env"
    copy.write_text(old)
    update_endpoints(directory, "localhost", api_port=1, grpc_port=2)
    assert directory.aws_env.read_text() == expected
    assert directory.aws_env.stat().st_mode & 0o777 == 0o600
    assert later[0] not in copy.read_text()


def test_lines_that_were_commented_out_are_not_added(directory: DataDirectory) -> None:
    directory.aws_env.write_text("AWS_ENDPOINT_URL_IOT=old\n# AWS_ENDPOINT_URL_STS=\nMINE=1\n")
    update_endpoints(directory, "localhost", api_port=1, grpc_port=2)
    url = "https://localhost:1"
    assert directory.aws_env.read_text() == (
        f"AWS_ENDPOINT_URL_IOT={url}\nAWS_ENDPOINT_URL_IOT_DATA_PLANE={url}\n# AWS_ENDPOINT_URL_STS=\nMINE=1\n"
    )


def test_nothing_is_added_to_a_file_without_addresses(directory: DataDirectory) -> None:
    directory.aws_env.write_text("AWS_REGION=us-east-1\n")
    update_endpoints(directory, "localhost", api_port=1, grpc_port=2)
    assert directory.aws_env.read_text() == "AWS_REGION=us-east-1\n"
