"""Provisioning templates, and their versions, in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.provisioning import Hook, ProvisioningTemplate, TemplateVersion
from thingmint.domain.registration import Scope
from thingmint.domain.template import Kind
from thingmint.store.times import from_micros, to_micros

if TYPE_CHECKING:
    from thingmint.store.engine import Row, Transaction

__all__ = [
    "count_versions",
    "delete_template",
    "delete_version",
    "get_template",
    "get_version",
    "insert_template",
    "insert_version",
    "is_used_by_a_ca",
    "list_templates",
    "list_versions",
    "update_template",
]

_TEMPLATE = (
    "SELECT account, region, name, type, description, enabled, role_arn, hook_arn, hook_payload_version, "
    "default_version, last_version, created_at, modified_at FROM provisioning_templates "
)
_VERSION = "SELECT version, body, created_at FROM provisioning_template_versions "


async def insert_template(tx: Transaction, template: ProvisioningTemplate) -> bool:
    """False if there is one of that name."""
    hook = template.hook
    inserted = await tx.execute(
        "INSERT INTO provisioning_templates (account, region, name, type, description, enabled, role_arn, hook_arn, "
        "hook_payload_version, default_version, last_version, created_at, modified_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) "
        "ON CONFLICT (account, region, name) DO NOTHING",
        *template.scope,
        template.name,
        template.kind,
        template.description,
        int(template.enabled),
        template.role_arn,
        hook.target_arn if hook else None,
        hook.payload_version if hook else None,
        template.default_version,
        template.last_version,
        to_micros(template.created_at),
        to_micros(template.modified_at),
    )
    return inserted == 1


async def get_template(tx: Transaction, scope: Scope, name: str) -> ProvisioningTemplate | None:
    row = await tx.fetch_one(_TEMPLATE + "WHERE account = $1 AND region = $2 AND name = $3", *scope, name)
    return _template(row) if row else None


async def list_templates(tx: Transaction, scope: Scope, *, limit: int, after: str) -> list[ProvisioningTemplate]:
    """Up to ``limit`` of them by name, beyond ``after``."""
    rows = await tx.fetch_all(
        _TEMPLATE + "WHERE account = $1 AND region = $2 AND name > $3 ORDER BY name LIMIT $4", *scope, after, limit
    )
    return [_template(row) for row in rows]


async def update_template(tx: Transaction, template: ProvisioningTemplate) -> None:
    hook = template.hook
    await tx.execute(
        "UPDATE provisioning_templates SET description = $4, enabled = $5, role_arn = $6, hook_arn = $7, "
        "hook_payload_version = $8, default_version = $9, last_version = $10, modified_at = $11 "
        "WHERE account = $1 AND region = $2 AND name = $3",
        *template.scope,
        template.name,
        template.description,
        int(template.enabled),
        template.role_arn,
        hook.target_arn if hook else None,
        hook.payload_version if hook else None,
        template.default_version,
        template.last_version,
        to_micros(template.modified_at),
    )


async def delete_template(tx: Transaction, scope: Scope, name: str) -> None:
    """With its versions. Its claims have to go first."""
    for table, column in (("provisioning_template_versions", "template"), ("provisioning_templates", "name")):
        await tx.execute(f"DELETE FROM {table} WHERE account = $1 AND region = $2 AND {column} = $3", *scope, name)  # noqa: S608


async def is_used_by_a_ca(tx: Transaction, scope: Scope, name: str) -> bool:
    row = await tx.fetch_one(
        "SELECT 1 FROM ca_certificates WHERE account = $1 AND region = $2 AND template_name = $3 LIMIT 1", *scope, name
    )
    return row is not None


async def insert_version(tx: Transaction, scope: Scope, name: str, version: TemplateVersion) -> None:
    await tx.execute(
        "INSERT INTO provisioning_template_versions (account, region, template, version, body, created_at) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        *scope,
        name,
        version.version,
        version.body,
        to_micros(version.created_at),
    )


async def get_version(tx: Transaction, scope: Scope, name: str, version: int) -> TemplateVersion | None:
    row = await tx.fetch_one(
        _VERSION + "WHERE account = $1 AND region = $2 AND template = $3 AND version = $4", *scope, name, version
    )
    return _version(row) if row else None


async def count_versions(tx: Transaction, scope: Scope, name: str) -> int:
    row = await tx.fetch_one(
        "SELECT count(*) FROM provisioning_template_versions WHERE account = $1 AND region = $2 AND template = $3",
        *scope,
        name,
    )
    return int(row[0]) if row else 0


async def list_versions(
    tx: Transaction, scope: Scope, name: str, *, limit: int, before: int | None
) -> list[TemplateVersion]:
    """Up to ``limit`` of them, the newest first, older than ``before``."""
    beyond = "AND version < $5 " if before is not None else ""
    rows = await tx.fetch_all(
        f"{_VERSION}WHERE account = $1 AND region = $2 AND template = $3 {beyond}ORDER BY version DESC LIMIT $4",
        *scope,
        name,
        limit,
        *([] if before is None else [before]),
    )
    return [_version(row) for row in rows]


async def delete_version(tx: Transaction, scope: Scope, name: str, version: int) -> bool:
    """False if there was none."""
    deleted = await tx.execute(
        "DELETE FROM provisioning_template_versions "
        "WHERE account = $1 AND region = $2 AND template = $3 AND version = $4",
        *scope,
        name,
        version,
    )
    return deleted == 1


def _template(row: Row) -> ProvisioningTemplate:
    account, region, name, kind, description, enabled, role_arn, hook_arn, payload_version, *rest = row
    default_version, last_version, created_at, modified_at = rest
    return ProvisioningTemplate(
        scope=Scope(account, region),
        name=name,
        kind=Kind(kind),
        description=description,
        enabled=bool(enabled),
        role_arn=role_arn,
        hook=Hook(hook_arn, payload_version) if hook_arn is not None else None,
        default_version=default_version,
        last_version=last_version,
        created_at=from_micros(created_at),
        modified_at=from_micros(modified_at),
    )


def _version(row: Row) -> TemplateVersion:
    return TemplateVersion(row[0], row[1], from_micros(row[2]))
