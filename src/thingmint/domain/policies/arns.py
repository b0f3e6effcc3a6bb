"""The Arn operators: each of an ARN's six parts is matched on its own, so that no wildcard reaches over a colon.

The last part is the rest, with whatever colons it holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.policies.globs import Glob, Wildcard
from thingmint.domain.policies.patterns import Variable, resolve_tokens, unresolved
from thingmint.domain.policies.requests import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from thingmint.domain.policies.patterns import Token
    from thingmint.domain.policies.requests import Request, Scalar


_PARTS = 6


class ArnValues:
    """Raises ValueError for a pattern that can be no ARN. A lone ``*`` stands for any ARN."""

    __slots__ = ("_static", "_templates", "variable")

    def __init__(self, patterns: Iterable[Sequence[Token]]) -> None:
        static: list[tuple[Glob, ...]] = []
        templates: list[tuple[Token, ...]] = []
        for pattern in patterns:
            tokens = tuple(t for t in pattern if not isinstance(t, Variable))
            if len(tokens) < len(pattern):
                templates.append(tuple(pattern))
                continue
            parts = _split(tokens)
            if parts is None:
                raise ValueError("must be an ARN")
            static.append(parts)
        self._static = tuple(static)
        self._templates = tuple(templates)
        self.variable = bool(templates)

    def matches(self, value: Scalar, request: Request) -> bool:
        actual = text_of(value).split(":", _PARTS - 1)
        if len(actual) < _PARTS or actual[0] != "arn":
            return False
        if any(_all_match(parts, actual) for parts in self._static):
            return True
        for template in self._templates:
            tokens = resolve_tokens(template, request)
            parts = None if tokens is None else _split(tokens)
            if parts is not None and _all_match(parts, actual):
                return True
        return False

    def unresolved(self, request: Request) -> tuple[str, ...]:
        return tuple(name for template in self._templates for name in unresolved(template, request))


def _all_match(parts: tuple[Glob, ...], actual: list[str]) -> bool:
    return all(part.matches(text) for part, text in zip(parts, actual, strict=True))


def _split(tokens: Sequence[str | Wildcard]) -> tuple[Glob, ...] | None:
    if tuple(tokens) == (Wildcard.RUN,):
        return (Glob(tokens),) * _PARTS
    parts: list[list[str | Wildcard]] = [[]]
    for token in tokens:
        if isinstance(token, Wildcard):
            parts[-1].append(token)
            continue
        first, *others = token.split(":", _PARTS - len(parts))
        parts[-1].append(first)
        parts.extend([other] for other in others)
    return tuple(map(Glob, parts)) if len(parts) == _PARTS else None
