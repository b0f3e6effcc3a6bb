"""The chains of audit records: hashes, signed checkpoints of a chain's end, and signed records of pruning.

To verify a chain, all hashes are computed again and compared with the checkpoints.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import orjson

from thingmint.store import audit as sql
from thingmint.store.audit import CHANGES, STREAMS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from thingmint.access.audit_keys import AuditKeys
    from thingmint.store.audit import AuditRow, Stream
    from thingmint.store.engine import Reader, Transaction


GENESIS = bytes(32)
PRUNED = "PruneAuditLog"

_LONGEST_LINE = 4096  # bytes of a checkpoint
_LAST = 2**63 - 1  # the highest sequence number that the store can have


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A chain's hash after ``sequence`` records, with a signature.

    ``size`` is the number of bytes of all records of activity so far; None in the chain of changes.
    """

    sequence: int
    hash: str
    time: str
    signature: str
    stream: str = CHANGES.name
    size: int | None = None

    @classmethod
    def sign(
        cls,
        sequence: int,
        hash: bytes,
        now: datetime,
        key: Ed25519PrivateKey,
        stream: Stream = CHANGES,
        size: int | None = None,
    ) -> Checkpoint:
        time = now.astimezone(UTC).isoformat(timespec="seconds")
        unsigned = cls(sequence, hash.hex(), time, "", stream.name, size)
        return replace(unsigned, signature=base64.b64encode(key.sign(unsigned._signed())).decode())

    @classmethod
    def parse(cls, line: str) -> Checkpoint:
        """Raises Tampering."""
        made: Checkpoint | None
        try:
            fields = orjson.loads(line)
            known = int(fields["sequence"]), str(fields["hash"]), str(fields["time"]), str(fields["signature"])
            size = fields.get("size")
            made = cls(*known, str(fields.get("stream", CHANGES.name)), None if size is None else int(size))
        except (orjson.JSONDecodeError, AttributeError, KeyError, OverflowError, TypeError, ValueError):
            made = None
        if made is None or made.sequence > _LAST:
            raise Tampering(0, "a checkpoint is not readable")
        return made

    def line(self) -> str:
        fields = {"sequence": self.sequence, "hash": self.hash, "time": self.time, "signature": self.signature}
        if self.size is not None:
            fields |= {"stream": self.stream, "size": self.size}
        return orjson.dumps(fields).decode()

    def is_signed_by(self, keys: AuditKeys) -> bool:
        return keys.signed(self.signature, self._signed(), self.stream, self.sequence)

    def _signed(self) -> bytes:
        text = f"thingmint audit checkpoint {self.sequence} {self.hash} {self.time}"
        return (text if self.size is None else f"{text} {self.stream} {self.size}").encode()


class Tampering(Exception):
    """The audit log was altered. ``sequence`` is the number of the first record that shows it."""

    def __init__(self, sequence: int, what: str) -> None:
        super().__init__(what)
        self.sequence = sequence


def read_checkpoints(path: Path) -> Iterator[Checkpoint]:
    """The checkpoints in a file, one per line. Raises OSError, UnicodeDecodeError and Tampering."""
    # A last line without a line end is incomplete: the server was killed or the disk was full.
    for number, line in enumerate(path.read_text("utf-8").splitlines(keepends=True), 1):
        if line.strip() and line.endswith("\n"):
            try:
                yield Checkpoint.parse(line)
            except Tampering as error:
                raise Tampering(error.sequence, f"{error}, in line {number} of {path}") from None


def append_checkpoint(path: Path, line: str) -> None:
    """Adds the whole line; on a full disk, nothing. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        end = os.lseek(descriptor, 0, os.SEEK_END)
        # Remove an incomplete last line, left by a kill.
        tail = os.pread(descriptor, _LONGEST_LINE, max(0, end - _LONGEST_LINE))
        end -= len(tail) - (tail.rfind(b"\n") + 1)
        os.ftruncate(descriptor, end)
        data = line.encode() + b"\n"
        try:
            written = os.write(descriptor, data)
            os.write(descriptor, data[written:])  # raises the error that cut the first write short
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, end)
            raise
    finally:
        os.close(descriptor)


async def chain_end(tx: Transaction, stream: Stream) -> tuple[int, bytes] | None:
    """The sequence number and hash of the last record in the chain. Raises Tampering."""
    end = await sql.last_sealed(tx, stream)
    if end is not None and not (isinstance(end[0], int) and isinstance(end[1], bytes)):
        raise Tampering(0, f"the end of the chain of {stream.name} is not readable")
    return end


def chained(end: tuple[int, bytes] | None, records: Iterable[AuditRow]) -> list[AuditRow]:
    """The records, in this order, as the rows that follow the chain's ``end``."""
    sequence, previous = end or (0, GENESIS)
    rows = []
    for id, account, record, *_ in records:
        sequence += 1
        previous = _digest(previous, sequence, id, account, record)
        rows.append(sql.AuditRow(id, account, record, sequence, previous))
    return rows


