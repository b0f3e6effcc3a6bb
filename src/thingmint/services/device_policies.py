"""Device policies: documents in numbered versions, and the certificates and thing groups they are attached to."""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

import structlog

from thingmint.domain.arns import Scope, arn
from thingmint.domain.certificates import parse_fingerprint
from thingmint.domain.errors import AlreadyExists, Conflict, Disallowed, Invalid, LimitExceeded, NotFound
from thingmint.domain.policies import Kind, compile_policy
from thingmint.domain.policies.device_keys import unknown_keys
from thingmint.services.certificates import get_changeable
from thingmint.services.pages import Page, page_of, page_of_kept
from thingmint.services.tags import drop_tags, put_tags
from thingmint.store.outbox import publish_change
from thingmint.store.queries import load_queries
from thingmint.store.table import Table, fetch_in_order, fingerprint_bytes, fingerprint_of, id_of, record, to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from thingmint.services.change import Change, Query
    from thingmint.services.page_tokens import Position
    from thingmint.services.pages import Cursor
    from thingmint.store.engine import Row, Transaction, Value

# AWS's quotas.
MAX_SIZE = 2048  # characters of a document, white space not counted
_MAX_VERSIONS = 5

MAX_ATTACHED = 10
"""Policies that are attached to one target."""

_MAX_SHOWN = 10  # of the keys in a warning

_MAX_DIGITS = 18  # of a version's number, which the engines store in 64 bits

_log = structlog.get_logger("thingmint.policies")

_QUERIES = load_queries("device_policies")
_LIST = "SELECT created_at, name FROM device_policies WHERE account = $1 AND region = $2"
_DELETE_VERSIONS = "DELETE FROM device_policy_versions WHERE account = $1 AND region = $2 AND policy = $3"
_ATTACH = (
    "INSERT INTO device_policy_attachments (account, region, certificate, thing_group, policy, attached_at) "
    f"VALUES ($1, $2, coalesce({id_of('$3')}, 0), $4, $5, $6) "
    "ON CONFLICT (account, region, certificate, thing_group, policy) DO NOTHING"
)
_OF_TARGET = (
    "FROM device_policy_attachments "
    f"WHERE account = $1 AND region = $2 AND certificate = coalesce({id_of('$3')}, 0) AND thing_group = $4"
)
_OF_POLICY = "FROM device_policy_attachments WHERE account = $1 AND region = $2 AND policy = $3"

TargetKind = Literal["cert", "thinggroup"]  # as ARNs have them

_TARGET = re.compile(r"arn:aws:iot:([^:/]*):([^:/]*):(?:(cert)/([^/]*)|(thinggroup)/([a-zA-Z0-9:_-]{1,128}))")
_NOUNS: dict[TargetKind, str] = {"cert": "certificate", "thinggroup": "thing group"}
_EXISTS: dict[TargetKind, str] = {
    "cert": f"SELECT 1 FROM registrations WHERE account = $1 AND region = $2 AND certificate = {id_of('$3')}",
    "thinggroup": "SELECT 1 FROM thing_groups WHERE account = $1 AND region = $2 AND name = $3",
}


@record
class DevicePolicy:
    scope: Scope
    name: str
    default_version: int
    last_version: int  # the highest number that a version has had: numbers are not used again
    generation: str  # a UUID: a new one if the policy is deleted and created again
    created_at: datetime
    modified_at: datetime

    @property
    def resource(self) -> str:
        return f"policy/{self.name}"

    @property
    def arn(self) -> str:
        return arn(self.scope, self.resource)


@record
class PolicyVersion:
    scope: Scope
    policy: str
    number: int
    document: str  # the caller's exact text
    generation: str
    created_at: datetime


DEVICE_POLICIES = Table(DevicePolicy, "device_policies", "policy")
VERSIONS = Table(
    PolicyVersion,
    "device_policy_versions",
    "policy version",
    key=("account", "region", "policy", "version"),
    columns={"number": "version"},
)
_LIST_VERSIONS = VERSIONS.select + "WHERE account = $1 AND region = $2 AND policy = $3 ORDER BY version DESC"


