"""Certificate authorities that accounts bring along, and the codes by which they show whose they are."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from thingmint.domain.authorities import (
    MAX_SAME_SUBJECT,
    AuthorityStatus,
    RegisteredAuthority,
    check_verification,
    parse_authority,
)
from thingmint.domain.errors import AlreadyExists, Disallowed, Invalid, InvalidState, LimitExceeded, NotFound
from thingmint.domain.template import Kind, parse_template
from thingmint.services.certificates import utc_now
from thingmint.store import authorities as sql
from thingmint.store import templates as templates_sql
from thingmint.store.outbox import announce
from thingmint.store.tags import drop_tags, put_tags
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from thingmint.domain.authorities import RegistrationConfig
    from thingmint.domain.registration import CertificateMode, Scope
    from thingmint.services.markers import Markers
    from thingmint.store.engine import Store, Transaction

__all__ = ["AuthorityChange", "AuthorityRegistry", "NewAuthority"]

_KIND = "CA certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAuthority:
    """Certificates are in PEM. ``verification`` shows that the caller has the authority's key."""

    certificate: str
    verification: str | None
    mode: CertificateMode
    active: bool
    auto_registration: bool
    config: RegistrationConfig | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityChange:
    """None leaves a property as it is. ``remove_registration`` takes away that, and how, devices are registered."""

    status: AuthorityStatus | None = None
    auto_registration: bool | None = None
    config: RegistrationConfig | None = None
    remove_registration: bool = False


