"""The actions that policies are asked for, with their resources, for the editors of policies."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from thingmint.access.administration import COMMANDS
from thingmint.aws.authorization import DATA_TARGETS, TARGETS
from thingmint.aws.contract import load_data_contract, load_jobs_contract, load_model
from thingmint.aws.operations import DATA_OPERATIONS, OPERATIONS
from thingmint.domain.linting import Vocabulary
from thingmint.domain.policies import Kind
from thingmint.domain.policies.device_keys import KNOWN_KEYS
from thingmint.services.device_permissions import RESOURCES as OF_DEVICES
from thingmint.yandex.contract import load as load_yandex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.domain.arns import Scope

_ROLE = "arn:aws:iam::{account}:role/"
_YANDEX = tuple(f"yandex:{kind}/" for kind in ("device", "registry", "broker", "folder", "service-account"))
_OWN = ("ListAudit", "GetHealth", "ListSessions", "ListRefusals", "VerifyAuditLog")
_KEYS = re.compile(
    "aws:(CurrentTime|SourceIp|username|userid|PrincipalArn|PrincipalAccount|RequestedRegion|SourceArn|SourceAccount)"
    "|aws:(TagKeys|RequestTag/.+)|credentials-iot:(AwsCertificateId|ThingName|ThingTypeName)"
    "|sts:(RoleSessionName|ExternalId)|iot:(thingArn|DomainName)",
    re.IGNORECASE,
)


def vocabulary_of(kind: Kind, scope: Scope, regions: Sequence[str]) -> Vocabulary:
    """What policies of the kind are asked for in an account. A device's policy is of one region."""
    if kind is Kind.DEVICE:
        return Vocabulary(_of_devices(), scope.account, [scope.region], KNOWN_KEYS, _unasked_of_devices())
    if kind is Kind.TRUST:
        return Vocabulary({"sts:AssumeRole": (_ROLE,)}, scope.account, regions, _KEYS)
    return Vocabulary(_of_principals(), scope.account, regions, _KEYS, _unasked_of_principals())


@cache
def _of_devices() -> Mapping[str, Sequence[str]]:
    return {f"iot:{action}": (kind,) for action, kind in OF_DEVICES.items()}


@cache
def _unasked_of_devices() -> frozenset[str]:
    """The actions that AWS IoT or policies of principals have."""
    return frozenset(_of_principals().keys() | _unasked_of_principals()) - _of_devices().keys()


@cache
def _of_principals() -> Mapping[str, Sequence[str]]:
    actions: dict[str, Sequence[str]] = {}
    for names, targets in ((OPERATIONS, TARGETS), (DATA_OPERATIONS, DATA_TARGETS)):
        for name in names:
            kinds = dict.fromkeys(target.type for target in targets.get(name, ()))
            needed = any(target.required for target in targets.get(name, ()))
            actions[f"iot:{name}"] = tuple(kinds) if needed else (*kinds, "*")
    actions["iot:RetainPublish"] = ("topic",)
    for method in load_yandex().methods.values():
        actions[f"yandex:{method.label}"] = (*_YANDEX, "yandex:cloud/{account}")
    actions |= {"sts:AssumeRole": (_ROLE,), "iam:PassRole": (_ROLE,)}
    events = {name for command in COMMANDS.values() if not command.instance_wide for name in command.events}
    return actions | {f"thingmint:{name}": ("*",) for name in sorted({*events, *_OWN})}


@cache
def _unasked_of_principals() -> frozenset[str]:
    """Operations that are not served, and what devices do. Takes some tens of milliseconds, for AWS IoT's models."""
    names = [*load_model()["operations"], *load_data_contract().operations]
    jobs = {f"iotjobsdata:{name}" for name in load_jobs_contract().operations}
    return frozenset({f"iot:{name}" for name in names} | jobs | _of_devices().keys()) - _of_principals().keys()