class Target(NamedTuple):
    """What a policy is attached to: a certificate by its fingerprint, or a thing group by its name."""

    kind: TargetKind
    name: str

    @property
    def noun(self) -> str:
        return _NOUNS[self.kind]

    def arn(self, scope: Scope) -> str:
        return arn(scope, f"{self.kind}/{self.name}")

    @property
    def key(self) -> tuple[bytes, str]:
        """The certificate's fingerprint and the group's name; one of them is empty."""
        return (fingerprint_bytes(self.name), "") if self.kind == "cert" else (b"", self.name)


def parse_target(arn: str, scope: Scope, field: str, *kinds: TargetKind) -> Target:
    """Return the target, of one of the ``kinds``. It need not exist.

    Raises Invalid. Raises NotFound for a target outside ``scope``, as for one that does not exist.
    """
    match = _TARGET.fullmatch(arn)
    kind: TargetKind = "cert" if match and match[3] else "thinggroup"
    if match is None or kind not in kinds:
        raise Invalid(field, f"must be the ARN of a {' or a '.join(_NOUNS[kind] for kind in kinds)}")
    target = Target(kind, parse_fingerprint(match[4], field) if kind == "cert" else match[6])
    if (match[2], match[1]) != scope:
        raise NotFound(target.noun, target.name)
    return target


def check_document(scope: Scope, name: str, document: str) -> None:
    """Raise MalformedPolicy for an invalid document. Log a warning for keys without a value, which AWS accepts too."""
    policy = compile_policy(document, kind=Kind.DEVICE, name=name, max_size=MAX_SIZE)
    if keys := unknown_keys(policy):
        advice = "no request has such a key, and a pattern with such a variable never matches"
        shown = ", ".join(keys[:_MAX_SHOWN])
        _log.warning("policy_uses_unknown_keys", **scope._asdict(), policy=name, keys=shown, advice=advice)


def new_policy(
    scope: Scope, name: str, document: str, now: datetime, new_id: Callable[[], str]
) -> tuple[DevicePolicy, PolicyVersion]:
    policy = DevicePolicy(scope, name, 1, 1, new_id(), now, now)
    return policy, PolicyVersion(scope, name, 1, document, new_id(), now)


async def insert_policy(tx: Transaction, policy: DevicePolicy, version: PolicyVersion) -> bool:
    """Insert a policy. False if the name is taken."""
    if not await DEVICE_POLICIES.insert(tx, policy):
        return False
    await VERSIONS.insert(tx, version)
    tx.audit_resources.append(policy.arn)
    return True


async def create_policy(
    tx: Transaction, change: Change, name: str, document: str, tags: Mapping[str, str]
) -> DevicePolicy:
    """Create a policy with ``document`` as version 1. Raises AlreadyExists."""
    policy, version = new_policy(change.scope, name, document, change.now, change.new_id)
    if not await insert_policy(tx, policy, version):
        reason = f"Policy cannot be created - name already exists (name={name})"
        raise AlreadyExists("policy", name, arn=policy.arn, reason=reason)
    await put_tags(tx, change.scope, policy.resource, tags)
    return policy


async def list_policies(tx: Transaction, query: Query, cursor: Cursor, *, ascending: bool) -> Page[str]:
    """Return a page of names by age, newest first unless ``ascending``. Raises Invalid for a token of another list."""
    rows = await _page(tx, query, cursor, "device policies", _LIST, query.scope, ("created_at", "name"), ascending)
    return Page([name for _, name in rows.items], rows.next_token)


async def delete_policy(tx: Transaction, change: Change, name: str) -> None:
    """Delete a policy. Raises NotFound, and Conflict while the policy is attached or has further versions."""
    policy = await DEVICE_POLICIES.get(tx, *change.scope, name)
    if await tx.fetch_one(f"SELECT 1 {_OF_POLICY} LIMIT 1", *change.scope, name):
        reason = "The policy cannot be deleted as the policy is attached to one or more principals"
        raise Conflict("policy", name, f"{reason} (name={name})")
    if len(await list_versions(tx, policy)) > 1:
        reason = "Cannot delete the policy because it has one or more policy versions attached to it"
        raise Conflict("policy", name, f"{reason} (name={name})")
    await tx.execute(_DELETE_VERSIONS, *change.scope, name)
    await DEVICE_POLICIES.delete(tx, *change.scope, name)
    await drop_tags(tx, change.scope, policy.resource)
    await publish_change(tx, change.scope, "policy", name, change.now)
    tx.audit_resources.append(policy.arn)


