"""IamTokenService.CreateForServiceAccount: who may act as a service account, and when that ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import pytest
from yandex.cloud.iam.v1 import iam_token_service_pb2, iam_token_service_pb2_grpc
from yandex.cloud.iot.devices.v1 import registry_service_pb2

from tests.e2e.access.local_admin import LocalAdmin, allow, service_account
from tests.e2e.test_reload import until
from tests.e2e.yandex.clients import Account, Cloud, Refused
from thingmint.admin import AdminError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.testing import RunningServer

pytestmark = pytest.mark.both_engines

ROLE = "iam.serviceAccounts.tokenCreator"


class Worker(NamedTuple):
    """A service account with a role on the folder."""

    name: str
    id: str


class Creator(NamedTuple):
    """A service account without a role of its own, apart from that on a worker."""

    cloud: Cloud
    key: str
    name: str


@pytest.fixture
def local_admin(server: RunningServer) -> LocalAdmin:
    return LocalAdmin(server)


@pytest.fixture
def worker(local_admin: LocalAdmin, cloud: Cloud) -> Worker:
    principal = local_admin.principal("service-account")
    local_admin.attach(principal, "yandex/iot.editor", f"yandex:folder/{cloud.folder}")
    return Worker(principal, local_admin.key(principal)["service_account_id"])


@pytest.fixture
def creator(local_admin: LocalAdmin, cloud: Cloud, worker: Worker) -> Iterator[Creator]:
    principal = local_admin.principal("service-account")
    local_admin.attach(principal, f"yandex/{ROLE}", f"yandex:service-account/{worker.id}")
    key = local_admin.key(principal)
    own = Cloud(local_admin.server, Account(key, cloud.folder, ""))
    yield Creator(own, key["id"], principal)
    own.close()


def token_for(cloud: Cloud, id: str, wire: str = "grpc", **credentials: Any) -> str:
    request = iam_token_service_pb2.CreateIamTokenForServiceAccountRequest(service_account_id=id)
    answer = cloud.wire(wire).call("IamTokenService/CreateForServiceAccount", request, **credentials)
    assert answer.expires_at.seconds > 0
    return str(answer.iam_token)


def create(cloud: Cloud, wire: str, token: str) -> Any:
    request = registry_service_pb2.CreateRegistryRequest(folder_id=cloud.folder)
    return cloud.wire(wire).call("RegistryService/Create", request, token=token)


def refusal(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(Refused) as refused:
        call(*arguments, **options)
    return refused.value.code


def test_the_token_has_the_permissions_of_the_service_account(creator: Creator, worker: Worker, wire_name: str) -> None:
    assert refusal(create, creator.cloud, wire_name, creator.cloud.token) == "PERMISSION_DENIED"
    token = token_for(creator.cloud, worker.id, wire_name)
    assert create(creator.cloud, wire_name, token).created_by == worker.id


def test_only_the_role_on_the_account_or_the_cloud_allows_it(
    local_admin: LocalAdmin, cloud: Cloud, creator: Creator, worker: Worker, wire_name: str
) -> None:
    other = local_admin.key(local_admin.principal("service-account"))["service_account_id"]
    for id in (other, "aje00000000000000000", "x" * 50):
        assert refusal(token_for, creator.cloud, id, wire_name) == "PERMISSION_DENIED"
    with service_account(local_admin, cloud.folder, ("iot.editor", f"yandex:folder/{cloud.folder}")) as editor:
        assert refusal(token_for, editor, worker.id, wire_name) == "PERMISSION_DENIED"
    with service_account(local_admin, cloud.folder, ("admin", f"yandex:folder/{cloud.folder}")) as folder_admin:
        assert refusal(token_for, folder_admin, worker.id, wire_name) == "PERMISSION_DENIED"
    with service_account(local_admin, cloud.folder, (ROLE, "*")) as of_cloud:
        assert token_for(of_cloud, other, wire_name)
        assert refusal(token_for, of_cloud, "aje00000000000000000", wire_name) == "NOT_FOUND"
    assert refusal(token_for, creator.cloud, worker.id, wire_name, token="") == "UNAUTHENTICATED"
    assert refusal(token_for, creator.cloud, worker.id, wire_name, token="t1.x.y") == "UNAUTHENTICATED"
    assert refusal(token_for, creator.cloud, "", wire_name) == "INVALID_ARGUMENT"
    assert refusal(token_for, creator.cloud, "x" * 51, wire_name) == "INVALID_ARGUMENT"


def test_the_role_is_granted_on_a_service_account_or_a_cloud(local_admin: LocalAdmin, cloud: Cloud) -> None:
    principal = local_admin.principal("service-account")
    with pytest.raises(AdminError, match="must be yandex:service-account/ID, yandex:cloud/ACCOUNT or"):
        local_admin.attach(principal, f"yandex/{ROLE}", f"yandex:folder/{cloud.folder}")
    with pytest.raises(AdminError, match="must be yandex:cloud/ACCOUNT, yandex:folder/ID"):
        local_admin.attach(principal, "yandex/iot.editor", "yandex:service-account/aje00000000000000000")


def test_service_accounts_of_other_accounts_are_not_found(local_admin: LocalAdmin, worker: Worker) -> None:
    new = local_admin.ask("account.create", name="beside")
    theirs = Cloud(local_admin.server, Account(new["authorized_key"], new["folder"], new["token"]))
    assert refusal(token_for, theirs, worker.id) == "NOT_FOUND"
    assert token_for(theirs, new["authorized_key"]["service_account_id"])
    theirs.close()


def test_an_api_token_and_a_policy_of_ones_own_do_too(local_admin: LocalAdmin, cloud: Cloud, worker: Worker) -> None:
    action = "yandex:IamTokenService.CreateForServiceAccount"
    user = local_admin.user(allow(action, f"yandex:service-account/{worker.id}"))
    api_token = local_admin.ask("token.create", principal=f"user/{user}")["token"]
    request = iam_token_service_pb2.CreateIamTokenRequest(yandex_passport_oauth_token=api_token)
    own = cloud.grpc.call("IamTokenService/Create", request).iam_token
    assert create(cloud, "grpc", token_for(cloud, worker.id, token=own)).created_by == worker.id


@pytest.mark.parametrize("ends", ["worker disabled", "key disabled", "creator disabled", "revoked"])
def test_the_token_ends(local_admin: LocalAdmin, creator: Creator, worker: Worker, ends: str) -> None:
    token = token_for(creator.cloud, worker.id)
    assert create(creator.cloud, "rest", token).done
    match ends:
        case "worker disabled":
            local_admin.ask("service-account.disable", name=worker.name.partition("/")[2])
            assert refusal(token_for, creator.cloud, worker.id) == "NOT_FOUND"
        case "key disabled":
            local_admin.ask("key.disable", id=creator.key)
        case "creator disabled":
            local_admin.ask("service-account.disable", name=creator.name.partition("/")[2])
        case "revoked":
            request = iam_token_service_pb2.RevokeIamTokenRequest(iam_token=token)
            creator.cloud.rest.call("IamTokenService/Revoke", request)
    assert refusal(create, creator.cloud, "rest", token) == "UNAUTHENTICATED"
    assert refusal(create, creator.cloud, "grpc", token) == "UNAUTHENTICATED"


def test_a_token_of_a_service_account_gets_tokens_as_that_account(
    local_admin: LocalAdmin, creator: Creator, worker: Worker
) -> None:
    second = local_admin.principal("service-account")
    id = local_admin.key(second)["service_account_id"]
    local_admin.attach(worker.name, f"yandex/{ROLE}", f"yandex:service-account/{id}")
    first = token_for(creator.cloud, worker.id)
    chained = token_for(creator.cloud, id, token=first)
    assert refusal(create, creator.cloud, "grpc", chained) == "PERMISSION_DENIED"
    local_admin.ask("key.disable", id=creator.key)
    assert refusal(create, creator.cloud, "grpc", chained) == "UNAUTHENTICATED"


def test_the_sdk_gets_such_a_token(creator: Creator, worker: Worker) -> None:
    """The SDK sends no credentials to this service, so its caller passes them."""
    tokens = creator.cloud.sdk().client(iam_token_service_pb2_grpc.IamTokenServiceStub)
    request = iam_token_service_pb2.CreateIamTokenForServiceAccountRequest(service_account_id=worker.id)
    answer = tokens.CreateForServiceAccount(request, metadata=[("authorization", f"Bearer {creator.cloud.token}")])
    assert create(creator.cloud, "grpc", answer.iam_token).created_by == worker.id


def test_the_audit_log_has_who_acted_as_whom(
    server: RunningServer, cloud: Cloud, creator: Creator, worker: Worker
) -> None:
    token = token_for(creator.cloud, worker.id)
    create(creator.cloud, "grpc", token)
    headers = {"authorization": f"Bearer {server.token}"}

    def record(event: str, principal: str) -> Any:
        answer = httpx.get(f"{server.http_url}/v1/audit", params={"event": event}, headers=headers)
        return next((each for each in answer.json()["data"]["records"] if each["principal"].endswith(principal)), None)

    by, acting_as = (principal.partition("/")[2] for principal in (creator.name, worker.name))
    made = until(lambda: record("IamTokenService.CreateForServiceAccount", by), "the token is not recorded")
    assert (made["resource"], made["outcome"]) == (f"yandex:service-account/{worker.id}", "success")
    created = record("yandex.cloud.audit.iot.devices.CreateRegistry", acting_as)
    assert created["credential"] == made["credential"] == creator.key
