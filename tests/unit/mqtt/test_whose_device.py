"""The account of a device, for all combinations of what two accounts can have of one certificate: at CONNECT, in an
open session, and with just-in-time registration.

The accounts are A and B. What an account has is a column. ``own``: the certificate was issued here for the account.
``DEFAULT``: it is registered under a CA that the account has proven. ``SNI_ONLY``: it is registered without proof.
``binding``: it is bound to a Yandex device. ``claim``: it is a claim certificate. The first three of PROVEN exclude
each other.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass, field
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.issuers import new_issuer, pem
from tests.unit import vectors
from tests.unit.mqtt.test_sessions import Transport
from tests.world import ABROAD, OURS, THEIRS, THIS_CERTIFICATE
from thingmint.access.audit import AuditedStore
from thingmint.access.authorization import Roles
from thingmint.domain.certificates import fingerprint_of
from thingmint.domain.errors import AlreadyExists, InvalidCertificate
from thingmint.mqtt.connected_clients import ConnectedClients
from thingmint.mqtt.connection_index import ConnectionIndex
from thingmint.mqtt.connection_services import Services
from thingmint.mqtt.jit_registration import JitRegistration, jit_throttle
from thingmint.mqtt.peer import Peer
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.limits import AWS_LIMITS
from thingmint.mqtt.protocol.packets import Connect
from thingmint.mqtt.rates import NO_RATES, RateLimit
from thingmint.mqtt.sessions import Session
from thingmint.services.authentication_decisions import Accepted
from thingmint.services.device_authentication import DeviceAuthenticator
from thingmint.services.hostnames import HostNames
from thingmint.store.outbox import published_since
from thingmint.store.table import from_micros

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.issuers import Issuer
    from tests.world import World
    from thingmint.domain.arns import Scope

both_engines = pytest.mark.parametrize("world", ["sqlite", "postgres"], indirect=True)

PROVEN = ("own", "DEFAULT", "claim")
COLUMNS = (*PROVEN, "SNI_ONLY", "binding", "none")
ACCOUNTS = {"A": OURS, "B": THEIRS}
NAMES = {"a.example": "A", "b.example": "B", "shared.example": None, "unknown.example": None, None: None}
DEFAULTS = ("A", "B", None)
HOSTS = HostNames({"a.example": OURS, "b.example": THEIRS})
POLICY = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}'
CLAIMED = json.dumps(
    {
        "Resources": {
            "c": {
                "Type": "AWS::IoT::Certificate",
                "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}},
            }
        }
    }
)


def other(account: str) -> str:
    return "B" if account == "A" else "A"


def expected(has: dict[str, str], name: str | None, default: str | None) -> str | None:
    """Returns the account of a device, by the order in docs/devices.md."""
    named = NAMES[name]
    if named is not None:
        return named if has[named] != "none" else None
    proven = [account for account in ACCOUNTS if has[account] in PROVEN]
    if proven:
        return proven[0]
    return default if default is not None and has[default] != "none" else None


@dataclass
class Accounts:
    """Both accounts, prepared so that certificates can be registered in them."""

    world: World
    root: Issuer
    registries: dict[str, str] = field(default_factory=dict)

    @classmethod
    async def of(cls, world: World) -> Accounts:
        made = cls(world, new_issuer(now=world.clock()))
        for account, scope in ACCOUNTS.items():
            made.registries[account] = await world.registry(scope)
            await world.aws("CreatePolicy", scope, policyName="all", policyDocument=POLICY)
            role = f"arn:aws:iam::{scope.account}:role/r"
            template = {"templateName": "t", "templateBody": CLAIMED, "provisioningRoleArn": role}
            await world.aws("CreateProvisioningTemplate", scope, **template)
        return made

    async def certificate(self, has: dict[str, str]) -> bytes:
        """Returns the DER of a new certificate. For ``own`` and ``claim``, Thingmint issues it to the account."""
        for account, column in has.items():
            if column == "own":
                csr = vectors.csr_pem()
                made = await self.world.aws(
                    "CreateCertificateFromCsr", ACCOUNTS[account], certificateSigningRequest=csr, setAsActive=True
                )
                return await self.allowed(account, made)
            if column == "claim":
                claim = await self.world.aws("CreateProvisioningClaim", ACCOUNTS[account], templateName="t")
                return vectors.to_der(claim["certificatePem"])
        return self.root.sign().public_bytes(Encoding.DER)

    async def add(self, account: str, column: str, der: bytes) -> None:
        """Registers the certificate as ``column`` says, unless it was issued so. Raises the errors of the APIs."""
        text = pem(x509.load_der_x509_certificate(der))
        made: dict[str, Any] | None = None
        scope = ACCOUNTS[account]
        match column:
            case "DEFAULT":
                await self.prove(account)
                made = await self.world.aws("RegisterCertificate", scope, certificatePem=text, status="ACTIVE")
            case "SNI_ONLY":
                made = await self.world.aws("RegisterCertificateWithoutCA", scope, certificatePem=text, status="ACTIVE")
            case "binding":
                device = await self.world.device(self.registries[account], scope)
                await self.world.yandex("DeviceService.AddCertificate", scope, device_id=device, certificate_data=text)
                made = {"certificateArn": f"arn:aws:iot:{scope.region}:{scope.account}:cert/{fingerprint_of(der)}"}
        if made is not None:
            await self.allowed(account, made)

    async def allowed(self, account: str, made: dict[str, Any]) -> bytes:
        await self.world.aws("AttachPolicy", ACCOUNTS[account], policyName="all", target=made["certificateArn"])
        return vectors.to_der(made["certificatePem"]) if "certificatePem" in made else b""

    async def prove(self, account: str, root: Issuer | None = None, **further: Any) -> None:
        """Registers the CA in DEFAULT mode, unless it is registered already."""
        root, scope = root or self.root, ACCOUNTS[account]
        known = await self.world.aws("ListCACertificates", scope, pageSize=250)
        if root.fingerprint not in [each["certificateId"] for each in known["certificates"]]:
            code = (await self.world.aws("GetRegistrationCode", scope))["registrationCode"]
            proof = {"verificationCertificate": pem(root.sign(code)), "setAsActive": True}
            await self.world.aws("RegisterCACertificate", scope, caCertificate=root.pem, **proof, **further)

    def authenticator(self, default: str | None, jit: JitRegistration | None = None) -> DeviceAuthenticator:
        account = ACCOUNTS[default].account if default else None
        return DeviceAuthenticator(self.world.store, HOSTS, self.world.clock, account, jit)

    async def account_of(self, der: bytes, name: str | None, default: str | None) -> str | None:
        decision = await self.authenticator(default).authenticate(peer_of(der, name).request("c", ()))
        if not isinstance(decision, Accepted):
            return None
        return next(account for account, scope in ACCOUNTS.items() if scope == decision.scope)

    async def outcomes(self, der: bytes) -> dict[tuple[str | None, str | None], str | None]:
        return {each: await self.account_of(der, *each) for each in product(NAMES, DEFAULTS)}


def peer_of(der: bytes, name: str | None = None) -> Peer:
    return Peer("192.0.2.7", 4711, fingerprint_of(der), der, sni=name)


@pytest.fixture
async def accounts(world: World) -> Accounts:
    return await Accounts.of(world)


def cells() -> Iterator[tuple[dict[str, str], str]]:
    """Yields what A and B have, and which account was first."""
    for a, b in product(COLUMNS, COLUMNS):
        yield from (({"A": a, "B": b}, first) for first in ACCOUNTS)


def is_possible(has: dict[str, str]) -> bool:
    return not (has["A"] in PROVEN and has["B"] in PROVEN)


@both_engines
async def test_the_account_of_a_connecting_device(accounts: Accounts) -> None:
    """For all possible cells. The result for an account must not depend on the column of the other account."""
    wrong: list[str] = []
    alone: dict[tuple[Any, ...], str | None] = {}
    for has, first in filter(lambda cell: is_possible(cell[0]), cells()):
        accounts.root = new_issuer(now=accounts.world.clock())
        der = await accounts.certificate(has)
        for account in (first, other(first)):
            await accounts.add(account, has[account], der)
        for (name, default), found in (await accounts.outcomes(der)).items():
            cell = f"{has}, {first} first, {name=}, {default=}"
            if found != expected(has, name, default):
                wrong.append(f"{cell}: {found}, not {expected(has, name, default)}")
            for account in ACCOUNTS:
                key = (account, has[account], name, default)
                if has[other(account)] == "none":
                    assert alone.setdefault(key, found) == found, "whoever was first"
    for has, _ in filter(lambda cell: is_possible(cell[0]), cells()):
        for name, default, account in product(NAMES, DEFAULTS, ACCOUNTS):
            is_its = alone[account, has[account], name, default] == account
            stays = expected(has, name, default) == account
            # The exception is a proof: the other account has proven that it owns the certificate.
            if is_its and not stays and has[other(account)] not in PROVEN:
                wrong.append(f"{account} loses its device: {has}, {name=}, {default=}")
            if not is_its and stays:
                wrong.append(f"{account} gains a device: {has}, {name=}, {default=}")
    assert wrong == []


async def test_a_second_account_cannot_prove_the_same_certificate(accounts: Accounts) -> None:
    """The second proof is refused, and changes nothing."""
    wrong: list[str] = []
    for has, first in filter(lambda cell: not is_possible(cell[0]), cells()):
        accounts.root = new_issuer(now=accounts.world.clock())
        one = {first: has[first], other(first): "none"}
        der = await accounts.certificate(one)
        await accounts.add(first, has[first], der)
        before = await accounts.outcomes(der)
        try:
            # A proof comes only with a registration of the CA: here the CA is Thingmint's, or registered already.
            if has[first] == "DEFAULT":
                await accounts.prove(other(first))
            else:
                await _prove_ours(accounts, other(first))
        except (AlreadyExists, InvalidCertificate):
            pass
        else:
            wrong.append(f"{has}, {first} first: not refused")
        if await accounts.outcomes(der) != before:
            wrong.append(f"{has}, {first} first: outcomes changed")
    assert wrong == []


async def _prove_ours(accounts: Accounts, account: str) -> None:
    """Uses a verification certificate that Thingmint signs, as it signs for any device."""
    world, scope = accounts.world, ACCOUNTS[account]
    code = (await world.aws("GetRegistrationCode", scope))["registrationCode"]
    csr = vectors.csr_pem(subject=vectors.name(code))
    proof = await world.aws("CreateCertificateFromCsr", scope, certificateSigningRequest=csr)
    root = pem(world.environment.device_ca.certificate)
    given = {"caCertificate": root, "verificationCertificate": proof["certificatePem"]}
    await world.aws("RegisterCACertificate", scope, **given)


class Device:
    """A connection with all its services, except a socket and a broker."""

    def __init__(
        self, accounts: Accounts, connections: ConnectionIndex, der: bytes, name: str | None, default: str | None
    ) -> None:
        quiet = SimpleNamespace(
            **dict.fromkeys(("connected", "disconnected", "refused", "ended_early", "warn"), _nothing)
        )
        wills = SimpleNamespace(reconnected=_nothing, connection_ended=_nothing, take=_nothing, forget=_nothing)
        services: Any = Services(
            authenticator=accounts.authenticator(default),
            broker=cast("Any", SimpleNamespace(open=_opened)),
            connections=connections,
            clients=ConnectedClients(accounts.world.clock),
            feed=cast("Any", SimpleNamespace(stale=False, fresh_until=math.inf, interruptions=0)),
            wills=cast("Any", wills),
            connection_log=cast("Any", quiet),
            provisioning=None,
            limits=AWS_LIMITS,
            rate_limit=RateLimit(NO_RATES),
            slices=connections.slices,
            clock=accounts.world.clock,
        )
        self.session = Session(services, peer_of(der, name))
        self.transport = Transport()
        self.session.connection.connection_made(self.transport)

    async def connect(self) -> str | None:
        """Returns the account that the session is in."""
        connection = self.session.connection
        connection.data_received(encode(Connect(5, "c"), 5))
        if connection._busy is not None:
            await asyncio.wait([connection._busy])
        return self.account

    @property
    def account(self) -> str | None:
        traffic = self.session._traffic
        if traffic is None or self.transport.closed:
            return None
        return next(account for account, scope in ACCOUNTS.items() if scope == traffic.scope)


def _nothing(*_: object, **__: object) -> None:
    pass


async def _opened(*_: object) -> Any:
    return SimpleNamespace(session_present=False, resume=_nothing, close=_nothing)


async def tell(world: World, connections: ConnectionIndex, seen: set[str]) -> None:
    """Passes new published changes to the connections, as the server does after each commit."""
    changes = [each for each in await world.read(lambda tx: published_since(tx, from_micros(0))) if each.id not in seen]
    seen.update(change.id for change in changes)
    await connections.close(changes)


async def test_open_sessions_stay_in_their_account(accounts: Accounts) -> None:
    """Registrations of the other account do not close or move a session. It ends with its own registration."""
    wrong: list[str] = []
    connections, seen = ConnectionIndex(), set[str]()
    for has, first in filter(lambda cell: is_possible(cell[0]), cells()):
        second = other(first)
        if has[first] == "none" or has[second] in ("own", "claim"):
            continue  # it is issued with the certificate, so it is always first
        accounts.root = new_issuer(now=accounts.world.clock())
        der = await accounts.certificate(has)
        await accounts.add(first, has[first], der)
        await tell(accounts.world, connections, seen)
        sessions = {each: Device(accounts, connections, der, *each) for each in product(NAMES, DEFAULTS)}
        before = {each: await session.connect() for each, session in sessions.items()}
        await accounts.add(second, has[second], der)
        await tell(accounts.world, connections, seen)
        for each, session in sessions.items():
            if session.account != before[each]:
                wrong.append(f"{has}, {first} first, {each}: {before[each]} became {session.account}")
        if has[first] != "claim":
            fingerprint = fingerprint_of(der)
            scope = ACCOUNTS[first]
            await accounts.world.aws("UpdateCertificate", scope, certificateId=fingerprint, newStatus="INACTIVE")
            await tell(accounts.world, connections, seen)
            wrong += [f"{has}, {first} first, {each}: stayed" for each, its in sessions.items() if its.account]
        for session in sessions.values():
            session.session.connection.connection_lost(None)
    assert len(connections) == 0
    assert wrong == []


JIT_CAS = ("DEFAULT", "SNI_ONLY", "none")
JIT_HAS = ("SNI_ONLY", "binding", "none")


def expected_jit(cas: dict[str, str], has: dict[str, str], name: str | None, default: str | None) -> str | None:
    """Returns the account that registers a certificate just in time."""

    def registers(account: str | None) -> str | None:
        return account if account and has[account] == "none" and cas[account] != "none" else None

    if (named := NAMES[name]) is not None:
        return registers(named)
    if proven := [account for account in ACCOUNTS if cas[account] == "DEFAULT"]:
        if default is not None and has[default] != "none" and default == proven[0]:
            return None  # the account has registered it already
        return registers(proven[0])
    return registers(default)


async def test_the_account_that_registers_just_in_time(accounts: Accounts) -> None:
    world = accounts.world
    jit = JitRegistration(
        AuditedStore(world.store, world.clock),
        world.environment,
        cast("Any", SimpleNamespace(publish=_nothing)),
        Roles(world.directory),
        jit_throttle("none"),
        world.clock,
        HOSTS,
    )
    wrong: list[str] = []
    automatic = {"allowAutoRegistration": True}
    for cas in ({"A": a, "B": b} for a, b in product(JIT_CAS, JIT_CAS) if (a, b) != ("DEFAULT", "DEFAULT")):
        accounts.root = new_issuer(now=world.clock())
        for account, mode in cas.items():
            if mode == "DEFAULT":
                await accounts.prove(account, allowAutoRegistration=True)
            elif mode == "SNI_ONLY":
                given = {"caCertificate": accounts.root.pem, "certificateMode": mode, "setAsActive": True}
                await world.aws("RegisterCACertificate", ACCOUNTS[account], **given, **automatic)
        for a, b, (name, default) in product(JIT_HAS, JIT_HAS, product(NAMES, DEFAULTS)):
            has = {"A": a, "B": b}
            der = accounts.root.sign().public_bytes(Encoding.DER)
            for account, column in has.items():
                await accounts.add(account, column, der)
            fingerprint = fingerprint_of(der)
            await accounts.authenticator(default, jit).authenticate(peer_of(der, name).request("c", ()))
            rows = await world.rows(
                f"SELECT account FROM registrations WHERE {THIS_CERTIFICATE} AND status = 'PENDING_ACTIVATION'",
                bytes.fromhex(fingerprint),
            )
            found = [account for account, scope in ACCOUNTS.items() if (scope.account,) in rows]
            wanted = expected_jit(cas, has, name, default)
            if found != ([wanted] if wanted else []):
                wrong.append(f"CAs {cas}, {has}, {name=}, {default=}: {found}, not {wanted}")
    assert wrong == []


async def test_certificates_issued_here_are_never_registered_just_in_time(accounts: Accounts) -> None:
    """Not even if a CA certificate with Thingmint's key is registered, which older versions allowed."""
    world = accounts.world
    der = await accounts.certificate({"A": "own", "B": "none"})
    await world.aws("UpdateCertificate", OURS, certificateId=fingerprint_of(der), newStatus="INACTIVE")
    await world.aws("DeleteCertificate", OURS, certificateId=fingerprint_of(der), forceDelete=True)
    await accounts.prove("B", allowAutoRegistration=True)
    ours = world.environment.device_ca.certificate
    await world.execute(
        "UPDATE certificates SET der = $1 WHERE fingerprint = $2",
        ours.public_bytes(Encoding.DER),
        bytes.fromhex(accounts.root.fingerprint),
    )
    await world.execute("UPDATE ca_certificates SET subject = $1", ours.subject.public_bytes())
    publish = cast("Any", SimpleNamespace(publish=_nothing))
    store = AuditedStore(world.store, world.clock)
    roles, throttle = Roles(world.directory), jit_throttle("none")
    jit = JitRegistration(store, world.environment, publish, roles, throttle, world.clock, HOSTS)
    for name in NAMES:
        request = peer_of(der, name).request("c", ())
        assert not isinstance(await accounts.authenticator(None, jit).authenticate(request), Accepted)
    fingerprint = bytes.fromhex(fingerprint_of(der))
    assert await world.rows(f"SELECT 1 FROM registrations WHERE {THIS_CERTIFICATE}", fingerprint) == []


