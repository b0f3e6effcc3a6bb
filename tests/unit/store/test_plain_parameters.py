"""Statements with numbered parameters, on the connection for Pythons that warn about them."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from typing import TYPE_CHECKING, Any

import pytest

from thingmint.store.plain_parameters import CONNECTION, PlainParameters

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def connection() -> Iterator[PlainParameters]:
    with contextlib.closing(sqlite3.connect(":memory:", factory=PlainParameters)) as opened:
        yield opened


def test_only_pythons_with_the_warning_use_plain_parameters() -> None:
    assert (CONNECTION is PlainParameters) is ((3, 12) <= sys.version_info[:3] <= (3, 12, 3))


@pytest.mark.parametrize(
    ("sql", "parameters", "row"),
    [
        ("SELECT 'a'", (), ("a",)),
        ("SELECT ?, ?", ("a", "b"), ("a", "b")),
        ("SELECT ?1, ?2", ("a", "b"), ("a", "b")),
        ("SELECT ?2, ?1", ("a", "b"), ("b", "a")),
        ("SELECT ?1, ?2, ?1", ("a", "b"), ("a", "b", "a")),
        ("SELECT ?1, ?1", ("a",), ("a", "a")),
        ("SELECT ?2", ("a", "b"), ("b",)),
        ("SELECT " + ", ".join(f"?{n}" for n in range(12, 0, -1)), tuple(range(12)), tuple(range(11, -1, -1))),
    ],
)
def test_parameters_are_bound_by_number(
    connection: PlainParameters, sql: str, parameters: tuple[Any, ...], row: tuple[Any, ...]
) -> None:
    assert connection.execute(sql, parameters).fetchall() == [row]


@pytest.mark.parametrize("sql", ["SELECT ?1, ?2", "SELECT ?2, ?1", "SELECT ?2"])
@pytest.mark.parametrize("parameters", [(), ("a",), ("a", "b", "c")])
def test_a_wrong_number_of_parameters_is_an_error(
    connection: PlainParameters, sql: str, parameters: tuple[str, ...]
) -> None:
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute(sql, parameters)


@pytest.mark.parametrize("sql", ["INSERT INTO pairs VALUES (?1, ?2)", "INSERT INTO pairs (b, a) VALUES (?2, ?1)"])
def test_executemany_binds_parameters_by_number(connection: PlainParameters, sql: str) -> None:
    connection.execute("CREATE TABLE pairs (a, b)")
    connection.executemany(sql, [(1, 2), [3, 4]])
    connection.executemany(sql, ((n, n + 1) for n in (5, 7)))
    assert connection.execute("SELECT a, b FROM pairs").fetchall() == [(1, 2), (3, 4), (5, 6), (7, 8)]
