"""What is asked and answered when a device connects: the request of a listener, and the decision about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.domain.messages import UserProperties
    from thingmint.domain.yandex_topics import TopicOwner
    from thingmint.services.accounts import AccountSettings
    from thingmint.services.device_facts import BoundTo, Dependency, DeviceRegistration
    from thingmint.services.device_permissions import DevicePermissions

# Policies substitute the client id in patterns of ARNs and topics. AWS does not substitute a value with one of these
# characters, so a Deny on ${iot:ClientId} would not apply to it. Such a client id is refused.
_UNUSABLE = frozenset("*$+?#")


class RejectionReason(Enum):
    """Why a device is refused: the reasons for which a listener's answer differs."""

    NOT_AUTHORIZED = auto()
    """The certificate is unknown or not valid, or the policies do not allow the connection."""
    CLIENT_ID = auto()
    TOO_MANY = auto()
    """Too many such requests: the device can try again later."""
    PASSWORD = auto()
    """The user name is unknown, or the password is wrong."""
    BUSY = auto()
    """Too many passwords are being checked, or were wrong."""
    RECONNECT = auto()
    """The device was registered just in time, or waits for activation. AWS closes the connection without an answer."""


@dataclass(frozen=True, slots=True)
class AuthenticationRequest:
    """A listener's data about a device.

    ``fingerprint`` is that of the certificate whose private key the device has proven to have; ``certificate`` is its
    DER, if the listener has it. ``host_name`` is the one in the device's SNI. ``address`` is empty on a Unix socket.
    ``client_id`` is None if the protocol has none. ``connecting`` are AWS's iot:ConnectAttributes; None if the device
    does not open a session, so that iot:Connect is not checked. ``will_topic`` is the topic of the device's will.
    ``password_id`` is the id of the password that was correct when the connection was opened. ``thing`` is the name of
    the thing that the device says it is, in a protocol without client ids.
    """

    fingerprint: str | None
    certificate: bytes | None
    host_name: str | None
    address: str
    client_id: str | None = None
    connecting: tuple[str, ...] | None = None
    will_topic: str | None = None
    user_name: str | None = None
    password: str | None = field(default=None, repr=False)
    password_id: str | None = None
    thing: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """An authenticated device. It has access until ``expires_at``.

    The decision must be made again when one of its ``dependencies`` changes. ``facts`` are for the log and the audit
    log, if that decision is a refusal. ``owner`` is the Yandex device or registry that the certificate is bound to.
    ``propagated`` are added to each message of the device: what the type of its thing propagates.
    ``exclusive``: the certificate is attached to ``thing`` exclusively.
    """

    scope: Scope
    fingerprint: str
    registration: DeviceRegistration | None
    thing: str | None
    settings: AccountSettings
    permissions: DevicePermissions
    dependencies: Sequence[Dependency]
    expires_at: datetime | None
    facts: Mapping[str, object] | None = None
    owner: str | None = None
    propagated: UserProperties = ()
    exclusive: bool = False

    def session_name(self, client_id: str) -> str:
        return session_name(client_id, self.owner)


@dataclass(frozen=True, slots=True)
class AcceptedOwner:
    """An authenticated device, registry or broker under the rules of Yandex IoT Core, where no AWS policy counts.

    ``fingerprint`` or ``password_id`` is what it was authenticated by.
    """

    scope: Scope
    topics: TopicOwner
    fingerprint: str | None
    password_id: str | None
    dependencies: Sequence[Dependency]
    expires_at: datetime | None = None

    @property
    def owner(self) -> str:
        return self.topics.id

    def session_name(self, client_id: str) -> str:
        return session_name(client_id, self.topics.id)


def session_name(client_id: str, owner: str | None) -> str:
    """Return the name of a session, which is unique in its account.

    For Yandex devices, client ids are unique only within the device: Yandex's samples use the same one for all devices.
    No client id contains #.
    """
    return client_id if owner is None else f"{client_id}#{owner}"


def parts_of_session_name(name: str) -> tuple[str, str | None]:
    """Return the client id and the owner in the name of a session."""
    client_id, _, owner = name.partition("#")
    return client_id, owner or None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A refused device. It learns at most ``reason``; ``why``, ``explain`` and ``facts`` are for the operator.

    ``scope`` is the device's account and region, if they are known. ``unauthorized`` if the device was authenticated,
    and its policies do not allow the connection. ``thing`` is then the thing that has the certificate exclusively.
    ``action`` and ``resource`` are what was refused, if it was not the connection itself. ``bound_to`` is the device,
    registry or broker of Yandex IoT Core that was refused. ``claimed`` is the account and the resource of the one
    whose id came with a wrong password: the client has proven nothing, so it is noted, and no event is published.
    """

    reason: RejectionReason
    why: str
    scope: Scope | None = None
    explain: Callable[[], Sequence[str]] = tuple
    facts: Mapping[str, object] | None = None
    unauthorized: bool = False
    thing: str | None = None
    action: str = "Connect"
    resource: str | None = None
    bound_to: BoundTo | None = None
    claimed: tuple[Scope, str] | None = None


Decision = Accepted | AcceptedOwner | Rejected

_WRONG_PASSWORD, _NO_PASSWORD = "the password is wrong for", "no password was sent for"


def password_flaw(kind: str, id: str, password: str | None) -> str:
    return f"{_WRONG_PASSWORD if password else _NO_PASSWORD} {kind} {id}"


def is_password_flaw(reason: str) -> bool:
    return reason.startswith((_WRONG_PASSWORD, _NO_PASSWORD))


def client_id_flaw(client_id: str) -> str | None:
    """Return what is wrong with the client id, as a phrase, or None."""
    if not client_id.isprintable():
        return "has characters that cannot be printed"
    if not _UNUSABLE.isdisjoint(client_id):
        return "has one of * $ + ? #, which policy variables cannot contain"
    return None
