"""How both engines find the rows of every statement that unit tests make the product run.

A statement is looked at when it is run for the first time: what reads a whole table or index, or sorts what has no
bound, fails there. Those of the tests themselves may do so.
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
from thingmint.store.postgres_transaction import PostgresTransaction
from thingmint.store.sqlite import _migrate
from thingmint.store.sqlite_transaction import SQLiteTransaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from thingmint.store.engine import Value

_PRODUCT = str(Path(thingmint.__file__).parent)
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
# Whatever statistics say of tables that are nearly empty: what is left of these could not be done along an index.
_ALONG_INDEXES = "".join(
    f"SET LOCAL enable_{way} = off; " for way in ("seqscan", "sort", "bitmapscan", "hashjoin", "mergejoin")
)


def _looking_first(original: Any, look_at: Any, *, many: bool) -> Any:
    def patched(tx: Any, sql: str, *parameters: Any) -> Any:
        if not _is_of_the_product():
            return original(tx, sql, *parameters)
        return looked_at(tx, sql, *([list(parameters[0])] if many else parameters))

    async def looked_at(tx: Any, sql: str, *parameters: Any) -> Any:
        for given in parameters[0][:1] if many else [parameters]:
            if not any(isinstance(value, str) and "\0" in value for value in given):
                await look_at(tx, sql, given)
        return await original(tx, sql, *parameters)

    return patched


# Beginnings of statements that read all there is, or sort it, and why they may.
UNINDEXED: Mapping[str, str] = {
    "INSERT INTO quota_shares (kind, owner, lane, room, quota) SELECT": "at start: all accounts, or registries",
    "SELECT count(*), coalesce(sum(CASE WHEN failures": "jobs that are not done are few",
    "SELECT leases.name": "a lease for each kind of work in the background",
    "SELECT name FROM hostnames": "host names of the instance are few",
    "SELECT region FROM account_regions": "and so are an account's regions",
    "SELECT accounts.id, accounts.name": "all accounts are asked for",
    "SELECT folders.id, folders.account": "an account has 1,000 folders at most",
    "SELECT principals.id": "at start: the administrator of all",
    "SELECT id, secret FROM credentials": "the master key is changed: all secrets are",
    "SELECT name, sha256 FROM instance_keys": "three keys",
    "SELECT id, account, record": "a page of audit records, along an index",
    "SELECT checkpoint FROM audit_": "the last checkpoint, along an index",
    "SELECT count(*) FROM audit_": "what is not sealed yet, along an index",
    "SELECT r.account, r.region, r.certificate, c.fingerprint, r.subject": "CA certificates of one subject are few",
    "SELECT 1 FROM ca_owners": "PostgreSQL prefers all of a table for EXISTS while it is nearly empty",
    "SELECT o.account, o.region": "at start, and the same",
    "SELECT p.created_at, p.name FROM device_policy_attachments": "a target has 10 policies at most",
    "WITH RECURSIVE lineage": "and so have the groups above it, which are few",
    "SELECT r.certificate, r.account, r.region, c.not_after": "once, a page in the order of the table",
    "SELECT u.device, d.": "at start, 50 at once",
    "SELECT things.account, things.region, things.name": "a page, found along an index, is sorted",
}


class Unindexed(AssertionError):
    """A statement reads more the more rows there are, or sorts them."""


class Plans:
    """``allowed`` are beginnings of statements that may do so, with the reason."""

    def __init__(self, allowed: Mapping[str, str]) -> None:
        self._allowed = allowed
        self._seen: set[tuple[str, str]] = set()
        self._empty = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        _migrate(self._empty)
        rows = self._empty.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        self._tables = {name for (name,) in rows}

    @contextlib.contextmanager
    def looked_at(self) -> Iterator[None]:
        """Of every statement from now on."""
        with contextlib.ExitStack() as patches:
            for name in ("execute", "fetch_one", "fetch_all", "execute_many"):
                for transaction, look_at in ((SQLiteTransaction, self._sqlite), (PostgresTransaction, self._postgres)):
                    patched = _looking_first(getattr(transaction, name), look_at, many=name == "execute_many")
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
        if (engine, sql) in self._seen:
            return False
        self._seen.add((engine, sql))
        return True

    def _check(self, engine: str, sql: str, unindexed: list[str]) -> None:
        if unindexed and not any(sql.startswith(beginning) for beginning in self._allowed):
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
    if kind == "Seq Scan":  # the only way there is, as it is the last that is taken
        yield f"{kind} on {plan['Relation Name']}"
    if kind == "Sort":
        yield f"{kind} by {', '.join(plan['Sort Key'])}"
    for below in plan.get("Plans", ()):
        yield from _unindexed_of_postgres(below)


def _is_of_the_product() -> bool:
    """Whether the statement was given by the product, or by a test."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.endswith(_PASSING_ON) and not code.co_qualname.startswith("_RecordingTransaction"):
            return bool(code.co_filename.startswith(_PRODUCT)) and not code.co_filename.endswith("copying.py")
        frame = frame.f_back
    return False
