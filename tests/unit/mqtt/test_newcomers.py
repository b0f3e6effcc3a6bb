"""What the door does with those whom nobody registered, apart from what the registry decides."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.issuers import new_issuer
from tests.unit.vectors import NOW
from thingmint.access.audit import CURRENT
from thingmint.domain.certificates import fingerprint_of
from thingmint.domain.errors import Disallowed, DomainError, Unavailable
from thingmint.domain.registration import Scope
from thingmint.domain.status import Status
from thingmint.mqtt.admission import Refused
from thingmint.mqtt.device import DeviceConnection
from thingmint.mqtt.newcomers import Newcomers, newcomer_throttle
from thingmint.mqtt.peer import Peer
from thingmint.mqtt.protocol.limits import AWS_LIMITS
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.services.ca_certificates import CaRegistration, CaStatus, registration_under
from thingmint.services.newcomers import Arrival

if TYPE_CHECKING:
    from thingmint.access.throttle import Throttle
    from thingmint.domain.certificates import IssuedCertificate
    from thingmint.mqtt.broker.interface import Message
    from thingmint.services.certificates import Registration

OURS = Scope("111111111111", "us-east-1")
ISSUER = new_issuer(now=NOW)
AUTHORITY = CaRegistration(
    scope=OURS,
    fingerprint=ISSUER.fingerprint,
    subject=ISSUER.certificate.subject.public_bytes(),
    status=CaStatus.ACTIVE,
    mode="DEFAULT",
    auto_registration=True,
    template_body=None,
    template_name=None,
    role_arn=None,
    generation="g",
    version=1,
    created_at=NOW,
    modified_at=NOW,
)


def peer(der: bytes | None = None) -> Peer:
    leaf = der if der is not None else ISSUER.sign().public_bytes(Encoding.DER)
    return Peer("192.0.2.7", 4711, fingerprint_of(leaf), leaf)


class Registry:
    """Registers whoever comes in ``status``, unless there is an ``error``."""

    def __init__(self) -> None:
        self.found: DomainError | None = None
        self.error: DomainError | None = None
        self.status = Status.PENDING_ACTIVATION
        self.waits = False
        self.requests: list[Any] = []

    async def find(self, _scope: Scope | None, leaf: IssuedCertificate) -> Arrival:
        if self.found is not None:
            raise self.found
        return Arrival(AUTHORITY, self._registration(leaf) if self.waits else None)

    async def register(self, _arrival: Arrival, leaf: IssuedCertificate, _as_role: object) -> Registration:
        self.requests.append(CURRENT.get())
        if self.error is not None:
            raise self.error
        return self._registration(leaf)

    def _registration(self, leaf: IssuedCertificate) -> Registration:
        return registration_under(AUTHORITY, leaf, self.status, NOW, "g")


class House:
    def __init__(self, throttle: Throttle | None = None) -> None:
        self.registry = Registry()
        self.told: list[tuple[Scope, Message]] = []
        broker = SimpleNamespace(publish=lambda scope, message: self.told.append((scope, message)))
        roles = SimpleNamespace(effects=lambda *_: None)
        self.newcomers = Newcomers(
            cast("Any", self.registry),
            cast("Any", broker),
            cast("Any", roles),
            throttle or newcomer_throttle("none"),
            lambda: NOW,
        )

    def come(self, who: Peer | None = None) -> Refused | None:
        return asyncio.run(self.newcomers(who or peer(), OURS))


def test_an_edge_hands_over_no_certificate() -> None:
    assert House().come(Peer("192.0.2.7", 4711, "0" * 64)) is None


@pytest.mark.parametrize("der", [b"", b"garbage", new_issuer(now=NOW).sign().public_bytes(Encoding.DER)[:-1]])
def test_what_cannot_be_read_is_refused(der: bytes) -> None:
    house = House()
    refused = house.come(peer(der))
    assert refused is not None
    assert (refused.reason, refused.silent) == (Reason.NOT_AUTHORIZED, False)
    assert house.registry.requests == []


def test_a_newcomer_is_registered_told_of_and_closed_upon() -> None:
    house, who = House(), peer()
    refused = house.come(who)
    assert refused is not None
    assert refused.silent
    assert refused.caller is not None
    assert (refused.caller.account, refused.caller.credential) == (OURS.account, who.fingerprint)
    [(context, _)] = house.registry.requests
    assert (context.api, context.operation, context.caller.account) == ("mqtt", "RegisterCertificate", OURS.account)
    assert CURRENT.get() is None
    [(scope, message)] = house.told
    assert (scope, message.topic) == (OURS, f"$aws/events/certificates/registered/{ISSUER.fingerprint}")
    assert orjson.loads(message.payload) == {
        "certificateId": who.fingerprint,
        "caCertificateId": ISSUER.fingerprint,
        "timestamp": int(NOW.timestamp() * 1000),
        "certificateStatus": "PENDING_ACTIVATION",
        "awsAccountId": OURS.account,
        "certificateRegistrationTimestamp": None,
        "sourceIp": "192.0.2.7",
    }


def test_who_waits_is_told_of_again_and_not_registered() -> None:
    house = House()
    house.registry.waits = True
    refused = house.come()
    assert refused is not None
    assert refused.silent
    assert house.registry.requests == []
    [(_, message)] = house.told
    assert orjson.loads(message.payload)["certificateRegistrationTimestamp"] == str(int(NOW.timestamp() * 1000))


def test_who_was_provisioned_needs_nobody() -> None:
    house = House()
    house.registry.status = Status.ACTIVE
    refused = house.come()
    assert refused is not None
    assert refused.silent
    assert house.told == []


def test_refusals() -> None:
    house = House()
    house.registry.error = Disallowed("certificate", "f", "it was revoked")
    refused = house.come()
    assert refused is not None
    assert (refused.silent, refused.reason) == (False, Reason.NOT_AUTHORIZED)
    assert refused.caller is not None, "the account hears of its own devices"
    assert "it was revoked" in refused.why
    assert house.told == []
    house.registry.found = Disallowed("CA certificate", "f", "it is not ACTIVE")
    refused = house.come()
    assert refused is not None
    assert refused.caller is None


def test_a_store_that_cannot_answer_is_no_refusal() -> None:
    house = House()
    for house.registry.error, house.registry.found in ((Unavailable("x"), None), (None, Unavailable("x"))):
        with pytest.raises(Unavailable):
            house.come()


def test_floods() -> None:
    """One device, one authority's many, one account's: each has its measure, and the first takes nothing of others'."""
    throttle = newcomer_throttle("generous")
    throttle._clock = lambda: 0.0
    house, who = House(throttle), peer()
    silent = [house.come(who) for _ in range(10)]
    assert all(refused is not None and refused.silent for refused in silent)
    assert len(house.told) == 3
    for _ in range(250):
        house.come()
    assert len(house.told) == 200


async def test_a_refusal_stands_whatever_changed_meanwhile() -> None:
    """Else who was just provisioned would be let in by the very notice that tells of it."""
    watcher = SimpleNamespace(blind=False, news=0)
    refusals = [Refused(Reason.NOT_AUTHORIZED, "come again", silent=True)]

    async def judge(*_: object, **__: object) -> Refused:
        watcher.news += 1
        return refusals.pop()

    services = SimpleNamespace(watcher=watcher, admission=SimpleNamespace(judge=judge), limits=AWS_LIMITS)
    connection = DeviceConnection(cast("Any", services), peer())
    assert (await connection._judge("client", connecting=True)).why == "come again"  # type: ignore[union-attr]
