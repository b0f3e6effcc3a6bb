"""Lists of rows: a table, or a line for each value where the table is wider than the terminal."""

from __future__ import annotations

import io

from rich.console import Console

from thingmint.cli.tables import print_rows

ARN = "arn:aws:iot:us-east-1:123456789012:cert/" + "0123456789abcdef" * 4
COLUMNS = ("event", "error", "principal")
ROWS = [["Connect", "NotAuthorized", ARN], ["Publish", "", ARN]]


def printed(rows: list[list[str]], width: int, *, terminal: bool = True) -> str:
    file = io.StringIO()
    print_rows(COLUMNS, rows, Console(file=file, width=width, force_terminal=terminal, color_system=None))
    return file.getvalue()


def test_a_wide_terminal_gets_a_table() -> None:
    header, first, second = printed(ROWS, 200).splitlines()
    assert header.split() == list(COLUMNS)
    assert first.split() == ["Connect", "NotAuthorized", ARN]
    assert second.split() == ["Publish", ARN]


def test_a_narrow_terminal_gets_a_line_for_each_value() -> None:
    lines = printed(ROWS, 120).splitlines()
    assert lines == [
        *("event: Connect", "error: NotAuthorized", f"principal: {ARN}", ""),
        *("event: Publish", f"principal: {ARN}"),
    ]


def test_a_pipe_gets_a_table() -> None:
    assert printed(ROWS, 120, terminal=False).startswith("event")


def test_markup_in_a_value_is_printed_as_it_is() -> None:
    for width in (30, 200):
        assert "[bold]x[/bold]" in printed([["[bold]x[/bold]", "[red]", "y" * 40]], width)


def test_an_empty_list_says_so() -> None:
    assert printed([], 80) == "None.\n"
