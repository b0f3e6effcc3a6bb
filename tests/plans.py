"""Checks the query plan of every statement that the product runs in unit tests, on both engines.

The plan is checked when a statement runs for the first time. The test fails if the statement reads a whole table or
index, or sorts an unlimited number of rows. Statements of the tests themselves are not checked.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import orjson

import thingmint
from thingmint.store.plain_parameters import CONNECTION
from thingmint.store.postgres_transaction import PostgresTransaction
from thingmint.store.sqlite import _migrate
from thingmint.store.sqlite_transaction import SQLiteTransaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from thingmint.store.engine import Value

_PRODUCT = str(Path(thingmint.__file__).parent)
# Files that only pass on the statements of their callers.
_PASSING_ON = tuple(
    f"{name}.py"
    for name in (
        "store/sqlite",
        "store/sqlite_transaction",
        "store/postgres",
        "store/postgres_transaction",
        "store/engine",
        "tests/plans",
    )
)
# Makes PostgreSQL use indexes although the tables are nearly empty. A scan or sort that remains cannot use an index.
_ALONG_INDEXES = "".join(
    f"SET LOCAL enable_{way} = off; " for way in ("seqscan", "sort", "bitmapscan", "hashjoin", "mergejoin")
)


def _checking_first(original: Any, check: Any, *, many: bool) -> Any:
    def patched(tx: Any, sql: str, *parameters: Any) -> Any:
        if not _is_of_the_product():
            return original(tx, sql, *parameters)
        return checked(tx, sql, *([list(parameters[0])] if many else parameters))

    async def checked(tx: Any, sql: str, *parameters: Any) -> Any:
        for given in parameters[0][:1] if many else [parameters]:
            if not any(isinstance(value, str) and "\0" in value for value in given):
                await check(tx, sql, given)
        return await original(tx, sql, *parameters)

    return patched


# Parts of statements that read or sort a whole table, with the reason why that is accepted.
UNINDEXED: Mapping[str, str] = {
    "INSERT INTO quota_shares (kind, owner, lane, room, quota) SELECT": "at start: all accounts, or registries",
    "SELECT export, messages, bytes, dropped FROM export_queues WHERE messages > 0": "an index of only these queues",
    "SELECT account, region, kind, day, status, sum(amount) FROM certificate_counts": "`store check` reads all",
    "SELECT account, region, status, end_day, count(*) FROM": "so it does here",
    "FROM registration_tasks WHERE runs_for IS NOT NULL ORDER BY": "an index of only these tasks",
    "SELECT count(*), coalesce(sum(CASE WHEN failures": "few jobs are not done",
    "SELECT leases.name": "there is one lease for each kind of background work",
    "SELECT name FROM hostnames": "an instance has few host names",
    "SELECT account_hostnames.account": "an instance has few host names",
    "SELECT imports.id": "the newest 1,000, along an index",
    "SELECT region FROM account_regions": "an account has few regions",
    "SELECT accounts.id, accounts.name": "the caller asks for all accounts",
    "SELECT folders.id, folders.account": "an account has 1,000 folders at most",
    "SELECT principals.id": "at start: the administrator of the instance",
    "SELECT id, secret FROM credentials": "a change of the master key changes all secrets",
    "SELECT name, sha256 FROM instance_keys": "three keys",
    "SELECT id, account, record": "a page of audit records, along an index",
    "SELECT checkpoint FROM audit_": "the last checkpoint, along an index",
    "SELECT count(*) FROM audit_": "the records that are not sealed yet, along an index",
    "SELECT r.account, r.region, r.certificate, c.fingerprint, r.subject": "few CA certificates have the same subject",
    "SELECT 1 FROM ca_owners": "PostgreSQL scans a nearly empty table for EXISTS",
    "SELECT o.account, o.region": "at start, for the same reason",
    "SELECT p.created_at, p.name FROM device_policy_attachments": "a target has 10 policies at most",
    "WITH RECURSIVE lineage": "so has each group above it, and these are few",
    "SELECT r.certificate, r.account, r.region, c.not_after": "in one migration, by pages in the order of the table",
    "SELECT u.device, d.": "at start, 50 rows each time",
    "SELECT things.account, things.region, things.name": "a page that is found along an index, then sorted",
}


class Unindexed(AssertionError):
    """The cost of a statement grows with the number of rows in a table, because it reads or sorts all of them."""


class Plans:
    """Checks plans. ``allowed`` has parts of statements that are not checked, with the reason."""

    def __init__(self, allowed: Mapping[str, str]) -> None:
        self._allowed = allowed
        self._seen: set[tuple[str, str]] = set()
        self._empty = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=CONNECTION)
        _migrate(self._empty)
        rows = self._empty.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        self._tables = {name for (name,) in rows}

    @contextlib.contextmanager
    def checked(self) -> Iterator[None]:
        """Checks every new statement of the product while the block runs, once."""
        with contextlib.closing(self._empty), contextlib.ExitStack() as patches:
            for name in ("execute", "fetch_one", "fetch_all", "execute_many"):
                for transaction, check in ((SQLiteTransaction, self._sqlite), (PostgresTransaction, self._postgres)):
                    patched = _checking_first(getattr(transaction, name), check, many=name == "execute_many")
                    patches.enter_context(mock.patch.object(transaction, name, patched))
            yield

    async def _sqlite(self, _: SQLiteTransaction, sql: str, parameters: Sequence[Value]) -> None:
        if self._is_new("SQLite", sql):
            statement = re.sub(r"\$(\d+)", r"?\1", sql)
            rows = self._empty.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            self._check("SQLite", sql, list(self._unindexed([row[3] for row in rows], sql)))

    async def _postgres(self, tx: PostgresTransaction, sql: str, parameters: Sequence[Value]) -> None:
        if self._is_new("PostgreSQL", sql):
            connection: Any = tx._connection
            await connection.execute(f"SAVEPOINT plan; {_ALONG_INDEXES}")
            (found,) = await connection.fetch(f"EXPLAIN (FORMAT JSON, COSTS OFF) {sql}", *parameters)
            await connection.execute("ROLLBACK TO SAVEPOINT plan; RELEASE SAVEPOINT plan")
            self._check("PostgreSQL", sql, list(_unindexed_of_postgres(orjson.loads(found[0])[0]["Plan"])))

    def _is_new(self, engine: str, sql: str) -> bool:
        if (engine, sql) in self._seen or sql.endswith("SAVEPOINT part"):
            return False
        self._seen.add((engine, sql))
        return True

    def _check(self, engine: str, sql: str, unindexed: list[str]) -> None:
        if unindexed and not any(part in sql for part in self._allowed):
            self._seen.discard((engine, sql))
            raise Unindexed(f"{engine}: {', '.join(unindexed)}: {sql}")

    def _unindexed(self, lines: Sequence[str], sql: str) -> Iterator[str]:
        made_by_it = set(re.findall(r"(\w+)(?: \([\w, ]+\))? AS (?:MATERIALIZED )?\(", sql))
        tables = defaultdict[str, set[str]](set)
        for table, alias in re.findall(r"(\w+) AS (\w+)", sql):
            tables[alias].add(table)
        made_by_it |= {table for alias in re.findall(r"\) AS (\w+)", sql) for table in tables[alias] | {alias}}
        for line in lines:
            match = re.match(r"SCAN (\w+)", line)
            scanned = tables.get(match[1], {match[1]}) if match else set()
            if (scanned & self._tables and not scanned & made_by_it) or line.startswith("USE TEMP B-TREE FOR ORDER"):
                yield line


def _unindexed_of_postgres(plan: dict[str, Any]) -> Iterator[str]:
    kind = plan["Node Type"]
    if kind == "Seq Scan":  # there is no other way: all others come first
        yield f"{kind} on {plan['Relation Name']}"
    if kind == "Sort":
        yield f"{kind} by {', '.join(plan['Sort Key'])}"
    for below in plan.get("Plans", ()):
        yield from _unindexed_of_postgres(below)


def _is_of_the_product() -> bool:
    """True if the statement comes from the product, False if it comes from a test."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.endswith(_PASSING_ON) and not code.co_qualname.startswith("_RecordingTransaction"):
            return bool(code.co_filename.startswith(_PRODUCT)) and not code.co_filename.endswith("copying.py")
        frame = frame.f_back
    return False
