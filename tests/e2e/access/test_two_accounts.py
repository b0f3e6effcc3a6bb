"""Two accounts of one server, which cannot read, guess or change each other's resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from yandex.cloud.iot.devices.v1 import device_service_pb2, registry_service_pb2
from yandex.cloud.operation import operation_service_pb2

from tests.e2e.access.local_admin import LocalAdmin, allow, document, error_of, refusal, service_account
from tests.e2e.material import csr_pem, self_signed_pem
from tests.e2e.yandex.certificates import certificate
from tests.e2e.yandex.clients import Account, Cloud, Refused
from thingmint.admin import AdminError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from thingmint.testing import RunningServer

ds, rs, ops = device_service_pb2, registry_service_pb2, operation_service_pb2


class Tenant:
    def __init__(self, server: RunningServer, new: dict[str, Any]) -> None:
        self.number = new["account"]
        self.local_admin = LocalAdmin(server, self.number)
        self.key = {name: new[name] for name in ("access_key_id", "secret_access_key")}
        self.native = self.local_admin.bearer(new["token"])
        self.cloud = Cloud(server, Account(new["authorized_key"], new["folder"], new["token"]))

    def ask(self, command: str, **given: Any) -> httpx.Response:
        return self.native.post(f"/v1/access/{command}", json=given)

    def close(self) -> None:
        self.native.close()
        self.cloud.close()


@pytest.fixture(scope="module")
def tenants(local_admin: LocalAdmin) -> Iterator[tuple[Tenant, Tenant]]:
    made = local_admin.run("account", "create", "one"), local_admin.ask("account.create", name="two")
    mine, theirs = (Tenant(local_admin.server, new) for new in made)
    yield mine, theirs
    mine.close()
    theirs.close()


Tenants = tuple[Tenant, Tenant]


def test_certificates_of_another_account_are_not_found(tenants: Tenants) -> None:
    mine, theirs = tenants
    with mine.local_admin.iot(mine.key) as my_iot, theirs.local_admin.iot(theirs.key) as their_iot:
        made = their_iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())
        id, unknown = made["certificateId"], "0" * 64
        for call, further in (
            (my_iot.describe_certificate, {}),
            (my_iot.update_certificate, {"newStatus": "REVOKED"}),
            (my_iot.delete_certificate, {}),
        ):
            answer_for_theirs = refusal(call, certificateId=id, **further)
            answer_for_unknown = refusal(call, certificateId=unknown, **further)
            assert answer_for_theirs[:2] == (404, "ResourceNotFoundException")
            assert answer_for_theirs[2].replace(id, unknown) == answer_for_unknown[2]
        assert mine.native.get(f"/v1/certificates/{id}").status_code == 404
        assert theirs.native.get(f"/v1/certificates/{id}").status_code == 200
        assert my_iot.list_certificates()["certificates"] == []
        # The same certificate can be registered in both, and each account has its own.
        pem = self_signed_pem()
        arns = {
            iot.register_certificate_without_ca(certificatePem=pem)["certificateArn"] for iot in (my_iot, their_iot)
        }
        assert {arn.split(":")[4] for arn in arns} == {mine.number, theirs.number}


def test_a_policy_for_an_arn_of_another_account_allows_nothing(tenants: Tenants) -> None:
    mine, theirs = tenants
    made = theirs.native.post("/v1/certificates", json={"csr": csr_pem()}).json()["data"]
    with mine.local_admin.iot_of(allow("iot:*", made["arn"])) as iot:
        assert refusal(iot.describe_certificate, certificateId=made["id"])[:2] == (403, "AccessDeniedException")


def test_markers_of_another_account_are_refused(tenants: Tenants) -> None:
    mine, theirs = tenants
    for tenant in tenants:
        for _ in range(3):
            tenant.native.post("/v1/certificates", json={"csr": csr_pem()})
    with mine.local_admin.iot(mine.key) as my_iot, theirs.local_admin.iot(theirs.key) as their_iot:
        marker = their_iot.list_certificates(pageSize=1)["nextMarker"]
        assert their_iot.list_certificates(pageSize=1, marker=marker)["certificates"]
        assert refusal(my_iot.list_certificates, pageSize=1, marker=marker)[:2] == (400, "InvalidRequestException")
        answer = mine.native.get("/v1/certificates", params={"page_size": 1, "marker": marker})
        assert error_of(answer) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("wire", ["grpc", "rest"])
def test_page_tokens_operations_and_idempotency_keys_are_per_account(tenants: Tenants, wire: str) -> None:
    mine, theirs = (tenant.cloud for tenant in tenants)
    registries = [cloud.registry() for cloud in (mine, theirs, mine, theirs)]
    request = rs.ListRegistriesRequest(folder_id=theirs.folder, page_size=1)
    token = theirs.wire(wire).call("RegistryService/List", request).next_page_token
    foreign = rs.ListRegistriesRequest(folder_id=mine.folder, page_size=1, page_token=token)
    with pytest.raises(Refused) as refused:
        mine.wire(wire).call("RegistryService/List", foreign)
    assert refused.value.code == "INVALID_ARGUMENT"

    key = f"one-key-{wire}"
    operation = theirs.add(theirs.device(registries[1]), certificate(), wire, key=key)
    assert theirs.operation(operation.id, wire) == operation
    for method in ("OperationService/Get", "OperationService/Cancel"):
        with pytest.raises(Refused) as refused:
            mine.wire(wire).call(method, ops.GetOperationRequest(operation_id=operation.id))
        assert refused.value.code == "NOT_FOUND"
    assert mine.add(mine.device(registries[0]), certificate(), wire, key=key).id != operation.id


@pytest.mark.parametrize("wire", ["grpc", "rest"])
def test_a_role_on_a_folder_of_another_account_allows_nothing(tenants: Tenants, wire: str) -> None:
    mine, theirs = tenants
    folder, registry = theirs.cloud.folder, theirs.cloud.registry()
    grants = [("admin", "*"), ("admin", f"yandex:folder/{folder}"), ("admin", f"yandex:registry/{registry}")]
    with service_account(mine.local_admin, mine.cloud.folder, *grants) as cloud:
        for method, request in (
            ("RegistryService/Get", rs.GetRegistryRequest(registry_id=registry)),
            ("RegistryService/List", rs.ListRegistriesRequest(folder_id=folder)),
            ("RegistryService/Create", rs.CreateRegistryRequest(folder_id=folder)),
            ("RegistryService/Delete", rs.DeleteRegistryRequest(registry_id=registry)),
            ("DeviceService/List", ds.ListDevicesRequest(folder_id=folder)),
            ("DeviceService/Create", ds.CreateDeviceRequest(registry_id=registry)),
        ):
            with pytest.raises(Refused) as refused:
                cloud.wire(wire).call(method, request)
            assert refused.value.code == "NOT_FOUND", method


def test_access_commands_cannot_reach_another_account(tenants: Tenants) -> None:
    """Another account's number, principals, credentials and policies are answered as unknown."""
    mine, theirs = tenants
    user = theirs.local_admin.user("thingmint/ReadOnly")
    key = theirs.local_admin.key(user)
    token_id = theirs.local_admin.ask("token.create", principal=user)["token"].split("_")[1]
    theirs.local_admin.ask("policy.put", name="theirs", document=document(allow("iot:*")))
    own = mine.local_admin.user()
    for command, given in (
        ("user/disable", {"name": user}),
        ("user/delete", {"name": user}),
        ("key/create", {"principal": user}),
        ("key/list", {"principal": user}),
        ("key/disable", {"id": key["access_key_id"]}),
        ("key/delete", {"id": key["access_key_id"]}),
        ("token/delete", {"id": token_id}),
        ("session/create", {"principal": user}),
        ("policy/show", {"name": "theirs"}),
        ("policy/delete", {"name": "theirs"}),
        ("policy/attached", {"principal": user}),
        ("policy/attach", {"principal": user, "policy": "thingmint/Administrator"}),
        ("policy/attach", {"principal": own, "policy": "theirs"}),
    ):
        assert error_of(mine.ask(command, **given)) == (404, "NOT_FOUND"), command
        answer = mine.ask(command, account=theirs.number, **given)
        assert error_of(answer) == (404, "NOT_FOUND"), command
        unknown = mine.ask(command, account="999999999999", **given)
        assert (
            answer.json()["error"]["message"].replace(theirs.number, "999999999999")
            == unknown.json()["error"]["message"]
        )
    for command in ("user/list", "policy/list", "folder/list", "role/list", "service-account/list"):
        text = mine.ask(command).text
        assert user not in text
        assert "theirs" not in text
        assert theirs.cloud.folder not in text
    with theirs.local_admin.iot(key) as iot:
        iot.list_certificates()


def test_the_operator_names_the_account(tenants: Tenants) -> None:
    mine, theirs = tenants
    for tenant in tenants:
        tenant.local_admin.ask("user.create", name="same-name")
    mine.local_admin.ask("user.delete", name="same-name")
    assert "same-name" in {each["name"] for each in theirs.local_admin.ask("user.list")}
    with pytest.raises(AdminError, match="account 999999999999 does not exist"):
        LocalAdmin(mine.local_admin.server, "999999999999").ask("user.create", name="x")


@pytest.mark.parametrize("command", ["account/create", "account/list", "access/rotate"])
def test_instance_wide_commands_are_not_served_over_the_network(tenants: Tenants, command: str) -> None:
    assert error_of(tenants[0].ask(command, name="x"))[0] in (404, 405)
