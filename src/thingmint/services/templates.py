"""Provisioning templates and their versions."""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from thingmint.domain.arns import Scope, arn
from thingmint.domain.errors import AlreadyExists, Conflict, Invalid, LimitExceeded, NotFound
from thingmint.domain.templates import Kind, parse_template
from thingmint.services.hooks import Hook
from thingmint.services.pages import Page, page_of
from thingmint.services.tags import drop_tags, put_tags
from thingmint.store.outbox import publish_change
from thingmint.store.table import Table, record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.services.change import Change, Query
    from thingmint.services.page_tokens import Position
    from thingmint.services.pages import Cursor
    from thingmint.store.engine import Transaction

_MAX_VERSIONS = 5
_KIND, _VERSION = "provisioning template", "provisioning template version"

_OF_TEMPLATE = "WHERE account = $1 AND region = $2 AND template = $3"
_IS_USED = "SELECT 1 FROM ca_certificates WHERE account = $1 AND region = $2 AND template_name = $3 LIMIT 1"

compile_template = lru_cache(maxsize=256)(parse_template)
"""Caches parsed templates, so that a body is not parsed for every device."""


@record
class ProvisioningTemplate:
    scope: Scope
    name: str
    kind: Kind
    role_arn: str
    created_at: datetime
    modified_at: datetime
    description: str | None = None
    enabled: bool = False
    hook_arn: str | None = None
    hook_payload_version: str | None = None
    default_version: int = 1
    last_version: int = 1  # the highest number so far: numbers of deleted versions are not used again
    generation: str = ""  # a UUID: a new one if the template is deleted and created again; old templates have none

    @property
    def resource(self) -> str:
        return f"provisioningtemplate/{self.name}"

    @property
    def arn(self) -> str:
        return arn(self.scope, self.resource)

    @property
    def hook(self) -> Hook | None:
        return None if self.hook_arn is None else Hook(self.hook_arn, self.hook_payload_version or "")


@record
class TemplateVersion:
    scope: Scope
    template: str
    version: int
    body: str
    created_at: datetime


TEMPLATES = Table(ProvisioningTemplate, "provisioning_templates", _KIND, columns={"kind": "type"})
VERSIONS = Table(
    TemplateVersion,
    "provisioning_template_versions",
    _VERSION,
    key=("account", "region", "template", "version"),
)

_COLUMNS = [column for at, table in (("t", TEMPLATES), ("v", VERSIONS)) for column in table.reads(at)]
_WITH_DEFAULT = (
    f"SELECT {', '.join(_COLUMNS)} FROM provisioning_templates AS t JOIN provisioning_template_versions AS v "
    "ON v.account = t.account AND v.region = t.region AND v.template = t.name AND v.version = t.default_version "
    "WHERE t.account = $1 AND t.region = $2 AND t.name = $3"
)

_COUNT_VERSIONS = (
    "SELECT template, count(*) FROM provisioning_template_versions WHERE account = $1 AND region = $2 "
    "AND template >= $3 AND template <= $4 GROUP BY template"
)
_NAME = re.compile(r"[0-9A-Za-z_-]{1,36}", re.ASCII)


def check_name(name: str) -> None:
    """Raise Invalid unless a template can have the name."""
    if not _NAME.fullmatch(name):
        raise Invalid("templateName", "must be 1 to 36 letters, digits, underscores and hyphens")


def check_template(template: ProvisioningTemplate, body: str) -> None:
    """Raise Invalid or InvalidTemplate for an invalid template."""
    _check_hook(template)
    parse_template(body, template.kind)


async def create_template(
    tx: Transaction, new: ProvisioningTemplate, body: str, tags: Mapping[str, str]
) -> ProvisioningTemplate:
    """Create a template with ``body`` as its version 1. Raises AlreadyExists."""
    if not await TEMPLATES.insert(tx, new):
        reason = f"Template with name {new.name} already exists"
        raise AlreadyExists(_KIND, new.name, arn=new.arn, reason=reason)
    await VERSIONS.insert(tx, TemplateVersion(new.scope, new.name, 1, body, new.created_at))
    await put_tags(tx, new.scope, new.resource, tags)
    tx.audit_resources.append(new.arn)
    return new


async def get_template(
    tx: Transaction, scope: Scope, name: str, number: int | None = None
) -> tuple[ProvisioningTemplate, TemplateVersion]:
    """Return a template and the version with the number, without one its default version. Raises NotFound."""
    row = await tx.fetch_one(_WITH_DEFAULT, *scope, name)
    if row is None:
        raise NotFound(_KIND, name)
    own = len(TEMPLATES.reads("t"))
    template = TEMPLATES.load(row[:own])
    return template, VERSIONS.load(row[own:]) if number is None else await get_version(tx, template, number)


