"""Counts of certificates, which every change keeps up to date."""

from __future__ import annotations

import contextlib
import random
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import thingmint
from tests.unit import vectors
from tests.unit.store.test_upgrade import ACCOUNT, at_version
from tests.world import OURS, THEIRS
from thingmint.domain.certificates import parse_certificate
from thingmint.domain.errors import DomainError
from thingmint.domain.keys import OWN_KEYS
from thingmint.domain.status import Status
from thingmint.services.certificate_counts import count_certificates, find_wrong_counts
from thingmint.services.certificates import REGISTRATIONS, Registration
from thingmint.store.search_keys import certificate_keys
from thingmint.store.sqlite import SQLiteStore
from thingmint.store.table import from_micros, to_micros

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.services.certificate_counts import CertificateCounts

SCOPES = (OURS, THEIRS)
_EPOCH = date(1970, 1, 1)


async def counted(world: World, scope: Scope = OURS, **more: Any) -> CertificateCounts:
    return await world.read(lambda tx: count_certificates(tx, scope, world.clock(), **more))


async def issued(world: World, scope: Scope, *, active: bool) -> str:
    made = await world.aws("CreateKeysAndCertificate", scope, setAsActive=active)
    return str(made["certificateId"])


async def imported(world: World, scope: Scope, number: int) -> list[str]:
    """Registers several certificates with one statement, as an import does."""
    now, rows, found = world.clock(), [], []
    for _ in range(number):
        made = parse_certificate(vectors.certificate_pem(), "pem", OWN_KEYS)[0]
        change = world.change(scope)
        id = change.new_certificate_id()
        registration = Registration(
            scope, id, made.fingerprint, Status.INACTIVE, "SNI_ONLY", "registered", now, now, change.new_id()
        )
        content = (id, made.der, bytes.fromhex(made.fingerprint), to_micros(made.not_before), to_micros(made.not_after))
        await world.execute(
            "INSERT INTO certificates (id, der, fingerprint, not_before, not_after) VALUES ($1, $2, $3, $4, $5)",
            *content,
        )
        rows.append((registration, to_micros(made.not_after), *certificate_keys(scope, made.der)))
        found.append(made.fingerprint)
    await world.write(lambda tx: REGISTRATIONS.insert_many(tx, rows))
    return found


async def step(world: World, rng: random.Random, known: dict[Scope, list[str]], added: Counter[Scope]) -> None:
    """Makes one random change. Some are refused, and change nothing."""
    scope = rng.choice(SCOPES)
    other = THEIRS if scope == OURS else OURS
    world.clock.advance(seconds=rng.choice((1, 3600, 86_400)))
    mine = known[scope]
    match rng.randrange(8):
        case 0 | 1:
            mine.append(await issued(world, scope, active=rng.random() < 0.5))
            added[scope] += 1
        case 2:
            number = rng.randrange(1, 4)
            mine += await imported(world, scope, number)
            added[scope] += number
        case 3 | 4 if mine:
            status = rng.choice(("ACTIVE", "INACTIVE", "REVOKED"))
            await world.aws("UpdateCertificate", scope, certificateId=rng.choice(mine), newStatus=status)
        case 5 if mine:
            await world.aws("DeleteCertificate", scope, certificateId=rng.choice(mine), forceDelete=True)
        case 6 if mine:
            target = {"certificateId": rng.choice(mine), "targetAwsAccount": other.account}
            await world.aws("TransferCertificate", scope, **target)
        case 7 if known[other]:
            id = rng.choice(known[other])
            name = rng.choice(("AcceptCertificateTransfer", "RejectCertificateTransfer", "CancelCertificateTransfer"))
            await world.aws(name, other if name.startswith("Cancel") else scope, certificateId=id)
            if name.startswith("Accept"):
                mine.append(id)


