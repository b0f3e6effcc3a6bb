"""TestAuthorization and GetEffectivePolicies with boto3: answers, errors, another account, and a restart."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import LocalAdmin, allow, deny, document, keys_of, refusal
from tests.e2e.commands import thingmint
from tests.e2e.conftest import iot_client
from tests.e2e.material import csr_pem
from thingmint.testing import running_server

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.testing import RunningServer

_UNKNOWN_ID = "0" * 64


class Lamp:
    """A thing in a group, with a certificate, and a policy for each."""

    def __init__(self, iot: Any) -> None:
        self.iot, self.name = iot, f"lamp-{secrets.token_hex(6)}"
        made = iot.create_certificate_from_csr(certificateSigningRequest=csr_pem(), setAsActive=True)
        self.certificate = made["certificateArn"]
        self.base = self.certificate.partition("cert/")[0]
        iot.create_thing(thingName=self.name)
        iot.attach_thing_principal(thingName=self.name, principal=self.certificate)
        group = iot.create_thing_group(thingGroupName=f"{self.name}-group")["thingGroupArn"]
        iot.add_thing_to_thing_group(thingGroupName=f"{self.name}-group", thingName=self.name)
        topic = f"{self.base}topic/${{iot:Connection.Thing.ThingName}}/*"
        self.own = self.policy("own", allow("iot:Connect", f"{self.base}client/${{iot:ClientId}}"))
        self.of_group = self.policy("group", allow("iot:Publish", topic), deny("iot:Publish", f"{self.base}topic/*/no"))
        iot.attach_policy(policyName=self.own["policyName"], target=self.certificate)
        iot.attach_policy(policyName=self.of_group["policyName"], target=group)

    def policy(self, suffix: str, *statements: dict[str, Any]) -> dict[str, str]:
        made = self.iot.create_policy(policyName=f"{self.name}-{suffix}", policyDocument=document(*statements))
        return {"policyName": made["policyName"], "policyArn": made["policyArn"]}

    def asked(self, action: str, resource: str, **further: Any) -> dict[str, Any]:
        info = {"actionType": action, "resources": [f"{self.base}{resource}"]}
        given = {"principal": self.certificate, "clientId": self.name, **further}
        (result,) = self.iot.test_authorization(authInfos=[info], **given)["authResults"]
        assert result.pop("authInfo") == info
        return result  # type: ignore[no-any-return]


@pytest.mark.both_engines
def test_decisions_have_the_form_of_awss(iot: Any) -> None:
    lamp = Lamp(iot)
    assert lamp.asked("CONNECT", f"client/{lamp.name}") == {
        "allowed": {"policies": [lamp.own]},
        "denied": {"implicitDeny": {"policies": [lamp.of_group]}, "explicitDeny": {"policies": []}},
        "authDecision": "ALLOWED",
        "missingContextValues": [],
    }
    assert lamp.asked("PUBLISH", f"topic/{lamp.name}/no") == {
        "allowed": {"policies": []},
        "denied": {"implicitDeny": {"policies": [lamp.own]}, "explicitDeny": {"policies": [lamp.of_group]}},
        "authDecision": "EXPLICIT_DENY",
        "missingContextValues": [],
    }
    assert lamp.asked("SUBSCRIBE", "topicfilter/x")["authDecision"] == "IMPLICIT_DENY"
    more = lamp.policy("more", allow("iot:Receive", f"{lamp.base}topic/${{aws:SourceIp}}"))
    received = lamp.asked("RECEIVE", "topic/x", policyNamesToAdd=[more["policyName"]])
    assert (received["authDecision"], received["missingContextValues"]) == ("IMPLICIT_DENY", ["aws:SourceIp"])
    skipped = lamp.asked("PUBLISH", f"topic/{lamp.name}/x", policyNamesToSkip=[lamp.of_group["policyName"]])
    assert skipped["authDecision"] == "IMPLICIT_DENY"

    answer = iot.get_effective_policies(principal=lamp.certificate, thingName=lamp.name)["effectivePolicies"]
    assert [{key: each[key] for key in ("policyName", "policyArn")} for each in answer] == [lamp.of_group, lamp.own]
    for each in answer:
        assert each["policyDocument"] == iot.get_policy(policyName=each["policyName"])["policyDocument"]
    assert [each["policyName"] for each in iot.get_effective_policies(thingName=lamp.name)["effectivePolicies"]] == [
        lamp.of_group["policyName"]
    ]


@pytest.mark.both_engines
def test_what_cannot_be_decided(iot: Any) -> None:
    lamp = Lamp(iot)
    info = {"actionType": "PUBLISH", "resources": [f"{lamp.base}topic/a"]}
    given = {"principal": lamp.certificate, "authInfos": [info]}
    unknown = f"{lamp.base}cert/{_UNKNOWN_ID}"
    missing = (404, "ResourceNotFoundException")
    assert refusal(iot.test_authorization, **{**given, "principal": unknown})[:2] == missing
    assert refusal(iot.test_authorization, **given, policyNamesToAdd=["none"])[:2] == missing
    assert refusal(iot.get_effective_policies, principal=unknown)[:2] == missing
    assert refusal(iot.get_effective_policies, thingName="none")[:2] == missing
    invalid = (400, "InvalidRequestException")
    for bad in (
        {**given, "principal": "x"},
        {"authInfos": [info]},
        {"authInfos": [info], "cognitoIdentityPoolId": "us-east-1:1"},
        {**given, "authInfos": [info] * 11},
        {**given, "authInfos": [{**info, "actionType": "DELETE"}]},
        {**given, "authInfos": [{"resources": info["resources"]}]},
        {**given, "authInfos": [{**info, "resources": ["topic/a"]}]},
        {**given, "policyNamesToSkip": ["a b"]},
    ):
        assert refusal(iot.test_authorization, **bad)[:2] == invalid, bad
    assert refusal(iot.get_effective_policies)[:2] == invalid
    assert refusal(iot.get_effective_policies, thingName="a b")[:2] == invalid


def test_another_account_finds_nothing(server: RunningServer, iot: Any) -> None:
    lamp, local_admin = Lamp(iot), LocalAdmin(server)
    keys = local_admin.ask("account.create", name=f"other-{secrets.token_hex(4)}")
    theirs = iot_client(server, **keys_of(keys))
    info = {"actionType": "PUBLISH", "resources": [f"{lamp.base}topic/a"]}
    their_base = lamp.base.replace(lamp.base.split(":")[4], keys["account"])
    their_info = {**info, "resources": [f"{their_base}topic/a"]}
    missing, invalid = (404, "ResourceNotFoundException"), (400, "InvalidRequestException")
    assert refusal(theirs.test_authorization, principal=lamp.certificate, authInfos=[info])[:2] == invalid
    assert refusal(theirs.test_authorization, principal=lamp.certificate, authInfos=[their_info])[:2] == missing
    for given in ({"principal": lamp.certificate}, {"thingName": lamp.name}):
        assert refusal(theirs.get_effective_policies, **given)[:2] == missing
    theirs.close()


def test_a_user_needs_permission(server: RunningServer, iot: Any) -> None:
    lamp, local_admin = Lamp(iot), LocalAdmin(server)
    info, other = {"actionType": "CONNECT", "resources": [f"{lamp.base}client/a"]}, Lamp(iot).certificate
    with local_admin.iot_of(allow("iot:TestAuthorization", lamp.certificate)) as limited:
        assert limited.test_authorization(principal=lamp.certificate, authInfos=[info])["authResults"]
        assert refusal(limited.get_effective_policies, principal=lamp.certificate)[0] == 403
        assert refusal(limited.test_authorization, principal=other, authInfos=[info])[0] == 403


def test_decisions_stay_after_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert thingmint("init", "--data-dir", data).returncode == 0
    with running_server(data) as server:
        lamp = Lamp(iot_client(server))
        before = lamp.asked("PUBLISH", f"topic/{lamp.name}/x")
        assert before["authDecision"] == "ALLOWED"
    with running_server(data) as server:
        lamp.iot = iot_client(server)
        assert lamp.asked("PUBLISH", f"topic/{lamp.name}/x") == before
