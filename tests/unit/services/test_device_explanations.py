"""What `thingmint why` says about a device: who it is, whether it may connect, and which statement or rule decided."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.unit import vectors
from tests.unit.services.test_device_decisions import BASE, fleet, policy, statement
from tests.world import ABROAD, OURS, THEIRS
from thingmint.domain.errors import Invalid, NotFound
from thingmint.services.client_ids import ClientIds
from thingmint.services.device_authentication import DeviceAuthenticator
from thingmint.services.device_decisions import Question
from thingmint.services.device_explanations import Asked, Explainer, LiveConnection
from thingmint.services.hostnames import HostNames
from thingmint.services.owner_authentication import OwnerAuthenticator

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope

SCOPES = [OURS, ABROAD, THEIRS]
NAMES = HostNames({"iot.example": OURS, "theirs.example": THEIRS, "mqtt.example": OURS}, {"mqtt.example"})


async def explained(
    world: World,
    subject: str,
    *questions: Question,
    scopes: list[Scope] = SCOPES,
    limited: bool = False,
    connections: dict[str, list[LiveConnection]] | None = None,
    reinstate: bool = False,
    **facts: Any,
) -> list[dict[str, Any]]:
    owners = OwnerAuthenticator(world.store, cast("Any", None))
    authenticator = DeviceAuthenticator(world.store, NAMES, world.clock, OURS.account, owners=owners)

    def connections_of(scope: Scope, client_id: str, _limit: int) -> list[LiveConnection]:
        return (connections or {}).get(client_id, []) if scope == OURS else []

    explainer = Explainer(world.store, authenticator, owners, world.clock, connections_of, reinstate_revoked=reinstate)
    asked = Asked(subject=subject, questions=questions, **facts)
    return await explainer.explain(asked, scopes, is_limited=limited)


async def one(world: World, subject: str, *questions: Question, **facts: Any) -> dict[str, Any]:
    (report,) = await explained(world, subject, *questions, **facts)
    return report


def publish(topic: str, *, retain: bool = False) -> Question:
    return Question("Publish", topic, retain)


async def test_a_client_id_a_certificate_and_its_arn_mean_the_same_device(world: World) -> None:
    certificate = await fleet(world)
    fingerprint = certificate.rpartition("/")[2]
    pairs = ":".join(fingerprint[at : at + 2].upper() for at in range(0, 64, 2))
    for subject in ("lamp", certificate, fingerprint, fingerprint.upper(), pairs):
        report = await one(world, subject, publish("lamp/up"))
        assert (report["account"], report["region"]) == OURS
        assert (report["certificate"], report["status"], report["thing"]) == (fingerprint, "ACTIVE", "lamp")
        assert (report["client_id"], report["client_id_is_guessed"]) == ("lamp", subject != "lamp")
        assert report["connection"]["allowed"]
        assert [each["decision"] for each in report["answers"]] == ["ALLOWED", "ALLOWED"]


async def test_the_statement_that_decided_is_shown_with_the_values_of_its_variables(world: World) -> None:
    certificate = await fleet(world)
    connect, allowed, denied = (await one(world, "lamp", publish("lamp/up"), publish("lamp/secret")))["answers"]
    assert (connect["action"], connect["resource"]) == ("iot:Connect", f"{BASE}client/lamp")
    assert connect["statement"]["attached_to"] == [certificate]
    shown = allowed["statement"]
    assert (shown["policy"], shown["number"], shown["decides"]) == ("root", 1, True)
    assert shown["attached_to"] == [f"{BASE}thinggroup/root"]
    assert shown["text"] == statement("Allow", "Publish", "topic/${iot:Connection.Thing.ThingName}/*")
    assert shown["values"] == {"iot:Connection.Thing.ThingName": "lamp"}
    assert (denied["decision"], denied["statement"]["policy"]) == ("EXPLICIT_DENY", "leaf")
    assert denied["advice"] == [
        f"change statement 1 of policy leaf, or detach the policy from {BASE}thinggroup/leaf",
    ]


async def test_the_statement_that_came_closest_is_shown_with_what_it_lacks(world: World) -> None:
    certificate = await fleet(world)
    condition = {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}
    await policy(world, "here", statement("Allow", "Receive", "topic/lamp/*", Condition=condition), to=certificate)
    question = Question("Receive", "lamp/down")
    answer = (await one(world, "lamp", question))["answers"][1]
    assert (answer["decision"], answer["missing"]) == ("IMPLICIT_DENY", ("aws:SourceIp",))
    assert (answer["statement"]["policy"], answer["statement"]["decides"]) == ("here", False)
    assert answer["statement"]["values"] == {"aws:SourceIp": None}
    assert answer["statement"]["lacks"] == "condition not met: IpAddress of aws:SourceIp, which the request lacks"
    assert answer["advice"][-1] == "the policies depend on the connection: ask again with --address"
    assert (await one(world, "lamp", question, address="192.0.2.7"))["answers"][1]["decision"] == "ALLOWED"
    assert (await one(world, "lamp", question, address="198.51.100.7"))["answers"][1]["decision"] == "IMPLICIT_DENY"


async def test_a_retained_message_needs_two_actions(world: World) -> None:
    await fleet(world)
    plain, retained = (await one(world, "lamp", publish("lamp/up"), publish("lamp/up", retain=True)))["answers"][1:]
    assert (plain["action"], plain["decision"]) == ("iot:Publish", "ALLOWED")
    assert (retained["action"], retained["decision"]) == ("iot:RetainPublish", "IMPLICIT_DENY")
    assert retained["statement"] is None  # no statement names the action


async def test_a_connected_device_is_explained_with_the_facts_of_its_connection(world: World) -> None:
    certificate = await fleet(world)
    condition = {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}
    await policy(world, "here", statement("Allow", "Receive", "topic/*", Condition=condition), to=certificate)
    await policy(world, "any", statement("Allow", "Connect", "client/*"), to=certificate)
    connection = LiveConnection(certificate.rpartition("/")[2], "192.0.2.7", "iot.example", "x-1")
    report = await one(world, "x-1", Question("Receive", "a"), connections={"x-1": [connection]})
    assert (report["connected"], report["address"], report["host_name"]) == (True, "192.0.2.7", "iot.example")
    assert (report["client_id"], report["thing"]) == ("x-1", None)
    assert report["answers"][1]["decision"] == "ALLOWED"


@pytest.mark.parametrize(
    ("status", "reinstate", "advice"),
    [
        ("INACTIVE", False, "aws iot update-certificate --certificate-id {} --new-status ACTIVE"),
        ("REVOKED", True, "aws iot update-certificate --certificate-id {} --new-status ACTIVE"),
        (
            "REVOKED",
            False,
            "a revoked certificate stays revoked: make a new one (aws iot create-keys-and-certificate)",
        ),
    ],
)
async def test_a_certificate_that_is_not_active_may_not_connect(
    world: World, status: str, *, reinstate: bool, advice: str
) -> None:
    fingerprint = (await fleet(world)).rpartition("/")[2]
    await world.aws("UpdateCertificate", certificateId=fingerprint, newStatus=status)
    (report,) = await explained(world, "lamp", publish("lamp/up"), reinstate=reinstate)
    assert not report["connection"]["allowed"]
    assert report["connection"]["why"] == f"the certificate is {status}, not ACTIVE"
    assert report["connection"]["advice"] == [advice.format(fingerprint)]
    assert report["answers"][1]["decision"] == "ALLOWED"  # what it may do once it is ACTIVE


async def test_a_certificate_out_of_its_validity_may_not_connect(world: World) -> None:
    await fleet(world)
    world.clock.advance(days=365 * 40)
    connection = (await one(world, "lamp"))["connection"]
    assert "ended on" in connection["why"]
    assert connection["advice"] == ["the certificate has ended: make a new one (aws iot create-keys-and-certificate)"]


async def test_a_device_with_a_wrong_client_id_is_told_the_one_that_works(world: World) -> None:
    fingerprint = await world.certificate()
    certificate = f"{BASE}cert/{fingerprint}"
    await world.aws("CreateThing", thingName="lamp")
    await world.aws("AttachThingPrincipal", thingName="lamp", principal=certificate)
    of_thing = statement("Allow", "Connect", "client/${iot:Connection.Thing.ThingName}")
    await policy(world, "of-thing", of_thing, to=certificate)
    wrong = (await one(world, fingerprint, client_id="lamb"))["connection"]
    assert (wrong["allowed"], wrong["working_client_ids"]) == (False, ["lamp"])
    assert wrong["advice"] == ["the certificate is that of the thing lamp: use lamp as the client id"]
    await world.aws("UpdateCertificate", certificateId=fingerprint, newStatus="INACTIVE")
    inactive = (await one(world, fingerprint, client_id="lamb"))["connection"]
    assert inactive["working_client_ids"] == [], "with that client id it would be refused, too"


async def test_the_host_name_chooses_the_account(world: World) -> None:
    fingerprint = (await fleet(world)).rpartition("/")[2]
    pem = vectors.certificate_pem()
    assert await world.certificate(THEIRS, pem) != fingerprint
    wrong = await one(world, fingerprint, publish("lamp/up"), host_name="theirs.example")
    assert not wrong["connection"]["allowed"]
    assert wrong["status"] is None
    right = await one(world, fingerprint, host_name="iot.example")
    assert right["connection"]["allowed"]


async def test_an_unregistered_certificate_may_not_connect(world: World) -> None:
    report = await one(world, "0" * 64, publish("a"))
    assert report["connection"]["why"] == f"no certificate {'0' * 64} is registered"
    assert report["connection"]["advice"]
    assert (report["account"], report["rules"], report["answers"]) == (None, None, [])


async def test_unknown_names_and_accounts_are_errors(world: World) -> None:
    await fleet(world)
    for subject in ("none", "", "a b", "0" * 63):
        with pytest.raises(Invalid):
            await explained(world, subject)
    with pytest.raises(Invalid):
        await explained(world, "lamp", scopes=[THEIRS], limited=True)
    with pytest.raises(NotFound):
        await explained(world, f"arn:aws:iot:us-east-1:333333333333:cert/{'0' * 64}")


async def test_names_that_no_policy_can_allow(world: World) -> None:
    await fleet(world)
    answer = (await one(world, "lamp", publish("lamp/#")))["answers"][1]
    assert (answer["decision"], answer["statement"]) == ("IMPLICIT_DENY", None)
    assert answer["advice"] == ["use another name: no policy can allow this one"]


async def test_a_statement_that_is_no_valid_unicode_is_shown_as_text(world: World) -> None:
    certificate = f"{BASE}cert/{await world.certificate()}"
    await policy(world, "odd", statement("Allow", "Publish", "topic/\ud800"), to=certificate)
    answer = (await one(world, certificate, publish("a")))["answers"][0]
    assert "topic/\\ud800" in answer["statement"]["text"]


async def test_a_claim_certificate_may_provision_with_its_template(world: World) -> None:
    properties = {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}}
    body = json.dumps({"Resources": {"c": {"Type": "AWS::IoT::Certificate", "Properties": properties}}})
    role = "arn:aws:iam::111111111111:role/provisioning"
    await world.aws("CreateProvisioningTemplate", templateName="t", templateBody=body, provisioningRoleArn=role)
    claim = await world.aws("CreateProvisioningClaim", templateName="t")
    topic = "$aws/provisioning-templates/t/provision/json"
    report = await one(world, claim["certificateId"], publish(topic), publish("a"), client_id="new")
    assert (report["status"], report["connection"]["allowed"]) == ("claim certificate", True)
    assert [each["decision"] for each in report["answers"]] == ["ALLOWED", "ALLOWED", "IMPLICIT_DENY"]


async def yandex(world: World) -> dict[str, str]:
    """A registry with two devices, of which one has an alias and a certificate, and a device of another registry."""
    registry = await world.registry()
    pem = vectors.certificate_pem()
    certificates = [{"certificate_data": pem}]
    device = await world.device(registry, topic_aliases={"my/": "$devices/{id}/"}, certificates=certificates)
    found = await world.rows("SELECT fingerprint FROM certificates")
    return {
        "registry": registry,
        "device": device,
        "other": await world.device(registry),
        "foreign": await world.device(await world.registry()),
        "certificate": found[0][0].hex(),
    }


async def topic_decisions(world: World, subject: str, *questions: Question) -> list[tuple[str, Any]]:
    report = await one(world, subject, *questions)
    assert report["rules"] == "yandex"
    return [(each["decision"], each["topics"] or each["why"]) for each in report["answers"]]


async def test_yandex_topic_rules_answer_for_a_device(world: World) -> None:
    ids = await yandex(world)
    device, other, registry = ids["device"], ids["other"], ids["registry"]
    questions = [
        publish("$me/device/events"),
        publish("my/state/x", retain=True),
        publish("$me/device/config"),
        publish(f"$devices/{other}/events"),
        publish("lamp/up"),
        publish("a/#"),
        Question("Subscribe", "$me/registry/config/#"),
        Question("Subscribe", "$me/device/events"),
        Question("Receive", f"$devices/{device}/commands"),
    ]
    expected = [
        ("ALLOWED", [f"$devices/{device}/events"]),
        ("ALLOWED", [f"$devices/{device}/state/x"]),
        ("DENIED", "a device publishes to events and state only"),
        ("DENIED", "the topic is of another device"),
        ("DENIED", "the topic is neither one of Yandex IoT Core's nor an alias"),
        ("DENIED", "a topic is not empty, and has none of the characters + and #"),
        ("ALLOWED", [f"$registries/{registry}/config/#"]),
        ("DENIED", "a device may not read these topics"),
        ("ALLOWED", [f"$devices/{device}/commands"]),
    ]
    for subject in (device, ids["certificate"]):  # a device that has only a password is found by its id
        assert await topic_decisions(world, subject, *questions) == expected
        assert (await one(world, subject))["owner"] == {"kind": "device", "id": device, "registry": registry}


async def test_yandex_topic_rules_answer_for_a_registry(world: World) -> None:
    ids = await yandex(world)
    assert await topic_decisions(
        world,
        ids["registry"],
        publish(f"$devices/{ids['other']}/commands"),
        publish(f"$devices/{ids['foreign']}/commands"),
        publish("my/config"),  # by an alias of a device
        Question("Subscribe", "$registries/+/events"),
        Question("Subscribe", f"$devices/{ids['foreign']}/events"),
    ) == [
        ("ALLOWED", [f"$devices/{ids['other']}/commands"]),
        ("DENIED", "the topic is of a device that is not in the registry"),
        ("ALLOWED", [f"$devices/{ids['device']}/config"]),
        ("ALLOWED", [f"$registries/{ids['registry']}/events"]),
        ("DENIED", "the topic is of a device that is not in the registry"),
    ]


async def test_the_host_name_chooses_the_rules(world: World) -> None:
    ids = await yandex(world)
    for host_name, rules in ((None, "yandex"), ("mqtt.example", "yandex"), ("iot.example", "aws")):
        report = await one(world, ids["certificate"], publish("$me/device/events"), host_name=host_name)
        assert report["rules"] == rules
    unbound = (await fleet(world)).rpartition("/")[2]
    refused = await one(world, unbound, host_name="mqtt.example")
    assert refused["connection"]["why"] == "the certificate is bound to no device, registry or broker"


async def test_devices_of_a_disabled_registry_may_not_connect(world: World) -> None:
    ids = await yandex(world)
    await world.yandex("RegistryService.Disable", registry_id=ids["registry"])
    for subject in (ids["device"], ids["certificate"]):
        connection = (await one(world, subject))["connection"]
        assert connection["why"] == f"registry {ids['registry']} is disabled"
        assert connection["advice"] == [f"enable registry {ids['registry']}"]


async def test_connected_clients_of_yandex_owners_are_found_by_their_client_id(world: World) -> None:
    ids = await yandex(world)
    device, other, registry = ids["device"], ids["other"], ids["registry"]
    connections = [
        LiveConnection(ids["certificate"], "192.0.2.1", None, f"client#{device}"),
        LiveConnection("", "192.0.2.2", "mqtt.example", f"client#{other}"),  # by its password
        LiveConnection("0" * 64, "192.0.2.3", None, f"client#{registry}"),  # by its password, with any certificate
    ]
    reports = await explained(world, "client", publish("my/state"), connections={"client": connections})
    assert [report["owner"]["id"] for report in reports] == [device, other, registry]
    assert [report["certificate"] for report in reports] == [ids["certificate"], None, None]
    assert [report["address"] for report in reports] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert [report["host_name"] for report in reports] == [None, "mqtt.example", None]
    assert {(report["connected"], report["client_id"], report["rules"]) for report in reports} == {
        (True, "client", "yandex")
    }
    assert [report["answers"][0]["decision"] for report in reports] == ["ALLOWED", "DENIED", "DENIED"]


async def test_the_id_of_an_owner_chooses_among_equal_client_ids(world: World) -> None:
    device = (await yandex(world))["device"]
    report = await one(world, f"client#{device}", publish("my/state"))
    assert (report["owner"]["id"], report["client_id"], report["connected"]) == (device, "client", False)
    for unknown in ("client#", "client#none", "#", f"#{device}#"):
        with pytest.raises(Invalid):
            await explained(world, unknown)


async def test_a_client_whose_id_is_that_of_its_device_is_one_device(world: World) -> None:
    device = (await yandex(world))["device"]
    connections = [LiveConnection("", "192.0.2.1", None, f"{device}#{device}")]
    report = await one(world, device, connections={device: connections})
    assert (report["connected"], report["client_id"], report["address"]) == (True, device, "192.0.2.1")


async def test_clients_of_yandex_owners_at_other_processes_are_found(world: World) -> None:
    device = (await yandex(world))["device"]
    ids = ClientIds(world.store, "other process", world.clock)
    await ids.claim(OURS, f"client#{device}")
    for name in (f"client-2#{device}", "client", "client$", 'client"#x'):
        await ids.claim(OURS, name)
    await ids.claim(THEIRS, f"client#{device}")
    report = await one(world, "client", publish("my/state"))
    assert (report["owner"]["id"], report["client_id"], report["connected"]) == (device, "client", False)


async def test_more_than_ten_devices_are_refused(world: World) -> None:
    registry = await world.registry()
    names = [f"client#{await world.device(registry)}" for _ in range(11)]
    connections = {"client": [LiveConnection("", "192.0.2.1", None, name) for name in names]}
    with pytest.raises(Invalid, match="CLIENT_ID#ID"):
        await explained(world, "client", connections=connections)
    connections["client"].pop()
    assert len(await explained(world, "client", connections=connections)) == 10
