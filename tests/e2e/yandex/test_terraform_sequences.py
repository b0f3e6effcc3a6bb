"""The calls that Terraform's provider for Yandex Cloud makes in its acceptance tests, in their order.

Registries and devices are called through the SDK; the SDK for Python does not reach brokers, so they are called over
gRPC.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message_factory import GetMessageClass
from yandex.cloud.iot.broker.v1 import broker_pb2
from yandex.cloud.iot.devices.v1 import device_pb2, device_service_pb2_grpc, registry_pb2, registry_service_pb2_grpc

from tests.e2e.access.local_admin import LocalAdmin
from tests.e2e.yandex.certificates import certificate
from tests.e2e.yandex.clients import METHODS, Account, Cloud, Refused, done

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.testing import RunningServer

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated class RetryInterceptor:DeprecationWarning")

PASSWORD = "0123456789_abcd"
STUBS = {
    "device": device_service_pb2_grpc.DeviceServiceStub,
    "registry": registry_service_pb2_grpc.RegistryServiceStub,
}
MODULES: dict[str, Any] = {"device": device_pb2, "registry": registry_pb2, "broker": broker_pb2}


class Provider:
    """Calls as Terraform's provider makes them. Answers of changes are the results of their Operations."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.sdk = cloud.sdk()
        self.clients = {kind: self.sdk.client(stub) for kind, stub in STUBS.items()}

    def call(self, kind: str, name: str, /, **fields: Any) -> Any:
        method = f"{kind.title()}Service/{name}"
        request: Any = GetMessageClass(METHODS[method].input_type)(**fields)
        if kind in self.clients:
            answer = getattr(self.clients[kind], name)(type(request)(**fields))
            if METHODS[method].output_type.name != "Operation":
                return answer
            return self.sdk.wait_operation_and_get_result(answer, response_type=self._response(kind, name)).response
        answer = self.cloud.grpc.call(method, request)
        return done(answer, self._response(kind, name)) if METHODS[method].output_type.name == "Operation" else answer

    def _response(self, kind: str, name: str) -> Any:
        if name.startswith("Delete"):
            return Empty
        part = name.removeprefix("Add") if name.startswith("Add") else ""  # "Certificate" or "Password"
        return getattr(MODULES[kind], f"{kind.title()}{part}")

    def create(self, kind: str, /, **fields: Any) -> Any:
        parent = {"registry_id": self.create("registry").id} if kind == "device" else {"folder_id": self.cloud.folder}
        return self.call(kind, "Create", **{**parent, **fields})

    def of(self, kind: str, id: str, name: str, /, **fields: Any) -> Any:
        """A method of one owner."""
        return self.call(kind, name, **{f"{kind}_id": id}, **fields)

    def is_gone(self, kind: str, id: str) -> bool:
        try:
            self.of(kind, id, "Get")
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.NOT_FOUND
        except Refused as refused:
            return refused.code == "NOT_FOUND"
        return False

    def passwords(self, kind: str, id: str) -> set[str]:
        return {each.id for each in self.of(kind, id, "ListPasswords").passwords}

    def certificates(self, kind: str, id: str) -> dict[str, str]:
        """Texts by fingerprint."""
        listed = self.of(kind, id, "ListCertificates").certificates
        return {each.fingerprint: each.certificate_data for each in listed}

    def swap_certificates(self, kind: str, id: str, wanted: set[str]) -> None:
        """As the provider does: by the text, delete what is not wanted, then add what is not there."""
        known = self.certificates(kind, id)
        for fingerprint, text in known.items():
            if text not in wanted:
                self.of(kind, id, "DeleteCertificate", fingerprint=fingerprint)
        for text in wanted - set(known.values()):
            self.of(kind, id, "AddCertificate", certificate_data=text)

    def pages(self, kind: str, plural: str, **parent: Any) -> Iterator[Any]:
        token = ""
        while True:
            page = self.call(kind, "List", **parent, page_size=100, page_token=token)
            yield from getattr(page, plural)
            token = page.next_page_token
            if not token:
                return


@pytest.fixture(scope="module")
def provider(server: RunningServer) -> Iterator[Provider]:
    """In an account of its own, because the last sequence deletes everything."""
    made = LocalAdmin(server).ask("account.create", name=f"terraform-{secrets.token_hex(4)}")
    cloud = Cloud(server, Account(made["authorized_key"], made["folder"], made["token"]))
    yield Provider(cloud)
    cloud.close()


def in_heredoc(pem: str) -> str:
    """Terraform's heredocs end in one more line."""
    return f"{pem}\n"


@pytest.mark.parametrize("kind", ["registry", "broker"])
def test_1_a_registry_is_created_read_and_deleted(provider: Provider, kind: str) -> None:
    labels = {"tf-label": "tf-label-value", "empty-label": ""}
    made = provider.create(kind, name="basic", description="test", labels=labels)
    read = provider.of(kind, made.id, "Get")
    assert (read.name, read.description, dict(read.labels)) == ("basic", "test", labels)
    assert read.folder_id == provider.cloud.folder
    assert read.HasField("created_at")
    assert provider.passwords(kind, made.id) == set()
    assert provider.certificates(kind, made.id) == {}
    provider.of(kind, made.id, "Delete")
    assert provider.is_gone(kind, made.id)


