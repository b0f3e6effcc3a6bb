"""Each call that can end a device's access ends its session before it returns, and the device cannot reconnect.

The calls are the served operations of all APIs, and the commands. Each call that changes anything has a case here, or
is listed with the reason why it ends no access. A new call fails ``test_each_call_has_a_case_or_a_reason``.
"""

from __future__ import annotations

import contextlib
import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from yandex.cloud.iot.broker.v1 import broker_service_pb2
from yandex.cloud.iot.devices.v1 import device_service_pb2, registry_service_pb2

from tests.e2e import material
from tests.e2e.access.local_admin import allow, deny, document
from tests.e2e.conftest import iot_client
from tests.e2e.logs import check_log
from tests.e2e.mqtt.devices import Closed, Credential, Device, credential
from tests.e2e.provisioning.support import Fleet
from tests.e2e.revocation.support import ALL, AllApis, Connected, new_name
from tests.e2e.yandex.clients import PASSWORD, Cloud
from tests.issuers import fingerprint, new_issuer, pem
from thingmint.access.administration import COMMANDS
from thingmint.aws.operations import DATA_OPERATIONS as DATA_PLANE
from thingmint.aws.operations import OPERATIONS as AWS
from thingmint.mqtt.jit_registration import REGISTER_CERTIFICATE
from thingmint.mqtt.provisioning import CREATE_FROM_CSR, CREATE_KEYS, REGISTER_THING
from thingmint.native.endpoints import ENDPOINTS
from thingmint.services.jobs import STEPS
from thingmint.testing import running_server
from thingmint.yandex.operations import OPEN
from thingmint.yandex.operations import OPERATIONS as YANDEX

_METADATA: dict[str, Any] = {
    "registry": registry_service_pb2.CreateRegistryMetadata,
    "broker": broker_service_pb2.CreateBrokerMetadata,
}
_ADDED_PASSWORD: dict[str, Any] = {
    "device": device_service_pb2.AddDevicePasswordMetadata,
    "registry": registry_service_pb2.AddRegistryPasswordMetadata,
    "broker": broker_service_pb2.AddBrokerPasswordMetadata,
}

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.issuers import Issuer

    Case = Callable[[AllApis], tuple[Connected, Callable[[], object]]]

# Seconds for data that the server sent before it answered. Shorter than 0.25 s, when other processes poll the outbox.
_TRANSIT = 0.15

PROVISIONED = {
    "Type": "AWS::IoT::Certificate",
    "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"},
}

ENDS_ACCESS: dict[str, Case] = {}
"""Each case makes a connected device, and the call that ends its access."""


def ends(*names: str) -> Callable[[Case], Case]:
    def declare(case: Case) -> Case:
        for name in names:
            key = name if name not in ENDS_ACCESS else f"{name} ({case.__name__.strip('_').replace('_', ' ')})"
            ENDS_ACCESS[key] = case
        return case

    return declare


_NEW = "makes something new, so no device is connected with it"
_UNUSED = "refused while a device could depend on it"
_NOT_READ = "device policies cannot refer to it"
_OF_PROVISIONING = "decides how devices are provisioned, not which devices may connect"
_OF_CALLERS = "about callers of the APIs, not about devices"
_OF_EXPORTS = "decides where messages go, not which devices may connect"
_OWNERS = ("Device", "Registry", "Broker")
_TRANSFER = "only certificates whose transfer is pending, and these cannot connect"
_TAGS = "tags: device policies cannot refer to them"

