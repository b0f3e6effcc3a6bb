"""Temporary credentials of a role that a device gets by its certificate, through a role alias.

They are not stored: the session token has everything, sealed under the master key. They end with the certificate: each
use decides again, as for a device that asks for new ones. So deactivating the certificate, detaching the policy or the
thing, and deleting the alias or the role take effect at once, in every process.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from thingmint.access.authorization import trusts_service
from thingmint.access.vault import VaultError
from thingmint.domain.arns import Scope, parse_role_arn
from thingmint.domain.errors import DomainError, Unauthenticated
from thingmint.domain.policies import Deny
from thingmint.services.authentication_decisions import Accepted, AuthenticationRequest
from thingmint.services.role_aliases import ROLE_ALIASES
from thingmint.services.things import THINGS
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from thingmint.access.context import Caller
    from thingmint.access.directory import AssumableRole, Directory
    from thingmint.access.vault import Vault
    from thingmint.domain.policies import ContextValue
    from thingmint.services.device_authentication import DeviceAuthenticator
    from thingmint.services.role_aliases import RoleAlias
    from thingmint.store.engine import Store

SERVICE = "credentials.iot.amazonaws.com"
"""The service that a role's trust policy must allow."""

_ACTION: Final = "AssumeRoleWithCertificate"
_PREFIX = "tmd_"
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_UNKNOWN = "The security token included in the request is invalid."
_EXPIRED = "The security token included in the request is expired"


