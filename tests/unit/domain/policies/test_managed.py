"""The actions that the managed policies and Yandex's roles allow."""

import json

import pytest

from thingmint.domain.errors import Invalid
from thingmint.domain.policies import Allow, Kind, Request, compile_policy, evaluate, evaluate_any
from thingmint.domain.policies.actions import CONTROL_PLANE_ACTIONS
from thingmint.domain.policies.managed import MANAGED_POLICIES, ROLES, TOKEN_CREATOR, role_policy

NAMES = ["Administrator", "FullAccess", "ReadOnly", "ProvisioningOnly", "AuditOnly"]


def allows(text: str, action: str, resource: str = "*") -> bool:
    given = compile_policy(text, kind=Kind.IDENTITY, max_size=6144)  # IAM's limit for a managed policy
    return isinstance(evaluate([given], Request(action, resource)), Allow)


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        ("iam:PassRole", "Administrator"),
        ("iot:DeleteCertificate", "Administrator FullAccess"),
        ("iot:CreatePolicy", "Administrator FullAccess"),
        ("iot:CreateKeysAndCertificate", "Administrator FullAccess ProvisioningOnly"),
        ("iot:CreateCertificateFromCsr", "Administrator FullAccess ProvisioningOnly"),
        ("iot:AttachPolicy", "Administrator FullAccess ProvisioningOnly"),
        ("iot:DescribeCertificate", "Administrator FullAccess ReadOnly ProvisioningOnly AuditOnly"),
        ("iot:ListCertificates", "Administrator FullAccess ReadOnly AuditOnly"),
        ("iot:GetRegistrationCode", "Administrator FullAccess ReadOnly"),
        ("iot:Publish", "Administrator FullAccess"),
        ("iot:GetRetainedMessage", "Administrator FullAccess"),
        ("thingmint:ListAudit", "Administrator AuditOnly"),
        ("thingmint:ListRefusals", "Administrator ReadOnly AuditOnly"),
        ("thingmint:ListSessions", "Administrator ReadOnly AuditOnly"),
        ("thingmint:GetHealth", "Administrator ReadOnly AuditOnly"),
        ("thingmint:ListImports", "Administrator ReadOnly AuditOnly"),
        ("thingmint:ListProvisioningClaims", "Administrator ReadOnly AuditOnly"),
        ("thingmint:TestProvisioning", "Administrator ReadOnly AuditOnly"),
        ("yandex:DeviceService.Get", "Administrator"),
    ],
)
def test_managed_policies_allow_their_actions(action: str, allowed: str) -> None:
    assert list(MANAGED_POLICIES) == NAMES
    assert [name for name, text in MANAGED_POLICIES.items() if allows(text, action)] == allowed.split()


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("arn:aws:iot:us-east-1:123456789012:provisioningtemplate/fleet", True),
        (f"arn:aws:iot:us-east-1:123456789012:cacert/{'a' * 64}", True),
        ("arn:aws:lambda:us-east-1:123456789012:function:f", False),
        (None, False),
    ],
)
def test_provisioning_only_creates_policies_of_templates(source: str | None, allowed: bool) -> None:
    given = compile_policy(MANAGED_POLICIES["ProvisioningOnly"], kind=Kind.IDENTITY)
    request = Request("iot:CreatePolicy", "arn:aws:iot:us-east-1:123456789012:policy/p", {"aws:SourceArn": source})
    assert isinstance(evaluate([given], request), Allow) is allowed


def test_managed_actions_exist_and_read_only_policies_cannot_write() -> None:
    for name in ("ReadOnly", "AuditOnly", "ProvisioningOnly"):
        for statement in json.loads(MANAGED_POLICIES[name])["Statement"]:
            for action in statement["Action"]:
                vendor, _, operation = action.partition(":")
                if vendor != "thingmint":
                    assert name == "ProvisioningOnly" or CONTROL_PLANE_ACTIONS[operation] in ("Read", "List")
                    assert operation in CONTROL_PLANE_ACTIONS


