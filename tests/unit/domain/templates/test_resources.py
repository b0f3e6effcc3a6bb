"""The resources of templates: things, certificates and policies in the plan, and invalid ones."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.tables import each_row
from tests.unit.domain.templates.helpers import CERTIFICATE, ID, resolve, resource, template, thing
from thingmint.domain.errors import Invalid, InvalidParameters, InvalidTemplate
from thingmint.domain.status import Status
from thingmint.domain.templates import (
    CertificatePlan,
    FromCsr,
    FromPem,
    Kind,
    Override,
    PolicyPlan,
    Registered,
    ThingOverrides,
    ThingPlan,
    parse_template,
)

_REF = {"Ref": "SerialNumber"}
_DOCUMENT = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["iot:*"], "Resource": "*"}]}


def test_a_complete_template() -> None:
    made = template(
        {
            "thing": thing(
                {"Fn::Join": ["_", ["lamp", _REF]]},
                AttributePayload={"version": "v1", "serialNumber": _REF},
                ThingTypeName="lamps",
                ThingGroups=["v1-lamps", {"Ref": "Location"}, "v1-lamps"],
                BillingGroup="bills",
                PackageVersions="a:1",
                overrides={"AttributePayload": "MERGE", "ThingTypeName": "REPLACE", "THING_GROUPS": "DO_NOTHING"},
            ),
            "policy": resource("Policy", {"PolicyName": {"Fn::Sub": "for-${thing}"}}),
        },
        parameters={"Location": {"Type": "String", "Default": "WA"}},
        DeviceConfiguration={"Url": "https://example.com"},
    )
    assert made.parameters == {"SerialNumber": None, "Location": "WA"}
    plan = resolve(made, {"SerialNumber": "7", "Else": "ignored"})
    assert plan.thing == ThingPlan(
        "thing",
        "lamp_7",
        "lamps",
        {"version": "v1", "serialNumber": "7"},
        ("v1-lamps", "WA"),
        "bills",
        ThingOverrides(Override.MERGE, Override.REPLACE, Override.DO_NOTHING, None),
    )
    certificate = CertificatePlan("certificate", Registered(ID), Status.ACTIVE, None, exclusive=False, stated=True)
    assert plan.certificate == certificate
    assert plan.policies == (PolicyPlan("policy", "for-lamp_7", None),)
    assert plan.device_configuration == {"Url": "https://example.com"}
    assert resolve(made, {"SerialNumber": "7", "Location": "OR"}).thing != plan.thing


def test_a_minimal_template() -> None:
    plan = resolve(template(DeviceConfiguration=None, Mappings=None))
    assert (plan.thing, plan.policies, plan.device_configuration) == (None, (), {})
    bare = resolve(template({"thing": thing()})).thing
    assert bare == ThingPlan("thing", "lamp", None, None, None, None, ThingOverrides())
    assert resolve(template({"thing": thing(AttributePayload={}, ThingGroups=[])})).thing == ThingPlan(
        "thing", "lamp", None, {}, (), None, ThingOverrides()
    )


# -- certificates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "source"),
    [
        ({"CertificateId": ID.upper()}, Registered(ID)),
        ({"CertificateId": {"Ref": "Id"}}, Registered(ID)),
        ({"CertificateSigningRequest": {"Ref": "SerialNumber"}}, FromCsr("S")),
        ({"CertificatePem": "P"}, FromPem("P", None)),
        ({"CertificatePem": "P", "CACertificatePem": "C"}, FromPem("P", "C")),
    ],
)
def test_sources_of_a_certificate(properties: dict[str, object], source: object) -> None:
    made = template({"c": resource("Certificate", properties)}, kind=Kind.BULK, parameters={"Id": {"Type": "String"}})
    plan = made.resolve({"SerialNumber": "S", "Id": ID}, {})
    assert plan.certificate is not None
    assert plan.certificate.source == source
    assert plan.certificate.status is Status.ACTIVE
    for kind in (Kind.FLEET, Kind.JITP):
        with pytest.raises(InvalidTemplate) as caught:
            template({"certificate": resource("Certificate", properties)}, kind=kind)
        assert caught.value.flaw == "CertificateId must contain a reference to AWS::IoT::Certificate::Id"


def test_a_new_certificate_cannot_be_referenced() -> None:
    resources = {"c": resource("Certificate", {"CertificateSigningRequest": "x"}), "thing": thing({"Ref": "c"})}
    with pytest.raises(InvalidParameters, match="Cannot resolve reference value: c"):
        template(resources, kind=Kind.BULK).resolve({}, {})


@pytest.mark.parametrize("bad", ["", "x", ID[:-1], f"{ID}0"])
def test_invalid_certificate_ids_are_refused(bad: str) -> None:
    made = template({"c": resource("Certificate", {"CertificateId": bad})}, kind=Kind.BULK)
    with pytest.raises(Invalid) as caught:
        made.resolve({}, {})
    assert caught.value.field == "CertificateId"


@pytest.mark.parametrize("written", ["ACTIVE", "Active", "active", "INACTIVE", "Inactive", "iNaCtIvE"])
@pytest.mark.parametrize("as_parameter", [False, True])
def test_the_case_of_a_status_does_not_matter(written: str, *, as_parameter: bool) -> None:
    status = _REF if as_parameter else written
    made = template({"certificate": resource("Certificate", {**CERTIFICATE["Properties"], "Status": status})})  # type: ignore[dict-item]
    plan = resolve(made, {"SerialNumber": written})
    assert plan.certificate is not None
    assert plan.certificate.status is Status(written.upper())


def test_invalid_statuses_are_refused() -> None:
    for bad in ("", "REVOKED", "on", 1, True):
        with pytest.raises(InvalidTemplate) as caught:
            template({"certificate": resource("Certificate", {"CertificateId": _REF, "Status": bad})})
        assert caught.value.flaw == 'A certificate resource must specify a Status of either "Active" or "Inactive"'
    properties = {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": _REF}
    made = template({"certificate": resource("Certificate", properties)})
    with pytest.raises(Invalid, match="Status must be Active or Inactive"):
        resolve(made, {"SerialNumber": "REVOKED"})


@pytest.mark.parametrize(
    ("given", "exclusive"), [("EXCLUSIVE_THING", True), ("NON_EXCLUSIVE_THING", False), ("other", None)]
)
def test_thing_principal_type_decides_if_a_certificate_is_exclusive(given: str, exclusive: bool | None) -> None:
    properties = {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "ThingPrincipalType": given}
    made = template({"certificate": resource("Certificate", properties)})
    if exclusive is None:
        with pytest.raises(Invalid, match="ThingPrincipalType must be one of"):
            resolve(made)
    else:
        certificate = resolve(made).certificate
        assert certificate is not None
        assert certificate.exclusive is exclusive


# -- policies -----------------------------------------------------------------------------------------------------


def test_a_policy_is_named_by_the_hash_of_its_document() -> None:
    text = json.dumps(_DOCUMENT)
    plan = resolve(template({"p": resource("Policy", {"PolicyDocument": text})})).policies[0]
    assert plan == PolicyPlan("p", hashlib.sha256(text.encode()).hexdigest(), text)


def test_a_document_can_be_an_object_with_functions() -> None:
    statement = {
        "Effect": "Allow",
        "Action": {"Fn::Split": [",", "iot:Publish,iot:Receive"]},
        "Resource": {"Fn::Sub": "arn:aws:iot:us-east-1:1:topic/${SerialNumber}/${!iot:ClientId}"},
        "Condition": {"Bool": {"a": True}, "NumericLessThan": {"b": 5, "c": None}},
    }
    made = template({"p": resource("Policy", {"PolicyDocument": {"Statement": [statement]}})})
    (plan,) = resolve(made, {"SerialNumber": "ü"}).policies
    assert plan.document is not None
    assert json.loads(plan.document)["Statement"] == [
        statement
        | {
            "Action": ["iot:Publish", "iot:Receive"],
            "Resource": "arn:aws:iot:us-east-1:1:topic/ü/${iot:ClientId}",
        }
    ]
    assert plan.name == hashlib.sha256(plan.document.encode()).hexdigest()
    assert resolve(made, {"SerialNumber": "7"}).policies[0].name != plan.name


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["", "a/b", "a b", "+", "#", "é", "a\n", "x" * 129, "${iot:ClientId}"])
def test_invalid_names_of_things_types_and_groups_are_refused(bad: str) -> None:
    for field, properties in (
        ("ThingName", {"ThingName": _REF}),
        ("ThingTypeName", {"ThingName": "t", "ThingTypeName": _REF}),
        ("ThingGroups", {"ThingName": "t", "ThingGroups": ["g", _REF]}),
        ("BillingGroup", {"ThingName": "t", "BillingGroup": _REF}),
    ):
        with pytest.raises(Invalid) as caught:
            resolve(template({"thing": resource("Thing", properties)}), {"SerialNumber": bad})
        assert caught.value.field == field
        assert not isinstance(caught.value, InvalidParameters)


@pytest.mark.parametrize("bad", ["", "a/b", "a b", "a:b", "é", "x" * 129])
def test_invalid_policy_names_are_refused(bad: str) -> None:
    with pytest.raises(Invalid, match="PolicyName must be"):
        resolve(template({"p": resource("Policy", {"PolicyName": _REF})}), {"SerialNumber": bad})


@pytest.mark.parametrize(
    ("name", "given"),
    [("a b", "x"), ("a" * 129, "x"), ("a", "b c"), ("a", "x" * 801), ("a", "é"), ("a", "{}")],
)
def test_invalid_attributes_are_refused(name: str, given: str) -> None:
    made = template({"thing": thing(AttributePayload={name: _REF})})
    with pytest.raises(Invalid) as caught:
        resolve(made, {"SerialNumber": given})
    assert caught.value.field == "AttributePayload"


# -- invalid templates --------------------------------------------------------------------------------------------

_ID = {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}}
_NO_DOCUMENTS: list[Any] = ["", {}, [], 1, None, [{"Effect": "Allow"}]]
_OTHERS = (
    "Resources.c.Properties must have no other elements than CACertificatePem, CertificateId, CertificatePem, "
    "CertificateSigningRequest, Status, ThingPrincipalType"
)
_ONE_OF = "A certificate resource must specify one of CertificateId, CertificateSigningRequest, CertificatePem"


@each_row(
    ("resources", "flaw"),
    [
        ({}, "Template must have certificate resource."),
        (None, "Template must have certificate resource."),
        ({"thing": thing()}, "Template must have certificate resource."),
        ({"c": {"Type": "AWS::IoT::Certificate"}}, "Properties of a resource cannot be null."),
        ({"c": resource("Certificate", None)}, "Properties of a resource cannot be null."),
        ({"c": CERTIFICATE, "t": resource("Thing", None)}, "Properties of a resource cannot be null."),
        ({"c": CERTIFICATE, "p": {"Type": "AWS::IoT::Policy"}}, "Properties of a resource cannot be null."),
        ({"c": CERTIFICATE, "d": CERTIFICATE}, "Only one certificate resource can be defined"),
        ({"c": CERTIFICATE, "t": thing(), "u": thing()}, "Only one thing resource can be defined"),
        *(
            (
                {"c": resource("Certificate", {"CertificateId": given, "Status": "Active"})},
                "CertificateId must contain a reference to AWS::IoT::Certificate::Id",
            )
            for given in (ID, {"Ref": "SerialNumber"}, {"Fn::Sub": "${SerialNumber}"})
        ),
        (
            {"c": resource("Certificate", {"Status": "Active"})},
            "CertificateId must contain a reference to AWS::IoT::Certificate::Id",
        ),
        ({"c": resource("Certificate", {**_ID, "CertificateSigningRequest": "x"})}, _ONE_OF),
        (
            {"c": resource("Certificate", {**_ID, "CACertificatePem": "x"})},
            "CACertificatePem is only of use with CertificatePem",
        ),
        ({"c": CERTIFICATE, "t": resource("Thing", {})}, "A thing resource must specify a ThingName"),
        *(
            (
                {"c": CERTIFICATE, "p": resource("Policy", given)},
                "Policy resources must define one property: PolicyName or PolicyDocument",
            )
            for given in (dict[str, str](), {"PolicyName": "a", "PolicyDocument": "b"})
        ),
        *(
            (
                {"c": CERTIFICATE, "p": resource("Policy", {"PolicyDocument": given})},
                "Resources.p.Properties.PolicyDocument must be an object, or the text of one",
            )
            for given in _NO_DOCUMENTS
        ),
        ([], "Resources must be an object"),
        ({"c": []}, "Resources.c must be an object"),
        ({"c": resource("Certificate", [])}, "Resources.c.Properties must be an object"),
        *(
            (
                {"c": {**CERTIFICATE, "Type": given}},
                "Resources.c.Type must be one of AWS::IoT::Thing, AWS::IoT::Certificate, AWS::IoT::Policy",
            )
            for given in (None, 1, list[str](), "AWS::IoT::TopicRule", "aws::iot::certificate")
        ),
        (
            {"c": {**CERTIFICATE, "Condition": "x"}},
            "Resources.c must have no other elements than DependsOn, OverrideSettings, Properties, Type",
        ),
        (
            {"c": resource("Certificate", {**_ID, "Statuss": "Inactive"})},
            _OTHERS,
        ),
        (
            {"c": CERTIFICATE, "a secret\u00e9": resource("Thing", [])},
            "Resources.*.Properties must be an object",
        ),
        (
            {"c": CERTIFICATE, "t": thing(AttributePayload=["a"])},
            "Resources.t.Properties.AttributePayload must be an object",
        ),
        (
            {"c": CERTIFICATE, "t": thing(AttributePayload={"Attributes": {"a": "b"}})},
            "Resources.t.Properties.AttributePayload.Attributes must be text, or a function that gives text",
        ),
        (
            {"c": CERTIFICATE, "t": thing(ThingGroups="g")},
            "Resources.t.Properties.ThingGroups must be a list, or a function that gives one",
        ),
        (
            {"c": CERTIFICATE, "t": thing(None)},
            "Resources.t.Properties.ThingName must be text, or a function that gives text",
        ),
    ],
)
def test_invalid_resources_are_refused(resources: object, flaw: str) -> None:
    with pytest.raises(InvalidTemplate) as caught:
        parse_template(json.dumps({"Resources": resources}), Kind.FLEET)
    assert caught.value.flaw == flaw
    assert str(caught.value) == f"The template body is invalid: {flaw}"


def test_a_template_for_bulk_registration_needs_no_certificate() -> None:
    assert template({"thing": thing()}, kind=Kind.BULK).resolve({}, {}).certificate is None
    with pytest.raises(InvalidTemplate, match="Template must have resources"):
        template(kind=Kind.BULK)
    with pytest.raises(InvalidTemplate) as caught:
        template({"c": resource("Certificate", {})}, kind=Kind.BULK)
    assert caught.value.flaw == _ONE_OF


@pytest.mark.parametrize(
    "parameters",
    [
        [],
        {"a": None},
        {"a": {}},
        {"a": {"Type": "Number"}},
        {"a": {"Type": "String", "Default": []}},
        {"a": {"Type": ["String"]}},
    ],
)
def test_parameters_must_be_of_type_string(parameters: Any) -> None:
    with pytest.raises(InvalidTemplate):
        parse_template(json.dumps({"Parameters": parameters, "Resources": {"c": CERTIFICATE}}), Kind.FLEET)


# -- overrides ----------------------------------------------------------------------------------------------------

_PLAIN = {"DO_NOTHING", "REPLACE", "FAIL"}


@each_row("override", ["DO_NOTHING", "REPLACE", "FAIL", "MERGE", "merge", "", None, [], 1])
@each_row(
    ("property", "kind", "merges"),
    [
        ("AttributePayload", "Thing", True),
        ("ThingGroups", "Thing", True),
        ("ThingTypeName", "Thing", False),
        ("BillingGroup", "Thing", False),
        ("ATTRIBUTE_PAYLOAD", "Thing", True),
        ("THING_TYPE_NAME", "Thing", False),
        ("Status", "Certificate", False),
        ("ThingName", "Thing", None),
        ("Status", "Thing", None),
        ("CertificateId", "Certificate", None),
        ("PolicyName", "Policy", None),
    ],
)
def test_override_settings(property: str, kind: str, merges: bool | None, override: object) -> None:
    resources = {"certificate": CERTIFICATE, "thing": thing(), "policy": resource("Policy", {"PolicyName": "p"})}
    resources[kind.lower()] = {**resources[kind.lower()], "OverrideSettings": {property: override}}
    allowed = set() if merges is None else _PLAIN | {"MERGE"} if merges else _PLAIN
    if not isinstance(override, str) or override not in allowed:
        with pytest.raises(InvalidTemplate):
            template(resources)
        return
    plan = resolve(template(resources))
    assert plan.thing is not None
    assert plan.certificate is not None
    overrides = plan.thing.overrides
    found = {overrides.attributes, overrides.groups, overrides.type, overrides.billing_group}
    assert found | {plan.certificate.status_override} == {None, Override(override)}


# -- order --------------------------------------------------------------------------------------------------------


def test_resources_are_resolved_in_the_order_of_references() -> None:
    resources = {
        "thing": thing({"Ref": "second"}, overrides=None) | {"DependsOn": "first"},
        "second": resource("Policy", {"PolicyName": {"Fn::Sub": "${first}2"}}),
        "first": resource("Policy", {"PolicyName": "p"}, DependsOn=[]),
    }
    plan = resolve(template(resources))
    assert plan.thing is not None
    assert plan.thing.name == "p2"
    assert [policy.name for policy in plan.policies] == ["p", "p2"]


@pytest.mark.parametrize(
    ("changes", "flaw"),
    [
        ({"DependsOn": "thing"}, "Resources must not depend on each other in a circle"),
        ({"DependsOn": ["policy"]}, "Resources must not depend on each other in a circle"),
        ({"DependsOn": "nothing"}, "Resources.thing.DependsOn must name resources of the template"),
        (
            {"DependsOn": ["certificate", "SerialNumber"]},
            "Resources.thing.DependsOn must name resources of the template",
        ),
        ({"DependsOn": 1}, "Resources.thing.DependsOn must be a resource's name, or a list of such names"),
        (
            {"DependsOn": [["certificate"]]},
            "Resources.thing.DependsOn must be a resource's name, or a list of such names",
        ),
        ({"Properties": {"ThingName": {"Ref": "policy"}}}, "Resources must not depend on each other in a circle"),
        ({"Properties": {"ThingName": {"Ref": "thing"}}}, "Resources must not depend on each other in a circle"),
    ],
)
def test_circular_and_unknown_dependencies_are_refused(changes: dict[str, object], flaw: str) -> None:
    resources = {"thing": thing() | changes, "policy": resource("Policy", {"PolicyDocument": {"a": {"Ref": "thing"}}})}
    with pytest.raises(InvalidTemplate) as caught:
        template(resources)
    assert caught.value.flaw == flaw


def test_a_parameter_hides_a_resource_of_the_same_name() -> None:
    made = template({"SerialNumber": thing(_REF)})
    plan = resolve(made, {"SerialNumber": "7"})
    assert plan.thing is not None
    assert plan.thing.name == "7"


def test_a_long_chain_needs_no_deep_recursion() -> None:
    resources: dict[str, object] = {
        f"p{n}": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": {"Ref": f"p{n + 1}"}}} for n in range(110)
    }
    resources["p110"] = resource("Policy", {"PolicyName": "end"})
    assert {policy.name for policy in resolve(template(resources)).policies} == {"end"}
