"""Compiles the text of a policy document to a Policy.

The grammar is IAM's ("Grammar of the IAM JSON policy language"). A document is checked completely here, and only here.
Errors never quote the caller's text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from thingmint.domain import strict_json
from thingmint.domain.errors import MalformedPolicy
from thingmint.domain.policies.conditions import read_operator
from thingmint.domain.policies.decisions import StatementRef
from thingmint.domain.policies.patterns import Dialect, PatternSet, read_tokens
from thingmint.domain.policies.statements import Kind, Policy, PrincipalSet, Selection, Statement

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from thingmint.domain.policies.conditions import Condition, Presence
    from thingmint.domain.policies.operators import Json
    from thingmint.domain.policies.statements import Effect


MAX_LENGTH = 404_600  # characters; PolicyDocument in AWS IoT's service model
_WHITE_SPACE = tuple(filter(str.isspace, map(chr, range(0x3001))))  # the last of Unicode's is U+3000
_MAX_ITEMS = 500
_MAX_STRING = 4096
_MAX_NAME = 256

_VERSIONS = ("2012-10-17", "2008-10-17")
DOCUMENT_ELEMENTS = frozenset({"Version", "Id", "Statement"})
STATEMENT_ELEMENTS = frozenset(
    {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)
_PRINCIPALS = frozenset({"AWS", "Service", "Federated", "CanonicalUser"})
_ACTION = re.compile(r"\*|[A-Za-z0-9*?-]{1,64}:[A-Za-z0-9*?._-]{1,128}", re.ASCII)
# AWS IoT's guide: how these characters of a certificate's attribute are written in a policy.
_ESCAPED = re.compile(r'\\([,"\\+=<>;])')
_CERTIFICATE = "iot:certificate."
_IAM_SID = re.compile(r"[A-Za-z0-9]*", re.ASCII)


def compile_policy(text: str | bytes, *, kind: Kind, name: str = "", max_size: int | None = None) -> Policy:
    """Return the compiled policy. Raises MalformedPolicy.

    Decisions refer to the policy by ``name``. ``max_size`` limits ``document_size``.
    """
    document = _load(text, max_size)
    _check_elements(document, DOCUMENT_ELEMENTS, "document")
    version = document.get("Version", "2008-10-17")  # IAM's default
    if version not in _VERSIONS:
        raise MalformedPolicy("Version", "must be 2012-10-17 or 2008-10-17")
    dialect = Dialect(variables=version == "2012-10-17", guarded=kind is Kind.DEVICE)
    own_id = _name(document["Id"], "Id") if "Id" in document else None
    given = document.get("Statement")
    if isinstance(given, dict):
        given, single = [given], True
    else:
        single = False
    if not isinstance(given, list) or not given:
        raise MalformedPolicy("Statement", "must be a statement or a list of them")
    if len(given) > _MAX_ITEMS:
        raise MalformedPolicy("Statement", f"must have at most {_MAX_ITEMS} statements")
    statements = []
    sids: set[str] = set()
    for index, element in enumerate(given):
        path = "Statement" if single else f"Statement[{index}]"
        if not isinstance(element, dict):
            raise MalformedPolicy(path, "must be an object")
        statement = _Reader(element, path, kind, dialect).read(name, index)
        if statement.ref.sid in sids:
            raise MalformedPolicy(f"{path}.Sid", "must be unique in the document")
        if statement.ref.sid is not None:
            sids.add(statement.ref.sid)
        statements.append(statement)
    return Policy(name, kind, cast("str", version), own_id, tuple(statements))


def document_size(text: str) -> int:
    """Return the number of characters that are not white space: AWS's limits count these."""
    return len(text) - sum(map(text.count, _WHITE_SPACE))


def _load(text: str | bytes, max_size: int | None) -> dict[str, Any]:
    if len(text) > MAX_LENGTH:
        raise MalformedPolicy("document", f"must have at most {MAX_LENGTH} characters")
    try:
        text = text if isinstance(text, str) else text.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedPolicy("document", "is not UTF-8") from None
    if max_size is not None and document_size(text) > max_size:
        raise MalformedPolicy("document", f"must have at most {max_size} characters, white space not counted")
    try:
        document = strict_json.load(text)
    except strict_json.RepeatedName:
        raise MalformedPolicy("document", "has an element twice in one object") from None
    except ValueError:
        raise MalformedPolicy("document", "is not JSON") from None
    if not isinstance(document, dict):
        raise MalformedPolicy("document", "must be a JSON object")
    return document


def _check_elements(given: Iterable[str], known: Collection[str], path: str) -> None:
    if any(name not in known for name in given):
        raise MalformedPolicy(path, "has an unknown element")


