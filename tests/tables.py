"""Tables with many cases for one test, which reports every row that fails."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["each_row"]

Test = TypeVar("Test", bound=Callable[..., Any])

_FAILURES, _LINES, _WIDTH = 20, 20, 200  # the limits of what is shown
_FAILED = (Exception, pytest.fail.Exception)


def each_row(names: str | tuple[str, ...], rows: Iterable[Any] | Mapping[str, Any]) -> Callable[[Test], Test]:
    """Like ``pytest.mark.parametrize``, but with all rows in one test: pytest's own time for a case exceeds most rows'.

    The keys of a mapping are the names of its rows. A test with two tables runs all pairs of rows.
    """
    keys = (names,) if isinstance(names, str) else names
    table: list[tuple[str, dict[str, Any]]] = []
    for name, row in rows.items() if isinstance(rows, Mapping) else ((None, row) for row in rows):
        given = dict(zip(keys, (row,) if isinstance(names, str) else row, strict=True))
        table.append((name or ", ".join(f"{key}={_shown(value)}" for key, value in given.items()), given))
    assert table, "a table without rows tests nothing"

    def decorate(test: Test) -> Test:
        def looped(*self: Any, **fixtures: Any) -> None:
            __tracebackhide__ = True
            failures = []
            for name, given in table:
                try:
                    test(*self, **fixtures, **given)
                except _FAILED as error:
                    failures.append((name, error))
            _check(failures, len(table))

        async def looped_async(*self: Any, **fixtures: Any) -> None:
            __tracebackhide__ = True
            failures = []
            for name, given in table:
                try:
                    await test(*self, **fixtures, **given)
                except _FAILED as error:
                    failures.append((name, error))
            _check(failures, len(table))

        signature = inspect.signature(test)
        assert set(keys) <= set(signature.parameters), f"{test.__name__} has no parameter for each of {keys}"
        left = [parameter for name, parameter in signature.parameters.items() if name not in keys]
        whole: Any = functools.wraps(test)(looped_async if inspect.iscoroutinefunction(test) else looped)
        whole.__signature__ = signature.replace(parameters=left)
        result: Test = whole
        return result

    return decorate


def _check(failures: Sequence[tuple[str, BaseException]], rows: int) -> None:
    __tracebackhide__ = True
    if failures:
        lines = [f"{name}\n{_told(error)}" for name, error in failures[:_FAILURES]]
        more = ["..."] * (len(failures) > _FAILURES)
        raise AssertionError("\n".join([f"{len(failures)} of {rows} rows fail:", *lines, *more])) from failures[0][1]


def _told(error: BaseException) -> str:
    """The text of an assertion error; of other exceptions also the type."""
    text = str(error) if isinstance(error, AssertionError | pytest.fail.Exception) else repr(error)
    return "\n".join(f"    {_cut(line)}" for line in text.splitlines()[:_LINES])


def _shown(value: object) -> str:
    code = getattr(value, "__code__", None)
    return _cut(repr(value)) if code is None else f"the function at line {code.co_firstlineno}"


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}..."