async def create_version(
    tx: Transaction, change: Change, name: str, document: str, *, default: bool
) -> tuple[DevicePolicy, PolicyVersion]:
    """Create a version of a policy. Raises NotFound and LimitExceeded."""
    policy = await DEVICE_POLICIES.get(tx, *change.scope, name)
    if len(await list_versions(tx, policy)) >= _MAX_VERSIONS:
        raise LimitExceeded("policy version", name, f"A policy can have at most {_MAX_VERSIONS} versions (name={name})")
    number = policy.last_version + 1
    version = PolicyVersion(change.scope, name, number, document, change.new_id(), change.now)
    default_version = number if default else policy.default_version
    changed = replace(policy, default_version=default_version, last_version=number, modified_at=change.now)
    await VERSIONS.insert(tx, version)
    await _update(tx, policy, changed)
    return changed, version


async def get_version(tx: Transaction, query: Query, name: str, number: str) -> tuple[DevicePolicy, PolicyVersion]:
    """Return a version of a policy. ``number`` is the caller's text. Raises NotFound."""
    policy = await DEVICE_POLICIES.get(tx, *query.scope, name)
    known = number.isascii() and number.isdigit() and len(number) <= _MAX_DIGITS and not number.startswith("0")
    version = await VERSIONS.find(tx, *query.scope, name, int(number)) if known else None
    if version is None:
        raise NotFound("policy version", f"{name}/{number}")
    return policy, version


async def list_versions(tx: Transaction, policy: DevicePolicy) -> list[PolicyVersion]:
    """Return all versions, the newest first."""
    return VERSIONS.load_all(await tx.fetch_all(_LIST_VERSIONS, *policy.scope, policy.name))


async def delete_version(tx: Transaction, change: Change, name: str, number: str) -> None:
    """Delete a version. Raises NotFound, and Disallowed for the default version."""
    policy, version = await get_version(tx, change, name, number)
    if version.number == policy.default_version:
        raise Disallowed("policy version", name, "Cannot delete the default version of a policy")
    await VERSIONS.delete(tx, *change.scope, name, version.number)
    await _update(tx, policy, replace(policy, modified_at=change.now))


async def set_default_version(tx: Transaction, change: Change, name: str, number: str) -> None:
    """Set the default version. Nothing changes if it is the default already. Raises NotFound."""
    policy, version = await get_version(tx, change, name, number)
    if version.number != policy.default_version:
        await _update(tx, policy, replace(policy, default_version=version.number, modified_at=change.now))


async def attach_policy(tx: Transaction, scope: Scope, name: str, target: Target, now: datetime) -> None:
    """Attach a policy. Nothing changes if it is already attached. Raises NotFound, InvalidState and LimitExceeded."""
    await DEVICE_POLICIES.get(tx, *scope, name)
    if target.kind == "cert":
        await get_changeable(tx, scope, target.name)
    else:
        await check_target(tx, scope, target)
    if not await tx.execute(_ATTACH, *scope, *target.key, name, to_micros(now)):
        return
    if await count_attachments(tx, scope, target) > MAX_ATTACHED:
        raise LimitExceeded(target.noun, target.name, f"A {target.noun} can have at most {MAX_ATTACHED} policies")
    await _publish_attachment(tx, scope, name, target, now)


async def detach_policy(tx: Transaction, change: Change, name: str, target: Target) -> None:
    """Detach a policy. Nothing changes if it is not attached, or if policy or target do not exist."""
    if await tx.execute(f"DELETE {_OF_TARGET} AND policy = $5", *change.scope, *target.key, name):
        await _publish_attachment(tx, change.scope, name, target, change.now)


async def check_target(tx: Transaction, scope: Scope, target: Target) -> None:
    """Raise NotFound unless the target exists."""
    certificate, group = target.key
    if not await tx.fetch_one(_EXISTS[target.kind], *scope, certificate or group):
        raise NotFound(target.noun, target.name)


async def count_attachments(tx: Transaction, scope: Scope, target: Target) -> int:
    """Return the number of policies attached to the target itself."""
    row = await tx.fetch_one(f"SELECT count(*) {_OF_TARGET}", *scope, *target.key)
    return int(row[0]) if row else 0


