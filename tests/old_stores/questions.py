"""Questions for all that can be read from a filled store over every API, and connections of its devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.e2e.provisioning.support import CREATE_FROM_CSR
from tests.old_stores.asking import Question
from tests.old_stores.aws import PROVISION, registration_of
from tests.old_stores.yandex import KEY, KEYED_REGISTRY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.old_stores.material import Material

    Ask = Callable[[Question], list[dict[str, Any]]]

_NOWHERE = "0" * 64
_LATER = ("-new", "-claim-used", "-claim-unused")


def ask_everything(
    ask: Ask, material: Material, endpoints: Mapping[str, Any], operations: Mapping[str, Iterable[str]], until: str
) -> None:
    """``operations`` are the ids of each account's operations. ``until`` is the end of the audit log to read."""
    credentials = material.credentials
    places = {(told["account"], told["region"]) for told in endpoints.values()}
    names = {told["account"]: name for name, told in credentials.items() if "folder" in told}
    for account, name in sorted(names.items()):  # first: later questions change the times of last use
        _native(ask, name, account, until)
    for account, region in sorted(places):
        _Aws(ask, f"{names[account]}@{region}", f"arn:aws:iot:{region}:{account}:").everything()
    for account, name in sorted(names.items()):
        for wire in ("grpc", "rest"):
            _yandex(ask, wire, name, operations[account])
    _by_other_credentials(ask, material, {told["account"]: told["region"] for told in endpoints.values()})
    _devices(ask, material, endpoints)
    _writes(ask, material, endpoints)


class _Aws:
    def __init__(self, ask: Ask, who: str, arn: str) -> None:
        self._ask = ask
        self._who = who
        self._arn = arn

    def _pages(self, call: str, of: str = "", **given: Any) -> list[Any]:
        pages = self._ask(Question("aws", self._who, call, given))
        return [each for page in pages for each in page["body"].get(of, ())]

    def everything(self) -> None:
        for kind in ("iot:Data-ATS", "iot:Data", "iot:CredentialProvider", "iot:Jobs"):
            self._pages("DescribeEndpoint", endpointType=kind)
        self._certificates()
        self._things()
        self._groups()
        self._policies()
        self._templates()
        self._cas()

    def _certificates(self) -> None:
        self._pages("ListCertificates", pageSize=250, ascendingOrder=True)
        listed = self._pages("ListCertificates", "certificates", pageSize=7)
        deleted = [{"certificateId": _NOWHERE, "certificateArn": f"{self._arn}cert/{_NOWHERE}"}]
        for each in listed + deleted:
            arn = each["certificateArn"]
            self._pages("DescribeCertificate", certificateId=each["certificateId"])
            self._pages("ListAttachedPolicies", target=arn)
            self._pages("ListPrincipalPolicies", principal=arn)
            self._pages("ListPrincipalThings", principal=arn)
            self._pages("ListPrincipalThingsV2", principal=arn)

    def _things(self) -> None:
        for each in [*self._pages("ListThings", "things", maxResults=3), {"thingName": "gone"}]:
            name = each["thingName"]
            self._pages("DescribeThing", thingName=name)
            self._pages("ListThingPrincipals", thingName=name)
            self._pages("ListThingPrincipalsV2", thingName=name)
            self._pages("ListThingGroupsForThing", thingName=name)
        self._pages("ListThings", thingTypeName="lamp")
        self._pages("ListThings", attributeName="site", attributeValue="berlin", maxResults=2)
        self._pages("ListThings", attributeName="site", attributeValue="b", usePrefixAttributeValue=True)
        for each in [*self._pages("ListThingTypes", "thingTypes"), {"thingTypeName": "gone"}]:
            self._pages("DescribeThingType", thingTypeName=each["thingTypeName"])
            self._pages("ListTagsForResource", resourceArn=f"{self._arn}thingtype/{each['thingTypeName']}")

    def _groups(self) -> None:
        for each in [*self._pages("ListThingGroups", "thingGroups", maxResults=2), {"groupName": "gone"}]:
            name = each["groupName"]
            arn = f"{self._arn}thinggroup/{name}"
            self._pages("DescribeThingGroup", thingGroupName=name)
            self._pages("ListThingsInThingGroup", thingGroupName=name)
            self._pages("ListThingsInThingGroup", thingGroupName=name, recursive=True, maxResults=2)
            self._pages("ListThingGroups", parentGroup=name, recursive=False)
            self._pages("ListAttachedPolicies", target=arn, recursive=True)
            self._pages("ListTagsForResource", resourceArn=arn)
        self._pages("ListThingGroups", namePrefixFilter="ro")

    def _policies(self) -> None:
        self._pages("ListPolicies", ascendingOrder=True)
        for each in [*self._pages("ListPolicies", "policies", pageSize=2), {"policyName": "gone"}]:
            name = each["policyName"]
            self._pages("GetPolicy", policyName=name)
            self._pages("ListTargetsForPolicy", policyName=name, pageSize=3)
            self._pages("ListPolicyPrincipals", policyName=name)
            self._pages("ListTagsForResource", resourceArn=f"{self._arn}policy/{name}")
            for version in self._pages("ListPolicyVersions", "policyVersions", policyName=name):
                self._pages("GetPolicyVersion", policyName=name, policyVersionId=version["versionId"])

    def _templates(self) -> None:
        listed = self._pages("ListProvisioningTemplates", "templates", maxResults=2)
        for each in [*listed, {"templateName": "gone"}]:
            name = each["templateName"]
            self._pages("DescribeProvisioningTemplate", templateName=name)
            self._pages("ListTagsForResource", resourceArn=f"{self._arn}provisioningtemplate/{name}")
            versions = self._pages("ListProvisioningTemplateVersions", "versions", templateName=name, maxResults=2)
            for version in versions:
                id = version["versionId"]
                self._pages("DescribeProvisioningTemplateVersion", templateName=name, versionId=id)

    def _cas(self) -> None:
        listed = self._pages("ListCACertificates", "certificates", pageSize=2)
        self._pages("ListCACertificates", templateName="just-in-time")
        for each in [*listed, {"certificateId": _NOWHERE}]:
            id = each["certificateId"]
            self._pages("DescribeCACertificate", certificateId=id)
            self._pages("ListCertificatesByCA", caCertificateId=id, pageSize=2)
            self._pages("ListTagsForResource", resourceArn=f"{self._arn}cacert/{id}")
        if listed:
            self._pages("GetRegistrationCode")


