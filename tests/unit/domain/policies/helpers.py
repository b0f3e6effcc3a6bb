"""Short ways to write documents and requests."""

import json
from typing import Any

from thingmint.domain.policies import Allow, Kind, Policy, Request, compile_policy, evaluate

ARN = "arn:aws:iot:eu-west-1:123456789012:"


def document(*statements: dict[str, Any], version: str = "2012-10-17") -> str:
    return json.dumps({"Version": version, "Statement": list(statements)})


def statement(effect: str = "Allow", **elements: Any) -> dict[str, Any]:
    """Return a statement. An element that is None is left out."""
    given = {"Effect": effect, "Action": "*", "Resource": "*"} | elements
    return {name: value for name, value in given.items() if value is not None}


def policy(
    *statements: dict[str, Any], kind: Kind = Kind.IDENTITY, name: str = "p", version: str = "2012-10-17"
) -> Policy:
    return compile_policy(document(*statements, version=version), kind=kind, name=name)


def holds(operator: str, key_values: dict[str, Any], context: dict[str, Any], *, kind: Kind = Kind.IDENTITY) -> bool:
    """True if a statement with that one condition applies. An Allow and a Deny must agree."""
    block = {operator: key_values}
    request = Request("iot:Publish", "r", context)
    allowed = isinstance(evaluate([policy(statement(Condition=block), kind=kind)], request), Allow)
    barred = policy(statement(), statement("Deny", Condition=block), kind=kind)
    denied = not isinstance(evaluate([barred], request), Allow)
    assert allowed is denied
    return allowed


def allows(elements: dict[str, Any], action: str, resource: str, context: dict[str, Any] | None = None) -> bool:
    return isinstance(evaluate([policy(statement(**elements))], Request(action, resource, context or {})), Allow)
