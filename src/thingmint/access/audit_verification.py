"""Verifying that the audit trail was not altered: computes all hashes again, and compares them with the checkpoints."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from thingmint.access.audit_chain import GENESIS, Checkpoint, Tampering, hash_of, is_pruning, pruned_through
from thingmint.store import audit as sql
from thingmint.store.audit import CHANGES, STREAMS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from thingmint.store.audit import AuditRow, Stream
    from thingmint.store.engine import Reader

_READ_AT_ONCE = 250  # records


class Verified(NamedTuple):
    """What holds together: the chain ends at record ``end``, and ``records`` of it are there.

    The last ``uncovered`` are behind the last checkpoint; ``unsealed`` are not in the chain yet. Nothing would show
    that those were rewritten.
    """

    end: int
    checkpoints: int
    records: int
    uncovered: int
    unsealed: int


async def verify(
    store: Reader, key: Ed25519PublicKey, further: Iterable[Checkpoint], stream: Stream = CHANGES
) -> Verified:
    """One chain. ``further`` are checkpoints kept outside. Raises Tampering."""
    lines = await store.read(partial(sql.list_checkpoints, stream=stream))
    checkpoints = _hashes(key, [*map(Checkpoint.parse, lines), *further], stream)
    sequence, previous, last_good = 0, GENESIS, 0
    pruned = 0
    first = began_at = 0
    async for row in _chain(store, stream):
        assert row.sequence is not None, "these records are sealed"
        if sequence == 0 and row.sequence > 1:
            first = row.sequence
            sequence, previous = _after_pruning(first, checkpoints)
            last_good = began_at = sequence
        if row.sequence <= began_at:
            continue  # about to be pruned, which is done step by step: what is left of them cannot be verified
        if row.sequence != sequence + 1:
            raise Tampering(sequence + 1, f"record {sequence + 1} was removed")
        sequence = row.sequence
        try:
            previous = hash_of(previous, row)
        except TypeError:  # bytes, or text that is none: nothing that was ever written here
            raise Tampering(sequence, f"record {sequence} was altered") from None
        if previous != row.hash:
            raise Tampering(sequence, f"record {sequence} was altered, or put in another's place")
        if checkpoints.get(sequence, {previous.hex()}) != {previous.hex()}:
            raise Tampering(last_good + 1, f"a record from {last_good + 1} to {sequence} was altered and chained anew")
        if sequence in checkpoints:
            last_good = sequence
        if is_pruning(row):
            pruned = max(pruned, pruned_through(stream, row, key))
    _check_pruned(first, began_at, pruned)
    beyond = [number for number in checkpoints if number > sequence]
    if beyond:
        raise Tampering(sequence + 1, f"the trail was cut off: records {sequence + 1} to {max(beyond)} are gone")
    uncovered = sequence - max((number for number in checkpoints if number <= sequence), default=began_at)
    unsealed = await store.read(partial(sql.count_unsealed, stream=stream))
    return Verified(sequence, len(checkpoints), sequence - began_at, uncovered, unsealed)


def _hashes(key: Ed25519PublicKey, checkpoints: Iterable[Checkpoint], stream: Stream) -> dict[int, set[str]]:
    """Those of the stream by sequence number; one that was altered has several."""
    hashes: dict[int, set[str]] = {}
    for checkpoint in checkpoints:
        if not checkpoint.is_signed_by(key):
            raise Tampering(
                checkpoint.sequence, f"the checkpoint at record {checkpoint.sequence} has a false signature"
            )
        if checkpoint.stream == stream.name:
            hashes.setdefault(checkpoint.sequence, set()).add(checkpoint.hash)
    return hashes


def _check_pruned(first: int, began_at: int, pruned: int) -> None:
    """``first`` is the first record that is there, ``began_at`` the last that was not verified."""
    if began_at <= pruned:
        return
    if began_at > first - 1:
        raise Tampering(first - 1, f"records before {first} are gone, and no checkpoint says that they were pruned")
    raise Tampering(pruned + 1, f"records {pruned + 1} to {began_at} are gone, and were not pruned")


async def verify_all(store: Reader, key: Ed25519PublicKey, further: Sequence[Checkpoint]) -> Verified:
    """Both chains, and the sums of what they hold. Raises Tampering."""
    found = []
    for stream in STREAMS:
        try:
            found.append(await verify(store, key, further, stream))
        except Tampering as error:
            if stream is CHANGES:
                raise
            raise Tampering(error.sequence, f"of reads and refusals: {error}") from None
    return Verified(*map(sum, zip(*found, strict=True)))


async def _chain(store: Reader, stream: Stream) -> AsyncIterator[AuditRow]:
    after = 0
    while True:
        rows = await store.read(partial(sql.sealed_records, after=after, limit=_READ_AT_ONCE, stream=stream))
        for row in rows:
            yield row
        if len(rows) < _READ_AT_ONCE:
            return
        after = rows[-1].sequence or 0


def _after_pruning(first: int, checkpoints: dict[int, set[str]]) -> tuple[int, bytes]:
    """The first place from which the rest can be verified."""
    places = [number for number, hashes in checkpoints.items() if number >= first - 1 and len(hashes) == 1]
    begin = min(places, default=0)
    if not begin:
        raise Tampering(first - 1, f"records before {first} are gone, and no checkpoint says that they were pruned")
    return begin, bytes.fromhex(next(iter(checkpoints[begin])))
