"""Pages of what devices are defined by: thing types, policies, groups, CA certificates, provisioning templates.

The rows are the items that an import takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.fleet.export_pages import Json, page_of_rows
from thingmint.services import device_policies, templates
from thingmint.services.ca_certificates import CA_CERTIFICATES, get_registered_ca
from thingmint.services.device_policies import DEVICE_POLICIES, Target, attached_policies
from thingmint.services.tags import get_tags
from thingmint.services.templates import TEMPLATES
from thingmint.services.thing_groups import THING_GROUPS
from thingmint.services.thing_types import THING_TYPES
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.domain.arns import Scope
    from thingmint.fleet.export_pages import Read
    from thingmint.store.engine import Transaction

_AT_ONCE = 50


async def _thing_types(tx: Transaction, scope: Scope, _parent: str, after: str) -> Json:
    return page_of_rows(
        [
            (
                each.name,
                {
                    "kind": "thing_type",
                    "region": scope.region,
                    "name": each.name,
                    "description": each.description,
                    "searchable_attributes": list(each.searchable),
                    "propagating_attributes": list(each.propagating or ()),
                    "deprecated_at": to_micros(each.deprecated_at) if each.deprecated_at is not None else None,
                    "created_at": to_micros(each.created_at),
                    "tags": await get_tags(tx, scope, "thingtype", each.name),
                },
            )
            for each in await THING_TYPES.page(tx, *scope, after=after, limit=_AT_ONCE)
        ],
        _AT_ONCE,
    )


async def _policies(tx: Transaction, scope: Scope, _parent: str, after: str) -> Json:
    rows = []
    for each in await DEVICE_POLICIES.page(tx, *scope, after=after, limit=_AT_ONCE):
        versions = [
            {"id": str(one.number), "document": one.document, "created_at": to_micros(one.created_at)}
            for one in await device_policies.list_versions(tx, each)
        ]
        row = {
            "kind": "policy",
            "region": scope.region,
            "name": each.name,
            "versions": versions,
            "default": str(each.default_version),
            "created_at": to_micros(each.created_at),
            "modified_at": to_micros(each.modified_at),
            "tags": await get_tags(tx, scope, "policy", each.name),
        }
        rows.append((each.name, row))
    return page_of_rows(rows, _AT_ONCE)


async def _groups(tx: Transaction, scope: Scope, _parent: str, after: str) -> Json:
    """``depth`` is how many groups contain it: those with less come first in an import."""
    rows = []
    for each in await THING_GROUPS.page(tx, *scope, after=after, limit=_AT_ONCE):
        row = {
            "kind": "group",
            "region": scope.region,
            "name": each.name,
            "parent": each.parent,
            "description": each.description,
            "attributes": each.attributes,
            "policies": sorted(await attached_policies(tx, scope, Target("thinggroup", each.name))),
            "created_at": to_micros(each.created_at),
            "tags": await get_tags(tx, scope, "thinggroup", each.name),
            "depth": len(each.ancestors),
        }
        rows.append((each.name, row))
    return page_of_rows(rows, _AT_ONCE)


async def _templates(tx: Transaction, scope: Scope, _parent: str, after: str) -> Json:
    rows = []
    for each in await TEMPLATES.page(tx, *scope, after=after, limit=_AT_ONCE):
        versions = [
            {"id": str(one.version), "body": one.body, "created_at": to_micros(one.created_at)}
            for one in await templates.all_versions(tx, scope, each.name)
        ]
        hook = each.hook
        row = {
            "kind": "template",
            "region": scope.region,
            "name": each.name,
            "description": each.description,
            "type": each.kind,
            "enabled": each.enabled,
            "role_arn": each.role_arn,
            "hook": hook and {"target_arn": hook.target_arn, "payload_version": hook.payload_version},
            "versions": versions,
            "default": str(each.default_version),
            "created_at": to_micros(each.created_at),
            "modified_at": to_micros(each.modified_at),
            "tags": await get_tags(tx, scope, "provisioningtemplate", each.name),
        }
        rows.append((each.name, row))
    return page_of_rows(rows, _AT_ONCE)


async def _cas(tx: Transaction, scope: Scope, _parent: str, after: str) -> Json:
    micros, _, id = after.partition(" ")
    place = (int(micros), id) if after else None
    rows = []
    for each in await CA_CERTIFICATES.page_by_age(tx, *scope, after=place, limit=_AT_ONCE, ascending=True):
        config = each.config
        row = {
            "kind": "ca",
            "region": scope.region,
            "id": each.fingerprint,
            "pem": (await get_registered_ca(tx, scope, each.fingerprint)).certificate.pem,
            "status": each.status,
            "auto_registration": each.auto_registration,
            "mode": each.mode,
            "registration_config": config
            and {
                "template_name": config.template_name,
                "template_body": config.template_body,
                "role_arn": config.role_arn,
            },
            "created_at": to_micros(each.created_at),
            "modified_at": to_micros(each.modified_at),
            "tags": await get_tags(tx, scope, "cacert", each.fingerprint),
        }
        rows.append((f"{to_micros(each.created_at)} {each.certificate}", row))
    return page_of_rows(rows, _AT_ONCE)


DEFINITIONS: Mapping[str, Read] = {
    "thing_types": _thing_types,
    "policies": _policies,
    "templates": _templates,
    "cas": _cas,
    "groups": _groups,
}
"""In the order in which an import needs them."""
