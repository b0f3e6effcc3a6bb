"""A stub that answers as AWS documents, from memory.

It does what moto cannot: throttle, deny, forget markers, change while it is read, serve provisioning templates, CA
certificates, tags and exclusive principals.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore import xform_name
from botocore.exceptions import ClientError

from tests.unit import vectors
from thingmint.importing.sources.aws import AwsSource
from thingmint.importing.sources.aws.calls import Calls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thingmint.importing.batches import Batch, Place

ACCOUNT = "123456789012"
REGION = "eu-west-1"
PEM = vectors.certificate_pem()
THEN = datetime(2020, 3, 4, 5, 6, 7, tzinfo=UTC)

_MODEL = botocore.session.Session().get_service_model("iot")
_OPERATIONS = {xform_name(name): name for name in _MODEL.operation_names}
_KEYS = {
    "ListThingTypes": "thingTypes",
    "ListPolicies": "policies",
    "ListProvisioningTemplates": "templates",
    "ListCACertificates": "certificates",
    "ListThings": "things",
    "ListThingGroups": "thingGroups",
    "ListCertificates": "certificates",
}


def failure(operation: str, code: str, status: int = 400) -> ClientError:
    about: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(about, operation)


class StubAccount:
    """One region. ``fault`` is asked before each call, and may raise. ``page`` is the size of all pages."""

    def __init__(self, region: str = REGION, page: int = 2) -> None:
        self.region = region
        self.page = page
        self.lists: dict[str, list[dict[str, Any]]] = {operation: [] for operation in _KEYS}
        self.described: dict[tuple[str, str], dict[str, Any]] = {}
        self.attached: dict[str, list[str]] = {}
        self.members: dict[str, list[str]] = {}
        self.things_of: dict[str, list[dict[str, str]]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.further: dict[str, dict[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self.fault: Callable[[str, Mapping[str, Any]], None] = lambda _operation, _given: None
        self.meta = self
        self.service_model = _MODEL

    def close(self) -> None:
        """As a client has it."""

    def arn(self, resource: str) -> str:
        return f"arn:aws:iot:{self.region}:{ACCOUNT}:{resource}"

    def __getattr__(self, method: str) -> Callable[..., dict[str, Any]]:
        operation = _OPERATIONS.get(method)
        if operation is None:
            raise AttributeError(method)

        def call(**given: Any) -> dict[str, Any]:
            self.calls[operation] += 1
            self.fault(operation, given)
            return self._answer(operation, given)

        return call

    def _answer(self, operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
        if operation in _KEYS:
            return self._page(_KEYS[operation], self.lists[operation], given)
        if operation in self.further:
            return self.further[operation]
        match operation:
            case "DescribeEndpoint":
                return {"endpointAddress": f"{given['endpointType'].lower().replace(':', '-')}.example"}
            case "ListTagsForResource":
                tags = self.tags.get(given["resourceArn"], {})
                return {"tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            case "ListAttachedPolicies":
                names = self.attached.get(given["target"], [])
                return self._page("policies", [{"policyName": name} for name in names], given)
            case "ListThingsInThingGroup":
                return self._page("things", self.members.get(given["thingGroupName"], []), given)
            case "ListPrincipalThingsV2":
                return self._page("principalThingObjects", self.things_of.get(given["principal"], []), given)
            case "ListPrincipalThings":
                names = [each["thingName"] for each in self.things_of.get(given["principal"], [])]
                return self._page("things", names, given)
            case "ListPolicyVersions" | "ListProvisioningTemplateVersions":
                return self._found("versions_of", next(iter(given.values())))
        if operation.startswith(("Describe", "Get")) and given:
            names = [str(value) for key, value in sorted(given.items())]
            return self._found(operation, "/".join(names))
        return {}

    def _found(self, operation: str, name: str) -> dict[str, Any]:
        if (operation, name) not in self.described:
            raise failure(operation, "ResourceNotFoundException", 404)
        return self.described[operation, name]

    def _page(self, key: str, entries: list[Any], given: Mapping[str, Any]) -> dict[str, Any]:
        token = given.get("marker") or given.get("nextToken") or "page-0"
        begin = int(token.removeprefix("page-"))
        following = f"page-{begin + self.page}" if begin + self.page < len(entries) else None
        next_one = {} if following is None else {"nextMarker": following, "nextToken": following}
        return {key: entries[begin : begin + self.page], **next_one}

    # What the account has

    def thing_type(self, name: str, **metadata: Any) -> None:
        properties = {"thingTypeDescription": f"a {name}", "searchableAttributes": ["room"]}
        about = {"creationDate": THEN, "deprecated": False, **metadata}
        arn = self.arn(f"thingtype/{name}")
        entry = {"thingTypeName": name, "thingTypeArn": arn}
        self.lists["ListThingTypes"].append({**entry, "thingTypeProperties": properties, "thingTypeMetadata": about})

    def policy(self, name: str, documents: Mapping[str, str], default: str) -> None:
        arn = self.arn(f"policy/{name}")
        self.lists["ListPolicies"].append({"policyName": name, "policyArn": arn})
        about = {"policyName": name, "policyArn": arn, "creationDate": THEN, "lastModifiedDate": THEN}
        self.described["GetPolicy", name] = {
            **about,
            "defaultVersionId": default,
            "policyDocument": documents[default],
        }
        versions = [{"versionId": id, "isDefaultVersion": id == default, "createDate": THEN} for id in documents]
        self.described["versions_of", name] = {"policyVersions": versions[::-1]}
        for id, document in documents.items():
            self.described["GetPolicyVersion", f"{name}/{id}"] = {"policyDocument": document}

    def template(self, name: str, bodies: Mapping[int, str], default: int, **about: Any) -> None:
        role = f"arn:aws:iam::{ACCOUNT}:role/provision"
        self.lists["ListProvisioningTemplates"].append({"templateName": name})
        self.described["DescribeProvisioningTemplate", name] = {
            "templateName": name,
            "templateArn": self.arn(f"provisioningtemplate/{name}"),
            "defaultVersionId": default,
            "templateBody": bodies[default],
            "enabled": True,
            "provisioningRoleArn": role,
            "creationDate": THEN,
            "lastModifiedDate": THEN,
            "type": "FLEET_PROVISIONING",
            **about,
        }
        versions = [{"versionId": id, "creationDate": THEN, "isDefaultVersion": id == default} for id in bodies]
        self.described["versions_of", name] = {"versions": versions}
        for id, body in bodies.items():
            self.described["DescribeProvisioningTemplateVersion", f"{name}/{id}"] = {"templateBody": body}

    def ca(self, id: str, pem: str, config: dict[str, str] | None = None, **about: Any) -> None:
        arn = self.arn(f"cacert/{id}")
        self.lists["ListCACertificates"].append({"certificateId": id, "certificateArn": arn})
        self.described["DescribeCACertificate", id] = {
            "certificateDescription": {
                "certificateArn": arn,
                "certificateId": id,
                "status": "ACTIVE",
                "certificatePem": pem,
                "autoRegistrationStatus": "ENABLE",
                "certificateMode": "DEFAULT",
                "creationDate": THEN,
                "lastModifiedDate": THEN,
                **about,
            },
            **({"registrationConfig": config} if config else {}),
        }

    def thing(self, name: str, type: str | None = None, **attributes: str) -> None:
        entry: dict[str, Any] = {"thingName": name, "thingArn": self.arn(f"thing/{name}"), "attributes": attributes}
        self.lists["ListThings"].append({**entry, **({"thingTypeName": type} if type else {})})

    def group(self, name: str, above: list[str] | None = None, *, query: str | None = None, **further: Any) -> None:
        arn = self.arn(f"thinggroup/{name}")
        self.lists["ListThingGroups"].append({"groupName": name, "groupArn": arn})
        metadata: dict[str, Any] = {"creationDate": THEN}
        if above:
            metadata["parentGroupName"] = above[-1]
            metadata["rootToParentThingGroups"] = [{"groupName": each} for each in above]
        self.described["DescribeThingGroup", name] = {
            "thingGroupName": name,
            "thingGroupArn": arn,
            "thingGroupProperties": {"attributePayload": {"attributes": {"floor": "2"}}},
            "thingGroupMetadata": metadata,
            **({"queryString": query} if query else {}),
            **further,
        }

    def certificate(self, id: str, pem: str = PEM, **about: Any) -> str:
        """Returns the ARN."""
        arn = self.arn(f"cert/{id}")
        self.lists["ListCertificates"].append({"certificateId": id, "certificateArn": arn, "status": "ACTIVE"})
        self.described["DescribeCertificate", id] = {
            "certificateDescription": {
                "certificateArn": arn,
                "certificateId": id,
                "status": "ACTIVE",
                "certificatePem": pem,
                "creationDate": THEN,
                "lastModifiedDate": THEN,
                "certificateMode": "DEFAULT",
                **about,
            }
        }
        return arn


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def source_of(*accounts: StubAccount, rate: float | None = 0, clock: Clock | None = None) -> AwsSource:
    """A source that reads these regions."""
    clock = clock or Clock()
    by_region = {account.region: account for account in accounts}

    def open(region: str) -> Calls:
        client: Any = by_region[region]
        return Calls(client, rate, sleep=clock.sleep, monotonic=clock)

    return AwsSource(list(by_region), open, rate=rate)


def furnished(region: str = REGION) -> StubAccount:
    """An account with something of everything, and several pages of most."""
    account = StubAccount(region)
    account.thing_type("lamp")
    account.policy("connect", {"1": "{}", "3": "{ }"}, default="3")
    account.policy("publish", {"1": "{}"}, default="1")
    account.policy("subscribe", {"1": "{}"}, default="1")
    account.template("line", {1: "{}", 2: "{ }"}, default=2)
    account.ca("a" * 64, PEM, {"templateName": "line"})
    account.tags[account.arn("policy/connect")] = {"team": "light"}
    for number in range(5):
        account.thing(f"lamp-{number}", "lamp", room=f"r{number}")
    account.group("below", ["top", "middle"])
    account.group("middle", ["top"])
    account.group("top")
    account.attached[account.arn("thinggroup/top")] = ["connect"]
    account.members = {"below": ["lamp-0", "lamp-1", "lamp-2"], "middle": ["lamp-3"], "top": []}
    for number in range(5):
        arn = account.certificate(f"{number}" * 64)
        account.attached[arn] = ["connect", "publish", "subscribe"]
        account.things_of[arn] = [{"thingName": f"lamp-{number}", "thingPrincipalType": "NON_EXCLUSIVE_THING"}]
    return account


def read(source: AwsSource, place: Place | None = None) -> list[Batch]:
    return list(source.batches(place or {}))


def items_of(batches: list[Batch], kind: str) -> list[dict[str, Any]]:
    return [dict(item) for batch in batches for item in batch.items if item["kind"] == kind]


def told(batches: list[Batch]) -> list[tuple[str, ...]]:
    return [(result.kind, result.outcome, result.subject) for batch in batches for result in batch.results]