def test_2_a_device_is_created_read_and_deleted(provider: Provider) -> None:
    labels = {"key": "value", "empty": ""}
    made = provider.create("device", name="basic", labels=labels)
    read = provider.of("device", made.id, "Get")
    assert dict(read.labels) == labels
    assert read.created_at.seconds > 0
    provider.of("device", made.id, "Delete")
    assert provider.is_gone("device", made.id)
    provider.of("registry", made.registry_id, "Delete")


@pytest.mark.parametrize("kind", ["device", "registry", "broker"])
def test_3_and_4_an_owner_is_changed_and_its_passwords_and_certificates_replaced(provider: Provider, kind: str) -> None:
    """Sequence 3 is that of a device, with aliases; 4 that of a registry, with options of its log."""
    old, new = in_heredoc(certificate()), in_heredoc(certificate())
    aliases = {"aaa/bbb": "$devices/{id}/events"} if kind == "device" else None
    made = provider.create(
        kind,
        name=f"before-{kind}",
        description="before",
        certificates=[{"certificate_data": old}],
        **({"topic_aliases": aliases} if aliases else {"log_options": {"disabled": True}}),
    )
    id = made.id
    provider.of(kind, id, "AddPassword", password=PASSWORD)
    passwords, certificates = provider.passwords(kind, id), provider.certificates(kind, id)
    assert len(passwords) == 1
    assert list(certificates.values()) == [old], "byte for byte"
    if kind == "device":
        changed: dict[str, Any] = {"topic_aliases": {"ccc/ddd": f"$devices/{id}/commands"}}
    else:
        changed = {"log_options": {"folder_id": provider.cloud.folder, "min_level": "WARN"}}
    paths = ["name", "description", *changed]
    fields = {"name": f"after-{kind}", "description": "after", **changed}
    provider.of(kind, id, "Update", update_mask=FieldMask(paths=paths), **fields)
    read = provider.of(kind, id, "Get")
    assert (read.name, read.description, read.created_at) == (f"after-{kind}", "after", made.created_at)
    if kind == "device":
        assert dict(read.topic_aliases) == changed["topic_aliases"]
    else:
        assert (read.log_options.folder_id, read.log_options.min_level) == (provider.cloud.folder, 4)
    # Passwords cannot be read, so a change of them replaces them all.
    for password in passwords:
        provider.of(kind, id, "DeletePassword", password_id=password)
    provider.of(kind, id, "AddPassword", password=f"{PASSWORD}_new")
    assert len(provider.passwords(kind, id)) == 1
    assert provider.passwords(kind, id).isdisjoint(passwords)
    assert provider.certificates(kind, id) == certificates
    # A change of a registry's that keeps their number only adds.
    provider.of(kind, id, "AddPassword", password=PASSWORD)
    assert len(provider.passwords(kind, id)) == 2
    provider.swap_certificates(kind, id, {new})
    assert list(provider.certificates(kind, id).values()) == [new]
    provider.swap_certificates(kind, id, {new})
    assert list(provider.certificates(kind, id).values()) == [new], "a plan without changes"
    provider.of(kind, id, "Delete")
    assert provider.is_gone(kind, id)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize(("kind", "plural"), [("device", "devices"), ("registry", "registries"), ("broker", "brokers")])
def test_5_data_sources_find_owners_by_id_and_by_name(provider: Provider, kind: str, plural: str, count: int) -> None:
    """By name, the provider reads all pages of the folder, and compares names itself."""
    name = f"source-{kind}-{count}"
    fields: dict[str, Any] = {"certificates": [{"certificate_data": certificate()}], "password": PASSWORD}
    if kind == "device":
        fields["topic_aliases"] = {name: "$devices/{id}/events"}
    made = provider.create(kind, name=name, **(fields if count else {}))
    named = [each for each in provider.pages(kind, plural, folder_id=provider.cloud.folder) if each.name == name]
    assert [each.id for each in named] == [made.id]
    read = provider.of(kind, made.id, "Get")
    assert read == made
    assert len(provider.passwords(kind, made.id)) == len(provider.certificates(kind, made.id)) == count
    if kind == "device":
        assert len(read.topic_aliases) == count


def test_6_sweepers_delete_all_devices_of_a_folder_and_then_its_registries(provider: Provider) -> None:
    registry = provider.create("registry").id
    for _ in range(101):  # more than a page
        provider.call("device", "Create", registry_id=registry)
    folder = {"folder_id": provider.cloud.folder}
    with pytest.raises(grpc.RpcError) as refused:
        provider.of("registry", registry, "Delete")
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    swept: list[tuple[str, str]] = [("device", "devices"), ("registry", "registries"), ("broker", "brokers")]
    for kind, plural in swept:
        ids = [each.id for each in provider.pages(kind, plural, **folder)]
        assert len(ids) == len(set(ids))
        for id in ids:
            provider.of(kind, id, "Delete")
        assert list(provider.pages(kind, plural, **folder)) == []
