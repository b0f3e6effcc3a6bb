"""A parameter's value either stays a value in a policy's document, whatever its path, or is refused."""

from __future__ import annotations

import functools
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tables import each_row
from tests.unit.domain.templates.helpers import resolve, resource, template, thing
from thingmint.domain.errors import DomainError, InvalidParameters, MalformedPolicy
from thingmint.domain.policies import Kind as PolicyKind
from thingmint.domain.policies import compile_policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.domain.templates import Template

REF = {"Ref": "SerialNumber"}
PLAIN = "SN-0042"
REFUSED = "Parameter SerialNumber cannot be used in a policy"
TOPIC = "arn:aws:iot:us-east-1:1:topic"
BREAKOUT = 'x"},{"Effect":"Allow","Action":"iot:*","Resource":"*"},{"Effect":"Allow","Resource":"arn:b'

# The parts of hostile values: the syntax of JSON, policies and MQTT, and characters that encoders often get wrong.
ATOMS = [
    *('"', "\\", "/", "{", "}", "[", "]", ",", ":", "*", "?", "$", "+", "#", "'", "%", "<", "\n", "\r", "\t", "\b"),
    *("\x00", "\x1b", "\x7f", "\x85", "\u2028", "\ufeff", "\ud800", "\udbff", "\udc00", "\U0001f512", "\u202e", "é"),
    *(
        '\\"',
        "\\\\",
        "\\u0022",
        "\\u002a",
        "u0022",
        "${iot:ClientId}",
        "${",
        "${*}",
        "$aws",
        "','",
        "}]",
        "\ud8000\udbff",
    ),
    *("true", "null", "1", "Allow", "Deny", "iot:*", "", " ", "a", PLAIN, '","Effect":"Deny', BREAKOUT),
]


def statement(**elements: object) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "iot:Publish", "Resource": f"{TOPIC}/a", **elements}


def document(**elements: object) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [statement(**elements)]}


WITH_VARIABLE = f"{TOPIC}/${{!iot:ClientId}}/*/${{SerialNumber}}/x"
PLACES: dict[str, dict[str, Any]] = {
    "a resource": document(Resource=f"{TOPIC}/d/${{SerialNumber}}/x"),
    "resources": document(Resource=[WITH_VARIABLE, "${SerialNumber}:a"]),
    "NotResource": document(NotResource="a:${SerialNumber}"),
    "an action": document(Action="iot:${SerialNumber}"),
    "NotAction": document(NotAction=["${SerialNumber}", "iot:Connect"]),
    "a condition": document(Condition={"StringEquals": {"a${SerialNumber}": ["${SerialNumber}", "b", 5, True]}}),
    "a label": {"Id": "${SerialNumber}", **document(Sid="a ${SerialNumber}")},
}


def written(document: object, value: object, *, as_text: bool) -> str:
    """Return the policy of a template: a text with Fn::Sub, or an object with Fn::Sub in place of each string."""
    source = document if isinstance(document, str) else json.dumps(document)
    return _document(_parsed(source, as_text=as_text), value)


@functools.lru_cache(maxsize=64)
def _parsed(document: str, *, as_text: bool) -> Template:
    def with_functions(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: with_functions(inner) for name, inner in node.items()}
        if isinstance(node, list):
            return [with_functions(inner) for inner in node]
        return {"Fn::Sub": node} if isinstance(node, str) else node

    source = {"Fn::Sub": document} if as_text else with_functions(json.loads(document))
    return template({"p": resource("Policy", {"PolicyDocument": source})})


def policy(source: object, value: object = PLAIN, resources: Mapping[str, object] | None = None, **more: Any) -> str:
    return _document(
        template({"p": resource("Policy", {"PolicyDocument": source}), **(resources or {})}, **more), value
    )


def _document(made: Template, value: object) -> str:
    found = resolve(made, {"SerialNumber": value}).policies[-1].document
    assert found is not None
    return found


def substituted(node: Any, value: str) -> Any:
    """Return ``node`` with the value in place and the author's structure, as a JSON parser should read it."""
    if isinstance(node, dict):
        return {substituted(name, value): substituted(inner, value) for name, inner in node.items()}
    if isinstance(node, list):
        return [substituted(inner, value) for inner in node]
    return node.replace("${!", "${").replace("${SerialNumber}", value) if isinstance(node, str) else node


