"""Device policies and their versions in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.device_policies import DevicePolicy, PolicyVersion
from thingmint.domain.registration import Scope
from thingmint.store.times import from_micros, to_micros

if TYPE_CHECKING:
    from thingmint.store.engine import Row, Transaction

__all__ = [
    "delete_policy",
    "delete_version",
    "get_policy",
    "get_version",
    "insert_policy",
    "insert_version",
    "list_policies",
    "list_versions",
    "update_policy",
]

_POLICY = (
    "SELECT account, region, name, default_version, last_version, generation, created_at, modified_at "
    "FROM device_policies "
)


async def insert_policy(tx: Transaction, policy: DevicePolicy) -> bool:
    """False if that scope has one of the name. It still needs its default version."""
    inserted = await tx.execute(
        "INSERT INTO device_policies "
        "(account, region, name, default_version, last_version, generation, created_at, modified_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (account, region, name) DO NOTHING",
        *policy.scope,
        policy.name,
        policy.default_version,
        policy.last_version,
        policy.generation,
        to_micros(policy.created_at),
        to_micros(policy.modified_at),
    )
    return inserted == 1


async def get_policy(tx: Transaction, scope: Scope, name: str) -> DevicePolicy | None:
    row = await tx.fetch_one(_POLICY + "WHERE account = $1 AND region = $2 AND name = $3", *scope, name)
    return _policy(row) if row else None


async def list_policies(
    tx: Transaction, scope: Scope, *, limit: int, ascending: bool, after: tuple[int, str] | None
) -> list[DevicePolicy]:
    """Up to ``limit`` of them by age, beyond the (microseconds, name) that ``after`` names."""
    comparison, direction = (">", "ASC") if ascending else ("<", "DESC")
    beyond = f"AND (created_at, name) {comparison} ($4, $5) " if after else ""
    rows = await tx.fetch_all(
        f"{_POLICY}WHERE account = $1 AND region = $2 {beyond}"
        f"ORDER BY created_at {direction}, name {direction} LIMIT $3",
        *scope,
        limit,
        *(after or ()),
    )
    return [_policy(row) for row in rows]


async def update_policy(tx: Transaction, policy: DevicePolicy) -> None:
    await tx.execute(
        "UPDATE device_policies SET default_version = $4, last_version = $5, modified_at = $6 "
        "WHERE account = $1 AND region = $2 AND name = $3",
        *policy.scope,
        policy.name,
        policy.default_version,
        policy.last_version,
        to_micros(policy.modified_at),
    )


async def delete_policy(tx: Transaction, scope: Scope, name: str) -> None:
    """With its versions and tags. It must not be attached."""
    await tx.execute(
        "DELETE FROM device_policy_versions WHERE account = $1 AND region = $2 AND policy = $3", *scope, name
    )
    await tx.execute("DELETE FROM device_policies WHERE account = $1 AND region = $2 AND name = $3", *scope, name)


async def insert_version(tx: Transaction, scope: Scope, policy: str, version: PolicyVersion) -> None:
    await tx.execute(
        "INSERT INTO device_policy_versions (account, region, policy, version, document, generation, created_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7)",
        *scope,
        policy,
        version.number,
        version.document,
        version.generation,
        to_micros(version.created_at),
    )


_VERSION = (
    "SELECT version, document, generation, created_at FROM device_policy_versions "
    "WHERE account = $1 AND region = $2 AND policy = $3 "
)


async def get_version(tx: Transaction, scope: Scope, policy: str, number: int) -> PolicyVersion | None:
    row = await tx.fetch_one(_VERSION + "AND version = $4", *scope, policy, number)
    return _version(row) if row else None


async def list_versions(tx: Transaction, scope: Scope, policy: str) -> list[PolicyVersion]:
    """The newest first."""
    return [_version(row) for row in await tx.fetch_all(_VERSION + "ORDER BY version DESC", *scope, policy)]


async def delete_version(tx: Transaction, scope: Scope, policy: str, number: int) -> None:
    await tx.execute(
        "DELETE FROM device_policy_versions WHERE account = $1 AND region = $2 AND policy = $3 AND version = $4",
        *scope,
        policy,
        number,
    )


def _policy(row: Row) -> DevicePolicy:
    account, region, name, default_version, last_version, generation, created_at, modified_at = row
    return DevicePolicy(
        scope=Scope(account, region),
        name=name,
        default_version=default_version,
        last_version=last_version,
        generation=generation,
        created_at=from_micros(created_at),
        modified_at=from_micros(modified_at),
    )


def _version(row: Row) -> PolicyVersion:
    number, document, generation, created_at = row
    return PolicyVersion(number, document, generation, from_micros(created_at))
