"""A small fleet that is believable: pumps, valves and gauges of waterworks, and boilers that came from Yandex.

The names, dates, states and connections are always the same in relation to the present. Keys and ids are not.
"""

from __future__ import annotations

import json
import random
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from tests.e2e import material
from tests.e2e.access.local_admin import allow, database, document
from tests.e2e.console.world import ACCOUNT, World
from tests.issuers import Issuer, fingerprint, new_issuer, pem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.e2e.mqtt.devices import Credential
    from thingmint.mqtt.protocol.packets import Version

REGION = "eu-central-1"
KINDS = {"pump": 96, "valve": 84, "gauge": 60}
SITES = ("north-works", "south-works", "reservoir")
MODELS = {"pump": "Kestrel P40", "valve": "Orlo V2", "gauge": "Tern G1"}
REFUSED = "pump-00412"
ENDING = {"gauge-00433": timedelta(hours=9), "gauge-00417": timedelta(days=2), "valve-00433": timedelta(days=4)}
REFUSALS = 61
_BATCH = 40

_ANY, _OF_THING = "arn:aws:iot:*:*", "${iot:Connection.Thing.ThingName}"
TELEMETRY = document(
    allow("iot:Subscribe", f"{_ANY}:topicfilter/water/{_OF_THING}/commands"),
    allow("iot:Receive", f"{_ANY}:topic/water/{_OF_THING}/commands"),
    allow("iot:Publish", [f"{_ANY}:topic/water/{_OF_THING}/state", f"{_ANY}:topic/water/{_OF_THING}/alarm"]),
    allow("iot:Connect", f"{_ANY}:client/{_OF_THING}", Condition={"Bool": {"iot:Connection.Thing.IsAttached": "true"}}),
)
SUPERVISOR = document(
    allow("iot:Subscribe", f"{_ANY}:topicfilter/water/*"),
    allow("iot:Receive", f"{_ANY}:topic/water/*"),
)
FIRMWARE = document(
    allow("iot:Subscribe", f"{_ANY}:topicfilter/firmware/*"),
    allow("iot:Receive", f"{_ANY}:topic/firmware/*"),
)
TEMPLATE = {
    "Parameters": {"SerialNumber": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
    "Resources": {
        "thing": {
            "Type": "AWS::IoT::Thing",
            "Properties": {
                "ThingName": {"Fn::Join": ["", ["pump-", {"Ref": "SerialNumber"}]]},
                "ThingTypeName": "pump",
                "AttributePayload": {"site": "north-works"},
            },
        },
        "certificate": {
            "Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"},
        },
        "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "telemetry"}},
    },
}


@dataclass
class Member:
    """A device of the fleet: a thing with a certificate."""

    name: str
    kind: str
    certificate: Any
    status: str
    policies: Sequence[str]
    added: datetime

    @property
    def id(self) -> str:
        return fingerprint(self.certificate)


@dataclass
class Scene(World):
    members: list[Member] = field(default_factory=list)
    boilers: list[tuple[str, str]] = field(default_factory=list)  # ids and PEM
    ca: str = ""

    def member(self, name: str) -> Member:
        return next(each for each in self.members if each.name == name)


@contextmanager
def fleet(folder: Path) -> Iterator[Scene]:
    """A server with the fleet, whose devices are connected."""
    with Scene.running(folder, "--region", REGION) as scene:
        now = datetime.now(UTC)
        issuer = new_issuer("Riverside Waterworks Device CA", now=now, begins=now - timedelta(days=900))
        scene.members = _members(issuer, now)
        _bring(scene, issuer, now)
        _make_principals(scene)
        _refuse(scene)
        _connect(scene)
        _wait(scene)
        _age(scene)
        (scene.server.data_dir / "last-backup").touch()
        yield scene


def _members(issuer: Issuer, now: datetime) -> list[Member]:
    drawn, found = random.Random(17), []
    for kind, amount in KINDS.items():
        for number in range(amount):
            name = f"{kind}-{400 + number:05}"
            weeks = int(drawn.triangular(1, 26, 11)) if drawn.random() < 0.7 else drawn.randint(27, 100)
            ends = now + timedelta(weeks=weeks, hours=drawn.randint(1, 150))
            added = now - timedelta(days=min(int(drawn.expovariate(1 / 11)), 400), minutes=drawn.randint(5, 600))
            status = "ACTIVE" if drawn.random() < 0.94 else drawn.choice(["INACTIVE", "REVOKED"])
            if name == REFUSED:
                status, added = "ACTIVE", now - timedelta(days=12, hours=3)
            if name in ENDING:
                ends, status = now + ENDING[name], "ACTIVE"
            if name in ("valve-00407", "pump-00431"):
                status = "INACTIVE"
            begins = min(added, ends - timedelta(days=2)) - timedelta(hours=1)
            certificate = issuer.sign(name, material.key("secp256r1"), begins=begins, ends=ends)
            policies = ["telemetry"] if name != "gauge-00405" else []
            found.append(Member(name, kind, certificate, status, policies, added))
    return found