async def attached_policies(tx: Transaction, scope: Scope, target: Target) -> set[str]:
    """Return the names of the policies attached to the target itself. They are few."""
    return {row[0] for row in await tx.fetch_all(f"SELECT policy {_OF_TARGET}", *scope, *target.key)}


async def attach_to_new(tx: Transaction, scope: Scope, pairs: Iterable[tuple[str, str]], now: datetime) -> None:
    """Attach policies to certificates that were registered in this transaction: pairs of a fingerprint and a policy."""
    at = to_micros(now)
    rows = [(*scope, fingerprint_bytes(fingerprint), "", policy, at) for fingerprint, policy in pairs]
    await tx.execute_many(_ATTACH, rows)


async def list_attached(
    tx: Transaction, query: Query, target: Target, cursor: Cursor, *, inherited: bool, ascending: bool
) -> Page[str]:
    """Return a page of the names of the target's policies by age. Raises NotFound.

    With ``inherited``, the policies of all groups above it are included: of a certificate, those of its things, of
    which 1,000 are looked at.
    """
    listing = f"policies of {target.kind}/{target.name}{' and above' if inherited else ''}"
    statement, given = _QUERIES["inherited" if inherited else "attached"], (*query.scope, *target.key)
    rows = await _page(tx, query, cursor, listing, statement, given, ("p.created_at", "p.name"), ascending)
    await check_target(tx, query.scope, target)
    return Page([name for _, name in rows.items], rows.next_token)


async def list_targets(
    tx: Transaction, query: Query, name: str, cursor: Cursor, *, kind: TargetKind | None = None, ascending: bool
) -> Page[Target]:
    """Return a page of the policy's targets by the time of attachment; of one kind, or of both. Raises NotFound."""
    listing, order = f"attachments of {name} {kind or ''}", ("attached_at", "thing_group", "certificate")
    statement = f"SELECT {', '.join(order)}, {fingerprint_of('certificate')} {_OF_POLICY}"
    keep = None if kind is None else lambda row: (not row[1]) == (kind == "cert")
    rows = await _page(tx, query, cursor, listing, statement, (*query.scope, name), order, ascending, keep)
    await DEVICE_POLICIES.get(tx, *query.scope, name)
    targets = [
        Target("thinggroup", group) if group else Target("cert", fingerprint.hex())
        for _, group, _, fingerprint in rows.items
    ]
    return Page(targets, rows.next_token)


async def _page(
    tx: Transaction,
    query: Query,
    cursor: Cursor,
    listing: str,
    statement: str,
    given: Sequence[Value],
    columns: Sequence[str],
    ascending: bool,
    keep: Callable[[Row], bool] | None = None,
) -> Page[Row]:
    """Return a page in order of ``columns``: a time, then names without slashes or ids of certificates.

    ``statement`` must select these columns first. ``keep`` selects rows by what no index has.
    """

    async def fetch(after: Position | None, limit: int) -> list[Row]:
        beyond: list[Value] = []
        if after is not None:
            parts = zip(columns[1:], after[1].split("/"), strict=True)
            beyond = [after[0], *(int(text) if column == "certificate" else text for column, text in parts)]
        return await fetch_in_order(tx, statement, given, columns, beyond, limit, ascending=ascending)

    listing = f"{listing} {'ascending' if ascending else 'descending'}"

    def position(row: Row) -> Position:
        return row[0], "/".join(map(str, row[1 : len(columns)]))

    if keep is None:
        return await page_of(query, cursor, listing, fetch, position)
    return await page_of_kept(query, cursor, listing, fetch, position, keep)


async def _update(tx: Transaction, before: DevicePolicy, after: DevicePolicy) -> None:
    await DEVICE_POLICIES.update(tx, after)
    if after.default_version != before.default_version:
        await publish_change(tx, after.scope, "policy", after.name, after.modified_at)
    tx.audit_resources.append(after.arn)


async def _publish_attachment(tx: Transaction, scope: Scope, name: str, target: Target, now: datetime) -> None:
    await publish_change(tx, scope, "certificate" if target.kind == "cert" else "thinggroup", target.name, now)
    tx.audit_resources += [arn(scope, f"policy/{name}"), target.arn(scope)]
