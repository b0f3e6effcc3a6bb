"""Reading an account of AWS: what it has and cannot come, and what changes while it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.importing.aws.stub_account import ACCOUNT, REGION, failure, furnished, items_of, read, source_of, told
from thingmint.importing.batches import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.mark.parametrize(
    ("vanished", "kind"),
    [
        ("GetPolicy", "policy"),
        ("ListPolicyVersions", "policy"),
        ("DescribeProvisioningTemplate", "template"),
        ("DescribeCACertificate", "ca"),
        ("DescribeThingGroup", "group"),
        ("ListThingsInThingGroup", "members"),
        ("DescribeCertificate", "certificate"),
        ("ListAttachedPolicies", "certificate"),
        ("ListPrincipalThingsV2", "certificate"),
    ],
)
def test_what_is_deleted_meanwhile_is_a_result(vanished: str, kind: str) -> None:
    account = furnished()
    left = [vanished]

    def delete_first(operation: str, given: Mapping[str, Any]) -> None:
        if operation in left and "thinggroup/" not in given.get("target", ""):
            left.remove(operation)
            raise failure(operation, "ResourceNotFoundException", 404)

    account.fault = delete_first
    batches = read(source_of(account))
    assert [(a, b) for a, b, _ in told(batches)] == [(kind, "noted")]
    assert len(items_of(batches, "certificate")) == (4 if kind == "certificate" else 5)


def test_a_policy_version_that_is_deleted_meanwhile_is_a_result() -> None:
    account = furnished()
    del account.described["GetPolicyVersion", "connect/1"]
    batches = read(source_of(account))
    assert told(batches) == [("policy", "noted", f"{REGION}: connect, version 1")]
    assert [version["id"] for version in items_of(batches, "policy")[0]["versions"]] == ["3"]


def test_dynamic_groups_and_unserved_resources_are_results() -> None:
    account = furnished()
    account.group("hot", query="attributes.room:r1")
    account.further |= {
        "ListRoleAliases": {"roleAliases": ["camera", "lamp"]},
        "ListTopicRules": {"rules": [{"ruleName": f"rule-{number}"} for number in range(12)]},
        "ListDomainConfigurations": {
            "domainConfigurations": [
                {"domainConfigurationName": "iot:Data-ATS"},
                {"domainConfigurationName": "own"},
            ]
        },
        "DescribeDomainConfiguration": {"domainName": "iot.example.org", "serviceType": "DATA"},
        "GetIndexingConfiguration": {"thingIndexingConfiguration": {"thingIndexingMode": "REGISTRY_AND_SHADOW"}},
        "DescribeEventConfigurations": {
            "eventConfigurations": {
                "THING": {"Enabled": True},
                "JOB": {"Enabled": False},
                "CERTIFICATE": {"Enabled": True},  # as here
            }
        },
    }
    batches = read(source_of(account))
    assert told(batches) == [
        ("not_served", "refused", f"{REGION}: domain configuration own"),
        ("not_served", "refused", f"{REGION}: role alias (2): camera, lamp"),
        (
            "not_served",
            "refused",
            f"{REGION}: topic rule (12): {', '.join(f'rule-{number}' for number in range(10))}, …",
        ),
        ("not_served", "noted", f"{REGION}: events: THING"),
        ("not_served", "refused", f"{REGION}: fleet indexing of shadows and violations"),
        ("not_served", "refused", f"{REGION}: thing group hot"),
    ]
    (endpoint,) = items_of(batches, "endpoint")
    assert endpoint["names"] == ["iot-data-ats.example", "iot-data.example", "iot.example.org"]
    assert endpoint["account"] == ACCOUNT


def test_operations_that_are_denied_or_unknown_are_results() -> None:
    account = furnished()

    def refuse(operation: str, _: Mapping[str, Any]) -> None:
        if operation in ("ListJobs", "ListThingGroups", "ListTagsForResource"):
            raise failure(operation, "AccessDeniedException", 403)
        if operation in ("ListStreams", "ListCommands", "ListProvisioningTemplates"):
            raise failure(operation, "NotImplementedException", 501)

    account.fault = refuse
    batches = read(source_of(account))
    assert told(batches) == [
        ("not_served", "noted", f"{REGION}: ListJobs"),
        ("not_served", "noted", f"{REGION}: ListStreams, ListCommands"),
        ("region", "refused", f"{REGION}: tags"),
        ("region", "refused", f"{REGION}: templates"),
        ("region", "refused", f"{REGION}: thing groups"),
    ]
    assert "iot:ListThingGroups" in batches[-1].results[-1].reason
    assert len(items_of(batches, "certificate")) == 5


def test_an_operation_that_is_denied_for_every_certificate_stops_the_import() -> None:
    account = furnished()

    def refuse(operation: str, _: Mapping[str, Any]) -> None:
        if operation == "DescribeCertificate":
            raise failure(operation, "AccessDeniedException", 403)

    account.fault = refuse
    with pytest.raises(SourceError, match=r"allow iot:DescribeCertificate.* goes on where it stopped"):
        read(source_of(account))


def test_an_operation_that_is_denied_for_one_certificate_is_a_result() -> None:
    account = furnished()

    def refuse(operation: str, given: Mapping[str, Any]) -> None:
        if operation == "ListPrincipalThingsV2" and given["principal"].endswith("/" + "3" * 64):
            raise failure(operation, "AccessDeniedException", 403)

    account.fault = refuse
    batches = read(source_of(account))
    assert told(batches) == [("certificate", "refused", f"{REGION}: {'3' * 64}")]
    assert len(items_of(batches, "certificate")) == 4


def test_amazon_cognito_identities_are_results() -> None:
    account = furnished()
    identity = "eu-west-1:5d1e9a33-0b5e-4f4e-9f27-1a2b3c4d5e6f"
    targets = [account.arn("cert/" + "0" * 64), account.arn("thinggroup/top"), identity]
    account.further["ListTargetsForPolicy"] = {"targets": targets}
    batches = read(source_of(account))
    assert told(batches) == [
        ("attachment", "refused", f"{REGION}: {name}: {identity}") for name in ("connect", "publish", "subscribe")
    ]
