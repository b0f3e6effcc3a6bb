"""Tags: what an account notes on its resources, for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_TAGS", "TAGGABLE", "check_tags"]

MAX_TAGS = 50  # of one resource

TAGGABLE = ("thingtype", "thinggroup", "policy", "provisioningtemplate", "cacert")
"""The kinds of resources, by their word in ARNs, that can have tags and that there are here."""

_RESERVED = "aws:"  # for AWS's own, in whatever case, at the beginning of keys and of values


def check_tags(tags: Iterable[tuple[str, str]], field: str) -> dict[str, str]:
    """Keys and values of one request; what they are made of, the model has checked. Raises Invalid."""
    checked: dict[str, str] = {}
    for key, value in tags:
        if key.lower().startswith(_RESERVED) or value.lower().startswith(_RESERVED):
            raise Invalid(field, f"must not begin with {_RESERVED}, in keys or in values")
        if key in checked:
            raise Invalid(field, "must not have a key twice")
        checked[key] = value
    if len(checked) > MAX_TAGS:
        raise Invalid(field, f"must be at most {MAX_TAGS}")
    return checked
