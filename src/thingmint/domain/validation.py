"""Describes pydantic's errors in the words of settings and JSON instead of Python's."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from thingmint.domain.durations import written
from thingmint.domain.names import ACCOUNT_ID, NAME, NAMED_POLICY, POLICY_NAME, PRINCIPAL, REGION

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOT_A_DURATION = "must be a duration such as 90d, 12h, 30m or 45s"
_FORMS = {
    "bool_": "must be true or false",
    "dict_": "must be a table",
    "float_": "must be a number",
    "int_": "must be a whole number",
    "list_": "must be a list",
    "missing": "is missing",
    "model_": "must be a table",
    "path_": "must be a path",
    "string_sub_type": "must be text",
    "string_type": "must be text",
    "string_unicode": "must be text",
    "time_delta_": _NOT_A_DURATION,
}
_PATTERNS = {
    ACCOUNT_ID: "must be an account's 12 digits",
    "^([0-9]{12})?$": "must be an account's 12 digits",
    f"^{NAME}$": "must be 1 to 64 letters, digits or any of +=,.@_-",
    PRINCIPAL: "must be user/NAME, role/NAME or service-account/NAME, or its ARN",
    f"^{POLICY_NAME}$": "must be 1 to 128 letters, digits or any of +=,.@_-",
    NAMED_POLICY: "must be the name of a policy, such as thingmint/ReadOnly",
    f"^{REGION}$": "must be a region's name such as us-east-1",
    "^[^\\x00]*$": "must not have the character U+0000",
    "^AKIA[0-9A-Z]{16}$": "must be AKIA and 16 capital letters or digits, as AWS makes them",
    "^[0-9A-Za-z/+]{40}$": "must be 40 letters, digits, / or +, as AWS makes them",
    "^([0-9]{12}|none)$": "must be an account's 12 digits, or none",
    "^[0-9a-f]{64}$": "must be a SHA-256 fingerprint in 64 lower-case hexadecimal digits",
}
# pydantic reports some bounds by their repr().
_REPR, _PART = re.compile(r"datetime\.timedelta\((.*)\)"), re.compile(r"(\w+)=(\d+)")


def described(error: Mapping[str, Any]) -> str:
    """Return the description of one of pydantic's errors: what the value must be."""
    type, context = error["type"], error.get("ctx") or {}
    for beginning, words in _FORMS.items():
        if type.startswith(beginning):
            return words
    match type:
        case "greater_than_equal":
            return f"must be at least {_shown(context['ge'])}"
        case "less_than_equal":
            return f"must be at most {_shown(context['le'])}"
        case "literal_error":
            return f"must be {context['expected'].replace(chr(39), '')}"
        case "string_pattern_mismatch":
            return _PATTERNS.get(context["pattern"], f"must have the form {context['pattern']}")
        case "string_too_short" | "too_short":
            return "must not be empty"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
    message = str(error["msg"]).removeprefix("Value error, ")
    return message.replace("Input should be", "must be")


def flaw(error: Mapping[str, Any]) -> str:
    """Return the description as a phrase that fits after the field's name."""
    description = described(error)
    return description if description.startswith(("is ", "must ")) else f"is not valid: {description}"


def _shown(bound: object) -> str:
    if isinstance(bound, str) and (match := _REPR.fullmatch(bound)):
        bound = timedelta(**{name: int(number) for name, number in _PART.findall(match[1])})
    if isinstance(bound, timedelta):
        return written(bound)
    return f"{bound:,}" if isinstance(bound, int) else str(bound)
