"""Keys, sessions and tokens: several of each, ended at once, narrowed, expired."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from yandex.cloud.iam.v1 import iam_token_service_pb2
from yandex.cloud.operation import operation_service_pb2

from tests.e2e.access.operator import Operator, allow, database, deny, document, error_of, keys_of, refusal
from tests.e2e.conftest import iot_client
from tests.e2e.wire import until
from tests.e2e.yandex.clients import Cloud, GrpcWire, Refused
from thingmint.admin import AdminError
from thingmint.testing import running_server

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.both_engines

_UNKNOWN = (403, "UnrecognizedClientException", "The security token included in the request is invalid.")
_EXPIRED = (403, "ExpiredTokenException", "The security token included in the request is expired")


def refused_token(native: httpx.Client) -> bool:
    return error_of_or_ok(native) == (401, "UNAUTHENTICATED")


def error_of_or_ok(native: httpx.Client) -> tuple[int, str]:
    answer = native.get("/v1/certificates")
    return (200, "") if answer.status_code == 200 else error_of(answer)


def test_a_user_may_have_several_keys(operator: Operator) -> None:
    user = operator.user("thingmint/ReadOnly")
    first, second = operator.key(user), operator.key(f"user/{user}")
    assert first["access_key_id"] != second["access_key_id"]
    with operator.iot(first) as one, operator.iot(second) as other:
        one.list_certificates()
        other.list_certificates()
        operator.ask("key.disable", id=first["access_key_id"])
        assert refusal(one.list_certificates) == _UNKNOWN
        other.list_certificates()
        operator.ask("key.enable", id=first["access_key_id"])
        one.list_certificates()
        operator.ask("key.delete", id=first["access_key_id"])
        assert refusal(one.list_certificates) == _UNKNOWN
        other.list_certificates()
    listed = operator.ask("key.list", principal=user)
    assert [(key["id"], key["kind"], key["status"]) for key in listed] == [
        (second["access_key_id"], "access-key", "active")
    ]
    assert second["secret_access_key"] not in json.dumps(listed)


def test_the_secret_of_another_key_is_refused(operator: Operator) -> None:
    user = operator.user("thingmint/ReadOnly")
    first, second = operator.key(user), operator.key(user)
    with operator.iot({**first, "secret_access_key": second["secret_access_key"]}) as iot:
        assert refusal(iot.list_certificates)[:2] == (403, "InvalidSignatureException")


def test_there_are_at_most_ten_keys(operator: Operator) -> None:
    user = operator.user()
    for _ in range(10):
        operator.key(user)
    with pytest.raises(AdminError, match="At most 10 credentials of a kind"):
        operator.key(user)
    assert len(operator.ask("key.list", principal=user)) == 10


@pytest.mark.parametrize("ending", ["disable", "delete"])
def test_ending_a_user_applies_at_once(operator: Operator, ending: str) -> None:
    user = operator.user("thingmint/ReadOnly")
    with (
        operator.iot(operator.key(user)) as by_key,
        operator.iot(operator.session(user)) as by_session,
        operator.native(user) as by_token,
    ):
        by_key.list_certificates()
        by_session.list_certificates()
        assert error_of_or_ok(by_token) == (200, "")
        operator.ask(f"user.{ending}", name=user)
        assert refusal(by_key.list_certificates) == _UNKNOWN
        assert refusal(by_session.list_certificates) == _UNKNOWN
        assert refused_token(by_token)
        if ending == "disable":
            operator.ask("user.enable", name=user)
            by_key.list_certificates()
            by_session.list_certificates()
            assert error_of_or_ok(by_token) == (200, "")
        else:
            # A new user of that name inherits nothing.
            operator.ask("user.create", name=user)
            assert refusal(by_key.list_certificates) == _UNKNOWN
            assert operator.ask("policy.attached", principal=user) == []


@pytest.mark.parametrize("kind", ["user", "role"])
def test_a_session_has_the_rights_of_its_principal(operator: Operator, account: str, kind: str) -> None:
    principal = operator.principal(kind, "thingmint/ReadOnly")
    new = operator.run("session", "--principal", principal, "--duration", "15m")
    assert new["access_key_id"].startswith("ASIA")
    with operator.iot(new) as iot:
        iot.list_certificates()
        status, code, text = refusal(iot.create_keys_and_certificate)
        assert (status, code) == (403, "AccessDeniedException")
        assert account in text
    operator.ask(f"{kind}.disable", name=principal.partition("/")[2])
    with operator.iot(new) as iot:
        assert refusal(iot.list_certificates) == _UNKNOWN


@pytest.mark.parametrize(
    ("policy", "allowed", "refused"),
    [
        (allow("iot:ListCertificates"), ["list_certificates"], ["describe_endpoint", "create_keys_and_certificate"]),
        (allow("*"), ["list_certificates", "describe_endpoint"], ["create_keys_and_certificate"]),
        (deny("iot:*"), [], ["list_certificates", "describe_endpoint"]),
    ],
)
def test_a_session_is_narrowed_and_never_widened(
    operator: Operator, tmp_path: Path, policy: dict[str, Any], allowed: list[str], refused: list[str]
) -> None:
    file = tmp_path / "narrow.json"
    file.write_text(document(policy))
    user = operator.user("thingmint/ReadOnly")
    new = operator.run("session", "--principal", f"user/{user}", "--duration", "1h", "--policy", file)
    with operator.iot(new) as iot:
        for name in allowed:
            getattr(iot, name)()
        for name in refused:
            assert refusal(getattr(iot, name))[:2] == (403, "AccessDeniedException"), name


def test_session_tokens(operator: Operator) -> None:
    user = operator.user("thingmint/ReadOnly")
    key, session, other = operator.key(user), operator.session(user), operator.session(user)
    without = {name: session[name] for name in ("access_key_id", "secret_access_key")}
    for credentials in (
        without,
        {**session, "session_token": other["session_token"]},
        {**session, "session_token": "tms_AAAA"},
        {**key, "session_token": session["session_token"]},
    ):
        with operator.iot(credentials) as iot:
            assert refusal(iot.list_certificates) == _UNKNOWN


@pytest.mark.parametrize("duration", ["59s", "37h", "-1h", "soon", "0"])
def test_durations_out_of_range_are_refused(operator: Operator, duration: str) -> None:
    with pytest.raises(AdminError, match=r"^duration "):
        operator.session(operator.user(), duration=duration)


def test_an_api_token_is_narrowed(operator: Operator) -> None:
    user = operator.user("thingmint/Administrator")
    with operator.native(user, policy=document(allow("iot:ListCertificates")), description="a part") as native:
        assert native.get("/v1/certificates").status_code == 200
        for answer in (native.post("/keys-and-certificate"), native.post("/v1/access/user/list")):
            assert error_of(answer) == (403, "PERMISSION_DENIED")
    (listed,) = operator.ask("token.list", principal=user)
    assert (listed["description"], listed["expires_at"]) == ("a part", None)
    with operator.native(user) as native:
        operator.ask("token.disable", id=operator.ask("token.list", principal=user)[1]["id"])
        assert refused_token(native)


@pytest.mark.sqlite
def test_the_last_use_is_shown(operator: Operator) -> None:
    user = operator.user("thingmint/ReadOnly")
    key = operator.key(user)
    session = operator.session(user)
    assert {each["last_used_at"] for each in operator.ask("key.list", principal=user)} == {None}
    with operator.iot(session) as iot:
        iot.list_certificates()

    def used() -> dict[str, str]:
        listed = operator.ask("key.list", principal=user)
        return {each["id"]: each["last_used_at"] for each in listed if each["last_used_at"]}

    assert set(until(used, seconds=12, what="no last use is shown")) == {session["access_key_id"]}
    assert key["access_key_id"] not in used()


def test_expired_credentials_are_refused(tmp_path: Path) -> None:
    """Their end is moved into the past while the server is stopped, so nobody has to wait for it."""
    data = tmp_path / "data"
    with running_server(data) as server:
        operator = Operator(server)
        user = operator.user("thingmint/ReadOnly")
        gone, stays = operator.session(user), operator.session(user)
        token = operator.ask("token.create", principal=user, lifetime="1d")["token"]
        with operator.iot(gone) as iot, operator.bearer(token) as native:
            iot.list_certificates()
            assert native.get("/v1/certificates").status_code == 200
    with database(data) as db:
        changed = db.execute("UPDATE credentials SET expires_at = 1 WHERE id = ?", [gone["access_key_id"]])
        assert changed.rowcount == 1
        db.execute("UPDATE credentials SET expires_at = 1 WHERE kind = 'api-token' AND expires_at > 1")
    with running_server(data) as server:
        operator = Operator(server)
        with operator.iot(gone) as iot:
            assert refusal(iot.list_certificates) == _EXPIRED
        with operator.iot({**gone, "session_token": "tms_wrong"}) as iot:
            assert refusal(iot.list_certificates) == _UNKNOWN
        with operator.iot(stays) as iot:
            iot.list_certificates()
        with operator.bearer(token) as native:
            assert refused_token(native)


def test_an_iam_token_ends_with_the_api_token_that_it_was_made_of(operator: Operator) -> None:
    user = operator.user("yandex/viewer")
    token = operator.ask("token.create", principal=user, lifetime="2s")["token"]
    cloud = Cloud(operator.server)
    wire = GrpcWire(cloud.channel, "")
    request = iam_token_service_pb2.CreateIamTokenRequest(yandex_passport_oauth_token=token)
    iam_token = wire.call("IamTokenService/Create", request).iam_token
    probe = operation_service_pb2.GetOperationRequest(operation_id="are0")

    def code() -> str:
        with pytest.raises(Refused) as refused:
            wire.call("OperationService/Get", probe, token=iam_token)
        return refused.value.code

    assert code() == "NOT_FOUND"
    with operator.bearer(token) as native:
        until(lambda: refused_token(native), seconds=10, what="the API token does not end")
    assert code() == "UNAUTHENTICATED"
    cloud.close()


def test_a_region_that_an_account_lacks_is_told_to_the_operator(operator: Operator) -> None:
    new = operator.ask("account.create", name="elsewhere")
    arguments = {"region_name": "eu-west-3", **keys_of(new)}
    size = operator.server.output.stat().st_size
    iot = iot_client(operator.server, **arguments)
    told = (403, "InvalidSignatureException", "Credential should be scoped to a valid region.")
    assert refusal(iot.list_things) == told
    command = f"thingmint access region add eu-west-3 --account {new['account']}"

    def logged() -> bool:
        return command.encode() in operator.server.output.read_bytes()[size:]

    until(logged, seconds=20, what="the log has the command")
    Operator(operator.server, new["account"]).run("region", "add", "eu-west-3")
    assert iot.list_things()["things"] == []
