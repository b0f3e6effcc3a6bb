"""What changes device policies within somebody's transaction."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from thingmint.domain.device_policies import MAX_ATTACHED, MAX_SIZE, DevicePolicy, PolicyVersion, policy_arn
from thingmint.domain.errors import LimitExceeded, NotFound
from thingmint.domain.policy import Kind, compile_policy
from thingmint.store import device_policies as sql
from thingmint.store import policy_attachments as attachments
from thingmint.store.outbox import announce

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.domain.device_policies import Target
    from thingmint.domain.registration import Scope
    from thingmint.store.engine import Transaction

__all__ = [
    "attach_policy",
    "attachment_changed",
    "check_target",
    "create_policy",
    "existing_policy",
    "new_policy",
    "new_version",
]


def new_policy(scope: Scope, name: str, document: str, now: datetime) -> tuple[DevicePolicy, PolicyVersion]:
    """A policy that create_policy can make, and its version 1. Raises MalformedPolicy."""
    version = new_version(name, document, 1, now)
    return DevicePolicy(scope, name, 1, 1, str(uuid.uuid4()), now, now), version


async def create_policy(tx: Transaction, policy: DevicePolicy, version: PolicyVersion) -> bool:
    """False if there is one of that name."""
    if not await sql.insert_policy(tx, policy):
        return False
    await sql.insert_version(tx, policy.scope, policy.name, version)
    tx.audit_resources.append(policy.arn)
    return True


async def attach_policy(tx: Transaction, scope: Scope, name: str, target: Target, now: datetime) -> None:
    """Attaching what is attached is no change. Raises NotFound and LimitExceeded."""
    await existing_policy(tx, scope, name)
    await check_target(tx, scope, target)
    if not await attachments.insert_attachment(tx, scope, target, name, now):
        return
    if await attachments.count_attachments(tx, scope, target) > MAX_ATTACHED:
        raise LimitExceeded(target.noun, target.name, f"A {target.noun} can have at most {MAX_ATTACHED} policies")
    await attachment_changed(tx, scope, name, target, now)


def new_version(name: str, document: str, number: int, now: datetime) -> PolicyVersion:
    compile_policy(document, kind=Kind.DEVICE, name=name, max_size=MAX_SIZE)
    return PolicyVersion(number, document, str(uuid.uuid4()), now)


async def existing_policy(tx: Transaction, scope: Scope, name: str) -> DevicePolicy:
    policy = await sql.get_policy(tx, scope, name)
    if policy is None:
        raise NotFound("policy", name)
    return policy


async def check_target(tx: Transaction, scope: Scope, target: Target) -> None:
    if not await attachments.has_target(tx, scope, target):
        raise NotFound(target.noun, target.name)


async def attachment_changed(tx: Transaction, scope: Scope, name: str, target: Target, now: datetime) -> None:
    await announce(tx, scope, "certificate" if target.kind == "cert" else "thinggroup", target.name, now)
    tx.audit_resources += [policy_arn(scope, name), target.arn(scope)]