KEEPS_ACCESS = {
    "aws:AcceptCertificateTransfer": _TRANSFER,
    "aws:CancelCertificateTransfer": _TRANSFER,
    **{
        f"aws:{name}BillingGroup": "billing groups: device policies cannot refer to them"
        for name in ("AddThingTo", "Create", "Delete", "RemoveThingFrom", "Update")
    },
    "aws:CreateCertificateFromCsr": _NEW,
    "aws:CreateCertificateProvider": _OF_PROVISIONING,
    "aws:CreateKeysAndCertificate": _NEW,
    "aws:CreatePolicy": _NEW,
    "aws:CreateProvisioningClaim": _NEW,
    "aws:CreateProvisioningTemplate": _NEW,
    "aws:CreateProvisioningTemplateVersion": _OF_PROVISIONING,
    "aws:CreateRoleAlias": _NEW,
    "aws:CreateThing": _NEW,
    "aws:CreateThingGroup": _NEW,
    "aws:CreateThingType": _NEW,
    "aws:DeleteCACertificate": "refused while it is ACTIVE; its devices may connect, or not, as before",
    "aws:DeleteCertificate": "refused while the certificate is ACTIVE, and only ACTIVE ones can connect",
    "aws:DeleteCertificateProvider": _OF_PROVISIONING,
    "aws:DeleteConnection": "ends a connection, and the device may connect again",
    "native:POST /v1/session/end": "ends a connection, and the device may connect again",
    "native:POST /v1/provisioning/dry-run": "changes nothing",
    "aws:DeletePolicy": _UNUSED,
    "aws:DeletePolicyVersion": "refused for the default version, and no other version applies",
    "aws:DeleteProvisioningTemplateVersion": _OF_PROVISIONING,
    "aws:DeleteRegistrationCode": "registration codes are for new CA certificates",
    "aws:DeleteRoleAlias": _OF_CALLERS,
    "aws:DeleteThing": _UNUSED,
    "aws:DeleteThingType": _UNUSED,
    "aws:DeprecateThingType": "things that have the type keep it",
    "aws:GetRegistrationCode": _NEW,
    "aws:RegisterCACertificate": _NEW,
    "aws:RegisterCertificate": _NEW,
    "aws:RegisterCertificateWithoutCA": _NEW,
    "aws:RejectCertificateTransfer": _TRANSFER,
    "aws:StartThingRegistrationTask": "starts a task, whose lines have the effects of RegisterThing",
    "aws:StopThingRegistrationTask": "ends the task only",
    "aws:TagResource": _TAGS,
    "aws:TransferCertificate": "refused while the certificate is ACTIVE, and only ACTIVE ones can connect",
    "aws:UntagResource": _TAGS,
    "aws:UpdateCertificateProvider": _OF_PROVISIONING,
    "aws:UpdateEventConfigurations": "switches messages of the service",
    "aws:UpdateIndexingConfiguration": "stores what GetIndexingConfiguration tells, and nothing else reads it",
    "aws:UpdateProvisioningTemplate": _OF_PROVISIONING,
    "aws:UpdateRoleAlias": _OF_CALLERS,
    "aws:UpdateThingGroup": _NOT_READ,
    "aws:UpdateThingType": _NOT_READ,
    "yandex:ApiEndpointService/Get": "reads",
    "yandex:ApiEndpointService/List": "reads",
    **{f"yandex:{owner}Service/AddCertificate": "binding removes no access" for owner in _OWNERS},
    **{f"yandex:{owner}Service/AddPassword": _NEW for owner in _OWNERS},
    **{f"yandex:{owner}Service/Create": _NEW for owner in _OWNERS},
    **{f"yandex:{owner}Service/Update": "changes no credential and no state" for owner in _OWNERS},
    "yandex:RegistryService/AddDataStreamExport": _OF_EXPORTS,
    "yandex:RegistryService/DeleteDataStreamExport": _OF_EXPORTS,
    "yandex:RegistryService/Enable": "lets the registry's clients connect again",
    "yandex:IamTokenService/Create": _OF_CALLERS,
    "yandex:IamTokenService/Revoke": _OF_CALLERS,
    "native:POST /keys-and-certificate": _NEW,
    "native:POST /v1/certificates": _NEW,
    "native:DELETE /v1/certificates/{id}": "as DeleteCertificate of AWS",
    "mqtt:CreateKeysAndCertificate": _NEW,
    "mqtt:CreateCertificateFromCsr": _NEW,
    "mqtt:RegisterCertificate": "a new certificate; its template has the same effects as RegisterThing",
    "access:region.add": "an additional region removes no access",
    **dict.fromkeys(
        [f"access:hostname.{verb}" for verb in ("add", "first", "remove")],
        "host names that all accounts share do not decide about the account of a device",
    ),
    "job:credentials of a deleted principal": _OF_CALLERS,
    "job:last_messages": "deletes what a deleted owner published",
    "job:messages of a deleted export": _OF_EXPORTS,
    "job:members of a deleted thing group": "they are not members any more",
    **dict.fromkeys(
        (
            "access:account.create",
            "access:folder.create",
            *(
                f"access:{kind}.{verb}"
                for kind in ("user", "service-account", "role")
                for verb in ("create", "disable", "enable", "delete")
            ),
            *(
                f"access:{kind}.{verb}"
                for kind in ("key", "token")
                for verb in ("create", "disable", "enable", "delete")
            ),
            "access:role.trust",
            "access:token.restrict",
            "access:session.create",
            *(f"access:policy.{verb}" for verb in ("put", "delete", "attach", "detach")),
        ),
        _OF_CALLERS,
    ),
}


