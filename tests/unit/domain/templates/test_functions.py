"""The values of every function, and malformed calls."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tables import each_row
from tests.unit.domain.templates.helpers import ID, resolve, template, thing, value
from thingmint.domain.errors import InvalidParameters, InvalidTemplate
from thingmint.domain.templates.expressions import pieces_of

GIVEN = {"SerialNumber": "S-1", "Location": "Seattle"}
MAPPINGS = {
    "Table": {
        "Seattle": {"Url": "https://example.aws", "Groups": ["a", "b"], "Port": 8883, "Secure": True},
        "S-1": {"Url": "x"},
    }
}
REF = {"Ref": "SerialNumber"}


@each_row(
    ("expression", "expected"),
    [
        ("plain ${SerialNumber}", "plain ${SerialNumber}"),
        ("", ""),
        (8883, "8883"),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        (REF, "S-1"),
        ({"Ref": "AWS::IoT::Certificate::Id"}, ID),
        ({"Ref": "certificate"}, ID),
        ({"Ref": "thing"}, "lamp"),
        ({"Fn::Join": ["-", ["a", REF, "c"]]}, "a-S-1-c"),
        ({"Fn::Join": ["", ["a", "b"]]}, "ab"),
        ({"Fn::Join": ["-", ["a"]]}, "a"),
        ({"Fn::Join": ["-", []]}, ""),
        ({"Fn::Join": ["-", {"Fn::Split": [",", "a,b"]}]}, "a-b"),
        ({"Fn::Select": [0, ["a", "b"]]}, "a"),
        ({"Fn::Select": ["1", ["a", REF]]}, "S-1"),
        ({"Fn::Select": [1, {"Fn::Split": ["-", REF]}]}, "1"),
        ({"Fn::Select": [REF, ["a"]]}, None),
        ({"Fn::Select": [1, {"Fn::FindInMap": ["Table", "Seattle", "Groups"]}]}, "b"),
        ({"Fn::FindInMap": ["Table", {"Ref": "Location"}, "Url"]}, "https://example.aws"),
        ({"Fn::FindInMap": ["Table", REF, "Url"]}, "x"),
        ({"Fn::FindInMap": ["Table", "Seattle", "Port"]}, "8883"),
        ({"Fn::FindInMap": ["Table", "Seattle", "Secure"]}, "true"),
        ({"Fn::Sub": "a/${SerialNumber}/${Location}"}, "a/S-1/Seattle"),
        ({"Fn::Sub": "${SerialNumber}${SerialNumber}"}, "S-1S-1"),
        ({"Fn::Sub": "${thing} ${AWS::IoT::Certificate::Id}"}, f"lamp {ID}"),
        ({"Fn::Sub": "no variables, $ { } ${ at all"}, "no variables, $ { } ${ at all"),
        ({"Fn::Sub": "${!iot:ClientId} ${SerialNumber}"}, "${iot:ClientId} S-1"),
        ({"Fn::Sub": ["${own}${SerialNumber}", {"own": {"Fn::Join": ["+", ["a", "b"]]}}]}, "a+bS-1"),
        ({"Fn::Sub": ["${SerialNumber}", {"SerialNumber": "own"}]}, "own"),
        ({"Fn::Sub": ["", {}]}, ""),
    ],
)
def test_functions_return_their_values(expression: object, expected: str | None) -> None:
    made = template({"thing": thing()}, Mappings=MAPPINGS, DeviceConfiguration={"it": expression})
    if expected is None:
        with pytest.raises(InvalidParameters):
            resolve(made, GIVEN)
    else:
        assert resolve(made, GIVEN).device_configuration == {"it": expected}


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ({"Ref": "Location"}, "Cannot resolve reference value: Location"),
        ({"Ref": "Undeclared"}, "Cannot resolve reference value: Undeclared"),
        ({"Ref": "AWS::Region"}, "Cannot resolve reference value: AWS::Region"),
        ({"Fn::Sub": "${Location}"}, "Cannot resolve reference value: Location"),
        ({"Fn::Sub": "${certificate.Arn}"}, "Cannot resolve reference value: certificate.Arn"),
        ({"Fn::Select": [2, ["a", "b"]]}, "Cannot resolve Fn::Select: its list has no item at that index"),
        ({"Fn::Select": [-1, ["a", "b"]]}, "Cannot resolve Fn::Select: its list has no item at that index"),
        ({"Fn::Select": ["9" * 5000, ["a"]]}, "Cannot resolve Fn::Select: its list has no item at that index"),
        ({"Fn::Select": ["²", ["a", "b", "c"]]}, "Cannot resolve Fn::Select: its list has no item at that index"),
        ({"Fn::Select": [0, []]}, "Cannot resolve Fn::Select: its list has no item at that index"),
        *(
            ({"Fn::FindInMap": keys}, "Cannot resolve Fn::FindInMap: Mappings has no value for its keys")
            for keys in (["None", "Seattle", "Url"], ["Table", "Rome", "Url"], ["Table", "Seattle", "None"])
        ),
        (
            {"Fn::FindInMap": ["Table", "Seattle", "Groups"]},
            "Cannot resolve Fn::FindInMap: it finds a list where text is needed",
        ),
        (
            {"Fn::Join": ["", {"Fn::FindInMap": ["Table", "Seattle", "Url"]}]},
            "Cannot resolve Fn::FindInMap: it finds text where a list is needed",
        ),
    ],
)
def test_functions_without_a_value_are_refused(expression: object, reason: str) -> None:
    with pytest.raises(InvalidParameters) as caught:
        value(expression, {"SerialNumber": "S-1", "Undeclared": "x", "AWS::Region": "x"}, Mappings=MAPPINGS)
    assert str(caught.value) == reason


_NO_SELECTS: list[Any] = [None, "a", [], [0], [0, "a"], [None, []], [[], []], [0, {"a": []}]]
_NO_SUBS: list[Any] = [
    *(None, 1, [], ["a"], ["a", []], [1, {}], [{"Ref": "a"}, {}], ["a", {"": "b"}], ["a", {"b": None}]),
    *("${}", "${" + "x" * 257 + "}", ["${\n}", {}]),
]
_DEEP: Any = "x"
for _ in range(40):
    _DEEP = {"Fn::Join": ["", [_DEEP]]}


@each_row(
    "expression",
    [
        None,
        [],
        ["a"],
        {},
        {"a": "b"},
        {"Ref": "a", "Fn::Sub": "b"},
        {"Fn::GetAtt": ["a", "b"]},
        {"Fn::Split": [",", "a,b"]},
        *({"Ref": bad} for bad in (None, "", 1, list[str](), ["a"], "x" * 257, "a\nb", {"Ref": "a"})),
        *(
            {"Fn::Join": bad}
            for bad in (None, "a", [], ["a"], ["a", "b"], [1, []], ["a", [None]], ["a", [["b"]]], ["a", [], []])
        ),
        *({"Fn::Select": bad} for bad in _NO_SELECTS),
        *({"Fn::Select": [0, {"Fn::Split": bad}]} for bad in (None, [], ["", "a"], [1, "a"], [",", ["a"]], [","])),
        *({"Fn::FindInMap": bad} for bad in (None, "a", [], ["a", "b"], ["a", "b", None], ["a", "b", "c", "d"])),
        *({"Fn::Sub": bad} for bad in _NO_SUBS),
        _DEEP,
    ],
)
def test_malformed_functions_are_refused(expression: object) -> None:
    with pytest.raises(InvalidTemplate):
        value(expression)


@pytest.mark.parametrize(
    "mappings",
    [
        [],
        "a",
        {"a": []},
        {"a": {"b": "c"}},
        {"a": {"b": {"c": None}}},
        {"a": {"b": {"c": {"d": "e"}}}},
        {"a": {"b": {"c": {"Ref": "SerialNumber"}}}},
        {"a": {"b": {"c": [["d"]]}}},
        {"a": {"b": {"c": ["d", None]}}},
        {"a" * 257: {}},
        {"": {}},
    ],
)
def test_mappings_have_two_levels_and_no_functions(mappings: object) -> None:
    with pytest.raises(InvalidTemplate):
        template(Mappings=mappings)


def _doubling(levels: int, width: int) -> object:
    expression: object = "xx"
    for _ in range(levels):
        expression = {"Fn::Sub": ["${a}" * width, {"a": expression}]}
    return expression


def _joining(width: int) -> object:
    expression: object = "xx"
    for _ in range(9):
        expression = {"Fn::Join": ["y" * 60, [expression] + [""] * width]}
    return expression


def test_the_size_of_results_is_limited() -> None:
    assert value(_doubling(8, 2)) == "xx" * 2**8
    assert set(value(_joining(8))) == {"x", "y"}
    for expression in (_doubling(9, 200), _doubling(9, 30)):
        with pytest.raises(InvalidParameters, match="it grows beyond 262144 characters"):
            value(expression)
    # An empty variable has no characters, but still counts, because it takes time.
    assert value({"Fn::Sub": ["${a}" * 200, {"a": {"Fn::Sub": ["${b}" * 200, {"b": ""}]}}]}) == ""


def test_a_long_value_cannot_be_multiplied() -> None:
    made = template(DeviceConfiguration={f"key{n}": {"Ref": "SerialNumber"} for n in range(200)})
    assert len(resolve(made, {"SerialNumber": "x" * 1000}).device_configuration) == 200
    with pytest.raises(InvalidParameters, match="grows beyond"):
        resolve(made, {"SerialNumber": "x" * 2000})
    with pytest.raises(InvalidParameters, match="grows beyond"):
        value({"Fn::Select": [0, {"Fn::Split": [",", {"Ref": "SerialNumber"}]}]}, {"SerialNumber": "," * 200_000})


def test_a_pattern_has_texts_and_names_in_turn() -> None:
    for pattern, expected in (
        ("", [""]),
        ("a${b}c", ["a", "b", "c"]),
        ("${a}${b}", ["", "a", "", "b", ""]),
        ("${}", ["", "", ""]),
        ("${!a}${b}", ["${!a}", "b", ""]),
        ("${!${b}", ["${!", "b", ""]),
        ("${${a}}", ["", "${a", "}"]),
        ("$${a}", ["$", "a", ""]),
        ("a}${b", ["a}${b"]),
        ("${a}${", ["", "a", "${"]),
    ):
        assert pieces_of(pattern) == expected, pattern


class Counted(str):
    """A text that counts the characters which are searched for in it."""

    __slots__ = ("read",)

    def find(self, *given: Any) -> int:
        found = super().find(*given)
        self.read = getattr(self, "read", 0) + (found if found >= 0 else len(self)) - (given[1] if given[1:] else 0)
        return found


@pytest.mark.parametrize("piece", ["${", "${!", "${a}", "${!a}", "$", "${${}"])
def test_a_pattern_is_read_in_linear_time(piece: str) -> None:
    pattern = Counted(piece * 2_000)
    pieces_of(pattern)
    assert pattern.read <= 4 * len(pattern)
