"""Just-in-time registration: candidates, their account and status, and certificates that are refused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.issuers import fingerprint, pem, rewritten
from tests.unit.services.test_ca_certificates import (
    BY_BODY,
    DAY,
    ROLE,
    delete,
    describe,
    issuer,
    prove,
    take,
    template,
    update,
)
from tests.unit.services.test_ca_certificates import register as register_under_ca
from tests.unit.vectors import NOW
from tests.world import ABROAD, FINGERPRINT, OURS, THEIRS
from thingmint.access.operations import run
from thingmint.domain.arns import Scope
from thingmint.domain.certificates import read_issued_certificate
from thingmint.domain.errors import Denied, Disallowed, InvalidParameters, LimitExceeded
from thingmint.domain.status import Status
from thingmint.mqtt.jit_registration import REGISTER_CERTIFICATE
from thingmint.services.device_facts import NoHostName
from thingmint.services.jit_registration import EarlierRegistration, JitRequest, OnlyByHostName, find_candidate
from thingmint.services.quotas import Quotas

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.services.certificates import Registration
    from thingmint.services.change import Change
    from thingmint.services.jit_registration import JitCandidate

AUTO = {"allowAutoRegistration": True}


@dataclass
class Gateway:
    """``roles`` are the assumed roles, each with the resource that named it."""

    world: World
    roles: list[tuple[str, str]] = field(default_factory=list)

    async def as_role(self, role: str, source: str) -> Change:
        self.roles.append((role, source))
        return self.world.change(OURS)

    async def find(self, made: x509.Certificate, scope: Scope | None = OURS) -> JitCandidate | None:
        """Find a candidate. Without ``scope`` the device sends no host name, and OURS is the default account."""
        world, certificate = self.world, read_issued_certificate(made.public_bytes(Encoding.DER))
        where, own = scope or NoHostName(OURS.account), world.environment.own_authorities
        return await find_candidate(world.store, own, where, certificate, world.clock())

    async def register(self, candidate: JitCandidate) -> Registration:
        request, change = JitRequest(candidate, self.as_role), self.world.change(candidate.ca.scope)
        made: Registration = await run(REGISTER_CERTIFICATE, self.world.store, change, request, EarlierRegistration())
        return made

    async def connect_der(self, der: bytes) -> Registration | None:
        own, certificate = self.world.environment.own_authorities, read_issued_certificate(der)
        candidate = await find_candidate(self.world.store, own, OURS, certificate, self.world.clock())
        return await self.register(candidate) if candidate is not None else None

    async def connect(self, made: x509.Certificate, scope: Scope | None = OURS) -> Registration | None:
        """Return the new registration; None if no account has the CA certificate, or if it is already registered."""
        candidate = await self.find(made, scope)
        return await self.register(candidate) if candidate is not None and candidate.registration is None else None

    async def refusal(self, made: x509.Certificate, scope: Scope | None = OURS) -> str:
        with pytest.raises(Disallowed) as refused:
            await self.connect(made, scope)
        return refused.value.reason


@pytest.fixture
def gateway(world: World) -> Gateway:
    return Gateway(world)


async def set_status(world: World, made: x509.Certificate, status: str) -> None:
    await world.aws("UpdateCertificate", certificateId=fingerprint(made), newStatus=status)


async def revoke_and_delete(world: World, made: x509.Certificate) -> None:
    await set_status(world, made, "REVOKED")
    await world.aws("DeleteCertificate", certificateId=fingerprint(made))


async def test_a_certificate_of_a_registered_ca_becomes_pending_activation(world: World, gateway: Gateway) -> None:
    root = issuer()
    ca = await prove(world, root, **AUTO)
    world.audit_resources()
    await world.published()
    made = root.sign("lamp", serial=9)
    registration = await gateway.connect(made)
    assert registration is not None
    assert (registration.status, registration.mode) == (Status.PENDING_ACTIVATION, "DEFAULT")
    assert (registration.fingerprint, registration.ca, registration.serial) == (fingerprint(made), ca, "9")
    assert world.audit_resources() == [f"cert/{fingerprint(made)}"]
    assert await world.published() == [("certificate", fingerprint(made))]
    assert gateway.roles == []


async def test_a_pending_certificate_is_found_with_its_registration(world: World, gateway: Gateway) -> None:
    root = issuer()
    await take(world, root, **AUTO)
    made = root.sign()
    registration = await gateway.connect(made)
    world.clock.advance(seconds=3)
    candidate = await gateway.find(made)
    assert candidate is not None
    assert candidate.registration == registration


async def test_an_existing_registration_stays_unchanged(world: World, gateway: Gateway) -> None:
    root = issuer()
    await take(world, root, **AUTO)
    made = root.sign()
    first, second = await gateway.find(made), await gateway.find(made)
    assert first is not None
    assert second is not None
    registration = await gateway.register(first)
    await set_status(world, made, "ACTIVE")
    world.audit_resources()
    await world.published()
    assert await gateway.register(second) == replace(registration, status=Status.ACTIVE, version=2)
    assert await world.unchanged()


async def test_a_ca_without_automatic_registration_refuses_pending_certificates(world: World, gateway: Gateway) -> None:
    root = issuer()
    ca = await take(world, root, **AUTO)
    made = root.sign()
    await gateway.connect(made)
    await update(world, ca, newAutoRegistrationStatus="DISABLE")
    assert "does not register devices automatically" in await gateway.refusal(made)


@pytest.mark.parametrize("status", ["INACTIVE", "REVOKED"])
@pytest.mark.parametrize("scope", [OURS, None])
async def test_deactivated_certificates_are_not_candidates(
    world: World, gateway: Gateway, scope: Scope | None, status: str
) -> None:
    root = issuer()
    await take(world, root, **AUTO)
    made = root.sign()
    await gateway.connect(made)
    await set_status(world, made, status)
    assert await gateway.find(made, scope) is None


@pytest.mark.parametrize("status", ["PENDING_ACTIVATION", "ACTIVE"])
@pytest.mark.parametrize("scope", [OURS, None])
async def test_a_certificate_that_another_connection_registered_is_a_candidate(
    world: World, gateway: Gateway, scope: Scope | None, status: str
) -> None:
    """When this connection read the store, there was no registration; both devices must reconnect."""
    root = issuer()
    await take(world, root, **AUTO)
    made = root.sign()
    await gateway.connect(made)
    if status != "PENDING_ACTIVATION":
        await set_status(world, made, status)
    candidate = await gateway.find(made, scope)
    assert candidate is not None
    assert candidate.registration is not None
    assert candidate.registration.status == status


async def test_certificates_are_not_candidates_without_a_required_host_name(world: World, gateway: Gateway) -> None:
    root = issuer()
    await prove(world, root, **AUTO)
    made = root.sign()
    await gateway.connect(made)
    await world.write(lambda tx: tx.execute("UPDATE registrations SET mode = 'SNI_ONLY'"))
    assert await gateway.find(made, None) is None


async def test_a_pending_certificate_without_a_ca_is_not_a_candidate(world: World, gateway: Gateway) -> None:
    root = issuer()
    await take(world, root, **AUTO)
    made = root.sign()
    await world.certificate(pem=pem(made))
    await world.execute("UPDATE registrations SET status = 'PENDING_ACTIVATION'")
    assert await gateway.find(made) is None


@pytest.mark.parametrize(
    "members", [{"newStatus": "INACTIVE"}, {"newAutoRegistrationStatus": "DISABLE"}, {"removeAutoRegistration": True}]
)
@pytest.mark.parametrize("scope", [OURS, None])
async def test_a_ca_without_automatic_registration_refuses(
    world: World, gateway: Gateway, members: dict[str, Any], scope: Scope | None
) -> None:
    root = issuer()
    await update(world, await prove(world, root, **AUTO), **members)
    assert "does not register devices automatically" in await gateway.refusal(root.sign(), scope)


@pytest.mark.parametrize("scope", [OURS, None])
async def test_certificates_of_other_cas_are_not_candidates(
    world: World, gateway: Gateway, scope: Scope | None
) -> None:
    await prove(world, issuer(), **AUTO)
    for other in (issuer("Unknown"), issuer()):
        assert await gateway.find(other.sign(), scope) is None


@pytest.mark.parametrize("scope", [ABROAD, THEIRS])
async def test_a_ca_registers_in_its_own_account_and_region(world: World, gateway: Gateway, scope: Scope) -> None:
    root = issuer()
    await prove(world, root, **AUTO)
    assert await gateway.find(root.sign(), scope) is None


async def test_a_certificate_with_a_flaw_is_refused(world: World, gateway: Gateway) -> None:
    root = issuer()
    await take(world, root, **AUTO)
    assert "ended on" in await gateway.refusal(root.sign(begins=NOW - 2 * DAY, ends=NOW - DAY))
    assert "is not valid before" in await gateway.refusal(root.sign(begins=NOW + DAY / 2, ends=NOW + DAY))
    assert "authority, not of a device" in await gateway.refusal(root.certificate)


async def test_a_ca_certificate_registers_while_it_is_valid(world: World, gateway: Gateway) -> None:
    root = issuer()
    await take(world, root, **AUTO)
    world.clock.now = root.certificate.not_valid_after_utc
    assert await gateway.connect(root.sign(ends=NOW + 9 * DAY)) is not None
    world.clock.advance(seconds=1)
    assert "is not valid now" in await gateway.refusal(root.sign(ends=NOW + 9 * DAY))


# -- without a host name ------------------------------------------------------------------------------------------


async def test_without_a_host_name_an_account_without_proof_registers_nothing(world: World, gateway: Gateway) -> None:
    root = issuer()
    await take(world, root, THEIRS, **AUTO)
    with pytest.raises(OnlyByHostName) as refused:
        await gateway.connect(root.sign(), None)
    assert refused.value.scopes == [THEIRS]
    assert await gateway.connect(root.sign(), THEIRS) is not None


async def test_without_a_host_name_the_default_account_registers_in_its_home_region(
    world: World, gateway: Gateway
) -> None:
    root = issuer()
    for scope in (THEIRS, ABROAD):
        await take(world, root, scope, **AUTO)
    registration = await gateway.connect(root.sign(), None)
    assert registration is not None
    assert registration.scope == ABROAD
    await take(world, root, OURS, **AUTO)
    registration = await gateway.connect(root.sign(), None)
    assert registration is not None
    assert registration.scope == OURS


async def test_without_a_host_name_a_ca_in_default_mode_comes_first(world: World, gateway: Gateway) -> None:
    root = issuer()
    for scope in (THEIRS, ABROAD):
        await take(world, root, scope, **AUTO)
    ca = await prove(world, root, **AUTO)
    registration = await gateway.connect(root.sign(), None)
    assert registration is not None
    assert registration.scope == OURS
    await update(world, ca, newAutoRegistrationStatus="DISABLE")
    assert "does not register" in await gateway.refusal(root.sign(), None)


async def test_no_account_can_hide_another_accounts_ca(world: World, gateway: Gateway) -> None:
    """The number of tried CAs is limited, and subjects are not secret: an account can register many in its regions."""
    for number in range(6):
        for _ in range(10):
            await prove(world, issuer("Vendor"), Scope(OURS.account, f"region-{number}"), **AUTO)
    root = issuer("Vendor")
    for _ in range(9):
        await prove(world, issuer("Vendor"), THEIRS, **AUTO)
    await prove(world, root, THEIRS, **AUTO)
    registration = await gateway.connect(root.sign(), None)
    assert registration is not None
    assert registration.scope == THEIRS


async def test_the_newest_ca_certificate_of_a_key_registers(world: World, gateway: Gateway) -> None:
    root = issuer()
    await take(world, root, **AUTO)
    newer = await take(world, replace(root, certificate=issuer(key=root.key).certificate), **AUTO)
    registration = await gateway.connect(root.sign())
    assert registration is not None
    assert registration.ca == newer


# -- revoked and registered certificates --------------------------------------------------------------------------


async def register_by(world: World, gateway: Gateway, made: x509.Certificate, how: str) -> None:
    match how:
        case "just in time":
            await gateway.connect(made)
        case "under the CA":
            await register_under_ca(world, pem(made))
        case "without it":
            await world.certificate(pem=pem(made))


REGISTERED = pytest.mark.parametrize("registered", ["just in time", "under the CA", "without it"])


@REGISTERED
async def test_a_revoked_certificate_is_refused_once_it_is_deleted(
    world: World, gateway: Gateway, registered: str
) -> None:
    root = issuer()
    await take(world, root, **AUTO)
    made = root.sign()
    await register_by(world, gateway, made, registered)
    await revoke_and_delete(world, made)
    for again in (made, rewritten(made)):
        assert await gateway.refusal(again) == "it was revoked"


@REGISTERED
async def test_a_revoked_certificate_is_refused_under_another_fingerprint(
    world: World, gateway: Gateway, registered: str
) -> None:
    root = issuer()
    await take(world, root, **AUTO)
    made = root.sign()
    await register_by(world, gateway, made, registered)
    await set_status(world, made, "REVOKED")
    assert await gateway.find(made) is None
    assert f"number is registered: {fingerprint(made)}" in await gateway.refusal(rewritten(made))


async def test_a_certificate_that_one_account_revoked_is_registered_in_another(world: World, gateway: Gateway) -> None:
    root = issuer()
    for scope in (OURS, THEIRS):
        await take(world, root, scope, **AUTO)
    made = root.sign()
    await gateway.connect(made)
    await revoke_and_delete(world, made)
    assert await gateway.connect(made, THEIRS) is not None


async def test_a_revoked_certificate_is_refused_after_its_ca_was_deleted(world: World, gateway: Gateway) -> None:
    root = issuer()
    ca = await take(world, root, **AUTO)
    made = root.sign(serial=5)
    await gateway.connect(made)
    await revoke_and_delete(world, made)
    await update(world, ca, newStatus="INACTIVE")
    await delete(world, ca)
    await take(world, root, **AUTO)
    for again in (made, rewritten(made), root.sign(serial=5)):
        assert await gateway.refusal(again) == "it was revoked"
    await take(world, replace(root, certificate=issuer(key=root.key).certificate), **AUTO)
    for again in (made, rewritten(made)):
        assert await gateway.refusal(again) == "it was revoked"


async def test_a_certificate_that_was_deleted_but_not_revoked_is_registered_again(
    world: World, gateway: Gateway
) -> None:
    root = issuer()
    await take(world, root, **AUTO)
    made = root.sign()
    await gateway.connect(made)
    await set_status(world, made, "INACTIVE")
    await world.aws("DeleteCertificate", certificateId=fingerprint(made))
    assert await gateway.connect(made) is not None


async def test_a_transferred_certificate_is_not_registered_again_in_its_former_account(
    world: World, gateway: Gateway
) -> None:
    root = issuer()
    await take(world, root, **AUTO)
    made = root.sign()
    await gateway.connect(made)
    await set_status(world, made, "INACTIVE")
    id = fingerprint(made)
    await world.aws("TransferCertificate", certificateId=id, targetAwsAccount=THEIRS.account)
    assert await gateway.find(made) is None, "the transfer is pending"
    await world.aws("AcceptCertificateTransfer", THEIRS, certificateId=id)
    for scope in (OURS, None):
        assert await gateway.find(made, scope) is None
    await world.aws("DeleteCertificate", THEIRS, certificateId=id)
    assert await gateway.connect(made) is not None


async def test_a_serial_number_can_be_registered_once(world: World, gateway: Gateway) -> None:
    root = issuer()
    await take(world, root, **AUTO)
    first = root.sign(serial=7)
    await gateway.connect(first)
    for again in (root.sign(serial=7), rewritten(first)):
        assert f"number is registered: {fingerprint(first)}" in await gateway.refusal(again)
    assert await world.count("registrations") == 1


async def test_a_ca_certificate_that_changes_during_registration_registers_nothing(
    world: World, gateway: Gateway
) -> None:
    root = issuer()
    ca = await take(world, root, **AUTO)
    candidate = await gateway.find(root.sign())
    assert candidate is not None
    await update(world, ca, newStatus="INACTIVE")
    with pytest.raises(Disallowed, match="changed in the meantime"):
        await gateway.register(candidate)
    await delete(world, ca)
    with pytest.raises(Disallowed, match="changed in the meantime"):
        await gateway.register(candidate)


async def test_certificates_count_against_the_quota(world: World, gateway: Gateway) -> None:
    world.environment = replace(world.environment, quotas=Quotas(certificates=1))
    root = issuer()
    await take(world, root, **AUTO)
    await gateway.connect(root.sign())
    with pytest.raises(LimitExceeded):
        await gateway.connect(root.sign())


# -- provisioning -------------------------------------------------------------------------------------------------

OWN_ROLE = "arn:aws:iam::111111111111:role/another"


@pytest.mark.parametrize(
    ("config", "role", "source"),
    [
        (BY_BODY, ROLE, "cacert/{}"),
        ({"templateName": "jitp"}, ROLE, "provisioningtemplate/jitp"),
        ({"templateName": "jitp", "roleArn": OWN_ROLE}, OWN_ROLE, "provisioningtemplate/jitp"),
    ],
)
async def test_a_ca_with_a_template_provisions_the_device(
    world: World, gateway: Gateway, config: dict[str, str], role: str, source: str
) -> None:
    await template(world, "jitp")
    root = issuer()
    ca = await take(world, root, **AUTO, registrationConfig=config)
    world.audit_resources()
    world.asked.clear()
    made = root.sign("lamp-1")
    registration = await gateway.connect(made)
    assert registration is not None
    assert registration.status is Status.ACTIVE
    assert gateway.roles == [(role, f"arn:aws:iot:us-east-1:111111111111:{source.format(ca)}")]
    ours = "arn:aws:iot:us-east-1:111111111111:"
    assert world.asked == [
        ("iot:UpdateCertificate", f"{ours}cert/{fingerprint(made)}"),
        ("iot:CreateThing", f"{ours}thing/lamp-1"),
        ("iot:AttachThingPrincipal", f"{ours}cert/{fingerprint(made)}"),
    ]
    assert await world.shown(f"SELECT thing, {FINGERPRINT} FROM thing_principals") == [("lamp-1", fingerprint(made))]
    assert {f"cert/{fingerprint(made)}", "thing/lamp-1"} == set(world.audit_resources())


@pytest.mark.parametrize("denied", ["iot:UpdateCertificate", "iot:CreateThing", "iot:AttachThingPrincipal"])
async def test_denied_provisioning_is_rolled_back(world: World, gateway: Gateway, denied: str) -> None:
    root = issuer()
    await take(world, root, **AUTO, registrationConfig=BY_BODY)
    await world.published()
    made = root.sign("lamp")
    world.denied.add(denied)
    with pytest.raises(Denied):
        await gateway.connect(made)
    for table in ("registrations", "things", "thing_principals"):
        assert await world.count(table) == 0
    assert await world.published() == []
    world.denied.clear()
    registration = await gateway.connect(made)
    assert registration is not None
    assert registration.status is Status.ACTIVE


async def test_a_certificate_without_a_required_parameter_is_not_registered(world: World, gateway: Gateway) -> None:
    root = issuer()
    await take(world, root, **AUTO, registrationConfig=BY_BODY)
    with pytest.raises(InvalidParameters, match="CommonName"):
        await gateway.connect(root.sign(x509.Name([])))
    assert await world.count("registrations") == 0


async def test_a_pending_certificate_is_not_provisioned(world: World, gateway: Gateway) -> None:
    """AWS provisions at the first connection only; a pending certificate waits for its owner."""
    root = issuer()
    ca = await take(world, root, **AUTO)
    made = root.sign()
    await gateway.connect(made)
    await update(world, ca, registrationConfig=BY_BODY)
    assert (await describe(world, ca))["registrationConfig"]
    candidate = await gateway.find(made)
    assert candidate is not None
    assert candidate.registration is not None
    assert (await gateway.register(candidate)).status is Status.PENDING_ACTIVATION
    assert gateway.roles == []


async def test_a_template_that_is_not_enabled_provisions_nothing(world: World, gateway: Gateway) -> None:
    await template(world, "jitp")
    root = issuer()
    await take(world, root, **AUTO, registrationConfig={"templateName": "jitp"})
    await world.aws("UpdateProvisioningTemplate", templateName="jitp", enabled=False)
    assert await gateway.refusal(root.sign()) == "Template jitp is not enabled."
    assert gateway.roles == []
