"""The kinds of items from AWS IoT that describe devices: thing types, policies, provisioning templates.

- ``thing_type``: name, description, searchable_attributes, propagating_attributes (as the API has them), deprecated_at,
  created_at, tags.
- ``policy``: name, versions (id, document, created_at), default (an id), created_at, modified_at, tags.
- ``template``: name, description, type, enabled, role_arn, hook (target_arn, payload_version), versions (id, body,
  created_at), default, created_at, modified_at, tags.

All have a region.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Invalid, InvalidTemplate, MalformedPolicy
from thingmint.domain.templates import Kind
from thingmint.importing.kinds.aws_fields import (
    complete,
    in_regions,
    names_in,
    objects_in,
    region_in,
    subject,
    tags_in,
    time_in,
)
from thingmint.importing.kinds.declaring import kind, text_in
from thingmint.services import device_policies, templates
from thingmint.services.device_policies import DEVICE_POLICIES, DevicePolicy, PolicyVersion, check_document
from thingmint.services.hooks import PAYLOAD_VERSION
from thingmint.services.imports import Result
from thingmint.services.tags import put_tags
from thingmint.services.templates import TEMPLATES, ProvisioningTemplate, TemplateVersion, check_template
from thingmint.services.thing_types import (
    THING_TYPES,
    ThingType,
    check_propagating,
    check_searchable,
    insert_thing_type,
)
from thingmint.services.things import check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from thingmint.importing.batches import Item
    from thingmint.services.change import Change
    from thingmint.store.engine import Transaction

_MAX_VERSIONS = 5
_POLICY_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_TEMPLATE_NAME = re.compile(r"[0-9A-Za-z_-]{1,36}")
_OF_IOT = re.compile(r"arn:(aws[a-z-]*):iot:[^:\"]*:([0-9]{12}):")
_ROLE = re.compile(r"arn:[a-z-]+:iam::([0-9]{12}):role/(.+)")


@dataclass(frozen=True, slots=True)
class _Prepared:
    """``new`` is the record, whose scope is that of the item. ``results`` tell of what cannot come."""

    new: Any
    about: str
    tags: Mapping[str, str]
    versions: Sequence[Any] = ()
    results: list[Result] = field(default_factory=list)

    @property
    def region(self) -> str:
        region: str = self.new.scope.region
        return region


def _prepare_thing_type(change: Change, item: Item) -> _Prepared:
    scope, name = Scope(change.account, region_in(item)), check_name(text_in(item, "name"), "name")
    created_at = time_in(item, "created_at", change.now)
    deprecated_at = None if item.get("deprecated_at") is None else time_in(item, "deprecated_at", change.now)
    searchable = check_searchable(names_in(item, "searchable_attributes", 10))
    description = text_in(item, "description", 2028) or None
    tags, results = tags_in(item, "thing_type")
    propagating = objects_in(item, "propagating_attributes", 100)
    if not all(isinstance(value, str) for each in propagating for value in each.values()):
        raise Invalid("propagating_attributes", "must have texts as values")
    added = check_propagating(propagating)
    new = ThingType(scope, name, "", description, searchable, deprecated_at, created_at, added)
    return _Prepared(new, subject(item), tags, (), results)


@in_regions
async def _thing_types(
    tx: Transaction, change: Change, prepared: Sequence[_Prepared], *, dry_run: bool
) -> list[list[Result]]:
    found = []
    for each in prepared:
        new: ThingType = each.new
        there = await THING_TYPES.find(tx, *new.scope, new.name)
        if there is None:
            if not dry_run:
                await insert_thing_type(tx, change, replace(new, id=change.new_id()), each.tags)
            found.append([Result("thing_type", "new", each.about), *each.results])
            continue
        differs = [] if there.same_configuration(new) else ["description, searchable or propagating attributes"]
        if (there.deprecated_at is None) != (new.deprecated_at is None):
            differs.append("deprecation")
        given = ("thing_type", each.about, new.resource, each.tags)
        result = await complete(tx, change, *given, differs=differs, dry_run=dry_run)
        found.append([result, *each.results])
    return found


kind("thing_type", _prepare_thing_type, subject)(_thing_types)


# Policies


def _prepare_policy(change: Change, item: Item) -> _Prepared:
    """Return a policy with the versions that can come. Raises MalformedPolicy if the default one cannot."""
    scope, name = Scope(change.account, region_in(item)), text_in(item, "name")
    if not _POLICY_NAME.fullmatch(name):
        raise Invalid("name", "is not that of a policy")
    created_at = time_in(item, "created_at", change.now)
    tags, results = tags_in(item, "policy")

    def version(number: int, each: Mapping[str, Any]) -> PolicyVersion:
        document = text_in(each, "document", 100_000)
        check_document(scope, name, document)
        results.extend(_foreign(change, "policy", f"{subject(item)}, version {number}", document))
        return PolicyVersion(scope, name, number, document, "", time_in(each, "created_at", change.now, created_at))

    versions, default = _versions_in(item, "policy", version, results)
    modified_at = time_in(item, "modified_at", change.now, created_at)
    last = max(each.number for each in versions)
    new = DevicePolicy(scope, name, default, last, "", created_at, modified_at)
    return _Prepared(new, subject(item), tags, versions, results)


def _versions_in(
    item: Item, noun: str, make: Callable[[int, Mapping[str, Any]], Any], results: list[Result]
) -> tuple[list[Any], int]:
    """Return the versions that can come, and the number of the default one, which must be among them."""
    default = _number_in(item, "default")
    made = []
    for each in objects_in(item, "versions", _MAX_VERSIONS):
        number = _number_in(each, "id")
        try:
            made.append((number, make(number, each)))
        except (MalformedPolicy, InvalidTemplate) as error:
            if number == default:
                raise
            results.append(Result(noun, "refused", f"{subject(item)}, version {number}", str(error)))
    if default not in dict(made):
        raise Invalid("default", "must be the id of one of the versions")
    return [version for _, version in sorted(dict(made).items())], default


def _number_in(item: Mapping[str, Any], name: str) -> int:
    text = str(item.get(name))
    if not text.isascii() or not text.isdigit() or len(text) > 18 or text.startswith("0"):
        raise Invalid(name, "must be the number of a version")
    return int(text)


def _foreign(change: Change, noun: str, about: str, text: str) -> list[Result]:
    """Return a result if the text names resources of another account or another cloud, which match nothing here."""
    others = sorted({match[0] for match in _OF_IOT.finditer(text) if (match[1], match[2]) != ("aws", change.account)})
    if not others:
        return []
    reason = (
        f"it names resources that are not of account {change.account} ({', '.join(others[:3])}), which match nothing "
        "here: change it, or import into an account with that number (thingmint access account create NAME --id ID)"
    )
    return [Result(noun, "noted", about, reason)]


@in_regions
async def _policies(
    tx: Transaction, change: Change, prepared: Sequence[_Prepared], *, dry_run: bool
) -> list[list[Result]]:
    return [[await _policy(tx, change, each, dry_run=dry_run), *each.results] for each in prepared]


async def _policy(tx: Transaction, change: Change, each: _Prepared, *, dry_run: bool) -> Result:
    new: DevicePolicy = each.new
    there = await DEVICE_POLICIES.find(tx, *new.scope, new.name)
    if there is None:
        if not dry_run:
            await DEVICE_POLICIES.insert(tx, replace(new, generation=change.new_id()))
            await _insert_policy_versions(tx, change, each.versions)
            await put_tags(tx, new.scope, new.resource, each.tags)
        return Result("policy", "new", each.about)
    known = {version.number: version.document for version in await device_policies.list_versions(tx, there)}
    given = {version.number: version.document for version in each.versions}
    differs = _different_versions(known, given, same=_same_json)
    if there.default_version != new.default_version:
        differs.append("default version")
    missing = [f"version {number}" for number in given.keys() - known.keys()]
    about = ("policy", each.about, new.resource, each.tags)
    result = await complete(tx, change, *about, differs=differs, missing=missing, dry_run=dry_run)
    if result.outcome == "completed" and not dry_run:
        await _insert_policy_versions(tx, change, [each for each in each.versions if each.number not in known])
        await DEVICE_POLICIES.update(tx, replace(there, last_version=max(there.last_version, new.last_version)))
    return result


async def _insert_policy_versions(tx: Transaction, change: Change, versions: Sequence[PolicyVersion]) -> None:
    for version in versions:
        await device_policies.VERSIONS.insert(tx, replace(version, generation=change.new_id()))


def _different_versions(
    known: Mapping[int, str], given: Mapping[int, str], same: Callable[[str, str], bool]
) -> list[str]:
    differs = [f"version {n}" for n in sorted(known.keys() & given.keys()) if not same(known[n], given[n])]
    if further := sorted(known.keys() - given.keys()):
        differs.append(f"further versions {', '.join(map(str, further))}")
    return differs


def _same_json(one: str, other: str) -> bool:
    """True for the same text, or if only white space and the order of members differ."""
    if one == other:
        return True
    try:
        return bool(orjson.loads(one) == orjson.loads(other))
    except orjson.JSONDecodeError:
        return False


kind("policy", _prepare_policy, subject)(_policies)


# Provisioning templates


def _prepare_template(change: Change, item: Item) -> _Prepared:
    """Return a template with the versions that can come. Raises InvalidTemplate if the default one cannot."""
    scope, name = Scope(change.account, region_in(item)), text_in(item, "name")
    if not _TEMPLATE_NAME.fullmatch(name):
        raise Invalid("name", "is not that of a provisioning template")
    created_at = time_in(item, "created_at", change.now)
    tags, results = tags_in(item, "template")
    new = replace(
        _template(change, item, scope, name, created_at, results),
        modified_at=time_in(item, "modified_at", change.now, created_at),
    )

    def version(number: int, each: Mapping[str, Any]) -> TemplateVersion:
        body = text_in(each, "body", 100_000)
        check_template(new, body)
        results.extend(_foreign(change, "template", f"{subject(item)}, version {number}", body))
        return TemplateVersion(scope, name, number, body, time_in(each, "created_at", change.now, created_at))

    versions, default = _versions_in(item, "template", version, results)
    new = replace(new, default_version=default, last_version=max(each.version for each in versions))
    return _Prepared(new, subject(item), tags, versions, results)


def _template(
    change: Change, item: Item, scope: Scope, name: str, created_at: datetime, results: list[Result]
) -> ProvisioningTemplate:
    type = text_in(item, "type", default=Kind.FLEET)
    if type not in (Kind.FLEET, Kind.JITP):
        raise Invalid("type", f"must be {Kind.FLEET} or {Kind.JITP}")
    role = text_in(item, "role_arn", 2048)
    match = _ROLE.fullmatch(role)
    if match is None:
        raise Invalid("role_arn", "must be the ARN of a role")
    if match[1] == change.account:
        advice = f"make it with thingmint access role create {match[2].rpartition('/')[2]} if it is not there"
    else:
        advice = f"which is of another account: change it to a role of account {change.account}"
    results.append(Result("template", "noted", subject(item), f"it provisions with the role {role}: {advice}"))
    hook = item.get("hook") or {}
    if not isinstance(hook, dict):
        raise Invalid("hook", "must be an object")
    target = text_in(hook, "target_arn", 2048) or None
    if target is not None:
        reason = f"it asks the hook {target}: the setting hooks must say which URL or function that is"
        results.append(Result("template", "noted", subject(item), reason))
    return ProvisioningTemplate(
        scope,
        name,
        Kind(type),
        role,
        created_at,
        created_at,
        description=text_in(item, "description", 500) or None,
        enabled=item.get("enabled") is True,
        hook_arn=target,
        hook_payload_version=text_in(hook, "payload_version", 32, default=PAYLOAD_VERSION) if target else None,
    )


@in_regions
async def _templates(
    tx: Transaction, change: Change, prepared: Sequence[_Prepared], *, dry_run: bool
) -> list[list[Result]]:
    return [[await _one_template(tx, change, each, dry_run=dry_run), *each.results] for each in prepared]


_COMPARED = ("kind", "role_arn", "description", "enabled", "hook_arn", "default_version")


async def _one_template(tx: Transaction, change: Change, each: _Prepared, *, dry_run: bool) -> Result:
    new: ProvisioningTemplate = each.new
    there = await TEMPLATES.find(tx, *new.scope, new.name)
    if there is None:
        if not dry_run:
            await TEMPLATES.insert(tx, replace(new, generation=change.new_id()))
            for version in each.versions:
                await templates.VERSIONS.insert(tx, version)
            await put_tags(tx, new.scope, new.resource, each.tags)
        return Result("template", "new", each.about)
    known = {version.version: version.body for version in await templates.all_versions(tx, new.scope, new.name)}
    given = {version.version: version.body for version in each.versions}
    differs = [name.replace("_", " ") for name in _COMPARED if getattr(there, name) != getattr(new, name)]
    differs += _different_versions(known, given, same=_same_json)
    missing = [f"version {number}" for number in given.keys() - known.keys()]
    about = ("template", each.about, new.resource, each.tags)
    result = await complete(tx, change, *about, differs=differs, missing=missing, dry_run=dry_run)
    if result.outcome == "completed" and not dry_run:
        for version in each.versions:
            if version.version not in known:
                await templates.VERSIONS.insert(tx, version)
        await TEMPLATES.update(tx, replace(there, last_version=max(there.last_version, new.last_version)))
    return result


kind("template", _prepare_template, subject)(_templates)
