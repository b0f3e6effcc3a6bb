"""The engine against a naive one: it reads the document anew for every question, and uses the standard library.

The naive one knows the language from AWS's pages as the engine does, but shares nothing with it: globs are ``fnmatch``
on one-character alphabets, conditions are set arithmetic over all pairs, statements are sifted by comprehension.
"""

import json
import re
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from thingmint.domain.policies import Allow, Kind, Reason, Request, compile_policy, evaluate, evaluate_all

PARTS = ["a", "b", "*", "?", "/", "${k1}", "${k2, 'd'}", "${*}"]
TEXTS = st.text("ab/*?", max_size=4)
PATTERNS = st.lists(st.sampled_from(PARTS), max_size=4).map("".join)
KEYS = st.sampled_from(["k1", "K1", "k2", "k3"])
OPERATORS = ["StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "NumericLessThan", "NumericNotEquals"]
OPERATORS += ["StringEqualsIgnoreCase", "Bool"]


def values_for(operator: str) -> st.SearchStrategy[Any]:
    if operator.startswith("Numeric"):
        return st.integers(-2, 2) | st.integers(-2, 2).map(str)
    return st.booleans() if operator == "Bool" else PATTERNS


def one_or_more(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, min_size=1, max_size=3)


@st.composite
def blocks(draw: st.DrawFn) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for operator in draw(st.lists(st.sampled_from(OPERATORS), max_size=2, unique=True)):
        prefix = draw(st.sampled_from(["", "", "ForAllValues:", "ForAnyValue:"]))
        suffix = draw(st.sampled_from(["", "", "IfExists"]))
        inner = st.dictionaries(KEYS, one_or_more(values_for(operator)), min_size=1, max_size=2)
        out[prefix + operator + suffix] = draw(inner)
    if draw(st.integers(0, 5)) == 0:
        out["Null"] = draw(st.dictionaries(KEYS, one_or_more(st.booleans()), min_size=1, max_size=2))
    return out


ACTIONS = st.sampled_from(["x:A", "X:a", "x:Ab", "x:*", "x:?", "*", "y:A", "*:A"])


@st.composite
def statements(draw: st.DrawFn) -> dict[str, Any]:
    out: dict[str, Any] = {"Effect": draw(st.sampled_from(["Allow", "Allow", "Deny"]))}
    out[draw(st.sampled_from(["Action", "Action", "NotAction"]))] = draw(one_or_more(ACTIONS))
    resources = PATTERNS.map("r:".__add__) | st.just("*")
    out[draw(st.sampled_from(["Resource", "Resource", "NotResource"]))] = draw(one_or_more(resources))
    condition = draw(blocks())
    return out | ({"Condition": condition} if condition else {})


DOCUMENTS = st.fixed_dictionaries(
    {
        "Version": st.sampled_from(["2012-10-17", "2012-10-17", "2008-10-17"]),
        "Statement": st.lists(statements(), min_size=1, max_size=3),
    }
)
SCALARS = TEXTS | st.integers(-2, 2) | st.booleans()
CONTEXTS = st.dictionaries(st.sampled_from(["k1", "K2", "k3"]), SCALARS | st.lists(SCALARS, max_size=3), max_size=3)
REQUESTS = st.builds(
    Request, st.sampled_from(["x:a", "x:AB", "y:A", "z"]), TEXTS.map("r:".__add__) | st.just("*"), CONTEXTS
)


def many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def spell(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool | int) else str(value)


class Naive:
    def __init__(self, document: dict[str, Any], context: dict[str, Any], kind: Kind) -> None:
        self.expands = document["Version"] == "2012-10-17"
        self.context = {k.lower(): many(v) for k, v in context.items()}
        self.device = kind is Kind.DEVICE

    def value(self, key: str, default: str | None) -> str | None:
        held = self.context.get(key, [])
        if not held:
            return default
        text = spell(held[0])
        return None if len(held) > 1 or (self.device and re.search(r"[*$+?#]", text)) else text

    def regex(self, pattern: str, *, wild: bool) -> str | None:
        """A regular expression, or None if a variable has no value."""
        out = ""
        for piece in re.findall(r"\$\{[^}]*\}|.", pattern) if self.expands else pattern:
            if piece == "${*}":
                out += r"\*"
            elif piece.startswith("${"):
                key, _, default = piece[2:-1].partition(", ")
                value = self.value(key, default.strip("'") if default else None)
                if value is None:
                    return None
                out += re.escape(value)
            else:
                out += {"*": ".*", "?": "."}.get(piece, re.escape(piece)) if wild else re.escape(piece)
        return out

    def like(self, pattern: str, text: str, *, wild: bool = True, flags: int = 0) -> bool:
        regex = self.regex(pattern, wild=wild)
        return regex is not None and re.fullmatch(regex, text, flags | re.DOTALL) is not None

    def one(self, base: str, wanted: Any, actual: Any) -> bool:
        if base.startswith("Numeric"):
            try:
                number = float(spell(actual)) if not isinstance(actual, bool) else float("nan")
            except ValueError:
                return False
            return number < float(wanted) if "Less" in base else number == float(wanted)
        if base == "Bool":
            return spell(actual) == spell(wanted) if isinstance(actual, bool) else False
        flags = re.IGNORECASE if "IgnoreCase" in base else 0
        return self.like(wanted, spell(actual), wild="Like" in base, flags=flags)

    def condition(self, operator: str, key: str, wanted: Any, *, allow: bool) -> bool:
        held = self.context.get(key.lower(), [])
        if operator == "Null":
            return any(flag is (not held) for flag in many(wanted))
        lenient = operator.endswith("IfExists")
        base = operator.rpartition(":")[2].removesuffix("IfExists")
        negated = "Not" in base
        cautious = self.device and allow and negated and "Numeric" not in base
        if cautious and any(self.regex(w, wild=True) is None for w in many(wanted)):
            return False
        verdicts = [(actual != "", any(self.one(base, w, actual) for w in many(wanted)) != negated) for actual in held]
        if operator.startswith("ForAllValues:"):
            return not any(full for full, _ in verdicts) or all(verdict for _, verdict in verdicts)
        if not held:
            return lenient or (negated and not operator.startswith("ForAnyValue:"))
        if operator.startswith("ForAnyValue:"):
            return (True, True) in verdicts
        return all(v for _, v in verdicts) if negated else any(v for _, v in verdicts)

    def statement(self, given: dict[str, Any], request: Request) -> bool:
        action = request.action.lower()
        named = any(
            re.fullmatch(re.escape(a.lower()).replace(r"\*", ".*").replace(r"\?", "."), action)
            for a in many(given.get("Action", given.get("NotAction")))
        )
        patterns = many(given.get("Resource", given.get("NotResource")))
        placed = any(self.like(pattern, request.resource) for pattern in patterns)
        allow = given["Effect"] == "Allow"
        if "NotResource" in given and allow and self.device and None in [self.regex(p, wild=True) for p in patterns]:
            return False
        return (
            named is ("Action" in given)
            and placed is ("Resource" in given)
            and all(
                self.condition(operator, key, wanted, allow=allow)
                for operator, keys in given.get("Condition", {}).items()
                for key, wanted in keys.items()
            )
        )


def naive(documents: list[dict[str, Any]], request: Request, kind: Kind) -> str:
    effects = {
        given["Effect"]
        for document in documents
        for given in document["Statement"]
        if Naive(document, dict(request.context), kind).statement(given, request)
    }
    return "explicit" if "Deny" in effects else "allow" if effects else "implicit"


def said(decision: Any) -> str:
    if isinstance(decision, Allow):
        return "allow"
    return "explicit" if decision.reason is Reason.EXPLICIT else "implicit"


@settings(max_examples=600)
@given(st.lists(DOCUMENTS, max_size=3), st.lists(REQUESTS, min_size=1, max_size=4), st.sampled_from(Kind))
def test_decisions_agree(documents: list[dict[str, Any]], requests: list[Request], kind: Kind) -> None:
    if kind is Kind.TRUST:
        kind = Kind.DEVICE
    policies = [compile_policy(json.dumps(document), kind=kind) for document in documents]
    for request in requests:
        expected = naive(documents, request, kind)
        event(expected)
        assert said(evaluate(policies, request)) == expected


@given(st.lists(st.lists(DOCUMENTS, max_size=2), max_size=3), REQUESTS)
def test_groups_are_an_intersection(groups: list[list[dict[str, Any]]], request: Request) -> None:
    verdicts = [naive(documents, request, Kind.SESSION) for documents in groups]
    expected = "explicit" if "explicit" in verdicts else "implicit" if "implicit" in verdicts or not groups else "allow"
    compiled = [[compile_policy(json.dumps(d), kind=Kind.SESSION) for d in documents] for documents in groups]
    assert said(evaluate_all(compiled, request)) == expected
