"""Terraform's resource that the call makes, or the data source that reads the same, if the providers have one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.console.playground.shown_code import CREDENTIALS, Addresses, Equivalent
from thingmint.console.playground.terraform_resources import RESOURCES
from thingmint.console.playground.writing import HCL, FromEnvironment, aligned, leaves, written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.console.playground.held_values import HeldValues
    from thingmint.console.playground.operations import Operation


def terraform(operation: Operation, given: HeldValues, addresses: Addresses) -> Equivalent | None:
    """None if no resource does what the call does."""
    resource = RESOURCES.get(operation.id) if operation.api in ("aws", "yandex") else None
    if resource is None:
        return None
    tree: dict[str, Any] = {**resource.fixed}
    shown = set()
    for source, target in resource.arguments.items():
        found, value = _at(given.values, source.split("."))
        if found:
            shown.add(source)
            _put(tree, target.split("."), resource.change.get(target, lambda each: each)(value))
    kind = "data" if resource.is_data else "resource"
    secrets = dict.fromkeys(
        each.name for each in leaves(list(given.values.values())) if isinstance(each, FromEnvironment)
    )
    blocks = [
        _provider(operation.api, addresses),
        *(f'variable "{name.lower()}" {{\n  sensitive = true\n}}' for name in secrets),
        f'{kind} "{resource.type}" "{resource.name}" {{\n{_lines(tree, 1)}}}',
    ]
    left = sorted(_left(given.values, shown))
    note = f"The resource has no argument for {', '.join(left)}. " if left else ""
    if secrets:
        note += f"Terraform reads {', '.join(f'TF_VAR_{name.lower()}' for name in secrets)} from the environment. "
    if operation.api == "yandex":
        note += "The provider trusts the CAs of the system: set SSL_CERT_FILE to this server's root certificate."
    return Equivalent("terraform", "Terraform", "\n\n".join(blocks), note)


def _at(values: Mapping[str, Any], path: list[str]) -> tuple[bool, Any]:
    value: Any = values
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return False, None
        value = value[name]
    return True, value


class _Block(dict[str, Any]):
    """A nested block, which HCL writes other than a map."""


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, _Block())
    tree[path[-1]] = value


def _lines(tree: Mapping[str, Any], depth: int) -> str:
    indent = "  " * depth
    arguments = {name: each for name, each in tree.items() if not isinstance(each, _Block)}
    pairs = [(name, written(each, HCL, len(indent))) for name, each in arguments.items()]
    lines = [f"{indent}{name} = {text}\n" for name, text in aligned(pairs)]
    for name, each in tree.items():
        if isinstance(each, _Block):
            lines.append(f"{indent}{name} {{\n{_lines(each, depth + 1)}{indent}}}\n")
    return "".join(lines)


def _left(values: Mapping[str, Any], shown: set[str], before: str = "") -> list[str]:
    """The paths of values that no argument has."""
    left = []
    for name, each in values.items():
        path = f"{before}{name}"
        if path in shown:
            continue
        inside = any(known.startswith(f"{path}.") for known in shown)
        left += _left(each, shown, f"{path}.") if inside and isinstance(each, dict) else [path]
    return left


def _provider(api: str, addresses: Addresses) -> str:
    if api == "aws":
        return (
            'terraform {\n  required_providers {\n    aws = {\n      source = "hashicorp/aws"\n    }\n  }\n}\n\n'
            f'provider "aws" {{\n  region = {written(addresses.region, HCL)}\n  endpoints {{\n'
            f"    iot = {written(addresses.url, HCL)}\n    sts = {written(addresses.url, HCL)}\n  }}\n}}"
        )
    return (
        'terraform {\n  required_providers {\n    yandex = {\n      source = "yandex-cloud/yandex"\n    }\n  }\n}\n\n'
        f'provider "yandex" {{\n  endpoint                 = {written(addresses.grpc, HCL)}\n'
        f'  service_account_key_file = "{CREDENTIALS}/yandex-sa.json"\n}}'
    )
