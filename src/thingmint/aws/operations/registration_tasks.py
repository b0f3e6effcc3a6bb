"""Bulk registration (five operations). ``aws/bulk_registration`` runs the tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import Members, Result, cursor, reads, writes
from thingmint.domain.ids import new_uuid
from thingmint.domain.templates import Kind, parse_template
from thingmint.services.hostnames import endpoint_of
from thingmint.services.pages import page_of
from thingmint.services.registration_tasks import (
    TASKS,
    RegistrationTask,
    TaskStatus,
    list_tasks,
    start_task,
    stop_task,
)
from thingmint.services.report_links import ReportFile

if TYPE_CHECKING:
    from thingmint.services.change import Change, Query
    from thingmint.services.page_tokens import Position
    from thingmint.store.engine import Transaction

DEVIATIONS = {
    "StartThingRegistrationTask": (
        "A bucket is a name in the operator's settings. For other accounts it is a ResourceNotFoundException, which "
        "the model does not list. A key that names no file is refused at once."
    ),
    "StopThingRegistrationTask": (
        "Stopping a task that has ended is an InvalidRequestException. AWS documents no answer for it."
    ),
    "ListThingRegistrationTaskReports": (
        "The format of the files is this server's, as AWS publishes none. A file is listed when it is complete. An "
        "unknown task is a ResourceNotFoundException, as in the other operations."
    ),
}


async def _new_task(change: Change, members: Members) -> RegistrationTask:
    parse_template(members["templateBody"], Kind.BULK)
    bucket, key = members["inputFileBucket"], members["inputFileKey"]
    file = await change.environment.buckets.look(change.account, bucket, key)
    return RegistrationTask(
        scope=change.scope,
        id=new_uuid(),
        status=TaskStatus.IN_PROGRESS,
        template=members["templateBody"],
        bucket=bucket,
        key=key,
        role_arn=members["roleArn"],
        created_at=change.now,
        modified_at=change.now,
        runs_for=change.account,
        message=None,
        size=file.size,
        file_version=file.version,
    )


@writes("StartThingRegistrationTask", prepare=_new_task)
async def start(tx: Transaction, _change: Change, _members: Members, new: RegistrationTask) -> Result:
    return {"taskId": (await start_task(tx, new)).id}


@writes("StopThingRegistrationTask")
async def stop(tx: Transaction, change: Change, members: Members) -> Result:
    await stop_task(tx, change, members["taskId"])
    return {}


@reads("DescribeThingRegistrationTask")
async def describe(tx: Transaction, query: Query, members: Members) -> Result:
    task = await TASKS.get(tx, *query.scope, members["taskId"])
    return {
        "taskId": task.id,
        "creationDate": task.created_at,
        "lastModifiedDate": task.modified_at,
        "templateBody": task.template,
        "inputFileBucket": task.bucket,
        "inputFileKey": task.key,
        "roleArn": task.role_arn,
        "status": task.status.value,
        "message": task.message,
        "successCount": task.succeeded,
        "failureCount": task.failed,
        "percentageProgress": task.percentage,
    }


@reads("ListThingRegistrationTasks")
async def list_(tx: Transaction, query: Query, members: Members) -> Result:
    page = await list_tasks(tx, query, members.get("status"), cursor(members))
    return {"taskIds": [task.id for task in page.items], "nextToken": page.next_token}


@reads("ListThingRegistrationTaskReports")
async def list_reports(tx: Transaction, query: Query, members: Members) -> Result:
    task, kind = await TASKS.get(tx, *query.scope, members["taskId"]), members["reportType"]
    host, links = await endpoint_of(tx, query), query.environment.report_links

    async def fetch(after: Position | None, limit: int) -> list[int]:
        first = 0 if after is None else after[0] + 1
        return list(range(first, min(first + limit, task.files(kind))))

    listing = f"reports {task.id} {kind}"
    page = await page_of(query, cursor(members), listing, fetch, lambda number: (number, ""))
    made = [links.link(host, ReportFile(task.id, kind, number), query.now) for number in page.items]
    return {"resourceLinks": made, "reportType": kind, "nextToken": page.next_token}
