"""Registering the devices of a run: a repeated request gives the same certificates, and no device gets a second one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from tests.world import OURS
from thingmint.access.audit import AuditedStore, AuditLog
from thingmint.domain.errors import Conflict, NotFound, Unsupported
from thingmint.domain.ids import new_uuid
from thingmint.fleet.keys import make_csr, make_key
from thingmint.fleet.production import Production
from thingmint.services.fleet_runs import forget_old_fleet_runs
from thingmint.services.functions import Functions, FunctionTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.world import World
    from thingmint.services.functions import Use

pytestmark = pytest.mark.parametrize("world", ["sqlite", "postgres"], indirect=True)

_ROLE = f"arn:aws:iam::{OURS.account}:role/provisioning"
_CERTIFICATE = {
    "Type": "AWS::IoT::Certificate",
    "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"},
}


def _template(**thing: Any) -> str:
    named = {"ThingName": {"Fn::Join": ["", ["lamp-", {"Ref": "Serial"}]]}, **thing}
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}
    return json.dumps(
        {
            "Parameters": {"Serial": {"Type": "String"}, "Site": {"Type": "String", "Default": "home"}},
            "Resources": {
                "certificate": _CERTIFICATE,
                "thing": {"Type": "AWS::IoT::Thing", "Properties": named},
                "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": policy}},
            },
        }
    )


async def _production(world: World, *, size: int = 10, **thing: Any) -> tuple[Production, str]:
    """The commands, and the id of a run with the template ``lamp``."""
    await world.aws(
        "CreateProvisioningTemplate",
        templateName="lamp",
        templateBody=_template(**thing),
        provisioningRoleArn=_ROLE,
        enabled=True,
    )
    commands, run = _commands(world), new_uuid()
    await commands.begin(**await _target(commands, template="lamp"), run=run, size=size, done=0)
    return commands, run


def _commands(world: World) -> Production:
    return Production(
        AuditedStore(world.store, world.clock), AuditLog(world.store, world.clock), world.environment, world.clock
    )


async def _target(commands: Production, **named: str) -> dict[str, Any]:
    looked = await commands.look(account=OURS.account, **named)
    return {name: looked[name] for name in ("account", "region", "kind", "target", "version")}


def _device(place: int, **parameters: str) -> dict[str, Any]:
    csr = make_csr(make_key("p256"), f"d{place}").decode()
    return {"place": place, "name": f"d{place}", "parameters": parameters or {"Serial": f"s{place}"}, "csr": csr}


async def test_a_batch_makes_things_with_certificates_and_policies(world: World) -> None:
    commands, run = await _production(world)
    given = [_device(place) for place in range(3)]
    answer = await commands.register(run=run, done=0, devices=given)
    assert [device["name"] for device in answer["devices"]] == ["lamp-s0", "lamp-s1", "lamp-s2"]
    for device, asked in zip(answer["devices"], given, strict=True):
        certificate = x509.load_pem_x509_certificate(device["certificate_pem"].encode())
        assert certificate.public_key() == x509.load_pem_x509_csr(asked["csr"].encode()).public_key()
        assert certificate.subject.rfc4514_string() == f"CN={asked['name']}"
        described = await world.aws("DescribeCertificate", certificateId=device["certificate_id"])
        assert described["certificateDescription"]["status"] == "ACTIVE"
        principals = await world.aws("ListThingPrincipals", thingName=device["name"])
        assert principals["principals"] == [described["certificateDescription"]["certificateArn"]]
    assert await world.count("device_policy_attachments") == 3


async def test_a_repeated_request_gets_the_same_certificates(world: World) -> None:
    commands, run = await _production(world)
    given = [_device(place) for place in range(3)]
    first = await commands.register(run=run, done=0, devices=given)
    fresh = [*given, _device(3)]
    assert (await commands.register(run=run, done=0, devices=fresh))["devices"][:3] == first["devices"]
    assert await world.count("registrations") == 4


async def test_a_device_never_gets_a_certificate_for_another_key(world: World) -> None:
    commands, run = await _production(world)
    answer = await commands.register(run=run, done=0, devices=[_device(0)])
    id = answer["devices"][0]["certificate_id"]
    refused = (await commands.register(run=run, done=0, devices=[_device(0)]))["refused"]
    assert refused["name"] == "d0"
    assert refused["reason"] == f"it was registered with another key or other parameters, as certificate {id}"
    assert await world.count("registrations") == 1


async def test_only_devices_that_may_be_asked_for_again_are_stored(world: World) -> None:
    commands, run = await _production(world, size=4)
    devices = [_device(place) for place in range(4)]
    await commands.register(run=run, done=0, devices=devices[:2])
    await commands.register(run=run, done=2, devices=devices[2:])
    assert await world.count("fleet_run_devices") == 2
    with pytest.raises(Conflict, match="d0 has its certificate already"):
        await commands.register(run=run, done=0, devices=devices[:2])
    await commands.finish(run=run)
    assert await world.count("fleet_run_devices") == 0
    assert await world.count("registrations") == 4


async def test_one_refused_device_ends_its_whole_batch(world: World) -> None:
    commands, run = await _production(world)
    await world.aws("CreateThing", thingName="lamp-s1")
    await world.aws("AttachThingPrincipal", thingName="lamp-s1", principal=await _some_certificate(world))
    refused = (await commands.register(run=run, done=0, devices=[_device(place) for place in range(3)]))["refused"]
    assert refused == {"place": 1, "name": "d1", "reason": "Thing lamp-s1 exists, and has a certificate already"}
    assert await world.count("registrations") == 1
    assert world.environment.counts["certificates_discarded"] == 3


async def _some_certificate(world: World) -> str:
    return f"arn:aws:iot:{OURS.region}:{OURS.account}:cert/{await world.certificate()}"


async def test_all_devices_are_checked_without_a_change(world: World) -> None:
    commands, _ = await _production(world, ThingGroups=["lamps"])
    devices: list[dict[str, Any]] = [
        {"place": place, "name": f"d{place}", "parameters": parameters}
        for place, parameters in enumerate([{"Serial": "s0"}, {}, {"Serial": "no spaces"}])
    ]
    target = await _target(commands, template="lamp")
    found = [each["flaw"] for each in (await commands.check(**target, devices=devices))["devices"]]
    assert found[:2] == ["thing group lamps does not exist", "Cannot resolve reference value: Serial"]
    await world.aws("CreateThingGroup", thingGroupName="lamps")
    checked = (await commands.check(**target, devices=devices))["devices"]
    assert checked[0] == {"thing": "lamp-s0", "flaw": None}
    assert "ThingName must be" in checked[2]["flaw"]
    assert await world.count("things") == 0


async def test_devices_of_a_registry_have_their_certificates_bound(world: World) -> None:
    registry, commands, run = await world.registry(name="meters"), _commands(world), new_uuid()
    target = await _target(commands, registry=registry)
    assert (target["kind"], target["target"], target["region"]) == ("registry", registry, OURS.region)
    await commands.begin(**target, run=run, size=2, done=0)
    devices = [{**_device(place), "parameters": {}} for place in range(2)]
    answer = await commands.register(run=run, done=0, devices=devices)
    assert await commands.register(run=run, done=0, devices=devices) == answer
    for asked, made in zip(devices, answer["devices"], strict=True):
        assert (await world.yandex("DeviceService.Get", device_id=made["name"])).name == asked["name"]
        bound = await world.yandex("DeviceService.ListCertificates", device_id=made["name"])
        assert [each.fingerprint for each in bound.certificates] == [made["certificate_id"]]
    flaws = (await commands.check(**target, devices=devices))["devices"]
    assert flaws[0]["flaw"] == "device d0 already exists"


async def test_errors_name_what_there_is(world: World) -> None:
    commands, _ = await _production(world)
    with pytest.raises(Unsupported, match=r"template lump does not exist in region .* of account .*; there are lamp$"):
        await commands.look(account=OURS.account, template="lump")
    await world.aws("UpdateProvisioningTemplate", templateName="lamp", enabled=False)
    with pytest.raises(Unsupported, match="not enabled: enable it"):
        await commands.look(account=OURS.account, template="lamp")
    registry = await world.registry(name="meters")
    there = rf"registry are9 does not exist in account .*; there are {registry} \(meters\)"
    with pytest.raises(Unsupported, match=there):
        await commands.look(account=OURS.account, registry="are9")
    with pytest.raises(NotFound, match="account 999999999999"):
        await commands.look(account="999999999999", template="lamp")


async def test_a_run_uses_the_templates_version_that_it_began_with(world: World) -> None:
    commands, run = await _production(world)
    body = _template(AttributePayload={"site": "new"})
    await world.aws("CreateProvisioningTemplateVersion", templateName="lamp", templateBody=body, setAsDefault=True)
    await commands.register(run=run, done=0, devices=[_device(0)])
    assert (await world.aws("DescribeThing", thingName="lamp-s0"))["attributes"] == {}


async def test_a_run_must_fit_its_directory(world: World) -> None:
    commands, run = await _production(world)
    target = await _target(commands, template="lamp")
    await commands.register(run=run, done=0, devices=[_device(0), _device(1)])
    await commands.register(run=run, done=2, devices=[_device(2)])
    with pytest.raises(Conflict, match="2 devices are made, but the directory has only 1 of their certificates"):
        await commands.begin(**target, run=run, size=10, done=1)
    with pytest.raises(Conflict, match="does not know the run that made 3 devices"):
        await commands.begin(**target, run=new_uuid(), size=10, done=3)
    with pytest.raises(Conflict, match="another size"):
        await commands.begin(**target, run=run, size=11, done=2)
    assert await commands.begin(**target, run=run, size=10, done=3) == {"done": 2, "finished": False}


async def test_runs_are_forgotten_after_a_year(world: World) -> None:
    commands, run = await _production(world)
    await commands.register(run=run, done=0, devices=[_device(0)])
    await forget_old_fleet_runs(world.store, world.clock())
    assert await world.count("fleet_runs") == 1
    await forget_old_fleet_runs(world.store, world.clock() + timedelta(days=366))
    assert await world.count("fleet_runs") == await world.count("fleet_run_devices") == 0
    assert await world.count("registrations") == 1


async def test_a_batch_has_one_audit_record_with_its_counts(world: World) -> None:
    commands, run = await _production(world)
    given = [_device(0), _device(1)]
    await commands.register(run=run, done=0, devices=given)
    await commands.register(run=run, done=0, devices=[*given, _device(2)])
    await commands.finish(run=run)
    records = [json.loads(text) for (text,) in await world.rows("SELECT record FROM audit_records")]
    ours = [record for record in records if record.get("run") == run]
    counts = [(record["event"], record.get("registered"), record.get("repeated")) for record in ours]
    assert sorted(counts, key=str) == [
        ("FinishFleetRun", None, None),
        ("RegisterFleetDevices", 1, 2),
        ("RegisterFleetDevices", 2, 0),
        ("StartFleetRun", None, None),
    ]
    first = ours[counts.index(("RegisterFleetDevices", 2, 0))]
    assert first["parameters"] == {"template": "lamp", "devices": "2"}
    assert len(first["resources"]) == len(set(first["resources"])) == 5  # with the policy that the first batch made


class _Hook(FunctionTable):
    """A hook that overrides a parameter, and refuses one device."""

    def __init__(self) -> None:
        super().__init__(Functions())
        self.asked: list[Mapping[str, object]] = []

    async def call(self, account: str, arn: str, use: Use, event: Mapping[str, object], read: Any) -> Any:
        assert (account, arn.rpartition(":")[2], use) == (OURS.account, "ask", "pre_provisioning")
        self.asked.append(event)
        return read({"allowProvisioning": event["clientId"] != "d2", "parameterOverrides": {"Site": "factory"}})


async def test_the_templates_hook_is_asked_about_each_device(world: World) -> None:
    hook = _Hook()
    world.environment = replace(world.environment, functions=hook)
    commands, run = await _production(world, AttributePayload={"site": {"Ref": "Site"}})
    target = f"arn:aws:lambda:us-east-1:{OURS.account}:function:ask"
    await world.aws("UpdateProvisioningTemplate", templateName="lamp", preProvisioningHook={"targetArn": target})
    answer = await commands.register(run=run, done=0, devices=[_device(0), _device(1)])
    assert (await world.aws("DescribeThing", thingName="lamp-s1"))["attributes"] == {"site": "factory"}
    asked = [(each["clientId"], each["certificateId"], each["parameters"]) for each in hook.asked]
    assert asked == [
        (f"d{place}", made["certificate_id"], {"Serial": f"s{place}"}) for place, made in enumerate(answer["devices"])
    ]
    refused = (await commands.register(run=run, done=2, devices=[_device(2), _device(3)]))["refused"]
    assert (refused["name"], refused["reason"]) == ("d2", "Access Denied")
    assert await world.count("registrations") == 2
    assert world.environment.counts["certificates_discarded"] == 2
