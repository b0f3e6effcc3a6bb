"""Accounts' certificate authorities, and their registration codes, in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from thingmint.domain.authorities import AuthorityStatus, RegisteredAuthority, RegistrationConfig
from thingmint.domain.certificates import Certificate
from thingmint.domain.registration import Scope
from thingmint.store.certificates import drop_content, insert_certificate
from thingmint.store.times import from_micros, to_micros

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.store.engine import Row, Transaction

__all__ = [
    "Standing",
    "count_of_subject",
    "delete_authority",
    "delete_code",
    "get_authority",
    "get_code",
    "insert_authority",
    "insert_code",
    "is_owned",
    "list_authorities",
    "list_of_subject",
    "standing_of",
    "update_authority",
]

_AUTHORITY = (
    "SELECT a.account, a.region, a.fingerprint, c.der, c.not_before, c.not_after, a.subject, a.status, a.mode, "
    "a.auto_registration, a.template_body, a.template_name, a.role_arn, a.generation, a.version, a.created_at, "
    "a.modified_at FROM ca_certificates AS a JOIN certificates AS c ON c.fingerprint = a.fingerprint "
)


class Standing(NamedTuple):
    """What those with certificates of an authority hang on."""

    status: AuthorityStatus
    not_before: datetime
    not_after: datetime


async def insert_authority(tx: Transaction, authority: RegisteredAuthority) -> bool:
    """False if that one is registered in that scope already."""
    await insert_certificate(tx, authority.certificate)
    inserted = await tx.execute(
        "INSERT INTO ca_certificates (account, region, fingerprint, subject, status, mode, auto_registration, "
        "template_body, template_name, role_arn, generation, version, created_at, modified_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) "
        "ON CONFLICT (account, region, fingerprint) DO NOTHING",
        *authority.scope,
        authority.fingerprint,
        authority.subject,
        authority.status,
        authority.mode,
        int(authority.auto_registration),
        *_config_row(authority.config),
        authority.generation,
        authority.version,
        to_micros(authority.created_at),
        to_micros(authority.modified_at),
    )
    return inserted == 1


async def get_authority(tx: Transaction, scope: Scope, fingerprint: str) -> RegisteredAuthority | None:
    row = await tx.fetch_one(
        _AUTHORITY + "WHERE a.account = $1 AND a.region = $2 AND a.fingerprint = $3", *scope, fingerprint
    )
    return _authority(row) if row else None


async def standing_of(tx: Transaction, scope: Scope, fingerprint: str) -> Standing | None:
    row = await tx.fetch_one(
        "SELECT a.status, c.not_before, c.not_after FROM ca_certificates AS a "
        "JOIN certificates AS c ON c.fingerprint = a.fingerprint "
        "WHERE a.account = $1 AND a.region = $2 AND a.fingerprint = $3",
        *scope,
        fingerprint,
    )
    return Standing(AuthorityStatus(row[0]), from_micros(row[1]), from_micros(row[2])) if row else None


async def list_of_subject(
    tx: Transaction, scope: Scope | None, subject: bytes, limit: int
) -> list[RegisteredAuthority]:
    """Up to ``limit`` of them, the oldest first; of all accounts without ``scope``."""
    within = "AND a.account = $3 AND a.region = $4 " if scope else ""
    rows = await tx.fetch_all(
        f"{_AUTHORITY}WHERE a.subject = $1 {within}ORDER BY a.created_at, a.account, a.region, a.fingerprint LIMIT $2",
        subject,
        limit,
        *(scope or ()),
    )
    return [_authority(row) for row in rows]


async def count_of_subject(tx: Transaction, scope: Scope, subject: bytes) -> int:
    row = await tx.fetch_one(
        "SELECT count(*) FROM ca_certificates WHERE account = $1 AND region = $2 AND subject = $3", *scope, subject
    )
    return int(row[0]) if row else 0


async def is_owned(tx: Transaction, region: str, fingerprint: str) -> bool:
    """Whether an account has it there in the mode DEFAULT, which one alone may."""
    row = await tx.fetch_one(
        "SELECT 1 FROM ca_certificates WHERE fingerprint = $1 AND region = $2 AND mode = 'DEFAULT' LIMIT 1",
        fingerprint,
        region,
    )
    return row is not None


async def list_authorities(
    tx: Transaction,
    scope: Scope,
    *,
    template: str | None,
    limit: int,
    ascending: bool,
    after: tuple[int, str] | None,
) -> list[RegisteredAuthority]:
    """Up to ``limit`` of them by age, beyond the (microseconds, fingerprint) that ``after`` names.

    With ``template``, those whose devices are provisioned by the one of that name.
    """
    comparison, direction = (">", "ASC") if ascending else ("<", "DESC")
    beyond = f"AND (a.created_at, a.fingerprint) {comparison} ($5, $6) " if after else ""
    rows = await tx.fetch_all(
        f"{_AUTHORITY}WHERE a.account = $1 AND a.region = $2 "
        f"AND (CAST($4 AS TEXT) IS NULL OR a.template_name = $4) {beyond}"
        f"ORDER BY a.created_at {direction}, a.fingerprint {direction} LIMIT $3",
        *scope,
        limit,
        template,
        *(after or ()),
    )
    return [_authority(row) for row in rows]


async def update_authority(tx: Transaction, authority: RegisteredAuthority) -> None:
    await tx.execute(
        "UPDATE ca_certificates SET status = $4, auto_registration = $5, template_body = $6, template_name = $7, "
        "role_arn = $8, version = $9, modified_at = $10 WHERE account = $1 AND region = $2 AND fingerprint = $3",
        *authority.scope,
        authority.fingerprint,
        authority.status,
        int(authority.auto_registration),
        *_config_row(authority.config),
        authority.version,
        to_micros(authority.modified_at),
    )


async def delete_authority(tx: Transaction, scope: Scope, fingerprint: str) -> None:
    """And the content with the last claim on it."""
    await tx.execute(
        "DELETE FROM ca_certificates WHERE account = $1 AND region = $2 AND fingerprint = $3", *scope, fingerprint
    )
    await drop_content(tx, fingerprint)


async def get_code(tx: Transaction, scope: Scope) -> str | None:
    row = await tx.fetch_one("SELECT code FROM registration_codes WHERE account = $1 AND region = $2", *scope)
    return row[0] if row else None


async def insert_code(tx: Transaction, scope: Scope, code: str) -> None:
    """Unless there is one."""
    await tx.execute(
        "INSERT INTO registration_codes (account, region, code) VALUES ($1, $2, $3) "
        "ON CONFLICT (account, region) DO NOTHING",
        *scope,
        code,
    )


async def delete_code(tx: Transaction, scope: Scope) -> bool:
    return await tx.execute("DELETE FROM registration_codes WHERE account = $1 AND region = $2", *scope) == 1


def _config_row(config: RegistrationConfig | None) -> tuple[str | None, str | None, str | None]:
    return (config.template_body, config.template_name, config.role_arn) if config else (None, None, None)


def _authority(row: Row) -> RegisteredAuthority:
    account, region, fingerprint, der, not_before, not_after, subject, status, mode, automatic, *rest = row
    body, template, role, generation, version, created_at, modified_at = rest
    return RegisteredAuthority(
        scope=Scope(account, region),
        certificate=Certificate(der, fingerprint, from_micros(not_before), from_micros(not_after)),
        subject=subject,
        status=AuthorityStatus(status),
        mode=mode,
        auto_registration=bool(automatic),
        config=RegistrationConfig(body, template, role) if body is not None or template is not None else None,
        generation=generation,
        version=version,
        created_at=from_micros(created_at),
        modified_at=from_micros(modified_at),
    )
