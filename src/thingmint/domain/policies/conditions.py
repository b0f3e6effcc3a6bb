"""The condition operators.

A condition is met if one of its values matches; with a negated operator, if none matches. A condition block is met if
all of its conditions are. If the request lacks the key, an operator is false, a negated operator true, an
``...IfExists`` operator true, ``ForAllValues:`` true and ``ForAnyValue:`` false (IAM user guide, "Condition operators"
and "Set operators for multivalued context keys").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from thingmint.domain.policies.operators import OPERATORS, read_all
from thingmint.domain.policies.values import read_bool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.domain.policies.decisions import Request
    from thingmint.domain.policies.operators import Compiler, Json, Values
    from thingmint.domain.policies.patterns import Dialect


Quantifier = Literal["", "ForAllValues:", "ForAnyValue:"]

_QUANTIFIERS: tuple[Quantifier, ...] = ("ForAllValues:", "ForAnyValue:")
_IF_EXISTS = "IfExists"


class Condition:
    """One operator on one key. ``cautious``: a variable without a value makes even a negated operator false."""

    __slots__ = ("_cautious", "_folded", "_negated", "_op", "_values", "key", "operator")

    def __init__(self, op: Operator, key: str, values: Values, *, cautious: bool) -> None:
        self.operator = op.name
        self.key = key
        self._folded = key.lower()
        self._op = op
        self._negated = op.negated
        self._values = values
        self._cautious = cautious and values.variable

    def holds(self, request: Request) -> bool:
        if self._cautious and self._values.unresolved(request):
            return False
        actual = request.values(self._folded)
        op, negated, matches = self._op, self._negated, self._values.matches
        if not op.quantifier:
            if not actual:
                return negated or op.if_exists
            if len(actual) == 1:
                return matches(actual[0], request) is not negated
            return any(matches(value, request) for value in actual) is not negated
        if op.quantifier == "ForAllValues:":
            # The guide's "null data sets", such as an empty string, count as no values.
            return all(value == "" for value in actual) or all(matches(v, request) is not negated for v in actual)
        if not actual:
            return op.if_exists
        return any(value != "" and matches(value, request) is not negated for value in actual)

    def present(self, request: Request) -> bool:
        return bool(request.values(self._folded))

    def unresolved(self, request: Request) -> tuple[str, ...]:
        return self._values.unresolved(request)


class Presence:
    """The Null operator: true if the key is absent (or, for the value false, present)."""

    __slots__ = ("_absent", "_folded", "key", "operator")

    def __init__(self, key: str, absent: Sequence[bool]) -> None:
        self.operator = "Null"
        self.key = key
        self._folded = key.lower()
        self._absent = frozenset(absent)

    def holds(self, request: Request) -> bool:
        return (not self.present(request)) in self._absent

    def present(self, request: Request) -> bool:
        return bool(request.values(self._folded))

    def unresolved(self, _request: Request) -> tuple[str, ...]:
        return ()


class Operator:
    """An operator as a document spells it, prefix and suffix included."""

    __slots__ = ("_compile", "if_exists", "name", "negated", "quantifier")

    def __init__(self, name: str, compile: Compiler | None, *, negated: bool = False) -> None:
        self.name = name
        self.negated = negated
        self.quantifier: Quantifier = next((prefix for prefix in _QUANTIFIERS if name.startswith(prefix)), "")
        self.if_exists = name.endswith(_IF_EXISTS)
        self._compile = compile

    def condition(self, key: str, given: Sequence[Json], dialect: Dialect, *, cautious: bool) -> Condition | Presence:
        """Return the compiled condition. Raises ValueError with a phrase that does not quote the values."""
        if self._compile is None:
            return Presence(key, read_all(read_bool, given, "must be true or false"))
        return Condition(self, key, self._compile(given, dialect), cautious=cautious)


def read_operator(name: str) -> Operator | None:
    """Return the operator, or None if it does not exist. Names are case-sensitive; Null has no prefix and no suffix."""
    if name == "Null":
        return Operator(name, None)
    base = name
    for prefix in _QUANTIFIERS:
        if base.startswith(prefix):
            base = base.removeprefix(prefix)
            break
    known = OPERATORS.get(base.removesuffix(_IF_EXISTS))
    return None if known is None else Operator(name, known[0], negated=known[1])
