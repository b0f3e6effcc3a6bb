"""The kinds of items from AWS IoT that devices are made of.

- ``thing``: name, type or null, attributes.
- ``group``: name, parent or null, description, attributes, policies (names), created_at, tags. Parents come first.
- ``members``: group, things (names).
- ``certificate``: id, pem, status, mode, ca (the id of its CA certificate) or null, created_at, modified_at, policies
  (names), things (name, exclusive).
- ``attachments``: certificate (a fingerprint), things: further things of a certificate.
- ``endpoint``: names by which devices connect to the account now, account (its number there) or null.

All have a region.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from thingmint.domain.arns import Scope
from thingmint.domain.certificates import parse_fingerprint, parse_issued_certificate
from thingmint.domain.errors import Disallowed, Invalid
from thingmint.domain.keys import FLEET_KEYS
from thingmint.domain.status import Status
from thingmint.importing.kinds.aws_fields import (
    compare_tags,
    compared,
    in_regions,
    names_in,
    objects_in,
    region_in,
    subject,
    tags_in,
    time_in,
)
from thingmint.importing.kinds.declaring import kind, text_in, texts_in
from thingmint.services.bulk_attachments import WantedThing, add_policies, add_things_of
from thingmint.services.bulk_certificates import ImportedCertificate, add_certificates
from thingmint.services.bulk_things import add_members, add_things
from thingmint.services.certificates import REGISTRATIONS, Registration
from thingmint.services.device_policies import Target
from thingmint.services.hostnames import list_account_hostnames
from thingmint.services.imports import Result
from thingmint.services.tags import put_tags
from thingmint.services.thing_groups import THING_GROUPS, create_thing_group
from thingmint.services.things import AttributeChange, Thing, check_count, check_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from thingmint.importing.batches import Item
    from thingmint.services.change import Change
    from thingmint.store.engine import Transaction

_MAX_NAMES = 100  # in one item, so that a transaction is short
_MAX_ATTRIBUTES = 50
_MAX_POLICIES = 10
_STATUSES = (Status.ACTIVE, Status.INACTIVE, Status.REVOKED)


@dataclass(frozen=True, slots=True)
class _Thing:
    thing: Thing
    about: str

    @property
    def region(self) -> str:
        return self.thing.scope.region


def _prepare_thing(change: Change, item: Item) -> _Thing:
    scope = Scope(change.account, region_in(item))
    attributes = texts_in(item, "attributes", _MAX_ATTRIBUTES, 800)
    type = text_in(item, "type") or None
    new = Thing.new(scope, text_in(item, "name"), id=change.new_id(), type=type, attributes=attributes, now=change.now)
    return _Thing(new, subject(item))


@in_regions
async def _things(tx: Transaction, change: Change, things: Sequence[_Thing], *, dry_run: bool) -> list[list[Result]]:
    return await add_things(tx, change, [(each.thing, each.about) for each in things], dry_run=dry_run)


kind("thing", _prepare_thing, subject)(_things)


# Groups


@dataclass(frozen=True, slots=True)
class _Group:
    region: str
    name: str
    parent: str | None
    description: str | None
    attributes: Mapping[str, str]
    policies: Sequence[str]
    created_at: datetime
    tags: Mapping[str, str]
    about: str
    results: list[Result] = field(default_factory=list)


def _prepare_group(change: Change, item: Item) -> _Group:
    attributes = AttributeChange(texts_in(item, "attributes", _MAX_ATTRIBUTES, 800)).applied({})
    check_count(attributes)
    tags, results = tags_in(item, "group")
    return _Group(
        region_in(item),
        check_name(text_in(item, "name"), "name"),
        text_in(item, "parent") or None,
        text_in(item, "description", 2028) or None,
        attributes,
        names_in(item, "policies", _MAX_POLICIES),
        time_in(item, "created_at", change.now),
        tags,
        subject(item),
        results,
    )


@in_regions
async def _groups(tx: Transaction, change: Change, groups: Sequence[_Group], *, dry_run: bool) -> list[list[Result]]:
    return [await _group(tx, change, group, dry_run=dry_run) for group in groups]


async def _group(tx: Transaction, change: Change, new: _Group, *, dry_run: bool) -> list[Result]:
    scope, target = change.scope, Target("thinggroup", new.name)
    there = await THING_GROUPS.find(tx, *scope, new.name)
    if there is None:
        if not dry_run:
            given = (new.name, new.parent, new.description, new.attributes, new.tags)
            try:
                await create_thing_group(tx, change, *given, created_at=new.created_at)
            except (Disallowed, Invalid) as error:
                return [Result("group", "refused", new.about, str(error)), *new.results]
        _, refused = await add_policies(tx, change, target, new.policies, new.about, dry_run=dry_run)
        return [Result("group", "new", new.about), *new.results, *refused]
    differs = [name for name in ("parent", "description", "attributes") if getattr(there, name) != getattr(new, name)]
    others, missing_tags = await compare_tags(tx, change, "thinggroup", new.name, new.tags)
    differs += others
    added, refused = await add_policies(tx, change, target, new.policies, new.about, dry_run=dry_run or bool(differs))
    missing = [f"policy {name}" for name in added] + (["tags"] if missing_tags else [])
    result = compared("group", new.about, differs, missing)
    if result.outcome == "completed" and not dry_run:
        await put_tags(tx, scope, there.resource, missing_tags)
    return [result, *new.results, *refused]


kind("group", _prepare_group, subject)(_groups)


@dataclass(frozen=True, slots=True)
class _Members:
    region: str
    group: str
    things: Sequence[str]
    about: str


def _prepare_members(_change: Change, item: Item) -> _Members:
    return _Members(region_in(item), text_in(item, "group"), names_in(item, "things", _MAX_NAMES), subject(item))


@in_regions
async def _all_members(
    tx: Transaction, change: Change, prepared: Sequence[_Members], *, dry_run: bool
) -> list[list[Result]]:
    return [await add_members(tx, change, each.group, each.things, each.about, dry_run=dry_run) for each in prepared]


kind("members", _prepare_members, subject)(_all_members)


# Certificates


def _prepare_certificate(change: Change, item: Item) -> ImportedCertificate:
    """Return a certificate. It is SNI_ONLY here whatever AWS says, unless a CA of the account has signed it."""
    scope, about = Scope(change.account, region_in(item)), subject(item)
    issued = parse_issued_certificate(text_in(item, "pem", 65_536), "pem", FLEET_KEYS)
    change.environment.own_authorities.check(issued.public_key, "pem")
    fingerprint, results = issued.fingerprint, []
    if item.get("id") not in (None, fingerprint):
        reason = f"its id here is {fingerprint}, the SHA-256 of its DER"
        results.append(Result("certificate", "noted", about, reason))
    status = text_in(item, "status", 32)
    if status not in _STATUSES:
        results.append(Result("certificate", "noted", about, f"it is INACTIVE here: at AWS it is {status}"))
        status = Status.INACTIVE
    ca = text_in(item, "ca") or None
    mode: Literal["DEFAULT", "SNI_ONLY"] = "DEFAULT" if item.get("mode") == "DEFAULT" else "SNI_ONLY"
    created_at = time_in(item, "created_at", change.now)
    modified_at = time_in(item, "modified_at", change.now, created_at)
    wanted = Registration(
        scope,
        0,
        fingerprint,
        Status(status),
        mode,
        "registered",
        created_at,
        modified_at,
        "",
        ca=None if ca is None else parse_fingerprint(ca, "ca"),
    )
    policies = names_in(item, "policies", _MAX_POLICIES)
    return ImportedCertificate(wanted, issued, about, policies, _things_in(item), results)


def _things_in(item: Item) -> list[WantedThing]:
    things: dict[str, WantedThing] = {}
    for each in objects_in(item, "things", _MAX_NAMES):
        name = check_name(text_in(each, "name"), "things")
        things.setdefault(name, WantedThing(name, each.get("exclusive") is True))
    return list(things.values())


kind("certificate", _prepare_certificate, subject)(in_regions(add_certificates))


@dataclass(frozen=True, slots=True)
class _Attachments:
    region: str
    fingerprint: str
    things: Sequence[WantedThing]
    about: str


def _prepare_attachments(_change: Change, item: Item) -> _Attachments:
    fingerprint = parse_fingerprint(text_in(item, "certificate"), "certificate")
    region = region_in(item)
    return _Attachments(region, fingerprint, _things_in(item), f"{region}: {fingerprint}")


@in_regions
async def _all_attachments(
    tx: Transaction, change: Change, prepared: Sequence[_Attachments], *, dry_run: bool
) -> list[list[Result]]:
    found = []
    for each in prepared:
        if not dry_run and await REGISTRATIONS.find(tx, *change.scope, each.fingerprint) is None:
            found.append([Result("attachment", "refused", each.about, "the certificate is not here")])
            continue
        found.append(await add_things_of(tx, change, each.fingerprint, each.things, each.about, dry_run=dry_run))
    return found


kind("attachments", _prepare_attachments, subject)(_all_attachments)


# The host name that devices need


@dataclass(frozen=True, slots=True)
class _Endpoint:
    region: str
    account: str | None
    names: Sequence[str]


def _prepare_endpoint(_change: Change, item: Item) -> _Endpoint:
    return _Endpoint(region_in(item), text_in(item, "account") or None, names_in(item, "names", 100))


@in_regions
async def _endpoints(
    tx: Transaction, change: Change, prepared: Sequence[_Endpoint], *, dry_run: bool
) -> list[list[Result]]:
    del dry_run
    return [await _endpoint(tx, change, each) for each in prepared]


async def _endpoint(tx: Transaction, change: Change, endpoint: _Endpoint) -> list[Result]:
    given = [each.name for each in await list_account_hostnames(tx) if each.scope == change.scope and each.api == "aws"]
    now = " or ".join(endpoint.names) or "an unknown host name"
    if given:
        here = f"the host name that they need here is {' or '.join(given)}"
    else:
        command = f"thingmint access hostname add NAME --account {change.account} --api aws --region {endpoint.region}"
        here = f"no host name belongs to this account and region: give one with {command}, which devices then need"
    reason = f"devices connect to {now} now; {here}"
    results = [Result("host_name", "noted", endpoint.region, reason)]
    if endpoint.account not in (None, change.account):
        reason = (
            f"the account has the number {endpoint.account} there and {change.account} here, so ARNs change: to keep "
            f"them, import into an account with that number (thingmint init --account-id {endpoint.account}, or "
            f"thingmint access account create NAME --id {endpoint.account})"
        )
        results.append(Result("account", "noted", endpoint.region, reason))
    return results


kind("endpoint", _prepare_endpoint, subject)(_endpoints)
