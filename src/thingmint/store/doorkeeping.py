"""What a device's connection needs to know, in few statements. Every value is found along an index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import orjson

from thingmint.domain.arns import Scope
from thingmint.domain.certificates import Certificate
from thingmint.store.queries import load_queries
from thingmint.store.times import from_micros

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from thingmint.store.engine import Transaction


_APPLYING = load_queries("device_policies")["applying"]


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


async def scopes_of(tx: Transaction, fingerprint: str) -> list[Scope]:
    """Wherever the certificate is registered, or is the claim of a provisioning template."""
    rows = await tx.fetch_all(
        "SELECT account, region FROM registrations WHERE fingerprint = $1 "
        "UNION SELECT account, region FROM provisioning_claims WHERE fingerprint = $1 ORDER BY account, region",
        fingerprint,
    )
    return [Scope(*row) for row in rows]


async def content_owner_and_claim(
    tx: Transaction, scope: Scope, fingerprint: str
) -> tuple[Certificate | None, BoundTo | None, Claim | None]:
    """What there is about a certificate besides its registration."""
    row = await tx.fetch_one(
        "SELECT c.der, c.not_before, c.not_after, b.kind, b.owner, p.template, p.expires_at FROM accounts AS a "
        "LEFT JOIN certificates AS c ON c.fingerprint = $3 "
        "LEFT JOIN bindings AS b ON b.account = $1 AND b.region = $2 AND b.fingerprint = $3 "
        "LEFT JOIN provisioning_claims AS p ON p.account = $1 AND p.region = $2 AND p.fingerprint = $3 "
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