def check_stays_a_value(place: str, value: str, *, as_text: bool) -> None:
    if place == "a condition" and not as_text:
        return  # keys of objects cannot be functions
    wanted = PLACES[place]
    try:
        text = written(wanted, value, as_text=as_text)
    except InvalidParameters:
        special = not frozenset("*?${}+#").isdisjoint(value) and place != "a label"
        assert special or "\0" in value or any("\ud800" <= character <= "\udfff" for character in value)
        return
    assert json.loads(text) == substituted(wanted, value)
    if place != "a label":
        assert frozenset("*?${}+#").isdisjoint(value)


@each_row("place", list(PLACES))
@each_row("as_text", [True, False])
def test_hostile_values_stay_values_or_are_refused(place: str, *, as_text: bool) -> None:
    for atoms in itertools.product(ATOMS, repeat=2 if as_text else 1):  # "" is one of them
        check_stays_a_value(place, "".join(atoms), as_text=as_text)


@given(st.sampled_from(list(PLACES)), st.lists(st.sampled_from(ATOMS) | st.text(max_size=3), max_size=8), st.booleans())
def test_any_value_stays_a_value_or_is_refused(place: str, atoms: list[str], as_text: bool) -> None:
    check_stays_a_value(place, "".join(atoms), as_text=as_text)


@given(st.lists(st.sampled_from(ATOMS), max_size=6))
def test_no_value_adds_statements(atoms: list[str]) -> None:
    """The compiled policy has the author's number of statements, and only the author's patterns."""
    skeleton = document(Resource=f"{TOPIC}/d/${{SerialNumber}}/x")
    try:
        text = written(skeleton, "".join(atoms), as_text=True)
        compiled = compile_policy(text, kind=PolicyKind.DEVICE)
    except DomainError:
        return
    assert [s.effect for s in compiled.statements] == ["Allow"]
    (only,) = json.loads(text)["Statement"]
    assert (only["Action"], only["Resource"]) == ("iot:Publish", f"{TOPIC}/d/{''.join(atoms)}/x")


@each_row("character", list("*?${}+#"))
@each_row("place", [place for place in PLACES if place != "a label"])
def test_wildcards_and_variables_in_values_are_refused(place: str, character: str) -> None:
    for value in (character, f"a{character}b"):
        with pytest.raises(InvalidParameters) as refused:
            written(PLACES[place], value, as_text=True)
        assert str(refused.value) == REFUSED


def test_a_plain_value_leaves_the_authors_text_unchanged() -> None:
    """The name of the policy is a hash of the text."""
    text = json.dumps(document(Resource=f"{TOPIC}/d/${{SerialNumber}}"), indent=3) + "\n"
    assert written(text, "ü/ä:0", as_text=True) == text.replace("${SerialNumber}", "ü/ä:0")


@each_row(
    "skeleton",
    {
        "an effect": json.dumps(document(Effect="${SerialNumber}")),
        "part of an effect": json.dumps(document(Effect="Al${SerialNumber}")),
        "the version": json.dumps({**document(), "Version": "${SerialNumber}"}),
        "a statement": '{"Statement": ["${SerialNumber}"]}',
        "the only statement": '{"Statement": "${SerialNumber}"}',
        "a statement without quotes": '{"Statement": [${SerialNumber}]}',
        "the document": '"${SerialNumber}"',
        "the document without quotes": "${SerialNumber}",
        "an item of a list": json.dumps(document(Resource=["a:b"])).replace('"a:b"', "${SerialNumber}"),
        "after an item": json.dumps(document(Resource=["a:b"])).replace('"a:b"', '"a:b" ${SerialNumber}'),
        "an element's name": json.dumps(document(**{"${SerialNumber}": "a:b"})),
        "an element's name in the document": json.dumps({**document(), "${SerialNumber}": []}),
        "a condition operator": json.dumps(document(Condition={"${SerialNumber}": {"a": "b"}})),
        "a condition": json.dumps(document(Condition="${SerialNumber}")),
        "the keys of a condition": json.dumps(document(Condition={"StringEquals": "${SerialNumber}"})),
        "a number": json.dumps(document(Condition={"NumericEquals": {"a": 7}})).replace("7", "${SerialNumber}"),
        "in an object in place of a value": json.dumps(document(Resource={"a": "${SerialNumber}"})),
        "a principal": json.dumps(document(Principal={"AWS": "${SerialNumber}"})),
        "a policy variable": json.dumps(document(Resource="a:${!iot:${SerialNumber}}")),
        "a policy variable's attribute": json.dumps(document(Resource="a:${!iot:b[${SerialNumber}]}/c")),
        "after the document": json.dumps(document()) + "${SerialNumber}",
    },
)
def test_parameters_outside_of_values_are_refused(skeleton: str) -> None:
    for value in (PLAIN, "Allow", "Deny", "2012-10-17", "1", "null", "StringEquals", "{}", '"a:b"', ', "*"'):
        with pytest.raises(InvalidParameters) as refused:
            written(skeleton, value, as_text=True)
        assert str(refused.value) == REFUSED