def served() -> set[str]:
    """Returns all calls that change anything."""
    labels = {path: f"{path.split('/')[1].rpartition('.')[2]}/{path.split('/')[2]}" for path in (*YANDEX, *OPEN)}
    return {
        *(f"aws:{name}" for name, operation in (AWS | DATA_PLANE).items() if operation.writes),
        *(f"yandex:{labels[path]}" for path, operation in YANDEX.items() if operation.writes),
        *(f"yandex:{labels[path]}" for path in OPEN),
        *(
            f"native:{each.method} {each.path}"
            for each in ENDPOINTS
            if each.method != "GET" and not each.path.startswith("/v1/access/")  # these are the commands
        ),
        *(f"access:{name}" for name, command in COMMANDS.items() if command.operation.writes),
        *(f"mqtt:{each.name}" for each in (CREATE_KEYS, CREATE_FROM_CSR, REGISTER_THING, REGISTER_CERTIFICATE)),
        *(f"job:{kind}" for kind in STEPS),
    }


def test_each_call_has_a_case_or_a_reason() -> None:
    cases = {name.partition(" (")[0] for name in ENDS_ACCESS}
    assert not cases & KEEPS_ACCESS.keys()
    assert cases | KEEPS_ACCESS.keys() == served(), "a new call needs a case, or the reason why it ends no access"


@pytest.fixture(scope="module")
def apis(tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[], dict[str, str]]) -> Iterator[AllApis]:
    folder = tmp_path_factory.mktemp("revocation")
    with (
        running_server(arguments=["--log-format=json"], environment=new_store()) as server,
        contextlib.ExitStack() as stack,
    ):
        fleet = Fleet.of(server, stack.enter_context(contextlib.closing(iot_client(server))), folder)
        cloud = stack.enter_context(contextlib.closing(Cloud(server)))
        native = stack.enter_context(fleet.local_admin.bearer(server.token))
        yield AllApis(fleet, cloud, native, folder)
        check_log(server.output.read_text(errors="replace"))


@pytest.mark.both_engines
@pytest.mark.parametrize("name", ENDS_ACCESS)
def test_calls_that_end_access_close_the_session_before_they_return(apis: AllApis, name: str) -> None:
    connected, call = ENDS_ACCESS[name](apis)
    with connected.device as device:
        assert device.is_open
        call()
        answered = time.monotonic()
        device.until_closed(_TRANSIT)
        assert time.monotonic() - answered < _TRANSIT
    with Device(apis.fleet.server, connected.made) as again, pytest.raises(Closed):
        again.connect(connected.client_id, **connected.login)


# -- AWS IoT ------------------------------------------------------------------------------------------------------


@ends("aws:UpdateCertificate")
def _deactivated(apis: AllApis) -> Any:
    connected = apis.connected()
    return connected, lambda: apis.iot.update_certificate(certificateId=connected.id, newStatus="INACTIVE")


@ends("aws:UpdateCertificate")
def _revoked(apis: AllApis) -> Any:
    connected = apis.connected()
    return connected, lambda: apis.iot.update_certificate(certificateId=connected.id, newStatus="REVOKED")


@ends("aws:DetachPolicy")
def _detach_policy(apis: AllApis) -> Any:
    connected = apis.connected()
    return connected, lambda: apis.iot.detach_policy(policyName=connected.policy, target=connected.arn)


@ends("aws:DetachPolicy")
def _from_a_group(apis: AllApis) -> Any:
    policy = apis.policy(ALL)
    group = apis.group(policy)
    thing, made = apis.thing(group), apis.certificate()
    apis.iot.attach_thing_principal(thingName=thing, principal=apis.arn(f"cert/{made.fingerprint}"))
    target = apis.arn(f"thinggroup/{group}")
    return apis.connect(made, thing), lambda: apis.iot.detach_policy(policyName=policy, target=target)


