"""Accounts of AWS IoT, made and looked at through boto3: in moto, and in Thingmint."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.e2e import material
from tests.e2e.commands import in_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Json = dict[str, Any]

MOTO_KEYS = {"AWS_ACCESS_KEY_ID": "mock", "AWS_SECRET_ACCESS_KEY": "mock"}
THINGS = 7


def document(action: str = "iot:*", resource: str = "*") -> str:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def furnish(iot: Any) -> None:
    """Makes something of everything that moto and Thingmint serve both."""
    properties = {"thingTypeDescription": "gives light", "searchableAttributes": ["room", "floor"]}
    iot.create_thing_type(thingTypeName="lamp", thingTypeProperties=properties)
    iot.create_thing_type(thingTypeName="old-lamp")
    for name, action in (("all", "iot:*"), ("connect", "iot:Connect"), ("publish", "iot:Publish")):
        iot.create_policy(policyName=name, policyDocument=document(action))
    iot.create_policy_version(policyName="connect", policyDocument=document("iot:Receive"), setAsDefault=True)
    iot.create_policy_version(policyName="connect", policyDocument=document("iot:Subscribe"), setAsDefault=False)
    iot.delete_policy_version(policyName="connect", policyVersionId="1")
    attributes = {"attributePayload": {"attributes": {"floor": "2"}}, "thingGroupDescription": "the second floor"}
    iot.create_thing_group(thingGroupName="house")
    iot.create_thing_group(thingGroupName="floor", parentGroupName="house", thingGroupProperties=attributes)
    iot.create_thing_group(thingGroupName="attic", parentGroupName="floor")
    iot.create_thing_group(thingGroupName="shop")
    group = iot.describe_thing_group(thingGroupName="floor")["thingGroupArn"]
    iot.attach_policy(policyName="publish", target=group)
    for number in range(THINGS):
        type = {"thingTypeName": "old-lamp" if number == 0 else "lamp"}
        iot.create_thing(thingName=f"lamp-{number}", attributePayload={"attributes": {"room": f"r{number}"}}, **type)
        iot.add_thing_to_thing_group(thingGroupName=["house", "floor", "attic"][number % 3], thingName=f"lamp-{number}")
    iot.add_thing_to_thing_group(thingGroupName="shop", thingName="lamp-3")
    iot.deprecate_thing_type(thingTypeName="old-lamp")
    for number in range(THINGS):
        pem = material.self_signed_pem(common_name=f"lamp-{number}")
        status = ("ACTIVE", "INACTIVE", "REVOKED")[number % 3]
        arn = iot.register_certificate_without_ca(certificatePem=pem, status=status)["certificateArn"]
        iot.attach_policy(policyName="connect", target=arn)
        iot.attach_policy(policyName="all", target=arn)
        iot.attach_thing_principal(thingName=f"lamp-{number}", principal=arn)
    made = iot.create_keys_and_certificate(setAsActive=True)  # it has several things
    for number in (0, 1):
        iot.attach_thing_principal(thingName=f"lamp-{number}", principal=made["certificateArn"])


def fingerprint_of(pem: str) -> str:
    return x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex()


def snapshot(iot: Any) -> Json:
    """Everything of an account that both serve, without what differs in moto: ids of certificates, and versions."""
    return {
        "thing types": {each["thingTypeName"]: _thing_type(each) for each in iot.list_thing_types()["thingTypes"]},
        "policies": {each["policyName"]: _policy(iot, each["policyName"]) for each in _pages(iot, "list_policies")},
        "groups": {each["groupName"]: _group(iot, each["groupName"]) for each in _pages(iot, "list_thing_groups")},
        "things": {
            each["thingName"]: (each.get("thingTypeName"), each["attributes"]) for each in _pages(iot, "list_things")
        },
        "certificates": dict(_certificate(iot, each["certificateId"]) for each in _pages(iot, "list_certificates")),
    }


_LISTS = {
    "list_policies": ("policies", "nextMarker", "marker"),
    "list_thing_groups": ("thingGroups", "nextToken", "nextToken"),
    "list_things": ("things", "nextToken", "nextToken"),
    "list_certificates": ("certificates", "nextMarker", "marker"),
}


def _pages(iot: Any, method: str) -> Iterator[Json]:
    key, following, token = _LISTS[method]
    given: Json = {"recursive": True} if method == "list_thing_groups" else {}
    while True:
        page = getattr(iot, method)(**given)
        yield from page[key]
        if not page.get(following):
            return
        given[token] = page[following]


def _thing_type(found: Json) -> Json:
    properties, about = found["thingTypeProperties"], found["thingTypeMetadata"]
    return {
        "description": properties.get("thingTypeDescription") or None,
        "searchable": sorted(properties.get("searchableAttributes") or ()),
        "deprecated": about["deprecated"],
        "created": about["creationDate"],
    }


def _policy(iot: Any, name: str) -> Json:
    versions = iot.list_policy_versions(policyName=name)["policyVersions"]
    return {
        each["versionId"]: (
            each["isDefaultVersion"],
            each["createDate"],
            iot.get_policy_version(policyName=name, policyVersionId=each["versionId"])["policyDocument"],
        )
        for each in versions
    }


def _group(iot: Any, name: str) -> Json:
    found = iot.describe_thing_group(thingGroupName=name)
    about, properties = found["thingGroupMetadata"], found.get("thingGroupProperties", {})
    attached = iot.list_attached_policies(target=found["thingGroupArn"])["policies"]
    return {
        "parent": about.get("parentGroupName"),
        "created": about["creationDate"],
        "description": properties.get("thingGroupDescription"),
        "attributes": properties.get("attributePayload", {}).get("attributes") or {},
        "policies": sorted(each["policyName"] for each in attached),
        "things": sorted(iot.list_things_in_thing_group(thingGroupName=name)["things"]),
    }


def _certificate(iot: Any, id: str) -> tuple[str, Json]:
    found = iot.describe_certificate(certificateId=id)["certificateDescription"]
    arn = found["certificateArn"]
    principals = iot.list_principal_things_v2(principal=arn)["principalThingObjects"]
    return fingerprint_of(found["certificatePem"]), {
        "status": found["status"],
        "created": found["creationDate"],
        "modified": found["lastModifiedDate"],
        "policies": sorted(each["policyName"] for each in iot.list_attached_policies(target=arn)["policies"]),
        "things": sorted(
            (each["thingName"], each.get("thingPrincipalType", "NON_EXCLUSIVE_THING")) for each in principals
        ),
    }


def new_instance(folder: Path, account: str, *regions: str) -> Path:
    """The data directory of a new instance whose first account has that number."""
    data = folder / "data"
    words = [word for region in regions for word in ("--region", region)]
    done = in_process("init", "--data-dir", data, "--account-id", account, *words)
    assert done.returncode == 0, done.stderr
    return data


def import_aws(data: Path, url: str, *options: str | Path, env: Mapping[str, str]) -> tuple[int, Json]:
    """The exit status and the report of `thingmint import aws`."""
    words = ("import", "aws", "--data-dir", data, "--endpoint-url", url, "--rate", "none", "--output", "json")
    done = in_process(*words, *options, env=env)
    assert done.stdout, done.stderr
    report: Json = orjson.loads(done.stdout)
    return done.returncode, report


def findings(report: Json) -> dict[tuple[str, str], list[str]]:
    """The subjects of findings, by kind and outcome."""
    found: dict[tuple[str, str], list[str]] = {}
    for each in report["findings"]:
        found.setdefault((each["kind"], each["outcome"]), []).append(each["subject"])
    return found
