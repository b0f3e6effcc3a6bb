"""What a device's connection needs to know, in few statements. Every value is found along an index."""

# ruff: noqa: S608 - statements are made of the code's own constants
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import orjson

from thingmint.domain.arns import Scope
from thingmint.domain.certificates import Certificate
from thingmint.store.queries import load_queries
from thingmint.store.times import from_micros, to_micros

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from thingmint.store.engine import Transaction


_APPLYING = load_queries("device_policies")["applying"]

# A claim is good as long as its template is there, and is of no later one of its name.
_CLAIMS = (
    "provisioning_claims AS c JOIN provisioning_templates AS t ON t.account = c.account AND t.region = c.region "
    "AND t.name = c.template AND t.generation = c.template_generation"
)
# The oldest first: should two accounts ever have one certificate as proven, what came later changes nothing.
_PLACES = (
    "SELECT c.account, c.region, r.position, CASE WHEN c.mode = 'DEFAULT' THEN 1 ELSE 0 END, c.created_at "
    "FROM registrations AS c JOIN account_regions AS r ON r.account = c.account AND r.region = c.region "
    "WHERE c.fingerprint = $1 AND (c.mode = 'DEFAULT' OR c.account = $2) "
    "UNION ALL SELECT c.account, c.region, r.position, 1, c.created_at "
    f"FROM {_CLAIMS} JOIN account_regions AS r ON r.account = c.account AND r.region = c.region "
    "WHERE c.fingerprint = $1 AND c.expires_at > $3 ORDER BY 5, 1, 2"
)
_SCOPES = (
    "SELECT account, region FROM registrations WHERE fingerprint = $1 "
    f"UNION SELECT c.account, c.region FROM {_CLAIMS} WHERE c.fingerprint = $1 ORDER BY 1, 2 LIMIT $2"
)
_IS_GOOD = (
    "SELECT 1 FROM registrations WHERE account = $1 AND region = $2 AND fingerprint = $3 AND status = 'ACTIVE' "
    f"UNION ALL SELECT 1 FROM {_CLAIMS} "
    "WHERE c.account = $1 AND c.region = $2 AND c.fingerprint = $3 AND c.expires_at > $4 LIMIT 1"
)
_PROVISIONS = "SELECT 1 FROM ca_certificates WHERE mode = 'DEFAULT' AND auto_registration = 1 AND account <> $1 LIMIT 1"
_REGIONS = "SELECT region FROM account_regions WHERE account = $1 ORDER BY position"


@dataclass(frozen=True, slots=True)
class AttachedThing:
    """``exclusive``: the certificate is for this thing alone, whatever the client id."""

    name: str
    type: str | None
    attributes: Mapping[str, str]
    exclusive: bool


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    name: str
    version: int
    document: str


class BoundTo(NamedTuple):
    kind: str
    owner: str


class Claim(NamedTuple):
    template: str
    expires_at: datetime


class Place(NamedTuple):
    """Where a certificate is registered or a claim. ``position`` is the region's in its account: 0 is home."""

    account: str
    region: str
    position: int
    is_proven: bool

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)


async def places_of(tx: Transaction, fingerprint: str, default_account: str | None, now: datetime) -> list[Place]:
    """Those that count for a device which names no host: proven ones, and those of ``default_account``.

    Proven are registrations in DEFAULT mode, which issued certificates are in too, and claims, as long as they last.
    """
    rows = await tx.fetch_all(_PLACES, fingerprint, default_account, to_micros(now))
    return [Place(account, region, position, bool(is_proven)) for account, region, position, is_proven, _ in rows]


async def all_scopes_of(tx: Transaction, fingerprint: str, limit: int) -> list[Scope]:
    """Up to ``limit`` of those that registered the certificate, in whatever mode, or have it as a claim."""
    return [Scope(*row) for row in await tx.fetch_all(_SCOPES, fingerprint, limit)]