@ends("aws:DetachPrincipalPolicy")
def _detach_principal_policy(apis: AllApis) -> Any:
    connected = apis.connected()
    return connected, lambda: apis.iot.detach_principal_policy(policyName=connected.policy, principal=connected.arn)


@ends("aws:AttachPolicy")
def _attach_a_denial(apis: AllApis) -> Any:
    connected, policy = apis.connected(), apis.policy(deny("iot:Connect"))
    return connected, lambda: apis.iot.attach_policy(policyName=policy, target=connected.arn)


@ends("aws:AttachPolicy")
def _to_a_group(apis: AllApis) -> Any:
    (connected, group), policy = apis.of_group(), apis.policy(deny("iot:Connect"))
    return connected, lambda: apis.iot.attach_policy(policyName=policy, target=apis.arn(f"thinggroup/{group}"))


@ends("aws:AttachPrincipalPolicy")
def _attach_principal_policy(apis: AllApis) -> Any:
    connected, policy = apis.connected(), apis.policy(deny("iot:Connect"))
    return connected, lambda: apis.iot.attach_principal_policy(policyName=policy, principal=connected.arn)


@ends("aws:CreatePolicyVersion")
def _create_policy_version(apis: AllApis) -> Any:
    connected, denial = apis.connected(), document(deny("iot:Connect"))
    return connected, lambda: apis.iot.create_policy_version(
        policyName=connected.policy, policyDocument=denial, setAsDefault=True
    )


@ends("aws:SetDefaultPolicyVersion")
def _set_default_policy_version(apis: AllApis) -> Any:
    connected = apis.connected()
    made = apis.iot.create_policy_version(policyName=connected.policy, policyDocument=document(deny("iot:Connect")))
    version = made["policyVersionId"]
    return connected, lambda: apis.iot.set_default_policy_version(policyName=connected.policy, policyVersionId=version)


@ends("aws:DetachThingPrincipal")
def _detach_thing_principal(apis: AllApis) -> Any:
    connected = apis.with_attribute()
    return connected, lambda: apis.iot.detach_thing_principal(thingName=connected.client_id, principal=connected.arn)


@ends("aws:AttachThingPrincipal")
def _attach_thing_principal(apis: AllApis) -> Any:
    only = allow("iot:Connect", Condition={"Bool": {"iot:Connection.Thing.IsAttached": "false"}})
    thing = apis.thing()
    connected = apis.connected(only, client_id=thing)
    return connected, lambda: apis.iot.attach_thing_principal(thingName=thing, principal=connected.arn)


@ends("aws:UpdateThing")
def _update_thing(apis: AllApis) -> Any:
    connected = apis.with_attribute()
    no = {"attributes": {"may": "no"}}
    return connected, lambda: apis.iot.update_thing(thingName=connected.client_id, attributePayload=no)


@ends("aws:RemoveThingFromThingGroup")
def _remove_thing_from_thing_group(apis: AllApis) -> Any:
    connected, group = apis.of_group()
    named = {"thingName": connected.client_id, "thingGroupName": group}
    return connected, lambda: apis.iot.remove_thing_from_thing_group(**named)


@ends("aws:AddThingToThingGroup")
def _add_thing_to_thing_group(apis: AllApis) -> Any:
    (connected, _), denying = apis.of_group(), apis.group(apis.policy(deny("iot:Connect")))
    named = {"thingName": connected.client_id, "thingGroupName": denying}
    return connected, lambda: apis.iot.add_thing_to_thing_group(**named)


@ends("aws:UpdateThingGroupsForThing")
def _update_thing_groups_for_thing(apis: AllApis) -> Any:
    connected, group = apis.of_group()
    return connected, lambda: apis.iot.update_thing_groups_for_thing(
        thingName=connected.client_id, thingGroupsToRemove=[group]
    )


@ends("aws:DeleteThingGroup")
def _delete_thing_group(apis: AllApis) -> Any:
    connected, group = apis.of_group()
    return connected, lambda: apis.iot.delete_thing_group(thingGroupName=group)


@ends("aws:RegisterThing")
def _register_thing(apis: AllApis) -> Any:
    connected = apis.connected()
    resource = {
        "Type": "AWS::IoT::Certificate",
        "Properties": {"CertificateId": connected.id, "Status": "INACTIVE"},
        "OverrideSettings": {"Status": "REPLACE"},
    }
    body = json.dumps({"Resources": {"certificate": resource}})
    return connected, lambda: apis.iot.register_thing(templateBody=body)