async def recounted(world: World, scope: Scope) -> tuple[dict[str, int], dict[tuple[int, str], int]]:
    rows = await world.rows("SELECT status, not_after FROM registrations WHERE account = $1 AND region = $2", *scope)
    days = Counter((micros // 86_400_000_000, status) for status, micros in rows)
    return dict(Counter(status for status, _ in rows)), dict(days)


@pytest.mark.parametrize("seed", range(3))
async def test_counts_are_those_of_a_recount_after_any_changes(world: World, seed: int) -> None:
    rng, added = random.Random(seed), Counter[Any]()
    known: dict[Scope, list[str]] = {scope: [] for scope in SCOPES}
    start = world.clock()
    for number in range(60):
        with contextlib.suppress(DomainError):
            await step(world, rng, known, added)
        if number % 20 < 19:
            continue
        assert await find_wrong_counts(world.store) == []
        for scope in SCOPES:
            counts = await counted(world, scope, weeks=2000, days=(world.clock() - start).days + 2)
            by_status, by_day = await recounted(world, scope)
            assert counts.by_status == by_status
            by_week = Counter[tuple[date, str]]()
            for (day, status), amount in by_day.items():
                ends = _EPOCH + timedelta(days=day)
                by_week[ends - timedelta(days=ends.weekday()), status] += amount
            found = {(week.begins, status): n for week in counts.weeks for status, n in week.by_status.items()}
            assert found == by_week
            assert sum(sum(origins.values()) for _, origins in counts.added) == added[scope]
    assert sum(map(len, known.values())) > 5


async def test_certificates_that_end_soon_are_counted_by_days_and_weeks(world: World) -> None:
    now = world.clock()
    for days, status in ((-3, "ACTIVE"), (0, "ACTIVE"), (7, "ACTIVE"), (8, "ACTIVE"), (30, "ACTIVE"), (5, "INACTIVE")):
        moment = now + timedelta(days=days)
        pem = vectors.certificate_pem(not_before=now - timedelta(days=900), not_after=moment)
        await world.aws("RegisterCertificateWithoutCA", certificatePem=pem, status=status)
    counts = await counted(world, weeks=2)
    assert (counts.total, counts.expired) == (6, 1)
    assert counts.expiring == {7: 2, 30: 4, 90: 4}
    monday = now.date() - timedelta(days=now.weekday())
    assert [week.begins for week in counts.weeks] == [monday, monday + timedelta(days=7)]
    assert counts.added[-1] == (now.date(), {"registered": 6})
    assert (await counted(world, THEIRS)).total == 0


async def test_each_lane_has_its_own_rows(world: World) -> None:
    """Concurrent changes of one account change different rows. A lane can remove what another one added."""
    id = await issued(world, OURS, active=False)
    ((used,),) = await world.rows("SELECT lane FROM certificate_counts WHERE kind = 'status'")

    async def delete(tx: Any) -> None:
        tx.lane = used + 1
        assert await REGISTRATIONS.delete(tx, *OURS, id)

    await world.write(delete)
    assert await find_wrong_counts(world.store) == []
    assert (await counted(world)).by_status == {}
    lanes = await world.rows("SELECT lane, amount FROM certificate_counts WHERE kind = 'status' ORDER BY amount")
    assert [amount for _, amount in lanes] == [-1, 1]


async def test_a_wrong_count_is_found(world: World) -> None:
    await issued(world, OURS, active=True)
    await world.execute("UPDATE certificate_counts SET amount = 3 WHERE kind = 'status'")
    assert await find_wrong_counts(world.store) == [
        "account 111111111111, us-east-1: 2 fewer ACTIVE certificates in all than counted"
    ]
    await world.execute("UPDATE registrations SET status = 'REVOKED'")
    assert len(await find_wrong_counts(world.store)) == 4


@pytest.mark.sqlite
async def test_the_migration_counts_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "thingmint.db"
    ends, made = (to_micros(datetime(2030, 1, day, 23, 59, tzinfo=UTC)) for day in (2, 1))
    columns = (
        "certificate, account, region, status, mode, origin, created_at, modified_at, generation, version, "
        "made_by_binding, not_after"
    )
    with contextlib.closing(at_version(path, 28)) as connection:
        connection.execute(f"INSERT INTO accounts VALUES ('{ACCOUNT}', 'default', 1)")
        for number, (status, end) in enumerate([("ACTIVE", ends), ("ACTIVE", ends), ("REVOKED", -5)]):
            connection.execute("INSERT INTO certificates VALUES (?, ?, x'', 0, 0)", (number, bytes([number]) * 32))
            values = (number, ACCOUNT, "r", status, "DEFAULT", "keys", made, made, b"", 1, 0, end)
            connection.execute(f"INSERT INTO registrations ({columns}) VALUES ({', '.join('?' * 12)})", values)
    store = SQLiteStore(path)
    try:
        assert await find_wrong_counts(store) == []
        now = from_micros(made)
        scope: Any = (ACCOUNT, "r")
        counts = await store.read(lambda tx: count_certificates(tx, scope, now))
    finally:
        await store.close()
    assert counts.by_status == {"ACTIVE": 2, "REVOKED": 1}
    assert (counts.expiring[7], counts.added[-1][1]) == (2, {"keys": 3})


def test_only_the_counted_table_writes_registrations() -> None:
    """Another statement that adds, deletes or changes the status of a registration would make the counts wrong."""
    source = Path(thingmint.__file__).parent
    writing = re.compile(r"(?:INSERT INTO|DELETE FROM|UPDATE) registrations\b[^\"]*")
    found = {
        (file.name, match[0].split(" WHERE")[0])
        for file in source.rglob("*.py")
        for match in writing.finditer(file.read_text())
    }
    assert {(name, text) for name, text in found if "status = " in text or not text.startswith("UPDATE")} == {
        (
            "certificates.py",
            "UPDATE registrations SET status = $4, modified_at = $5, version = $6, deactivated_by = $7",
        ),
        ("certificate_counts.py", "DELETE FROM registrations"),
    }
