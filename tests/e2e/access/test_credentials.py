"""Keys, sessions and tokens: several per user, ended immediately, restricted, expired."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from yandex.cloud.iam.v1 import iam_token_service_pb2
from yandex.cloud.operation import operation_service_pb2

from tests.e2e.access.local_admin import LocalAdmin, allow, database, deny, document, error_of, keys_of, refusal
from tests.e2e.conftest import iot_client
from tests.e2e.wire import until
from tests.e2e.yandex.clients import Cloud, GrpcWire, Refused
from thingmint.admin import AdminError
from thingmint.store.table import to_micros
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


def test_a_user_may_have_several_keys(local_admin: LocalAdmin) -> None:
    user = local_admin.user("thingmint/ReadOnly")
    first, second = local_admin.key(user), local_admin.key(f"user/{user}")
    assert first["access_key_id"] != second["access_key_id"]
    with local_admin.iot(first) as one, local_admin.iot(second) as other:
        one.list_certificates()
        other.list_certificates()
        local_admin.ask("key.disable", id=first["access_key_id"])
        assert refusal(one.list_certificates) == _UNKNOWN
        other.list_certificates()
        local_admin.ask("key.enable", id=first["access_key_id"])
        one.list_certificates()
        local_admin.ask("key.delete", id=first["access_key_id"])
        assert refusal(one.list_certificates) == _UNKNOWN
        other.list_certificates()
    listed = local_admin.ask("key.list", principal=user)
    assert [(key["id"], key["kind"], key["status"]) for key in listed] == [
        (second["access_key_id"], "access-key", "active")
    ]
    assert second["secret_access_key"] not in json.dumps(listed)


def test_the_secret_of_another_key_is_refused(local_admin: LocalAdmin) -> None:
    user = local_admin.user("thingmint/ReadOnly")
    first, second = local_admin.key(user), local_admin.key(user)
    with local_admin.iot({**first, "secret_access_key": second["secret_access_key"]}) as iot:
        assert refusal(iot.list_certificates)[:2] == (403, "InvalidSignatureException")


def test_there_are_at_most_ten_keys(local_admin: LocalAdmin) -> None:
    user = local_admin.user()
    for _ in range(10):
        local_admin.key(user)
    with pytest.raises(AdminError, match="At most 10 credentials of a kind"):
        local_admin.key(user)
    assert len(local_admin.ask("key.list", principal=user)) == 10


@pytest.mark.parametrize("ending", ["disable", "delete"])
def test_ending_a_user_applies_at_once(local_admin: LocalAdmin, ending: str) -> None:
    user = local_admin.user("thingmint/ReadOnly")
    with (
        local_admin.iot(local_admin.key(user)) as by_key,
        local_admin.iot(local_admin.session(user)) as by_session,
        local_admin.native(user) as by_token,
    ):
        by_key.list_certificates()
        by_session.list_certificates()
        assert error_of_or_ok(by_token) == (200, "")
        local_admin.ask(f"user.{ending}", name=user)
        assert refusal(by_key.list_certificates) == _UNKNOWN
        assert refusal(by_session.list_certificates) == _UNKNOWN
        assert refused_token(by_token)
        if ending == "disable":
            local_admin.ask("user.enable", name=user)
            by_key.list_certificates()
            by_session.list_certificates()
            assert error_of_or_ok(by_token) == (200, "")
        else:
            # A new user of that name does not get the old one's permissions.
            local_admin.ask("user.create", name=user)
            assert refusal(by_key.list_certificates) == _UNKNOWN
            assert local_admin.ask("policy.attached", principal=user) == []


@pytest.mark.parametrize("kind", ["user", "role"])
def test_a_session_has_the_permissions_of_its_principal(local_admin: LocalAdmin, account: str, kind: str) -> None:
    principal = local_admin.principal(kind, "thingmint/ReadOnly")
    new = local_admin.run("session", "--principal", principal, "--duration", "15m")
    assert new["access_key_id"].startswith("ASIA")
    with local_admin.iot(new) as iot:
        iot.list_certificates()
        status, code, text = refusal(iot.create_keys_and_certificate)
        assert (status, code) == (403, "AccessDeniedException")
        assert account in text
    local_admin.ask(f"{kind}.disable", name=principal.partition("/")[2])
    with local_admin.iot(new) as iot:
        assert refusal(iot.list_certificates) == _UNKNOWN


@pytest.mark.parametrize(
    ("policy", "allowed", "refused"),
    [
        (allow("iot:ListCertificates"), ["list_certificates"], ["describe_endpoint", "create_keys_and_certificate"]),
        (allow("*"), ["list_certificates", "describe_endpoint"], ["create_keys_and_certificate"]),
        (deny("iot:*"), [], ["list_certificates", "describe_endpoint"]),
    ],
)
def test_a_session_policy_restricts_and_never_extends(
    local_admin: LocalAdmin, tmp_path: Path, policy: dict[str, Any], allowed: list[str], refused: list[str]
) -> None:
    file = tmp_path / "narrow.json"
    file.write_text(document(policy))
    user = local_admin.user("thingmint/ReadOnly")
    new = local_admin.run("session", "--principal", f"user/{user}", "--duration", "1h", "--policy", file)
    with local_admin.iot(new) as iot:
        for name in allowed:
            getattr(iot, name)()
        for name in refused:
            assert refusal(getattr(iot, name))[:2] == (403, "AccessDeniedException"), name


def test_a_session_needs_its_token(local_admin: LocalAdmin) -> None:
    user = local_admin.user("thingmint/ReadOnly")
    key, session, other = local_admin.key(user), local_admin.session(user), local_admin.session(user)
    without = {name: session[name] for name in ("access_key_id", "secret_access_key")}
    for credentials in (
        without,
        {**session, "session_token": other["session_token"]},
        {**session, "session_token": "tms_AAAA"},
        {**key, "session_token": session["session_token"]},
    ):
        with local_admin.iot(credentials) as iot:
            assert refusal(iot.list_certificates) == _UNKNOWN


@pytest.mark.parametrize("duration", ["59s", "37h", "-1h", "soon", "0"])
def test_durations_out_of_range_are_refused(local_admin: LocalAdmin, duration: str) -> None:
    with pytest.raises(AdminError, match=r"^duration "):
        local_admin.session(local_admin.user(), duration=duration)


def test_an_api_token_can_be_restricted(local_admin: LocalAdmin) -> None:
    user = local_admin.user("thingmint/Administrator")
    with local_admin.native(user, policy=document(allow("iot:ListCertificates")), description="a part") as native:
        assert native.get("/v1/certificates").status_code == 200
        for answer in (native.post("/keys-and-certificate"), native.post("/v1/access/user/list")):
            assert error_of(answer) == (403, "PERMISSION_DENIED")
    (listed,) = local_admin.ask("token.list", principal=user)
    assert (listed["description"], listed["expires_at"]) == ("a part", None)
    with local_admin.native(user) as native:
        local_admin.ask("token.disable", id=local_admin.ask("token.list", principal=user)[1]["id"])
        assert refused_token(native)


@pytest.mark.sqlite
def test_the_last_use_is_shown(local_admin: LocalAdmin) -> None:
    user = local_admin.user("thingmint/ReadOnly")
    key = local_admin.key(user)
    session = local_admin.session(user)
    assert {each["last_used_at"] for each in local_admin.ask("key.list", principal=user)} == {None}
    with local_admin.iot(session) as iot:
        iot.list_certificates()

    def used() -> dict[str, str]:
        listed = local_admin.ask("key.list", principal=user)
        return {each["id"]: each["last_used_at"] for each in listed if each["last_used_at"]}

    assert set(until(used, seconds=12, what="no last use is shown")) == {session["access_key_id"]}
    assert key["access_key_id"] not in used()


def test_expired_credentials_are_refused(tmp_path: Path) -> None:
    """The expiry is moved into the past while the server is stopped, so the test need not wait."""
    data = tmp_path / "data"
    with running_server(data) as server:
        local_admin = LocalAdmin(server)
        user = local_admin.user("thingmint/ReadOnly")
        gone, stays = local_admin.session(user), local_admin.session(user)
        token = local_admin.ask("token.create", principal=user, lifetime="1d")["token"]
        with local_admin.iot(gone) as iot, local_admin.bearer(token) as native:
            iot.list_certificates()
            assert native.get("/v1/certificates").status_code == 200
    with database(data) as db:
        past = to_micros(datetime.now(UTC) - timedelta(hours=1))  # sessions that ended over a day ago are deleted
        changed = db.execute("UPDATE credentials SET expires_at = ? WHERE id = ?", [past, gone["access_key_id"]])
        assert changed.rowcount == 1
        db.execute("UPDATE credentials SET expires_at = 1 WHERE kind = 'api-token' AND expires_at > 1")
    with running_server(data) as server:
        local_admin = LocalAdmin(server)
        with local_admin.iot(gone) as iot:
            assert refusal(iot.list_certificates) == _EXPIRED
        with local_admin.iot({**gone, "session_token": "tms_wrong"}) as iot:
            assert refusal(iot.list_certificates) == _UNKNOWN
        with local_admin.iot(stays) as iot:
            iot.list_certificates()
        with local_admin.bearer(token) as native:
            assert refused_token(native)


def test_an_iam_token_ends_with_its_api_token(local_admin: LocalAdmin) -> None:
    user = local_admin.user("yandex/viewer")
    token = local_admin.ask("token.create", principal=user, lifetime="2s")["token"]
    cloud = Cloud(local_admin.server)
    wire = GrpcWire(cloud.channel, "")
    request = iam_token_service_pb2.CreateIamTokenRequest(yandex_passport_oauth_token=token)
    iam_token = wire.call("IamTokenService/Create", request).iam_token
    probe = operation_service_pb2.GetOperationRequest(operation_id="are0")

    def code() -> str:
        with pytest.raises(Refused) as refused:
            wire.call("OperationService/Get", probe, token=iam_token)
        return refused.value.code

    assert code() == "NOT_FOUND"
    with local_admin.bearer(token) as native:
        until(lambda: refused_token(native), seconds=10, what="the API token has expired")
    assert code() == "UNAUTHENTICATED"
    cloud.close()


def test_a_region_that_an_account_lacks_is_logged(local_admin: LocalAdmin) -> None:
    new = local_admin.ask("account.create", name="elsewhere")
    arguments = {"region_name": "eu-west-3", **keys_of(new)}
    size = local_admin.server.output.stat().st_size
    iot = iot_client(local_admin.server, **arguments)
    expected = (403, "InvalidSignatureException", "Credential should be scoped to a valid region.")
    assert refusal(iot.list_things) == expected
    command = f"thingmint access region add eu-west-3 --account {new['account']}"

    def logged() -> bool:
        return command.encode() in local_admin.server.output.read_bytes()[size:]

    until(logged, seconds=20, what="the log has the command")
    LocalAdmin(local_admin.server, new["account"]).run("region", "add", "eu-west-3")
    assert iot.list_things()["things"] == []
