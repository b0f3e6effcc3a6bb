"""The records of the audit log: which are written, when, and that they contain no secret."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from tests.unit.http.answering import Answering
from tests.unit.vectors import NOW, FakeClock
from thingmint.access import audit, audit_events, repeats
from thingmint.access.administration.accounts import ACCOUNTS, Account, list_accounts
from thingmint.access.audit import AuditedStore, AuditLog
from thingmint.access.audit_chain import verify_all
from thingmint.access.audit_events import event_name, is_urgent
from thingmint.access.audit_keys import AuditKeys
from thingmint.access.audit_sealer import Sealer, insert_sealed_activity
from thingmint.access.context import Caller, Outcome, RequestContext
from thingmint.access.request_log import RequestLog
from thingmint.access.throttle import FailureThrottle
from thingmint.domain.errors import NotFound, Unavailable
from thingmint.http.front import Front
from thingmint.http.memory import RequestMemory
from thingmint.http.messages import Answer
from thingmint.metrics import Metrics
from thingmint.store import audit as sql
from thingmint.store.engine import StoreWrapper, UniqueViolated
from thingmint.store.sqlite import SQLiteStore
from thingmint.yandex.contract import load as load_yandex_contract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from thingmint.http.front import HttpApi
    from thingmint.http.messages import Message
    from thingmint.store.engine import Body, Transaction

T = TypeVar("T")

CALLER = Caller("123456789012", ("us-east-1",), "aje0", "elf", "arn:aws:iam::123456789012:user/elf", "AKIAEXAMPLE", ())


class Store(StoreWrapper):
    """A real store that fails on request: before it writes, or after a write, as if the write had failed."""

    def __init__(self, path: Path) -> None:
        database = path / "thingmint.db"
        database.touch()
        super().__init__(SQLiteStore(database))
        self.fails: str | None = None
        self.writes = 0

    async def write(self, body: Body[T], *, urgent: bool = False, once: bool = False) -> T:
        if self.fails == "before":
            raise Unavailable("The store failed")
        result = await self._store.write(body, urgent=urgent, once=once)
        self.writes += 1
        if self.fails == "after":
            raise Unavailable("The store failed; whether the change was kept is unknown")
        return result

    async def records(self) -> list[dict[str, Any]]:
        """The records, oldest first."""

        async def body(tx: Transaction) -> list[sql.AuditRow]:
            return await sql.list_records(tx, account=None, before=None, limit=100_000)

        return [orjson.loads(row.record) for row in reversed(await self._store.read(body))]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = Store(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


MADE = Account("1", "made", NOW)


async def insert_account(tx: Transaction) -> None:
    await ACCOUNTS.insert(tx, MADE)


def request(**fields: Any) -> tuple[RequestContext, Outcome]:
    """An answered request by CALLER. ``fields`` replace those of its context or outcome."""
    known: dict[str, Any] = {
        "api": "aws",
        "operation": "DescribeThing",
        "method": "GET",
        "address": "192.0.2.1",
        "user_agent": "Boto3/1.44",
        "caller": CALLER,
        "now": NOW,
    }
    outcome: dict[str, Any] = {
        name: fields.pop(name) for name in ("status", "code", "resource", "recorded") if name in fields
    }
    outcome.setdefault("status", 200)
    return RequestContext(**known | fields), Outcome(**outcome)


def unauthenticated(**fields: Any) -> tuple[RequestContext, Outcome]:
    return request(**{"caller": None, "code": "UnrecognizedClientException", "operation": "-"} | fields)


@pytest.mark.parametrize(
    ("api", "operation", "name"),
    [
        ("aws", "CreateKeysAndCertificate", "CreateKeysAndCertificate"),
        ("native", "CreateUser", "CreateUser"),
        ("admin", "CreateUser", "CreateUser"),
        ("yandex", "RegistryService.Create", "yandex.cloud.audit.iot.devices.CreateRegistry"),
        ("yandex", "DeviceService.AddCertificate", "yandex.cloud.audit.iot.devices.AddDeviceCertificate"),
        ("yandex", "DeviceService.Get", "DeviceService.Get"),
        ("yandex", "DeviceService.ListPasswords", "DeviceService.ListPasswords"),
        ("yandex", "IamTokenService.Create", "IamTokenService.Create"),
        ("aws", "RegistryService.Create", "RegistryService.Create"),
    ],
)
def test_event_names(api: str, operation: str, name: str) -> None:
    assert event_name(request(api=api, operation=operation)[0]) == name


# Yandex, "Reference of audit events": IoT Core. The 21 of its 24 changes that it has names for.
YANDEX_EVENTS = {
    f"{service}.{method}": f"yandex.cloud.audit.iot.{api}.{event}"
    for service, api, noun in (
        ("DeviceService", "devices", "Device"),
        ("RegistryService", "devices", "Registry"),
        ("BrokerService", "broker", "Broker"),
    )
    for method, event in {
        "Create": f"Create{noun}",
        "Update": f"Update{noun}",
        "Delete": f"Delete{noun}",
        "AddCertificate": f"Add{noun}Certificate",
        "DeleteCertificate": f"Delete{noun}Certificate",
        "AddPassword": f"Add{noun}Password",
        "DeletePassword": f"Delete{noun}Password",
    }.items()
}
OWN_EVENTS = {
    "RegistryService.Enable": "yandex.cloud.audit.iot.devices.EnableRegistry",
    "RegistryService.Disable": "yandex.cloud.audit.iot.devices.DisableRegistry",
    "RegistryService.AddDataStreamExport": "yandex.cloud.audit.iot.devices.AddDataStreamExport",
    "RegistryService.DeleteDataStreamExport": "yandex.cloud.audit.iot.devices.DeleteDataStreamExport",
    "DeviceDataService.Publish": "yandex.cloud.audit.iot.devices.PublishDeviceData",
    "RegistryDataService.Publish": "yandex.cloud.audit.iot.devices.PublishRegistryData",
    "BrokerDataService.Publish": "yandex.cloud.audit.iot.broker.PublishBrokerData",
}


def test_each_change_of_the_yandex_api_has_an_event_name() -> None:
    assert len(YANDEX_EVENTS) == 21
    methods = {method.label: method for method in load_yandex_contract().methods.values()}
    iot = {label for label, method in methods.items() if ".iot." in method.service}
    changes = {label for label in iot if methods[label].operation is not None or label.endswith(".Publish")}
    expected = {label: label for label in methods} | YANDEX_EVENTS | OWN_EVENTS
    assert changes == YANDEX_EVENTS.keys() | OWN_EVENTS.keys()
    assert {label: event_name(request(api="yandex", operation=label)[0]) for label in methods} == expected


def test_ids_sort_by_time() -> None:
    times = [NOW + timedelta(microseconds=step) for step in (-(10**15), -1, 0, 1, 10**6, 10**15)]
    ids = [audit_events.new_record_id(time) for time in times]
    assert ids == sorted(ids)
    assert len({audit_events.new_record_id(NOW) for _ in range(1000)}) == 1000


async def test_details_of_a_change_are_in_its_record_and_in_the_log(store: Store, clock: FakeClock) -> None:
    one = request(operation="AddCertificate")
    audited = AuditedStore(store, clock).of(*one)

    async def body(tx: Transaction) -> None:
        tx.audit_details["reason"] = "it stays REVOKED"

    await audited.write(body)
    (record,) = await store.records()
    assert (record["outcome"], record["reason"]) == ("success", "it stays REVOKED")
    with capture_logs() as logs:
        RequestLog(Metrics(), AuditLog(store, clock)).record(*one)
    assert [(line["event"], line["reason"]) for line in logs] == [("request", "it stays REVOKED")]


async def test_a_change_and_its_record_are_written_together(store: Store, clock: FakeClock) -> None:
    one = request(operation="CreateThing", resource="arn:asked")
    audited = AuditedStore(store, clock).of(*one)

    async def body(tx: Transaction) -> str:
        await ACCOUNTS.insert(tx, MADE)
        tx.audit_resources.append("arn:made")
        return "result"

    assert await audited.write(body) == "result"
    assert one[1].recorded
    assert store.writes == 1, "one transaction"
    assert await store.records() == [
        {
            "time": "2026-11-21T12:00:00.250000+00:00",
            "source": "iot.amazonaws.com",
            "event": "CreateThing",
            "account": "123456789012",
            "principal": "arn:aws:iam::123456789012:user/elf",
            "credential": "AKIAEXAMPLE",
            "address": "192.0.2.1",
            "agent": "Boto3/1.44",
            "resource": "arn:asked",
            "outcome": "success",
            "error": None,
            "request": one[0].id,
            "resources": ["arn:made"],
        }
    ]


async def test_a_refused_change_writes_no_change_and_no_record(store: Store, clock: FakeClock) -> None:
    one = request()

    async def body(tx: Transaction) -> None:
        await ACCOUNTS.insert(tx, MADE)
        raise NotFound("thing", "x")

    with pytest.raises(NotFound):
        await AuditedStore(store, clock).of(*one).write(body)
    assert not one[1].recorded
    assert await store.records() == []
    assert await store.read(list_accounts) == []


async def test_a_change_is_rolled_back_if_its_record_fails(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*arguments: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(sql, "insert_record", refuse)
    one = request()
    with pytest.raises(RuntimeError):
        await AuditedStore(store, clock).of(*one).write(insert_account)
    assert not one[1].recorded
    assert await store.read(list_accounts) == []


async def test_a_change_is_found_by_the_call_that_made_it(store: Store, clock: FakeClock) -> None:
    """Each call is found once, even if it makes several changes."""
    context, outcome = request()
    audited = AuditedStore(store, clock).of(context, outcome)
    assert not await store.read(lambda tx: sql.has_record_of(tx, context.id))
    await audited.write(insert_account)
    assert await store.read(lambda tx: sql.has_record_of(tx, context.id))
    await audited.write(list_accounts)
    assert len(await store.records()) == 2
    with pytest.raises(UniqueViolated):
        await store.write(lambda tx: sql.insert_record(tx, "00", None, "{}", context.id))


async def test_the_servers_own_housekeeping_has_no_record(store: Store, clock: FakeClock) -> None:
    await AuditedStore(store, clock).write(insert_account)
    assert await store.read(list_accounts) == [MADE]
    assert await store.records() == []


async def test_a_failed_write_does_not_count_as_recorded(store: Store, clock: FakeClock) -> None:
    one = request()
    store.fails = "before"
    with pytest.raises(Unavailable):
        await AuditedStore(store, clock).of(*one).write(insert_account)
    assert not one[1].recorded


async def test_an_audited_store_passes_other_calls_to_the_store(store: Store, clock: FakeClock) -> None:
    audited = AuditedStore(store, clock)
    assert audited.ready
    await audited.write(insert_account)
    assert store.writes == 1
    assert await audited.read(list_accounts) == [MADE]


async def test_reads_and_refusals_are_written_in_batches(store: Store, clock: FakeClock) -> None:
    trail = AuditLog(store, clock)
    for number in range(100):
        trail.add(*request(resource=f"arn:{number}"))
        clock.advance(microseconds=1)
    assert store.writes == 0
    await trail.flush()
    await trail.flush()
    assert store.writes == 1
    assert [record["resource"] for record in await store.records()] == [f"arn:{n}" for n in range(100)]


@pytest.mark.parametrize(
    ("fields", "outcome", "error"),
    [
        ({}, "success", None),
        ({"code": "AccessDeniedException"}, "refused", "AccessDeniedException"),
        ({"recorded": True}, None, None),
        ({"recorded": True, "code": "x"}, None, None),
        ({"api": "probe"}, None, None),
        ({"api": "probe", "caller": None, "code": "PERMISSION_DENIED"}, None, None),
    ],
)
async def test_fields_of_the_record_of_a_read(
    store: Store, clock: FakeClock, fields: dict[str, Any], outcome: str | None, error: str | None
) -> None:
    trail = AuditLog(store, clock)
    trail.add(*request(**fields))
    await trail.close()
    expected = [] if outcome is None else [(outcome, error, CALLER.account)]
    found = await store.records()
    assert [(record["outcome"], record["error"], record["account"]) for record in found] == expected


async def test_each_account_lists_its_own_records_only(store: Store, clock: FakeClock) -> None:
    trail = AuditLog(store, clock)
    trail.add(*request())
    trail.add(*unauthenticated())
    await trail.close()

    async def body(tx: Transaction) -> list[sql.AuditRow]:
        return await sql.list_records(tx, account=CALLER.account, before=None, limit=10)

    assert [orjson.loads(row.record)["account"] for row in await store.read(body)] == [CALLER.account]
    assert len(await store.records()) == 2


@pytest.mark.parametrize("fails", ["before", "after"])
async def test_records_that_the_store_refused_wait_in_order(store: Store, clock: FakeClock, fails: str) -> None:
    """``after``: the store failed after it had written the batch, which is therefore tried again."""
    trail = AuditLog(store, clock)
    for number in range(3):
        trail.add(*request(resource=f"arn:{number}"))
        clock.advance(microseconds=1)
    store.fails = fails
    with capture_logs() as logs:
        await trail.flush()
    assert [(line["event"], line["records"]) for line in logs] == [("audit_records_waiting", 3)]
    trail.add(*request(resource="arn:3"))
    store.fails = None
    await trail.flush()
    assert [record["resource"] for record in await store.records()] == [f"arn:{n}" for n in range(4)]


@pytest.mark.parametrize("fails", [None, "before", "after"])
async def test_each_record_gets_one_place_in_the_chain(store: Store, clock: FakeClock, fails: str | None) -> None:
    """``after``: the store failed after it had written the sealed batch, which is therefore tried again."""
    key = Ed25519PrivateKey.generate()
    sealer = Sealer(store, key, Path("/dev/null"), clock)
    trail = AuditLog(store, clock, insert_sealed_activity)

    async def batch() -> None:
        for _ in range(3):
            trail.add(*request())
            clock.advance(microseconds=1)
        with capture_logs():
            await trail.flush()

    await batch()
    await AuditedStore(store, clock).of(*request()).write(insert_account)
    store.fails = fails
    await batch()
    store.fails = None
    await batch()
    await batch()
    assert len(await store.read(lambda tx: sql.sealed_records(tx, 0, 100, sql.ACTIVITY))) >= 6, "without the sealer"
    await sealer.seal()
    verified = await verify_all(store, AuditKeys(key.public_key()), [])
    assert (verified.end, verified.checkpoints) == (13, 0)
    assert len(await store.records()) == 13


async def test_a_full_batch_is_written_immediately(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_FLUSH_EVERY", 3600)
    trail = AuditLog(store, clock)
    task = asyncio.create_task(trail.run())
    for _ in range(audit._FLUSH_AT - 1):
        trail.add(*request())
    await asyncio.sleep(0.01)
    assert store.writes == 0
    trail.add(*request())
    while not store.writes:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])
    assert len(await store.records()) == audit._FLUSH_AT


async def test_records_added_during_a_commit_wait_for_the_next_batch(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each commit, concurrent reads need a new snapshot."""
    monkeypatch.setattr(audit, "_FLUSH_EVERY", 3600)
    trail = AuditLog(store, clock)
    task = asyncio.create_task(trail.run())
    added = 0
    while not store.writes:
        if added < audit._FLUSH_AT + 10:
            trail.add(*request())
            added += 1
        if added >= audit._FLUSH_AT:
            await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert (store.writes, trail.pending) == (1, added - audit._FLUSH_AT)
    assert trail.pending > 0


