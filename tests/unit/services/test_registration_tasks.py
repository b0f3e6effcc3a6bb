"""Tasks of bulk registration: which of them run."""

from __future__ import annotations

import uuid
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from thingmint.domain.arns import Scope
from thingmint.services.registration_tasks import RegistrationTask, TaskStatus, running_tasks, start_task

if TYPE_CHECKING:
    from tests.world import World


async def test_the_oldest_tasks_run_whatever_the_names_of_their_accounts(world: World) -> None:
    for number in range(34):  # the account with the highest name has the oldest task
        account, made = f"{900 - number:012}", world.clock() + timedelta(seconds=number)
        task = RegistrationTask(
            Scope(account, "us-east-1"),
            str(uuid.uuid4()),
            TaskStatus.IN_PROGRESS,
            template="{}",
            bucket="b",
            key="k",
            role_arn="r",
            created_at=made,
            modified_at=made,
            runs_for=account,
            message=None,
            size=1,
            file_version="1",
        )
        await world.store.write(partial(start_task, new=task))
    running = await world.store.read(running_tasks)
    assert [task.scope.account for task in running] == [f"{900 - number:012}" for number in range(32)]
