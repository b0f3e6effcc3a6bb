"""Rejected provisioning requests: the replies to the device, and the log for the operator."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import cbor2
import pytest

from tests.e2e.access.local_admin import LocalAdmin, allow, document, keys_of
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.material import csr_pem
from tests.e2e.provisioning.support import (
    CREATE,
    CREATE_FROM_CSR,
    LAMBDA,
    TRUST,
    rejection,
    serial,
    template,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.provisioning.support import Device, Fleet, HookServer, Identity

UNREADABLE = (400, "InvalidPayload", "Message cannot be parsed")
INVALID_TOKEN = (400, "InvalidCertificateOwnershipToken", "Certificate ownership token is invalid.")


@pytest.fixture
def device(fleet: Fleet) -> Iterator[Device]:
    with fleet.device() as device:
        yield device


def rejected(reply: tuple[bool, Any]) -> tuple[int, str, str]:
    accepted, document = reply
    assert not accepted, document
    return document["statusCode"], document["errorCode"], document["errorMessage"]


# -- payloads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("format", "payload"), [("json", b'{"a": 1, "a": 1}'), ("cbor", b"\xd9\xd9\xf7\xa0")])
def test_unreadable_payloads_are_rejected(device: Device, format: str, payload: bytes) -> None:
    for topic in (CREATE, CREATE_FROM_CSR, "$aws/provisioning-templates/any/provision"):
        assert rejected(device.ask(f"{topic}/{format}", payload)) == UNREADABLE


@pytest.mark.parametrize("csr", ["nonsense", csr_pem("secp256k1")], ids=["nonsense", "curve"])
def test_invalid_csrs_are_rejected(device: Device, csr: str) -> None:
    payload = json.dumps({"certificateSigningRequest": csr}).encode()
    status, code, message = rejected(device.ask(f"{CREATE_FROM_CSR}/json", payload))
    assert (status, code) == (400, "InvalidCertificateSigningRequest")
    assert message.startswith("CSR violates constraints: ")


# -- templates and tokens -----------------------------------------------------------------------------------------


def test_a_token_is_valid_once_and_for_its_claim(fleet: Fleet) -> None:
    name, number = fleet.new_template(), serial()
    with fleet.device() as device, fleet.device(fleet.new_claim()) as thief:
        made = device.certificate()
        token = made["certificateOwnershipToken"]
        assert rejection(thief, name, token, SerialNumber=number) == INVALID_TOKEN
        assert fleet.status(made["certificateId"]) == "PENDING_ACTIVATION"
        first = device.register(name, token, SerialNumber=number)
        assert first[0]
        assert rejection(thief, name, token, SerialNumber=number) == INVALID_TOKEN
        version = fleet.iot.describe_thing(thingName=f"lamp-{number}")["version"]
        # The reply may have been lost: a repeated request, in both formats and over another connection, gets the same.
        with fleet.device() as again:
            assert again.register(name, token, SerialNumber=number) == first
            topic = f"$aws/provisioning-templates/{name}/provision/cbor"
            asked = {"parameters": {"SerialNumber": number}, "certificateOwnershipToken": token}
            assert again.ask(topic, cbor2.dumps(asked)) == first
        assert fleet.iot.describe_thing(thingName=f"lamp-{number}")["version"] == version
        for changed in ({"SerialNumber": f"{number}-2"}, {"SerialNumber": number, "Site": "attic"}, {}):
            assert rejection(device, name, token, **changed) == INVALID_TOKEN
        assert rejection(device, fleet.new_template(), token, SerialNumber=number) == INVALID_TOKEN


def test_a_token_is_valid_in_one_account(fleet: Fleet) -> None:
    """A token of one account is invalid in another account, and the other way round."""
    new = fleet.local_admin.ask("account.create", name=f"other-{serial()}")
    other = LocalAdmin(fleet.server, new["account"])
    other.ask("role.create", name="fleet", trust_policy=TRUST)
    other.ask("policy.attach", principal="role/fleet", policy="thingmint/FullAccess")
    iot = iot_client(fleet.server, **keys_of(new))
    made = iot.create_certificate_from_csr(certificateSigningRequest=csr_pem(), setAsActive=True)
    iot.create_policy(policyName="all", policyDocument=document(allow("iot:*")))
    iot.attach_policy(policyName="all", target=made["certificateArn"])
    role = f"arn:aws:iam::{new['account']}:role/fleet"
    name = fleet.new_template()
    iot.create_provisioning_template(
        templateName=name, enabled=True, provisioningRoleArn=role, templateBody=template(policy="all")
    )
    with fleet.device() as ours, fleet.device(fleet.identity(made)) as theirs:
        token = ours.certificate()["certificateOwnershipToken"]
        assert rejection(theirs, name, token, SerialNumber=serial()) == INVALID_TOKEN
        own = theirs.certificate()["certificateOwnershipToken"]
        assert rejection(ours, name, own, SerialNumber=serial()) == INVALID_TOKEN
        number = serial()
        assert theirs.register(name, own, SerialNumber=number)[0]
        assert ours.register(name, token, SerialNumber=number)[0]
    assert iot.describe_thing(thingName=f"lamp-{number}")["thingArn"].split(":")[4] == new["account"]
    iot.close()


@pytest.mark.parametrize("fate", ["deleted", "REVOKED", "INACTIVE"])
def test_changes_of_a_certificate_before_registration_are_kept(fleet: Fleet, device: Device, fate: str) -> None:
    name, number = fleet.new_template(), serial()
    made = device.certificate()
    if fate == "deleted":
        fleet.iot.delete_certificate(certificateId=made["certificateId"])
    else:
        fleet.iot.update_certificate(certificateId=made["certificateId"], newStatus=fate)
    accepted, reply = device.register(name, made["certificateOwnershipToken"], SerialNumber=number)
    if fate == "INACTIVE":  # the template does not change a status that was set
        assert accepted
    else:
        assert rejected((accepted, reply)) == INVALID_TOKEN
    if fate != "deleted":
        assert fleet.status(made["certificateId"]) == fate


# -- effects ------------------------------------------------------------------------------------------------------

FAILURE = re.compile(
    r"Register thing workflow execution terminates due to: (.*) \(Service: AWSIot; Status Code: (\d+); "
    r"Error Code: (\w+); Request ID: [0-9a-f-]{36}; Proxy: null\)"
)


def failing(device: Device, name: str, **parameters: str) -> tuple[str, ...]:
    """Registers a thing, which must fail. Returns the reason, status and code in the message."""
    token = device.certificate()["certificateOwnershipToken"]
    status, code, message = rejection(device, name, token, **parameters)
    assert (status, code) == (400, "ProvisioningFailed")
    match = FAILURE.fullmatch(message)
    assert match, message
    return match.groups()


def test_a_failed_template_leaves_no_effects(fleet: Fleet, device: Device) -> None:
    """The missing policy fails after the effect on the certificate's status, and before the thing."""
    number = serial()
    name = fleet.new_template(template(policy="not-there"))
    made = device.certificate()
    _, _, message = rejection(device, name, made["certificateOwnershipToken"], SerialNumber=number)
    match = FAILURE.fullmatch(message)
    assert match
    assert match.groups() == ("Policy default version not found", "400", "ResourceRegistrationFailureException")
    assert fleet.status(made["certificateId"]) == "PENDING_ACTIVATION"
    assert f"lamp-{number}" not in {thing["thingName"] for thing in fleet.iot.list_things()["things"]}
    # The token is still valid.
    good = fleet.new_template()
    assert device.register(good, made["certificateOwnershipToken"], SerialNumber=number)[0]


