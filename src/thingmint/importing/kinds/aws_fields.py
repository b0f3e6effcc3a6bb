"""What the kinds of items from AWS have in common: a region, times, tags; and how what is there is compared."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Invalid
from thingmint.importing.kinds.declaring import text_in, texts_in
from thingmint.services.accounts import regions_of
from thingmint.services.imports import Result
from thingmint.services.tags import check_tags, get_tags, put_tags
from thingmint.store.table import from_micros

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from thingmint.importing.batches import Item
    from thingmint.importing.kinds.declaring import Apply
    from thingmint.services.change import Change
    from thingmint.store.engine import Transaction

_MAX_TIME = 253_402_300_799_999_999  # microseconds: the end of the year 9999
_MAX_TAGS = 100
_RESERVED = "aws:"  # the beginning of AWS's own tags


def in_regions(apply: Apply) -> Apply:
    """Return an ``Apply`` that calls ``apply`` for one region at once. What is prepared has a region.

    Raises Invalid for a region that the account does not have.
    """

    async def run(tx: Transaction, change: Change, prepared: Sequence[Any], *, dry_run: bool) -> list[list[Result]]:
        regions = await regions_of(tx, change.account)
        found: list[list[Result]] = []
        for region, items in groupby(prepared, key=lambda each: each.region):
            if region not in regions:
                advice = f"thingmint access region add {region} --account {change.account}"
                raise Invalid("region", f"{region} is not one of account {change.account}: {advice}")
            here = replace(change, scope=Scope(change.account, region))
            found += await apply(tx, here, list(items), dry_run=dry_run)
        return found

    return run


def subject(item: Item) -> str:
    """Return the subject of the results about an item."""
    return f"{str(item.get('region'))[:32]}: {str(item.get('name') or item.get('id') or item.get('group') or '')[:128]}"


def region_in(item: Item) -> str:
    region = text_in(item, "region", 32)
    if not region:
        raise Invalid("region", "is required")
    return region


def time_in(item: Mapping[str, Any], name: str, now: datetime, default: datetime | None = None) -> datetime:
    """Return a time that the item has in microseconds, or ``default``, or the present. Raises Invalid.

    Times in the future become the present.
    """
    value = item.get(name)
    if value is None:
        return default or now
    if not isinstance(value, int) or not 0 <= value <= _MAX_TIME:
        raise Invalid(name, "must be microseconds since 1970")
    return min(from_micros(value), now)


def names_in(item: Item, name: str, most: int) -> list[str]:
    """Return a field that is a list of texts, without repetitions. Raises Invalid."""
    value = item.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, str) and 0 < len(each) <= 256 for each in value):
        raise Invalid(name, "must be a list of names")
    if len(value) > most:
        raise Invalid(name, f"must have at most {most} entries")
    return list(dict.fromkeys(value))


def objects_in(item: Item, name: str, most: int) -> list[dict[str, Any]]:
    """Return a field that is a list of objects. Raises Invalid."""
    value = item.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value) or len(value) > most:
        raise Invalid(name, f"must be a list of at most {most} objects")
    return value


def tags_in(item: Item, kind: str) -> tuple[dict[str, str], list[Result]]:
    """Return the tags, and a result about those that AWS has made, which cannot come. Raises Invalid."""
    given = texts_in(item, "tags", _MAX_TAGS)
    own = {key: value for key, value in given.items() if not (key + value).lower().startswith(_RESERVED)}
    own = {key: value for key, value in own.items() if not value.lower().startswith(_RESERVED)}
    left = sorted(given.keys() - own.keys())
    reason = f"tags that AWS has made were left out: {', '.join(left)}"
    return check_tags(own.items(), "tags"), [Result(kind, "noted", subject(item), reason)] if left else []


async def compare_tags(
    tx: Transaction, change: Change, kind: str, name: str, tags: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Compare the tags of a resource that is there. Returns what differs, and the tags that it lacks."""
    there = await get_tags(tx, change.scope, kind, name)
    differs = ["tags"] if any(there.get(key, value) != value for key, value in tags.items()) else []
    return differs, {key: value for key, value in tags.items() if key not in there}


async def complete(
    tx: Transaction,
    change: Change,
    noun: str,
    about: str,
    resource: str,
    tags: Mapping[str, str],
    *,
    differs: Sequence[str],
    missing: Sequence[str] = (),
    dry_run: bool,
) -> Result:
    """Compare a resource that is there, also by its tags, and add the tags that it lacks, if nothing else differs.

    ``resource`` is as in its ARN. If the outcome is ``completed``, the caller adds what is ``missing``.
    """
    kind, _, name = resource.partition("/")
    others, missing_tags = await compare_tags(tx, change, kind, name, tags)
    result = compared(noun, about, [*differs, *others], [*missing, *(["tags"] if missing_tags else [])])
    if result.outcome == "completed" and not dry_run:
        await put_tags(tx, change.scope, resource, missing_tags)
    return result


def compared(kind: str, about: str, differs: Sequence[str], missing: Sequence[str]) -> Result:
    """Return the result about an item that is there already: what is different, and what was missing."""
    if differs:
        reason = f"it is here with other content ({', '.join(differs)}), and stays as it is here"
        return Result(kind, "conflict", about, reason)
    if missing:
        return Result(kind, "completed", about, f"it was here without {', '.join(missing)}")
    return Result(kind, "same", about)