@each_row(
    "skeleton", [r'{"a": "\${SerialNumber}"}', r'{"a": "\u00${SerialNumber}"}', r'{"a": "\ud83d\u${SerialNumber}"}']
)
def test_no_value_completes_an_escape(skeleton: str) -> None:
    for value in ("n", '"', "2a", "0022", "dd12"):
        with pytest.raises(MalformedPolicy):
            written(skeleton, value, as_text=True)


def test_parameters_outside_of_values_are_refused_in_objects() -> None:
    for bad in (
        document(Effect=REF),
        {**document(), "Version": REF},
        {"Statement": [REF]},
        {"Statement": REF},
        {"Statement": {"Fn::Split": [",", REF]}},
        document(Condition=REF),
        document(Condition={"StringEquals": REF}),
        document(Resource={"a": [REF, "b"]}),
        document(Unknown=REF),
    ):
        with pytest.raises(InvalidParameters, match=REFUSED):
            policy(bad, "Allow")


THROUGH: dict[str, Any] = {
    "Ref": REF,
    "Fn::Sub": {"Fn::Sub": "${SerialNumber}"},
    "its variable": {"Fn::Sub": ["${own}", {"own": {"Fn::Join": ["", ["", REF]]}}]},
    "Fn::Join": {"Fn::Join": ["", ["a:", REF]]},
    "Fn::Select": {"Fn::Select": [1, ["a", REF]]},
    "Fn::Split": {"Fn::Select": [0, {"Fn::Split": [";", REF]}]},
    "the name of a thing": {"Ref": "thing"},
    "the name of a policy": {"Fn::Sub": "${named}"},
}


@each_row("through", list(THROUGH))
@each_row("as_text", [True, False])
def test_parameters_are_tracked_through_functions(through: str, *, as_text: bool) -> None:
    expression = THROUGH[through]
    before, after = json.dumps(document(Resource=["@"])).split("@")
    made = {"Fn::Join": ["", [f"{before}a:", expression, after]]} if as_text else document(Resource=[expression])
    resources = {"named": resource("Policy", {"PolicyName": REF})} if "policy" in through else {}
    resources |= {"thing": thing(REF)} if "thing" in through else {}
    assert PLAIN in policy(made, resources=resources)
    # A thing's name cannot have any of the special characters, and a policy's name only one of them.
    effect = json.dumps(document(Effect="@")).replace("@", "${it}")
    with pytest.raises(InvalidParameters, match=REFUSED):
        policy({"Fn::Sub": [effect, {"it": expression}]}, "Allow", resources=resources)
    if "thing" not in through:
        with pytest.raises(InvalidParameters, match=REFUSED):
            policy(made, "a+b", resources=resources)


