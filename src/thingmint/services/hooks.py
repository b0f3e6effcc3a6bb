"""Pre-provisioning hooks, which decide whether a device is provisioned, and with which parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.domain.errors import Invalid, ProvisioningRefused
from thingmint.services.function_calls import CallFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.services.function_calls import Outcome
    from thingmint.services.functions import FunctionTable

PAYLOAD_VERSION = "2020-04-01"

_ARN = re.compile(r"arn:[^:]+:[^:]+:[^:]*:[^:]*:.+", re.DOTALL)

_FAILURES: Mapping[Outcome, tuple[ProvisioningRefused.Step, str]] = {
    "denied": ("denied", "Access Denied"),
    "empty": ("result", "The provisioning hook did not return a response."),
    "invalid": ("result", "Provisioning hook result is in an invalid format."),
    "too_large": ("result", "Provisioning hook result is in an invalid format."),
    "forbidden": ("invocation", "Access denied while invoking Lambda function"),
    "not_found": ("invocation", "Access denied while invoking Lambda function"),
    "unreachable": ("invocation", "A failure occurred while invoking the provisioning hook."),
}


@dataclass(frozen=True, slots=True)
class Hook:
    """The pre-provisioning hook of a template. Raises Invalid unless ``target_arn`` is an ARN."""

    target_arn: str
    payload_version: str = PAYLOAD_VERSION

    def __post_init__(self) -> None:
        if not _ARN.fullmatch(self.target_arn):
            raise Invalid("preProvisioningHook.targetArn", "must be an ARN")


async def ask_hook(
    functions: FunctionTable, account: str, hook: Hook, question: Mapping[str, object]
) -> Mapping[str, str]:
    """Returns the parameters that the hook overrides. Raises ProvisioningRefused, in AWS's words."""
    try:
        return await functions.call(account, hook.target_arn, "pre_provisioning", question, _overrides)
    except CallFailed as failed:
        raise refusal(failed) from None


def refusal(failed: CallFailed) -> ProvisioningRefused:
    """Returns the error for a device whose hook was called in vain."""
    step, reason = _FAILURES.get(failed.outcome, ("invocation", "The provisioning hook was not executed successfully."))
    return ProvisioningRefused(step, reason)


def _overrides(answer: object) -> Mapping[str, str]:
    """Raises CallFailed unless the hook allows the device."""
    if answer is None:
        raise CallFailed("empty", "it has no answer")
    if not isinstance(answer, dict) or not isinstance(allowed := answer.get("allowProvisioning"), bool):
        raise CallFailed("invalid", "its answer has no allowProvisioning, true or false")
    overrides = answer.get("parameterOverrides")
    overrides = {} if overrides is None else overrides
    if not isinstance(overrides, dict) or not all(_is_text(text) for pair in overrides.items() for text in pair):
        raise CallFailed("invalid", "its parameterOverrides are not texts")
    if not allowed:
        raise CallFailed("denied", "it does not allow the device")
    return overrides


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value
