"""Parses a template's body to a Template, and resolves a Template with parameters to a Plan."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from thingmint.domain.errors import InvalidParameters, InvalidTemplate
from thingmint.domain.templates.documents import entries, inside, is_storable, load_document
from thingmint.domain.templates.expressions import read_literal, read_text, texts_of
from thingmint.domain.templates.plan import CertificatePlan, Plan, PolicyPlan, ThingPlan
from thingmint.domain.templates.resources import CertificateResource, PolicyResource, ThingResource, read_resource
from thingmint.domain.templates.subjects import PSEUDO_PREFIX
from thingmint.domain.templates.values import authored, from_parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.domain.templates.expressions import Text
    from thingmint.domain.templates.resources import Resource
    from thingmint.domain.templates.values import Value


# Characters that all functions of one resolution may return together. With the cost of pieces, this is some 10 ms.
_BUDGET = 262_144

_Mappings = dict[str, dict[str, dict[str, str | tuple[str, ...]]]]


class Kind(StrEnum):
    """Who uses the template. The values of the first two are AWS IoT's TemplateType."""

    FLEET = "FLEET_PROVISIONING"  # devices with a claim certificate
    JITP = "JITP"  # devices with a certificate of a registered CA, when they connect for the first time
    BULK = "BULK"  # callers of RegisterThing or StartThingRegistrationTask


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A parsed template. ``parameters`` are the declared ones and their defaults.

    ``resources`` are in the order of their references: each comes after the resources that it refers to.
    """

    kind: Kind
    parameters: Mapping[str, str | None]
    mappings: _Mappings
    resources: tuple[Resource, ...]
    device_configuration: Mapping[str, Text]

    def resolve(self, parameters: Mapping[str, str], context: Mapping[str, str]) -> Plan:
        """Return the plan for a device.

        ``context`` has the values that this server sets (AWS::IoT::Certificate::Id and others), by name. Only with the
        kind BULK, whose callers are trusted, can ``parameters`` give such a value too.

        Raises InvalidParameters if a reference or a function has no value. Raises Invalid, with the property's name as
        its field, if a property's value is not allowed.
        """
        scope = _Resolution(self, parameters, context)
        if self.kind is Kind.JITP:
            # AWS's guide: provisioning fails if the certificate lacks any of the declared properties.
            for name in self.parameters:
                if name.startswith(PSEUDO_PREFIX):
                    scope.value_of(name)
        things, certificates, policies = [], [], []
        for resource in self.resources:
            planned, reference = resource.plan(scope)
            scope.resources[resource.logical_id] = reference
            match planned:
                case ThingPlan():
                    things.append(planned)
                case CertificatePlan():
                    certificates.append(planned)
                case PolicyPlan():
                    policies.append(planned)
        return Plan(
            thing=things[0] if things else None,
            certificate=certificates[0] if certificates else None,
            policies=tuple(policies),
            device_configuration=texts_of(self.device_configuration, scope),
            callers=self.kind is Kind.BULK,
        )


class _Resolution:
    """The Scope of one resolution: the values of names. ``resources`` are the references planned so far."""

    def __init__(self, template: Template, parameters: Mapping[str, str], context: Mapping[str, str]) -> None:
        self.resources: dict[str, Value | None] = {}
        self._template = template
        self._parameters = parameters
        self._context = context
        self._budget = _BUDGET

    def value_of(self, name: str) -> Value:
        value = self._lookup(name)
        if value is None:
            raise InvalidParameters(f"Cannot resolve reference value: {name}")
        return value

    def find(self, mapping: str, key: str, name: str) -> str | tuple[str, ...]:
        found = self._template.mappings.get(mapping, {}).get(key, {}).get(name)
        if found is None:
            raise InvalidParameters("Cannot resolve Fn::FindInMap: Mappings has no value for its keys")
        return found

    def spend(self, cost: int) -> None:
        self._budget -= cost
        if self._budget < 0:
            raise InvalidParameters(f"Cannot resolve the template: it grows beyond {_BUDGET} characters")

    def _lookup(self, name: str) -> Value | None:
        if name.startswith(PSEUDO_PREFIX) and (self._template.kind is not Kind.BULK or name in self._context):
            return self._checked(name, self._context.get(name))
        if name not in self._template.parameters:
            return self.resources.get(name)
        given, default = self._parameters.get(name), self._template.parameters[name]
        return authored(default) if given is None and default is not None else self._checked(name, given)

    def _checked(self, name: str, value: object) -> Value | None:
        if value is None:
            return None
        if not isinstance(value, str) or not is_storable(value):
            raise InvalidParameters(f"The value of {name} must be text without NUL")
        return from_parameter(name, value)


def parse_template(text: str, kind: Kind) -> Template:
    """Return the parsed template. Raises InvalidTemplate."""
    document = load_document(text)
    parameters = _parameters(document.get("Parameters"))
    resources = {
        logical_id: read_resource(logical_id, given, inside("Resources", logical_id))
        for logical_id, given in entries(_section(document, "Resources"), "Resources").items()
    }
    things = [resource for resource in resources.values() if isinstance(resource, ThingResource)]
    certificates = [resource for resource in resources.values() if isinstance(resource, CertificateResource)]
    if len(things) > 1:
        raise InvalidTemplate("Only one thing resource can be defined")
    if len(certificates) > 1:
        raise InvalidTemplate("Only one certificate resource can be defined")
    if kind is not Kind.BULK and not certificates:
        raise InvalidTemplate("Template must have certificate resource.")
    if not resources:
        raise InvalidTemplate("Template must have resources.")
    for certificate in certificates:
        certificate.check_source(provisioned=kind is not Kind.BULK)
    return Template(
        kind=kind,
        parameters=parameters,
        mappings=_mappings(_section(document, "Mappings")),
        resources=_in_order(resources, parameters),
        device_configuration=_device_configuration(_section(document, "DeviceConfiguration")),
    )


def declared_parameters(text: str) -> Mapping[str, str | None]:
    """Return the parameters of a valid template and their defaults, without parsing its resources."""
    return _parameters(load_document(text).get("Parameters"))


def _section(document: Mapping[str, Any], name: str) -> object:
    """Return a section of the template; empty if it is missing or null."""
    given = document.get(name)
    return {} if given is None else given


def _parameters(given: object) -> dict[str, str | None]:
    out: dict[str, str | None] = {}
    for name, declared in entries({} if given is None else given, "Parameters").items():
        path = inside("Parameters", name)
        declaration = entries(declared, path)
        if declaration.get("Type") != "String":
            raise InvalidTemplate(f"{path}.Type must be String")
        default = declaration.get("Default")
        out[name] = read_literal(default)
        if default is not None and out[name] is None:
            raise InvalidTemplate(f"{path}.Default must be text")
    return out


def _mappings(given: object) -> _Mappings:
    out: _Mappings = {}
    for name, mapping in entries(given, "Mappings").items():
        path = inside("Mappings", name)
        out[name] = {
            key: {inner: _mapped(value, path) for inner, value in entries(values, path).items()}
            for key, values in entries(mapping, path).items()
        }
    return out


def _mapped(value: object, path: str) -> str | tuple[str, ...]:
    literal = read_literal(value)
    if literal is not None:
        return literal
    items = [read_literal(item) for item in value] if isinstance(value, list) else [None]
    if None in items:
        raise InvalidTemplate(f"{path} must have texts or lists of texts, and no functions")
    return tuple(item for item in items if item is not None)


def _device_configuration(given: object) -> dict[str, Text]:
    return {
        name: read_text(value, inside("DeviceConfiguration", name))
        for name, value in entries(given, "DeviceConfiguration").items()
    }


def _in_order(resources: Mapping[str, Resource], parameters: Mapping[str, Any]) -> tuple[Resource, ...]:
    """Return the resources, each after those that it refers to or depends on.

    In this order, resolving a long chain of references needs no deep recursion.
    """
    waiting: dict[str, set[str]] = {}
    for logical_id, resource in resources.items():
        if any(name not in resources for name in resource.after):
            raise InvalidTemplate(f"{inside('Resources', logical_id)}.DependsOn must name resources of the template")
        referred = (name for name in resource.references() if name in resources and name not in parameters)
        waiting[logical_id] = {*referred, *resource.after}
    order: list[Resource] = []
    while waiting:
        ready = [logical_id for logical_id, others in waiting.items() if not others & waiting.keys()]
        if not ready:
            raise InvalidTemplate("Resources must not depend on each other in a circle")
        for logical_id in ready:
            del waiting[logical_id]
        # Policies first: a value that is invalid both in a policy and as a thing's name then gets the policy's error.
        order += sorted((resources[one] for one in ready), key=lambda one: not isinstance(one, PolicyResource))
    return tuple(order)
