"""The account that owns a CA: the first account of this instance that proved to have the CA's key (DEFAULT mode).

AWS allows one account per region. Here all accounts and regions share one MQTT gateway, and the account of a device
that sends no host name is found by the device's CA alone. So all certificates that are registered in DEFAULT mode under
one CA are in one account, even after the CA certificate was deleted.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import structlog
from cryptography import x509

from thingmint.domain.arns import Scope
from thingmint.domain.keys import key_id
from thingmint.services.certificate_contents import drop_content
from thingmint.services.tags import drop_tags
from thingmint.store.table import fingerprint_bytes, id_of, to_micros

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.domain.issuing_ca import OwnAuthorities
    from thingmint.store.engine import Store, Transaction

_BATCH = 1_000  # rows that one transaction changes

_THIS = f"account = $1 AND region = $2 AND certificate = {id_of('$3')}"
# $1 is the key's id. $2 replaces it for a CA certificate that was deleted before older versions stored key ids; it is
# made of the certificate's fingerprint.
_KEY = "key_id IN ($1, $2) AND account <> $3"
_UNDER_IT = (
    "SELECT 1 FROM registrations AS r WHERE r.account = o.account AND r.region = o.region AND r.ca = o.certificate"
)
_IN_DEFAULT_MODE = (
    "EXISTS (SELECT 1 FROM ca_certificates AS c WHERE c.account = o.account AND c.region = o.region "
    "AND c.certificate = o.certificate AND c.mode = 'DEFAULT')"
)
_IS_ANOTHERS = f"SELECT 1 FROM ca_owners AS o WHERE {_KEY} AND ({_IN_DEFAULT_MODE} OR EXISTS ({_UNDER_IT})) LIMIT 1"
_FORGET_OTHERS = f"DELETE FROM ca_owners WHERE {_KEY}"
_INSERT = (
    f"INSERT INTO ca_owners (account, region, certificate, key_id, since) VALUES ($1, $2, {id_of('$3')}, $4, $5) "
    "ON CONFLICT (account, region, certificate) DO UPDATE SET key_id = excluded.key_id"
)
_FORGET = f"DELETE FROM ca_owners WHERE {_THIS}"
_FORGET_UNUSED = (
    f"{_FORGET} AND NOT EXISTS "
    "(SELECT 1 FROM registrations AS r WHERE r.account = $1 AND r.region = $2 AND r.ca = ca_owners.certificate) "
    "AND NOT EXISTS (SELECT 1 FROM ca_certificates AS c "
    "WHERE c.account = $1 AND c.region = $2 AND c.certificate = ca_owners.certificate)"
)

_UNSETTLED = (
    "SELECT o.account, o.region, c.fingerprint, o.since, c.der, "
    f"{_IN_DEFAULT_MODE} OR EXISTS ({_UNDER_IT} AND r.mode = 'DEFAULT') "
    "FROM ca_owners AS o JOIN certificates AS c ON c.id = o.certificate "
    "WHERE o.key_id = '' ORDER BY o.since, o.account, o.region, c.fingerprint LIMIT 100"
)
_UNDER = f"account = $1 AND region = $2 AND ca = {id_of('$3')} AND (created_at, certificate) > ($4, $5)"
_NEXT_UNDER = (
    f"SELECT created_at, certificate FROM registrations WHERE {_UNDER} ORDER BY created_at, certificate LIMIT {_BATCH}"
)
_DEMOTE = (
    f"UPDATE registrations SET mode = 'SNI_ONLY' WHERE {_UNDER} AND (created_at, certificate) <= ($6, $7) "
    "AND mode = 'DEFAULT'"
)
_DEMOTE_CA = f"UPDATE ca_certificates SET mode = 'SNI_ONLY' WHERE {_THIS}"
_DELETE_CA = f"DELETE FROM ca_certificates WHERE {_THIS}"

_log = structlog.get_logger("thingmint.certificates")


async def claim_default_mode(tx: Transaction, scope: Scope, fingerprint: str, key: str, now: datetime) -> bool:
    """Make the account the owner of the CA with that key. False if another account owns it."""
    return await _take(tx, scope, fingerprint, key, to_micros(now))


async def release_ca(tx: Transaction, scope: Scope, fingerprint: str) -> None:
    """Call after deleting the CA certificate or a certificate under it. Once all are deleted, the CA has no owner."""
    await tx.execute(_FORGET_UNUSED, *scope, fingerprint_bytes(fingerprint))
    await drop_content(tx, fingerprint)


async def _take(tx: Transaction, scope: Scope, fingerprint: str, key: str, since: int) -> bool:
    of_others = (key, _key_of_deleted(fingerprint), scope.account)
    if await tx.fetch_one(_IS_ANOTHERS, *of_others):
        return False
    await tx.execute(_FORGET_OTHERS, *of_others)
    await tx.execute(_INSERT, *scope, fingerprint_bytes(fingerprint), key, since)
    return True


def _key_of_deleted(fingerprint: str) -> str:
    return f"of {fingerprint}"


class _Unsettled(NamedTuple):
    account: str
    region: str
    fingerprint: str
    since: int
    der: bytes  # empty if the CA certificate is deleted
    proven: bool

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)

    @property
    def key(self) -> tuple[str, str, bytes]:
        return (*self.scope, fingerprint_bytes(self.fingerprint))


async def settle_ca_owners(store: Store, own: OwnAuthorities) -> None:
    """Find the owners of CAs from older versions, in which several accounts could register a CA in DEFAULT mode. Once.

    The first account keeps the CA. The certificates of the other accounts become SNI_ONLY, which is logged. This
    server's own CAs, which every account could register then, belong to no account: their registrations are deleted.
    """
    while rows := await store.read(lambda tx: tx.fetch_all(_UNSETTLED)):
        for row in rows:
            account, region, fingerprint, *facts = row
            await _settle(store, own, _Unsettled(account, region, fingerprint.hex(), *facts))


async def _settle(store: Store, own: OwnAuthorities, ca: _Unsettled) -> None:
    content = _read(ca.der) if ca.der else None
    is_own = content is not None and own.has_key(content.public_key())
    if ca.proven and not is_own:
        key = key_id(content.public_key()) if content is not None else _key_of_deleted(ca.fingerprint)
        if await store.write(lambda tx: _take(tx, ca.scope, ca.fingerprint, key, ca.since)):
            return
    if ca.proven:
        count = await _demote(store, ca)
    facts = {"account": ca.account, "region": ca.region, "ca": ca.fingerprint}
    if is_own:
        await store.write(lambda tx: _delete_ca(tx, ca))
        _log.warning("ca_certificate_deleted", reason="it is this server's own certificate authority", **facts)
    elif ca.proven:
        reason = "another account had registered the CA in DEFAULT mode before"
        _log.warning("ca_certificate_made_sni_only", reason=reason, certificates=count, **facts)
    await store.write(lambda tx: _forget(tx, ca))


async def _demote(store: Store, ca: _Unsettled) -> int:
    """Make the CA certificate and the certificates under it SNI_ONLY. Returns the number of those certificates."""
    await store.write(lambda tx: tx.execute(_DEMOTE_CA, *ca.key))
    count, after = 0, (0, 0)

    async def body(tx: Transaction) -> tuple[int, tuple[int, int] | None]:
        key = (*ca.key, *after)
        page = await tx.fetch_all(_NEXT_UNDER, *key)
        if not page:
            return 0, None
        created_at, certificate = page[-1]
        return await tx.execute(_DEMOTE, *key, created_at, certificate), (created_at, certificate)

    while True:
        demoted, last = await store.write(body)
        if last is None:
            return count
        count, after = count + demoted, last


async def _delete_ca(tx: Transaction, ca: _Unsettled) -> None:
    await tx.execute(_DELETE_CA, *ca.key)
    await _forget(tx, ca)
    await drop_tags(tx, ca.scope, f"cacert/{ca.fingerprint}")


async def _forget(tx: Transaction, ca: _Unsettled) -> None:
    await tx.execute(_FORGET, *ca.key)
    await drop_content(tx, ca.fingerprint)


def _read(der: bytes) -> x509.Certificate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return x509.load_der_x509_certificate(der)