class AuthorityRegistry:
    """Every method is one transaction. A fingerprint that is passed in is in canonical form (see parse_fingerprint)."""

    def __init__(self, store: Store, markers: Markers, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._markers = markers
        self._clock = clock

    async def code(self, scope: Scope) -> str:
        """The account's registration code, which stays the same until it is deleted."""

        async def read(tx: Transaction) -> str | None:
            return await sql.get_code(tx, scope)

        known = await self._store.read(read)
        if known is not None:
            return known
        new = secrets.token_hex(32)

        async def body(tx: Transaction) -> str:
            await sql.insert_code(tx, scope, new)
            return await sql.get_code(tx, scope) or new

        return await self._store.write(body)

    async def delete_code(self, scope: Scope) -> None:
        """Verification certificates with it are good for nothing any more. Raises NotFound."""

        async def body(tx: Transaction) -> None:
            if not await sql.delete_code(tx, scope):
                raise NotFound("registration code of account", scope.account)

        await self._store.write(body)

    async def register(self, scope: Scope, new: NewAuthority) -> RegisteredAuthority:
        """Raises InvalidCertificate, WrongRegistrationCode, Disallowed, AlreadyExists, LimitExceeded, and for its
        configuration InvalidTemplate, Invalid and NotFound."""
        _check_mode(new)
        now = self._clock()
        given = parse_authority(new.certificate, "caCertificate", now)
        _check_body(new.config)
        authority = RegisteredAuthority(
            scope=scope,
            certificate=given.certificate,
            subject=given.subject,
            status=AuthorityStatus.ACTIVE if new.active else AuthorityStatus.INACTIVE,
            mode=new.mode,
            auto_registration=new.auto_registration,
            config=new.config,
            generation=str(uuid.uuid4()),
            version=1,
            created_at=now,
            modified_at=now,
        )

        async def body(tx: Transaction) -> RegisteredAuthority:
            if new.verification is not None:
                check_verification(new.verification, given, await sql.get_code(tx, scope))
            await _check_template(tx, scope, new.config)
            if new.mode == "DEFAULT" and await sql.is_owned(tx, scope.region, authority.fingerprint):
                # Whoever asks has the authority's key, so learns nothing of strangers.
                raise AlreadyExists(_KIND, authority.fingerprint, arn=authority.arn)
            if not await sql.insert_authority(tx, authority):
                raise AlreadyExists(_KIND, authority.fingerprint, arn=authority.arn)
            if await sql.count_of_subject(tx, scope, given.subject) > MAX_SAME_SUBJECT:
                raise LimitExceeded(
                    _KIND,
                    authority.fingerprint,
                    f"At most {MAX_SAME_SUBJECT} CA certificates can have the same subject",
                )
            await put_tags(tx, scope, f"cacert/{authority.fingerprint}", new.tags)
            await announce(tx, scope, "ca", authority.fingerprint, now)  # leaves of an earlier time may be there
            tx.audit_resources.append(authority.arn)
            return authority

        return await self._store.write(body)

    async def describe(self, scope: Scope, fingerprint: str) -> RegisteredAuthority:
        """Raises NotFound."""

        async def body(tx: Transaction) -> RegisteredAuthority:
            return await _existing(tx, scope, fingerprint)

        return await self._store.read(body)

    async def list(
        self, scope: Scope, *, template: str | None, limit: int, ascending: bool, marker: str | None
    ) -> tuple[list[RegisteredAuthority], str | None]:
        """A page by age, newest first unless ``ascending``, and the next page's marker.

        With ``template``, those that provision by it. Raises Invalid for a foreign marker.
        """
        listing = f"authorities-{'ascending' if ascending else 'descending'} {template or ''}"
        after = self._markers.open(listing, scope, marker) if marker is not None else None

        async def body(tx: Transaction) -> list[RegisteredAuthority]:
            return await sql.list_authorities(
                tx, scope, template=template, limit=limit + 1, ascending=ascending, after=after
            )

        found = await self._store.read(body)
        page = found[:limit]
        if len(found) == len(page):
            return page, None
        return page, self._markers.seal(listing, scope, (to_micros(page[-1].created_at), page[-1].fingerprint))

    async def update(self, scope: Scope, fingerprint: str, change: AuthorityChange) -> None:
        """A change to what is so already is none. Raises NotFound, Invalid and InvalidTemplate."""
        if change.remove_registration and (change.config is not None or change.auto_registration):
            raise Invalid("removeAutoRegistration", "contradicts what else is asked for")
        _check_body(change.config)
        now = self._clock()

        async def body(tx: Transaction) -> None:
            current = await _existing(tx, scope, fingerprint)
            await _check_template(tx, scope, change.config)
            changed = _changed(current, change)
            if changed == current:
                return
            await sql.update_authority(tx, replace(changed, version=current.version + 1, modified_at=now))
            if changed.status is not current.status:
                await announce(tx, scope, "ca", fingerprint, now)
            tx.audit_resources.append(current.arn)

        await self._store.write(body)

    async def delete(self, scope: Scope, fingerprint: str) -> None:
        """What was registered under it stays, and opens no door. Raises NotFound, and InvalidState while ACTIVE."""
        now = self._clock()

        async def body(tx: Transaction) -> None:
            current = await _existing(tx, scope, fingerprint)
            if current.status is AuthorityStatus.ACTIVE:
                raise InvalidState(
                    _KIND,
                    fingerprint,
                    f"CA Certificate must be deactivated (not ACTIVE) before deletion. Id: {fingerprint}",
                )
            await sql.delete_authority(tx, scope, fingerprint)
            await drop_tags(tx, scope, f"cacert/{fingerprint}")
            await announce(tx, scope, "ca", fingerprint, now)
            tx.audit_resources.append(current.arn)

        await self._store.write(body)


def _check_mode(new: NewAuthority) -> None:
    if new.mode == "DEFAULT" and new.verification is None:
        what = "Need to provide verification certificate for registering CA Certificates in DEFAULT mode"
    elif new.mode == "SNI_ONLY" and new.verification is not None:
        what = "Cannot provide verification certificate for registering CA Certificates in SNI_ONLY mode"
    else:
        return
    raise Disallowed(_KIND, "", what)


def _check_body(config: RegistrationConfig | None) -> None:
    if config is not None and config.template_body is not None:
        parse_template(config.template_body, Kind.JITP)


async def _check_template(tx: Transaction, scope: Scope, config: RegistrationConfig | None) -> None:
    if config is None or config.template_name is None:
        return
    template = await templates_sql.get_template(tx, scope, config.template_name)
    if template is None:
        raise NotFound("provisioning template", config.template_name)
    if template.kind is not Kind.JITP:
        raise Invalid("registrationConfig.templateName", f"must be that of a template of the type {Kind.JITP}")


async def _existing(tx: Transaction, scope: Scope, fingerprint: str) -> RegisteredAuthority:
    authority = await sql.get_authority(tx, scope, fingerprint)
    if authority is None:
        raise NotFound(_KIND, fingerprint)
    return authority


def _changed(current: RegisteredAuthority, change: AuthorityChange) -> RegisteredAuthority:
    if change.remove_registration:
        automatic, config = False, None
    else:
        automatic = current.auto_registration if change.auto_registration is None else change.auto_registration
        config = change.config or current.config
    return replace(current, status=change.status or current.status, auto_registration=automatic, config=config)
