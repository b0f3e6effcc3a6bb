"""Running tasks of bulk registration: what becomes of each line, whatever happens to the task. On both engines."""

from __future__ import annotations

import asyncio
import json
import zlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from tests.unit import vectors
from tests.world import OURS, THEIRS
from thingmint.access.authorization import Roles
from thingmint.aws.bulk_registration import BULK_LEASE, BulkRegistration
from thingmint.aws.contract import load_contract
from thingmint.domain.errors import Disallowed, NotFound, Unavailable
from thingmint.services import registration_tasks, template_execution
from thingmint.services.bulk_buckets import Bucket, Folder
from thingmint.services.leases import LeasedStore, SoleHolder
from thingmint.services.registration_tasks import (
    TaskStatus,
    find_task,
    forget_old_tasks,
    make_room,
    report_file,
)
from thingmint.store.engine import KeyTaken, StoreWrapper, UniqueViolated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.world import World
    from thingmint.services.registration_tasks import RegistrationTask
    from thingmint.services.report_links import ReportKind
    from thingmint.store.engine import Body, Store

T = TypeVar("T")

ROLE = f"arn:aws:iam::{OURS.account}:role/bulk"
TRUST = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "iot.amazonaws.com"}}
PATIENCE = 60.0  # seconds
CLIENT = f"arn:aws:iot:{OURS.region}:{OURS.account}:client"
CSR = vectors.csr_pem()


def resources(**given: Mapping[str, Any]) -> str:
    parameters = {name: {"Type": "String"} for name in ("Name", "Site", "CSR", "Certificate", "Status")}
    return json.dumps({"Parameters": parameters, "Resources": given})


THING = {
    "Type": "AWS::IoT::Thing",
    "Properties": {"ThingName": {"Ref": "Name"}, "AttributePayload": {"site": {"Ref": "Site"}}},
}
ISSUED = {
    "Type": "AWS::IoT::Certificate",
    "Properties": {"CertificateSigningRequest": {"Ref": "CSR"}, "Status": "ACTIVE"},
}
KNOWN = {
    "Type": "AWS::IoT::Certificate",
    "Properties": {"CertificateId": {"Ref": "Certificate"}, "Status": {"Ref": "Status"}},
}
POLICY = {
    "Type": "AWS::IoT::Policy",
    "Properties": {
        "PolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": {"Fn::Sub": f"{CLIENT}/${{Name}}"}}],
        }
    },
}


class FaultyStore(StoreWrapper):
    """``fault`` is called before and after each write, with its number and whether it was made; it may raise."""

    def __init__(self, store: Store, fault: Callable[[int, bool], None]) -> None:
        super().__init__(store)
        self._fault = fault
        self.writes = 0

    async def write(self, body: Body[T], *, urgent: bool = False, once: bool = False) -> T:
        self.writes += 1
        number = self.writes
        self._fault(number, False)
        result = await super().write(body, urgent=urgent, once=once)
        self._fault(number, True)
        return result


@dataclass
class Bench:
    world: World
    folder: Path

    def runner(self, fault: Callable[[int, bool], None] = lambda *_: None, **given: Any) -> BulkRegistration:
        store = LeasedStore(FaultyStore(self.world.store, fault), SoleHolder(), BULK_LEASE)
        roles, status = Roles(self.world.directory), load_contract().error_status
        space = given.get("report_bytes", 2**30)
        return BulkRegistration(store, self.world.environment, roles, status, self.world.clock, space)

    async def start(self, template: str, lines: Sequence[Mapping[str, str] | str], **given: Any) -> str:
        texts = [each if isinstance(each, str) else json.dumps(each) for each in lines]
        (self.folder / "file").write_text("".join(f"{text}\n" for text in texts))
        file = {"inputFileBucket": "fleet", "inputFileKey": "file"}
        made = await self.world.aws(
            "StartThingRegistrationTask", OURS, templateBody=template, **file, **{"roleArn": ROLE, **given}
        )
        return str(made["taskId"])

    async def task(self, id: str) -> RegistrationTask:
        found = await self.world.read(lambda tx: find_task(tx, id))
        assert found is not None
        return found

    async def ended(self, id: str, runner: BulkRegistration | None = None) -> RegistrationTask:
        """The task after its end. The runner looks again and again, as it does in a server."""
        running = asyncio.create_task(self._look(runner or self.runner()))
        try:
            async with asyncio.timeout(PATIENCE):
                while (task := await self.task(id)).status.runs:  # noqa: ASYNC110 - the store tells no event
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return task

    async def _look(self, runner: BulkRegistration) -> None:
        while True:
            await runner.look()
            await asyncio.sleep(0.01)

    async def records(self, id: str, kind: ReportKind) -> list[dict[str, Any]]:
        task, found = await self.task(id), []
        for number in range(task.files(kind)):
            _, parts = await self.world.read(lambda tx, n=number: report_file(tx, id, kind, n))  # type: ignore[misc]
            found += [json.loads(line) for part in parts for line in zlib.decompress(part).splitlines()]
        return found

    async def things(self) -> list[str]:
        return sorted(name for (name,) in await self.world.rows("SELECT name FROM things"))


