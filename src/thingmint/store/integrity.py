"""Finding damage in the records: of the file that SQLite keeps, and of certificates, which name their own hash."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING

from thingmint.store.sqlite import connect_to_read

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.store.engine import Reader, Row, Transaction

_QUICK = 2.0  # seconds
_STEPS = 10_000  # of SQLite's machine, between two looks at the clock
_TOLD = 10  # findings
_ROWS_AT_ONCE = 500

_CERTIFICATES = "SELECT id, fingerprint, der FROM certificates WHERE id > $1 ORDER BY id LIMIT $2"


def find_damage_quickly(path: Path) -> tuple[list[str], bool]:
    """What is damaged in the file, and whether there was time to look at all of it: 2 s."""
    return _check(path, "PRAGMA quick_check", _QUICK)


def find_damage(path: Path) -> list[str]:
    """With indexes held against their tables, which takes a minute for each 5 GB or so."""
    return _check(path, "PRAGMA integrity_check", float("inf"))[0]


def _check(path: Path, pragma: str, seconds: float) -> tuple[list[str], bool]:
    until = time.monotonic() + seconds
    try:
        connection = connect_to_read(path)
    except sqlite3.DatabaseError as error:
        return [str(error)], True
    try:
        connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
        found = [row[0] for row in connection.execute(f"{pragma}({_TOLD})")]
        return [line for line in found if line != "ok"], True
    except sqlite3.OperationalError as error:
        if time.monotonic() <= until:
            return [str(error)], True
        return [], False
    except sqlite3.DatabaseError as error:
        return [str(error)], True
    finally:
        connection.close()


async def find_altered_certificates(store: Reader) -> tuple[int, list[str]]:
    """How many there are, and the fingerprints of those whose DER is another; the first 10."""
    altered: list[str] = []
    count, after = 0, -1

    async def page(tx: Transaction, after: int) -> list[Row]:
        return await tx.fetch_all(_CERTIFICATES, after, _ROWS_AT_ONCE)

    while rows := await store.read(partial(page, after=after)):
        for id, fingerprint, der in rows:
            count, after = count + 1, id
            # The DER of a CA certificate that was deleted is empty.
            if der and hashlib.sha256(der).digest() != fingerprint and len(altered) < _TOLD:
                altered.append(bytes(fingerprint).hex())
    return count, altered
