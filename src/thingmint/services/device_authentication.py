"""Authenticates devices, in the same way for all listeners.

The decision has three parts: which account has the device, whether its certificate is valid, and whether its policies
allow it to connect. A listener passes an AuthenticationRequest, and converts the result to an answer in its protocol.
"""

from __future__ import annotations

import functools
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import orjson

from thingmint.domain.certificates import key_flaw
from thingmint.domain.errors import MalformedPolicy, Throttled
from thingmint.domain.ids import has_form_of_id
from thingmint.domain.status import Status
from thingmint.domain.yandex_topics import TopicOwner
from thingmint.services.authentication_decisions import (
    Accepted,
    AcceptedOwner,
    Rejected,
    RejectionReason,
    client_id_flaw,
    password_flaw,
)
from thingmint.services.ca_certificates import CaStatus
from thingmint.services.compiled_policies import PolicySet, PolicySets, read_documents
from thingmint.services.device_facts import BoundTo, look_up
from thingmint.services.device_permissions import DeviceContext, DevicePermissions
from thingmint.services.owner_authentication import PasswordLogin
from thingmint.services.thing_types import propagated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.domain.certificates import Certificate
    from thingmint.domain.messages import UserProperties
    from thingmint.services.authentication_decisions import AuthenticationRequest, Decision
    from thingmint.services.ca_certificates import CaState
    from thingmint.services.compiled_policies import PolicyKey
    from thingmint.services.device_facts import AttachedThing, Dependency, DeviceFacts, LookUp, NoHostName
    from thingmint.services.hostnames import HostNames
    from thingmint.services.owner_authentication import OwnerAuthenticator
    from thingmint.store.engine import Store


class JitRegistrar(Protocol):
    async def __call__(self, request: AuthenticationRequest, where: Scope | NoHostName) -> Rejected | None:
        """Return the refusal; None if the certificate is not registered just in time. Raises Unavailable."""
        ...


def first_dependencies(fingerprint: str | None) -> Sequence[Dependency]:
    """Return the dependencies of a decision before the certificate's account is known."""
    return [("", "", "certificate", fingerprint)] if fingerprint is not None else []


