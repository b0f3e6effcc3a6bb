"""Device policies: documents and versions, and what they are attached to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.aws.operations.attributes import new_tags
from thingmint.aws.operations.call import PAGE_SIZE
from thingmint.domain.device_policies import parse_target, policy_arn
from thingmint.domain.errors import NotFound

if TYPE_CHECKING:
    from thingmint.aws.operations.call import Call, Operations
    from thingmint.domain.device_policies import DevicePolicy, PolicyVersion, Target

__all__ = ["POLICIES"]


async def _create_policy(call: Call) -> dict[str, Any]:
    document, tags = call.members["policyDocument"], new_tags(call.members)
    policy = await call.registries.device_policies.create(call.scope, _name(call), document, tags=tags)
    return {
        "policyName": policy.name,
        "policyArn": policy.arn,
        "policyDocument": document,
        "policyVersionId": str(policy.default_version),
    }


async def _get_policy(call: Call) -> dict[str, Any]:
    policy, version = await call.registries.device_policies.get(call.scope, _name(call))
    return {
        "policyName": policy.name,
        "policyArn": policy.arn,
        "policyDocument": version.document,
        "defaultVersionId": str(version.number),
        "creationDate": policy.created_at,
        "lastModifiedDate": policy.modified_at,
        "generationId": policy.generation,
    }


async def _delete_policy(call: Call) -> dict[str, Any]:
    await call.registries.device_policies.delete(call.scope, _name(call))
    return {}


async def _list_policies(call: Call) -> dict[str, Any]:
    page = await call.registries.device_policies.list(
        call.scope, ascending=call.flag("ascendingOrder"), **_paging(call)
    )
    return {"policies": [_listed(call, policy.name) for policy in page.items], "nextMarker": page.next_marker}


async def _create_policy_version(call: Call) -> dict[str, Any]:
    policy, version = await call.registries.device_policies.create_version(
        call.scope, _name(call), call.members["policyDocument"], default=call.flag("setAsDefault")
    )
    return {"policyArn": policy.arn, **_identified(policy, version), "policyDocument": version.document}


async def _get_policy_version(call: Call) -> dict[str, Any]:
    policy, version = await call.registries.device_policies.get_version(call.scope, _name(call), _version(call))
    return {
        "policyName": policy.name,
        "policyArn": policy.arn,
        **_identified(policy, version),
        "policyDocument": version.document,
        "creationDate": version.created_at,
        "lastModifiedDate": version.created_at,  # a version is never changed
        "generationId": version.generation,
    }


async def _list_policy_versions(call: Call) -> dict[str, Any]:
    policy, versions = await call.registries.device_policies.list_versions(call.scope, _name(call))
    return {
        "policyVersions": [
            {
                "versionId": str(version.number),
                "isDefaultVersion": version.number == policy.default_version,
                "createDate": version.created_at,
            }
            for version in versions
        ]
    }


async def _delete_policy_version(call: Call) -> dict[str, Any]:
    await call.registries.device_policies.delete_version(call.scope, _name(call), _version(call))
    return {}


async def _set_default_policy_version(call: Call) -> dict[str, Any]:
    await call.registries.device_policies.set_default(call.scope, _name(call), _version(call))
    return {}


async def _attach_policy(call: Call) -> dict[str, Any]:
    await call.registries.device_policies.attach(call.scope, _name(call), _target(call))
    return {}


async def _detach_policy(call: Call) -> dict[str, Any]:
    try:
        target = _target(call)
    except NotFound:  # of another account or region: not attached, which the model has no error for
        return {}
    await call.registries.device_policies.detach(call.scope, _name(call), target)
    return {}


async def _list_attached_policies(call: Call) -> dict[str, Any]:
    page = await call.registries.device_policies.list_attached(
        call.scope, _target(call), inherited=call.flag("recursive"), ascending=True, **_paging(call)
    )
    return {"policies": [_listed(call, name) for name in page.items], "nextMarker": page.next_marker}


async def _list_targets_for_policy(call: Call) -> dict[str, Any]:
    page = await call.registries.device_policies.list_targets(
        call.scope, _name(call), kind=None, ascending=True, **_paging(call)
    )
    return {"targets": [target.arn(call.scope) for target in page.items], "nextMarker": page.next_marker}


async def _attach_principal_policy(call: Call) -> dict[str, Any]:
    await call.registries.device_policies.attach(call.scope, _name(call), _principal(call))
    return {}


async def _detach_principal_policy(call: Call) -> dict[str, Any]:
    # Unlike DetachPolicy it has an error for a policy or a principal that is not there.
    await call.registries.device_policies.detach(call.scope, _name(call), _principal(call), existing=True)
    return {}


async def _list_principal_policies(call: Call) -> dict[str, Any]:
    page = await call.registries.device_policies.list_attached(
        call.scope, _principal(call), inherited=False, ascending=call.flag("ascendingOrder"), **_paging(call)
    )
    return {"policies": [_listed(call, name) for name in page.items], "nextMarker": page.next_marker}


async def _list_policy_principals(call: Call) -> dict[str, Any]:
    page = await call.registries.device_policies.list_targets(
        call.scope, _name(call), kind="cert", ascending=call.flag("ascendingOrder"), **_paging(call)
    )
    return {"principals": [target.arn(call.scope) for target in page.items], "nextMarker": page.next_marker}


def _name(call: Call) -> str:
    name: str = call.members["policyName"]
    return name


def _version(call: Call) -> str:
    version: str = call.members["policyVersionId"]
    return version


def _target(call: Call) -> Target:
    return parse_target(call.members["target"], call.scope, "target", "cert", "thinggroup")


def _principal(call: Call) -> Target:
    return parse_target(call.members["principal"], call.scope, "x-amzn-iot-principal", "cert")


def _paging(call: Call) -> dict[str, Any]:
    return {"limit": call.members.get("pageSize", PAGE_SIZE), "marker": call.members.get("marker")}


def _listed(call: Call, name: str) -> dict[str, str]:
    return {"policyName": name, "policyArn": policy_arn(call.scope, name)}


def _identified(policy: DevicePolicy, version: PolicyVersion) -> dict[str, Any]:
    return {"policyVersionId": str(version.number), "isDefaultVersion": version.number == policy.default_version}


POLICIES: Operations = {
    "CreatePolicy": _create_policy,
    "GetPolicy": _get_policy,
    "DeletePolicy": _delete_policy,
    "ListPolicies": _list_policies,
    "CreatePolicyVersion": _create_policy_version,
    "GetPolicyVersion": _get_policy_version,
    "ListPolicyVersions": _list_policy_versions,
    "DeletePolicyVersion": _delete_policy_version,
    "SetDefaultPolicyVersion": _set_default_policy_version,
    "AttachPolicy": _attach_policy,
    "DetachPolicy": _detach_policy,
    "ListAttachedPolicies": _list_attached_policies,
    "ListTargetsForPolicy": _list_targets_for_policy,
    "AttachPrincipalPolicy": _attach_principal_policy,
    "DetachPrincipalPolicy": _detach_principal_policy,
    "ListPrincipalPolicies": _list_principal_policies,
    "ListPolicyPrincipals": _list_policy_principals,
}