async def list_templates(tx: Transaction, query: Query, cursor: Cursor) -> Page[ProvisioningTemplate]:
    """Return a page of templates by name. Raises Invalid."""

    async def fetch(after: Position | None, limit: int) -> list[ProvisioningTemplate]:
        return await TEMPLATES.page(tx, *query.scope, after=after[1] if after else "", limit=limit)

    return await page_of(query, cursor, "provisioning templates", fetch, lambda row: (0, row.name))


async def update_template(tx: Transaction, change: Change, name: str, fields: Mapping[str, Any]) -> None:
    """Set fields of a template. Raises NotFound, also for an unknown default version, and Invalid."""
    changed = replace(await TEMPLATES.get(tx, *change.scope, name), modified_at=change.now, **fields)
    _check_hook(changed)
    await get_version(tx, changed, changed.default_version)
    await TEMPLATES.update(tx, changed)
    tx.audit_resources.append(changed.arn)


async def delete_template(tx: Transaction, change: Change, name: str) -> None:
    """Delete a template, its versions and tags. Its claims become invalid.

    Raises NotFound, and Conflict while a CA certificate uses the template.
    """
    key = (*change.scope, name)
    template = await TEMPLATES.get(tx, *key)
    if await tx.fetch_one(_IS_USED, *key):
        raise Conflict(_KIND, name, f"Template {name} is used by a CA certificate")
    await tx.execute(f"DELETE FROM provisioning_template_versions {_OF_TEMPLATE}", *key)
    await TEMPLATES.delete(tx, *key)
    await drop_tags(tx, change.scope, template.resource)
    await publish_change(tx, change.scope, "template", name, change.now)
    tx.audit_resources.append(template.arn)


async def create_version(
    tx: Transaction, change: Change, template: ProvisioningTemplate, body: str, *, default: bool
) -> ProvisioningTemplate:
    """Create a version. Returns the changed template, whose last version it is. Raises LimitExceeded."""
    if len(await all_versions(tx, template.scope, template.name)) >= _MAX_VERSIONS:
        reason = f"Template {template.name} has {_MAX_VERSIONS} versions already"
        raise LimitExceeded(_VERSION, template.name, reason)
    number = template.last_version + 1
    changed = replace(template, last_version=number)
    if default:
        changed = replace(changed, default_version=number, modified_at=change.now)
    await VERSIONS.insert(tx, TemplateVersion(template.scope, template.name, number, body, change.now))
    await TEMPLATES.update(tx, changed)
    tx.audit_resources.append(template.arn)
    return changed


async def get_version(tx: Transaction, template: ProvisioningTemplate, number: int) -> TemplateVersion:
    """Return a version of the template. Raises NotFound."""
    version = await VERSIONS.find(tx, *template.scope, template.name, number)
    if version is None:
        raise NotFound(_VERSION, f"{template.name}:{number}")
    return version


async def list_versions(
    tx: Transaction, query: Query, name: str, cursor: Cursor
) -> tuple[ProvisioningTemplate, Page[TemplateVersion]]:
    """Return a template and a page of its versions, the newest first. Raises NotFound and Invalid."""

    async def fetch(before: Position | None, limit: int) -> list[TemplateVersion]:
        versions = await all_versions(tx, query.scope, name)
        return [version for version in versions if before is None or version.version < before[0]][:limit]

    listing = f"versions of provisioning template {name}"
    page = await page_of(query, cursor, listing, fetch, lambda version: (version.version, ""))
    return await TEMPLATES.get(tx, *query.scope, name), page


async def count_versions(tx: Transaction, scope: Scope, first: str, last: str) -> dict[str, int]:
    """Return the number of versions of each template from one name to another, in the order of names."""
    return dict(await tx.fetch_all(_COUNT_VERSIONS, *scope, first, last))


async def delete_version(tx: Transaction, change: Change, name: str, number: int) -> None:
    """Delete a version. Raises NotFound, and Invalid for the default version."""
    template = await TEMPLATES.get(tx, *change.scope, name)
    if number == template.default_version:
        raise Invalid("versionId", "is that of the default version, which cannot be deleted")
    await get_version(tx, template, number)
    await VERSIONS.delete(tx, *change.scope, name, number)
    tx.audit_resources.append(template.arn)


def _check_hook(template: ProvisioningTemplate) -> None:
    if template.hook_arn is not None and template.kind is not Kind.FLEET:
        raise Invalid("preProvisioningHook", f"is only for templates of the type {Kind.FLEET}")


async def all_versions(tx: Transaction, scope: Scope, name: str) -> list[TemplateVersion]:
    """Return all versions of a template, which are few, the newest first."""
    rows = await tx.fetch_all(f"{VERSIONS.select}{_OF_TEMPLATE} ORDER BY version DESC", *scope, name)
    return VERSIONS.load_all(rows)
