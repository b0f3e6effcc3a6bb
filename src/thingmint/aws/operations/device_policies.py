"""Device policies, their versions and attachments (17 operations)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import Members, Result, marker_cursor, new_tags, reads, writes
from thingmint.domain.arns import arn
from thingmint.domain.errors import NotFound
from thingmint.services import device_policies as policies

if TYPE_CHECKING:
    from thingmint.services.change import Change, Query
    from thingmint.services.device_policies import DevicePolicy, PolicyVersion, Target
    from thingmint.services.pages import Page
    from thingmint.store.engine import Transaction

DEVIATIONS = {
    "CreatePolicy": (
        "A policy that would take more than milliseconds to evaluate denies its device, and the log says so. One "
        "device then costs the others nothing."
    ),
    "AttachPolicy": "A target is a certificate or a thing group. Amazon Cognito identities are not served.",
    "ListAttachedPolicies": (
        "With `recursive`, a certificate has the policies of its things' groups, of the first 1,000 things by name: a "
        "call has a bound."
    ),
}


async def _check_policy(change: Change, members: Members) -> dict[str, str]:
    """Checks the document, and returns the tags."""
    tags = new_tags(members)
    policies.check_document(change.scope, members["policyName"], members["policyDocument"])
    return tags


@writes("CreatePolicy", prepare=_check_policy)
async def create(tx: Transaction, change: Change, members: Members, tags: dict[str, str]) -> Result:
    document = members["policyDocument"]
    policy = await policies.create_policy(tx, change, members["policyName"], document, tags)
    return {**_named(policy), "policyDocument": document, "policyVersionId": str(policy.default_version)}


@reads("GetPolicy")
async def get(tx: Transaction, query: Query, members: Members) -> Result:
    policy = await policies.DEVICE_POLICIES.get(tx, *query.scope, members["policyName"])
    version = await policies.VERSIONS.get(tx, *query.scope, policy.name, policy.default_version)
    return {
        **_named(policy),
        "policyDocument": version.document,
        "defaultVersionId": str(version.number),
        "creationDate": policy.created_at,
        "lastModifiedDate": policy.modified_at,
        "generationId": policy.generation,
    }


@writes("DeletePolicy")
async def delete(tx: Transaction, change: Change, members: Members) -> Result:
    await policies.delete_policy(tx, change, members["policyName"])
    return {}


@reads("ListPolicies")
async def list_(tx: Transaction, query: Query, members: Members) -> Result:
    ascending = members.get("ascendingOrder", False)
    return _policies(query, await policies.list_policies(tx, query, marker_cursor(members), ascending=ascending))


async def _check_document(change: Change, members: Members) -> str:
    document: str = members["policyDocument"]
    policies.check_document(change.scope, members["policyName"], document)
    return document


@writes("CreatePolicyVersion", prepare=_check_document)
async def create_policy_version(tx: Transaction, change: Change, members: Members, document: str) -> Result:
    default = members.get("setAsDefault", False)
    policy, version = await policies.create_version(tx, change, members["policyName"], document, default=default)
    return {"policyArn": policy.arn, **_identified(policy, version), "policyDocument": document}


@reads("GetPolicyVersion")
async def get_policy_version(tx: Transaction, query: Query, members: Members) -> Result:
    policy, version = await policies.get_version(tx, query, members["policyName"], members["policyVersionId"])
    return {
        **_named(policy),
        **_identified(policy, version),
        "policyDocument": version.document,
        "creationDate": version.created_at,
        "lastModifiedDate": version.created_at,  # a version is never changed
        "generationId": version.generation,
    }


@reads("ListPolicyVersions")
async def list_policy_versions(tx: Transaction, query: Query, members: Members) -> Result:
    policy = await policies.DEVICE_POLICIES.get(tx, *query.scope, members["policyName"])
    return {
        "policyVersions": [
            {
                "versionId": str(version.number),
                "isDefaultVersion": version.number == policy.default_version,
                "createDate": version.created_at,
            }
            for version in await policies.list_versions(tx, policy)
        ]
    }


@writes("DeletePolicyVersion")
async def delete_policy_version(tx: Transaction, change: Change, members: Members) -> Result:
    await policies.delete_version(tx, change, members["policyName"], members["policyVersionId"])
    return {}


@writes("SetDefaultPolicyVersion")
async def set_default(tx: Transaction, change: Change, members: Members) -> Result:
    await policies.set_default_version(tx, change, members["policyName"], members["policyVersionId"])
    return {}


@writes("AttachPolicy")
@writes("AttachPrincipalPolicy")
async def attach(tx: Transaction, change: Change, members: Members) -> Result:
    await policies.attach_policy(tx, change.scope, members["policyName"], _target(change, members), change.now)
    return {}


@writes("DetachPolicy")
async def detach(tx: Transaction, change: Change, members: Members) -> Result:
    try:
        target = _target(change, members)
    except NotFound:  # it is of another account or region, so not attached; the model has no error for that
        return {}
    await policies.detach_policy(tx, change, members["policyName"], target)
    return {}


@writes("DetachPrincipalPolicy")
async def detach_principal(tx: Transaction, change: Change, members: Members) -> Result:
    # Unlike DetachPolicy, this operation has an error for a policy or a principal that does not exist.
    name, target = members["policyName"], _target(change, members)
    await policies.DEVICE_POLICIES.get(tx, *change.scope, name)
    await policies.check_target(tx, change.scope, target)
    await policies.detach_policy(tx, change, name, target)
    return {}


@reads("ListAttachedPolicies")
async def list_attached_policies(tx: Transaction, query: Query, members: Members) -> Result:
    target, inherited = _target(query, members), members.get("recursive", False)
    page = await policies.list_attached(tx, query, target, marker_cursor(members), inherited=inherited, ascending=True)
    return _policies(query, page)


@reads("ListPrincipalPolicies")
async def list_principal_policies(tx: Transaction, query: Query, members: Members) -> Result:
    target, ascending = _target(query, members), members.get("ascendingOrder", False)
    page = await policies.list_attached(tx, query, target, marker_cursor(members), inherited=False, ascending=ascending)
    return _policies(query, page)


@reads("ListTargetsForPolicy")
async def list_targets_for_policy(tx: Transaction, query: Query, members: Members) -> Result:
    page = await policies.list_targets(tx, query, members["policyName"], marker_cursor(members), ascending=True)
    return {"targets": [target.arn(query.scope) for target in page.items], "nextMarker": page.next_token}


@reads("ListPolicyPrincipals")
async def list_policy_principals(tx: Transaction, query: Query, members: Members) -> Result:
    name, ascending = members["policyName"], members.get("ascendingOrder", False)
    page = await policies.list_targets(tx, query, name, marker_cursor(members), kind="cert", ascending=ascending)
    return {"principals": [target.arn(query.scope) for target in page.items], "nextMarker": page.next_token}


def _target(query: Query, members: Members) -> Target:
    """The target in the input. Only deprecated operations have ``principal``, which must be a certificate."""
    if "principal" in members:
        return policies.parse_target(members["principal"], query.scope, "x-amzn-iot-principal", "cert")
    return policies.parse_target(members["target"], query.scope, "target", "cert", "thinggroup")


def _named(policy: DevicePolicy) -> Result:
    return {"policyName": policy.name, "policyArn": policy.arn}


def _identified(policy: DevicePolicy, version: PolicyVersion) -> Result:
    return {"policyVersionId": str(version.number), "isDefaultVersion": version.number == policy.default_version}


def _policies(query: Query, page: Page[str]) -> Result:
    listed = [{"policyName": name, "policyArn": arn(query.scope, f"policy/{name}")} for name in page.items]
    return {"policies": listed, "nextMarker": page.next_token}