def hash_of(previous: bytes, row: AuditRow) -> bytes:
    """The row's hash. It covers the account and the id too, so changing those shows as well."""
    return _digest(previous, row.sequence, row.id, row.account, row.record)


def _digest(previous: bytes, sequence: int | None, id: str, account: str | None, record: str) -> bytes:
    return hashlib.sha256(previous + orjson.dumps([sequence, id, account, record])).digest()


def pruning(stream: Stream, through: int, now: datetime, key: Ed25519PrivateKey) -> str:
    """A record of pruning. It is signed, as an attacker who can delete rows can also insert one."""
    time = now.isoformat()
    signature = base64.b64encode(key.sign(_signed_pruning(stream, through, time))).decode()
    fields = {"time": time, "source": "thingmint", "event": PRUNED, "through": through, "signature": signature}
    return orjson.dumps(fields).decode()


def is_pruning(row: AuditRow) -> bool:
    return f'"event":"{PRUNED}"' in row.record


def pruned_through(stream: Stream, row: AuditRow, keys: AuditKeys) -> int:
    number = row.sequence or 0
    try:
        fields = orjson.loads(row.record)
        through = int(fields["through"])
        signed = keys.signed(fields["signature"], _signed_pruning(stream, through, fields["time"]), stream.name, number)
    except (KeyError, OverflowError, TypeError, ValueError):
        signed, through = False, 0
    if not signed:
        raise Tampering(number, f"record {number} is about pruning, but this instance did not sign it")
    return through


def _signed_pruning(stream: Stream, through: int, time: str) -> bytes:
    what = "" if stream is CHANGES else f" {stream.name}"
    return f"thingmint audit pruned{what} {through} {time}".encode()


_READ_AT_ONCE = 250  # records
_CHECKPOINTS_AT_ONCE = 1000


class Verified(NamedTuple):
    """The result of verifying an intact chain: it ends at record ``end``, and ``records`` records of it exist.

    The last ``uncovered`` records come after the last checkpoint; ``unsealed`` records are not in the chain yet.
    Verification cannot show whether these were altered.
    """

    end: int
    checkpoints: int
    records: int
    uncovered: int
    unsealed: int


async def verify(
    store: Reader,
    keys: AuditKeys,
    further: Iterable[Checkpoint],
    stream: Stream = CHANGES,
    step: Callable[[int, float], Awaitable[None]] | None = None,
) -> Verified:
    """Verifies one chain. ``further`` are checkpoints kept outside of the store. Raises Tampering.

    After each page of records, ``step`` is awaited with their number, and the seconds that they took.
    """
    known = [*await _checkpoints_of(store, stream), *further]
    checkpoints = await asyncio.to_thread(_hashes, keys, known, stream)  # each has a signature to verify
    sequence, previous, last_good = 0, GENESIS, 0
    pruned = 0
    first = began_at = 0
    async for row in _chain(store, stream, step):
        if not isinstance(row.sequence, int):  # SQLite also takes text and fractions
            raise Tampering(sequence + 1, f"a record after record {sequence} has a number that is not whole")
        if sequence == 0 and row.sequence > 1:
            first = row.sequence
            sequence, previous = _after_pruning(first, checkpoints)
            last_good = began_at = sequence
        if row.sequence <= began_at:
            continue  # being pruned, which is done in steps: these remaining records cannot be verified
        if row.sequence != sequence + 1:
            raise Tampering(sequence + 1, f"record {sequence + 1} was removed")
        sequence = row.sequence
        try:
            previous = hash_of(previous, row)
        except TypeError:  # bytes, or text that is not Unicode: Thingmint never writes these
            raise Tampering(sequence, f"record {sequence} was altered") from None
        if previous != row.hash:
            raise Tampering(sequence, f"record {sequence} was altered or moved")
        if checkpoints.get(sequence, {previous.hex()}) != {previous.hex()}:
            raise Tampering(
                last_good + 1, f"a record from {last_good + 1} to {sequence} was altered, and the chain computed again"
            )
        if sequence in checkpoints:
            last_good = sequence
        if is_pruning(row):
            pruned = max(pruned, pruned_through(stream, row, keys))
    _check_pruned(first, began_at, pruned)
    beyond = [number for number in checkpoints if number > sequence]
    if beyond:
        raise Tampering(sequence + 1, f"the audit log was cut off: records {sequence + 1} to {max(beyond)} are gone")
    uncovered = sequence - max((number for number in checkpoints if number <= sequence), default=began_at)
    unsealed = await store.read(partial(sql.count_unsealed, stream=stream))
    return Verified(sequence, len(checkpoints), sequence - began_at, uncovered, unsealed)