class DeviceAuthenticator:
    """``default_account`` gets the devices that send no account's host name and whose certificates no account has
    proven to own. ``jit_registration`` handles certificates that may be registered just in time, or that wait for
    activation. ``policy_sets`` must follow the change feed. Without ``owners`` the rules of Yandex IoT Core never hold.
    """

    def __init__(
        self,
        store: Store,
        host_names: HostNames,
        clock: Callable[[], datetime],
        default_account: str | None = None,
        jit_registration: JitRegistrar | None = None,
        policy_sets: PolicySets | None = None,
        owners: OwnerAuthenticator | None = None,
    ) -> None:
        self._store = store
        self._policy_sets = PolicySets() if policy_sets is None else policy_sets
        self._host_names = host_names
        self._clock = clock
        self._default_account = default_account
        self._jit_registration = jit_registration
        self._owners = owners

    async def authenticate(self, request: AuthenticationRequest) -> Decision:
        """Authenticate a device that connects, and register it just in time if possible. Raises Unavailable."""
        scope, as_owner = self._host_names.scope_of(request.host_name), self.may_be_owner(request)
        by_password = as_owner and request.user_name is not None
        if request.fingerprint is None and not by_password:
            return Rejected(RejectionReason.NOT_AUTHORIZED, "no client certificate was presented")
        if request.client_id is not None and (flaw := client_id_flaw(request.client_id)):
            return Rejected(RejectionReason.CLIENT_ID, f"the client id {flaw}")
        login = await self._by_password(request, scope) if by_password else None
        if login is not None:
            return login
        decision = await self._decide(request, scope, self._jit_registration)
        if by_password and isinstance(decision, Rejected) and decision.scope is None:
            return await self._as_wrong_password(request) or decision
        return decision

    async def reauthenticate(self, request: AuthenticationRequest, scope: Scope) -> Decision:
        """Authenticate a connected device again, in ``scope``, whatever other accounts do. Raises Unavailable."""
        if request.password_id is None:
            return await self._decide(request, scope, None)
        assert self._owners is not None and request.user_name is not None  # noqa: PT018 - one state
        owner = await self._owners.still_logged_in(scope.account, request.user_name, request.password_id)
        if owner is None:
            return Rejected(RejectionReason.PASSWORD, "the password was deleted", scope)
        return _accept_password(PasswordLogin(owner, request.password_id))

    async def preview(self, request: AuthenticationRequest, scope: Scope | None) -> tuple[LookUp, Decision]:
        """Return what is known of a certificate, and the decision if its device connected now. Changes nothing.

        ``scope`` is that of the host name, or where the certificate is looked for instead. Raises Unavailable.
        """
        assert request.fingerprint is not None
        scope = scope or self._host_names.scope_of(request.host_name)
        found = await self._look_up(request, scope)
        if request.client_id is not None and (flaw := client_id_flaw(request.client_id)):
            return found, Rejected(RejectionReason.CLIENT_ID, f"the client id {flaw}")
        return found, await self._decide(request, scope, None)

    def may_be_owner(self, request: AuthenticationRequest) -> bool:
        """False under a host name of AWS IoT, where AWS's rules always hold."""
        host_name = request.host_name
        is_of_aws = self._host_names.scope_of(host_name) is not None and not self._host_names.is_yandex(host_name)
        return self._owners is not None and not is_of_aws

    async def _by_password(
        self, request: AuthenticationRequest, scope: Scope | None
    ) -> AcceptedOwner | Rejected | None:
        """None if AWS's rules hold: no account has the host name, no owner the certificate or the user name as its id.

        The account is that of the host name, else that of the certificate, else the default account.
        """
        owners, user_name = self._owners, request.user_name
        assert owners is not None and user_name is not None  # noqa: PT018 - the caller has looked
        if scope is not None:
            return await self._log_in(request, scope.account)
        device = (await self._look_up(request, None)).device if request.fingerprint is not None else None
        account = device.scope.account if device is not None else self._default_account
        if account is None:
            return None
        is_bound = device is not None and device.bound_to is not None
        if request.fingerprint is None or is_bound or await owners.find(account, user_name) is not None:
            return await self._log_in(request, account)
        return None

    async def _as_wrong_password(self, request: AuthenticationRequest) -> AcceptedOwner | Rejected | None:
        """The answer to an unknown certificate with an unknown id: that to an id with a wrong password, as slowly.

        Else any certificate would serve to find out which ids there are.
        """
        if self._default_account is None or not has_form_of_id(request.user_name or ""):
            return None
        return await self._log_in(request, self._default_account)

    async def _log_in(self, request: AuthenticationRequest, account: str) -> AcceptedOwner | Rejected:
        owners, user_name = self._owners, request.user_name
        assert owners is not None and user_name is not None  # noqa: PT018 - the caller has looked
        try:
            login = await owners.log_in(account, user_name, request.password or "", request.address)
        except Throttled as error:
            return Rejected(RejectionReason.BUSY, str(error))
        if isinstance(login, PasswordLogin):
            return _accept_password(login)
        if login is not None:
            why = password_flaw(login.kind, login.id, request.password)
            return Rejected(RejectionReason.PASSWORD, why, claimed=(login.scope, login.resource))
        what = user_name if has_form_of_id(user_name) else "of the user name"
        return Rejected(RejectionReason.PASSWORD, f"no device, registry or broker has the id {what}")

    async def _decide(self, request: AuthenticationRequest, scope: Scope | None, jit: JitRegistrar | None) -> Decision:
        is_yandex = self._host_names.is_yandex(request.host_name)
        while True:
            found = await self._look_up(request, scope)
            for where in found.jit if jit is not None and not is_yandex else ():
                assert jit is not None
                rejected = await jit(request, where)
                if rejected is not None:
                    return rejected
            device = found.device
            if device is None:
                return self._unknown(request, found.elsewhere)
            flaw, expires_at = certificate_flaw(device, self._clock())
            if flaw is not None:
                bound_to = device.bound_to if self.may_be_owner(request) else None
                return Rejected(
                    RejectionReason.NOT_AUTHORIZED, flaw, device.scope, facts=_ca_facts(device), bound_to=bound_to
                )
            if device.bound_to is not None and self.may_be_owner(request):
                return _accept_certificate(device, device.bound_to)
            if is_yandex:
                why = "the certificate is bound to no device, registry or broker"
                return Rejected(RejectionReason.NOT_AUTHORIZED, why, device.scope)
            try:
                policies = await self._policies(device.policy_key)
            except MalformedPolicy as error:
                why, thing = f"a policy cannot be read: {error}", _exclusive_thing(device)
                return Rejected(RejectionReason.NOT_AUTHORIZED, why, device.scope, unauthorized=True, thing=thing)
            if policies is not None:
                return self._authorize(request, device, policies, expires_at)

    async def _look_up(self, request: AuthenticationRequest, scope: Scope | None) -> LookUp:
        assert request.fingerprint is not None
        default, named = self._default_account, request.client_id or request.thing
        return await look_up(self._store, request.fingerprint, scope, default, named, self._clock())

    def _unknown(self, request: AuthenticationRequest, elsewhere: Sequence[Scope]) -> Rejected:
        if not elsewhere:
            return Rejected(RejectionReason.NOT_AUTHORIZED, f"no certificate {request.fingerprint} is registered")
        why = f"no account has certificate {request.fingerprint} without a host name"
        advice = self._host_names.advice(elsewhere)
        return Rejected(RejectionReason.NOT_AUTHORIZED, f"{why}: {advice}", facts={"certificate": request.fingerprint})

    async def _policies(self, key: PolicyKey) -> PolicySet | None:
        """Return the policies; None if one has changed since ``key`` was read. Raises MalformedPolicy."""
        known = self._policy_sets.find(key)
        if known is not None:
            return known
        documents = await self._store.read(lambda tx: read_documents(tx, key))
        return await self._policy_sets.compile(key, documents) if documents is not None else None

    def _authorize(
        self, request: AuthenticationRequest, device: DeviceFacts, policies: PolicySet, expires_at: datetime | None
    ) -> Accepted | Rejected:
        scope, facts = device.scope, _ca_facts(device)
        context = context_of(request, device)
        permissions = DevicePermissions(policies, context.variables(policies.mentions), self._clock)
        if request.connecting is not None:
            assert request.client_id is not None, "a device that opens a session has a client id"
            refusal = permissions.connect(request.client_id, context)
            if refusal is not None:
                explain = functools.partial(permissions.explain, refusal)
                return Rejected(
                    RejectionReason.NOT_AUTHORIZED,
                    str(refusal.decision),
                    scope,
                    explain,
                    facts,
                    unauthorized=True,
                    thing=_exclusive_thing(device),
                )
        thing = device.thing
        return Accepted(
            scope,
            device.fingerprint,
            device.registration,
            thing.name if thing is not None else None,
            device.settings,
            permissions,
            _dependencies(device),
            expires_at,
            facts,
            device.bound_to.owner if device.bound_to is not None else None,
            _propagated(thing, request.client_id) if thing is not None else (),
            _exclusive_thing(device) is not None,
        )


