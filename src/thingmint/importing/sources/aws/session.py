"""Opens an account with the caller's own credentials."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from thingmint.importing.batches import SourceError
from thingmint.importing.sources.aws.calls import WORKERS, Calls
from thingmint.importing.sources.aws.source import AwsSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from botocore.client import BaseClient

_AWS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_CLIENT = Config(
    retries={"mode": "standard", "total_max_attempts": 2},
    connect_timeout=10,
    read_timeout=60,
    max_pool_connections=WORKERS,
    user_agent_extra="thingmint-import",
)


def open_account(
    profile: str | None = None,
    regions: Sequence[str] = (),
    endpoint_url: str | None = None,
    rate: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> AwsSource:
    """Return the source for regions of an account; without regions, for that of the profile or the environment.

    ``tell`` takes lines for people while calls fail. Raises SourceError.
    """
    session = _session(profile)
    regions = regions or _region_of(session)

    def connect(region: str) -> BaseClient:
        try:
            return session.create_client("iot", region_name=region, endpoint_url=endpoint_url, config=_CLIENT)
        except (BotoCoreError, ValueError) as error:
            raise SourceError(f"AWS cannot be called: {error}") from None

    # The endpoint may also be in AWS_ENDPOINT_URL_IOT or in a profile.
    client = connect(regions[0])
    server = str(client.meta.endpoint_url)
    client.close()
    host = urlsplit(server).hostname or ""
    return AwsSource(
        regions,
        lambda region: Calls(connect(region), rate, tell=tell),
        server="AWS" if host.endswith(_AWS) else server,
        rate=rate,
    )


def _session(profile: str | None) -> botocore.session.Session:
    try:
        session = botocore.session.Session(profile=profile)
        if session.get_credentials() is None:
            advice = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            raise SourceError(f"There are no credentials for AWS: {advice}, or give --profile")
    except BotoCoreError as error:
        raise SourceError(f"The credentials for AWS cannot be used: {error}") from None
    return session


def _region_of(session: botocore.session.Session) -> list[str]:
    region = session.get_config_variable("region") or os.environ.get("AWS_REGION")  # which other SDKs read
    if region is None:
        raise SourceError("No region is set: give --region, once for each region that has devices")
    return [region]
