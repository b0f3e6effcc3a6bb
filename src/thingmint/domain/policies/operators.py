"""The families of condition operators: they match a request's value with the values that a document lists for a key.

The operators of a family differ only in the comparison; the condition does the negation. The Arn operators match each
of an ARN's six parts separately, so a wildcard does not match beyond a colon. The last part may contain colons.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from thingmint.domain.policies.decisions import text_of
from thingmint.domain.policies.patterns import (
    ARN_PARTS,
    Dialect,
    Machine,
    PatternSet,
    Variable,
    Wildcard,
    match_once,
    read_tokens,
    resolve_tokens,
    unresolved,
)
from thingmint.domain.policies.values import (
    Network,
    read_address,
    read_binary,
    read_bool,
    read_instant,
    read_network,
    read_number,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from thingmint.domain.policies.decisions import Request, Scalar
    from thingmint.domain.policies.patterns import Token


class ArnValues:
    """Patterns of ARNs; ``*`` alone matches every ARN. Raises ValueError for a pattern that cannot match an ARN."""

    __slots__ = ("_static", "_templates", "variable")

    def __init__(self, patterns: Iterable[Sequence[Token]]) -> None:
        static: list[Sequence[str | Wildcard]] = []
        templates: list[tuple[Token, ...]] = []
        for pattern in patterns:
            tokens = tuple(t for t in pattern if not isinstance(t, Variable))
            if len(tokens) < len(pattern):
                templates.append(tuple(pattern))
                continue
            arn = _of_arn(tokens)
            if arn is None:
                raise ValueError("must be an ARN")
            static.append(arn)
        self._static = Machine(static, in_parts=True) if static else None
        self._templates = tuple(templates)
        self.variable = bool(templates)

    def matches(self, value: Scalar, request: Request) -> bool:
        actual = text_of(value)
        if not actual.startswith("arn:") or actual.count(":") < ARN_PARTS - 1:
            return False
        if self._static is not None and self._static.matches(actual, request):
            return True
        for template in self._templates:
            tokens = resolve_tokens(template, request)
            arn = None if tokens is None else _of_arn(tokens)
            if arn is not None and match_once(arn, actual, request, in_parts=True):
                return True
        return False

    def unresolved(self, request: Request) -> tuple[str, ...]:
        return tuple(name for template in self._templates for name in unresolved(template, request))


def _of_arn(tokens: Sequence[str | Wildcard]) -> Sequence[str | Wildcard] | None:
    """Return the pattern, or None if it has fewer parts than an ARN."""
    if tuple(tokens) == (Wildcard.RUN,):
        return (Wildcard.RUN, *((":", Wildcard.RUN) * (ARN_PARTS - 1)))
    colons = sum(token.count(":") for token in tokens if isinstance(token, str))
    return tokens if colons >= ARN_PARTS - 1 else None


V = TypeVar("V")

Json = str | int | float | bool
"""The types of values in a document."""


class Values(Protocol):
    """The values that a document lists for one key. ``variable`` is true if some of them depend on the request."""

    @property
    def variable(self) -> bool: ...

    def matches(self, value: Scalar, request: Request, /) -> bool:
        """True if one of the values matches ``value``. Raises TooManySteps."""
        ...

    def unresolved(self, request: Request, /) -> tuple[str, ...]: ...


class Compiler(Protocol):
    """Compiles the values for one key. Raises ValueError with a phrase that does not quote them."""

    def __call__(self, given: Sequence[Json], dialect: Dialect, /) -> Values: ...


class _Texts:
    def __init__(self, patterns: PatternSet) -> None:
        self._patterns = patterns
        self.variable = patterns.variable

    def matches(self, value: Scalar, request: Request) -> bool:
        return self._patterns.matches(text_of(value), request)

    def unresolved(self, request: Request) -> tuple[str, ...]:
        return self._patterns.unresolved(request)


class _Constant:
    """Values without variables."""

    variable = False

    def unresolved(self, _request: Request) -> tuple[str, ...]:
        return ()


class _Compared(_Constant, Generic[V]):
    def __init__(
        self, read: Callable[[Scalar], V | None], compare: Callable[[V, V], bool], wanted: Sequence[V]
    ) -> None:
        self._read = read
        self._compare = compare
        self._wanted = tuple(wanted)

    def matches(self, value: Scalar, request: Request) -> bool:
        request.spend(4 * len(self._wanted))
        actual = self._read(value)
        return actual is not None and any(self._compare(actual, wanted) for wanted in self._wanted)


class _Networks(_Constant):
    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)

    def matches(self, value: Scalar, request: Request) -> bool:
        request.spend(4 * len(self._networks))
        address = read_address(value)
        if address is None:
            return False
        version, number = address
        return any(network == version and number >> bits == prefix for network, prefix, bits in self._networks)


class _Booleans:
    def __init__(self, known: Sequence[bool], templates: Sequence[Variable]) -> None:
        self._known = frozenset(known)
        self._templates = tuple(templates)
        self.variable = bool(templates)

    def matches(self, value: Scalar, request: Request) -> bool:
        actual = read_bool(value)
        if actual is None:
            return False
        return actual in self._known or any(read_bool(v.resolve(request) or "") is actual for v in self._templates)

    def unresolved(self, request: Request) -> tuple[str, ...]:
        return unresolved(self._templates, request)


def _tokens(given: Sequence[Json], dialect: Dialect, *, wildcards: bool) -> list[tuple[Token, ...]]:
    return [read_tokens(text_of(value), dialect, wildcards=wildcards) for value in given]


def _texts(given: Sequence[Json], dialect: Dialect) -> Values:
    return _Texts(PatternSet(_tokens(given, dialect, wildcards=False)))


def _texts_ignoring_case(given: Sequence[Json], dialect: Dialect) -> Values:
    return _Texts(PatternSet(_tokens(given, dialect, wildcards=False), fold=True))


def _globs(given: Sequence[Json], dialect: Dialect) -> Values:
    return _Texts(PatternSet(_tokens(given, dialect, wildcards=True)))


def _arns(given: Sequence[Json], dialect: Dialect) -> Values:
    return ArnValues(_tokens(given, dialect, wildcards=True))


def read_all(read: Callable[[Scalar], V | None], given: Sequence[Json], phrase: str) -> list[V]:
    out = []
    for value in given:
        known = read(value)
        if known is None:
            raise ValueError(phrase)
        out.append(known)
    return out


def _booleans(given: Sequence[Json], dialect: Dialect) -> Values:
    known: list[Json] = []
    templates = []
    for value in given:
        tokens = read_tokens(text_of(value), dialect, wildcards=False)
        if len(tokens) == 1 and isinstance(tokens[0], Variable):
            templates.append(tokens[0])
        else:
            known.append(value)
    return _Booleans(read_all(read_bool, known, "must be true or false"), templates)


def _networks(given: Sequence[Json], _dialect: Dialect) -> Values:
    return _Networks(read_all(read_network, given, "must be an IP address or a range in CIDR notation"))


def _binaries(given: Sequence[Json], _dialect: Dialect) -> Values:
    return _Compared(read_binary, operator.eq, read_all(read_binary, given, "must be in base64"))


def _numbers(compare: Callable[[float, float], bool]) -> Compiler:
    def numbers(given: Sequence[Json], _dialect: Dialect) -> Values:
        return _Compared(read_number, compare, read_all(read_number, given, "must be a number"))

    return numbers


def _instants(compare: Callable[[int, int], bool]) -> Compiler:
    def instants(given: Sequence[Json], _dialect: Dialect) -> Values:
        wanted = read_all(read_instant, given, "must be a date in ISO 8601 form or in epoch seconds")
        return _Compared(read_instant, compare, wanted)

    return instants


OPERATORS: dict[str, tuple[Compiler, bool]] = {  # the bool: whether the operator is negated
    "StringEquals": (_texts, False),
    "StringNotEquals": (_texts, True),
    "StringEqualsIgnoreCase": (_texts_ignoring_case, False),
    "StringNotEqualsIgnoreCase": (_texts_ignoring_case, True),
    "StringLike": (_globs, False),
    "StringNotLike": (_globs, True),
    "ArnEquals": (_arns, False),
    "ArnNotEquals": (_arns, True),
    "ArnLike": (_arns, False),
    "ArnNotLike": (_arns, True),
    "Bool": (_booleans, False),
    "IpAddress": (_networks, False),
    "NotIpAddress": (_networks, True),
    "BinaryEquals": (_binaries, False),
    "NumericEquals": (_numbers(operator.eq), False),
    "NumericNotEquals": (_numbers(operator.eq), True),
    "NumericLessThan": (_numbers(operator.lt), False),
    "NumericLessThanEquals": (_numbers(operator.le), False),
    "NumericGreaterThan": (_numbers(operator.gt), False),
    "NumericGreaterThanEquals": (_numbers(operator.ge), False),
    "DateEquals": (_instants(operator.eq), False),
    "DateNotEquals": (_instants(operator.eq), True),
    "DateLessThan": (_instants(operator.lt), False),
    "DateLessThanEquals": (_instants(operator.le), False),
    "DateGreaterThan": (_instants(operator.gt), False),
    "DateGreaterThanEquals": (_instants(operator.ge), False),
}
