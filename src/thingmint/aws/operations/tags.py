"""Tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.aws.operations.attributes import new_tags
from thingmint.domain.arns import parse_arn
from thingmint.domain.errors import Invalid
from thingmint.domain.tags import TAGGABLE

if TYPE_CHECKING:
    from thingmint.aws.operations.call import Call, Operations

__all__ = ["TAGS"]


async def _tag_resource(call: Call) -> dict[str, Any]:
    await call.registries.tags.put(call.scope, *_resource(call), new_tags(call.members))
    return {}


async def _untag_resource(call: Call) -> dict[str, Any]:
    await call.registries.tags.remove(call.scope, *_resource(call), call.members["tagKeys"])
    return {}


async def _list_tags_for_resource(call: Call) -> dict[str, Any]:
    if "nextToken" in call.members:
        raise Invalid("nextToken", "is not one that this list returned")  # which is one page, always
    tags = await call.registries.tags.list(call.scope, *_resource(call))
    return {"tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def _resource(call: Call) -> tuple[str, str]:
    return parse_arn(call.scope, call.members["resourceArn"], "resourceArn", *TAGGABLE)


TAGS: Operations = {
    "TagResource": _tag_resource,
    "UntagResource": _untag_resource,
    "ListTagsForResource": _list_tags_for_resource,
}