async def is_good(tx: Transaction, scope: Scope, fingerprint: str, now: datetime) -> bool:
    """Whether the certificate is ACTIVE, or a claim that lasts."""
    return await tx.fetch_one(_IS_GOOD, *scope, fingerprint, to_micros(now)) is not None


async def other_account_provisions(tx: Transaction, account: str) -> bool:
    """Whether a CA in DEFAULT mode of another one registers devices by itself."""
    return await tx.fetch_one(_PROVISIONS, account) is not None


async def regions_of(tx: Transaction, account: str) -> list[str]:
    """The first is its home."""
    return [region for (region,) in await tx.fetch_all(_REGIONS, account)]


async def content_owner_and_claim(
    tx: Transaction, scope: Scope, fingerprint: str
) -> tuple[Certificate | None, BoundTo | None, Claim | None]:
    """What there is about a certificate besides its registration."""
    row = await tx.fetch_one(
        "SELECT c.der, c.not_before, c.not_after, b.kind, b.owner, t.name, p.expires_at FROM accounts AS a "
        "LEFT JOIN certificates AS c ON c.fingerprint = $3 "
        "LEFT JOIN bindings AS b ON b.account = $1 AND b.region = $2 AND b.fingerprint = $3 "
        "LEFT JOIN provisioning_claims AS p ON p.account = $1 AND p.region = $2 AND p.fingerprint = $3 "
        "LEFT JOIN provisioning_templates AS t ON t.account = $1 AND t.region = $2 AND t.name = p.template "
        "AND t.generation = p.template_generation "
        "WHERE a.id = $1",
        *scope,
        fingerprint,
    )
    if row is None:
        return None, None, None
    der, not_before, not_after, kind, owner, template, expires_at = row
    return (
        Certificate(der, fingerprint, from_micros(not_before), from_micros(not_after)) if der is not None else None,
        BoundTo(kind, owner) if kind is not None else None,
        Claim(template, from_micros(expires_at)) if template is not None else None,
    )


async def attached_thing(tx: Transaction, scope: Scope, fingerprint: str, client_id: str) -> AttachedThing | None:
    """The thing that the certificate is for alone, else the one of that name if the certificate is attached to it."""
    row = await tx.fetch_one(
        "SELECT t.name, t.type, t.attributes, p.exclusive FROM thing_principals AS p "
        "JOIN things AS t ON t.account = $1 AND t.region = $2 AND t.name = p.thing "
        "WHERE p.account = $1 AND p.region = $2 AND p.fingerprint = $3 AND (p.exclusive = 1 OR p.thing = $4) "
        "ORDER BY p.exclusive DESC LIMIT 1",
        *scope,
        fingerprint,
        client_id,
    )
    return AttachedThing(row[0], row[1], orjson.loads(row[2]), bool(row[3])) if row else None


async def applying_policies(
    tx: Transaction, scope: Scope, fingerprint: str, thing: str | None
) -> tuple[tuple[PolicyDocument, ...], frozenset[str]]:
    """The default versions of the certificate's policies and, for a thing, of its groups' and all above, by name.

    And the names of those groups.
    """
    rows = await tx.fetch_all(_APPLYING, *scope, fingerprint, thing)
    documents = {
        name: PolicyDocument(name, version, document) for _, _, name, version, document in rows if name is not None
    }
    groups = frozenset(target for kind, target, *_ in rows if kind == "thinggroup")
    return tuple(documents[name] for name in sorted(documents)), groups


async def account_settings(tx: Transaction, account: str) -> dict[str, str]:
    """Those that differ from their defaults."""
    return dict(await tx.fetch_all("SELECT name, value FROM account_settings WHERE account = $1", account))


async def keep_account_setting(tx: Transaction, account: str, name: str, value: str | None) -> None:
    """None is for its default, which is not kept."""
    await tx.execute("DELETE FROM account_settings WHERE account = $1 AND name = $2", account, name)
    if value is not None:
        await tx.execute(
            "INSERT INTO account_settings (account, name, value) VALUES ($1, $2, $3)", account, name, value
        )
