"""Opening an account with the caller's own credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from thingmint.importing.batches import SourceError
from thingmint.importing.sources.aws import open_account

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def test_the_origin_names_regions_and_a_server_that_is_not_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_account(regions=["eu-west-1", "us-east-2"]).origin == "AWS, eu-west-1, us-east-2"
    assert open_account(regions=["cn-north-1"]).origin == "AWS, cn-north-1"
    other = open_account(regions=["eu-west-1"], endpoint_url="https://iot.example.org:8443")
    assert other.origin == "https://iot.example.org:8443, eu-west-1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_IOT", "https://localhost:8443")
    assert open_account(regions=["eu-west-1"]).origin == "https://localhost:8443, eu-west-1"


@pytest.mark.parametrize("variable", ["AWS_DEFAULT_REGION", "AWS_REGION"])
def test_the_region_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "eu-west-2")
    assert open_account().origin == "AWS, eu-west-2"


def test_a_profile_has_credentials_and_region(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("[profile fleet]\nregion = ap-south-1\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    assert open_account("fleet").origin == "AWS, ap-south-1"
    with pytest.raises(SourceError, match="other"):
        open_account("other")


def test_missing_credentials_and_regions_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="give --region"):
        open_account()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(SourceError, match="no credentials"):
        open_account(regions=["eu-west-1"])


def test_an_address_that_is_none_is_told() -> None:
    with pytest.raises(SourceError, match=r"iot\.example\.org"):
        open_account(regions=["eu-west-1"], endpoint_url="iot.example.org")
