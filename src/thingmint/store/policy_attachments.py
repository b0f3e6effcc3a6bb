"""Which device policies are attached to which certificates and thing groups, in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from thingmint.domain.device_policies import Target
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.domain.device_policies import TargetKind
    from thingmint.domain.registration import Scope
    from thingmint.store.engine import Transaction

__all__ = [
    "ANCESTRY",
    "AttachedPolicy",
    "AttachedTarget",
    "count_attachments",
    "delete_attachment",
    "delete_attachments",
    "has_target",
    "insert_attachment",
    "is_attached",
    "list_attached",
    "list_targets",
]


class AttachedPolicy(NamedTuple):
    policy: str
    created_at: int  # microseconds since 1970


class AttachedTarget(NamedTuple):
    target: Target
    attached_at: int  # microseconds since 1970


async def has_target(tx: Transaction, scope: Scope, target: Target) -> bool:
    if target.kind == "cert":
        sql = "SELECT 1 FROM registrations WHERE account = $1 AND region = $2 AND fingerprint = $3"
    else:
        sql = "SELECT 1 FROM thing_groups WHERE account = $1 AND region = $2 AND name = $3"
    return await tx.fetch_one(sql, *scope, target.name) is not None


async def insert_attachment(tx: Transaction, scope: Scope, target: Target, policy: str, now: datetime) -> bool:
    """False if it is attached already."""
    inserted = await tx.execute(
        "INSERT INTO device_policy_attachments (account, region, kind, target, policy, attached_at) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        *scope,
        *target,
        policy,
        to_micros(now),
    )
    return inserted == 1


async def count_attachments(tx: Transaction, scope: Scope, target: Target) -> int:
    """Of the target's own policies."""
    row = await tx.fetch_one(
        "SELECT count(*) FROM device_policy_attachments "
        "WHERE account = $1 AND region = $2 AND kind = $3 AND target = $4",
        *scope,
        *target,
    )
    return int(row[0]) if row else 0


async def is_attached(tx: Transaction, scope: Scope, policy: str) -> bool:
    """To anything at all."""
    row = await tx.fetch_one(
        "SELECT 1 FROM device_policy_attachments WHERE account = $1 AND region = $2 AND policy = $3 LIMIT 1",
        *scope,
        policy,
    )
    return row is not None


async def delete_attachment(tx: Transaction, scope: Scope, target: Target, policy: str) -> bool:
    """False if it was not attached."""
    deleted = await tx.execute(
        "DELETE FROM device_policy_attachments "
        "WHERE account = $1 AND region = $2 AND kind = $3 AND target = $4 AND policy = $5",
        *scope,
        *target,
        policy,
    )
    return deleted == 1


async def delete_attachments(tx: Transaction, scope: Scope, target: Target) -> None:
    """Detaches all of the target's own policies."""
    await tx.execute(
        "DELETE FROM device_policy_attachments WHERE account = $1 AND region = $2 AND kind = $3 AND target = $4",
        *scope,
        *target,
    )


# The end of a CTE that begins with `lineage (name, parent) AS (SELECT … FROM thing_groups …`: the groups above those.
# UNION and not UNION ALL: groups have ancestors in common, and a circle, should there ever be one, ends. CROSS JOINs,
# here and below, tell SQLite where to begin: with what is few.
ANCESTRY = (
    "UNION SELECT g.name, g.parent FROM lineage "
    "JOIN thing_groups AS g ON g.account = $1 AND g.region = $2 AND g.name = lineage.parent) "
)

_GROUPS: dict[TargetKind, str] = {
    "cert": (
        "WITH RECURSIVE lineage (name, parent) AS ("
        "SELECT g.name, g.parent FROM thing_principals AS p "
        "CROSS JOIN thing_group_members AS m CROSS JOIN thing_groups AS g "
        "WHERE p.account = $1 AND p.region = $2 AND p.fingerprint = $4 "
        "AND m.account = $1 AND m.region = $2 AND m.thing = p.thing "
        "AND g.account = $1 AND g.region = $2 AND g.name = m.thing_group "
    ),
    "thinggroup": (
        "WITH RECURSIVE lineage (name, parent) AS ("
        "SELECT g.name, g.parent FROM thing_groups AS g WHERE g.account = $1 AND g.region = $2 AND g.name = $4 "
    ),
}
_ATTACHED = (
    "SELECT p.name, p.created_at FROM ("
    "SELECT policy FROM device_policy_attachments WHERE account = $1 AND region = $2 AND kind = $3 AND target = $4 "
)
_INHERITED = (
    "UNION SELECT a.policy FROM lineage CROSS JOIN device_policy_attachments AS a "
    "WHERE a.account = $1 AND a.region = $2 AND a.kind = 'thinggroup' AND a.target = lineage.name "
)
_CREATED = (
    ") AS attached CROSS JOIN device_policies AS p WHERE p.account = $1 AND p.region = $2 AND p.name = attached.policy "
)


async def list_attached(
    tx: Transaction,
    scope: Scope,
    target: Target,
    *,
    inherited: bool,
    limit: int,
    ascending: bool,
    after: tuple[int, str] | None,
) -> list[AttachedPolicy]:
    """Up to ``limit`` policies by their own age, beyond the (microseconds, name) that ``after`` names.

    ``inherited``: those of the groups above as well, which for a certificate are the groups of its things.
    """
    lineage, above = (f"{_GROUPS[target.kind]}{ANCESTRY}", _INHERITED) if inherited else ("", "")
    comparison, direction = (">", "ASC") if ascending else ("<", "DESC")
    beyond = f"AND (p.created_at, p.name) {comparison} ($6, $7) " if after else ""
    rows = await tx.fetch_all(
        f"{lineage}{_ATTACHED}{above}{_CREATED}{beyond}ORDER BY p.created_at {direction}, p.name {direction} LIMIT $5",
        *scope,
        *target,
        limit,
        *(after or ()),
    )
    return [AttachedPolicy(*row) for row in rows]


_TARGETS = (
    "SELECT kind, target, attached_at FROM device_policy_attachments "
    "WHERE account = $1 AND region = $2 AND policy = $3 "
)


async def list_targets(
    tx: Transaction,
    scope: Scope,
    policy: str,
    *,
    kind: TargetKind | None,
    limit: int,
    ascending: bool,
    after: tuple[int, Target] | None,
) -> list[AttachedTarget]:
    """Up to ``limit`` of those that the policy is attached to itself, by when it was; of one kind, or of any."""
    comparison, direction = (">", "ASC") if ascending else ("<", "DESC")
    of_kind = f"AND kind = '{kind}' " if kind else ""
    beyond = f"AND (attached_at, kind, target) {comparison} ($5, $6, $7) " if after else ""
    rows = await tx.fetch_all(
        f"{_TARGETS}{of_kind}{beyond}ORDER BY attached_at {direction}, kind {direction}, target {direction} LIMIT $4",
        *scope,
        policy,
        limit,
        *((after[0], *after[1]) if after else ()),
    )
    return [AttachedTarget(Target(kind, target), attached_at) for kind, target, attached_at in rows]