FOLDER, REGISTRY, CLOUD = "yandex:folder/b1g", "yandex:registry/are", "yandex:cloud/123456789012"
ON_FOLDERS = [role for role in ROLES if role != TOKEN_CREATOR]


@pytest.mark.parametrize(
    ("method", "roles"),
    [
        ("DeviceService.Get", "viewer editor admin iot.viewer iot.auditor iot.editor"),
        ("RegistryService.List", "viewer editor admin iot.viewer iot.auditor iot.editor"),
        ("OperationService.Get", "viewer editor admin iot.viewer iot.auditor iot.editor"),
        ("DeviceService.ListCertificates", "viewer editor admin iot.viewer iot.editor"),
        ("RegistryService.ListDeviceTopicAliases", "viewer editor admin iot.viewer iot.editor"),
        ("DeviceService.AddCertificate", "editor admin iot.editor"),
        ("RegistryService.Disable", "editor admin iot.editor"),
        ("BrokerService.Delete", "editor admin iot.editor"),
        ("OperationService.Cancel", "editor admin iot.editor"),
        ("DeviceDataService.Publish", "editor admin iot.devices.writer"),
        ("RegistryDataService.Publish", "editor admin iot.registries.writer"),
        ("BrokerDataService.Publish", "editor admin"),
        ("FolderService.SetAccessBindings", "admin"),
    ],
)
def test_yandex_roles_allow_their_methods(method: str, roles: str) -> None:
    found = [role for role in ON_FOLDERS if allows(role_policy(role, FOLDER), f"yandex:{method}", FOLDER)]
    assert found == roles.split()
    assert not any(allows(role_policy(role, FOLDER), f"yandex:{method}", "yandex:folder/b1gx") for role in ON_FOLDERS)
    assert not any(allows(role_policy(role, "*"), f"iot:{method}") for role in ROLES)


def test_tokens_of_service_accounts_have_a_role_of_their_own() -> None:
    action, account = "yandex:IamTokenService.CreateForServiceAccount", "yandex:service-account/aje"
    assert [role for role in ROLES if allows(role_policy(role, "*"), action, account)] == ["admin", TOKEN_CREATOR]
    assert allows(role_policy(TOKEN_CREATOR, account), action, account)
    assert not allows(role_policy(TOKEN_CREATOR, account), action, "yandex:service-account/ajf")
    assert not allows(role_policy(TOKEN_CREATOR, "*"), "yandex:DeviceService.Get", FOLDER)
    for role, resource in ((TOKEN_CREATOR, FOLDER), (TOKEN_CREATOR, REGISTRY), ("admin", account)):
        with pytest.raises(Invalid, match="must be yandex:"):
            role_policy(role, resource)


def test_a_role_applies_below_the_resource_that_it_is_granted_on() -> None:
    requests = [Request("yandex:DeviceService.Get", resource) for resource in (REGISTRY, FOLDER, CLOUD)]
    for resource, seen in (
        ("*", True),
        (CLOUD, True),
        ("yandex:cloud/000000000000", False),
        (FOLDER, True),
        (REGISTRY, True),
        ("yandex:registry/other", False),
    ):
        given = compile_policy(role_policy("iot.viewer", resource), kind=Kind.IDENTITY)
        assert isinstance(evaluate_any([given], requests), Allow) is seen


@pytest.mark.parametrize(
    ("role", "resource", "field"),
    [
        ("iot.devices.editor", "*", "role"),
        ("viewer", "", "resource"),
        ("viewer", "yandex:folder/*", "resource"),
        ("viewer", "yandex:cloud/*", "resource"),
        ("viewer", "yandex:cloud/12345678901", "resource"),
        ("viewer", "yandex:folder/${a}", "resource"),
        ("viewer", "yandex:folder/a\n", "resource"),
        ("viewer", "yandex:broker/a", "resource"),
        ("viewer", "arn:aws:iot:::x", "resource"),
    ],
)
def test_unknown_roles_and_resources_are_refused(role: str, resource: str, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        role_policy(role, resource)
    assert caught.value.field == field
