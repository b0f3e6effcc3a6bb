"""Compares the engine with a naive one, which parses the document for every request with the standard library.

Both implement the language of AWS's pages, but share no code. The naive engine uses ``fnmatch`` on one-character
alphabets for globs, set arithmetic over all pairs for conditions, and comprehensions to filter statements.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from thingmint.domain.policies import Allow, Kind, Reason, Request, compile_policy, evaluate, evaluate_all

PARTS = ["a", "b", "*", "?", "/", "${k1}", "${k2, 'd'}", "${*}"]
KEYS = ["k1", "K1", "k2", "k3"]
OPERATORS = ["StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "NumericLessThan", "NumericNotEquals"]
OPERATORS += ["StringEqualsIgnoreCase", "Bool"]
ACTIONS = ["x:A", "X:a", "x:Ab", "x:*", "x:?", "*", "y:A", "*:A"]


class Maker:
    """Makes parts of policies from random choices. Drawing each choice with hypothesis would take long."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.choice = random.choice

    def some(self, make: Callable[[], Any], low: int, high: int) -> list[Any]:
        return [make() for _ in range(self.random.randint(low, high))]

    def one_or_more(self, make: Callable[[], Any]) -> Any:
        return make() if self.choice([True, False]) else self.some(make, 1, 3)

    def text(self) -> str:
        return "".join(self.some(lambda: self.choice("ab/*?"), 0, 4))

    def pattern(self) -> str:
        return "".join(self.some(lambda: self.choice(PARTS), 0, 4))

    def number(self) -> int:
        return self.random.randint(-2, 2)

    def flag(self) -> bool:
        return self.choice([True, False])

    def value_for(self, operator: str) -> Any:
        if operator.startswith("Numeric"):
            return self.number() if self.flag() else str(self.number())
        return self.flag() if operator == "Bool" else self.pattern()

    def by_key(self, make: Callable[[], Any]) -> dict[str, Any]:
        return {self.choice(KEYS): self.one_or_more(make) for _ in range(self.random.randint(1, 2))}

    def block(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for operator in self.random.sample(OPERATORS, self.random.randint(0, 2)):
            prefix = self.choice(["", "", "ForAllValues:", "ForAnyValue:"])
            suffix = self.choice(["", "", "IfExists"])
            out[prefix + operator + suffix] = self.by_key(partial(self.value_for, operator))
        if self.random.randint(0, 5) == 0:
            out["Null"] = self.by_key(self.flag)
        return out

    def resource(self) -> str:
        return f"r:{self.pattern()}" if self.flag() else "*"

    def statement(self) -> dict[str, Any]:
        condition = self.block()
        return {
            "Effect": self.choice(["Allow", "Allow", "Deny"]),
            self.choice(["Action", "Action", "NotAction"]): self.one_or_more(lambda: self.choice(ACTIONS)),
            self.choice(["Resource", "Resource", "NotResource"]): self.one_or_more(self.resource),
            **({"Condition": condition} if condition else {}),
        }

    def document(self) -> dict[str, Any]:
        version = self.choice(["2012-10-17", "2012-10-17", "2008-10-17"])
        return {"Version": version, "Statement": self.some(self.statement, 1, 3)}

    def documents(self, high: int) -> list[dict[str, Any]]:
        return self.some(self.document, 0, high)

    def scalar(self) -> Any:
        return self.choice([self.text, self.number, self.flag])()

    def request(self) -> Request:
        keys = self.random.sample(["k1", "K2", "k3"], self.random.randint(0, 3))
        context = {key: self.scalar() if self.flag() else self.some(self.scalar, 0, 3) for key in keys}
        resource = f"r:{self.text()}" if self.random.randint(0, 3) else "*"
        return Request(self.choice(["x:a", "x:AB", "y:A", "z"]), resource, context)


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
        """Return a regular expression, or None if a variable has no value."""
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


def described(decision: Any) -> str:
    if isinstance(decision, Allow):
        return "allow"
    return "explicit" if decision.reason is Reason.EXPLICIT else "implicit"


RANDOM = st.randoms(use_true_random=True)


@given(RANDOM)
def test_decisions_agree_with_the_naive_engine(random: Random) -> None:
    make = Maker(random)
    for _ in range(25):
        documents, kind = make.documents(3), make.choice([kind for kind in Kind if kind is not Kind.TRUST])
        policies = [compile_policy(json.dumps(document), kind=kind) for document in documents]
        for request in make.some(make.request, 1, 4):
            expected = naive(documents, request, kind)
            assert described(evaluate(policies, request)) == expected, (kind, documents, request)


@given(RANDOM)
def test_all_groups_must_allow_as_in_the_naive_engine(random: Random) -> None:
    make = Maker(random)
    for _ in range(5):
        groups, request = make.some(lambda: make.documents(2), 0, 3), make.request()
        verdicts = [naive(documents, request, Kind.SESSION) for documents in groups]
        known = {verdict: verdict in verdicts for verdict in ("explicit", "implicit")}
        expected = "explicit" if known["explicit"] else "implicit" if known["implicit"] or not groups else "allow"
        compiled = [[compile_policy(json.dumps(d), kind=Kind.SESSION) for d in documents] for documents in groups]
        assert described(evaluate_all(compiled, request)) == expected, (groups, request)
