"""Binding certificates to Yandex devices: the registrations that binding uses or makes, and the effect of unbinding."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.issuers import new_issuer
from tests.issuers import pem as pem_of
from tests.unit import vectors
from tests.unit.services.test_ca_certificates import take
from tests.world import ABROAD, FINGERPRINT, OURS, THEIRS, unpacked
from thingmint.access.audit import AuditedStore
from thingmint.access.context import Outcome, RequestContext
from thingmint.domain.certificates import parse_certificate
from thingmint.domain.errors import AlreadyExists, InvalidCertificate, LimitExceeded, NotFound
from thingmint.domain.keys import FLEET_KEYS
from thingmint.domain.status import Status
from thingmint.services.bindings import bind, parse_submitted
from thingmint.services.certificates import REGISTRATIONS
from thingmint.services.device_registry import DEVICES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.services.certificates import Registration
    from thingmint.store.engine import Transaction


@pytest.fixture
async def device(world: World) -> str:
    id = await world.device(await world.registry())
    world.audit_resources()
    return id


def fingerprint_of(pem: str) -> str:
    return parse_certificate(pem, "pem", FLEET_KEYS)[0].fingerprint


async def add(world: World, device: str, pem: str, scope: Scope = OURS) -> Any:
    """Add a certificate to a device, and return the Operation."""
    return await world.yandex("DeviceService.AddCertificate", scope, device_id=device, certificate_data=pem)


async def remove(world: World, device: str, pem: str, scope: Scope = OURS) -> Any:
    return await world.yandex(
        "DeviceService.DeleteCertificate", scope, device_id=device, fingerprint=fingerprint_of(pem)
    )


async def certificates(world: World, device: str, scope: Scope = OURS) -> list[Any]:
    return list((await world.yandex("DeviceService.ListCertificates", scope, device_id=device)).certificates)


async def registration(world: World, pem: str, scope: Scope = OURS) -> Registration | None:
    return await world.read(lambda tx: REGISTRATIONS.find(tx, *scope, fingerprint_of(pem)))


async def register(world: World, pem: str, status: Status) -> Registration:
    """Register a certificate as another API does."""
    await world.certificate(pem=pem)
    found = await registration(world, pem)
    assert found is not None
    changed = replace(found, status=status, version=3)
    await world.write(lambda tx: REGISTRATIONS.update(tx, changed))
    world.audit_resources()
    return changed


async def test_a_new_certificate_becomes_an_active_registration(world: World, device: str) -> None:
    pem = vectors.certificate_pem()
    made = await add(world, device, pem)
    added = await registration(world, pem)
    assert added is not None
    assert (added.status, added.origin, added.version) == (Status.ACTIVE, "registered", 1)
    assert (added.mode, added.created_at) == ("SNI_ONLY", world.clock())
    assert len(added.generation) == 36
    assert await world.rows("SELECT account, region, kind, owner FROM bindings") == [(*OURS, "device", device)]
    assert (await certificates(world, device)) == [unpacked(made.response)]
    assert world.audit_resources() == [f"yandex:device/{device}", f"cert/{added.fingerprint}"]


@pytest.mark.parametrize("sha1", [False, True])
async def test_lists_have_the_configured_kind_of_fingerprint(world: World, device: str, sha1: bool) -> None:
    world.sha1_fingerprints = sha1
    pem = vectors.certificate_pem()
    made = await add(world, device, pem)
    shown = hashlib.sha1(vectors.to_der(pem)).hexdigest() if sha1 else fingerprint_of(pem)
    returned = unpacked(made.response)
    assert (returned.device_id, returned.fingerprint, returned.certificate_data) == (device, shown, pem)
    assert returned.created_at.ToDatetime() == world.clock().replace(tzinfo=None)
    assert (unpacked(made.metadata).device_id, unpacked(made.metadata).fingerprint) == (device, shown)
    assert [each.fingerprint for each in await certificates(world, device)] == [shown]


@pytest.mark.parametrize("spell", [str, str.rstrip, lambda pem: pem.replace("\n", "\r\n"), lambda pem: f"x\n{pem}y"])
async def test_the_callers_exact_text_is_returned(world: World, device: str, spell: Callable[[str], str]) -> None:
    pem = spell(vectors.certificate_pem())
    await add(world, device, pem)
    assert [each.certificate_data for each in await certificates(world, device)] == [pem]


async def test_creating_a_device_binds_its_certificates(world: World) -> None:
    pems = [vectors.certificate_pem() for _ in range(2)]
    registry = await world.registry(certificates=[{"certificate_data": pems[0]}])
    made = await world.device(registry, certificates=[{"certificate_data": pems[1]}])
    assert await world.shown(f"SELECT kind, owner, {FINGERPRINT} FROM bindings ORDER BY created_at") == [
        ("registry", registry, fingerprint_of(pems[0])),
        ("device", made, fingerprint_of(pems[1])),
    ]


# The status of a registration: at first, after binding and unbinding, and after binding again.
STATUSES = [
    (Status.ACTIVE, Status.INACTIVE, Status.ACTIVE),
    (Status.INACTIVE, Status.INACTIVE, Status.INACTIVE),
    (Status.REVOKED, Status.REVOKED, Status.REVOKED),
    (Status.PENDING_ACTIVATION, Status.INACTIVE, Status.INACTIVE),
    (Status.REGISTER_INACTIVE, Status.INACTIVE, Status.INACTIVE),
]


@pytest.mark.parametrize(("status", "unbound", "again"), STATUSES)
async def test_binding_keeps_an_existing_status_and_unbinding_ends_access(
    world: World, device: str, status: Status, unbound: Status, again: Status
) -> None:
    pem = vectors.certificate_pem()
    known = await register(world, pem, status)
    await add(world, device, pem)
    assert await registration(world, pem) == known
    assert world.audit_resources() == [f"yandex:device/{device}", f"cert/{known.fingerprint}"]
    world.clock.advance(seconds=1)
    await remove(world, device, pem)
    left = await registration(world, pem)
    assert left is not None
    assert (left.status, left.generation) == (unbound, known.generation)
    assert (left.version, left.modified_at) == ((4, world.clock()) if unbound != status else (3, known.modified_at))
    assert world.audit_resources() == [f"cert/{known.fingerprint}", f"yandex:device/{device}"]
    await add(world, device, pem)
    assert await status_of(world, pem) is again


async def status_of(world: World, pem: str) -> Status | None:
    found = await registration(world, pem)
    return found.status if found is not None else None


async def set_status(world: World, pem: str, status: str) -> None:
    await world.aws("UpdateCertificate", certificateId=fingerprint_of(pem), newStatus=status)


@pytest.mark.parametrize("status", ["ACTIVE", "INACTIVE", "REVOKED"])
async def test_unbinding_deletes_a_registration_that_binding_made(world: World, device: str, status: str) -> None:
    pem = vectors.certificate_pem()
    await add(world, device, pem)
    await set_status(world, pem, status)
    world.audit_resources()
    await remove(world, device, pem)
    assert await registration(world, pem) is None
    assert await certificates(world, device) == []
    assert world.audit_resources() == [f"cert/{fingerprint_of(pem)}", f"yandex:device/{device}"]


@pytest.mark.parametrize("status", ["INACTIVE", "REVOKED"])
@pytest.mark.parametrize("when", ["bound", "unbound"])
@pytest.mark.parametrize("adopted", [False, True])
async def test_a_deactivated_certificate_stays_inactive_on_another_device(
    world: World, device: str, status: str, when: str, adopted: bool
) -> None:
    """It is deactivated before or after unbinding, and AddCertificate did or did not make the registration."""
    pem = vectors.certificate_pem()
    if adopted:
        await register(world, pem, Status.ACTIVE)
    await add(world, device, pem)
    await attach_policy(world, f"arn:aws:iot:us-east-1:111111111111:cert/{fingerprint_of(pem)}")
    if when == "bound":
        await set_status(world, pem, status)
    await remove(world, device, pem)
    if when == "unbound":
        await set_status(world, pem, status)  # INACTIVE, which it already is: binding again must not activate it then
    other = await world.device(await world.registry())
    made = await add(world, other, pem)
    assert (made.done, made.WhichOneof("result")) == (True, "response")
    assert await status_of(world, pem) == status
    assert len(await certificates(world, other)) == 1


@pytest.mark.parametrize("status", ["INACTIVE", "REVOKED"])
async def test_binding_a_deactivated_certificate_again_does_not_activate_it(
    world: World, device: str, status: str
) -> None:
    """Even if AddCertificate made the registration and it has no other references."""
    pem = vectors.certificate_pem()
    await add(world, device, pem)
    await set_status(world, pem, status)
    for _ in range(2):
        await remove(world, device, pem)
        assert await registration(world, pem) is None
        await add(world, device, pem)
        assert await status_of(world, pem) == status
    if status == "INACTIVE":
        await set_status(world, pem, "ACTIVE")
        await remove(world, device, pem)
        await add(world, device, pem)
        assert await status_of(world, pem) is Status.ACTIVE, "the last word counts"


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.PENDING_TRANSFER])
async def test_the_audit_record_says_why_a_bound_certificate_cannot_connect(
    world: World, device: str, status: Status
) -> None:
    pem = vectors.certificate_pem()
    await register(world, pem, status)
    request = RequestContext(api="yandex", operation="DeviceService.AddCertificate", now=world.clock())
    store, change = AuditedStore(world.store, world.clock).of(request, Outcome()), world.change()
    submitted = parse_submitted(change, pem, "pem")

    async def body(tx: Transaction) -> None:
        await bind(tx, change, await DEVICES.get(tx, OURS.account, device), submitted)

    await store.write(body)
    ((record,),) = await world.rows("SELECT record FROM audit_records WHERE record LIKE '%AddDeviceCertificate%'")
    reason = json.loads(record).get("reason")
    assert reason == (
        None if status is Status.ACTIVE else f"the certificate is bound and stays {status}: it cannot connect"
    )


async def test_a_certificate_moves_from_one_device_to_another(world: World, device: str) -> None:
    pem = vectors.certificate_pem()
    await add(world, device, pem)
    before = await registration(world, pem)
    assert before is not None
    await attach_policy(world, before.arn)
    other = await world.device(await world.registry())
    for owner, next_owner in ((device, other), (other, device)):
        await remove(world, owner, pem)
        assert await status_of(world, pem) is Status.INACTIVE
        await add(world, next_owner, pem)
        assert await status_of(world, pem) is Status.ACTIVE
    await world.aws("DetachPolicy", policyName="p", target=before.arn)
    await remove(world, device, pem)
    assert await registration(world, pem) is None, "AddCertificate made it, however often it was moved"


async def test_aws_can_activate_a_certificate_that_unbinding_deactivated(world: World, device: str) -> None:
    pem = vectors.certificate_pem()
    await register(world, pem, Status.ACTIVE)
    await add(world, device, pem)
    await remove(world, device, pem)
    for status in ("ACTIVE", "INACTIVE"):
        await set_status(world, pem, status)
        assert await status_of(world, pem) == status
    await add(world, device, pem)
    assert await status_of(world, pem) is Status.INACTIVE, "the last word was AWS's"


@pytest.mark.parametrize("override", [None, "DO_NOTHING", "FAIL", "REPLACE"])
async def test_a_template_can_replace_the_status_that_unbinding_set(
    world: World, device: str, override: str | None
) -> None:
    """Even to the same status."""
    pem = vectors.certificate_pem()
    await register(world, pem, Status.ACTIVE)
    await add(world, device, pem)
    await remove(world, device, pem)
    properties = {"CertificateId": fingerprint_of(pem), "Status": "INACTIVE"}
    resource: dict[str, Any] = {"Type": "AWS::IoT::Certificate", "Properties": properties}
    if override is not None:
        resource["OverrideSettings"] = {"Status": override}
    await world.aws("RegisterThing", templateBody=json.dumps({"Resources": {"certificate": resource}}))
    await add(world, device, pem)
    assert await status_of(world, pem) is (Status.INACTIVE if override == "REPLACE" else Status.ACTIVE)


@pytest.mark.parametrize("region", [OURS, ABROAD])
async def test_a_certificate_whose_ca_is_registered_is_not_deleted(world: World, device: str, region: Scope) -> None:
    """Otherwise the device would be registered just in time at its next CONNECT, although it was unbound."""
    root = new_issuer(now=vectors.NOW)
    pem = pem_of(root.sign())
    await take(world, root, region)
    await add(world, device, pem)
    await remove(world, device, pem)
    assert await status_of(world, pem) is Status.INACTIVE


@pytest.mark.parametrize("spell", [fingerprint_of, lambda pem: hashlib.sha1(vectors.to_der(pem)).hexdigest()])
@pytest.mark.parametrize("case", [str.lower, str.upper])
async def test_sha_1_and_sha_256_fingerprints_select_the_certificate_to_unbind(
    world: World, device: str, spell: Callable[[str], str], case: Callable[[str], str]
) -> None:
    pem, other = vectors.certificate_pem(), vectors.certificate_pem()
    await add(world, device, pem)
    await add(world, device, other)
    fingerprint = case(spell(pem))
    made = await world.yandex("DeviceService.DeleteCertificate", device_id=device, fingerprint=fingerprint)
    assert unpacked(made.metadata).fingerprint == fingerprint
    assert [each.fingerprint for each in await certificates(world, device)] == [fingerprint_of(other)]


async def attach_policy(world: World, arn: str) -> None:
    statement = {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": statement})
    await world.aws("CreatePolicy", policyName="p", policyDocument=document)
    await world.aws("AttachPolicy", policyName="p", target=arn)


async def attach_thing(world: World, arn: str) -> None:
    await world.aws("CreateThing", thingName="t")
    await world.aws("AttachThingPrincipal", thingName="t", principal=arn)


@pytest.mark.parametrize("attach", [attach_policy, attach_thing])
@pytest.mark.parametrize("whole", [False, True])
async def test_a_registration_with_other_references_becomes_inactive(
    world: World, device: str, attach: Callable[[World, str], Any], whole: bool
) -> None:
    """By unbinding, and by deleting the device."""
    held, free = vectors.certificate_pem(), vectors.certificate_pem()
    for pem in (held, free):
        await add(world, device, pem)
    before = await registration(world, held)
    assert before is not None
    await attach(world, before.arn)
    if whole:
        await world.yandex("DeviceService.Delete", device_id=device)
    else:
        for pem in (held, free):
            await remove(world, device, pem)
    assert await registration(world, free) is None
    left = await registration(world, held)
    assert left is not None
    assert (left.status, left.generation) == (Status.INACTIVE, before.generation)


async def test_binding_and_unbinding_are_published(world: World) -> None:
    first, second = vectors.certificate_pem(), vectors.certificate_pem()
    of_first, of_second = ([("certificate", fingerprint_of(pem))] for pem in (first, second))
    registry = await world.registry(certificates=[{"certificate_data": first}])
    assert await world.published() == of_first
    device = await world.device(registry, certificates=[{"certificate_data": second}])
    assert await world.published() == of_second
    await remove(world, device, second)
    assert await world.published() == of_second
    await add(world, device, second)
    assert await world.published() == of_second
    await world.yandex("DeviceService.Delete", device_id=device)
    assert await world.published() == of_second
    await world.yandex("RegistryService.Delete", registry_id=registry)
    assert await world.published() == of_first


async def test_a_certificate_can_be_bound_once_in_an_account(world: World, device: str) -> None:
    of_device, of_registry = vectors.certificate_pem(), vectors.certificate_pem()
    await add(world, device, of_device)
    registry = await world.registry(certificates=[{"certificate_data": of_registry}])
    other = await world.device(registry)
    for pem in (of_device, of_registry):
        for owner in (device, other):
            with pytest.raises(AlreadyExists, match=fingerprint_of(pem)):
                await add(world, owner, pem)
        with pytest.raises(AlreadyExists):
            await world.registry(certificates=[{"certificate_data": pem}])
    assert await certificates(world, other) == []
    await remove(world, device, of_device)
    await world.registry(certificates=[{"certificate_data": of_device}])


async def test_a_certificate_that_aws_iot_deleted_is_registered_again(world: World, device: str) -> None:
    pem = vectors.certificate_pem()
    known = await register(world, pem, Status.INACTIVE)
    await world.aws("DeleteCertificate", certificateId=known.fingerprint)
    await add(world, device, pem)
    added = await registration(world, pem)
    assert added is not None
    assert (added.status, added.generation == known.generation) == (Status.ACTIVE, False)


async def test_a_certificate_can_be_bound_in_each_account(world: World, device: str) -> None:
    pem = vectors.certificate_pem()
    theirs = await world.device(await world.registry(THEIRS), THEIRS)
    await add(world, device, pem)
    await add(world, theirs, pem.rstrip(), THEIRS)
    before = await registration(world, pem, THEIRS)
    await remove(world, device, pem)
    assert await registration(world, pem) is None
    assert await registration(world, pem, THEIRS) == before
    assert [each.certificate_data for each in await certificates(world, theirs, THEIRS)] == [pem.rstrip()]


async def test_a_device_cannot_be_created_with_a_certificate_twice(world: World) -> None:
    twice = [{"certificate_data": vectors.certificate_pem()}] * 2
    with pytest.raises(AlreadyExists):
        await world.registry(certificates=twice)
    assert await world.count("registrations") == 0


async def test_only_its_own_certificates_can_be_deleted_from_a_device(world: World, device: str) -> None:
    bound, loose = vectors.certificate_pem(), vectors.certificate_pem()
    await add(world, device, bound)
    other = await world.device(await world.registry())
    fingerprint = fingerprint_of(bound)
    for owner, missing in (
        (device, fingerprint_of(loose)),
        (device, fingerprint[:-1]),
        (device, "%"),
        (other, fingerprint),
    ):
        with pytest.raises(NotFound, match=f"certificate {missing} "):
            await world.yandex("DeviceService.DeleteCertificate", device_id=owner, fingerprint=missing)
    assert len(await certificates(world, device)) == 1


async def test_a_refused_addition_registers_nothing(world: World) -> None:
    with pytest.raises(NotFound):
        await add(world, "are0", vectors.certificate_pem())
    assert await world.count("registrations") == await world.count("certificates") == 0


async def test_deleting_a_device_unbinds_its_certificates(world: World, device: str) -> None:
    made, known = vectors.certificate_pem(), vectors.certificate_pem()
    before = await register(world, known, Status.INACTIVE)
    for pem in (made, known):
        await add(world, device, pem)
    await world.yandex("DeviceService.Delete", device_id=device)
    assert await registration(world, made) is None
    assert await registration(world, known) == before
    other = await world.device(await world.registry())
    for pem in (made, known):
        await add(world, other, pem)


async def test_a_device_has_at_most_50_certificates(world: World) -> None:
    *many, last, one_more = (vectors.certificate_pem() for _ in range(51))
    registry = await world.registry()
    device = await world.device(registry, certificates=[{"certificate_data": pem} for pem in many])
    await add(world, device, last)
    with pytest.raises(LimitExceeded, match="A device can have at most 50 certificates"):
        await add(world, device, one_more)
    assert await registration(world, one_more) is None
    assert len(await certificates(world, device)) == 50
    await remove(world, device, last)
    at_once = await asyncio.gather(*(add(world, device, pem) for pem in (last, one_more)), return_exceptions=True)
    assert sum(isinstance(outcome, LimitExceeded) for outcome in at_once) == 1
    assert len(await certificates(world, device)) == 50
    await world.yandex("DeviceService.Delete", device_id=device)
    assert await world.count("binding_counts") == 0


async def test_one_of_many_concurrent_bindings_succeeds(world: World) -> None:
    registry, pem = await world.registry(), vectors.certificate_pem()
    devices = [await world.device(registry) for _ in range(20)]
    outcomes = await asyncio.gather(*(add(world, each, pem) for each in devices), return_exceptions=True)
    assert sum(isinstance(each, AlreadyExists) for each in outcomes) == 19


async def test_an_invalid_certificate_is_refused_with_the_field(world: World, device: str) -> None:
    with pytest.raises(InvalidCertificate) as caught:
        await add(world, device, "nothing")
    assert caught.value.field == "certificate_data"
