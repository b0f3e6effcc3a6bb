"""Billing groups and their things (eight operations)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import Members, Result, cursor, name_of, new_tags, reads, writes
from thingmint.services.billing_groups import (
    BILLING_GROUPS,
    create_billing_group,
    delete_billing_group,
    list_billing_groups,
    list_things_in,
    put_in_group,
    take_from_group,
    update_billing_group,
)

if TYPE_CHECKING:
    from thingmint.services.billing_groups import BillingGroup
    from thingmint.services.change import Change, Query
    from thingmint.store.engine import Transaction


@writes("CreateBillingGroup")
async def create(tx: Transaction, change: Change, members: Members) -> Result:
    name, description = members["billingGroupName"], _description(members)
    return _identified(await create_billing_group(tx, change, name, description, new_tags(members)))


@reads("DescribeBillingGroup")
async def describe(tx: Transaction, query: Query, members: Members) -> Result:
    group = await BILLING_GROUPS.get(tx, *query.scope, members["billingGroupName"])
    return {
        **_identified(group),
        "version": group.version,
        "billingGroupProperties": {"billingGroupDescription": group.description},
        "billingGroupMetadata": {"creationDate": group.created_at},
    }


@reads("ListBillingGroups")
async def list_(tx: Transaction, query: Query, members: Members) -> Result:
    page = await list_billing_groups(tx, query, members.get("namePrefixFilter", ""), cursor(members))
    groups = [{"groupName": group.name, "groupArn": group.arn} for group in page.items]
    return {"billingGroups": groups, "nextToken": page.next_token}


@writes("UpdateBillingGroup")
async def update(tx: Transaction, change: Change, members: Members) -> Result:
    name, version = members["billingGroupName"], members.get("expectedVersion")
    return {"version": (await update_billing_group(tx, change, name, _description(members), version)).version}


@writes("DeleteBillingGroup")
async def delete(tx: Transaction, change: Change, members: Members) -> Result:
    await delete_billing_group(tx, change, members["billingGroupName"], members.get("expectedVersion"))
    return {}


@writes("AddThingToBillingGroup")
async def add_thing(tx: Transaction, change: Change, members: Members) -> Result:
    await put_in_group(tx, change, *_thing_and_group(change, members))
    return {}


@writes("RemoveThingFromBillingGroup")
async def remove_thing(tx: Transaction, change: Change, members: Members) -> Result:
    await take_from_group(tx, change, *_thing_and_group(change, members))
    return {}


@reads("ListThingsInBillingGroup")
async def list_things(tx: Transaction, query: Query, members: Members) -> Result:
    page = await list_things_in(tx, query, members["billingGroupName"], cursor(members))
    return {"things": page.items, "nextToken": page.next_token}


def _thing_and_group(change: Change, members: Members) -> tuple[str, str]:
    thing = name_of(change.scope, members, "thing", "thingName", "thingArn")
    return thing, name_of(change.scope, members, "billinggroup", "billingGroupName", "billingGroupArn")


def _description(members: Members) -> str | None:
    description: str | None = members.get("billingGroupProperties", {}).get("billingGroupDescription")
    return description


def _identified(group: BillingGroup) -> Result:
    return {"billingGroupName": group.name, "billingGroupArn": group.arn, "billingGroupId": group.id}
