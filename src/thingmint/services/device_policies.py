"""Device policies: their documents, versions and attachments (the vocabulary is AWS IoT's)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from thingmint.domain.device_policies import (
    MAX_VERSIONS,
    DevicePolicy,
    PolicyVersion,
    Target,
)
from thingmint.domain.errors import AlreadyExists, Conflict, Disallowed, LimitExceeded, NotFound
from thingmint.services.certificates import utc_now
from thingmint.services.policy_writes import (
    attach_policy,
    attachment_changed,
    check_target,
    create_policy,
    existing_policy,
    new_policy,
    new_version,
)
from thingmint.services.tags import drop_tags, put_tags
from thingmint.store import device_policies as sql
from thingmint.store import policy_attachments as attachments
from thingmint.store.outbox import announce
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from thingmint.domain.device_policies import TargetKind
    from thingmint.domain.registration import Scope
    from thingmint.services.markers import Markers
    from thingmint.store.engine import Store, Transaction

__all__ = ["DevicePolicyRegistry", "Page"]

T = TypeVar("T")

_MAX_DIGITS = 18  # of a version's number that can exist: engines keep 64 bits


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: Sequence[T]
    next_marker: str | None


class DevicePolicyRegistry:
    """Every method is one transaction. Policies are named, versions numbered as the caller wrote it: ``"1"``."""

    def __init__(self, store: Store, markers: Markers, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._markers = markers
        self._clock = clock

    async def create(self, scope: Scope, name: str, document: str, *, tags: Mapping[str, str]) -> DevicePolicy:
        """Version 1 of a new policy. Raises MalformedPolicy and AlreadyExists."""
        policy, version = new_policy(scope, name, document, self._clock())

        async def body(tx: Transaction) -> None:
            if not await create_policy(tx, policy, version):
                reason = f"Policy cannot be created - name already exists (name={name})"
                raise AlreadyExists("policy", name, arn=policy.arn, reason=reason)
            await put_tags(tx, scope, f"policy/{name}", tags)

        await self._store.write(body)
        return policy

    async def get(self, scope: Scope, name: str) -> tuple[DevicePolicy, PolicyVersion]:
        """The policy and its default version."""

        async def body(tx: Transaction) -> tuple[DevicePolicy, PolicyVersion]:
            policy = await existing_policy(tx, scope, name)
            version = await sql.get_version(tx, scope, name, policy.default_version)
            assert version is not None, "the default version is never deleted"
            return policy, version

        return await self._store.read(body)

    async def list(self, scope: Scope, *, limit: int, ascending: bool, marker: str | None) -> Page[DevicePolicy]:
        """A page by age, newest first unless ``ascending``. Raises Invalid for a foreign marker, as all lists do."""
        listing = _listing("device policies", ascending)
        after = self._markers.open(listing, scope, marker) if marker is not None else None

        async def body(tx: Transaction) -> Sequence[DevicePolicy]:
            return await sql.list_policies(tx, scope, limit=limit + 1, ascending=ascending, after=after)

        found = await self._store.read(body)
        return self._page(listing, scope, found, limit, lambda policy: (to_micros(policy.created_at), policy.name))

    async def delete(self, scope: Scope, name: str) -> None:
        """Raises NotFound, and Conflict while it is attached or has further versions."""
        now = self._clock()

        async def body(tx: Transaction) -> None:
            policy = await existing_policy(tx, scope, name)
            if await attachments.is_attached(tx, scope, name):
                raise Conflict(
                    "policy",
                    name,
                    f"The policy cannot be deleted as the policy is attached to one or more principals (name={name})",
                )
            if len(await sql.list_versions(tx, scope, name)) > 1:
                raise Conflict(
                    "policy",
                    name,
                    f"Cannot delete the policy because it has one or more policy versions attached to it (name={name})",
                )
            await sql.delete_policy(tx, scope, name)
            await drop_tags(tx, scope, f"policy/{name}")
            await announce(tx, scope, "policy", name, now)
            tx.audit_resources.append(policy.arn)

        await self._store.write(body)

    async def create_version(
        self, scope: Scope, name: str, document: str, *, default: bool
    ) -> tuple[DevicePolicy, PolicyVersion]:
        """Raises MalformedPolicy, NotFound and LimitExceeded (of kind ``policy version``)."""
        draft = new_version(name, document, 0, self._clock())

        async def body(tx: Transaction) -> tuple[DevicePolicy, PolicyVersion]:
            policy = await existing_policy(tx, scope, name)
            if len(await sql.list_versions(tx, scope, name)) >= MAX_VERSIONS:
                raise LimitExceeded(
                    "policy version", name, f"A policy can have at most {MAX_VERSIONS} versions (name={name})"
                )
            version = replace(draft, number=policy.last_version + 1)
            changed = replace(
                policy,
                default_version=version.number if default else policy.default_version,
                last_version=version.number,
                modified_at=version.created_at,
            )
            await sql.insert_version(tx, scope, name, version)
            await self._update(tx, policy, changed)
            return changed, version

        return await self._store.write(body)

    async def get_version(self, scope: Scope, name: str, number: str) -> tuple[DevicePolicy, PolicyVersion]:
        async def body(tx: Transaction) -> tuple[DevicePolicy, PolicyVersion]:
            return await existing_policy(tx, scope, name), await _version(tx, scope, name, number)

        return await self._store.read(body)

    async def list_versions(self, scope: Scope, name: str) -> tuple[DevicePolicy, Sequence[PolicyVersion]]:
        """The newest first."""

        async def body(tx: Transaction) -> tuple[DevicePolicy, Sequence[PolicyVersion]]:
            return await existing_policy(tx, scope, name), await sql.list_versions(tx, scope, name)

        return await self._store.read(body)

    async def delete_version(self, scope: Scope, name: str, number: str) -> None:
        """Raises NotFound, and Conflict (of kind ``policy version``) for the default one."""
        now = self._clock()

        async def body(tx: Transaction) -> None:
            policy = await existing_policy(tx, scope, name)
            version = await _version(tx, scope, name, number)
            if version.number == policy.default_version:
                raise Disallowed("policy version", name, "Cannot delete the default version of a policy")
            await sql.delete_version(tx, scope, name, version.number)
            await self._update(tx, policy, replace(policy, modified_at=now))

        await self._store.write(body)

    async def set_default(self, scope: Scope, name: str, number: str) -> None:
        """Setting the one that is the default is no change. Raises NotFound."""
        now = self._clock()

        async def body(tx: Transaction) -> None:
            policy = await existing_policy(tx, scope, name)
            version = await _version(tx, scope, name, number)
            if version.number != policy.default_version:
                await self._update(tx, policy, replace(policy, default_version=version.number, modified_at=now))

        await self._store.write(body)

    async def attach(self, scope: Scope, name: str, target: Target) -> None:
        """Attaching what is attached is no change. Raises NotFound and LimitExceeded."""
        now = self._clock()

        async def body(tx: Transaction) -> None:
            await attach_policy(tx, scope, name, target, now)

        await self._store.write(body)

    async def detach(self, scope: Scope, name: str, target: Target, *, existing: bool = False) -> None:
        """Detaching what is not attached is no change; with ``existing``, both must exist, else it raises NotFound."""
        now = self._clock()

        async def body(tx: Transaction) -> None:
            if existing:
                await existing_policy(tx, scope, name)
                await check_target(tx, scope, target)
            if await attachments.delete_attachment(tx, scope, target, name):
                await attachment_changed(tx, scope, name, target, now)

        await self._store.write(body)

    async def list_attached(
        self, scope: Scope, target: Target, *, inherited: bool, limit: int, ascending: bool, marker: str | None
    ) -> Page[str]:
        """Names by the policies' age; ``inherited`` adds those of the groups above. Raises NotFound."""
        listing = _listing(f"policies of {target.kind}/{target.name}{' and above' if inherited else ''}", ascending)
        after = self._markers.open(listing, scope, marker) if marker is not None else None

        async def body(tx: Transaction) -> Sequence[attachments.AttachedPolicy]:
            await check_target(tx, scope, target)
            return await attachments.list_attached(
                tx, scope, target, inherited=inherited, limit=limit + 1, ascending=ascending, after=after
            )

        found = await self._store.read(body)
        page = self._page(listing, scope, found, limit, lambda attached: (attached.created_at, attached.policy))
        return Page([attached.policy for attached in page.items], page.next_marker)

    async def list_targets(
        self, scope: Scope, name: str, *, kind: TargetKind | None, limit: int, ascending: bool, marker: str | None
    ) -> Page[Target]:
        """What the policy is attached to, by when it was; of one kind, or of any. Raises NotFound."""
        listing = _listing(f"targets of {name} {kind or ''}", ascending)
        after = None
        if marker is not None:
            attached_at, word = self._markers.open(listing, scope, marker)
            found_kind, _, found_name = word.partition("/")
            after = attached_at, Target("cert" if found_kind == "cert" else "thinggroup", found_name)

        async def body(tx: Transaction) -> Sequence[attachments.AttachedTarget]:
            await existing_policy(tx, scope, name)
            return await attachments.list_targets(
                tx, scope, name, kind=kind, limit=limit + 1, ascending=ascending, after=after
            )

        found = await self._store.read(body)
        page = self._page(listing, scope, found, limit, lambda row: (row.attached_at, "/".join(row.target)))
        return Page([attached.target for attached in page.items], page.next_marker)

    async def _update(self, tx: Transaction, before: DevicePolicy, after: DevicePolicy) -> None:
        await sql.update_policy(tx, after)
        if after.default_version != before.default_version:
            await announce(tx, after.scope, "policy", after.name, after.modified_at)
        tx.audit_resources.append(after.arn)

    def _page(
        self, listing: str, scope: Scope, found: Sequence[T], limit: int, position: Callable[[T], tuple[int, str]]
    ) -> Page[T]:
        """``found`` is what the page holds, and one more if there is another page."""
        page = found[:limit]
        if len(found) == len(page):
            return Page(page, None)
        return Page(page, self._markers.seal(listing, scope, position(page[-1])))


def _listing(what: str, ascending: bool) -> str:
    return f"{what} {'ascending' if ascending else 'descending'}"


async def _version(tx: Transaction, scope: Scope, name: str, number: str) -> PolicyVersion:
    known = len(number) <= _MAX_DIGITS and not number.startswith("0")
    version = await sql.get_version(tx, scope, name, int(number)) if known else None
    if version is None:
        raise NotFound("policy version", f"{name}/{number}")
    return version
