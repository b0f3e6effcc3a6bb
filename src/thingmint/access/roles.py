"""Working as a role: what AWS IoT does with the role that a provisioning template, or a CA, names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import structlog

from thingmint.access.authorization import authorize
from thingmint.domain.errors import Denied
from thingmint.domain.policies import ContextValue, Deny, Kind, Principal, Request, evaluate
from thingmint.services.compiled_policies import POLICIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.access.context import RequestContext
    from thingmint.access.directory import Directory
    from thingmint.domain.arns import Scope
    from thingmint.services.change import Authorize


_SERVICE = Principal("Service", ("iot.amazonaws.com",))
_ROLE = re.compile(r"arn:aws:iam::([0-9]{12}):role/(?:[\w+=,.@-]+/)*([\w+=,.@-]+)", re.ASCII)

_log = structlog.get_logger("thingmint.access")


class Roles:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def effects(self, context: RequestContext, scope: Scope, role: str, source: str) -> Authorize:
        """Authorizes as ``role`` (an ARN), for what ``source`` (another) asks of it.

        The role has to be the account's own, and to trust the service: AWS does not take one that does not. Raises
        Denied.
        """
        match = _ROLE.fullmatch(role)
        if match is None or match[1] != scope.account:
            raise _refused(role, source, "it is no role of this account", context)
        found = await self._directory.role(scope.account, match[2])
        if found is None:
            raise _refused(role, source, "there is no such role, or it is disabled", context)
        caller, trust_policy = found
        trust = POLICIES.get(Kind.TRUST, f"trust of {caller.name}", trust_policy)
        conditions: dict[str, ContextValue] = {"aws:SourceAccount": scope.account, "aws:SourceArn": source}
        decision = evaluate([trust], Request("sts:AssumeRole", caller.arn, conditions, _SERVICE))
        if isinstance(decision, Deny):
            raise _refused(role, source, f"its trust policy does not let {_SERVICE.names[0]} assume it", context)

        def check(action: str, resources: Sequence[str], conditions: Mapping[str, ContextValue]) -> None:
            known = {"aws:RequestedRegion": scope.region, **conditions}
            authorize(context, action, resources, known, caller=caller)

        return check


def _refused(role: str, source: str, why: str, context: RequestContext) -> Denied:
    _log.warning("a role cannot be assumed", role=role, source=source, why=why, request_id=context.id)
    return Denied(role, "sts:AssumeRole", role, explicit=False)