def _exclusive_thing(device: DeviceFacts) -> str | None:
    return device.thing.name if device.thing is not None and device.thing.exclusive else None


def _accept_certificate(device: DeviceFacts, bound: BoundTo) -> AcceptedOwner:
    topics = TopicOwner(bound.kind, bound.owner, bound.registry or "", orjson.loads(bound.aliases))
    return AcceptedOwner(device.scope, topics, device.fingerprint, None, _dependencies(device))


def _accept_password(login: PasswordLogin) -> AcceptedOwner | Rejected:
    owner = login.owner
    if owner.flaw is not None:
        bound_to = BoundTo(owner.topics.kind, owner.topics.id, owner.topics.registry or None)
        claimed = (owner.scope, owner.resource)
        return Rejected(RejectionReason.NOT_AUTHORIZED, owner.flaw, owner.scope, bound_to=bound_to, claimed=claimed)
    return AcceptedOwner(owner.scope, owner.topics, None, login.password_id, owner.dependencies)


def certificate_flaw(device: DeviceFacts, now: datetime) -> tuple[str | None, datetime | None]:
    """Return what is wrong with the certificate, or None and the time when its validity ends."""
    if device.registration is None:
        assert device.claim is not None
        ended = device.claim.expires_at <= now
        return ("the claim has expired" if ended else None), device.claim.expires_at
    status, settings = device.registration.status, device.settings
    if status is not Status.ACTIVE:
        return f"the certificate is {status}, not ACTIVE", None
    if device.bound_to is not None and device.bound_to.disabled:
        return f"registry {device.bound_to.registry} is disabled", None
    certificate = device.certificate
    assert certificate is not None, "a registration refers to its certificate"
    if flaw := key_flaw(certificate.der, weak_keys=settings.weak_keys):
        return f"the certificate has {flaw}", None
    gates = settings.ca_status_gates_devices and device.registration.ca is not None
    ca_state = device.ca_state if gates else None
    if gates:
        if ca_state is None:
            return "the certificate's CA certificate was deleted", None
        if ca_state.status is not CaStatus.ACTIVE:
            return f"the certificate's CA certificate is {ca_state.status}, not ACTIVE", None
    if device.bound_to is not None or not settings.check_validity:
        return None, None
    if flaw := _validity_flaw(certificate, now):
        return f"the certificate {flaw}", None
    if ca_state is None:
        return None, certificate.not_after
    if flaw := _validity_flaw(ca_state, now):
        return f"the certificate's CA certificate {flaw}", None
    return None, min(certificate.not_after, ca_state.not_after)


