"""Which device or registry a certificate is bound to, in SQL."""

from __future__ import annotations

import hashlib
import ssl
from typing import TYPE_CHECKING

from thingmint.domain.fleet import Binding
from thingmint.domain.registration import Scope
from thingmint.store.times import from_micros, to_micros

if TYPE_CHECKING:
    from thingmint.store.engine import Row, Transaction

__all__ = ["count_bindings", "delete_binding", "get_binding", "insert_binding", "list_bindings"]

_BINDING = (
    "SELECT b.account, b.region, b.fingerprint, b.kind, b.owner, b.submitted_pem, b.made_registration, b.created_at, "
    "c.der FROM bindings AS b JOIN certificates AS c ON c.fingerprint = b.fingerprint "
)


async def insert_binding(tx: Transaction, binding: Binding, canonical_pem: str) -> bool:
    """False if the certificate is bound in that account already."""
    inserted = await tx.execute(
        "INSERT INTO bindings "
        "(account, region, fingerprint, kind, owner, submitted_pem, made_registration, created_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (account, fingerprint) DO NOTHING",
        *binding.scope,
        binding.fingerprint,
        binding.kind,
        binding.owner,
        binding.pem if binding.pem != canonical_pem else None,
        int(binding.made_registration),
        to_micros(binding.created_at),
    )
    return inserted == 1


async def get_binding(tx: Transaction, account: str, fingerprint: str) -> Binding | None:
    row = await tx.fetch_one(_BINDING + "WHERE b.account = $1 AND b.fingerprint = $2", account, fingerprint)
    return _binding(row) if row else None


async def list_bindings(tx: Transaction, owner: str) -> list[Binding]:
    rows = await tx.fetch_all(_BINDING + "WHERE b.owner = $1 ORDER BY b.created_at, b.fingerprint", owner)
    return [_binding(row) for row in rows]


async def count_bindings(tx: Transaction, owner: str) -> int:
    row = await tx.fetch_one("SELECT count(*) FROM bindings WHERE owner = $1", owner)
    return int(row[0]) if row else 0


async def delete_binding(tx: Transaction, account: str, fingerprint: str) -> None:
    await tx.execute("DELETE FROM bindings WHERE account = $1 AND fingerprint = $2", account, fingerprint)


def _binding(row: Row) -> Binding:
    account, region, fingerprint, kind, owner, submitted_pem, made_registration, created_at, der = row
    return Binding(
        scope=Scope(account, region),
        fingerprint=fingerprint,
        sha1=hashlib.sha1(der, usedforsecurity=False).hexdigest(),
        kind=kind,
        owner=owner,
        pem=submitted_pem if submitted_pem is not None else ssl.DER_cert_to_PEM_cert(der),
        made_registration=bool(made_registration),
        created_at=from_micros(created_at),
    )
