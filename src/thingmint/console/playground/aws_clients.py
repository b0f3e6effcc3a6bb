"""The same call with the `aws` command and with boto3."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from botocore import xform_name

from thingmint.console.playground.curl import in_address
from thingmint.console.playground.shown_code import Addresses, Equivalent
from thingmint.console.playground.writing import (
    Base64,
    FromEnvironment,
    FromFile,
    can_be_argument,
    json_command,
    leaves,
    python_call,
    python_imports,
    python_text,
    shell_command,
    shell_option,
    shell_word,
)

if TYPE_CHECKING:
    from thingmint.console.playground.held_values import HeldValues
    from thingmint.console.playground.operations import Operation

_MEMBERS: Final = {
    "isAscendingOrder": "ascendingOrder",
    "x-amz-tagging": "tags",
    "x-amzn-iot-policy": "policyName",
    "x-amzn-iot-principal": "principal",
    "x-amzn-principal": "principal",
}
"""The names of members in the model, which all clients use, of those that have another name in the request."""

_OF_CAS: Final = {"caCertificateId": "certificateId"}
"""The same for paths that begin with /cacertificate."""

PAYLOADS: Final = {
    "CreateTopicRule": "topicRulePayload",
    "ReplaceTopicRule": "topicRulePayload",
    "SetLoggingOptions": "loggingOptionsPayload",
}
"""The names of the members that are the whole body."""

_READ_BY_AWS: Final = re.compile(r"(?:file|fileb|https?)://")
_BLOB_NOTE: Final = "Version 2 of the aws command takes bytes in Base64, as here. "
_JSON_NOTE: Final = "The values are in JSON, because the aws command would read one of them as an address or an end."


def aws_command(operation: Operation, given: HeldValues, addresses: Addresses) -> Equivalent:
    words = [f"aws iot {xform_name(operation.id, '-')}", f"--region {shell_word(addresses.region)}"]
    members = members_of(operation, given)
    note = _BLOB_NOTE if any(isinstance(each, Base64) for each in leaves(members)) else ""
    if any(isinstance(each, str) and not _is_plain(each) for each in members.values()):
        command, word = json_command(members)
        words.append(f"--cli-input-json {_substituted(command, word)}")
        note += _JSON_NOTE
    else:
        words += [_option(name, each) for name, each in members.items()]
    if _has_pages(operation):
        words.append("--no-paginate")
    return Equivalent("aws", "aws", shell_command(words), note)


def boto3(operation: Operation, given: HeldValues, addresses: Addresses) -> Equivalent:
    members = members_of(operation, given)
    imports = python_imports(members)
    call = python_call(f"iot.{xform_name(operation.id)}", members)
    client = python_call("boto3.client", {"region_name": addresses.region}, [python_text("iot")])
    lines = ["# pip install boto3", *imports, *([""] if imports else []), "import boto3", ""]
    return Equivalent("boto3", "boto3", "\n".join([*lines, f"iot = {client}", f"answer = {call}", "print(answer)"]))


def members_of(operation: Operation, given: HeldValues) -> dict[str, Any]:
    """The values by the names of the model's members."""
    members: dict[str, Any] = {}
    names = _MEMBERS | (_OF_CAS if (operation.path or "").startswith("/cacertificate/") else {})
    payload = PAYLOADS.get(operation.id)
    for each in operation.fields:
        if each.name not in given.values:
            continue
        name, value = names.get(each.name, each.name), given.values[each.name]
        if payload is not None and each.place == "body":
            members.setdefault(payload, {})[name] = value
        else:
            members[name] = value
    return members


def _is_plain(text: str) -> bool:
    """The aws command reads the file or page that a value names, and a program's argument ends at a NUL."""
    return not _READ_BY_AWS.match(text) and can_be_argument(text)


def _option(name: str, value: Any) -> str:
    option = f"--{xform_name(name, '-')}"
    if isinstance(value, bool):
        return option if value else f"--no-{option[2:]}"
    if isinstance(value, FromEnvironment):
        return f'{option}="${value.name}"'
    if isinstance(value, FromFile):
        return f"{option} {shell_word(f'file://{value.name}')}"
    if isinstance(value, str | int | float):
        return shell_option(option, in_address(value))
    command, word = json_command(value)
    return f"{option} {_substituted(command, word)}"


def _substituted(command: str | None, word: str) -> str:
    return word if command is None else f'"$({command})"'


def _has_pages(operation: Operation) -> bool:
    """The aws command asks for all pages by itself, and takes page sizes as its own options."""
    return any(each.name in ("marker", "nextToken") for each in operation.fields)
