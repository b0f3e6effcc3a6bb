"""The intended differences between the answers of this version and those of earlier ones, with reasons."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.old_stores.asking import Question
    from tests.old_stores.kept import Pages


@dataclass(frozen=True)
class Difference:
    """``who`` and ``call`` are regular expressions. ``change`` turns the earlier answer into the expected one."""

    why: str
    api: str
    who: str
    call: str
    change: Callable[[Pages, Pages], Pages]

    def concerns(self, question: Question) -> bool:
        told = zip((self.api, self.who, self.call), (question.api, question.who, question.call), strict=True)
        return all(re.fullmatch(pattern, value) for pattern, value in told)


def _with(*fields: str) -> Callable[[Pages, Pages], Pages]:
    """A change that takes these fields from today's answer."""

    def change(before: Pages, now: Pages) -> Pages:
        return [
            {**old, "body": {**old["body"], "data": {**old["body"]["data"], **_some(new["body"]["data"], fields)}}}
            for old, new in zip(before, now, strict=True)
        ]

    return change


def _some(data: dict[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {name: data[name] for name in fields}


def _without_empty(before: Any, now: Any) -> Any:
    """The earlier answer without the empty members that are missing in today's."""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [_without_empty(old, new) for old, new in zip(before, now, strict=True)]
    if isinstance(before, dict) and isinstance(now, dict):
        shorter = {name: _without_empty(old, now.get(name, {})) for name, old in before.items()}
        return {name: value for name, value in shorter.items() if name in now or value not in ({}, [])}
    return before


def _with_status(before: Any, now: Any) -> Any:
    """The earlier answer with ``status`` in each device."""
    if isinstance(before, list):
        return [_with_status(old, now) for old in before]
    if isinstance(before, dict):
        status = {"status": "ACTIVE"} if "registry_id" in before else {}
        return {name: _with_status(old, now) for name, old in before.items()} | status
    return before


def _with_monitoring(before: Any, now: Any) -> Any:
    """The earlier answer with today's ``monitoring_data`` in each device that has some."""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [_with_monitoring(old, new) for old, new in zip(before, now, strict=True)]
    if isinstance(before, dict) and isinstance(now, dict):
        data = {name: now[name] for name in ("monitoring_data",) if name in now}
        return {name: _with_monitoring(old, now.get(name)) for name, old in before.items()} | data
    return before


def _refused(before: Pages, now: Pages) -> Pages:
    del before, now
    return [{"status": {"closed": "NOT_AUTHORIZED"}}]


def _accepted(before: Pages, now: Pages) -> Pages:
    assert before == [{"status": {"closed": "NOT_AUTHORIZED"}}]
    assert now[0]["status"]["connect"] == "SUCCESS"
    return now


_EMPTY_MEMBERS = Difference(
    "Empty members are left out, as AWS does.",
    "aws",
    ".*",
    "DescribeThingGroup|DescribeThingType|ListThingTypes",
    _without_empty,
)

_DEVICE_STATUS = Difference(
    "Devices have the status ACTIVE.", "grpc|rest", ".*", "DeviceService/(Get|GetByName|List)", _with_status
)


_MONITORING = Difference(
    "The view FULL of a device has what its connections did last.",
    "grpc|rest",
    ".*",
    "DeviceService/(Get|GetByName|List)",
    _with_monitoring,
)


def _in_the_order_of(before: Pages, now: Pages) -> Pages:
    assert sorted(map(repr, _items(before))) == sorted(map(repr, _items(now)))
    return now


def _items(pages: Pages) -> list[Any]:
    return [item for page in pages for items in page["body"].values() if isinstance(items, list) for item in items]


_BY_AGE = Difference(
    "A thing's principals are listed in the order of their certificates' age. It was by fingerprint; AWS has no order.",
    "aws",
    ".*",
    "ListThingPrincipals(V2)?",
    _in_the_order_of,
)

_CANNOT_CONNECT = Difference(
    "GET /v1/certificates/{id} also returns the reasons why devices cannot connect.",
    "native",
    ".*",
    "GET /v1/certificates/[0-9a-f]+",
    _with("cannot_connect"),
)

_POLICY_NOT_FOUND = Difference(
    "The message for a policy that does not exist is AWS's.",
    "aws",
    ".*",
    ".*",
    lambda before, _: [
        {**page, "body": {"message": "Policy not found"}}
        if re.fullmatch("policy [^ ]+ does not exist", str(page["body"].get("message")))
        else page
        for page in before
    ],
)

_MANAGED_POLICY = Difference(
    "thingmint/ProvisioningOnly allows a template's role to write the policies in the template.",
    "native",
    ".*",
    "POST /v1/access/policy/show",
    lambda before, now: now if "WritePoliciesOfTemplates" in str(now) else before,
)

_NEW_READS = [
    f"iot:{name}"
    for name in (
        *("DescribeBillingGroup", "ListBillingGroups", "ListThingsInBillingGroup"),
        *("DescribeIndex", "GetIndexingConfiguration", "ListIndices", "SearchIndex"),
    )
]
_READS_OF_FLEETS = {
    "Sid": "ReadFleet",
    "Effect": "Allow",
    "Action": [
        *("thingmint:GetHealth", "thingmint:ListImports", "thingmint:ListProvisioningClaims"),
        *("thingmint:ListRefusals", "thingmint:ListSessions", "thingmint:TestProvisioning"),
    ],
    "Resource": "*",
}


def _with_new_reads(before: Pages, now: Pages) -> Pages:
    """The earlier policy with the actions that read billing groups, indexes, and what is told about a fleet."""
    (page,) = before
    document = json.loads(page["body"]["data"]["document"])
    for statement in document["Statement"]:
        if statement["Sid"] == "ReadIoT":
            statement["Action"] = sorted([*statement["Action"], *_NEW_READS])
            document["Statement"].insert(1, _READS_OF_FLEETS)
            break
    text = json.dumps(document, indent=2)
    data = {**page["body"]["data"], "document": text}
    return [{**page, "body": {**page["body"], "data": data}}] if _NEW_READS[0] in str(now) else before


_NEW_READING = Difference(
    "The managed policies that read everything of AWS IoT read billing groups, indexes, sessions and refusals too.",
    "native",
    ".*",
    "POST /v1/access/policy/show",
    _with_new_reads,
)

_BY_YANDEX_RULES = [
    {"status": {"connect": "SUCCESS", "subscribe lamp-0/x": ["NOT_AUTHORIZED"], "closed": "NOT_AUTHORIZED"}}
]


def _under_yandex_name(before: Pages, now: Pages) -> Pages:
    assert now in (_BY_YANDEX_RULES, _refused(before, now))
    return now


_YANDEX_NAME = Difference(
    "Under a host name of Yandex IoT Core, certificates that are bound to a device or a registry are accepted without "
    "policies and get that owner's topics. All others are refused.",
    "mqtt",
    ".*",
    r"one-yandex\.example\.org",
    _under_yandex_name,
)

_BOUND = Difference(
    "The same holds for bound certificates under names of no account.",
    "mqtt",
    r"\d+-.*-bound-.*",
    "localhost",
    lambda before, now: _BY_YANDEX_RULES,
)


def _with_new_policies(before: Pages, now: Pages) -> Pages:
    """The earlier list with the managed policies that it did not have."""
    names = {policy["name"] for page in before for policy in page["body"]["data"]}
    new = [policy for page in now for policy in page["body"]["data"] if policy["name"] not in names]
    assert {policy["name"] for policy in new} == {"yandex/iam.serviceAccounts.tokenCreator"}
    (page,) = before
    return [{**page, "body": {**page["body"], "data": [*page["body"]["data"], *new]}}]


_NEW_ROLE = Difference(
    "There is a role to get tokens of service accounts.",
    "native",
    ".*",
    "POST /v1/access/policy/list",
    _with_new_policies,
)

_MORE_OF_AUDIT = ("reason", "closest", "transfer", "client_id", "since", "count", "addresses")


def _with_more_of_audit(before: Pages, now: Pages) -> Pages:
    """The earlier answer with the new members in each record."""
    changed = []
    for old, new in zip(before, now, strict=True):
        pairs = zip(old["body"]["data"]["records"], new["body"]["data"]["records"], strict=True)
        records = [{**record, **_some(today, _MORE_OF_AUDIT)} for record, today in pairs]
        changed.append({**old, "body": {**old["body"], "data": {**old["body"]["data"], "records": records}}})
    return changed


_AUDIT = Difference(
    "GET /v1/audit also returns why a device was refused, its client id, how many refusals a record counts, and the "
    "accounts of a transfer.",
    "native",
    ".*",
    "GET /v1/audit",
    _with_more_of_audit,
)

DIFFERENCES: dict[str, tuple[Difference, ...]] = {
    "7c4c599": (
        _AUDIT,
        _BY_AGE,
        _EMPTY_MEMBERS,
        _DEVICE_STATUS,
        _MONITORING,
        _CANNOT_CONNECT,
        _POLICY_NOT_FOUND,
        _MANAGED_POLICY,
        _NEW_READING,
        _NEW_ROLE,
        _YANDEX_NAME,
        _BOUND,
        Difference(
            "GET /v1/certificates/{id} also returns the mode and the CA.",
            "native",
            ".*",
            "GET /v1/certificates/[0-9a-f]+",
            _with("mode", "ca"),
        ),
        Difference(
            "There are new settings.",
            "native",
            ".*",
            "POST /v1/access/account/show",
            _with("ca_status_gates_devices", "retained_on_wildcards"),
        ),
        Difference(
            "A certificate that an account other than the default one registered without proof from the CA (SNI_ONLY) "
            "is accepted only under a host name of that account.",
            "mqtt",
            r"\d+-.*-(active|expired)|ca-sni-only-(arrived|registered)",
            "localhost",
            _refused,
        ),
        Difference(
            "Certificates under an INACTIVE or deleted CA can still connect, as with AWS IoT, unless the account's "
            "setting ca_status_gates_devices forbids it.",
            "mqtt",
            "ca-(inactive|deleted)-registered",
            ".*",
            _accepted,
        ),
    ),
    "934c105": (
        _AUDIT,
        _BY_AGE,
        _EMPTY_MEMBERS,
        _DEVICE_STATUS,
        _MONITORING,
        _CANNOT_CONNECT,
        _POLICY_NOT_FOUND,
        _MANAGED_POLICY,
        _NEW_READING,
        _NEW_ROLE,
        _YANDEX_NAME,
        _BOUND,
    ),
}


def expected(version: str, question: Question, before: Pages, now: Pages) -> tuple[Pages, set[str]]:
    """Today's expected answer to ``question``, given the answer ``before``; and the reasons for differences."""
    reasons = set()
    for difference in DIFFERENCES[version]:
        if difference.concerns(question) and now != before:
            before = difference.change(before, now)
            reasons.add(difference.why)
    return before, reasons
