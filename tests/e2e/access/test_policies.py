"""Policies of users, as boto3 and httpx see their effect."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.access.local_admin import LocalAdmin, allow, deny, document, error_of, keys_of, refusal
from tests.e2e.conftest import iot_client
from tests.e2e.material import csr_pem, self_signed_pem
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.both_engines

_ID = "ab" * 32

# By operation: boto3's method, its arguments, and the authorized resource.
_OPERATIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "CreateKeysAndCertificate": ("create_keys_and_certificate", {}, "*"),
    "CreateCertificateFromCsr": ("create_certificate_from_csr", {"certificateSigningRequest": csr_pem()}, "*"),
    "RegisterCertificateWithoutCA": ("register_certificate_without_ca", {"certificatePem": self_signed_pem()}, "*"),
    "ListCertificates": ("list_certificates", {}, "*"),
    "DescribeEndpoint": ("describe_endpoint", {}, "*"),
    "DescribeCertificate": ("describe_certificate", {"certificateId": _ID}, f"cert/{_ID}"),
    "UpdateCertificate": ("update_certificate", {"certificateId": _ID, "newStatus": "INACTIVE"}, f"cert/{_ID}"),
    "DeleteCertificate": ("delete_certificate", {"certificateId": _ID}, f"cert/{_ID}"),
    "CreatePolicy": ("create_policy", {"policyName": "p", "policyDocument": "{}"}, "policy/p"),
    # Not served yet, but authorization comes first.
    "ListThings": ("list_things", {}, "*"),
}


def call(iot: Any, operation: str) -> str | None:
    """The code of the refusal, if any."""
    method, arguments, _ = _OPERATIONS[operation]
    try:
        getattr(iot, method)(**arguments)
    except iot.exceptions.ClientError as error:
        return str(error.response["Error"]["Code"])
    return None


@pytest.mark.parametrize("operation", _OPERATIONS)
def test_a_new_user_is_refused_everything(local_admin: LocalAdmin, account: str, operation: str) -> None:
    user = local_admin.user()
    method, arguments, on = _OPERATIONS[operation]
    resource = on if on == "*" else f"arn:aws:iot:us-east-1:{account}:{on}"
    with local_admin.iot(local_admin.key(user)) as iot:
        assert refusal(getattr(iot, method), **arguments) == (
            403,
            "AccessDeniedException",
            (
                f"User: arn:aws:iam::{account}:user/{user} is not authorized to perform: iot:{operation} on resource: "
                f"{resource} because no identity-based policy allows the iot:{operation} action"
            ),
        )


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/keys-and-certificate", None),
        ("POST", "/v1/certificates", {"csr": csr_pem()}),
        ("GET", "/v1/certificates", None),
        ("GET", f"/v1/certificates/{_ID}", None),
        ("PATCH", f"/v1/certificates/{_ID}", {"status": "ACTIVE"}),
        ("DELETE", f"/v1/certificates/{_ID}", None),
        ("POST", "/v1/access/user/create", {"name": "x"}),
        ("POST", "/v1/access/policy/attach", {"principal": "x", "policy": "thingmint/Administrator"}),
    ],
)
def test_a_new_user_is_refused_everything_over_the_native_api(
    local_admin: LocalAdmin, account: str, method: str, target: str, body: dict[str, str] | None
) -> None:
    user = local_admin.user()
    with local_admin.native(user) as native:
        answer = native.request(method, target, json=body)
    assert error_of(answer) == (403, "PERMISSION_DENIED")
    assert f"arn:aws:iam::{account}:user/{user} is not authorized" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "action"),
    [
        ({"csr": csr_pem()}, "CreateCertificateFromCsr"),
        ({"certificate_pem": self_signed_pem()}, "RegisterCertificateWithoutCA"),
    ],
)
def test_adding_a_certificate_over_the_native_api_needs_the_action_of_aws(
    local_admin: LocalAdmin, body: dict[str, str], action: str
) -> None:
    with local_admin.native(local_admin.user(allow(f"iot:{action}"))) as native:
        assert native.post("/v1/certificates", json=body).status_code == 200
    with local_admin.native(local_admin.user()) as native:
        message = native.post("/v1/certificates", json=body).json()["error"]["message"]
    assert f"not authorized to perform iot:{action} on" in message


@pytest.mark.parametrize(
    ("policy", "allowed", "refused"),
    [
        ("Administrator", {*_OPERATIONS}, set()),
        ("FullAccess", {*_OPERATIONS}, set()),
        (
            "ReadOnly",
            {"ListCertificates", "DescribeCertificate", "DescribeEndpoint", "ListThings"},
            {"CreateKeysAndCertificate", "UpdateCertificate", "DeleteCertificate", "CreatePolicy"},
        ),
        (
            "ProvisioningOnly",
            {"CreateKeysAndCertificate", "CreateCertificateFromCsr", "UpdateCertificate", "DescribeEndpoint"},
            {"DeleteCertificate", "ListCertificates", "CreatePolicy"},
        ),
        (
            "AuditOnly",
            {"ListCertificates", "DescribeCertificate"},
            {"CreateCertificateFromCsr", "UpdateCertificate", "DeleteCertificate"},
        ),
    ],
)
def test_managed_policies_allow_their_operations_only(
    local_admin: LocalAdmin, policy: str, allowed: set[str], refused: set[str]
) -> None:
    user = local_admin.user(f"thingmint/{policy}")
    with local_admin.iot(local_admin.key(user)) as iot:
        assert {name for name in allowed if call(iot, name) == "AccessDeniedException"} == set()
        assert {name for name in refused if call(iot, name) != "AccessDeniedException"} == set()
    with local_admin.native(user) as native:
        status = native.post("/v1/access/user/list").status_code
        assert status == (200 if policy == "Administrator" else 403)


def test_a_policy_allows_one_certificate_only(local_admin: LocalAdmin, account: str, iot: Any) -> None:
    one, other = (iot.create_certificate_from_csr(certificateSigningRequest=csr_pem()) for _ in range(2))
    with local_admin.iot_of(
        allow(["iot:DescribeCertificate", "iot:UpdateCertificate"], one["certificateArn"])
    ) as limited:
        id = one["certificateId"]
        assert limited.describe_certificate(certificateId=id)["certificateDescription"]["status"] == "INACTIVE"
        limited.update_certificate(certificateId=id, newStatus="ACTIVE")
        # An id in upper case is the same certificate.
        limited.describe_certificate(certificateId=id.upper())
        status, code, text = refusal(limited.describe_certificate, certificateId=other["certificateId"])
        assert (status, code) == (403, "AccessDeniedException")
        assert f"on resource: arn:aws:iot:us-east-1:{account}:cert/{other['certificateId']} because no" in text
        # An unknown id is refused in the same way, so that callers cannot find out which ids exist.
        assert refusal(limited.describe_certificate, certificateId=_ID)[:2] == (403, "AccessDeniedException")
        assert refusal(limited.delete_certificate, certificateId=id)[:2] == (403, "AccessDeniedException")
    with local_admin.native(local_admin.user(allow("iot:DescribeCertificate", one["certificateArn"]))) as native:
        assert native.get(f"/v1/certificates/{id}").status_code == 200
        assert error_of(native.get(f"/v1/certificates/{other['certificateId']}")) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize("second", ["own", "same document"])
def test_an_explicit_deny_wins(local_admin: LocalAdmin, account: str, second: str) -> None:
    no = deny("iot:CreateKeysAndCertificate", Sid="NoKeys")
    if second == "own":
        user = local_admin.user("thingmint/FullAccess", no)
    else:
        user = local_admin.user()
        local_admin.ask("policy.put", name="both", document=document(allow("iot:*"), no))
        local_admin.attach(f"user/{user}", "both")
    with local_admin.iot(local_admin.key(user)) as iot:
        iot.list_certificates()
        assert refusal(iot.create_keys_and_certificate) == (
            403,
            "AccessDeniedException",
            (
                f"User: arn:aws:iam::{account}:user/{user} is not authorized to perform: iot:CreateKeysAndCertificate "
                "on resource: * with an explicit deny in an identity-based policy"
            ),
        )


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ({"Effect": "Allow", "NotAction": "iot:Delete*", "Resource": "*"}, {"ListCertificates", "DescribeEndpoint"}),
        ({"Effect": "Allow", "NotAction": ["iot:List*", "iot:Delete*"], "Resource": "*"}, {"DescribeEndpoint"}),
        (
            {"Effect": "Allow", "Action": "iot:*", "NotResource": f"*:cert/{_ID}"},
            {"ListCertificates", "DescribeEndpoint"},
        ),
        (allow("iot:L?stCertificates"), {"ListCertificates"}),
        (allow("IOT:listcertificates"), {"ListCertificates"}),
        (allow(["iot:DescribeEndpoint", "thingmint:*"]), {"DescribeEndpoint"}),
        (allow("iot:*", "arn:aws:iot:us-east-1:*:cert/*"), {"DeleteCertificate"}),
        (allow("iot:*", "arn:aws:iot:eu-central-1:*:cert/*"), set()),
        (allow("yandex:*"), set()),
    ],
)
def test_statements_match_by_action_and_resource(
    local_admin: LocalAdmin, statement: dict[str, Any], allowed: set[str]
) -> None:
    probes = {"ListCertificates", "DescribeEndpoint", "DeleteCertificate"}
    with local_admin.iot_of(statement) as iot:
        assert {name for name in probes if call(iot, name) != "AccessDeniedException"} == allowed


_NOW = datetime.now(UTC)


def _at(**offset: float) -> str:
    return (_NOW + timedelta(**offset)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("condition", "allowed"),
    [
        ({"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, True),
        ({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "127.0.0.1"]}}, True),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, False),
        ({"NotIpAddress": {"aws:SourceIp": "127.0.0.1/32"}}, False),
        ({"DateGreaterThan": {"aws:CurrentTime": _at(hours=-1)}}, True),
        ({"DateGreaterThan": {"aws:CurrentTime": _at(hours=1)}}, False),
        ({"DateLessThan": {"aws:CurrentTime": _at(hours=1)}, "IpAddress": {"aws:SourceIp": "127.0.0.1"}}, True),
        ({"DateLessThan": {"aws:CurrentTime": _at(hours=1)}, "IpAddress": {"aws:SourceIp": "10.0.0.1"}}, False),
        ({"StringEquals": {"aws:RequestedRegion": "us-east-1"}}, True),
        ({"StringEquals": {"aws:RequestedRegion": "eu-central-1"}}, False),
        ({"StringLike": {"aws:username": "user-*"}}, True),
        ({"Null": {"aws:MultiFactorAuthAge": "true"}}, True),
        ({"Bool": {"aws:MultiFactorAuthPresent": "true"}}, False),
    ],
)
def test_conditions_decide_about_a_statement(local_admin: LocalAdmin, condition: dict[str, Any], allowed: bool) -> None:
    user = local_admin.user(allow("iot:ListCertificates", Condition=condition))
    with local_admin.iot(local_admin.key(user)) as iot:
        assert (call(iot, "ListCertificates") is None) is allowed
    with local_admin.native(user) as native:
        assert (native.get("/v1/certificates").status_code == 200) is allowed


@pytest.fixture(scope="module")
def over_ipv6() -> Iterator[LocalAdmin]:
    with running_server(arguments=["--host=::1"]) as server:
        yield LocalAdmin(server)


@pytest.mark.parametrize(
    ("condition", "allowed"),
    [
        ({"IpAddress": {"aws:SourceIp": "::1/128"}}, True),
        ({"IpAddress": {"aws:SourceIp": ["127.0.0.0/8", "0:0:0:0:0:0:0:1"]}}, True),
        ({"IpAddress": {"aws:SourceIp": "::/0"}}, True),
        ({"IpAddress": {"aws:SourceIp": "2001:db8::/32"}}, False),
        ({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}, False),
        ({"NotIpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, True),
        ({"NotIpAddress": {"aws:SourceIp": "::1"}}, False),
    ],
)
def test_conditions_on_ipv6_addresses(over_ipv6: LocalAdmin, condition: dict[str, Any], allowed: bool) -> None:
    server = over_ipv6.server
    url = f"https://[::1]:{server.ports['api']}"
    user = over_ipv6.user(allow(["iot:ListCertificates"], Condition=condition))
    key = keys_of(over_ipv6.key(user))
    with contextlib.closing(iot_client(server, endpoint_url=url, **key)) as iot:
        assert (call(iot, "ListCertificates") is None) is allowed


@pytest.mark.parametrize(
    ("method", "action", "arguments"),
    [
        ("create_role_alias", "iot:CreateRoleAlias", {"roleAlias": "a", "roleArn": "ROLE"}),
        (
            "create_provisioning_template",
            "iot:CreateProvisioningTemplate",
            {"templateName": "t", "templateBody": "{}", "provisioningRoleArn": "ROLE"},
        ),
    ],
)
def test_passing_a_role_must_be_allowed(
    local_admin: LocalAdmin, method: str, action: str, arguments: dict[str, str]
) -> None:
    with local_admin.iot_of(allow("iot:*")) as iot:
        account = iot.create_thing(thingName="any")["thingArn"].split(":")[4]
    role = f"arn:aws:iam::{account}:role/provisioning"
    arguments = {name: role if value == "ROLE" else value for name, value in arguments.items()}
    with local_admin.iot_of(allow("iot:*")) as iot:
        status, code, message = refusal(getattr(iot, method), **arguments)
    assert (status, code) == (403, "AccessDeniedException")
    assert f"is not authorized to perform: iam:PassRole on resource: {role} because" in message
    with local_admin.iot_of(allow("iot:*"), allow("iam:PassRole", role + "-of-others")) as iot:
        assert "iam:PassRole" in refusal(getattr(iot, method), **arguments)[2]
    with local_admin.iot_of(allow("iam:PassRole")) as iot:
        assert f"to perform: {action} on" in refusal(getattr(iot, method), **arguments)[2]
    invalid = pytest.raises(ClientError, match="InvalidRequestException")  # the template is
    outcome = contextlib.nullcontext() if method == "create_role_alias" else invalid
    with local_admin.iot_of(allow("iot:*"), allow("iam:PassRole", role)) as iot, outcome:
        getattr(iot, method)(**arguments)


def test_policy_changes_apply_at_once(local_admin: LocalAdmin) -> None:
    user = local_admin.user()
    with local_admin.iot(local_admin.key(user)) as iot:

        def refused() -> bool:
            return call(iot, "ListCertificates") == "AccessDeniedException"

        assert refused()
        policy = local_admin.attach(f"user/{user}", allow("iot:List*"))
        assert not refused()
        local_admin.ask("policy.put", name=policy, document=document(allow("iot:Describe*")))
        assert refused()
        local_admin.ask("policy.put", name=policy, document=document(allow("iot:*")))
        assert not refused()
        other = local_admin.attach(f"user/{user}", deny("iot:List*"))
        assert refused()
        local_admin.ask("policy.detach", principal=f"user/{user}", policy=other)
        assert not refused()
        local_admin.ask("policy.detach", principal=f"user/{user}", policy=policy)
        assert refused()
