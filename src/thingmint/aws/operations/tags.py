"""Tags (three operations)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import Members, Result, new_tags, reads, writes
from thingmint.domain.arns import parse_arn
from thingmint.domain.errors import Invalid
from thingmint.services.tags import TAGGABLE, add_tags, get_tags, remove_tags

if TYPE_CHECKING:
    from thingmint.services.change import Change, Query
    from thingmint.store.engine import Transaction


@writes("TagResource")
async def tag(tx: Transaction, change: Change, members: Members) -> Result:
    await add_tags(tx, change, *_resource(change, members), new_tags(members))
    return {}


@writes("UntagResource")
async def untag(tx: Transaction, change: Change, members: Members) -> Result:
    await remove_tags(tx, change, *_resource(change, members), members["tagKeys"])
    return {}


@reads("ListTagsForResource")
async def list_(tx: Transaction, query: Query, members: Members) -> Result:
    if members.get("nextToken"):
        raise Invalid("nextToken", "is not one that this list returned")  # the list is always one page
    tags = await get_tags(tx, query.scope, *_resource(query, members))
    return {"tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def _resource(query: Query, members: Members) -> tuple[str, str]:
    return parse_arn(query.scope, members["resourceArn"], "resourceArn", *TAGGABLE)