def test_a_parameter_cannot_decide_the_number_of_values() -> None:
    parts = {"Fn::Split": [",", {"Fn::Sub": f"{TOPIC}/d/${{SerialNumber}}"}]}
    assert json.loads(policy(document(Resource=parts)))["Statement"][0]["Resource"] == [f"{TOPIC}/d/{PLAIN}"]
    with pytest.raises(InvalidParameters, match=REFUSED):
        policy(document(Resource=parts), f"a,{TOPIC}/admin")
    # In a text, the delimiters of Fn::Join then count as the parameter's text.
    joined = {"Fn::Join": ['","', {"Fn::Split": [",", REF]}]}
    text = json.dumps(document(Resource=["@"])).replace("@", "a:${it}")
    assert json.loads(policy({"Fn::Sub": [text, {"it": joined}]}, "b,c")) == document(Resource=['a:b","c'])
    with pytest.raises(InvalidParameters, match=REFUSED):
        policy({"Fn::Sub": [text, {"it": {"Fn::Join": ["*", {"Fn::Split": [",", REF]}]}}]}, "b,c")


def test_the_authors_text_is_not_restricted() -> None:
    mappings = {"Table": {PLAIN: {"Topics": [f"{TOPIC}/*", "b:+"], "Effect": "Deny"}}}
    parameters = {"Pattern": {"Type": "String", "Default": "*"}, "Effect": {"Type": "String", "Default": "Allow"}}
    found = {"Fn::FindInMap": ["Table", REF, "Topics"]}
    text = '{"Statement": [{"Effect": "${Effect}", "Action": ["iot:${Pattern}"], "Resource": [${lists}]}]}'
    lists = {"Fn::Join": [",", ['"${!iot:ClientId}:a"', {"Fn::Sub": ['"${it}"', {"it": {"Fn::Select": [0, found]}}]}]]}
    made = policy({"Fn::Sub": [text, {"lists": lists}]}, Mappings=mappings, parameters=parameters)
    resources = ["${!iot:ClientId}:a", f"{TOPIC}/*"]
    assert json.loads(made)["Statement"] == [{"Effect": "Allow", "Action": ["iot:*"], "Resource": resources}]
    effect = {"Fn::FindInMap": ["Table", REF, "Effect"]}  # the author's text, even if a parameter selects it
    assert json.loads(policy(document(Effect=effect), Mappings=mappings)) == document(Effect="Deny")
    assert json.loads(policy({"Ref": "Whole"}, parameters={"Whole": {"Type": "String", "Default": "{}"}})) == {}


def test_a_devices_value_is_restricted_even_if_the_default_is_not() -> None:
    parameters = {"SerialNumber": {"Type": "String", "Default": "*"}}
    source = document(Resource={"Fn::Sub": "a:${SerialNumber}"})
    made = template({"p": resource("Policy", {"PolicyDocument": source})}, parameters=parameters)
    assert json.loads(resolve(made).policies[0].document or "") == document(Resource="a:*")
    with pytest.raises(InvalidParameters, match=REFUSED):
        resolve(made, {"SerialNumber": "*"})


def test_invalid_documents_are_malformed() -> None:
    for bad in ('{"a": "${SerialNumber}"', '{"a": "${SerialNumber}", "a": "b"}', "[" * 5000 + '"${SerialNumber}"'):
        with pytest.raises(MalformedPolicy):
            written(bad, PLAIN, as_text=True)


def test_marks_in_the_authors_text_are_not_parameters() -> None:
    marks = [rf"\ud800{number}\udbff" for number in (0, 1, 2, 99999)]
    text = json.dumps(document(Resource=["@"])).replace("@", f"{'-'.join(marks)}:${{SerialNumber}}")
    assert json.loads(written(text, PLAIN, as_text=True))["Statement"][0]["Resource"][0].endswith(f":{PLAIN}")


def test_many_pieces_count_towards_the_size_limit() -> None:
    text = json.dumps(document(Resource=["${SerialNumber}a" * 500]))
    assert json.loads(written(text, "b", as_text=True)) == document(Resource=["ba" * 500])
    doubled: Any = {"Fn::Sub": "${SerialNumber}a" * 500}
    for _ in range(3):
        doubled = {"Fn::Sub": ["${it}" * 2, {"it": doubled}]}
    for many in ({"Fn::Join": ["", [doubled]]}, {"Fn::Select": [0, {"Fn::Split": [",", REF]}]}):
        with pytest.raises(InvalidParameters, match="grows beyond"):
            policy(document(Resource=[many]), "," * 5000)