def _native(ask: Ask, who: str, account: str, until: str) -> None:
    def access(command: str, **given: Any) -> Any:
        [page] = ask(Question("native", who, f"POST /v1/access/{command}", given))
        return page["body"].get("data")

    access("account/show")
    for policy in [*access("policy/list"), {"name": "gone"}]:
        access("policy/show", name=policy["name"])
    access("folder/list")
    for kind in ("user", "role", "service-account"):
        for each in [*access(f"{kind}/list"), {"name": "gone"}]:
            principal = f"{kind}/{each['name']}"
            access("policy/attached", principal=principal)
            access("key/list", principal=principal)
            access("token/list", principal=principal)
    ask(Question("native", who, "GET /v1/certificates", {"page_size": 5}))
    pages = ask(Question("native", who, "GET /v1/certificates", {"page_size": 250, "order": "ascending"}))
    for each in pages[0]["body"]["data"]["certificates"]:
        ask(Question("native", who, f"GET /v1/certificates/{each['id']}"))
    for further in ({}, {"event": "CreateThing"}, {"principal": f"arn:aws:iam::{account}:user/admin"}):
        ask(Question("native", who, "GET /v1/audit", {"page_size": 250, "until": until, **further}))


def _yandex(ask: Ask, wire: str, who: str, operations: Iterable[str]) -> None:
    def pages(call: str, of: str = "", **given: Any) -> list[Any]:
        answers = ask(Question(wire, who, call, given))
        return [each for page in answers for each in page["body"].get(of, ())]

    [folders] = ask(Question("native", who, "POST /v1/access/folder/list"))
    for folder in folders["body"]["data"]:
        registries = pages("RegistryService/List", "registries", folder_id=folder["id"], page_size=1)
        pages("DeviceService/List", folder_id=folder["id"], page_size=2, device_view="FULL")
        for registry in [*registries, {"id": "gone"}]:
            pages("RegistryService/Get", registry_id=registry["id"])
            pages("DeviceService/GetByName", registry_id=registry["id"], device_name="lamp")
            for device in pages("DeviceService/List", "devices", registry_id=registry["id"]):
                pages("DeviceService/Get", device_id=device["id"], device_view="FULL")
                pages("DeviceService/ListCertificates", device_id=device["id"])
    for id in operations:
        pages("OperationService/Get", operation_id=id)


def _by_other_credentials(ask: Ask, material: Material, regions: Mapping[str, str]) -> None:
    """Asks as users, keys, sessions, tokens and service accounts with few or no permissions."""
    for name, told in material.credentials.items():
        if "access_key_id" in told and "folder" not in told:
            region = regions[name.rpartition("-")[2]]
            for call in ("ListCertificates", "ListThings", "ListPolicies"):
                ask(Question("aws", f"{name}@{region}", call))
        elif "private_key" in told:
            ask(Question("grpc", name, "RegistryService/List", {"folder_id": "x"}))
        elif "token" in told and "folder" not in told:
            ask(Question("native", name, "GET /v1/certificates"))


def _devices(ask: Ask, material: Material, endpoints: Mapping[str, Any]) -> None:
    """Connects each device under the host names of its account (all if it has none) and under ``localhost``."""
    topics = {"subscribe": ["lamp-0/x"], "publish": ["lamp-0/x", "lamp-0/secret", "loud"]}
    for device in material.devices:
        if not device.endswith(_LATER):
            own = [host for host, told in endpoints.items() if device.startswith(told["account"])]
            for host in [*(own or endpoints), "localhost"]:
                ask(Question("mqtt", device, host, {"client_id": "lamp-0", **topics}))


def _writes(ask: Ask, material: Material, endpoints: Mapping[str, Any]) -> None:
    """Asks last what changes the store: repeats earlier requests, and connects devices for the first time."""
    for host, told in endpoints.items():
        place = f"{told['account']}-{told['region']}"
        if f"{place}-claim-unused" in material.devices and told.get("cloud") != "yandex":
            claim = {"subscribe": [f"{CREATE_FROM_CSR}/json/accepted"], "publish": ["x"]}
            ask(Question("mqtt", f"{place}-claim-unused", host, claim))
            for each in ("used", "unused"):
                registration = registration_of(material.credentials[f"ownership-{place}-{each}"], "0")
                ask(Question("mqtt", f"{place}-claim-used", host, {"ask": {PROVISION: registration}}))
    for device in material.devices:
        if device.endswith("-new"):
            for _ in range(2):
                ask(Question("mqtt", device, next(iter(endpoints))))
    for name, told in material.credentials.items():
        if "folder" in told:
            for wire in ("grpc", "rest"):
                keyed = {"folder_id": told["folder"], **KEYED_REGISTRY, "idempotency-key": KEY}
                ask(Question(wire, name, "RegistryService/Create", keyed))
                ask(Question(wire, name, "RegistryService/Create", keyed | {"description": "another"}))