class NoCredentials(DomainError):
    """A device gets no credentials. ``message`` is AWS's text; ``why`` is for the log."""

    def __init__(self, status: int, message: str, why: str, explain: Callable[[], Sequence[str]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.why = why
        self.explain = explain


class DeviceCredentials(NamedTuple):
    """``role`` is the ARN of the role whose permissions they have."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    ends: datetime
    role: str

    def __repr__(self) -> str:
        return f"<credentials {self.access_key_id} until {self.ends}>"


class _Session(NamedTuple):
    """What the session token has. ``alias_made`` and ``ends`` are microseconds; ``thing`` is empty without one."""

    secret: str
    account: str
    region: str
    fingerprint: str
    thing: str
    address: str
    alias: str
    alias_made: int
    role: str
    ends: int

    @property
    def request(self) -> AuthenticationRequest:
        return AuthenticationRequest(self.fingerprint, None, None, self.address, thing=self.thing or None)


class DeviceSessionIssuer:
    """``authenticator`` must not apply the rules of Yandex IoT Core: its devices have no role aliases."""

    def __init__(
        self,
        authenticator: DeviceAuthenticator,
        store: Store,
        directory: Directory,
        vault: Vault,
        clock: Callable[[], datetime],
    ) -> None:
        self._authenticator = authenticator
        self._store = store
        self._directory = directory
        self._vault = vault
        self._clock = clock

    async def authenticate(self, request: AuthenticationRequest) -> Accepted:
        """The device that asks. Raises Unauthenticated, with AWS's text, and Unavailable."""
        decision = await self._authenticator.authenticate(request)
        if isinstance(decision, Accepted):
            return decision
        why = getattr(decision, "why", "the certificate is for Yandex IoT Core")
        raise Unauthenticated("unknown", "Certificate is invalid on this endpoint", why)

    async def issue(self, device: Accepted, request: AuthenticationRequest, alias_name: str) -> DeviceCredentials:
        """Raises NoCredentials and Unavailable."""
        _check(device, request.thing, alias_name)
        alias, role = await self._alias_and_role(device.scope, alias_name)
        if alias is None:
            raise NoCredentials(404, "Role alias does not exist", "there is no such role alias")
        if role is None:
            raise _not_assumed(f"{alias.role_arn} does not exist, or it is disabled")
        if not trusts_service(role, SERVICE, device.scope, alias.arn):
            raise _not_assumed(f"the trust policy of {alias.role_arn} does not allow {SERVICE} to assume it")
        if alias.credential_duration > role.longest:
            message = "The requested CredentialDurationSeconds exceeds the MaxSessionDuration set for the role"
            raise NoCredentials(400, message, f"a session of {alias.role_arn} lasts {role.longest} seconds at most")
        ends = (self._clock() + timedelta(seconds=alias.credential_duration)).replace(microsecond=0)
        if device.expires_at is not None:
            ends = min(ends, device.expires_at.replace(microsecond=0))
        id = "ASIA" + "".join(secrets.choice(_BASE32) for _ in range(16))
        session = _Session(
            secret=base64.b64encode(secrets.token_bytes(30)).decode(),
            account=device.scope.account,
            region=device.scope.region,
            fingerprint=device.fingerprint,
            thing=request.thing or "",
            address=request.address,
            alias=alias_name,
            alias_made=to_micros(alias.created_at),
            role=role.caller.principal,
            ends=to_micros(ends),
        )
        return DeviceCredentials(id, session.secret, self._seal(session, id), ends, role.caller.arn)

    async def find(self, id: str, session_token: str) -> tuple[Caller, str] | None:
        """See DeviceSessions. Decides again whether the device may have the credentials."""
        if not session_token.startswith(_PREFIX):
            return None
        session = self._open(session_token, id)
        if session.ends <= to_micros(self._clock()):
            raise Unauthenticated("expired", _EXPIRED)
        scope = Scope(session.account, session.region)
        decision = await self._authenticator.reauthenticate(session.request, scope)
        if not isinstance(decision, Accepted):
            raise Unauthenticated("unknown", _UNKNOWN, getattr(decision, "why", None))
        try:
            _check(decision, session.thing or None, session.alias)
        except NoCredentials as refusal:
            raise Unauthenticated("unknown", _UNKNOWN, refusal.why) from None
        alias, role = await self._alias_and_role(scope, session.alias)
        if alias is None or to_micros(alias.created_at) != session.alias_made:
            raise Unauthenticated("unknown", _UNKNOWN, f"role alias {session.alias} was deleted")
        if role is None or role.caller.principal != session.role:
            raise Unauthenticated("unknown", _UNKNOWN, f"role alias {session.alias} has another role")
        conditions = await self._conditions(scope, session)
        caller = replace(role.caller, credential=id, session=session.fingerprint, conditions=conditions, is_device=True)
        return caller, session.secret

    async def _alias_and_role(self, scope: Scope, name: str) -> tuple[RoleAlias | None, AssumableRole | None]:
        alias = await self._store.read(lambda tx: ROLE_ALIASES.find(tx, *scope, name))
        if alias is None:
            return None, None
        return alias, await self._directory.role(*parse_role_arn(alias.role_arn, "roleArn"))

    async def _conditions(self, scope: Scope, session: _Session) -> dict[str, ContextValue]:
        conditions: dict[str, ContextValue] = {"credentials-iot:AwsCertificateId": session.fingerprint}
        if session.thing:
            thing = await self._store.read(lambda tx: THINGS.find(tx, *scope, session.thing))
            conditions["credentials-iot:ThingName"] = session.thing
            conditions["credentials-iot:ThingTypeName"] = thing.type if thing is not None else None
        return conditions

    def _seal(self, session: _Session, id: str) -> str:
        return _PREFIX + base64.urlsafe_b64encode(self._vault.seal(orjson.dumps(list(session)).decode(), id)).decode()

    def _open(self, token: str, id: str) -> _Session:
        """Raises Unauthenticated for a token that is not of this server, or not of this access key."""
        try:
            sealed = base64.urlsafe_b64decode(token.removeprefix(_PREFIX))
            return _Session(*orjson.loads(self._vault.open(sealed, id)))
        except (VaultError, binascii.Error, ValueError, TypeError):
            raise Unauthenticated("unknown", _UNKNOWN) from None


def _check(device: Accepted, thing: str | None, alias: str) -> None:
    """Raises NoCredentials unless the thing is the certificate's and the policies allow the action on the alias."""
    if thing is not None and device.thing != thing:
        raise NoCredentials(403, "Invalid thing name passed", "the certificate is not attached to that thing")
    decision = device.permissions.decide(_ACTION, alias)
    if isinstance(decision, Deny):
        raise NoCredentials(403, "Access Denied", str(decision), lambda: device.permissions.explanation(_ACTION, alias))


def _not_assumed(why: str) -> NoCredentials:
    return NoCredentials(400, "Unable to assume the role, or the role to assume does not exist", why)
