"""What a policy does, in sentences: one for each statement."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from thingmint.domain.linting.reading import Sentence, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.domain.linting.policy_vocabulary import Vocabulary

_MAX_NAMED = 6  # of a list in a sentence
_LONGEST = 160  # characters of a name in a sentence
_SERVICES = {
    "iot": "AWS IoT",
    "yandex": "the Yandex API",
    "thingmint": "the administration of Thingmint",
    "sts": "STS",
    "iam": "IAM",
}
_COMPARISONS = {
    "Equals": "is",
    "NotEquals": "is not",
    "EqualsIgnoreCase": "is, in any case of letters,",
    "NotEqualsIgnoreCase": "is not, in any case of letters,",
    "Like": "is like",
    "NotLike": "is not like",
    "LessThan": "is less than",
    "LessThanEquals": "is at most",
    "GreaterThan": "is more than",
    "GreaterThanEquals": "is at least",
}
_DATES = {
    "LessThan": "is before",
    "LessThanEquals": "is not after",
    "GreaterThan": "is after",
    "GreaterThanEquals": "is not before",
}
_WHOLE = {"Bool": "is", "IpAddress": "is in", "NotIpAddress": "is not in", "BinaryEquals": "is"}
_OPERATOR = re.compile(
    "(?P<each>ForAllValues:|ForAnyValue:)?(?:(?P<type>String|Arn|Numeric|Date)(?P<comparison>[A-Za-z]+?)"
    "|(?P<whole>Bool|IpAddress|NotIpAddress|BinaryEquals))(?P<optional>IfExists)?"
)
_OWN = re.compile(r"arn:[^:]*:iot:([^:]*):([^:]*):(.+)", re.DOTALL)


def sentence_of(statement: dict[str, Any], vocabulary: Vocabulary) -> Sentence:
    """Of a statement of a valid document."""
    effect, sid = str(statement["Effect"]), statement.get("Sid") or None
    text = f"{'Allows' if effect == 'Allow' else 'Denies'} {_actions(statement, vocabulary)}"
    if "Resource" in statement or "NotResource" in statement:
        text += f" on {_resources(statement, vocabulary)}"
    if "Principal" in statement or "NotPrincipal" in statement:
        text += _principals(statement)
    conditions = [
        _condition(operator, key, values)
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    ]
    if conditions:
        text += f", if {joined(conditions, 'and')}"
    return Sentence(effect, sid and shown(sid), shown(f"{text}."))


def joined(texts: Sequence[str], word: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``; of many, the first ones and the number of the others."""
    shown = [text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\N{HORIZONTAL ELLIPSIS}" for text in texts]
    if len(shown) > _MAX_NAMED:
        shown = [*shown[: _MAX_NAMED - 1], f"{len(texts) - _MAX_NAMED + 1} more"]
    return " ".join([", ".join(shown[:-1]), word, shown[-1]]) if len(shown) > 1 else shown[0]


def listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _actions(statement: dict[str, Any], vocabulary: Vocabulary) -> str:
    element = "Action" if "Action" in statement else "NotAction"
    phrases = []
    for pattern in listed(statement[element]):
        service, _, operation = pattern.partition(":")
        if pattern == "*":
            phrases.append("every action")
        elif operation == "*":
            phrases.append(f"all actions of {_SERVICES.get(service.lower(), service)}")
        elif "*" in operation or "?" in operation:
            count = len(vocabulary.selected(pattern))
            phrases.append(f"{pattern} ({count} {'action' if count == 1 else 'actions'})")
        else:
            phrases.append(pattern)
    if element == "NotAction":
        return f"every action except {joined(phrases)}"
    return joined(phrases)


def _resources(statement: dict[str, Any], vocabulary: Vocabulary) -> str:
    element = "Resource" if "Resource" in statement else "NotResource"
    patterns = listed(statement[element])
    if "*" in patterns:
        return "every resource" if element == "Resource" else "no resource"
    names = joined([_resource(each, vocabulary) for each in patterns])
    return f"everything except {names}" if element == "NotResource" else names


def _resource(pattern: str, vocabulary: Vocabulary) -> str:
    """An ARN of AWS IoT in the account without its beginning, which says nothing new."""
    match = _OWN.fullmatch(pattern)
    if match is None or match[2] not in (vocabulary.account, "*"):
        return pattern
    where = "" if match[1] == "*" or [match[1]] == list(vocabulary.regions) else f" in {match[1]}"
    return f"{match[3]}{where}"


def _principals(statement: dict[str, Any]) -> str:
    element = "Principal" if "Principal" in statement else "NotPrincipal"
    given = statement[element]
    names = ["every caller"] if given == "*" else [name for kind in given.values() for name in listed(kind)]
    names = ["every caller" if name == "*" else str(name) for name in names]
    return f" {'to' if element == 'Principal' else 'to all callers except'} {joined(names)}"


def _condition(operator: str, key: str, values: object) -> str:
    given = listed(values)
    texts = [str(value).lower() if isinstance(value, bool) else str(value) for value in given]
    if operator == "Null":
        return f"{key} has {'no' if texts[:1] == ['true'] else 'a'} value"
    match = _OPERATOR.fullmatch(operator)
    if match is None:
        return f"{operator} {key} {joined(texts or ['nothing'], 'or')}"
    verb = _WHOLE.get(match["whole"] or "") or _verb(match["type"], match["comparison"])
    each = {"ForAllValues:": "each value of ", "ForAnyValue:": "a value of "}.get(match["each"] or "", "")
    optional = " or has no value" if match["optional"] else ""
    return f"{each}{key} {verb} {joined(texts or ['nothing'], 'or')}{optional}"


def _verb(type: str, comparison: str) -> str:
    known = _DATES if type == "Date" and comparison in _DATES else _COMPARISONS
    return known.get(comparison, comparison)