@pytest.mark.parametrize("hostile", ['x"},{"Action":"iot:*","Resource":"*"},{"a":"', "*", "${iot:ClientId}"])
def test_parameters_cannot_change_the_structure_of_a_policy(fleet: Fleet, device: Device, hostile: str) -> None:
    body = json.loads(template())
    topic = "arn:aws:iot:us-east-1:1:topic/${SerialNumber}"
    body["Resources"]["policy"]["Properties"] = {"PolicyDocument": {"Fn::Sub": document(allow("iot:Publish", topic))}}
    name, made = fleet.new_template(json.dumps(body)), device.certificate()
    policies = fleet.iot.list_policies(pageSize=250)["policies"]
    rejected = rejection(device, name, made["certificateOwnershipToken"], SerialNumber=hostile)
    assert rejected == (400, "InvalidParameters", "Parameter SerialNumber cannot be used in a policy")
    assert fleet.status(made["certificateId"]) == "PENDING_ACTIVATION"
    assert fleet.iot.list_policies(pageSize=250)["policies"] == policies
    assert device.register(name, made["certificateOwnershipToken"], SerialNumber=serial())[0]


def test_missing_permissions_of_a_role_are_only_in_the_log(fleet: Fleet, device: Device) -> None:
    number, role, lacking = serial(), f"r-{serial()}", "AttachThingPrincipal"
    fleet.local_admin.ask("role.create", name=role, trust_policy=TRUST)
    fleet.local_admin.ask("policy.attach", principal=f"role/{role}", policy="thingmint/FullAccess")
    deny = {"Effect": "Deny", "Action": f"iot:{lacking}", "Resource": "*"}
    fleet.local_admin.ask("policy.put", name=role, document=document(deny))
    fleet.local_admin.ask("policy.attach", principal=f"role/{role}", policy=role)
    arn = f"arn:aws:iam::{fleet.account}:role/{role}"
    name = fleet.new_template(provisioningRoleArn=arn)
    size = fleet.server.output.stat().st_size
    reason, status, code = failing(device, name, SerialNumber=number)
    assert (status, code) == ("403", "AccessDeniedException")
    assert role not in reason
    (line,) = [line for line in fleet.log_since(size) if line["event"] == "refused"]
    assert (line["action"], line["principal"]) == (f"iot:{lacking}", arn)
    assert line["resource"].startswith(f"arn:aws:iot:us-east-1:{fleet.account}:")
    fleet.local_admin.ask("policy.detach", principal=f"role/{role}", policy=role)
    token = device.certificate()["certificateOwnershipToken"]
    assert device.register(name, token, SerialNumber=number)[0]


