"""The events of the audit log: their names, their facts, and the kinds under which repeated ones are counted."""

from __future__ import annotations

import functools
import re
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from thingmint.access.context import LOCAL_ADMIN
from thingmint.access.repeats import Kind
from thingmint.domain.names import source_of

if TYPE_CHECKING:
    from thingmint.access.context import Outcome, RequestContext

_MAX_REASON = 200  # characters of a reason that distinguish refusals

_SOURCES = {
    "aws": "iot.amazonaws.com",
    "sts": "sts.amazonaws.com",
    "credentials": "credentials.iot.amazonaws.com",
    "yandex": "iot-devices.api.cloud.yandex.net",
    "mqtt": "iot.amazonaws.com",
    "native": "thingmint",
    "console": "thingmint",
    LOCAL_ADMIN: "thingmint",
}

# Yandex Audit Trails names the changes of these services after the method and the noun ("Reference of data plane and
# control plane events"). It has no names for Enable, Disable, exports and Publish: those are ours, in the same form.
_YANDEX_EVENTS = {
    "DeviceService": ("devices", "Device"),
    "RegistryService": ("devices", "Registry"),
    "BrokerService": ("broker", "Broker"),
    "DeviceDataService": ("devices", "DeviceData"),
    "RegistryDataService": ("devices", "RegistryData"),
    "BrokerDataService": ("broker", "BrokerData"),
}
_YANDEX_CHANGE = re.compile(
    r"(Create|Update|Delete|Enable|Disable|Add|Publish)(Certificate|Password|DataStreamExport)?"
)

# Operations that revoke access or free space: on a full disk they may use the reserve.
_URGENT = re.compile(
    r"(?:.*[./])?(?:Deactivate|Delete|Detach|Disable|Reject|Remove|Revoke|SetDefaultPolicyVersion|"
    r"Update(?:AccessKey|ApiToken|CACertificate|Certificate|Key|User)$)"
)

DISCONNECT = "Disconnect"
"""The event of a device's connection that ended."""
NOT_AUTHORIZED = "NotAuthorized"
"""The code of every refusal of a device, except on the provisioning topics."""


def new_record_id(now: datetime) -> str:
    """An id that sorts by time: the microsecond, then 64 random bits."""
    return f"{first_record_id(now)}{secrets.token_hex(8)}"


def first_record_id(moment: datetime) -> str:
    """The lower bound of the ids of records at that moment or later."""
    return f"{max(0, int(moment.timestamp() * 1_000_000)):016x}"


def event_name(context: RequestContext) -> str:
    """The event's name: CloudTrail's for AWS, Yandex Audit Trails' for Yandex. A command's operation is its event."""
    if context.api != "yandex":
        return context.operation
    return _yandex_event(context.operation)


@functools.cache
def _yandex_event(operation: str) -> str:
    """Methods that change nothing have no event at Yandex: they have their own names, such as DeviceService.Get."""
    service, _, method = operation.partition(".")
    change = _YANDEX_CHANGE.fullmatch(method)
    if service not in _YANDEX_EVENTS or change is None:
        return operation
    api, noun = _YANDEX_EVENTS[service]
    verb, what = change.groups(default="")
    named = f"{verb}{what}" if what == "DataStreamExport" else f"{verb}{noun}{what}"
    return f"yandex.cloud.audit.iot.{api}.{named}"


@functools.cache
def is_urgent(operation: str) -> bool:
    """True if the operation revokes access or frees space. Operations are few, so the cache is small."""
    return _URGENT.match(operation) is not None


def record_of(context: RequestContext, outcome: Outcome, now: datetime, **further: Any) -> str:
    """The record of an event, as JSON."""
    record = {"time": now.isoformat(timespec="microseconds"), **facts_of(context, outcome), **further}
    if context.parameters and not outcome.code:
        record["parameters"] = context.parameters
    if outcome.explain is not None:
        record["closest"] = outcome.explain()
    return orjson.dumps(record).decode()


def copy_of(context: RequestContext, outcome: Outcome, now: datetime, account: str, **further: Any) -> str:
    """The record of a change for another account that it concerns. It does not tell how the caller connects."""
    hidden = dict.fromkeys(("credential", "address", "agent", "resource"))
    facts = {**facts_of(context, outcome), **hidden, "account": account}
    return orjson.dumps({"time": now.isoformat(timespec="microseconds"), **facts, **further}).decode()


def facts_of(context: RequestContext, outcome: Outcome) -> dict[str, Any]:
    caller = outcome.caller or context.caller
    return {
        "source": _SOURCES.get(context.api, "thingmint"),
        "event": event_name(context),
        "account": account_of(context, outcome),
        "principal": caller.arn if caller else None,
        "credential": caller.credential if caller else None,
        "address": context.address,
        "agent": context.user_agent,
        "resource": outcome.resource,
        "outcome": "refused" if outcome.code else "success",
        "error": outcome.code,
        "request": context.id,
        **outcome.details,
    }


def kind_of(context: RequestContext, outcome: Outcome) -> Kind:
    """The kind under which an event is counted: caller, operation and reason.

    The resource is not part of it, because a device can choose any number of topics.
    """
    caller = outcome.caller or context.caller
    # Other codes are reasons themselves, and the texts with them quote what a device sent.
    has_reason = outcome.code == NOT_AUTHORIZED or context.operation == DISCONNECT
    reason = outcome.details.get("reason") if has_reason else None
    return Kind(
        account_of(context, outcome),
        caller.principal if caller else source_of(context.address or context.api),
        f"{context.api}:{context.operation}",
        outcome.code,
        reason[:_MAX_REASON] if reason else None,
        audited=context.api != "probe",
    )


def text_of_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def account_of(context: RequestContext, outcome: Outcome) -> str | None:
    """The account in whose audit log the record is."""
    caller = outcome.caller or context.caller
    return caller.account if caller else context.account