@ends("aws:DeleteProvisioningTemplate")
def _delete_provisioning_template(apis: AllApis) -> Any:
    template = apis.template()
    claim = apis.iot.create_provisioning_claim(templateName=template)
    file = apis.folder / f"{new_name('claim')}.pem"
    file.write_text(claim["keyPair"]["PrivateKey"] + claim["certificatePem"])
    connected = apis.connect(Credential(claim["certificateId"], claim["certificatePem"], file))
    return connected, lambda: apis.iot.delete_provisioning_template(templateName=template)


def _of_ca(apis: AllApis) -> tuple[Connected, str]:
    """Returns a device and its CA certificate, in an account where the CA's status applies to its devices."""
    apis.fleet.local_admin.ask("account.set", name="ca_status_gates_devices", value="true")
    issuer = new_issuer(new_name("root"), now=datetime.now(UTC))
    ca = apis.iot.register_ca_certificate(caCertificate=issuer.pem, setAsActive=True, certificateMode="SNI_ONLY")
    made = issued(apis, issuer)
    apis.iot.register_certificate(certificatePem=made.pem, caCertificatePem=issuer.pem, status="ACTIVE")
    apis.attach(apis.policy(ALL), made)
    return apis.connect(made), ca["certificateId"]


def issued(apis: AllApis, issuer: Issuer) -> Credential:
    key = material.key("secp256r1")
    certificate = issuer.sign("thermometer", key)
    file = apis.folder / f"{new_name('issued')}.pem"
    file.write_text(material.key_pem(key) + pem(certificate))
    return Credential(fingerprint(certificate), pem(certificate), file)


@ends("aws:UpdateCACertificate")
def _update_ca_certificate(apis: AllApis) -> Any:
    connected, ca = _of_ca(apis)
    return connected, lambda: apis.iot.update_ca_certificate(certificateId=ca, newStatus="INACTIVE")


# -- Yandex IoT Core ----------------------------------------------------------------------------------------------


def _bound(apis: AllApis, *, adopted: bool = False) -> tuple[Connected, str]:
    """Returns a Yandex device with a bound certificate and a policy, and its id."""
    made, device = credential(apis.folder), apis.cloud.device()
    if adopted:
        apis.iot.register_certificate_without_ca(certificatePem=made.pem, status="ACTIVE")
    apis.cloud.add(device, made.pem)
    apis.attach(apis.policy(ALL), made)
    return apis.connect(made), device


@ends("yandex:DeviceService/DeleteCertificate")
def _made_by_add_certificate(apis: AllApis) -> Any:
    connected, device = _bound(apis)
    return connected, lambda: apis.cloud.remove(device, connected.id)


@ends("yandex:DeviceService/DeleteCertificate")
def _adopted(apis: AllApis) -> Any:
    connected, device = _bound(apis, adopted=True)
    return connected, lambda: apis.cloud.remove(device, connected.id, "rest")


@ends("yandex:DeviceService/Delete")
def _delete_device(apis: AllApis) -> Any:
    connected, device = _bound(apis)
    return connected, lambda: apis.yandex("DeviceService/Delete", device_id=device)


@ends("yandex:RegistryService/Delete")
def _delete_registry(apis: AllApis) -> Any:
    made = credential(apis.folder)
    registry = apis.cloud.registry(certificates=[{"certificate_data": made.pem}])
    apis.attach(apis.policy(ALL), made)
    return apis.connect(made), lambda: apis.yandex("RegistryService/Delete", registry_id=registry)


def _connected_owner(apis: AllApis, noun: str) -> tuple[Connected, str]:
    """Returns a client of a new registry or broker, connected with its certificate, and the owner's id."""
    made = credential(apis.folder)
    fields = {"folder_id": apis.cloud.folder, "certificates": [{"certificate_data": made.pem}]}
    operation = apis.operation(f"{noun.title()}Service/Create", **fields)
    return apis.connect(made), _id_in(operation, noun)


def _id_in(operation: Any, noun: str) -> str:
    metadata = _METADATA[noun]()
    assert operation.metadata.Unpack(metadata)
    return str(getattr(metadata, f"{noun}_id"))


