"""Reads the devices of an account: things, thing groups with their members, certificates with their things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.domain.certificates import parse_certificate
from thingmint.domain.errors import Invalid
from thingmint.domain.keys import FLEET_KEYS
from thingmint.importing.sources.aws.calls import NotServed
from thingmint.importing.sources.aws.listing import Listing
from thingmint.importing.sources.aws.reading import Made, Region, micros
from thingmint.services.imports import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.importing.batches import Item
    from thingmint.importing.sources.aws.listing import Entry

THINGS = Listing("ListThings", "things", "thingName")
THING_GROUPS = Listing("ListThingGroups", "thingGroups", "groupName", {"recursive": True})
CERTIFICATES = Listing("ListCertificates", "certificates", "certificateId", {"ascendingOrder": True})

_NAMES_AT_ONCE = 100  # in one item


def thing(region: Region, entry: Entry) -> Made:
    """``ListThings`` returns all that is imported, so no further call is needed."""
    members = entry.members
    attributes = members.get("attributes") or {}
    return Made([region.item("thing", name=entry.name, type=members.get("thingTypeName"), attributes=attributes)])


class Groups:
    """Reads thing groups, each after the groups that contain it."""

    def __init__(self) -> None:
        self._made: set[str] = set()

    def arrange(self, region: Region, entry: Entry, made: Made) -> Made:
        """Return the group with the groups above it that did not come before."""
        if entry.name in self._made:
            return Made()
        items, results = list(made.items), list(made.results)
        for item in made.items:
            for name in reversed(item["above"]):
                if name not in self._made:
                    above = _group(region, name)
                    items, results = [*above.items, *items], [*above.results, *results]
                    self._made.add(name)
        self._made.add(entry.name)
        return Made([{key: value for key, value in item.items() if key != "above"} for item in items], results)


def thing_group(region: Region, entry: Entry) -> Made:
    return _group(region, entry.name)


def _group(region: Region, name: str) -> Made:
    group = region.calls.call("DescribeThingGroup", thingGroupName=name)
    if group.get("queryString"):
        reason = "it is a dynamic group, which is not served here: make a static one for what depends on it"
        return Made((), [Result("not_served", "refused", region.subject(f"thing group {name}"), reason)])
    about, properties = group.get("thingGroupMetadata", {}), group.get("thingGroupProperties", {})
    tags, results = region.tags(group["thingGroupArn"])
    item = region.item(
        "group",
        name=name,
        parent=about.get("parentGroupName"),
        description=properties.get("thingGroupDescription"),
        attributes=properties.get("attributePayload", {}).get("attributes") or {},
        policies=region.policies_of(group["thingGroupArn"]),
        created_at=micros(about.get("creationDate")),
        tags=tags,
        above=[above["groupName"] for above in about.get("rootToParentThingGroups") or ()],
    )
    return Made([item], results)


def members_of(region: Region, group: str, token: str | None) -> Iterator[tuple[list[Item], str | None]]:
    """Yield the things that are directly in a group, a page at once, with the token of the next page."""
    while True:
        names, token = region.calls.page("ListThingsInThingGroup", "things", token, thingGroupName=group)
        yield [region.item("members", group=group, things=some) for some in _slices(names)], token
        if token is None:
            return


def certificate(region: Region, entry: Entry) -> Made:
    """Read a certificate, the policies that are attached to it, and the things that it is attached to."""
    about = region.calls.call("DescribeCertificate", certificateId=entry.name)["certificateDescription"]
    arn = about["certificateArn"]
    first, *further = list(_slices(_things_of(region, arn))) or [[]]
    item = region.item(
        "certificate",
        id=entry.name,
        pem=about["certificatePem"],
        status=about["status"],
        mode=about.get("certificateMode", "DEFAULT"),
        ca=about.get("caCertificateId"),
        created_at=micros(about.get("creationDate")),
        modified_at=micros(about.get("lastModifiedDate")),
        policies=region.policies_of(arn),
        things=first,
    )
    return Made([item, *_attachments(region, item["pem"], further)])


def _things_of(region: Region, principal: str) -> list[dict[str, Any]]:
    try:
        found = list(region.calls.all("ListPrincipalThingsV2", "principalThingObjects", principal=principal))
    except NotServed:
        names = region.calls.all("ListPrincipalThings", "things", principal=principal)
        return [{"name": name, "exclusive": False} for name in names]
    exclusive = "EXCLUSIVE_THING"
    return [{"name": each["thingName"], "exclusive": each.get("thingPrincipalType") == exclusive} for each in found]


def _attachments(region: Region, pem: str, further: list[list[Any]]) -> list[Item]:
    """Return items with further things of a certificate. Servers may give it another id than its SHA-256."""
    if not further:
        return []
    try:
        fingerprint = parse_certificate(pem, "certificatePem", FLEET_KEYS)[0].fingerprint
    except Invalid:
        return []  # the importer refuses the certificate
    return [region.item("attachments", certificate=fingerprint, things=things) for things in further]


def _slices(values: list[Any]) -> Iterator[list[Any]]:
    for first in range(0, len(values), _NAMES_AT_ONCE):
        yield values[first : first + _NAMES_AT_ONCE]