def _validity_flaw(of: Certificate | CaState, now: datetime) -> str | None:
    if now < of.not_before:
        return f"is not valid before {of.not_before.isoformat()}"
    if now > of.not_after:
        return f"ended on {of.not_after.isoformat()}"
    return None


def _propagated(thing: AttachedThing, client_id: str | None) -> UserProperties:
    return propagated(thing.propagating, client_id or "", thing.name, thing.attributes)


def _dependencies(device: DeviceFacts) -> Sequence[Dependency]:
    gated = device.settings.ca_status_gates_devices
    return [each for each in device.dependencies if gated or each[2] != "ca"]


def _ca_facts(device: DeviceFacts) -> Mapping[str, object] | None:
    """Return the facts about the CA certificate for the log of a refusal, even if the CA is not the reason."""
    if device.registration is None or device.registration.ca is None:
        return None
    status = device.ca_state.status.value if device.ca_state is not None else "DELETED"
    return _facts(status, device.settings.ca_status_gates_devices)


@functools.cache  # only a few different ones, which many connections share
def _facts(status: str, gates: bool) -> Mapping[str, object]:
    return MappingProxyType({"ca_status": status, "ca_status_gates_devices": gates})


def context_of(request: AuthenticationRequest, device: DeviceFacts) -> DeviceContext:
    """Return the facts about the device, and about its connection as far as ``request`` has them.

    A device that names neither a client id nor a thing has none of a thing's variables, even if its certificate belongs
    to one thing exclusively.
    """
    is_named = request.client_id is not None or request.thing is not None
    return DeviceContext(
        device.thing if is_named else None,
        request.client_id,
        device.certificate.der if device.certificate is not None else request.certificate,
        request.address or None,
        request.host_name,
        request.connecting,
        request.will_topic,
    )