@ends("yandex:RegistryService/DeleteCertificate")
def _delete_certificate_of_a_registry(apis: AllApis) -> Any:
    connected, registry = _connected_owner(apis, "registry")
    fields = {"registry_id": registry, "fingerprint": connected.id}
    return connected, lambda: apis.operation("RegistryService/DeleteCertificate", **fields)


@ends("yandex:BrokerService/DeleteCertificate")
def _delete_certificate_of_a_broker(apis: AllApis) -> Any:
    connected, broker = _connected_owner(apis, "broker")
    fields = {"broker_id": broker, "fingerprint": connected.id}
    return connected, lambda: apis.operation("BrokerService/DeleteCertificate", **fields)


@ends("yandex:BrokerService/Delete")
def _delete_broker(apis: AllApis) -> Any:
    connected, broker = _connected_owner(apis, "broker")
    return connected, lambda: apis.operation("BrokerService/Delete", broker_id=broker)


@ends("yandex:RegistryService/Disable")
def _disable_registry(apis: AllApis) -> Any:
    connected, registry = _connected_owner(apis, "registry")
    return connected, lambda: apis.operation("RegistryService/Disable", registry_id=registry)


@ends("yandex:RegistryService/Disable")
def _disable_registry_of_a_device(apis: AllApis) -> Any:
    made, registry = credential(apis.folder), apis.cloud.registry()
    apis.cloud.device(registry, certificates=[{"certificate_data": made.pem}])
    return apis.connect(made), lambda: apis.operation("RegistryService/Disable", registry_id=registry)


@ends("yandex:DeviceService/DeletePassword")
def _delete_password_of_a_device(apis: AllApis) -> Any:
    return _logged_in(apis, "device", apis.cloud.device())


@ends("yandex:RegistryService/DeletePassword")
def _delete_password_of_a_registry(apis: AllApis) -> Any:
    return _logged_in(apis, "registry", apis.cloud.registry())


@ends("yandex:BrokerService/DeletePassword")
def _delete_password_of_a_broker(apis: AllApis) -> Any:
    created = apis.operation("BrokerService/Create", folder_id=apis.cloud.folder)
    return _logged_in(apis, "broker", _id_in(created, "broker"))


def _logged_in(apis: AllApis, noun: str, id: str) -> Any:
    """Returns a client that connected with a password, and the call that deletes the password."""
    service, owner = f"{noun.title()}Service", {f"{noun}_id": id}
    added = apis.operation(f"{service}/AddPassword", **owner, password=PASSWORD)
    metadata = _ADDED_PASSWORD[noun]()
    assert added.metadata.Unpack(metadata)
    connected = apis.connect(None, username=id, password=PASSWORD.encode())
    return connected, lambda: apis.operation(f"{service}/DeletePassword", **owner, password_id=metadata.password_id)


# -- the native API, the commands, and devices themselves ---------------------------------------------------------


@ends("native:PATCH /v1/certificates/{id}")
def _native_update(apis: AllApis) -> Any:
    connected = apis.connected()
    return connected, lambda: apis.native.patch(
        f"/v1/certificates/{connected.id}", json={"status": "INACTIVE"}
    ).raise_for_status()


@ends("access:account.set")
def _set_account_setting(apis: AllApis) -> Any:
    apis.fleet.local_admin.ask("account.set", name="check_validity", value="false")
    expired = apis.connected(begins=timedelta(days=-9), ends=timedelta(days=-1))
    return expired, lambda: apis.fleet.local_admin.ask("account.set", name="check_validity", value="true")


@ends("mqtt:RegisterThing")
def _register_thing_over_mqtt(apis: AllApis) -> Any:
    """Uses a template that changes the thing of another device."""
    connected = apis.with_attribute()
    thing = {
        "Type": "AWS::IoT::Thing",
        "Properties": {"ThingName": connected.client_id, "AttributePayload": {"may": "no"}},
        "OverrideSettings": {"AttributePayload": "REPLACE"},
    }
    template = apis.template({"thing": thing, "certificate": PROVISIONED})
    device = apis.fleet.device()

    def provision() -> None:
        with device:
            device.subscribe("$aws/certificates/create-from-csr/json/+")
            device.subscribe(f"$aws/provisioning-templates/{template}/provision/json/+")
            token = device.certificate()["certificateOwnershipToken"]
            accepted, reply = device.register(template, token, SerialNumber="1")
            assert accepted, reply

    return connected, provision