def _bring(scene: Scene, issuer: Issuer, now: datetime) -> None:
    """Imports the fleet: an import keeps the times at which certificates were added."""
    here = {"region": REGION}
    created = _micros(now - timedelta(days=400))
    items: list[dict[str, Any]] = [
        {"kind": "thing_type", **here, "name": kind, "description": MODELS[kind], "created_at": created}
        for kind in KINDS
    ]
    for name, text in (("telemetry", TELEMETRY), ("supervisor", SUPERVISOR), ("firmware", FIRMWARE)):
        versions = [{"id": 1, "document": text, "created_at": created}]
        items.append(
            {"kind": "policy", **here, "name": name, "versions": versions, "default": 1, "created_at": created}
        )
    ca = {"pem": issuer.pem, "id": issuer.fingerprint, "status": "ACTIVE", "auto_registration": True, "mode": "DEFAULT"}
    items.append({"kind": "ca", **here, **ca, "created_at": created})
    old = new_issuer(
        "Riverside Plant CA 2019", now=now, begins=now - timedelta(days=2200), ends=now + timedelta(days=41)
    )
    items.append({"kind": "ca", **here, **ca, "pem": old.pem, "id": old.fingerprint, "auto_registration": False})
    items += [{"kind": "group", **here, "name": site, "created_at": created} for site in SITES]
    for number, member in enumerate(scene.members):
        attributes = {"model": MODELS[member.kind].replace(" ", "-"), "site": SITES[number % 3]}
        items.append({"kind": "thing", **here, "name": member.name, "type": member.kind, "attributes": attributes})
    for number, site in enumerate(SITES):
        names = [member.name for member in scene.members[number::3]]
        items.append({"kind": "members", **here, "group": site, "things": names})
    for member in scene.members:
        items.append({
            "kind": "certificate", **here, "id": member.id, "pem": pem(member.certificate), "status": member.status,
            "mode": "DEFAULT", "ca": issuer.fingerprint, "created_at": _micros(member.added),
            "policies": member.policies, "things": [{"name": member.name, "exclusive": False}],
        })  # fmt: skip
    items += _boilers(scene, now)
    _import(scene, items)
    scene.ca = issuer.fingerprint
    _make_template(scene)


def _boilers(scene: Scene, now: datetime) -> list[dict[str, Any]]:
    """Devices of a registry as Yandex had it: their certificates are for localhost."""
    items: list[dict[str, Any]] = [
        {"kind": "folder", "id": "b1g0waterworks000001", "name": "waterworks"},
        {"kind": "registry", "id": "are0boilers000000001", "folder": "b1g0waterworks000001", "name": "boilers",
         "description": "Boilers of the pumping stations", "labels": {"site": "all"}},
    ]  # fmt: skip
    began = now - timedelta(days=1500)
    for number in range(1, 13):
        made = new_issuer(
            "localhost", material.key("secp256r1"), now=now, begins=began, ends=began + timedelta(days=3650)
        )
        id = f"are0boiler0000000{number:03}"
        scene.boilers.append((id, made.pem))
        items.append({
            "kind": "device", "id": id, "registry": "are0boilers000000001", "name": f"boiler-{number:02}",
            "description": "Gas boiler", "labels": {"site": SITES[number % 3]}, "created_at": _micros(began),
            "topic_aliases": {f"boilers/{number:02}/state": f"$devices/{id}/state"},
            "certificates": [{"pem": made.pem, "created_at": _micros(began)}],
        })  # fmt: skip
    return items


def _import(scene: Scene, items: Sequence[dict[str, Any]]) -> None:
    id = scene.admin("import.start", source="test", origin="scene", identity="scene")["id"]
    after: dict[str, int] = {}
    for begin in range(0, len(items), _BATCH):
        place = {"done": begin}
        batch = items[begin : begin + _BATCH]
        found = scene.admin("import.apply", id=id, after=after, place=place, items=batch)["results"]
        assert {outcome for _, outcome, *_ in found} <= {"new", "completed", "noted"}, found
        after = place
    scene.admin("import.finish", id=id)


