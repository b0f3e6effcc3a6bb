"""Finds damaged records: errors in SQLite's file, and certificates whose DER does not match their fingerprint."""

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
_STEPS = 10_000  # of SQLite's virtual machine, between two checks of the time
_MAX_FINDINGS = 10
_ROWS_AT_ONCE = 500

_CERTIFICATES = "SELECT id, fingerprint, der FROM certificates WHERE id > $1 ORDER BY id LIMIT $2"


def find_damage_quickly(path: Path) -> tuple[list[str], bool]:
    """The damage found in the file within 2 s, and True if the check was finished by then."""
    return _check(path, "PRAGMA quick_check", _QUICK)


def find_damage(path: Path) -> list[str]:
    """The damage in the file. Also compares indexes with their tables, which takes about a minute for each 5 GB."""
    return _check(path, "PRAGMA integrity_check", float("inf"))[0]


def _check(path: Path, pragma: str, seconds: float) -> tuple[list[str], bool]:
    until = time.monotonic() + seconds
    try:
        connection = connect_to_read(path)
    except sqlite3.DatabaseError as error:
        return [str(error)], True
    try:
        connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
        found = [row[0] for row in connection.execute(f"{pragma}({_MAX_FINDINGS})")]
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
    """The number of certificates, and the first 10 fingerprints of those whose DER was altered."""
    altered: list[str] = []
    count, after = 0, -1

    async def page(tx: Transaction, after: int) -> list[Row]:
        return await tx.fetch_all(_CERTIFICATES, after, _ROWS_AT_ONCE)

    while rows := await store.read(partial(page, after=after)):
        for id, fingerprint, der in rows:
            count, after = count + 1, id
            # A deleted CA certificate has an empty DER.
            if der and hashlib.sha256(der).digest() != fingerprint and len(altered) < _MAX_FINDINGS:
                altered.append(bytes(fingerprint).hex())
    return count, altered