@pytest.fixture
async def bench(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("thingmint.aws.bulk_registration._RETRY_EVERY", 0.01)
    folder = tmp_path / "bucket"
    folder.mkdir()
    world.environment.buckets.replace({"fleet": Bucket((OURS.account,), Folder(folder))})
    await world.admin("role.create", name="bulk", trust_policy=document(TRUST))
    await world.admin("policy.put", name="all", document=document({"Effect": "Allow", "Action": "*", "Resource": "*"}))
    await world.admin("policy.attach", principal="role/bulk", policy="all")
    return Bench(world, folder)


def document(statement: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def thing(number: int | str, site: str = "north") -> dict[str, str]:
    return {"Name": f"lamp-{number}", "Site": site}


@pytest.mark.parametrize("fails_after_commit", [True, False])
async def test_no_line_is_executed_twice_after_failures_of_the_store(bench: Bench, fails_after_commit: bool) -> None:
    """Each third write fails, or was made and its answer is lost."""

    def fault(number: int, made: bool) -> None:
        if number % 3 == 1 and made is fails_after_commit:
            raise Unavailable("a test")

    lines = [{**thing(number), "CSR": CSR} if number % 7 else "nothing" for number in range(150)]
    id = await bench.start(resources(thing=THING, certificate=ISSUED), lines)
    task = await bench.ended(id, bench.runner(fault))
    assert (task.status, task.succeeded, task.failed) == (TaskStatus.COMPLETED, 128, 22)
    results, errors = await bench.records(id, "RESULTS"), await bench.records(id, "ERRORS")
    assert [record["offset"] for record in results] == [number for number in range(150) if number % 7]
    assert [record["offset"] for record in errors] == [number for number in range(150) if not number % 7]
    assert await bench.world.count("registrations") == len(await bench.things()) == 128
    records = [json.loads(text) for (text,) in await bench.world.rows("SELECT record FROM audit_records")]
    of_lines = [record for record in records if record.get("task") == id]
    assert sorted(record["line"] for record in of_lines) == [record["offset"] for record in results]
    assert {(record["event"], record["principal"]) for record in of_lines} == {("RegisterThing", ROLE)}
    assert all(any(name.endswith(f"/lamp-{record['line']}") for name in record["resources"]) for record in of_lines)


async def test_no_line_is_executed_twice_by_two_processes(bench: Bench) -> None:
    """A process that lost the lease, and does not know it yet, may run the task beside the one that has the lease."""
    id = await bench.start(resources(thing=THING, certificate=ISSUED), [{**thing(n), "CSR": CSR} for n in range(100)])
    await asyncio.gather(bench.ended(id, bench.runner()), bench.ended(id, bench.runner()))
    assert [record["offset"] for record in await bench.records(id, "RESULTS")] == list(range(100))
    assert await bench.world.count("registrations") == (await bench.task(id)).succeeded == 100


async def test_a_line_that_is_refused_has_no_effect(bench: Bench) -> None:
    """Neither the policy nor the certificate that come before the thing in its plan."""
    await bench.world.aws("CreateThing", thingName="lamp-1", attributePayload={"attributes": {"site": "south"}})
    template = resources(policy=POLICY, certificate=ISSUED, thing=THING)
    id = await bench.start(template, [{**thing(number), "CSR": CSR} for number in range(3)])
    task = await bench.ended(id)
    assert (task.succeeded, task.failed) == (2, 1)
    (error,) = await bench.records(id, "ERRORS")
    assert (error["offset"], error["error"]["ErrorCode"]) == (1, "ResourceRegistrationFailureException")
    assert await bench.world.count("device_policies") == await bench.world.count("registrations") == 2
    assert bench.world.environment.counts["certificates_discarded"] == 1


async def test_what_a_line_changes_is_published(bench: Bench) -> None:
    """So that connections of devices end that it deactivates."""
    fingerprint = await bench.world.certificate()
    await bench.world.published()
    parameters = {"Certificate": fingerprint, "Status": "INACTIVE"}
    id = await bench.start(resources(certificate=KNOWN), [parameters, {**parameters, "Certificate": "0" * 64}])
    assert (await bench.ended(id)).succeeded == 1
    assert ("certificate", fingerprint) in await bench.world.published()
    (error,) = await bench.records(id, "ERRORS")
    assert error["error"]["ErrorCode"] == "ResourceRegistrationFailureException"


async def test_a_stopped_task_registers_no_further_line(bench: Bench) -> None:
    id = await bench.start(resources(thing=THING), [thing(number) for number in range(200)])
    await bench.world.aws("StopThingRegistrationTask", taskId=id)
    task = await bench.ended(id)
    assert (task.status, task.succeeded, task.percentage) == (TaskStatus.CANCELLED, 0, 0)
    assert await bench.things() == []
    await bench.start(resources(thing=THING), [thing(1)])  # the account is free for another task


async def test_an_account_has_one_task_at_a_time(bench: Bench) -> None:
    id = await bench.start(resources(thing=THING), [thing(1)])
    with pytest.raises(Disallowed, match="not finished"):
        await bench.start(resources(thing=THING), [thing(1)])
    await bench.ended(id)
    await bench.start(resources(thing=THING), [thing(2)])


async def test_a_role_that_goes_away_ends_the_task(bench: Bench) -> None:
    id = await bench.start(resources(thing=THING), [thing(number) for number in range(3)], roleArn=f"{ROLE}-2")
    task = await bench.ended(id)
    assert (task.status, task.succeeded) == (TaskStatus.FAILED, 0)
    assert "its trust policy must allow iot.amazonaws.com" in str(task.message)
    assert "The lines before line 0 (counted from 0) are done" in str(task.message)


async def test_a_bucket_that_is_taken_away_ends_the_task(bench: Bench) -> None:
    id = await bench.start(resources(thing=THING), [thing(1)])
    bench.world.environment.buckets.replace({"fleet": Bucket((THEIRS.account,), Folder(bench.folder))})
    task = await bench.ended(id)
    assert (task.status, str(task.message)[:44]) == (TaskStatus.FAILED, "The account may not use the bucket any more.")


async def test_a_task_of_more_than_30_days_ends(bench: Bench) -> None:
    id = await bench.start(resources(thing=THING), [thing(1)])
    bench.world.clock.advance(seconds=int(timedelta(days=31).total_seconds()))
    task = await bench.ended(id)
    assert (task.status, "30 days" in str(task.message)) == (TaskStatus.FAILED, True)


async def test_ids_that_are_taken_are_drawn_again(bench: Bench) -> None:
    def fault(number: int, made: bool) -> None:
        if number == 2 and not made:
            raise KeyTaken("a test")

    id = await bench.start(resources(thing=THING, certificate=ISSUED), [{**thing(1), "CSR": CSR}])
    assert (await bench.ended(id, bench.runner(fault))).succeeded == 1


@pytest.mark.parametrize(("times", "status"), [(3, TaskStatus.COMPLETED), (9, TaskStatus.FAILED)])
async def test_a_violated_constraint_is_tried_again(bench: Bench, times: int, status: TaskStatus) -> None:
    """Another call may have inserted a row meanwhile that a line would insert."""
    left = times

    def fault(number: int, made: bool) -> None:
        nonlocal left
        if number > 1 and not made and number % 2 == 0 and left:
            left -= 1
            raise UniqueViolated("a test")

    id = await bench.start(resources(thing=THING), [thing(1)])
    assert (await bench.ended(id, bench.runner(fault))).status is status


async def test_an_unexpected_error_ends_the_task_and_not_the_others(bench: Bench) -> None:
    def fault(number: int, made: bool) -> None:
        if number == 2 and not made:
            raise RuntimeError("a test")

    id = await bench.start(resources(thing=THING), [thing(1)])
    task = await bench.ended(id, bench.runner(fault))
    assert (task.status, id in str(task.message)) == (TaskStatus.FAILED, True)


async def test_an_unexpected_error_of_a_line_is_in_the_report(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def prepare_plan(change: Any, plan: Any) -> Any:
        if plan.thing.name == "lamp-1":
            raise RuntimeError("a test")
        return await template_execution.prepare_plan(change, plan)

    monkeypatch.setattr("thingmint.aws.registration_lines.prepare_plan", prepare_plan)
    id = await bench.start(resources(thing=THING), [thing(number) for number in range(3)])
    task = await bench.ended(id)
    assert (task.status, task.succeeded, task.failed) == (TaskStatus.COMPLETED, 2, 1)
    (error,) = await bench.records(id, "ERRORS")
    assert (error["error"]["ErrorCode"], error["error"]["HttpStatusCode"]) == ("InternalFailureException", 500)


async def test_a_report_has_several_files(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration_tasks, "FILE_BYTES", 2000)
    id = await bench.start(resources(thing=THING), [thing(number) for number in range(100)])
    task = await bench.ended(id)
    assert task.files("RESULTS") > 2
    assert [record["offset"] for record in await bench.records(id, "RESULTS")] == list(range(100))
    for number in (task.files("RESULTS"), -1):
        with pytest.raises(NotFound):
            await bench.world.read(lambda tx, n=number: report_file(tx, id, "RESULTS", n))  # type: ignore[misc]
    with pytest.raises(NotFound):
        await bench.world.read(lambda tx: report_file(tx, id, "ERRORS", 0))
    bench.world.environment.endpoints[OURS] = "iot.example.org"
    asked = {"taskId": id, "reportType": "RESULTS", "maxResults": 2}
    links: list[str] = []
    token = ""
    while not links or token:
        page = await bench.world.aws("ListThingRegistrationTaskReports", **asked, nextToken=token)
        links += page["resourceLinks"]
        token = page["nextToken"] or ""
    assert len(set(links)) == len(links) == task.files("RESULTS")


async def test_reports_have_a_bounded_space(bench: Bench) -> None:
    first = await bench.start(resources(thing=THING), [thing(number) for number in range(50)])
    await bench.ended(first)
    await make_room(bench.world.store, OURS.account, (await bench.task(first)).report_bytes)
    assert len(await bench.records(first, "RESULTS")) == 50
    await make_room(bench.world.store, OURS.account, (await bench.task(first)).report_bytes - 1)
    assert (await bench.task(first)).files("RESULTS") == 0
    assert await bench.world.count("registration_reports") == 0

    second = await bench.start(resources(thing=THING), [thing(number) for number in range(500)])
    task = await bench.ended(second, bench.runner(report_bytes=1000))
    assert (task.status, "no space" in str(task.message)) == (TaskStatus.FAILED, True)
    assert len(await bench.records(second, "RESULTS")) == task.succeeded < 500


async def test_tasks_are_forgotten_30_days_after_their_end(bench: Bench) -> None:
    id = await bench.start(resources(thing=THING), [thing(1)])
    await bench.ended(id)
    later = bench.world.clock() + timedelta(days=30)
    await forget_old_tasks(bench.world.store, later)
    assert await bench.world.count("registration_reports") == 1
    await forget_old_tasks(bench.world.store, later + timedelta(seconds=1))
    assert await bench.world.count("registration_reports") == await bench.world.count("registration_tasks") == 0


async def test_a_process_without_the_lease_runs_nothing(bench: Bench) -> None:
    class NoHolder(SoleHolder):
        def holds(self, name: str) -> bool:
            del name
            return False

    id = await bench.start(resources(thing=THING), [thing(1)])
    runner = bench.runner()
    runner.store = LeasedStore(bench.world.store, NoHolder(), BULK_LEASE)
    await runner.look()
    await asyncio.sleep(0.1)
    assert (await bench.task(id)).position == 0