async def _checkpoints_of(store: Reader, stream: Stream) -> list[Checkpoint]:
    """All checkpoints of the store. Raises Tampering."""
    found: list[Checkpoint] = []
    after = 0
    while True:
        lines = await store.read(partial(sql.list_checkpoints, stream=stream, after=after, limit=_CHECKPOINTS_AT_ONCE))
        found += map(Checkpoint.parse, lines)
        if len(lines) < _CHECKPOINTS_AT_ONCE:
            return found
        if found[-1].sequence <= after:  # its text was altered; going on from it would never end
            raise Tampering(found[-1].sequence, f"the checkpoint at record {found[-1].sequence} is not in its place")
        after = found[-1].sequence


def _hashes(keys: AuditKeys, checkpoints: Iterable[Checkpoint], stream: Stream) -> dict[int, set[str]]:
    """The stream's checkpoint hashes by sequence number. A checkpoint that was altered has several."""
    hashes: dict[int, set[str]] = {}
    for checkpoint in checkpoints:
        if not checkpoint.is_signed_by(keys):
            raise Tampering(
                checkpoint.sequence, f"the checkpoint at record {checkpoint.sequence} has a false signature"
            )
        if checkpoint.stream == stream.name:
            hashes.setdefault(checkpoint.sequence, set()).add(checkpoint.hash)
    return hashes


def _check_pruned(first: int, began_at: int, pruned: int) -> None:
    """``first`` is the first record in the store, ``began_at`` the last record before the verified ones."""
    if began_at <= pruned:
        return
    if began_at > first - 1:
        raise Tampering(first - 1, f"records before {first} are gone, and no checkpoint says that they were pruned")
    raise Tampering(pruned + 1, f"records {pruned + 1} to {began_at} are gone, and were not pruned")


async def verify_all(store: Reader, keys: AuditKeys, further: Sequence[Checkpoint]) -> Verified:
    """Verifies both chains. Returns the sums of their results. Raises Tampering."""
    found = []
    for stream in STREAMS:
        try:
            found.append(await verify(store, keys, further, stream))
        except Tampering as error:
            if stream is CHANGES:
                raise
            raise Tampering(error.sequence, f"in the chain of reads and refusals: {error}") from None
    return Verified(*map(sum, zip(*found, strict=True)))


async def _chain(
    store: Reader, stream: Stream, step: Callable[[int, float], Awaitable[None]] | None
) -> AsyncIterator[AuditRow]:
    after = 0
    while True:
        began = perf_counter()
        rows = await store.read(partial(sql.sealed_records, after=after, limit=_READ_AT_ONCE, stream=stream))
        for row in rows:
            yield row
        if step is not None:
            await step(len(rows), perf_counter() - began)
        if len(rows) < _READ_AT_ONCE:
            return
        after = rows[-1].sequence or 0


def _after_pruning(first: int, checkpoints: dict[int, set[str]]) -> tuple[int, bytes]:
    """The sequence number and hash of the first checkpoint from which the rest can be verified."""
    places = [number for number, hashes in checkpoints.items() if number >= first - 1 and len(hashes) == 1]
    begin = min(places, default=0)
    if not begin:
        raise Tampering(first - 1, f"records before {first} are gone, and no checkpoint says that they were pruned")
    return begin, bytes.fromhex(next(iter(checkpoints[begin])))