def _make_template(scene: Scene) -> None:
    trust = document({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "iot.amazonaws.com"}})
    scene.principal("role", "Provisioning", "thingmint/ProvisioningOnly", trust_policy=trust)
    scene.iot.create_provisioning_template(
        templateName="new-pumps",
        description="Pumps that register themselves at the factory",
        templateBody=json.dumps(TEMPLATE),
        provisioningRoleArn=f"arn:aws:iam::{ACCOUNT}:role/Provisioning",
        enabled=True,
    )


def _make_principals(scene: Scene) -> None:
    scene.principal("user", "maria", "thingmint/FullAccess")
    scene.principal("user", "deploy", "thingmint/ProvisioningOnly")
    scene.local.ask("key.create", principal="user/deploy")


def _refuse(scene: Scene) -> None:
    """What went wrong in the last hour, the most recent last."""
    for name, times, filters in (
        ("pump-00431", 2, ""), ("valve-00407", 9, ""), ("gauge-00405", 3, ""),
        ("pump-00415", 6, "water/#"), (REFUSED, 41, "water/+/commands"),
    ):  # fmt: skip
        credential = _credential(scene, scene.member(name))
        for _ in range(times):
            scene.refuse(credential, name, methodcaller("subscribe", filters), source=_address(name))


def _connect(scene: Scene) -> None:
    """Some devices stay connected. The others were, except for those that have never been used."""
    drawn = random.Random(5)
    for id, text in scene.boilers[:7]:
        device = scene.connect(scene.credential(id, text), id, source=_address(id))
        device.publish(f"$devices/{id}/state", json.dumps({"celsius": 61}).encode())
    for member in drawn.sample(scene.members, len(scene.members)):
        state = drawn.random()
        if member.status != "ACTIVE" or not member.policies or member.name == REFUSED or state > 0.94:
            continue
        version: Version = 4 if member.kind == "gauge" else 5
        device = scene.connect(_credential(scene, member), member.name, version, source=_address(member.name))
        if state > 0.7:
            device.disconnect()
            continue
        device.subscribe(f"water/{member.name}/commands")
        for _ in range(drawn.randint(0, 9)):
            device.publish(f"water/{member.name}/state", json.dumps({"bar": 3.1}).encode())


def _credential(scene: Scene, member: Member) -> Credential:
    return scene.credential(member.name, pem(member.certificate), member.id)


def _address(name: str) -> str:
    """One of this machine's loopback addresses, by the name."""
    one, other = sha256(name.encode()).digest()[:2]
    return f"127.0.{one % 8 + 10}.{max(1, other)}"


def _micros(when: datetime) -> int:
    return int(when.timestamp() * 1_000_000)


def _wait(scene: Scene) -> None:
    """Waits until the refusals, and the ends of the connections that have ended, are written."""
    data, deadline = scene.server.data_dir, time.monotonic() + 60
    while time.monotonic() < deadline:
        with database(data) as connection:
            refused = connection.execute("SELECT sum(amount) FROM refusals").fetchone()[0]
            ended = connection.execute("SELECT count(*) FROM certificate_activity WHERE disconnected_at > 0")
            if refused == REFUSALS and ended.fetchone()[0] > 30:
                return
        time.sleep(0.2)
    raise AssertionError("the refusals were not written in time")


def _age(scene: Scene) -> None:
    """Lets what has just happened have happened earlier, which no client can do."""
    drawn, minute = random.Random(3), 60 * 1_000_000
    with database(scene.server.data_dir) as connection:
        connection.execute("PRAGMA busy_timeout = 30000")
        first = {REFUSED: 47, "pump-00415": 21, "valve-00407": 33, "gauge-00405": 8, "pump-00431": 52}
        for name, minutes in first.items():
            last = 0 if name == REFUSED else minutes // 3
            connection.execute(
                "UPDATE refusals SET first_at = first_at - ?, last_at = last_at - ? WHERE client_id = ?",
                (minutes * minute, last * minute, name),
            )
        names = connection.execute("SELECT client_id FROM certificate_activity WHERE disconnected_at > 0 ORDER BY 1")
        for (name,) in names.fetchall():
            if name in first:
                continue
            minutes = int(drawn.expovariate(1 / 600)) + 3
            connection.execute(
                "UPDATE certificate_activity SET connected_at = connected_at - ?, "
                "disconnected_at = disconnected_at - ?, seen_at = seen_at - ? WHERE client_id = ?",
                ((minutes + 70) * minute, minutes * minute, minutes * minute, name),
            )
