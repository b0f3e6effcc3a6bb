"""Reads a fleet page by page, for an export. It runs in the process that has the store open, and changes nothing."""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from thingmint.access.administration.accounts import list_accounts
from thingmint.access.local_admin import local_request, recorded
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Invalid, NotFound
from thingmint.fleet.definitions import DEFINITIONS
from thingmint.fleet.export_pages import Json, page_of_rows
from thingmint.services.accounts import regions_of
from thingmint.services.bindings import list_bindings
from thingmint.services.certificate_contents import CERTIFICATES, split_content
from thingmint.services.certificates import REGISTRATIONS
from thingmint.services.device_registry import BROKERS, DEVICES, REGISTRIES
from thingmint.services.things import THINGS
from thingmint.store.key_lists import FIRST_FURTHER, KeyList
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from thingmint.access.audit import AuditLog
    from thingmint.domain.certificates import Certificate
    from thingmint.fleet.export_pages import Read
    from thingmint.services.certificates import Registration
    from thingmint.services.owners import Owner
    from thingmint.store.engine import Row, Store, Transaction

_THINGS_AT_ONCE = 100
_CERTIFICATES_AT_ONCE = 200
_OWNERS_AT_ONCE = 50

_ACCOUNT, _REGION = f"${FIRST_FURTHER}", f"${FIRST_FURTHER + 1}"
_GROUPS = KeyList(
    "SELECT m.thing, g.name FROM thing_group_members AS m JOIN thing_groups AS g "
    "ON g.account = m.account AND g.region = m.region AND g.id = m.thing_group "
    f"WHERE m.account = {_ACCOUNT} AND m.region = {_REGION} AND m.thing IN ({{keys}})"
)
_PRINCIPALS = KeyList(
    f"SELECT p.thing, p.exclusive, {', '.join([*REGISTRATIONS.reads('r'), *CERTIFICATES.reads('c')])} "
    "FROM thing_principals AS p JOIN registrations AS r "
    "ON r.account = p.account AND r.region = p.region AND r.certificate = p.certificate "
    "JOIN certificates AS c ON c.id = p.certificate "
    f"WHERE p.account = {_ACCOUNT} AND p.region = {_REGION} AND p.thing IN ({{keys}})"
)
_POLICIES = KeyList(
    "SELECT c.fingerprint, a.policy FROM certificates AS c JOIN device_policy_attachments AS a "
    f"ON a.account = {_ACCOUNT} AND a.region = {_REGION} AND a.certificate = c.id WHERE c.fingerprint IN ({{keys}})"
)
_THERE = f"account = {_ACCOUNT} AND {{0}}.region = {_REGION} AND {{0}}.certificate = c.id LIMIT 1"
_CONTENTS = KeyList(
    f"SELECT {', '.join(CERTIFICATES.reads('c'))}, "
    f"(SELECT 1 FROM thing_principals AS p WHERE p.{_THERE.format('p')}), "
    f"(SELECT 1 FROM bindings AS b WHERE b.{_THERE.format('b')}) "
    "FROM certificates AS c WHERE c.fingerprint IN ({keys})"
)
_DEVICES_AFTER = f"{DEVICES.select}WHERE registry = $1 AND (created_at, id) > ($2, $3) ORDER BY created_at, id LIMIT $4"


@dataclass(frozen=True, slots=True)
class Exporter:
    """Its methods are local commands, which take and return JSON and raise DomainErrors.

    A page is ``rows`` and ``after``: from where the next page goes on, or None if there is no further one.
    """

    store: Store
    trail: AuditLog
    clock: Callable[[], datetime]

    async def start(self, *, account: str = "", format: str = "") -> Json:
        """Return the account, by default the first, and its regions. ``format`` is for the audit log."""
        known = [each.id for each in await self.store.read(list_accounts)]
        if account and account not in known:
            raise NotFound("account", account)
        chosen = account or known[0]
        context = replace(
            local_request("ExportFleet" if format else "ListRegions", self.clock()),
            account=chosen,
            parameters={"format": format} if format else {},
        )
        with recorded(context, self.trail):
            return {"account": chosen, "regions": await self.store.read(lambda tx: regions_of(tx, chosen))}

    async def page(self, *, what: str, account: str, region: str = "", parent: str = "", after: str = "") -> Json:
        """Return a page of ``what``; devices are those of the registry ``parent``."""
        read = _PAGES.get(what)
        if read is None:
            raise Invalid("what", f"must be one of {', '.join(_PAGES)}")
        scope = Scope(account, region)
        return await self.store.read(lambda tx: read(tx, scope, parent, after))


