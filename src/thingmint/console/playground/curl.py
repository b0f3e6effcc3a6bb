"""The same call with curl."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from thingmint.console.playground.shown_code import CREDENTIALS, ROOT, Addresses, Equivalent
from thingmint.console.playground.writing import (
    FromEnvironment,
    json_command,
    shell_command,
    shell_word,
)

if TYPE_CHECKING:
    from thingmint.console.playground.held_values import HeldValues
    from thingmint.console.playground.operations import Operation

_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9._~/-]*")
_IN_PATH: Final = ":@,=+"  # may stand in a segment as they are; in Yandex's paths a colon begins a verb
_OLD_CURL: Final = (
    "The path has a character that curl before version 8.16 signs otherwise than AWS does. The server then answers "
    "SignatureDoesNotMatch."
)


def curl(operation: Operation, given: HeldValues, addresses: Addresses) -> Equivalent | None:
    """None if HTTP has no such request: the method is for gRPC only, or a header's value has several lines."""
    if operation.path is None or operation.method is None:
        return None
    headers = _headers(operation, given)
    if headers is None:
        return None
    path = _path(operation, given)
    words = ["curl --fail-with-body --tlsv1.2"]
    if addresses.own_root:
        words.append(f"--cacert {ROOT}")
    words += _credentials(operation, addresses)
    if operation.method != "GET":
        words.append(f"-X {operation.method}")
    words += headers
    if any(segment in (".", "..") for segment in path.split("/")):
        words.append("--path-as-is")
    command, body = _body(operation, given)
    words += body
    words.append(shell_word(f"{addresses.url}{path}{_query(operation, given)}"))
    note = _OLD_CURL if operation.api == "aws" and not _PLAIN_PATH.fullmatch(path) else ""
    return Equivalent("curl", "curl", shell_command(words, command), note)


def credentials(api: str, addresses: Addresses) -> str:
    """The commands of a shell that put the credentials into its environment."""
    if api == "aws":
        return f"set -a; . {CREDENTIALS}/aws.env; set +a"
    if api == "native":
        return f"export TOKEN=$(cat {CREDENTIALS}/token)"
    root = f"--cacert {ROOT} " if addresses.own_root else ""
    return (
        f"export IAM_TOKEN=$(jq --raw-input '{{yandexPassportOauthToken: .}}' {CREDENTIALS}/token |\n"
        f"  curl -sS --fail-with-body {root}-H 'content-type: application/json' --data @- \\\n"
        f"    {shell_word(f'{addresses.url}/iam/v1/tokens')} | jq --raw-output .iamToken)"
    )


def _credentials(operation: Operation, addresses: Addresses) -> list[str]:
    if operation.api == "aws":
        return [
            f"--aws-sigv4 {shell_word(f'aws:amz:{addresses.region}:iot')}",
            '--user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY"',
        ]
    if operation.api == "yandex":
        return [] if operation.is_open else ['-H "authorization: Bearer $IAM_TOKEN"']
    words = ['-H "authorization: Bearer $TOKEN"']
    if not addresses.is_home:  # the native API takes another region from the host
        words.append(f"-H {shell_word(f'host: iot.{addresses.region}.amazonaws.com')}")
    return words


def _path(operation: Operation, given: HeldValues) -> str:
    path = operation.path or ""
    for each in operation.fields_of("path"):
        safe = (_IN_PATH if operation.api == "aws" else "") + ("/" if each.schema.get("x-greedy") else "")
        value = quote(in_address(given.values.get(each.name, "")), safe=safe, errors="replace")
        path = re.sub(rf"{{{re.escape(each.name)}\+?}}", lambda _, value=value: value, path)  # type: ignore[misc]
    return path


def _query(operation: Operation, given: HeldValues) -> str:
    """In the order of the alphabet: old versions of curl sign the query as it is, and AWS sorts it."""
    pairs = []
    for each in operation.fields_of("query"):
        if each.name in given.values:
            value = given.values[each.name]
            name = quote(each.name, safe="")
            pairs += [f"{name}={quote(in_address(one), safe='', errors='replace')}" for one in _listed(value)]
    return f"?{'&'.join(sorted(pairs))}" if pairs else ""


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def in_address(value: Any) -> str:
    """A value of a path, a query or a header as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _headers(operation: Operation, given: HeldValues) -> list[str] | None:
    words = []
    for each in operation.fields_of("header"):
        value = given.values.get(each.name)
        if isinstance(value, FromEnvironment):
            words.append(f'-H "{each.name}: ${value.name}"')
        elif value is not None:
            text = in_address(value)
            if not text.isprintable():
                return None
            words.append(f"-H {shell_word(f'{each.name}: {text}' if text.strip() else f'{each.name};')}")
    return words


def _body(operation: Operation, given: HeldValues) -> tuple[str | None, list[str]]:
    """A command that writes the body to a pipe if one is needed, and the options."""
    value = body_of(operation, given)
    if value is None:
        return None, []
    command, word = json_command(value)
    media = f"-H 'content-type: {operation.body_kind or 'application/json'}'"
    return command, [media, f"--data {word}" if command is None else "--data @-"]


def body_of(operation: Operation, given: HeldValues) -> Any:
    """The value of the request's body; None without a body."""
    fields = operation.fields_of("body")
    members = {each.name: given.values[each.name] for each in fields if each.name in given.values}
    if operation.is_raw:
        return next(iter(members.values()), None)
    return members if members or (fields and operation.api == "yandex") else None