def test_a_role_that_cannot_be_assumed_is_only_in_the_log(fleet: Fleet, device: Device) -> None:
    role = f"r-{serial()}"
    fleet.local_admin.ask(
        "role.create", name=role, trust_policy=TRUST.replace("iot.amazonaws.com", "ec2.amazonaws.com")
    )
    fleet.local_admin.ask("policy.attach", principal=f"role/{role}", policy="thingmint/FullAccess")
    arn = f"arn:aws:iam::{fleet.account}:role/{role}"
    size = fleet.server.output.stat().st_size
    reason, status, _ = failing(device, fleet.new_template(provisioningRoleArn=arn), SerialNumber=serial())
    assert status == "403"
    assert arn not in reason
    (line,) = [line for line in fleet.log_since(size) if line["event"] == "role_not_assumed"]
    assert line["role"] == arn


# -- hooks --------------------------------------------------------------------------------------------------------


def hooked(fleet: Fleet, target: str = LAMBDA, body: str | None = None) -> str:
    return fleet.new_template(body, preProvisioningHook={"targetArn": target})


def test_a_hook_is_called_and_overrides_parameters(fleet: Fleet, device: Device, hook: HookServer) -> None:
    name, number = hooked(fleet), serial()
    made = device.certificate()
    hook.set_answer({"allowProvisioning": True, "parameterOverrides": {"Site": "attic", "Unknown": "x"}})
    accepted, thing = device.register(name, made["certificateOwnershipToken"], SerialNumber=number, Extra="y")
    assert (accepted, thing) == (
        True,
        {"thingName": f"lamp-{number}", "deviceConfiguration": {"Url": "https://attic.example.org"}},
    )
    assert hook.asked == [
        {
            "claimCertificateId": fleet.claim.fingerprint,
            "certificateId": made["certificateId"],
            "certificatePem": made["certificatePem"],
            "templateArn": f"arn:aws:iot:us-east-1:{fleet.account}:provisioningtemplate/{name}",
            "clientId": device.client_id,
            "parameters": {"SerialNumber": number, "Extra": "y"},
        }
    ]
    # The hook is not called for a retry.
    hook.set_answer({"allowProvisioning": False})
    assert device.register(name, made["certificateOwnershipToken"], SerialNumber=number, Extra="y") == (True, thing)
    assert hook.asked == []


DENIED = (403, "AccessDenied", "Access Denied")
NOT_EXECUTED = (400, "InvocationError", "The provisioning hook was not executed successfully.")
NOT_REACHED = (400, "InvocationError", "A failure occurred while invoking the provisioning hook.")
NOT_ALLOWED = (400, "InvocationError", "Access denied while invoking Lambda function")
NO_RESULT = (400, "InvalidResult", "The provisioning hook did not return a response.")
INVALID_RESULT = (400, "InvalidResult", "Provisioning hook result is in an invalid format.")


@pytest.mark.parametrize(
    ("answer", "status", "expected"),
    [
        ({"allowProvisioning": False}, 200, DENIED),
        ({"allowProvisioning": False, "parameterOverrides": {"Site": "x"}}, 200, DENIED),
        ({}, 200, INVALID_RESULT),
        ({"allowProvisioning": "true"}, 200, INVALID_RESULT),
        ({"allowProvisioning": 1}, 200, INVALID_RESULT),
        ({"allowProvisioning": None}, 200, INVALID_RESULT),
        ({"allowProvisioning": True, "parameterOverrides": []}, 200, INVALID_RESULT),
        ({"allowProvisioning": True, "parameterOverrides": {"Site": 1}}, 200, INVALID_RESULT),
        ([], 200, INVALID_RESULT),
        (b"<html>", 200, INVALID_RESULT),
        (b"\xff\xfe", 200, INVALID_RESULT),
        (b"[" * 60_000, 200, INVALID_RESULT),
        (json.dumps({"allowProvisioning": True, "pad": "x" * 70_000}).encode(), 200, INVALID_RESULT),
        (b"", 200, NO_RESULT),
        (b"null", 200, NO_RESULT),
        ({"allowProvisioning": True}, 201, NOT_EXECUTED),
        ({"allowProvisioning": True}, 500, NOT_EXECUTED),
        ({"allowProvisioning": True}, 404, NOT_EXECUTED),
        ({"allowProvisioning": True}, 401, NOT_ALLOWED),
        ({"allowProvisioning": True}, 403, NOT_ALLOWED),
    ],
)
def test_a_hook_without_valid_permission_rejects(
    fleet: Fleet, device: Device, hook: HookServer, answer: Any, status: int, expected: tuple[int, str, str]
) -> None:
    name, number = hooked(fleet), serial()
    made = device.certificate()
    hook.set_answer(answer, status)
    assert rejection(device, name, made["certificateOwnershipToken"], SerialNumber=number) == expected
    assert len(hook.asked) == 1
    assert fleet.status(made["certificateId"]) == "PENDING_ACTIVATION"
    # When the hook allows it, the token is still valid.
    hook.set_answer({"allowProvisioning": True, "parameterOverrides": None})
    assert device.register(name, made["certificateOwnershipToken"], SerialNumber=number)[0]