async def test_records_of_a_cancelled_flush_are_in_the_chain_once(store: Store, clock: FakeClock) -> None:
    key = Ed25519PrivateKey.generate()
    trail = AuditLog(store, clock, insert_sealed_activity)
    for _ in range(3):
        trail.add(*request())
        clock.advance(microseconds=1)
    task = asyncio.create_task(trail.flush())
    for _ in range(2):  # until the commit is under way
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await trail.close()
    await Sealer(store, key, Path("/dev/null"), clock).seal()
    assert (await verify_all(store, AuditKeys(key.public_key()), [])).end == 3


async def test_records_are_written_often_and_after_failures_too(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_FLUSH_EVERY", 0.001)
    trail = AuditLog(store, clock)
    store.fails = "before"
    with capture_logs() as logs:
        task = asyncio.create_task(trail.run())
        trail.add(*request())
        trail.add(*unauthenticated())
        while not logs:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
        store.fails = None
        while not store.writes:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
    assert len(await store.records()) == 2


class Monotonic:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


DEVICE = Caller("123456789012", ("us-east-1",), "f" * 64, "lamp", "arn:aws:iot:us-east-1:1:cert/f", "f" * 64, ())
LOCAL = {"api": "admin", "caller": None, "code": "NotFound", "address": None}
REFUSALS: dict[str, dict[str, Any]] = {
    "no credentials": {"caller": None, "code": "UnrecognizedClientException", "operation": "-"},
    "an access key": {"code": "AccessDeniedException"},
    "a throttled access key": {"code": "ThrottlingException", "operation": "CreateThing"},
    "a token": {"api": "native", "code": "PERMISSION_DENIED"},
    "an IAM token": {"api": "yandex", "code": "PERMISSION_DENIED", "operation": "DeviceService.Get"},
    "the operator": LOCAL,
    "a certificate": {"api": "mqtt", "caller": DEVICE, "code": "NotAuthorized", "operation": "Connect"},
    "a provisioning device": {"api": "mqtt", "caller": DEVICE, "code": "InvalidTemplate", "operation": "RegisterThing"},
}


@pytest.mark.parametrize("fields", REFUSALS.values(), ids=REFUSALS)
async def test_the_first_refusal_is_recorded_at_once_and_the_others_are_counted(
    store: Store, clock: FakeClock, fields: dict[str, Any]
) -> None:
    monotonic = Monotonic()
    trail = AuditLog(store, clock, monotonic=monotonic)
    with capture_logs() as logs:
        logged = [trail.add(*request(**{"resource": f"arn:{number}"} | fields)) for number in range(50)]
        await trail.flush()
        assert logged == [True] + 49 * [False]
        [first] = await store.records()
        assert (first["resource"], first["error"]) == ("arn:0", fields["code"])
        assert "count" not in first
        clock.advance(seconds=60)
        monotonic.seconds += 60
        await trail.close()
    [_, rest] = await store.records()
    assert {name: rest[name] for name in ("source", "event", "account", "principal", "credential", "error")} == {
        name: first[name] for name in ("source", "event", "account", "principal", "credential", "error")
    }
    assert (rest["count"], rest["resource"]) == (49, "arn:49")
    assert (rest["since"], rest["time"]) == ("2026-11-21T12:00:00.250000+00:00", "2026-11-21T12:01:00.250000+00:00")
    [line] = [line for line in logs if line["event"] == "repeated"]
    assert (line["count"], line["code"]) == (49, fields["code"])


async def test_counts_are_written_after_a_minute_and_then_less_and_less_often(store: Store, clock: FakeClock) -> None:
    """A device that is refused every 5 seconds for a day."""
    monotonic = Monotonic()
    trail = AuditLog(store, clock, monotonic=monotonic)
    one = request(**REFUSALS["a certificate"])
    for _ in range(24 * 720):
        trail.add(*one)
        clock.advance(seconds=5)
        monotonic.seconds += 5
        trail._report(trail._repeats.due(256))
    await trail.close()
    counts = [record.get("count", 1) for record in await store.records()]
    assert counts[:4] == [1, 12, 24, 48]
    assert sum(counts) == 24 * 720
    assert len(counts) < 40


def connect(**fields: Any) -> tuple[RequestContext, Outcome]:
    return request(**{"api": "mqtt", "caller": DEVICE, "operation": "Connect"} | fields)


async def test_text_that_a_device_chooses_makes_few_records(store: Store, clock: FakeClock) -> None:
    trail = AuditLog(store, clock)
    for number in range(1000):
        context, outcome = connect(code="NotAuthorized", operation=f"Operation{number % 7}", resource=f"t/{number}")
        outcome.details = {"reason": f"topic {number} is not allowed", "closest": ["x" * 10_000]}
        trail.add(context, outcome)
    await trail.close()
    records = await store.records()
    assert len(records) <= 2 * (repeats.MAX_OF_CALLER + 1)
    assert sum(record.get("count", 1) for record in records) == 1000
    [rest] = [record for record in records if record["event"] is None]
    assert (rest["principal"], rest["resource"], rest["error"]) == (DEVICE.arn, None, None)
    assert not any("closest" in record and record["closest"] for record in records if "count" in record)


async def test_invented_template_names_are_counted_as_one_kind(store: Store, clock: FakeClock) -> None:
    trail = AuditLog(store, clock)
    for number in range(100):
        context, outcome = connect(code="InvalidTemplate", operation="RegisterThing")
        outcome.details = {"reason": f"Template with name {number} does not exist."}
        trail.add(context, outcome)
    await trail.close()
    assert sorted(record.get("count", 1) for record in await store.records()) == [1, 99]


async def test_connections_of_a_device_that_connects_too_often_are_counted(store: Store, clock: FakeClock) -> None:
    monotonic = Monotonic()
    trail = AuditLog(store, clock, monotonic=monotonic)
    for number in range(6000):
        trail.add(*connect(resource=f"client-{number}", address=f"192.0.2.{number % 100}"))
        monotonic.seconds += 0.01
    await trail.close()
    records = await store.records()
    assert len(records) <= 8
    assert sum(record.get("count", 1) for record in records) == 6000
    [rest] = [record for record in records if "count" in record]
    assert rest["outcome"] == "success"
    assert len(rest["addresses"]) == 8


async def test_connections_of_many_devices_are_recorded_one_by_one(store: Store, clock: FakeClock) -> None:
    trail = AuditLog(store, clock)
    for number in range(3000):
        trail.add(*connect(caller=replace(DEVICE, principal=f"{number:064x}")))
    await trail.close()
    assert not any("count" in record for record in await store.records())
    assert len(await store.records()) == 3000


async def test_reads_are_recorded_one_by_one(store: Store, clock: FakeClock) -> None:
    trail = AuditLog(store, clock)
    for _ in range(100):
        trail.add(*request())
    await trail.close()
    assert len(await store.records()) == 100


async def test_probes_are_counted_for_the_log_and_not_audited(store: Store, clock: FakeClock) -> None:
    trail = AuditLog(store, clock)
    probe = request(api="probe", operation="healthz", caller=None)
    with capture_logs() as logs:
        assert [trail.add(*probe) for _ in range(100)] == [True] + 99 * [False]
        trail._report(trail._repeats.all())
    assert [line["count"] for line in logs] == [99]
    assert trail.pending == 0


async def test_waiting_records_are_bounded_and_dropped_records_are_counted(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_MAX_PENDING", 200_000)
    trail = AuditLog(store, clock)
    store.fails = "before"
    with capture_logs():
        for number in range(2000):
            trail.add(*request(resource=f"arn:{number}"))
            clock.advance(microseconds=1)
            await trail.flush()
        with pytest.raises(Unavailable):
            await trail.close()
    assert trail.lost + trail.pending == 2000
    assert trail._pending_size <= 200_000
    store.fails = None
    await trail.close()
    assert [record["resource"] for record in await store.records()] == [f"arn:{n}" for n in range(trail.lost, 2000)]


async def test_many_records_are_written_in_small_transactions(store: Store, clock: FakeClock) -> None:
    trail = AuditLog(store, clock, insert_sealed_activity)
    store.fails = "after"
    for _ in range(1100):
        trail.add(*request())
    with capture_logs():
        await trail.flush()
    store.fails = None
    await trail.flush()
    assert store.writes == 6
    assert len(await store.records()) == 1100


@pytest.mark.parametrize(
    ("operation", "urgent"),
    [
        ("UpdateCertificate", True),
        ("DeleteThing", True),
        ("DetachPolicy", True),
        ("SetDefaultPolicyVersion", True),
        ("DeviceService.DeleteCertificate", True),
        ("RegistryService.Disable", True),
        ("UpdateAccessKey", True),
        ("DetachUserPolicy", True),
        ("CreateThing", False),
        ("UpdateThing", False),
        ("DeviceService.AddCertificate", False),
        ("Connect", False),
    ],
)
def test_operations_that_revoke_access_or_free_space_are_urgent(operation: str, urgent: bool) -> None:
    assert is_urgent(operation) is urgent


SECRET = "hunter2"


@pytest.mark.parametrize("refusal", [None, "AccessDeniedException"])
@pytest.mark.parametrize("caller", [None, CALLER])
async def test_no_secret_gets_into_a_record(
    store: Store, clock: FakeClock, caller: Caller | None, refusal: str | None
) -> None:
    """Path, query and headers, except the user agent, are not in it either: they may contain secrets."""
    trail = AuditLog(store, clock)

    class Api(Answering):
        async def serve(self, context: RequestContext, outcome: Outcome, route: Any, given: Any) -> Answer:
            if caller and not refusal:
                audited = AuditedStore(store, clock).of(context, outcome)
                await audited.write(insert_account)
            return Answer(200, [], SECRET.encode(), refusal)

    async def receive() -> Message:
        return {"type": "http.request", "body": SECRET.encode(), "more_body": False}

    async def send(message: Message) -> None:
        del message

    secret = SECRET.encode()
    scope: Message = {
        "method": "POST",
        "raw_path": b"/things/" + secret,
        "query_string": b"X-Amz-Signature=" + secret,
        "headers": [
            (b"authorization", b"AWS4-HMAC-SHA256 " + secret),
            (b"x-amz-security-token", secret),
            (b"cookie", secret),
            (b"user-agent", b"a" * 300),
        ],
        "client": ("192.0.2.1", 50000),
    }
    await _front(Api("aws", "DescribeThing", caller), trail)(scope, receive, send)
    await trail.close()
    [record] = await store.records()
    assert record["agent"] == "a" * 256
    assert record["address"] == "192.0.2.1"
    assert SECRET not in orjson.dumps(record).decode()


class SignedByAll:
    """An API as a SignedApi that has every route."""

    signing_names = ("iot",)

    def __init__(self, api: HttpApi) -> None:
        self._api = api

    def is_route(self, method: str, raw_path: bytes) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)


def _front(api: HttpApi, trail: AuditLog) -> Front:
    return Front(
        aws=[SignedByAll(api)],
        native=api,
        yandex=api,
        probes={},
        is_yandex_route=lambda path: False,
        request_log=RequestLog(Metrics(), trail),
        failures=FailureThrottle(None),
        memory=RequestMemory.of(),
        clock=FakeClock(),
    )