def _name(value: object, path: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_NAME or not value.isprintable():
        raise MalformedPolicy(path, f"must be printable text of at most {_MAX_NAME} characters")
    return value


def _items(value: object, path: str) -> list[Any]:
    items = value if isinstance(value, list) else [value]
    if not items:
        raise MalformedPolicy(path, "must not be empty")
    if len(items) > _MAX_ITEMS:
        raise MalformedPolicy(path, f"must have at most {_MAX_ITEMS} values")
    return items


def _strings(value: object, path: str) -> list[str]:
    items = _items(value, path)
    if any(not isinstance(item, str) or not item or len(item) > _MAX_STRING for item in items):
        raise MalformedPolicy(path, f"must be text of 1 to {_MAX_STRING} characters, or a list of such texts")
    return items


class _Reader:
    """Reads one statement."""

    def __init__(self, given: dict[str, Any], path: str, kind: Kind, dialect: Dialect) -> None:
        self._given = given
        self._path = path
        self._kind = kind
        self._dialect = dialect
        self._cautious = False

    def read(self, policy: str, index: int) -> Statement:
        _check_elements(self._given, STATEMENT_ELEMENTS, self._path)
        sid = self._sid()
        effect = self._effect()
        self._cautious = self._kind is Kind.DEVICE and effect == "Allow"
        return Statement(
            ref=StatementRef(policy, index, sid),
            effect=effect,
            actions=self._actions(),
            resources=self._resources(),
            principals=self._principals(effect),
            conditions=tuple(self._conditions()),
        )

    def _sid(self) -> str | None:
        path = f"{self._path}.Sid"
        sid = _name(self._given.get("Sid", ""), path)
        if self._kind in (Kind.IDENTITY, Kind.SESSION) and not _IAM_SID.fullmatch(sid):
            raise MalformedPolicy(path, "must consist of ASCII letters and digits")
        return sid or None

    def _effect(self) -> Effect:
        effect = self._given.get("Effect")
        if effect == "Allow":
            return "Allow"
        if effect == "Deny":
            return "Deny"
        raise MalformedPolicy(f"{self._path}.Effect", "must be Allow or Deny")

    def _one_of(self, plain: str) -> tuple[str, bool]:
        """Return which of an element and its negation is given, and True if that is the negation."""
        negation = f"Not{plain}"
        if plain in self._given and negation in self._given:
            raise MalformedPolicy(self._path, f"must not have both {plain} and {negation}")
        if plain not in self._given and negation not in self._given:
            raise MalformedPolicy(self._path, f"must have {plain} or {negation}")
        return (plain, False) if plain in self._given else (negation, True)

    def _actions(self) -> Selection:
        element, negated = self._one_of("Action")
        path = f"{self._path}.{element}"
        actions = _strings(self._given[element], path)
        if not all(map(_ACTION.fullmatch, actions)):
            raise MalformedPolicy(path, "must be of the form service:Operation, or *")
        plain = Dialect(variables=False, guarded=False)
        return Selection(PatternSet(read_tokens(a.lower(), plain, wildcards=True) for a in actions), negated)

    def _resources(self) -> Selection | None:
        if self._kind is Kind.TRUST:
            for element in ("Resource", "NotResource"):
                if element in self._given:
                    raise MalformedPolicy(f"{self._path}.{element}", "is not allowed in a trust policy")
            return None
        element, negated = self._one_of("Resource")
        path = f"{self._path}.{element}"
        resources = _strings(self._given[element], path)
        if any(":" not in resource and resource != "*" for resource in resources):
            raise MalformedPolicy(path, "must be an ARN or *")
        try:
            patterns = PatternSet([read_tokens(r, self._dialect, wildcards=True) for r in resources])
        except ValueError as error:
            raise MalformedPolicy(path, str(error)) from None
        return Selection(patterns, negated, cautious=self._cautious and negated and patterns.variable)

    def _principals(self, effect: Effect) -> PrincipalSet | None:
        if self._kind is not Kind.TRUST:
            for element in ("Principal", "NotPrincipal"):
                if element in self._given:
                    raise MalformedPolicy(f"{self._path}.{element}", "is only allowed in a trust policy")
            return None
        element, negated = self._one_of("Principal")
        path = f"{self._path}.{element}"
        if negated and effect == "Allow":  # it would allow all other callers, even unauthenticated ones
            raise MalformedPolicy(path, "is only allowed with Deny")
        given = self._given[element]
        if given == "*":
            given = {"AWS": "*"}
        if not isinstance(given, dict) or not given:
            raise MalformedPolicy(path, "must be * or an object")
        _check_elements(given, _PRINCIPALS, path)
        named = {kind: _strings(names, f"{path}.{kind}") for kind, names in given.items()}
        try:
            return PrincipalSet(named, negated=negated)
        except ValueError as error:
            raise MalformedPolicy(path, str(error)) from None

    def _conditions(self) -> list[Condition | Presence]:
        path = f"{self._path}.Condition"
        block = self._given.get("Condition", {})
        if not isinstance(block, dict):
            raise MalformedPolicy(path, "must be an object")
        out: list[Condition | Presence] = []
        for name, keys in block.items():
            operator = read_operator(name)
            if operator is None:
                raise MalformedPolicy(path, "has an unknown operator")
            inner = f"{path}.{operator.name}"
            if not isinstance(keys, dict):
                raise MalformedPolicy(inner, "must be an object")
            if len(out) + len(keys) > _MAX_ITEMS:
                raise MalformedPolicy(path, f"must have at most {_MAX_ITEMS} keys")
            for key, values in keys.items():
                if not _name(key, inner):
                    raise MalformedPolicy(inner, "must not have an empty key")
                given = _values(values, inner)
                if self._kind is Kind.DEVICE and key.lower().startswith(_CERTIFICATE):
                    given = [_ESCAPED.sub(r"\1", each) if isinstance(each, str) else each for each in given]
                cautious = self._cautious and operator.negated
                try:
                    out.append(operator.condition(key, given, self._dialect, cautious=cautious))
                except ValueError as error:
                    raise MalformedPolicy(inner, str(error)) from None
        return out


def _values(value: object, path: str) -> list[Json]:
    """Return the values. An empty list, as ``"iot:ConnectAttributes": []`` in AWS's guide, matches nothing."""
    items = [] if value == [] else _items(value, path)
    if any(not isinstance(item, str | int | float) or len(str(item)) > _MAX_STRING for item in items):
        raise MalformedPolicy(path, f"must be text of at most {_MAX_STRING} characters, numbers or booleans")
    return items
