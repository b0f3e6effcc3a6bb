"""Bulk registration in a server: its parts and its metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.access.administration.accounts import list_accounts
from thingmint.access.authorization import Roles
from thingmint.aws.bulk_registration import BULK_LEASE, BulkRegistration
from thingmint.aws.contract import load_contract
from thingmint.domain.errors import NotFound
from thingmint.services.certificates import utc_now
from thingmint.services.registration_tasks import RegistrationTask, find_task, newest_tasks
from thingmint.settings.bulk import bulk_in_force

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from thingmint.server.core import Core
    from thingmint.store.engine import Store, Transaction

_MAX_LISTED = 1000


def bulk_commands(store: Store) -> dict[str, Callable[..., Awaitable[Any]]]:
    """The local commands that show tasks. They take and return JSON, and raise DomainErrors."""

    async def all_of(account: str = "") -> list[dict[str, Any]]:
        async def body(tx: Transaction) -> list[RegistrationTask]:
            accounts = [each.id for each in await list_accounts(tx)]
            if account and account not in accounts:
                raise NotFound("account", account)
            return await newest_tasks(tx, account or accounts[0], _MAX_LISTED)

        return [_shown(task) for task in await store.read(body)]

    async def one(id: str) -> dict[str, Any]:
        task = await store.read(lambda tx: find_task(tx, id))
        if task is None:
            raise NotFound("thing registration task", id)
        return _shown(task)

    return {"bulk.list": all_of, "bulk.show": one}


def _shown(task: RegistrationTask) -> dict[str, Any]:
    return {
        "id": task.id,
        "account": task.scope.account,
        "region": task.scope.region,
        "status": task.status.value,
        "percentage": task.percentage,
        "succeeded": task.succeeded,
        "failed": task.failed,
        "bucket": task.bucket,
        "key": task.key,
        "role": task.role_arn,
        "message": task.message,
        "report_bytes": task.report_bytes,
        "created_at": task.created_at.isoformat(timespec="seconds"),
        "modified_at": task.modified_at.isoformat(timespec="seconds"),
    }


def bulk_registration(core: Core, api_port: int) -> BulkRegistration:
    environment, metrics = core.environment, core.reports.metrics
    environment.report_links.port = api_port
    bulk = BulkRegistration(
        core.storage.leased(BULK_LEASE),
        environment,
        Roles(core.access.directory),
        load_contract().error_status,
        utc_now,
        bulk_in_force(core.settings.bulk).report_bytes,
    )
    metrics.gauge(
        "bulk_registration_tasks",
        "Tasks of bulk registration that are not finished; 0 in processes that do not run them.",
        lambda: bulk.running,
    )
    metrics.count("bulk_lines_succeeded", "Lines whose devices were registered.", lambda: bulk.succeeded)
    metrics.count("bulk_lines_failed", "Lines that had no effect because of an error.", lambda: bulk.failed)
    return bulk
