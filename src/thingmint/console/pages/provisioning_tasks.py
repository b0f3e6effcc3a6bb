"""Bulk registration: the tasks with their progress and reports, which update themselves, and stopping one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.console.page import action, links_of, page, url
from thingmint.console.pages.provisioning import readable, role_of, tabs_of
from thingmint.services.hostnames import endpoint_of
from thingmint.services.registration_tasks import TASKS, TaskStatus, list_tasks, stop_task
from thingmint.services.report_links import ReportFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.services.pages import Page
    from thingmint.services.registration_tasks import RegistrationTask
    from thingmint.services.report_links import ReportKind
    from thingmint.store.engine import Transaction

_ROWS = 25
_MAX_LINKS = 20
_STATUSES = {
    TaskStatus.IN_PROGRESS: ("warn", "Running"),
    TaskStatus.COMPLETED: ("ok", "Completed"),
    TaskStatus.FAILED: ("bad", "Failed"),
    TaskStatus.CANCELLING: ("warn", "Stopping"),
    TaskStatus.CANCELLED: ("mute", "Stopped"),
}
_REPORTS: Mapping[ReportKind, str] = {"ERRORS": "Lines that failed", "RESULTS": "Devices that were registered"}


@page("/provisioning/tasks", "ListThingRegistrationTasks")
async def tasks(call: Call) -> Answer:
    """It shows what DescribeThingRegistrationTask tells, so it needs that too."""
    for needed in ("iot:ListThingRegistrationTasks", "iot:DescribeThingRegistrationTask"):
        call.may(needed)
    status = call.query.choice("status", list(TaskStatus))
    cursor = call.cursor(_ROWS)

    async def body(tx: Transaction) -> Page[RegistrationTask]:
        return await list_tasks(tx, call.change, status or None, cursor)

    found = await call.read(body)
    path = "/provisioning/tasks"
    return call.render(
        "provisioning_tasks.html",
        tasks=found.items,
        statuses=_STATUSES,
        wanted=status,
        runs=any(task.status.runs for task in found.items),
        tabs=tabs_of(call, path),
        here=url(path, status=status, page=cursor.token),
        **links_of(path, cursor, found.next_token, status=status),
    )


@page("/provisioning/tasks/{id}", "DescribeThingRegistrationTask")
async def task(call: Call) -> Answer:
    call.may("iot:DescribeThingRegistrationTask")
    id = call.path["id"]
    found = await call.read(lambda tx: TASKS.get(tx, *call.scope, id))
    reports: Sequence[tuple[str, Sequence[str], int]] = ()
    if call.allows("iot:ListThingRegistrationTaskReports"):
        host = await call.read(lambda tx: endpoint_of(tx, call.change))
        reports = [(title, _links(call, host, found, kind), found.files(kind)) for kind, title in _REPORTS.items()]
    return call.render(
        "provisioning_task.html",
        task=found,
        statuses=_STATUSES,
        reports=reports,
        role=await role_of(call, found.role_arn),
        document=readable(found.template),
        may_stop=found.status is TaskStatus.IN_PROGRESS and call.allows("iot:StopThingRegistrationTask"),
        here=url(f"/provisioning/tasks/{found.id}"),
    )


@action("/provisioning/tasks/{id}/stop", "StopThingRegistrationTask")
async def stop(call: Call) -> Answer:
    call.may("iot:StopThingRegistrationTask")
    id = call.path["id"]
    await call.write(lambda tx: stop_task(tx, call.change, id), taskId=id)
    return call.done(f"/provisioning/tasks/{id}", "The task stops after the lines that it works on.")


def _links(call: Call, host: str, task: RegistrationTask, kind: ReportKind) -> list[str]:
    links, now = call.change.environment.report_links, call.change.now
    return [
        links.link(host, ReportFile(task.id, kind, number), now) for number in range(min(_MAX_LINKS, task.files(kind)))
    ]
