"""Finds every place in a module that can be mutated, by kind of change."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("comparison", "boundary", "return", "condition", "deleted statement")

_OPPOSITE: dict[type[ast.cmpop], str] = {
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Lt: ">=",
    ast.GtE: "<",
    ast.Gt: "<=",
    ast.LtE: ">",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
_SHIFTED: dict[type[ast.cmpop], str] = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">"}
_OPERATOR = re.compile(rb"==|!=|<=|>=|<|>|\bis\s+not\b|\bis\b|\bnot\s+in\b|\bin\b")
_LOGGERS = re.compile(r"_?log(ger)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Mutant:
    file: str  # relative to the checkout
    line: int
    column: int  # in bytes, from 0, as `ast` counts
    kind: str
    before: str
    after: str

    def apply(self, source: bytes) -> bytes:
        """The module's source with this change. Raises ValueError if the source has changed."""
        start = _offsets(source)[self.line - 1] + self.column
        before = self.before.encode()
        if source[start : start + len(before)] != before:
            raise ValueError(f"{self.file}:{self.line} does not have {self.before!r}: draw the mutants anew")
        return source[:start] + self.after.encode() + source[start + len(before) :]


def candidates(file: str, source: bytes) -> list[Mutant]:
    """All mutants of a module, in the order of its text."""
    found = _Finder(file, source)
    found.visit(ast.parse(source))
    return sorted(found.mutants, key=lambda mutant: (mutant.line, mutant.column, mutant.kind, mutant.after))


class _Finder(ast.NodeVisitor):
    def __init__(self, file: str, source: bytes) -> None:
        self.file = file
        self.source = source
        self.offsets = _offsets(source)
        self.mutants: list[Mutant] = []
        self.function: ast.FunctionDef | ast.AsyncFunctionDef | None = None

    def add(self, kind: str, node: ast.expr | ast.stmt, *replacements: str) -> None:
        for after in replacements:
            self.mutants.append(Mutant(self.file, node.lineno, node.col_offset, kind, self.text(node), after))

    def text(self, node: ast.expr | ast.stmt) -> str:
        start, end = self.span(node)
        return self.source[start:end].decode()

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self.offsets[node.lineno - 1] + node.col_offset
        return start, self.offsets[node.end_lineno - 1] + node.end_col_offset

    # Not mutated: the change could not matter, or only in the text of a message.

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass  # also, the positions inside are wrong before Python 3.12

    # Mutated.

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for default in (*node.decorator_list, *node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        outer, self.function = self.function, node
        for statement in node.body:
            self.visit(statement)
        self.function = outer

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        start, end = self.span(node)
        for operator, left, right in zip(node.ops, operands, operands[1:], strict=False):
            match = _OPERATOR.search(self.source, self.span(left)[1], self.span(right)[0])
            assert match is not None
            for kind, table in (("comparison", _OPPOSITE), ("boundary", _SHIFTED)):
                if type(operator) in table:
                    after = self.source[start : match.start()] + table[type(operator)].encode()
                    self.add(kind, node, (after + self.source[match.end() : end]).decode())
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if type(node.value) is int:
            self.add("boundary", node, str(node.value + 1), *([str(node.value - 1)] if node.value else ()))

    def visit_Return(self, node: ast.Return) -> None:
        value = node.value
        if value is None or (isinstance(value, ast.Constant) and value.value is None):
            return
        if isinstance(value, ast.Constant) and isinstance(value.value, bool):
            self.add("return", node, f"return {not value.value}")
        elif self._returns_bool() or isinstance(value, ast.Compare):
            self.add("return", node, f"return not ({self.text(value)})")
        else:
            self.add("return", node, "return None")
        self.generic_visit(node)

    def _returns_bool(self) -> bool:
        returns = self.function.returns if self.function is not None else None
        return isinstance(returns, ast.Name) and returns.id == "bool"

    def visit_If(self, node: ast.If) -> None:
        names = {name.id for name in ast.walk(node.test) if isinstance(name, ast.Name)}
        if names & {"TYPE_CHECKING", "__name__"}:
            for statement in node.orelse:
                self.visit(statement)
            return
        self._condition(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        if not isinstance(node.test, ast.Constant):
            self.add("condition", node.test, f"not ({self.text(node.test)})")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._condition(test)
        self.generic_visit(node)

    def _condition(self, test: ast.expr) -> None:
        self.add("condition", test, f"not ({self.text(test)})")
        if not any(isinstance(part, ast.NamedExpr) for part in ast.walk(test)):  # otherwise a name would be undefined
            self.add("condition", test, "True", "False")

    def visit_Expr(self, node: ast.Expr) -> None:
        call = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(call, ast.Call):
            if _is_logging(call.func):
                return
            self.add("deleted statement", node, "pass")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            return
        self._assignment(node, node.targets)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._assignment(node, [])
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._assignment(node, [node.target])
            self.visit(node.value)

    def _assignment(self, node: ast.stmt, targets: list[ast.expr]) -> None:
        """Deletes the assignment, unless that leaves a name undefined: every test would detect that."""
        if self.function is not None and all(self._stays_bound(target, self.function) for target in targets):
            self.add("deleted statement", node, "pass")

    def _stays_bound(self, target: ast.expr, function: ast.AST) -> bool:
        if isinstance(target, ast.Name):
            bound = [name for name in ast.walk(function) if isinstance(name, ast.Name) and name.id == target.id]
            arguments = [argument for argument in ast.walk(function) if isinstance(argument, ast.arg)]
            stores = sum(isinstance(name.ctx, ast.Store) for name in bound)
            return stores > 1 or any(argument.arg == target.id for argument in arguments)
        return isinstance(target, ast.Attribute | ast.Subscript)


def _is_logging(function: ast.expr) -> bool:
    if not isinstance(function, ast.Attribute):
        return False
    owner = function.value
    name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    return _LOGGERS.fullmatch(name) is not None


def _offsets(source: bytes) -> list[int]:
    """The offset in bytes at which each line starts."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def with_probe(source: bytes, mutant: Mutant, number: int) -> bytes:
    """The module's source with a call of the probe before the statement that the mutant would change."""
    tree = ast.parse(source)
    position = (mutant.line, mutant.column)
    place: tuple[list[ast.stmt], int] | None = None
    for node in ast.walk(tree):  # outer nodes come first, so the last place is the innermost
        for _, body in ast.iter_fields(node):
            if isinstance(body, list):
                for index, statement in enumerate(body):
                    if isinstance(statement, ast.stmt) and _contains(statement, position):
                        place = (body, index)
    assert place is not None
    body, index = place
    body.insert(index, ast.parse(f"__import__('mutants_probe').hit({number})").body[0])
    return ast.unparse(ast.fix_missing_locations(tree)).encode()


def _contains(statement: ast.stmt, position: tuple[int, int]) -> bool:
    start = (statement.lineno, statement.col_offset)
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        start = min([start, *((node.lineno, node.col_offset) for node in statement.decorator_list)])
    assert statement.end_lineno is not None
    assert statement.end_col_offset is not None
    return start <= position < (statement.end_lineno, statement.end_col_offset)


def modules_of(files: list[str]) -> Iterator[str]:
    """The product's modules among the files of a checkout."""
    return (file for file in sorted(files) if file.startswith("src/thingmint/") and file.endswith(".py"))