def test_redirects_of_a_hook_are_not_followed(fleet: Fleet, device: Device, hook: HookServer) -> None:
    hook.set_answer(b"", 307, location=f"http://127.0.0.1:{hook.port}/elsewhere")
    token = device.certificate()["certificateOwnershipToken"]
    assert rejection(device, hooked(fleet), token, SerialNumber=serial()) == NOT_EXECUTED
    assert len(hook.asked) == 1


@pytest.mark.parametrize(
    ("suffix", "expected"), [("-dead", NOT_REACHED), ("-missing", NOT_ALLOWED), ("-unknown", NOT_ALLOWED)]
)
def test_missing_and_unreachable_hooks_have_different_errors(
    fleet: Fleet, device: Device, suffix: str, expected: tuple[int, str, str]
) -> None:
    token = device.certificate()["certificateOwnershipToken"]
    assert rejection(device, hooked(fleet, f"{LAMBDA}{suffix}"), token, SerialNumber=serial()) == expected


def test_a_hook_times_out_after_five_seconds(fleet: Fleet, device: Device, hook: HookServer) -> None:
    def slowly(_: Any) -> tuple[int, dict[str, str], bytes]:
        time.sleep(7)
        return 200, {}, b'{"allowProvisioning": true}'

    token = device.certificate()["certificateOwnershipToken"]
    hook.answer = slowly
    began = time.monotonic()
    assert rejection(device, hooked(fleet), token, SerialNumber=serial()) == NOT_EXECUTED
    assert 4.5 < time.monotonic() - began < 6.5


# -- audit log ----------------------------------------------------------------------------------------------------


def test_requests_are_audited(fleet: Fleet) -> None:
    claim = fleet.new_claim()  # a new one, whose requests are not counted yet
    with fleet.device(claim) as device:
        check_audited(fleet, claim, device)


def check_audited(fleet: Fleet, claim: Identity, device: Device) -> None:
    name, number = fleet.new_template(), serial()
    made = device.certificate()
    assert rejection(device, name, "nonsense", SerialNumber=number) == INVALID_TOKEN
    assert device.register(name, made["certificateOwnershipToken"], SerialNumber=number)[0]

    def records() -> list[dict[str, Any]]:
        done = in_process("audit", "export", "--data-dir", fleet.server.data_dir)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        found = [entry.get("record", entry) for entry in found]
        return [entry for entry in found if entry.get("clientId") == device.client_id]

    wait_until(lambda: len([r for r in records() if r["event"] != "Connect"]) >= 3, "not all records are written")
    created, refused, registered = sorted(
        (entry for entry in records() if entry["event"] != "Connect"), key=lambda entry: entry["time"]
    )
    certificate = f"arn:aws:iot:us-east-1:{fleet.account}:cert/"
    assert (created["event"], created["outcome"]) == ("CreateCertificateFromCsr", "success")
    assert created["resources"] == [certificate + made["certificateId"]]
    assert (refused["event"], refused["outcome"]) == ("RegisterThing", "refused")
    assert (refused["error"], refused["reason"]) == (INVALID_TOKEN[1], INVALID_TOKEN[2])
    assert (registered["event"], registered["outcome"]) == ("RegisterThing", "success")
    assert set(registered["resources"]) == {
        certificate + made["certificateId"],
        f"arn:aws:iot:us-east-1:{fleet.account}:thing/lamp-{number}",
        f"arn:aws:iot:us-east-1:{fleet.account}:policy/fleet-device",
    }
    for record in (created, refused, registered):
        assert record["principal"] == certificate + claim.fingerprint
        assert record["source"] == "iot.amazonaws.com"
        assert made["certificateOwnershipToken"] not in json.dumps(record)
