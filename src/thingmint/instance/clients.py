"""What clients paste: D/clients/aws.env and D/clients/token."""

from __future__ import annotations

import ipaddress
import re
import shlex
from typing import TYPE_CHECKING

from thingmint.instance.layout import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.access.directory import NewCredentials
    from thingmint.instance.layout import DataDirectory

__all__ = ["authority_of", "update_endpoints", "write_client_files"]

_AWS_ENV = """\
# Points boto3, the aws command line and other AWS SDKs to this Thingmint.
# Use: set -a; . {path}; set +a
# A profile that the shell has set (AWS_PROFILE) would win over these: unset it.
# AWS_CA_BUNDLE replaces the trusted authorities for every AWS service in that shell, not only for iot.
AWS_ACCESS_KEY_ID={access_key_id}
AWS_SECRET_ACCESS_KEY={secret_access_key}
AWS_SESSION_TOKEN=
AWS_DEFAULT_REGION={region}
AWS_REGION={region}
AWS_ENDPOINT_URL_IOT=
AWS_CA_BUNDLE=
"""


def authority_of(host: str, port: int) -> str:
    """host:port, with the brackets that an IPv6 address needs in a URL."""
    try:
        if ipaddress.ip_address(host).version == 6:
            return f"[{host}]:{port}"
    except ValueError:
        pass
    return f"{host}:{port}"


def write_client_files(target: DataDirectory, final: DataDirectory, credentials: NewCredentials, region: str) -> None:
    """Writes them into ``target``, a directory that is about to become ``final``."""
    target.clients.mkdir(mode=0o700)
    env = _AWS_ENV.format(
        path=shlex.quote(str(final.aws_env)),
        access_key_id=credentials.access_key_id,
        secret_access_key=credentials.secret_access_key,
        region=region,
    )
    write_private(target.aws_env, env.encode())
    write_private(target.token, f"{credentials.api_token}\n".encode())


def update_endpoints(directory: DataDirectory, hostname: str, api_port: int) -> None:
    """Rewrites the lines that say where this server listens and what to trust; all others stay as they are."""
    values = {
        "AWS_ENDPOINT_URL_IOT": f"https://{authority_of(hostname, api_port)}",
        "AWS_CA_BUNDLE": str(directory.ca),
    }
    for path in directory.clients.glob("*.env"):
        old = path.read_text()
        new = _with_values(old, values)
        if new != old:
            write_private(path, new.encode())


def _with_values(text: str, values: Mapping[str, str]) -> str:
    def line(match: re.Match[str]) -> str:
        name = match[1]
        return f"{name}={shlex.quote(values[name])}" if name in values else match[0]

    return re.sub(r"^([A-Z_0-9]+)=.*$", line, text, flags=re.MULTILINE)
