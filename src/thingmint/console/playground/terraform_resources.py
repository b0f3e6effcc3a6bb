"""The resources of Terraform's providers for AWS and Yandex Cloud: which operation makes each, and from what."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from thingmint.console.playground.writing import AsJson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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
class Resource:
    """A resource of a provider; with ``is_data`` a data source.

    ``arguments`` are paths in the request and in the resource: a dot in the second begins a block. ``change`` has what
    makes an argument of a value of the request. ``fixed`` are arguments that the resource needs and the request may
    lack.
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

RESOURCES: Final[Mapping[str, Resource]] = {
    "CreateKeysAndCertificate": Resource(
        "aws_iot_certificate", "device", {"setAsActive": "active"}, fixed={"active": False}
    ),
    "CreateCertificateFromCsr": Resource(
        "aws_iot_certificate",
        "device",
        {"certificateSigningRequest": "csr", "setAsActive": "active"},
        fixed={"active": False},
    ),
    "RegisterCertificateWithoutCA": Resource(
        "aws_iot_certificate",
        "device",
        {"certificatePem": "certificate_pem", "status": "active"},
        {"active": _is_active},
        {"active": False},
    ),
    "RegisterCertificate": Resource(
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
    "RegisterCACertificate": Resource(
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
    "CreatePolicy": Resource(
        "aws_iot_policy",
        "policy",
        {"policyName": "name", "policyDocument": "policy", "tags": "tags"},
        {"policy": _document, "tags": _tags},
    ),
    "AttachPolicy": Resource("aws_iot_policy_attachment", "attachment", {"policyName": "policy", "target": "target"}),
    "CreateThing": Resource(
        "aws_iot_thing",
        "thing",
        {"thingName": "name", "thingTypeName": "thing_type_name", "attributePayload.attributes": "attributes"},
    ),
    "AttachThingPrincipal": Resource(
        "aws_iot_thing_principal_attachment",
        "attachment",
        {"thingName": "thing", "x-amzn-principal": "principal", "thingPrincipalType": "thing_principal_type"},
    ),
    "CreateThingGroup": Resource(
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
    "AddThingToThingGroup": Resource(
        "aws_iot_thing_group_membership",
        "membership",
        {
            "thingName": "thing_name",
            "thingGroupName": "thing_group_name",
            "overrideDynamicGroups": "override_dynamic_group",
        },
    ),
    "CreateThingType": Resource(
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
    "CreateBillingGroup": Resource(
        "aws_iot_billing_group",
        "group",
        {
            "billingGroupName": "name",
            "billingGroupProperties.billingGroupDescription": _PROPERTIES,
            "tags": "tags",
        },
        {"tags": _tags},
    ),
    "CreateProvisioningTemplate": Resource(
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
    "CreateRoleAlias": Resource(
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
    "CreateAuthorizer": Resource(
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
    "CreateDomainConfiguration": Resource(
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
    "UpdateEventConfigurations": Resource(
        "aws_iot_event_configurations",
        "events",
        {"eventConfigurations": "event_configurations"},
        {"event_configurations": _enabled},
    ),
    "UpdateIndexingConfiguration": Resource(
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
    "SetV2LoggingOptions": Resource(
        "aws_iot_logging_options",
        "logging",
        {"roleArn": "role_arn", "defaultLogLevel": "default_log_level", "disableAllLogs": "disable_all_logs"},
    ),
    "DescribeEndpoint": Resource("aws_iot_endpoint", "endpoint", {"endpointType": "endpoint_type"}, is_data=True),
    "GetRegistrationCode": Resource("aws_iot_registration_code", "code", {}, is_data=True),
    "RegistryService.Create": Resource(
        "yandex_iot_core_registry", "registry", {**_FLEET, "password": "passwords"}, _OF_FLEET
    ),
    "BrokerService.Create": Resource("yandex_iot_core_broker", "broker", _FLEET, _OF_FLEET),
    "DeviceService.Create": Resource(
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
