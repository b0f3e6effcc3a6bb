"""The three kinds of resources of a template: their properties, and their part of the plan."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from thingmint.domain.certificates import parse_fingerprint
from thingmint.domain.errors import Invalid, InvalidTemplate
from thingmint.domain.status import Status
from thingmint.domain.templates.documents import entries, inside
from thingmint.domain.templates.expressions import (
    Literal,
    Ref,
    evaluate,
    read_text,
    read_texts,
    read_tree,
    references_in,
    texts_of,
)
from thingmint.domain.templates.plan import (
    CertificatePlan,
    FromCsr,
    FromPem,
    Override,
    PolicyPlan,
    Registered,
    ThingOverrides,
    ThingPlan,
)
from thingmint.domain.templates.policy_documents import write_document
from thingmint.domain.templates.subjects import CERTIFICATE_ID
from thingmint.domain.templates.values import authored

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from thingmint.domain.templates.expressions import Scope, Text
    from thingmint.domain.templates.values import Value


_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}", re.ASCII)
_POLICY_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_ATTRIBUTE_NAME = re.compile(r"[a-zA-Z0-9_.,@/:#-]{1,128}", re.ASCII)
_ATTRIBUTE_VALUE = re.compile(r"[a-zA-Z0-9_.,@/:#=\[\]-]{0,800}", re.ASCII)
_STATUSES = {"active": Status.ACTIVE, "inactive": Status.INACTIVE}

STATUS_FLAW = 'A certificate resource must specify a Status of either "Active" or "Inactive"'


def _checked_name(value: str, field: str) -> str:
    """Return the name of a thing, a thing type or a group. Raises Invalid."""
    if not _NAME.fullmatch(value):
        raise Invalid(field, "must be 1 to 128 of the characters a-z A-Z 0-9 : _ -")
    return value


def _checked_policy_name(value: str, field: str) -> str:
    if not _POLICY_NAME.fullmatch(value):
        raise Invalid(field, "must be 1 to 128 of the characters a-z A-Z 0-9 _ + = , . @ -")
    return value


def _checked_attributes(given: Mapping[str, str], field: str) -> dict[str, str]:
    for name, value in given.items():
        if not _ATTRIBUTE_NAME.fullmatch(name) or not _ATTRIBUTE_VALUE.fullmatch(value):
            raise Invalid(field, "has a name or a value that an attribute cannot have")
    return dict(given)


def _status_of(text: str) -> Status | None:
    """Return the status that ``text`` names in any case, or None."""
    return _STATUSES.get(text.lower())


_ELEMENTS = frozenset({"Type", "Properties", "OverrideSettings", "DependsOn"})
# PackageVersions is for AWS's software package catalog, which this server does not have: accepted without effect.
_THING = frozenset({"ThingName", "AttributePayload", "ThingTypeName", "ThingGroups", "BillingGroup", "PackageVersions"})
_SOURCES = ("CertificateId", "CertificateSigningRequest", "CertificatePem")
_CERTIFICATE = frozenset({*_SOURCES, "CACertificatePem", "Status", "ThingPrincipalType"})
_POLICY = frozenset({"PolicyName", "PolicyDocument"})
_EXCLUSIVE = {"EXCLUSIVE_THING": True, "NON_EXCLUSIVE_THING": False}

_REPLACEABLE = frozenset({Override.DO_NOTHING, Override.REPLACE, Override.FAIL})
_MERGEABLE = frozenset(Override)
_THING_OVERRIDES = {
    "AttributePayload": _MERGEABLE,
    "ThingTypeName": _REPLACEABLE,
    "ThingGroups": _MERGEABLE,
    "BillingGroup": _REPLACEABLE,
}
# AWS's developer guide lists these spellings, but its examples use the others.
_ALIASES = {
    "ATTRIBUTE_PAYLOAD": "AttributePayload",
    "THING_TYPE_NAME": "ThingTypeName",
    "THING_GROUPS": "ThingGroups",
}


class Planned(NamedTuple):
    """``reference`` is the value of a Ref to the resource; None for a certificate that does not exist yet."""

    plan: ThingPlan | CertificatePlan | PolicyPlan
    reference: Value | None


@dataclass(frozen=True, slots=True, eq=False)
class Resource(ABC):
    """``properties`` is JSON with expressions in it; ``after`` lists the resources in its DependsOn."""

    logical_id: str
    properties: Mapping[str, Any]
    overrides: Mapping[str, Override]
    after: tuple[str, ...]

    @abstractmethod
    def plan(self, scope: Scope) -> Planned:
        """Return the resource's part of the plan. Raises InvalidParameters, and Invalid for a property's value."""

    def references(self) -> Iterator[str]:
        return references_in(self.properties)

    def _text(self, name: str, scope: Scope) -> str | None:
        expression: Text | None = self.properties.get(name)
        return None if expression is None else str(expression.text(scope))


@dataclass(frozen=True, slots=True, eq=False)
class ThingResource(Resource):
    def plan(self, scope: Scope) -> Planned:
        attributes, groups = self.properties.get("AttributePayload"), self.properties.get("ThingGroups")
        name: Value = self.properties["ThingName"].text(scope)
        plan = ThingPlan(
            logical_id=self.logical_id,
            name=_checked_name(str(name), "ThingName"),
            type=self._name("ThingTypeName", scope),
            attributes=None
            if attributes is None
            else _checked_attributes(texts_of(attributes, scope), "AttributePayload"),
            groups=None
            if groups is None
            else tuple(
                _checked_name(group, "ThingGroups") for group in dict.fromkeys(map(str, groups.texts(scope).items))
            ),
            billing_group=self._name("BillingGroup", scope),
            overrides=ThingOverrides(
                attributes=self.overrides.get("AttributePayload"),
                type=self.overrides.get("ThingTypeName"),
                groups=self.overrides.get("ThingGroups"),
                billing_group=self.overrides.get("BillingGroup"),
            ),
        )
        return Planned(plan, name)

    def _name(self, name: str, scope: Scope) -> str | None:
        value = self._text(name, scope)
        return None if value is None else _checked_name(value, name)


@dataclass(frozen=True, slots=True, eq=False)
class CertificateResource(Resource):
    def check_source(self, *, provisioned: bool) -> None:
        """Raise InvalidTemplate unless the resource names one certificate.

        With ``provisioned``, it must be the certificate that is being provisioned.
        """
        if provisioned and self.properties.get("CertificateId") != Ref(CERTIFICATE_ID):
            raise InvalidTemplate(f"CertificateId must contain a reference to {CERTIFICATE_ID}")
        if sum(source in self.properties for source in _SOURCES) != 1:
            raise InvalidTemplate(f"A certificate resource must specify one of {', '.join(_SOURCES)}")

    def plan(self, scope: Scope) -> Planned:
        stated = self._text("Status", scope)
        status = _status_of("ACTIVE" if stated is None else stated)  # AWS's guide: "Defaults to ACTIVE"
        if status is None:
            raise Invalid("Status", "must be Active or Inactive")
        kind = self._text("ThingPrincipalType", scope) or "NON_EXCLUSIVE_THING"
        if kind not in _EXCLUSIVE:
            raise Invalid("ThingPrincipalType", f"must be one of {', '.join(_EXCLUSIVE)}")
        override = self.overrides.get("Status")
        source = self._source(scope)
        # A fingerprint has letters and digits only, so it is safe in a policy, as authored text is.
        name = authored(source.fingerprint) if isinstance(source, Registered) else None
        plan = CertificatePlan(self.logical_id, source, status, override, _EXCLUSIVE[kind], stated is not None)
        return Planned(plan, name)

    def _source(self, scope: Scope) -> Registered | FromCsr | FromPem:
        id = self._text("CertificateId", scope)
        if id is not None:
            return Registered(parse_fingerprint(id, "CertificateId"))
        csr = self._text("CertificateSigningRequest", scope)
        if csr is not None:
            return FromCsr(csr)
        pem = str(self.properties["CertificatePem"].text(scope))
        return FromPem(pem, self._text("CACertificatePem", scope))


@dataclass(frozen=True, slots=True, eq=False)
class PolicyResource(Resource):
    def plan(self, scope: Scope) -> Planned:
        if "PolicyName" in self.properties:
            name: Value = self.properties["PolicyName"].text(scope)
            return Planned(PolicyPlan(self.logical_id, _checked_policy_name(str(name), "PolicyName"), None), name)
        document = write_document(evaluate(self.properties["PolicyDocument"], scope))
        # AWS's guide: the name "defaults to a hash of the policy document".
        digest = hashlib.sha256(document.encode()).hexdigest()
        return Planned(PolicyPlan(self.logical_id, digest, document), authored(digest))


def read_resource(logical_id: str, given: object, path: str) -> Resource:
    """Return the parsed resource. Raises InvalidTemplate."""
    resource = entries(given, path)
    _check_known(resource, _ELEMENTS, path)
    kind = resource.get("Type")
    if not isinstance(kind, str) or kind not in _READERS:
        raise InvalidTemplate(f"{path}.Type must be one of {', '.join(_READERS)}")
    if resource.get("Properties") is None:
        raise InvalidTemplate("Properties of a resource cannot be null.")
    make, known, read_properties, overridable = _READERS[kind]
    inner = f"{path}.Properties"
    properties = entries(resource["Properties"], inner)
    _check_known(properties, known, inner)
    made: Resource = make(
        logical_id,
        read_properties(properties, inner),
        _overrides(resource.get("OverrideSettings"), overridable, f"{path}.OverrideSettings"),
        _names(resource.get("DependsOn"), f"{path}.DependsOn"),
    )
    return made


def _check_known(given: Mapping[str, Any], known: Collection[str], path: str) -> None:
    if any(name not in known for name in given):
        raise InvalidTemplate(f"{path} must have no other elements than {', '.join(sorted(known))}")


def _thing(given: Mapping[str, Any], path: str) -> dict[str, Any]:
    if "ThingName" not in given:
        raise InvalidTemplate("A thing resource must specify a ThingName")
    out: dict[str, Any] = {}
    for name, value in given.items():
        inner = inside(path, name)
        if name == "AttributePayload":
            out[name] = {key: read_text(item, inside(inner, key)) for key, item in entries(value, inner).items()}
        elif name == "ThingGroups":
            out[name] = read_texts(value, inner)
        elif name != "PackageVersions":
            out[name] = read_text(value, inner)
    return out


def _certificate(given: Mapping[str, Any], path: str) -> dict[str, Any]:
    if "CACertificatePem" in given and "CertificatePem" not in given:
        raise InvalidTemplate("CACertificatePem is only of use with CertificatePem")
    properties = {name: read_text(value, inside(path, name)) for name, value in given.items()}
    status = properties.get("Status")
    if isinstance(status, Literal) and _status_of(status.value) is None:
        raise InvalidTemplate(STATUS_FLAW)
    return properties


def _policy(given: Mapping[str, Any], path: str) -> dict[str, Any]:
    if len(given) != 1:
        raise InvalidTemplate("Policy resources must define one property: PolicyName or PolicyDocument")
    if "PolicyName" in given:
        return {"PolicyName": read_text(given["PolicyName"], f"{path}.PolicyName")}
    document = given["PolicyDocument"]
    if not isinstance(document, str | dict) or not document:
        raise InvalidTemplate(f"{path}.PolicyDocument must be an object, or the text of one")
    return {"PolicyDocument": read_tree(document, f"{path}.PolicyDocument")}


def _overrides(given: object, overridable: Mapping[str, Collection[Override]], path: str) -> dict[str, Override]:
    if given is None:
        return {}
    out: dict[str, Override] = {}
    for name, value in entries(given, path).items():
        allowed = overridable.get(_ALIASES.get(name, name), ())
        if not allowed:
            raise InvalidTemplate(f"{inside(path, name)} is not a property that can be overridden")
        if not isinstance(value, str) or value not in allowed:
            raise InvalidTemplate(f"{inside(path, name)} must be one of {', '.join(sorted(allowed))}")
        out[_ALIASES.get(name, name)] = Override(value)
    return out


def _names(given: object, path: str) -> tuple[str, ...]:
    names = [given] if isinstance(given, str) else given or []
    if not isinstance(names, list) or any(not isinstance(name, str) for name in names):
        raise InvalidTemplate(f"{path} must be a resource's name, or a list of such names")
    return tuple(names)


_READERS: Mapping[str, tuple[Any, Collection[str], Any, Mapping[str, Collection[Override]]]] = {
    "AWS::IoT::Thing": (ThingResource, _THING, _thing, _THING_OVERRIDES),
    "AWS::IoT::Certificate": (CertificateResource, _CERTIFICATE, _certificate, {"Status": _REPLACEABLE}),
    "AWS::IoT::Policy": (PolicyResource, _POLICY, _policy, {}),
}