async def _things(tx: Transaction, scope: Scope, _parent: str, after: str) -> Json:
    things = await THINGS.page(tx, *scope, after=after, limit=_THINGS_AT_ONCE)
    names = [thing.name for thing in things]
    groups: dict[str, list[str]] = defaultdict(list)
    for thing, group in await _GROUPS.fetch(tx, names, *scope):
        groups[thing].append(group)
    found = [(row[0], bool(row[1]), *_registered(row[2:])) for row in await _PRINCIPALS.fetch(tx, names, *scope)]
    policies = await _policies_of(tx, scope, [certificate for *_, certificate in found])
    principals: dict[str, list[Json]] = defaultdict(list)
    for name, exclusive, registration, certificate in sorted(found, key=lambda each: each[3].fingerprint):
        shown = _certificate(registration, certificate, policies[certificate.fingerprint])
        principals[name].append({**shown, "exclusive": exclusive})
    return page_of_rows(
        [
            (
                thing.name,
                {
                    "name": thing.name,
                    "type": thing.type,
                    "attributes": thing.attributes,
                    "groups": sorted(groups[thing.name]),
                    "certificates": principals[thing.name],
                },
            )
            for thing in things
        ],
        _THINGS_AT_ONCE,
    )


async def _certificates(tx: Transaction, scope: Scope, _parent: str, after: str) -> Json:
    """Certificates that are attached to no thing, and bound to no device, registry or broker."""
    micros, _, id = after.partition(" ")
    place = (int(micros), id) if after else None
    page = await REGISTRATIONS.page_by_age(tx, *scope, after=place, limit=_CERTIFICATES_AT_ONCE, ascending=True)
    rows = await _CONTENTS.fetch(tx, [bytes.fromhex(each.fingerprint) for each in page], *scope)
    alone = [CERTIFICATES.load(row[:-2]) for row in rows if row[-2] is None and row[-1] is None]
    contents = {certificate.fingerprint: certificate for certificate in alone}
    policies = await _policies_of(tx, scope, alone)
    return page_of_rows(
        [
            (
                f"{to_micros(each.created_at)} {each.certificate}",
                _certificate(each, contents[each.fingerprint], policies[each.fingerprint])
                if each.fingerprint in contents
                else None,
            )
            for each in page
        ],
        _CERTIFICATES_AT_ONCE,
    )


async def _policies_of(tx: Transaction, scope: Scope, certificates: Sequence[Certificate]) -> dict[str, list[str]]:
    """Return the names of the policies of certificates, by fingerprint."""
    keys = list(dict.fromkeys(bytes.fromhex(each.fingerprint) for each in certificates))
    policies: dict[str, list[str]] = defaultdict(list)
    for fingerprint, policy in await _POLICIES.fetch(tx, keys, *scope):
        policies[fingerprint.hex()].append(policy)
    return policies


def _registered(row: Row) -> tuple[Registration, Certificate]:
    own, certificate = split_content(row)
    return REGISTRATIONS.load(own), certificate


def _certificate(registration: Registration, certificate: Certificate, policies: Sequence[str]) -> Json:
    return {
        "id": certificate.fingerprint,
        "pem": certificate.pem,
        "status": registration.status,
        "mode": registration.mode,
        "ca": registration.ca,
        "created_at": to_micros(registration.created_at),
        "policies": sorted(policies),
    }


async def _registries(tx: Transaction, scope: Scope, _parent: str, after: str) -> Json:
    found = await REGISTRIES.page(tx, scope.account, after=after, limit=_OWNERS_AT_ONCE)
    further = [{"log_options": each.log_options, "disabled": each.disabled} for each in found]
    return page_of_rows(
        [(each.id, {**await _owner(tx, each), **more}) for each, more in zip(found, further, strict=True)],
        _OWNERS_AT_ONCE,
    )


async def _brokers(tx: Transaction, scope: Scope, _parent: str, after: str) -> Json:
    found = await BROKERS.page(tx, scope.account, after=after, limit=_OWNERS_AT_ONCE)
    return page_of_rows(
        [(each.id, {**await _owner(tx, each), "log_options": each.log_options}) for each in found], _OWNERS_AT_ONCE
    )


async def _devices(tx: Transaction, _scope: Scope, parent: str, after: str) -> Json:
    micros, _, id = after.partition(" ")
    rows = await tx.fetch_all(_DEVICES_AFTER, parent, int(micros or -1), id, _OWNERS_AT_ONCE)
    return page_of_rows(
        [
            (
                f"{to_micros(each.created_at)} {each.id}",
                {**await _owner(tx, each), "registry": each.registry, "topic_aliases": each.topic_aliases},
            )
            for each in DEVICES.load_all(rows)
        ],
        _OWNERS_AT_ONCE,
    )


async def _owner(tx: Transaction, owner: Owner) -> Json:
    return {
        "id": owner.id,
        "folder": owner.folder,
        "name": owner.name,
        "description": owner.description,
        "labels": owner.labels,
        "created_at": to_micros(owner.created_at),
        "certificates": [
            {
                "id": bound.certificate.fingerprint,
                "pem": bound.pem,
                "created_at": to_micros(bound.binding.created_at),
                "status": (await REGISTRATIONS.get(tx, *bound.binding.scope, bound.binding.fingerprint)).status,
            }
            for bound in await list_bindings(tx, owner)
        ],
    }


_PAGES: Mapping[str, Read] = {
    "things": _things,
    "certificates": _certificates,
    "registries": _registries,
    "brokers": _brokers,
    "devices": _devices,
    **DEFINITIONS,
}
