"""Lists of rows, as the commands print them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDE = 1000  # columns


def console() -> Console:
    """Return the console of standard output. In a pipe it is so wide that no word is broken, and grep finds all."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]], out: Console) -> None:
    """Print a table. Where it is wider than the terminal, print a line for each value, and an empty line after a row.

    A table that is squeezed into a terminal breaks ids and ARNs into pieces of a few characters.
    """
    if not rows:
        out.print("None.")
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    needed = out.measure(table, options=out.options.update(width=_WIDE)).maximum
    if not out.is_terminal or needed <= out.width:
        out.print(table)
        return
    for number, row in enumerate(rows):
        if number:
            out.print()
        for column, value in zip(columns, row, strict=True):
            if value:
                out.print(f"{column}: {value}", markup=False)
