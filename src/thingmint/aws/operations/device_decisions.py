"""What devices may do: TestAuthorization and GetEffectivePolicies."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from thingmint.aws.operations.declaring import Members, Result, reads
from thingmint.domain.arns import arn
from thingmint.domain.errors import Invalid
from thingmint.domain.policies import Allow
from thingmint.services import device_decisions as decisions
from thingmint.services.device_decisions import Question
from thingmint.services.device_permissions import DeviceContext, DevicePermissions
from thingmint.services.device_policies import check_target, parse_target
from thingmint.services.things import THINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thingmint.domain.arns import Scope
    from thingmint.services.change import Query
    from thingmint.services.device_decisions import Answer
    from thingmint.services.device_facts import DeviceFacts
    from thingmint.services.device_policies import Target, TargetKind
    from thingmint.store.engine import Transaction

# Of one request. The model has no limits for these lists, and each item takes time.
_MAX_RESOURCES = 100
_MAX_NAMES = 100

_ACTIONS: Mapping[str, tuple[Any, str]] = {
    "CONNECT": ("Connect", "client"),
    "PUBLISH": ("Publish", "topic"),
    "RECEIVE": ("Receive", "topic"),
    "SUBSCRIBE": ("Subscribe", "topicfilter"),
}
"""By the model's name: the action, and the kind of its resources in ARNs."""

DEVIATIONS = {
    "TestAuthorization": (
        "Amazon Cognito identities are not served. Facts that only a connection has, such as its address, have no "
        "value and are in `missingContextValues`."
    ),
    "GetEffectivePolicies": "Amazon Cognito identities are not served.",
}


async def _decide(query: Query, members: Members, found: tuple[DeviceFacts, Mapping[str, str]]) -> Result:
    device, documents = found
    policies = await decisions.compiled(query.scope, documents)
    # What only a connection has is absent: the address, the host name, the will, the features that CONNECT asks for.
    der = device.certificate.der if device.certificate is not None else None
    context = DeviceContext(device.thing, members.get("clientId") or None, der)
    permissions = DevicePermissions(policies, context.variables(policies.mentions), lambda: query.now)
    results = []
    for info, asked in zip(members["authInfos"], _all_questions(query, members), strict=True):
        answers = []
        for question in asked:
            answers.append(decisions.answer(permissions, question, context))
            await asyncio.sleep(0)  # each may take milliseconds
        results.append({"authInfo": info, **_result(query.scope, answers)})
    return {"authResults": results}


@reads("TestAuthorization", finish=_decide)
async def find(tx: Transaction, query: Query, members: Members) -> tuple[DeviceFacts, Mapping[str, str]]:
    """The device, and the documents of its policies."""
    if sum(map(len, _all_questions(query, members))) > _MAX_RESOURCES:
        raise Invalid("authInfos", f"must have at most {_MAX_RESOURCES} resources")
    if "principal" not in members:
        raise _principal_needed(members)
    certificate = _principal(query, members, "cert").name
    added, skipped = (_names(members, f"policyNamesTo{what}") for what in ("Add", "Skip"))
    device = await decisions.find_device(tx, query.scope, certificate, members.get("clientId") or None, query.now)
    return device, await decisions.find_documents(tx, device, added, skipped)


def _all_questions(query: Query, members: Members) -> list[list[Question]]:
    infos = members["authInfos"]
    return [_questions(query.scope, f"authInfos.{number}.member", info) for number, info in enumerate(infos, 1)]


def _questions(scope: Scope, field: str, info: Members) -> list[Question]:
    if "actionType" not in info:
        raise Invalid(f"{field}.actionType", "is required")
    action, kind = _ACTIONS[info["actionType"]]
    prefix = arn(scope, f"{kind}/")
    resources: Sequence[str] = info["resources"]
    if not resources:
        raise Invalid(f"{field}.resources", "must name a resource")
    for number, resource in enumerate(resources, 1):
        if not resource.startswith(prefix):
            reason = f"must be the ARN of a {kind} in this account and region: {prefix}..."
            raise Invalid(f"{field}.resources.{number}.member", reason)
    return [Question(action, resource.removeprefix(prefix)) for resource in resources]


def _result(scope: Scope, answers: Sequence[Answer]) -> Result:
    """The decision about all resources together: what is denied for one is not allowed."""
    if any(answer.denying for answer in answers):
        decision = "EXPLICIT_DENY"
    elif all(isinstance(answer.decision, Allow) for answer in answers):
        decision = "ALLOWED"
    else:
        decision = "IMPLICIT_DENY"
    allowing, denying, silent, missing = (
        dict.fromkeys(name for answer in answers for name in getattr(answer, part))
        for part in ("allowing", "denying", "silent", "missing")
    )
    return {
        "allowed": {"policies": _policies(scope, allowing)},
        "denied": {
            "implicitDeny": {"policies": _policies(scope, silent)},
            "explicitDeny": {"policies": _policies(scope, denying)},
        },
        "authDecision": decision,
        "missingContextValues": list(missing),
    }


@reads("GetEffectivePolicies")
async def get_effective_policies(tx: Transaction, query: Query, members: Members) -> Result:
    thing = members.get("thingName")
    if thing is not None:
        await THINGS.get(tx, *query.scope, thing)
    if "principal" not in members:
        if thing is None:
            raise _principal_needed(members)
        found = await decisions.policies_of_groups(tx, query.scope, thing=thing)
        return _effective(query.scope, {name: document for name, document, _ in found})
    principal = _principal(query, members, "cert", "thinggroup")
    if principal.kind == "cert":
        device = await decisions.find_device(tx, query.scope, principal.name, thing, query.now)
        return _effective(query.scope, await decisions.find_documents(tx, device))
    await check_target(tx, query.scope, principal)
    of_group = await decisions.policies_of_groups(tx, query.scope, group=principal.name)
    of_thing = await decisions.policies_of_groups(tx, query.scope, thing=thing) if thing is not None else ()
    return _effective(query.scope, {name: document for name, document, _ in (*of_group, *of_thing)})


def _principal(query: Query, members: Members, *kinds: TargetKind) -> Target:
    return parse_target(members["principal"], query.scope, "principal", *kinds)


def _principal_needed(members: Members) -> Invalid:
    if "cognitoIdentityPoolId" in members:
        return Invalid("cognitoIdentityPoolId", "is not served by Thingmint: name a certificate as the principal")
    return Invalid("principal", "is required")


def _names(members: Members, field: str) -> Sequence[str]:
    names: Sequence[str] = members.get(field, ())
    if len(names) > _MAX_NAMES:
        raise Invalid(field, f"must have at most {_MAX_NAMES} names")
    return names


def _effective(scope: Scope, documents: Mapping[str, str]) -> Result:
    named = _policies(scope, sorted(documents))
    return {"effectivePolicies": [{**each, "policyDocument": documents[each["policyName"]]} for each in named]}


def _policies(scope: Scope, names: Iterable[str]) -> list[Result]:
    return [{"policyName": name, "policyArn": arn(scope, f"policy/{name}")} for name in names]
