"""Accounts, principals and their credentials: making them, and finding them again."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.access.callers import Caller
from thingmint.identity.errors import Unauthenticated
from thingmint.identity.ids import FOLDER, PRINCIPAL, new_id
from thingmint.identity.keys import generate_authorized_key
from thingmint.storage import access as sql
from thingmint.storage.fleet import insert_folder
from thingmint.storage.times import to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from thingmint.access.vault import Vault
    from thingmint.storage.engine import Store, Transaction

__all__ = ["TOKEN_PREFIX", "Directory", "NewCredentials"]

# Tells our tokens' kinds apart, and lets scanners of source code find one that was committed.
TOKEN_PREFIX = "tma_"  # noqa: S105

_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_ADMINISTRATOR = "administrator"


@dataclass(frozen=True, slots=True, repr=False)
class NewCredentials:
    """Shown once, to whoever made the account. The private key is PEM, PKCS#8."""

    account: str
    access_key_id: str
    secret_access_key: str
    api_token: str
    folder: str
    service_account: str
    authorized_key_id: str
    authorized_private_key: str
    authorized_public_key: str
    created_at: datetime


class Directory:
    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault
        # Access keys that were looked up since the store last changed.
        self._known: dict[str, tuple[Caller, str]] = {}
        self._known_at: int | None = None

    async def create_account(self, name: str, regions: Sequence[str], now: datetime) -> NewCredentials:
        """An account with a folder, an administrator and a service account, each with credentials to begin with.

        The administrator has an access key and an API token, the service account an authorized key. Nothing in them
        can be guessed.
        """
        account = f"{secrets.randbelow(9 * 10**11) + 10**11}"  # AWS account ids are 12 digits
        administrator = sql.PrincipalRow(new_id(PRINCIPAL), account, "user", _ADMINISTRATOR, "*")
        service_account = sql.PrincipalRow(new_id(PRINCIPAL), account, "service-account", _ADMINISTRATOR, "*")
        token_id, token_secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        private_pem, public_pem = generate_authorized_key()
        new = NewCredentials(
            account=account,
            access_key_id="AKIA" + "".join(secrets.choice(_BASE32) for _ in range(16)),
            secret_access_key=base64.b64encode(secrets.token_bytes(30)).decode(),
            api_token=f"{TOKEN_PREFIX}{token_id}_{token_secret}",
            folder=new_id(FOLDER),
            service_account=service_account.id,
            authorized_key_id=new_id(PRINCIPAL),
            authorized_private_key=private_pem,
            authorized_public_key=public_pem,
            created_at=now,
        )
        sealed_secret = self._vault.seal(new.secret_access_key, new.access_key_id)
        micros = to_micros(now)

        async def body(tx: Transaction) -> None:
            await sql.insert_account(tx, account, name, micros)
            await sql.add_regions(tx, account, regions)
            await insert_folder(tx, new.folder, account, "default", micros)
            await sql.insert_principal(tx, administrator, micros)
            await sql.insert_access_key(tx, new.access_key_id, administrator.id, sealed_secret, micros)
            await sql.insert_api_token(tx, token_id, administrator.id, _sha256(token_secret), micros)
            await sql.insert_principal(tx, service_account, micros)
            await sql.insert_authorized_key(tx, new.authorized_key_id, service_account.id, public_pem, micros)

        await self._store.write(body)
        return new

    async def developer(self) -> Caller:
        """Who `serve --dev` takes a request without credentials for: the administrator made with the instance."""

        async def body(tx: Transaction) -> Caller:
            principal = await sql.first_principal(tx)
            assert principal is not None, "an instance is made with an administrator"
            return await _caller(tx, principal, "dev")

        return await self._store.read(body)

    async def principal(self, id: str, credential: str) -> Caller:
        """A principal that proved its credential before. Raises Unauthenticated if it is gone."""

        async def body(tx: Transaction) -> Caller:
            principal = await sql.get_principal(tx, id)
            if principal is None:
                raise Unauthenticated("unknown", "The token is not one of this server, or is no longer valid")
            return await _caller(tx, principal, credential)

        return await self._store.read(body)

    async def find_authorized_key(self, id: str) -> tuple[str, str]:
        """A service account's id and the key's public half, in PEM. Raises Unauthenticated."""

        async def body(tx: Transaction) -> tuple[str, str]:
            found = await sql.get_authorized_key(tx, id)
            if found is None:
                raise Unauthenticated("unknown", "The JWT names no key of a service account that is known here")
            return found

        return await self._store.read(body)

    async def find_access_key(self, access_key_id: str) -> tuple[Caller, str]:
        """The key's owner and its secret. Raises Unauthenticated."""

        changes = self._store.changes
        if changes is None or changes != self._known_at:
            self._known.clear()
            self._known_at = changes
        elif access_key_id in self._known:
            return self._known[access_key_id]

        async def body(tx: Transaction) -> tuple[Caller, bytes]:
            found = await sql.get_access_key(tx, access_key_id)
            if found is None:
                raise Unauthenticated("unknown", "The security token included in the request is invalid.")
            sealed_secret, principal = found
            return await _caller(tx, principal, access_key_id), sealed_secret

        caller, sealed_secret = await self._store.read(body)
        self._known[access_key_id] = known = caller, self._vault.open(sealed_secret, access_key_id)
        return known

    async def authenticate_token(self, token: str) -> Caller:
        """The owner of an API token. Raises Unauthenticated, always in the same words."""
        refusal = Unauthenticated("unknown", "The token is not one of this server, or is no longer valid")
        token_id, separator, secret = token.removeprefix(TOKEN_PREFIX).partition("_")
        if not token.startswith(TOKEN_PREFIX) or not separator:
            raise refusal

        async def body(tx: Transaction) -> Caller:
            found = await sql.get_api_token(tx, token_id)
            if found is None or not hmac.compare_digest(found[0], _sha256(secret)):
                raise refusal
            return await _caller(tx, found[1], token_id)

        return await self._store.read(body)


async def _caller(tx: Transaction, principal: sql.PrincipalRow, credential: str) -> Caller:
    return Caller(
        account=principal.account,
        regions=tuple(await sql.list_regions(tx, principal.account)),
        principal=principal.id,
        arn=f"arn:aws:iam::{principal.account}:{principal.kind}/{principal.name}",
        credential=credential,
        permissions=frozenset(principal.permissions.split()),
    )


def _sha256(secret: str) -> bytes:
    # The secret is 256 random bits, so there is nothing that a slow hash would protect.
    return hashlib.sha256(secret.encode()).digest()
