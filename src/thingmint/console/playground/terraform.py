"""Terraform's resource that the call makes, or the data source that reads the same, if the providers have one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from thingmint.console.playground.shown_code import CREDENTIALS, Addresses, Equivalent
from thingmint.console.playground.writing import HCL, AsJson, FromEnvironment, aligned, leaves, written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thingmint.console.playground.catalogue import Operation
    from thingmint.console.playground.held_values import HeldValues


def _tags(given: Any) -> Any:
    """AWS has a list of keys and values."""
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        return given
    return {str(each.get("Key", "")): each.get("Value", "") for each in given}


def _is_active(given: Any) -> bool:
    return given in (True, "ACTIVE")


def _document(given: Any) -> Any:
    """A JSON text as HCL, if that has the same JSON."""
    try:
        value = json.loads(given, object_pairs_hook=_once) if isinstance(given, str) else None
    except (ValueError, RecursionError):
        return given
    return AsJson(value) if isinstance(value, dict) else given


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError for a name that comes twice, as HCL cannot have both."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name comes twice")
    return made


def _enabled(given: Any) -> Any:
    if not isinstance(given, dict):
        return given
    return {name: each.get("Enabled", False) if isinstance(each, dict) else each for name, each in given.items()}


def _pems(given: Any) -> Any:
    """Yandex has a list of objects with certificates."""
    return [each.get("certificateData", "") if isinstance(each, dict) else each for each in given]


@dataclass(frozen=True, slots=True)
class _Resource:
    """``arguments`` are paths in the request and in the resource: a dot in the second begins a block.

    ``fixed`` are arguments that the resource needs and the request may lack.
    """

    type: str
    name: str
    arguments: Mapping[str, str]
    change: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    is_data: bool = False


_PROPERTIES: Final = "properties.description"
_LOG_OPTIONS: Final = {
    "logOptions.disabled": "log_options.disabled",
    "logOptions.folderId": "log_options.folder_id",
    "logOptions.logGroupId": "log_options.log_group_id",
    "logOptions.minLevel": "log_options.min_level",
}
_FLEET: Final = {
    "folderId": "folder_id",
    "name": "name",
    "description": "description",
    "labels": "labels",
    "certificates": "certificates",
    **_LOG_OPTIONS,
}
_OF_FLEET: Final = {"certificates": _pems, "passwords": lambda given: [given]}
_INDEXING: Final = "thingIndexingConfiguration"
_GROUP_INDEXING: Final = "thingGroupIndexingConfiguration"

RESOURCES: Final[Mapping[str, _Resource]] = {
    "CreateKeysAndCertificate": _Resource(
        "aws_iot_certificate", "device", {"setAsActive": "active"}, fixed={"active": False}
    ),
    "CreateCertificateFromCsr": _Resource(
        "aws_iot_certificate",
        "device",
        {"certificateSigningRequest": "csr", "setAsActive": "active"},
        fixed={"active": False},
    ),
    "RegisterCertificateWithoutCA": _Resource(
        "aws_iot_certificate",
        "device",
        {"certificatePem": "certificate_pem", "status": "active"},
        {"active": _is_active},
        {"active": False},
    ),
    "RegisterCertificate": _Resource(
        "aws_iot_certificate",
        "device",
        {
            "certificatePem": "certificate_pem",
            "caCertificatePem": "ca_pem",
            "status": "active",
            "setAsActive": "active",
        },
        {"active": _is_active},
        {"active": False},
    ),
    "RegisterCACertificate": _Resource(
        "aws_iot_ca_certificate",
        "ca",
        {
            "caCertificate": "ca_certificate_pem",
            "verificationCertificate": "verification_certificate_pem",
            "setAsActive": "active",
            "allowAutoRegistration": "allow_auto_registration",
            "certificateMode": "certificate_mode",
            "registrationConfig.roleArn": "registration_config.role_arn",
            "registrationConfig.templateBody": "registration_config.template_body",
            "registrationConfig.templateName": "registration_config.template_name",
            "tags": "tags",
        },
        {"tags": _tags},
        {"active": False, "allow_auto_registration": False},
    ),
    "CreatePolicy": _Resource(
        "aws_iot_policy",
        "policy",
        {"policyName": "name", "policyDocument": "policy", "tags": "tags"},
        {"policy": _document, "tags": _tags},
    ),
    "AttachPolicy": _Resource("aws_iot_policy_attachment", "attachment", {"policyName": "policy", "target": "target"}),
    "CreateThing": _Resource(
        "aws_iot_thing",
        "thing",
        {"thingName": "name", "thingTypeName": "thing_type_name", "attributePayload.attributes": "attributes"},
    ),
    "AttachThingPrincipal": _Resource(
        "aws_iot_thing_principal_attachment",
        "attachment",
        {"thingName": "thing", "x-amzn-principal": "principal", "thingPrincipalType": "thing_principal_type"},
    ),
    "CreateThingGroup": _Resource(
        "aws_iot_thing_group",
        "group",
        {
            "thingGroupName": "name",
            "parentGroupName": "parent_group_name",
            "thingGroupProperties.thingGroupDescription": _PROPERTIES,
            "thingGroupProperties.attributePayload.attributes": "properties.attribute_payload.attributes",
            "tags": "tags",
        },
        {"tags": _tags},
    ),
    "AddThingToThingGroup": _Resource(
        "aws_iot_thing_group_membership",
        "membership",
        {
            "thingName": "thing_name",
            "thingGroupName": "thing_group_name",
            "overrideDynamicGroups": "override_dynamic_group",
        },
    ),
    "CreateThingType": _Resource(
        "aws_iot_thing_type",
        "type",
        {
            "thingTypeName": "name",
            "thingTypeProperties.thingTypeDescription": _PROPERTIES,
            "thingTypeProperties.searchableAttributes": "properties.searchable_attributes",
            "tags": "tags",
        },
        {"tags": _tags},
    ),
    "CreateBillingGroup": _Resource(
        "aws_iot_billing_group",
        "group",
        {
            "billingGroupName": "name",
            "billingGroupProperties.billingGroupDescription": _PROPERTIES,
            "tags": "tags",
        },
        {"tags": _tags},
    ),
    "CreateProvisioningTemplate": _Resource(
        "aws_iot_provisioning_template",
        "template",
        {
            "templateName": "name",
            "description": "description",
            "templateBody": "template_body",
            "enabled": "enabled",
            "provisioningRoleArn": "provisioning_role_arn",
            "type": "type",
            "preProvisioningHook.payloadVersion": "pre_provisioning_hook.payload_version",
            "preProvisioningHook.targetArn": "pre_provisioning_hook.target_arn",
            "tags": "tags",
        },
        {"template_body": _document, "tags": _tags},
    ),
    "CreateRoleAlias": _Resource(
        "aws_iot_role_alias",
        "alias",
        {
            "roleAlias": "alias",
            "roleArn": "role_arn",
            "credentialDurationSeconds": "credential_duration",
            "tags": "tags",
        },
        {"tags": _tags},
    ),
    "CreateAuthorizer": _Resource(
        "aws_iot_authorizer",
        "authorizer",
        {
            "authorizerName": "name",
            "authorizerFunctionArn": "authorizer_function_arn",
            "enableCachingForHttp": "enable_caching_for_http",
            "signingDisabled": "signing_disabled",
            "status": "status",
            "tokenKeyName": "token_key_name",
            "tokenSigningPublicKeys": "token_signing_public_keys",
            "tags": "tags",
        },
        {"tags": _tags},
    ),
    "CreateDomainConfiguration": _Resource(
        "aws_iot_domain_configuration",
        "domain",
        {
            "domainConfigurationName": "name",
            "domainName": "domain_name",
            "serviceType": "service_type",
            "serverCertificateArns": "server_certificate_arns",
            "validationCertificateArn": "validation_certificate_arn",
            "authorizerConfig.allowAuthorizerOverride": "authorizer_config.allow_authorizer_override",
            "authorizerConfig.defaultAuthorizerName": "authorizer_config.default_authorizer_name",
            "tlsConfig.securityPolicy": "tls_config.security_policy",
            "authenticationType": "authentication_type",
            "applicationProtocol": "application_protocol",
            "tags": "tags",
        },
        {"tags": _tags},
    ),
    "UpdateEventConfigurations": _Resource(
        "aws_iot_event_configurations",
        "events",
        {"eventConfigurations": "event_configurations"},
        {"event_configurations": _enabled},
    ),
    "UpdateIndexingConfiguration": _Resource(
        "aws_iot_indexing_configuration",
        "indexing",
        {
            f"{_INDEXING}.thingIndexingMode": "thing_indexing_configuration.thing_indexing_mode",
            f"{_INDEXING}.thingConnectivityIndexingMode": (
                "thing_indexing_configuration.thing_connectivity_indexing_mode"
            ),
            f"{_INDEXING}.deviceDefenderIndexingMode": "thing_indexing_configuration.device_defender_indexing_mode",
            f"{_INDEXING}.namedShadowIndexingMode": "thing_indexing_configuration.named_shadow_indexing_mode",
            f"{_GROUP_INDEXING}.thingGroupIndexingMode": (
                "thing_group_indexing_configuration.thing_group_indexing_mode"
            ),
        },
    ),
    "SetV2LoggingOptions": _Resource(
        "aws_iot_logging_options",
        "logging",
        {"roleArn": "role_arn", "defaultLogLevel": "default_log_level", "disableAllLogs": "disable_all_logs"},
    ),
    "DescribeEndpoint": _Resource("aws_iot_endpoint", "endpoint", {"endpointType": "endpoint_type"}, is_data=True),
    "GetRegistrationCode": _Resource("aws_iot_registration_code", "code", {}, is_data=True),
    "RegistryService.Create": _Resource(
        "yandex_iot_core_registry", "registry", {**_FLEET, "password": "passwords"}, _OF_FLEET
    ),
    "BrokerService.Create": _Resource("yandex_iot_core_broker", "broker", _FLEET, _OF_FLEET),
    "DeviceService.Create": _Resource(
        "yandex_iot_core_device",
        "device",
        {
            "registryId": "registry_id",
            "name": "name",
            "description": "description",
            "topicAliases": "aliases",
            "certificates": "certificates",
            "password": "passwords",
        },
        _OF_FLEET,
    ),
}
"""By the id of an operation, those of the AWS and the Yandex provider."""


def terraform(operation: Operation, given: HeldValues, addresses: Addresses) -> Equivalent | None:
    """None if no resource does what the call does."""
    resource = RESOURCES.get(operation.id) if operation.api in ("aws", "yandex") else None
    if resource is None:
        return None
    tree: dict[str, Any] = {**resource.fixed}
    shown = set()
    for source, target in resource.arguments.items():
        found, value = _at(given.values, source.split("."))
        if found:
            shown.add(source)
            _put(tree, target.split("."), resource.change.get(target, lambda each: each)(value))
    kind = "data" if resource.is_data else "resource"
    secrets = dict.fromkeys(
        each.name for each in leaves(list(given.values.values())) if isinstance(each, FromEnvironment)
    )
    blocks = [
        _provider(operation.api, addresses),
        *(f'variable "{name.lower()}" {{\n  sensitive = true\n}}' for name in secrets),
        f'{kind} "{resource.type}" "{resource.name}" {{\n{_lines(tree, 1)}}}',
    ]
    left = sorted(_left(given.values, shown))
    note = f"The resource has no argument for {', '.join(left)}. " if left else ""
    if secrets:
        note += f"Terraform reads {', '.join(f'TF_VAR_{name.lower()}' for name in secrets)} from the environment. "
    if operation.api == "yandex":
        note += "The provider trusts the CAs of the system: set SSL_CERT_FILE to this server's root certificate."
    return Equivalent("terraform", "Terraform", "\n\n".join(blocks), note)


def _at(values: Mapping[str, Any], path: list[str]) -> tuple[bool, Any]:
    value: Any = values
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return False, None
        value = value[name]
    return True, value


class _Block(dict[str, Any]):
    """A nested block, which HCL writes other than a map."""


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, _Block())
    tree[path[-1]] = value


def _lines(tree: Mapping[str, Any], depth: int) -> str:
    indent = "  " * depth
    arguments = {name: each for name, each in tree.items() if not isinstance(each, _Block)}
    pairs = [(name, written(each, HCL, len(indent))) for name, each in arguments.items()]
    lines = [f"{indent}{name} = {text}\n" for name, text in aligned(pairs)]
    for name, each in tree.items():
        if isinstance(each, _Block):
            lines.append(f"{indent}{name} {{\n{_lines(each, depth + 1)}{indent}}}\n")
    return "".join(lines)


def _left(values: Mapping[str, Any], shown: set[str], before: str = "") -> list[str]:
    """The paths of values that no argument has."""
    left = []
    for name, each in values.items():
        path = f"{before}{name}"
        if path in shown:
            continue
        inside = any(known.startswith(f"{path}.") for known in shown)
        left += _left(each, shown, f"{path}.") if inside and isinstance(each, dict) else [path]
    return left


def _provider(api: str, addresses: Addresses) -> str:
    if api == "aws":
        return (
            'terraform {\n  required_providers {\n    aws = {\n      source = "hashicorp/aws"\n    }\n  }\n}\n\n'
            f'provider "aws" {{\n  region = {written(addresses.region, HCL)}\n  endpoints {{\n'
            f"    iot = {written(addresses.url, HCL)}\n    sts = {written(addresses.url, HCL)}\n  }}\n}}"
        )
    return (
        'terraform {\n  required_providers {\n    yandex = {\n      source = "yandex-cloud/yandex"\n    }\n  }\n}\n\n'
        f'provider "yandex" {{\n  endpoint                 = {written(addresses.grpc, HCL)}\n'
        f'  service_account_key_file = "{CREDENTIALS}/yandex-sa.json"\n}}'
    )
