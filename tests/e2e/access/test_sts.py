"""The Security Token Service with unmodified boto3, the aws command and hand-made requests."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.e2e.access.local_admin import LocalAdmin, allow, deny, document, keys_of, refusal
from tests.e2e.commands import AWS, bare_environment
from tests.e2e.signing import Signer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.e2e.wire import Answer
    from thingmint.testing import RunningServer

pytestmark = pytest.mark.both_engines

NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
VERSION = "Version=2011-06-15"


def client(server: RunningServer, new: Mapping[str, str] | None = None, service: str = "sts") -> Any:
    arguments = server.boto3_arguments() | (keys_of(new) if new is not None else {})
    return contextlib.closing(boto3.client(service, **arguments))


def as_keys(answer: Mapping[str, Any]) -> dict[str, str]:
    """The credentials of an answer, in the form of `thingmint access session`."""
    made = answer["Credentials"]
    return {
        "access_key_id": made["AccessKeyId"],
        "secret_access_key": made["SecretAccessKey"],
        "session_token": made["SessionToken"],
    }


def role(admin: LocalAdmin, *statements: dict[str, Any], trust: dict[str, Any] | None = None, **given: Any) -> str:
    """The name of a new role with these statements. By default every caller of the account may assume it."""
    name = admin.principal("role", *statements).partition("/")[2] if trust is None and not given else ""
    if not name:
        name = f"role-{len(admin.ask('role.list'))}"
        trust = trust or {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
        admin.ask("role.create", name=name, trust_policy=document(trust), **given)
        for statement in statements:
            admin.attach(f"role/{name}", statement)
    return name


def arn_of(admin: LocalAdmin, name: str) -> str:
    account = admin.account or admin.ask("account.list")[0]["id"]
    return f"arn:aws:iam::{account}:role/{name}"


def test_a_user_learns_its_identity_without_any_permission(server: RunningServer, local_admin: LocalAdmin) -> None:
    name = local_admin.user()
    with client(server, local_admin.key(name)) as sts:
        told = sts.get_caller_identity()
    [id] = [row["id"] for row in local_admin.ask("user.list") if row["name"] == name]
    account = local_admin.ask("account.list")[0]["id"]
    arn = f"arn:aws:iam::{account}:user/{name}"
    assert (told["UserId"], told["Account"], told["Arn"]) == (id, account, arn)


def test_a_role_is_assumed_and_its_session_has_the_roles_permissions(
    server: RunningServer, local_admin: LocalAdmin
) -> None:
    name = role(local_admin, allow("iot:ListThings"))
    arn = arn_of(local_admin, name)
    with client(server, local_admin.key(local_admin.user(allow("sts:AssumeRole", arn)))) as sts:
        before = datetime.now(UTC)
        made = sts.assume_role(RoleArn=arn, RoleSessionName="lamp@site-1", DurationSeconds=900)
    session = f"{arn.replace(':iam:', ':sts:').replace(':role/', ':assumed-role/')}/lamp@site-1"
    assert made["AssumedRoleUser"]["Arn"] == session
    assert re.fullmatch(r"[a-z0-9]+:lamp@site-1", made["AssumedRoleUser"]["AssumedRoleId"])
    assert made["Credentials"]["AccessKeyId"].startswith("ASIA")
    assert abs(made["Credentials"]["Expiration"] - before - timedelta(minutes=15)) < timedelta(minutes=2)
    with client(server, as_keys(made)) as sts, client(server, as_keys(made), "iot") as iot:
        told = sts.get_caller_identity()
        assert (told["Arn"], told["UserId"]) == (session, made["AssumedRoleUser"]["AssumedRoleId"])
        iot.list_things()
        assert refusal(iot.list_policies)[1] == "AccessDeniedException"


def test_a_sessions_policy_can_only_restrict(server: RunningServer, local_admin: LocalAdmin) -> None:
    arn = arn_of(local_admin, role(local_admin, allow("iot:ListThings"), allow("iot:ListPolicies")))
    narrow = document(allow(["iot:ListThings", "iot:ListCertificates"]))
    with client(server) as sts:
        made = sts.assume_role(RoleArn=arn, RoleSessionName="narrow", Policy=narrow)
        assert 0 < made["PackedPolicySize"] <= 100
        malformed = refusal(sts.assume_role, RoleArn=arn, RoleSessionName="bad", Policy="{}")
        assert malformed[:2] == (400, "MalformedPolicyDocument")
        long = refusal(sts.assume_role, RoleArn=arn, RoleSessionName="bad", Policy=narrow + " " * 2048)
        assert long[:2] == (400, "PackedPolicyTooLarge")
    with client(server, as_keys(made), "iot") as iot:
        iot.list_things()
        for call in (iot.list_policies, iot.list_certificates):
            assert refusal(call)[1] == "AccessDeniedException"


def test_assuming_a_role_needs_a_permission_and_the_roles_trust(server: RunningServer, local_admin: LocalAdmin) -> None:
    trusted = local_admin.user(allow("sts:AssumeRole"))
    account = local_admin.ask("account.list")[0]["id"]
    trust = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"AWS": f"arn:aws:iam::{account}:user/{trusted}"},
        "Condition": {"StringEquals": {"sts:ExternalId": "agreed"}, "StringLike": {"sts:RoleSessionName": "lamp-*"}},
    }
    arn = arn_of(local_admin, role(local_admin, trust=trust))
    with client(server, local_admin.key(trusted)) as sts:
        assert sts.assume_role(RoleArn=arn, RoleSessionName="lamp-1", ExternalId="agreed")
        for given in (
            {"RoleSessionName": "lamp-1"},
            {"RoleSessionName": "lamp-1", "ExternalId": "other"},
            {"RoleSessionName": "door-1", "ExternalId": "agreed"},
        ):
            status, code, message = refusal(sts.assume_role, RoleArn=arn, **given)
            assert (status, code) == (403, "AccessDenied")
            assert message.endswith(f"user/{trusted} is not authorized to perform: sts:AssumeRole on resource: {arn}")
        for nothing in (arn + "x", arn.replace(account, "999999999999"), arn_of(local_admin, "nothing")):
            assert refusal(sts.assume_role, RoleArn=nothing, RoleSessionName="lamp-1")[:2] == (403, "AccessDenied")
        assert refusal(sts.assume_role, RoleArn=f"arn:aws:iot::{account}:role/x", RoleSessionName="ab")[1:] == (
            "ValidationError",
            "Request ARN is invalid",
        )
    other = local_admin.user(allow("sts:AssumeRole"))
    with client(server, local_admin.key(other)) as sts:
        denied = refusal(sts.assume_role, RoleArn=arn, RoleSessionName="lamp-1", ExternalId="agreed")
        assert denied[:2] == (403, "AccessDenied")
    open_to_all = arn_of(local_admin, role(local_admin))
    for policies in ((), (allow("sts:AssumeRole"), deny("sts:AssumeRole", open_to_all))):
        with client(server, local_admin.key(local_admin.user(*policies))) as sts:
            denied = refusal(sts.assume_role, RoleArn=open_to_all, RoleSessionName="lamp-1")
            assert denied[:2] == (403, "AccessDenied")


def test_a_role_of_another_account_is_refused_whatever_it_trusts(
    server: RunningServer, local_admin: LocalAdmin
) -> None:
    other = LocalAdmin(server, local_admin.ask("account.create", name="sts-other")["account"])
    arn = arn_of(other, role(other, allow("iot:*")))
    with client(server) as sts:
        assert refusal(sts.assume_role, RoleArn=arn, RoleSessionName="lamp")[:2] == (403, "AccessDenied")


def test_a_session_is_at_most_as_long_as_the_role_says(server: RunningServer, local_admin: LocalAdmin) -> None:
    long = arn_of(local_admin, role(local_admin, max_session_duration="2h"))
    with client(server) as sts:
        for arn, most in ((long, 7200), (arn_of(local_admin, role(local_admin)), 3600)):
            sts.assume_role(RoleArn=arn, RoleSessionName="lamp", DurationSeconds=most)
            assert refusal(sts.assume_role, RoleArn=arn, RoleSessionName="lamp", DurationSeconds=most + 1) == (
                400,
                "ValidationError",
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            )


def test_a_session_may_assume_another_role_for_an_hour(server: RunningServer, local_admin: LocalAdmin) -> None:
    second = arn_of(local_admin, role(local_admin, max_session_duration="12h"))
    first = arn_of(local_admin, role(local_admin, allow("sts:AssumeRole", second)))
    with client(server) as sts:
        made = sts.assume_role(RoleArn=first, RoleSessionName="first")
    with client(server, as_keys(made)) as sts:
        again = sts.assume_role(RoleArn=second, RoleSessionName="second", DurationSeconds=3600)
        assert again["AssumedRoleUser"]["Arn"].endswith("/second")
        code = refusal(sts.assume_role, RoleArn=second, RoleSessionName="second", DurationSeconds=3601)[1]
        assert code == "ValidationError"
        assert refusal(sts.get_session_token)[:2] == (403, "AccessDenied")


def test_a_session_token_is_for_the_user_itself(server: RunningServer, local_admin: LocalAdmin) -> None:
    user = local_admin.user(allow("iot:ListThings"))
    with client(server, local_admin.key(user)) as sts:
        before, made = datetime.now(UTC), sts.get_session_token()
        short = sts.get_session_token(DurationSeconds=900)["Credentials"]["Expiration"]
    for ends, lasts in ((made["Credentials"]["Expiration"], 43200), (short, 900)):
        assert abs(ends - before - timedelta(seconds=lasts)) < timedelta(minutes=2)
    with client(server, as_keys(made)) as sts, client(server, as_keys(made), "iot") as iot:
        assert sts.get_caller_identity()["Arn"].endswith(f":user/{user}")
        iot.list_things()
        assert refusal(iot.list_policies)[1] == "AccessDeniedException"
        assert refusal(sts.get_session_token)[:2] == (403, "AccessDenied")


# -- the wire -----------------------------------------------------------------------------------------------------


@pytest.fixture
def sts(signer: Signer) -> Signer:
    return replace(signer, service="sts")


def form(sts: Signer, body: str) -> Answer:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return sts.send("POST", "/", headers=headers, body=body.encode())


def code_of(answer: Answer) -> tuple[int, str]:
    text = answer.body.decode()
    found = re.fullmatch(
        rf'<ErrorResponse xmlns="{NAMESPACE}"><Error><Type>(Sender|Receiver)</Type><Code>(\w+)</Code>'
        r"<Message>[^<>]+</Message></Error><RequestId>([0-9a-f-]{36})</RequestId></ErrorResponse>",
        text,
    )
    assert found, text
    assert answer.headers["content-type"] == "text/xml"
    assert answer.headers["x-amzn-requestid"] == found[3]
    return answer.status, found[2]


def test_answers_are_xml_to_forms_queries_and_presigned_urls(sts: Signer) -> None:
    query = f"/?Action=GetCallerIdentity&{VERSION}"
    for answer in (
        form(sts, f"Action=GetCallerIdentity&{VERSION}"),
        sts.send("GET", query),
        sts.send("POST", query),
    ):
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/xml"
        text = answer.body.decode()
        assert text.startswith(f'<GetCallerIdentityResponse xmlns="{NAMESPACE}"><GetCallerIdentityResult><Arn>')
        assert f"<RequestId>{answer.headers['x-amzn-requestid']}</RequestId>" in text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", (400, "InvalidAction")),
        (f"Action=Nothing&{VERSION}", (400, "InvalidAction")),
        (f"Action=GetFederationToken&{VERSION}&Name=ab", (501, "NotImplemented")),
        (f"Action=AssumeRole&{VERSION}", (400, "ValidationError")),
        (f"Action=AssumeRole&{VERSION}&RoleArn=short&RoleSessionName=ab", (400, "ValidationError")),
        (f"Action=AssumeRole&{VERSION}&RoleArn={'a' * 20}&RoleSessionName=a", (400, "ValidationError")),
        (f"Action=AssumeRole&{VERSION}&RoleArn={'a' * 20}&RoleSessionName=a%20b", (400, "ValidationError")),
        (f"Action=AssumeRole&{VERSION}&RoleArn={'a' * 20}&RoleSessionName=ab", (400, "ValidationError")),
        (f"Action=GetSessionToken&{VERSION}&DurationSeconds=899", (400, "ValidationError")),
        (f"Action=GetSessionToken&{VERSION}&DurationSeconds=129601", (400, "ValidationError")),
        (f"Action=GetSessionToken&{VERSION}&DurationSeconds=soon", (400, "ValidationError")),
        (f"Action=GetSessionToken&{VERSION}&DurationSeconds={'9' * 5000}", (400, "ValidationError")),
        (f"Action=GetSessionToken&{VERSION}&TokenCode=123456", (501, "NotImplemented")),
        (f"Action=AssumeRole&{VERSION}&PolicyArns.member.1.arn=x", (501, "NotImplemented")),
        (f"Action=GetCallerIdentity&Action=GetCallerIdentity&{VERSION}", (400, "MalformedQueryString")),
        ("Action=%ff", (400, "MalformedQueryString")),
        ("a=1&" * 5000, (400, "MalformedQueryString")),
    ],
)
def test_inputs_that_the_model_forbids_are_refused(sts: Signer, body: str, expected: tuple[int, str]) -> None:
    assert code_of(form(sts, body)) == expected


def test_all_violations_are_named_in_awss_words(sts: Signer) -> None:
    text = form(sts, f"Action=AssumeRole&{VERSION}&RoleSessionName=a&DurationSeconds=1").body.decode()
    assert (
        "<Message>3 validation errors detected: Value at 'roleArn' failed to satisfy constraint: Member must not be "
        "null; Value at 'roleSessionName' failed to satisfy constraint: Member must have length greater than or equal "
        "to 2; Value at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal "
        "to 900</Message>"
    ) in text


def test_wrong_credentials_have_their_codes_and_change_nothing(server: RunningServer, sts: Signer) -> None:
    body = f"Action=GetCallerIdentity&{VERSION}"
    for signer, expected in (
        (replace(sts, access_key_id="AKIAAAAAAAAAAAAAAAAA"), (403, "InvalidClientTokenId")),
        (replace(sts, secret="x" * 40), (403, "SignatureDoesNotMatch")),
        (replace(sts, session_token="x"), (403, "InvalidClientTokenId")),
        (replace(sts, region="eu-west-3"), (403, "SignatureDoesNotMatch")),
    ):
        assert code_of(form(signer, body)) == expected
    late = datetime.now(UTC) - timedelta(hours=1)
    assert code_of(sts.send("POST", "/", body=body.encode(), at=late)) == (403, "SignatureDoesNotMatch")
    # What is signed for one service is not valid for another.
    assert Signer.of(server).send("POST", "/", body=body.encode()).status == 404


def test_calls_are_audited_without_their_secrets(server: RunningServer, local_admin: LocalAdmin) -> None:
    name = role(local_admin)
    user = local_admin.user(allow("sts:*"))
    with client(server, local_admin.key(user)) as sts:
        made = sts.assume_role(RoleArn=arn_of(local_admin, name), RoleSessionName="audited")
        token = sts.get_session_token()
    with local_admin.bearer(server.token) as native:
        records = [
            record
            for record in native.get("/v1/audit", params={"page_size": 250}).json()["data"]["records"]
            if str(record.get("principal")).endswith(f"user/{user}")
        ]
    text = json.dumps(records) + server.output.read_text()
    assert {record["event"] for record in records} == {"AssumeRole", "GetSessionToken"}
    assert {record["source"] for record in records} == {"sts.amazonaws.com"}
    for answer in (made, token):
        for secret in ("SecretAccessKey", "SessionToken"):
            assert answer["Credentials"][secret] not in text


def test_the_aws_command_finds_the_service(server: RunningServer, tmp_path: Path) -> None:
    env = bare_environment(HOME=str(tmp_path), **server.environment())
    run = subprocess.run(
        [AWS, "sts", "get-caller-identity"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["Arn"].endswith(":user/administrator")
