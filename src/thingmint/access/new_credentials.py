"""Credentials as they are made: what is shown once, and the row that is kept. Nothing in them can be guessed."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.access.directory import TOKEN_PREFIX, secret_sha256
from thingmint.domain.ids import PRINCIPAL, new_id
from thingmint.store.access import CredentialRow
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from thingmint.access.vault import Vault

__all__ = [
    "NewAccessKey",
    "NewAccount",
    "NewAuthorizedKey",
    "NewSession",
    "access_key",
    "api_token",
    "authorized_key",
    "session",
]

_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass(frozen=True, slots=True, repr=False)
class NewAccessKey:
    """Shown once."""

    access_key_id: str
    secret_access_key: str


@dataclass(frozen=True, slots=True, repr=False)
class NewSession:
    """Shown once."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, repr=False)
class NewAuthorizedKey:
    """A service account's key; the private half (PEM, PKCS#8) is shown once and not kept."""

    id: str
    service_account: str
    created_at: datetime
    public_key: str
    private_key: str


@dataclass(frozen=True, slots=True, repr=False)
class NewAccount:
    """An account and the credentials that it begins with, shown once."""

    account: str
    folder: str
    access_key: NewAccessKey
    api_token: str
    authorized_key: NewAuthorizedKey


def access_key(principal: str, vault: Vault, now: datetime) -> tuple[NewAccessKey, CredentialRow]:
    id, secret = "AKIA" + _random_base32(16), _random_secret()
    return NewAccessKey(id, secret), CredentialRow(id, "access-key", principal, vault.seal(secret, id), to_micros(now))


def session(
    principal: str, vault: Vault, now: datetime, *, lifetime: timedelta, policy: str | None
) -> tuple[NewSession, CredentialRow]:
    """``policy`` narrows it down."""
    id, secret, token = "ASIA" + _random_base32(16), _random_secret(), "tms_" + secrets.token_urlsafe(48)
    expires_at = (now + lifetime).replace(microsecond=0)
    row = CredentialRow(
        id=id,
        kind="session",
        principal=principal,
        secret=vault.seal(secret, id),
        created_at=to_micros(now),
        token_sha256=secret_sha256(token),
        policy=policy,
        expires_at=to_micros(expires_at),
    )
    return NewSession(id, secret, token, expires_at), row


def api_token(principal: str, now: datetime, *, policy: str | None, description: str) -> tuple[str, CredentialRow]:
    id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    row = CredentialRow(
        id, "api-token", principal, secret_sha256(secret), to_micros(now), policy=policy, description=description
    )
    return f"{TOKEN_PREFIX}{id}_{secret}", row


def authorized_key(principal: str, now: datetime, pair: tuple[str, str]) -> tuple[NewAuthorizedKey, CredentialRow]:
    """``pair`` is what generate_authorized_key made."""
    id, (private_pem, public_pem) = new_id(PRINCIPAL), pair
    row = CredentialRow(id, "authorized-key", principal, public_pem.encode(), to_micros(now))
    return NewAuthorizedKey(id, principal, now, public_pem, private_pem), row


def _random_base32(length: int) -> str:
    return "".join(secrets.choice(_BASE32) for _ in range(length))


def _random_secret() -> str:
    return base64.b64encode(secrets.token_bytes(30)).decode()
