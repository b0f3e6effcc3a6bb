"""The files of D/clients, from which clients get their credentials and addresses."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import orjson

from thingmint.domain.names import authority_of
from thingmint.instance.layout import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.access.administration.declaring import Secrets
    from thingmint.instance.layout import DataDirectory


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
AWS_ENDPOINT_URL_IOT_DATA_PLANE=
AWS_ENDPOINT_URL_STS=
AWS_CA_BUNDLE=
"""
_OF_IOT = "AWS_ENDPOINT_URL_IOT"
_ADDED_LATER = ("AWS_ENDPOINT_URL_IOT_DATA_PLANE", "AWS_ENDPOINT_URL_STS")
"""Variables that the first versions did not write."""


_YANDEX_ENV = """\
# Where yandexcloud and other clients of Yandex Cloud's API find this Thingmint.
# Use: set -a; . {path}; set +a; the service account's key is in {key}
THINGMINT_YC_ENDPOINT=
THINGMINT_YC_FOLDER_ID={folder}
THINGMINT_YC_ROOT_CERTIFICATES=
"""


def write_client_files(target: DataDirectory, final: DataDirectory, new: Secrets, region: str) -> None:
    """Writes the credentials that new_account made into ``target``, which will be moved to ``final``."""
    target.clients.mkdir(mode=0o700)
    env = _AWS_ENV.format(path=shlex.quote(str(final.aws_env)), region=region, **new)
    write_private(target.aws_env, env.encode())
    write_private(target.token, f"{new['token']}\n".encode())
    env = _YANDEX_ENV.format(path=shlex.quote(str(final.yandex_env)), key=final.yandex_service_account, **new)
    write_private(target.yandex_env, env.encode())
    write_private(target.yandex_service_account, orjson.dumps(new["authorized_key"], option=orjson.OPT_INDENT_2))


def update_endpoints(
    directory: DataDirectory,
    hostname: str,
    *,
    api_port: int,
    grpc_port: int,
    own_root_on_api: bool = True,
    own_root_on_grpc: bool = True,
) -> None:
    """Rewrites the lines with this server's addresses and root certificate. Other lines stay unchanged.

    In aws.env of an earlier version, adds the lines for APIs that were added since, unless a comment names them.

    The line with the root certificate stays too if a listener shows a certificate of another CA: only its user knows
    the file with that CA's root.
    """
    values = {}
    if own_root_on_api:
        values["AWS_CA_BUNDLE"] = str(directory.ca)
    if own_root_on_grpc:
        values["THINGMINT_YC_ROOT_CERTIFICATES"] = str(directory.ca)
    if api_port:  # 0 is not known before the server listens
        url = f"https://{authority_of(hostname, api_port)}"
        values |= dict.fromkeys((_OF_IOT, *_ADDED_LATER), url)
    if grpc_port:
        values["THINGMINT_YC_ENDPOINT"] = authority_of(hostname, grpc_port)
    _rewrite(directory, values)


def move_endpoints(directory: DataDirectory, hostname: str) -> None:
    """Changes the host name while no server is running. The ports and the root stay: a start sets the root."""
    ports = {_OF_IOT: 0, "THINGMINT_YC_ENDPOINT": 0}
    for path in directory.clients.glob("*.env"):
        for name in ports:
            if match := re.search(rf"^{name}=.*:(\d+)'?$", path.read_text(), re.MULTILINE):
                ports[name] = int(match[1])
    api_port, grpc_port = ports.values()
    update_endpoints(
        directory,
        hostname,
        api_port=api_port,
        grpc_port=grpc_port,
        own_root_on_api=False,
        own_root_on_grpc=False,
    )


def _rewrite(directory: DataDirectory, values: Mapping[str, str]) -> None:
    for path in directory.clients.glob("*.env"):
        old = path.read_text()
        new = _with_values(_completed(old) if path == directory.aws_env and _OF_IOT in values else old, values)
        if new != old:
            write_private(path, new.encode())


def _completed(text: str) -> str:
    """The text with the lines that were added later, behind that of the first address."""
    missing = "".join(f"\n{name}=" for name in _ADDED_LATER if re.search(rf"\b{name}\b", text) is None)
    return re.sub(rf"^{_OF_IOT}=.*$", lambda line: line[0] + missing, text, count=1, flags=re.MULTILINE)


def _with_values(text: str, values: Mapping[str, str]) -> str:
    def line(match: re.Match[str]) -> str:
        name = match[1]
        return f"{name}={shlex.quote(values[name])}" if name in values else match[0]

    return re.sub(r"^([A-Z_0-9]+)=.*$", line, text, flags=re.MULTILINE)
