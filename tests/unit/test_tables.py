"""The decorator that makes one test of a table reports every row that fails."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.tables import each_row

ROWS = [(1, 1), (1, 2), (2, 2), (3, "x" * 1000)]


def test_each_failing_row_is_named_with_its_message() -> None:
    @each_row(("given", "wanted"), ROWS)
    def check(given: object, wanted: object) -> None:
        assert given == wanted, f"not {wanted}"

    with pytest.raises(AssertionError) as failed:
        cast("Any", check)()
    lines = str(failed.value).splitlines()
    assert lines[:3] == ["2 of 4 rows fail:", "given=1, wanted=2", "    not 2"]
    assert any(line.startswith("given=3, wanted='xxx") for line in lines)
    assert max(map(len, lines)) < 250
    assert isinstance(failed.value.__cause__, AssertionError)


async def test_exceptions_and_missing_exceptions_are_failures_too() -> None:
    @each_row("text", {"no number": "a", "a number": "1", "none expected": "2"})
    async def check(text: str) -> None:
        if int(text) == 2:
            with pytest.raises(ValueError, match="never"):
                int(text)

    with pytest.raises(AssertionError) as failed:
        await cast("Any", check)()
    message = str(failed.value)
    assert "no number\n    ValueError(" in message
    assert "none expected\n    DID NOT RAISE" in message
    assert "\na number" not in message


def test_a_mistake_in_a_table_is_found_when_it_is_defined() -> None:
    with pytest.raises(AssertionError, match="without rows"):
        each_row("a", [])
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        each_row(("a", "b"), [(1,)])
    with pytest.raises(AssertionError, match="no parameter"):
        each_row("a", [1])(lambda b: b)


@each_row("row", ROWS)
def test_fixtures_are_passed_on(row: tuple[int, object], request: pytest.FixtureRequest) -> None:
    assert "row" not in request.fixturenames
    assert row in ROWS