# -- regions, and deletion by the account -------------------------------------------------------------------------


async def scope_of(accounts: Accounts, der: bytes, default: str | None = None) -> Scope | None:
    decision = await accounts.authenticator(default).authenticate(peer_of(der).request("c"))
    return decision.scope if isinstance(decision, Accepted) else None


@both_engines
async def test_the_home_region_has_precedence(accounts: Accounts) -> None:
    """If a certificate is in several regions of one account."""
    world = accounts.world
    der = accounts.root.sign().public_bytes(Encoding.DER)
    text = pem(x509.load_der_x509_certificate(der))
    await world.aws("RegisterCertificateWithoutCA", ABROAD, certificatePem=text, status="ACTIVE")
    assert await scope_of(accounts, der, "A") == ABROAD
    await accounts.add("A", "SNI_ONLY", der)
    assert await scope_of(accounts, der, "A") == OURS


@both_engines
async def test_a_proven_region_has_precedence_over_an_unproven_one(accounts: Accounts) -> None:
    world = accounts.world
    issued = await world.aws(
        "CreateCertificateFromCsr", ABROAD, certificateSigningRequest=vectors.csr_pem(), setAsActive=True
    )
    der = vectors.to_der(issued["certificatePem"])
    await accounts.add("A", "SNI_ONLY", der)
    assert await scope_of(accounts, der, "A") == ABROAD


@both_engines
async def test_an_expired_claim_does_not_prove_ownership(accounts: Accounts) -> None:
    der = await accounts.certificate({"A": "claim", "B": "none"})
    await accounts.add("B", "SNI_ONLY", der)
    assert await accounts.account_of(der, None, "B") == "A"
    accounts.world.clock.advance(hours=1)
    assert await accounts.account_of(der, "a.example", "B") is None
    assert await accounts.account_of(der, None, None) is None


@both_engines
async def test_a_deleted_certificate_belongs_to_the_default_account(accounts: Accounts) -> None:
    """The other account's registration, which has no proof, is found again if it is the default account."""
    der = await accounts.certificate({"A": "own", "B": "none"})
    await accounts.add("B", "SNI_ONLY", der)
    assert await accounts.account_of(der, None, "B") == "A"
    fingerprint = fingerprint_of(der)
    await accounts.world.aws("UpdateCertificate", certificateId=fingerprint, newStatus="REVOKED")
    assert await accounts.account_of(der, None, "B") is None, "the first step that answers is final"
    await accounts.world.aws("DeleteCertificate", certificateId=fingerprint, forceDelete=True)
    assert await accounts.account_of(der, None, "B") == "B"
    assert await accounts.account_of(der, None, None) is None
