"""Attributes of things and groups, and tags, as the model writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.services.tags import check_tags
from thingmint.services.things import AttributeChange

if TYPE_CHECKING:
    from collections.abc import Mapping


def attribute_change(payload: Mapping[str, Any] | None) -> AttributeChange | None:
    """None if the payload has no attributes, not even an empty map of them."""
    if payload is None or "attributes" not in payload:
        return None
    return AttributeChange(payload["attributes"], merge=payload.get("merge", False))


def new_attributes(payload: Mapping[str, Any] | None) -> Mapping[str, str]:
    """Where there is nothing yet to merge with."""
    attributes: Mapping[str, str] = (payload or {}).get("attributes", {})
    return attributes


def new_tags(members: Mapping[str, Any]) -> dict[str, str]:
    """A tag without a value has an empty one. Raises Invalid."""
    return check_tags(((tag["Key"], tag.get("Value", "")) for tag in members.get("tags", ())), "tags")
