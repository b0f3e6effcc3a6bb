"""The Arn operators: each of an ARN's six parts is matched on its own, so that no wildcard reaches over a colon.

The last part is the rest, with whatever colons it holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.policies.globs import ARN_PARTS, Machine, Wildcard
from thingmint.domain.policies.patterns import Variable, match_once, resolve_tokens, unresolved
from thingmint.domain.policies.requests import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from thingmint.domain.policies.patterns import Token
    from thingmint.domain.policies.requests import Request, Scalar


class ArnValues:
    """Raises ValueError for a pattern that can be no ARN. A lone ``*`` stands for any ARN."""

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
    """None for what has not as many parts as an ARN."""
    if tuple(tokens) == (Wildcard.RUN,):
        return (Wildcard.RUN, *((":", Wildcard.RUN) * (ARN_PARTS - 1)))
    colons = sum(token.count(":") for token in tokens if isinstance(token, str))
    return tokens if colons >= ARN_PARTS - 1 else None
