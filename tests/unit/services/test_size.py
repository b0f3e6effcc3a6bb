"""The size of a device in the database, by its pages."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.world import OURS
from thingmint.access.audit_chain import chained
from thingmint.access.audit_events import new_record_id
from thingmint.domain.certificates import Certificate, fingerprint_of
from thingmint.domain.der import SEQUENCE, element
from thingmint.domain.ids import new_uuid
from thingmint.domain.issuing_ca import DEVICE_SUBJECT
from thingmint.domain.status import Status
from thingmint.services.certificates import NewCertificate, register_new
from thingmint.services.device_policies import Target, attach_policy
from thingmint.services.thing_principals import attach_principal
from thingmint.services.things import Thing, create_thing
from thingmint.store import audit as sql

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.store.engine import Transaction

COUNT = 2000
DER = 470  # bytes, as in a certificate that this server issues for a P-256 key
RECORD = 580  # characters, as in the audit record of CreateCertificateFromCsr by boto3
BUDGET = 2500  # bytes
PRINCIPAL = "arn:aws:iam::111111111111:user/administrator"
POLICY = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}'


def certificate_der(rng: random.Random) -> bytes:
    """What the searches read is there: a serial number, and the subject that this server gives to its certificates."""
    subject = DEVICE_SUBJECT.public_bytes()
    serial, empty = element(0x02, b"\x01" + rng.randbytes(15)), element(SEQUENCE, b"")
    fields = element(SEQUENCE, serial + empty * 3 + subject)
    return element(SEQUENCE, fields + rng.randbytes(DER - len(fields) - 4))


async def add_device(tx: Transaction, world: World, number: int) -> None:
    change, rng = world.change(), random.Random(number)
    der = certificate_der(rng)
    certificate = Certificate(der, fingerprint_of(der), world.clock(), world.clock() + timedelta(days=3650))
    made = await register_new(tx, change, NewCertificate(certificate, "csr"), Status.ACTIVE)
    name, fingerprint = f"thing-{rng.randrange(1 << 16):04x}-{number}", certificate.fingerprint
    await create_thing(tx, change, Thing.new(OURS, name, id=new_uuid(), type=None, attributes={}, now=world.clock()))
    await attach_policy(tx, OURS, "fleet-policy", Target("cert", fingerprint), world.clock())
    await attach_principal(tx, OURS, name, fingerprint, world.clock())
    await tx.execute("DELETE FROM outbox")  # which keeps only the last ten minutes
    facts = {"event": "CreateCertificateFromCsr", "principal": PRINCIPAL, "resources": [made.registration.arn]}
    agent = "x" * (RECORD - len(json.dumps({**facts, "agent": ""})))
    record = json.dumps({**facts, "agent": agent})
    await sql.insert_record(tx, new_record_id(world.clock()), OURS.account, record, new_uuid())


async def seal(tx: Transaction) -> None:
    end = await sql.last_sealed(tx)
    await sql.seal_records(tx, chained(end, await sql.unsealed_records(tx, 500)))


async def size(world: World) -> int:
    ((pages,),), ((bytes_of_one,),) = [await world.rows(f"PRAGMA page_{what}") for what in ("count", "size")]
    return int(pages * bytes_of_one)


@pytest.mark.sqlite
async def test_a_device_takes_about_two_kilobytes_in_the_database(world: World) -> None:
    await world.aws("CreatePolicy", policyName="fleet-policy", policyDocument=POLICY)
    before = await size(world)
    for start in range(0, COUNT, 100):

        async def body(tx: Transaction, start: int = start) -> None:
            for number in range(start, start + 100):
                world.clock.advance(seconds=1)
                await add_device(tx, world, number)

        await world.write(body)
        await world.write(seal)
    ((names, serials),) = await world.rows("SELECT count(common_name), count(serial_key) FROM registrations")
    assert (names, serials) == (COUNT, COUNT)
    assert BUDGET - 200 < (await size(world) - before) / COUNT <= BUDGET
