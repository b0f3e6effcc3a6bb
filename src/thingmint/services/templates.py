"""Provisioning templates and their versions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from thingmint.domain.errors import AlreadyExists, Conflict, Invalid, LimitExceeded, NotFound
from thingmint.domain.provisioning import MAX_VERSIONS, ProvisioningTemplate, TemplateVersion
from thingmint.domain.template import Kind, parse_template
from thingmint.services.certificates import utc_now
from thingmint.services.tags import drop_tags, put_tags
from thingmint.store import templates as sql
from thingmint.store.claims import delete_claims
from thingmint.store.outbox import announce

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from thingmint.domain.provisioning import Hook
    from thingmint.domain.registration import Scope
    from thingmint.domain.template import Template
    from thingmint.services.markers import Markers
    from thingmint.store.engine import Store, Transaction

__all__ = ["NewTemplate", "TemplateChange", "TemplateRegistry"]

T = TypeVar("T")

_TEMPLATES = "provisioning templates"

# What devices are provisioned by is compiled once, not for every device.
_compiled = lru_cache(maxsize=256)(parse_template)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTemplate:
    name: str
    kind: Kind
    description: str | None
    body: str
    enabled: bool
    role_arn: str
    hook: Hook | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateChange:
    """None leaves a property as it is."""

    description: str | None = None
    enabled: bool | None = None
    default_version: int | None = None
    role_arn: str | None = None
    hook: Hook | None = None
    remove_hook: bool = False


class TemplateRegistry:
    """Every method is one transaction; all but ``create`` and ``list`` raise NotFound."""

    def __init__(self, store: Store, markers: Markers, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._markers = markers
        self._clock = clock

    async def create(self, scope: Scope, new: NewTemplate) -> ProvisioningTemplate:
        """Raises InvalidTemplate, Invalid and AlreadyExists."""
        _check_hook(new.kind, new.hook)
        parse_template(new.body, new.kind)
        now = self._clock()
        template = ProvisioningTemplate(
            scope=scope,
            name=new.name,
            kind=new.kind,
            description=new.description,
            enabled=new.enabled,
            role_arn=new.role_arn,
            hook=new.hook,
            default_version=1,
            last_version=1,
            created_at=now,
            modified_at=now,
        )

        async def body(tx: Transaction) -> ProvisioningTemplate:
            if not await sql.insert_template(tx, template):
                reason = f"Template with name {new.name} already exists"
                raise AlreadyExists("provisioning template", new.name, arn=template.arn, reason=reason)
            await sql.insert_version(tx, scope, new.name, TemplateVersion(1, new.body, now))
            await put_tags(tx, scope, f"provisioningtemplate/{new.name}", new.tags)
            tx.audit_resources.append(template.arn)
            return template

        return await self._store.write(body)

    async def describe(self, scope: Scope, name: str) -> tuple[ProvisioningTemplate, TemplateVersion]:
        """With the default version."""

        async def body(tx: Transaction) -> tuple[ProvisioningTemplate, TemplateVersion]:
            template = await _existing(tx, scope, name)
            return template, await _version(tx, template, template.default_version)

        return await self._store.read(body)

    async def compiled(self, scope: Scope, name: str) -> tuple[ProvisioningTemplate, Template]:
        """What devices are provisioned by. Whether it is enabled is for the caller to look at."""
        template, version = await self.describe(scope, name)
        return template, _compiled(version.body, template.kind)

    async def update(self, scope: Scope, name: str, change: TemplateChange) -> None:
        """Raises Invalid too, and NotFound for a version as well."""
        if change.hook is not None and change.remove_hook:
            raise Invalid("removePreProvisioningHook", "must not be given together with preProvisioningHook")
        now = self._clock()

        async def body(tx: Transaction) -> None:
            template = await _existing(tx, scope, name)
            _check_hook(template.kind, change.hook)
            if change.default_version is not None:
                await _version(tx, template, change.default_version)
            hook = None if change.remove_hook else _or(change.hook, template.hook)
            changed = replace(
                template,
                description=_or(change.description, template.description),
                enabled=_or(change.enabled, template.enabled),
                default_version=_or(change.default_version, template.default_version),
                role_arn=_or(change.role_arn, template.role_arn),
                hook=hook,
                modified_at=now,
            )
            await sql.update_template(tx, changed)
            tx.audit_resources.append(template.arn)

        await self._store.write(body)

    async def delete(self, scope: Scope, name: str) -> None:
        """With its versions, its tags and its claims. Raises Conflict while a CA provisions by it."""
        now = self._clock()

        async def body(tx: Transaction) -> None:
            template = await _existing(tx, scope, name)
            if await sql.is_used_by_a_ca(tx, scope, name):
                raise Conflict("provisioning template", name, f"Template {name} is used by a CA certificate")
            for fingerprint in await delete_claims(tx, scope, name):
                await announce(tx, scope, "certificate", fingerprint, now)
            await sql.delete_template(tx, scope, name)
            await drop_tags(tx, scope, f"provisioningtemplate/{name}")
            tx.audit_resources.append(template.arn)

        await self._store.write(body)

    async def create_version(
        self, scope: Scope, name: str, text: str, *, default: bool
    ) -> tuple[ProvisioningTemplate, TemplateVersion]:
        """The template as it is then, and its new version. Raises InvalidTemplate and LimitExceeded."""
        now = self._clock()

        async def body(tx: Transaction) -> tuple[ProvisioningTemplate, TemplateVersion]:
            template = await _existing(tx, scope, name)
            parse_template(text, template.kind)
            if await sql.count_versions(tx, scope, name) >= MAX_VERSIONS:
                raise LimitExceeded(
                    "provisioning template version", name, f"Template {name} has {MAX_VERSIONS} versions already"
                )
            version = TemplateVersion(template.last_version + 1, text, now)
            changed = replace(template, last_version=version.version)
            if default:
                changed = replace(changed, default_version=version.version, modified_at=now)
            await sql.insert_version(tx, scope, name, version)
            await sql.update_template(tx, changed)
            tx.audit_resources.append(template.arn)
            return changed, version

        return await self._store.write(body)

    async def describe_version(self, scope: Scope, name: str, id: int) -> tuple[ProvisioningTemplate, TemplateVersion]:
        async def body(tx: Transaction) -> tuple[ProvisioningTemplate, TemplateVersion]:
            template = await _existing(tx, scope, name)
            return template, await _version(tx, template, id)

        return await self._store.read(body)

    async def delete_version(self, scope: Scope, name: str, id: int) -> None:
        """Raises Invalid for the default version."""

        async def body(tx: Transaction) -> None:
            template = await _existing(tx, scope, name)
            if id == template.default_version:
                raise Invalid("versionId", "is that of the default version, which cannot be deleted")
            if not await sql.delete_version(tx, scope, name, id):
                raise NotFound("provisioning template version", f"{name}:{id}")
            tx.audit_resources.append(template.arn)

        await self._store.write(body)

    async def list_versions(
        self, scope: Scope, name: str, *, limit: int, token: str | None
    ) -> tuple[ProvisioningTemplate, list[TemplateVersion], str | None]:
        """A page, the newest first, and the next page's token. Raises Invalid for a foreign token."""
        listing = f"versions of provisioning template {name}"
        before = self._markers.open(listing, scope, token, "nextToken")[0] if token is not None else None

        async def body(tx: Transaction) -> tuple[ProvisioningTemplate, list[TemplateVersion]]:
            template = await _existing(tx, scope, name)
            return template, await sql.list_versions(tx, scope, name, limit=limit + 1, before=before)

        template, found = await self._store.read(body)
        page = found[:limit]
        more = len(found) > len(page)
        return template, page, self._markers.seal(listing, scope, (page[-1].version, "")) if more else None

    async def list(
        self, scope: Scope, *, limit: int, token: str | None
    ) -> tuple[list[ProvisioningTemplate], str | None]:
        """A page by name, and the next page's token. Raises Invalid for a foreign token."""
        after = self._markers.open(_TEMPLATES, scope, token, "nextToken")[1] if token is not None else ""

        async def body(tx: Transaction) -> list[ProvisioningTemplate]:
            return await sql.list_templates(tx, scope, limit=limit + 1, after=after)

        found = await self._store.read(body)
        page = found[:limit]
        more = len(found) > len(page)
        return page, self._markers.seal(_TEMPLATES, scope, (0, page[-1].name)) if more else None


def _or(given: T | None, current: T) -> T:
    return current if given is None else given


def _check_hook(kind: Kind, hook: Hook | None) -> None:
    if hook is not None and kind is not Kind.FLEET:
        raise Invalid("preProvisioningHook", f"is only for templates of the type {Kind.FLEET}")


async def _existing(tx: Transaction, scope: Scope, name: str) -> ProvisioningTemplate:
    template = await sql.get_template(tx, scope, name)
    if template is None:
        raise NotFound("provisioning template", name)
    return template


async def _version(tx: Transaction, template: ProvisioningTemplate, id: int) -> TemplateVersion:
    version = await sql.get_version(tx, template.scope, template.name, id)
    if version is None:
        raise NotFound("provisioning template version", f"{template.name}:{id}")
    return version
