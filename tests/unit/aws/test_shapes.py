from __future__ import annotations

import sys
import time
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.tables import each_row
from thingmint.aws.contract.decoding import InputCompiler, load_body
from thingmint.aws.contract.encoding import OutputCompiler
from thingmint.aws.contract.scalars import compile_pattern, is_superlinear, scalar_decoder
from thingmint.aws.contract.violations import Violations

SHAPES: dict[str, dict[str, Any]] = {
    "String": {"type": "string"},
    "Name": {"type": "string", "min": 2, "max": 4, "pattern": "[a-z]+"},
    "Version": {"type": "string", "pattern": "^[1-9]+.[0-9]+"},
    "Status": {"type": "string", "enum": ["ACTIVE", "INACTIVE"]},
    "Many": {"type": "string", "enum": [f"V{number}" for number in range(20)]},
    "Flag": {"type": "boolean"},
    "Integer": {"type": "integer"},
    "Long": {"type": "long"},
    "Page": {"type": "integer", "min": 1, "max": 250},
    "Double": {"type": "double", "min": 1.1, "max": 5},
    "Time": {"type": "timestamp"},
    "Blob": {"type": "blob", "min": 1, "max": 3},
    "Tag": {
        "type": "structure",
        "required": ["Key"],
        "members": {"Key": {"shape": "Name"}, "Value": {"shape": "String", "locationName": "value"}},
    },
    "Tags": {"type": "list", "member": {"shape": "Tag"}, "min": 1, "max": 2},
    "Map": {"type": "map", "key": {"shape": "Name"}, "value": {"shape": "Page"}, "max": 2},
    "FreeMap": {"type": "map", "key": {"shape": "String"}, "value": {"shape": "String"}},
    "Times": {"type": "map", "key": {"shape": "String"}, "value": {"shape": "Time"}},
    "Tree": {
        "type": "structure",
        "members": {"tag": {"shape": "Tag"}, "tree": {"shape": "Tree"}, "forest": {"shape": "Forest"}},
    },
    "Forest": {"type": "list", "member": {"shape": "Tree"}},
    "Strings": {"type": "list", "member": {"shape": "String"}},
    "Result": {
        "type": "structure",
        "members": {
            "name": {"shape": "String", "locationName": "Name"},
            "when": {"shape": "Time"},
            "data": {"shape": "Blob"},
            "tags": {"shape": "Tags"},
            "times": {"shape": "Times"},
            "map": {"shape": "FreeMap"},
            "names": {"shape": "Strings"},
            "tree": {"shape": "Tree"},
            "code": {"shape": "Integer", "location": "statusCode"},
        },
    },
}


def refusals(shape: str, reason: str, *values: object) -> list[tuple[str, object, str, str]]:
    return [(shape, value, "", reason) for value in values]


@pytest.fixture(scope="module")
def compiler() -> InputCompiler:
    return InputCompiler(SHAPES)


@pytest.mark.parametrize(
    ("shape", "value", "decoded"),
    [
        ("String", "", ""),
        ("Name", "ab", "ab"),
        ("Version", "12.3", "12.3"),
        ("Status", "ACTIVE", "ACTIVE"),
        ("Flag", True, True),
        ("Integer", 2**31 - 1, 2**31 - 1),
        ("Integer", -(2**31), -(2**31)),
        ("Long", 2**63 - 1, 2**63 - 1),
        ("Page", 250, 250),
        ("Double", 5, 5.0),
        ("Double", 1.1, 1.1),
        ("Time", 0, datetime(1970, 1, 1, tzinfo=UTC)),
        ("Time", 1.5, datetime(1970, 1, 1, 0, 0, 1, 500000, UTC)),
        ("Time", -1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("Time", "2026-11-21T01:02:03Z", datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)),
        ("Time", "2026-11-21T01:02:03.25+01:00", datetime(2026, 11, 21, 0, 2, 3, 250000, UTC)),
        ("Time", "2026-11-21T01:02:03", datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)),
        ("Time", "86400", datetime(1970, 1, 2, tzinfo=UTC)),
        ("Blob", "AAE=", b"\0\1"),
        ("Tag", {"Key": "ab", "value": None, "unknown": 1}, {"Key": "ab"}),
        ("Tag", {"Key": "ab", "value": "x"}, {"Key": "ab", "Value": "x"}),
        ("Tags", [{"Key": "ab"}], [{"Key": "ab"}]),
        ("Map", {"ab": 1}, {"ab": 1}),
        ("Map", {}, {}),
        ("Tree", {"tree": {"forest": [{}, {"tree": {}}]}}, {"tree": {"forest": [{}, {"tree": {}}]}}),
    ],
)
def test_valid_values_are_decoded(compiler: InputCompiler, shape: str, value: object, decoded: object) -> None:
    result = compiler.decoder(shape)(value)
    assert result == decoded
    assert type(result) is type(decoded)


@each_row(
    ("shape", "value", "field", "reason"),
    [
        *refusals("String", "must be a string", 1, True, None, [], {}, 1.5),
        ("String", "a\0", "", "must not contain the NUL character"),
        ("Name", "a", "", "must have length greater than or equal to 2"),
        ("Name", "abcde", "", "must have length less than or equal to 4"),
        ("Name", "ab1", "", "must satisfy regular expression pattern: [a-z]+"),
        ("Name", "ab\n", "", "must satisfy regular expression pattern: [a-z]+"),
        ("Name", "\nab", "", "must satisfy regular expression pattern: [a-z]+"),
        ("Version", "1" * 257, "", "must have length less than or equal to 256"),
        ("Status", "active", "", "must be one of ACTIVE, INACTIVE"),
        ("Status", "", "", "must be one of ACTIVE, INACTIVE"),
        ("Status", [], "", "must be a string"),
        ("Many", "V20", "", "is not an allowed value"),
        *refusals("Flag", "must be true or false", 1, 0, "true", [], None),
        *refusals("Integer", "must be an integer", True, 1.0, "1", None, []),
        ("Integer", 2**31, "", "must have value less than or equal to 2147483647"),
        ("Integer", -(2**31) - 1, "", "must have value greater than or equal to -2147483648"),
        ("Long", 2**63, "", "must have value less than or equal to 9223372036854775807"),
        ("Page", 0, "", "must have value greater than or equal to 1"),
        ("Page", 251, "", "must have value less than or equal to 250"),
        *refusals("Double", "must be a number", True, "2", None),
        *refusals("Double", "must be a finite number", float("nan"), float("inf")),
        ("Double", 1, "", "must have value greater than or equal to 1.1"),
        ("Double", 5.01, "", "must have value less than or equal to 5"),
        *refusals(
            "Time",
            "must be a timestamp in epoch seconds or ISO 8601",
            True,
            [],
            "",
            "now",
            "2026-13-01T00:00:00Z",
            "2026-11-21",
            "0001-01-01T00:00:00+01:00",
        ),
        *refusals("Time", "is out of the range of timestamps", 10**18, -(10**18), 1e300, float("nan"), float("inf")),
        *refusals("Blob", "must be a base64 string", 1, "AAE", "AA E=", "ä", "=", "AAE=AAE="),
        ("Blob", "", "", "must have length greater than or equal to 1"),
        ("Blob", "AAAAAA==", "", "must have length less than or equal to 3"),
        ("Tag", [], "", "must be an object"),
        ("Tag", {}, "Key", "is required"),
        ("Tag", {"Key": None}, "Key", "is required"),
        ("Tag", {"Key": "ab", "value": 1}, "value", "must be a string"),
        ("Tags", {}, "", "must be a list"),
        ("Tags", [], "", "must have length greater than or equal to 1"),
        ("Tags", [{"Key": "ab"}] * 3, "", "must have length less than or equal to 2"),
        ("Tags", [{"Key": "ab"}, {}], "[1].Key", "is required"),
        ("Tags", [None], "[0]", "must be an object"),
        ("Map", [], "", "must be an object"),
        ("Map", {"ab": 1, "cd": 2, "ef": 3}, "", "must have length less than or equal to 2"),
        ("Map", {"ab": 1, "cd": 0}, "cd", "must have value greater than or equal to 1"),
        ("Map", {"ab": None}, "ab", "must be an integer"),
        ("Map", {"AB": 1}, "", "has a key that must satisfy regular expression pattern: [a-z]+"),
        ("FreeMap", {"x\n<y>": 1}, "*", "must be a string"),
        ("FreeMap", {"a" * 129: 1}, "*", "must be a string"),
        ("FreeMap", {"a.b": 1}, "a.b", "must be a string"),
        ("Tree", {"forest": [{}, {"tree": {"tag": {}}}]}, "forest[1].tree.tag.Key", "is required"),
    ],
)
def test_invalid_values_are_refused(
    compiler: InputCompiler, shape: str, value: object, field: str, reason: str
) -> None:
    with pytest.raises(Violations) as caught:
        compiler.decoder(shape)(value)
    assert (caught.value.field, caught.value.reason) == (field, reason)


@pytest.mark.parametrize(
    ("shape", "text", "value"),
    [
        ("Flag", "true", True),
        ("Flag", "False", False),
        ("Page", "25", 25),
        ("Long", "-5", -5),
        ("Long", "007", 7),
        ("Name", "ab", "ab"),
        ("Time", "1970-01-01T00:00:01Z", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
    ],
)
def test_valid_text_is_decoded(shape: str, text: str, value: object) -> None:
    assert scalar_decoder(SHAPES[shape], text=True)(text) == value


@pytest.mark.parametrize(
    ("shape", "text", "reason"),
    [
        *[("Flag", text, "must be true or false") for text in ("", "1", "yes", " true", "TRUE\n")],
        *[
            ("Page", text, "must be an integer")
            for text in ("", "1.0", "+1", "1_0", " 1", "1\n", "0x1", "1e2", "\u0661", "1" * 20, "1" * 5000)
        ],
        ("Page", "0", "must have value greater than or equal to 1"),
        ("Page", "9" * 19, "must have value less than or equal to 250"),
        ("Time", "9" * 15, "is out of the range of timestamps"),
        ("Time", "9" * 16, "must be a timestamp in epoch seconds or ISO 8601"),
    ],
)
def test_invalid_text_is_refused(shape: str, text: str, reason: str) -> None:
    with pytest.raises(Violations, match="^" + reason):
        scalar_decoder(SHAPES[shape], text=True)(text)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"1", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"{", "is not valid JSON"),
        (b" ", "is not valid JSON"),
        (b'{"a":NaN}', "is not valid JSON"),
        (b'{"a":1e999}', "is not valid JSON"),
        (b'{"a":"\\ud800"}', "is not valid JSON"),
        (b'{"a":"\xff"}', "is not valid JSON"),
        (b"{}{}", "is not valid JSON"),
        (b"\xef\xbb\xbf{}", "is not valid JSON"),
        (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "is nested too deeply"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "is nested too deeply"),
        (b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}", "is not valid JSON"),
        (b'{"a":' + b"[" * 100000 + b"]" * 100000 + b"}", "must hold at most 10000 values"),
        (b'{"a":[' + b"[]," * 9999 + b"[]]}", "must hold at most 10000 values"),
    ],
)
def test_invalid_bodies_are_refused(body: bytes, reason: str) -> None:
    with pytest.raises(Violations) as caught:
        load_body(body)
    assert (caught.value.field, caught.value.reason) == ("body", reason)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' {"a": 1} ',
        b'{"a":' + b"[" * 63 + b"]" * 63 + b"}",
        b'{"a":[' + b"[]," * 99 + b"[]]}",
        b'{"a":"[[[' + b"{" * 99 + b'"}',
    ],
)
def test_valid_bodies_are_loaded(body: bytes) -> None:
    assert isinstance(load_body(body), dict)


def test_a_missing_body_is_an_empty_object() -> None:
    assert load_body(b"") == {}


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "structure", "members": {}, "union": True},
        {"type": "structure", "members": {}, "document": True},
        {"type": "blob", "streaming": True},
        {"type": "timestamp", "timestampFormat": "rfc822"},
        {"type": "structure", "members": {"a": {"shape": "String", "location": "header"}}},
        {"type": "character"},
        {"type": "string", "pattern": r"\p{Greek}"},
    ],
)
def test_unsupported_shapes_fail_at_compile_time(shape: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not supported|cannot"):
        InputCompiler({"X": shape, "String": {"type": "string"}}).decoder("X")


@pytest.mark.parametrize(
    ("pattern", "accepted", "refused"),
    [
        (r"[\s\S]*", "a\n\0ü", ""),
        (r"[\w.-]+", "a_9.-", "üµ٣ \n"),
        (r"\S{1,2}", "ü", " \t\x0b\n"),
        (r"[\p{Graph}\x20]*", "!~ a", "\x7f\x1f\tü"),
        (r"[^\p{Cntrl}]*", "ü \x80", "\x00\x1f\x7f\n"),
        (r"[\p{Upper}\p{Digit}_]+", "AZ09_", "aÜ٣-"),
        (r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$", "aü漢٣²Ⅷ \xa0\u2028\u3000_.:/=+-@", "\n\t!\u0301\u200b"),
        (r"[^\p{C}]+", "aü \xa0\u2028😀", "\n\0\x7f\xad\u200b\ue000\u0378\U000e0001"),
        (r"[^\p{C}]*", "aü \xa0\u2028😀", "\n\0\x7f\xad\u200b\ue000\u0378"),
        (r"^[^_].*$", "aü\x0b", ""),
        (r"([\n\t])|(\r\n)|(,)", "\n\t,", "\r;"),
        (r"[a-zA-Z0-9-_.]+", "a9-_.", "/:"),
        (r"[a-zA-Z0-9!_.*'()-\/]+", "a!_.*'()+,-./", "&:"),
        (r"[a-zA-Z0-9_.,@/:#=\[\]-]*", "a[]-=", "\\^!"),
    ],
)
def test_patterns_accept_javas_character_classes(pattern: str, accepted: str, refused: str) -> None:
    predicate = compile_pattern(pattern)
    for character in accepted:
        assert predicate is None or predicate(character), repr(character)
    for character in refused:
        assert predicate is not None
        assert not predicate(character), repr(character)
        assert not predicate("a" + character), repr(character)


def test_a_dot_stops_at_every_line_terminator_of_java() -> None:
    predicate = compile_pattern("https?://.*")
    assert predicate is not None
    assert predicate("https://x")
    assert not any(predicate(f"https://x{end}") for end in "\n\r\x85\u2028\u2029")


def test_patterns_and_empty_text() -> None:
    for pattern, matches in ((r"[^\p{C}]+", False), (r"[^\p{C}]*", True), ("^[0-9]*$", True), ("[0-9]+", False)):
        predicate = compile_pattern(pattern)
        assert predicate is not None
        assert bool(predicate("")) is matches


def test_character_classes_agree_with_unicodedata() -> None:
    tag_key, no_other = compile_pattern(r"^[\p{L}\p{Z}\p{N}_]*$"), compile_pattern(r"[^\p{C}]*")
    assert tag_key is not None
    assert no_other is not None
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)[0]
        assert bool(tag_key(character)) is (category in "LZN" or character == "_"), hex(code)
        assert bool(no_other(character)) is (category != "C"), hex(code)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\p{L}+",
        r"[\p{L}]+",
        r"[\p{L}\p{N}_\d]+",
        r"\p{C}",
        r"[a\p{C}]",
        r"[a-z&&[^b]]",
        "[a[b]]",
        "(?i)a",
        "(a+)+",
        r"\bx",
        r"\h",
        "(a|b){3}",
    ],
)
def test_unsupported_patterns_fail_at_compile_time(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"not supported|unknown construct"):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("^[1-9]+.[0-9]+", True), ("[+*]+", False), (r"a\+\*b*", False), ("a{3}b{1,2}c*", False), ("a{1,}b*", True)],
)
def test_superlinear_patterns_are_detected(pattern: str, expected: bool) -> None:
    assert is_superlinear(pattern) is expected


NOW = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("result", "body"),
    [
        ({}, b"{}"),
        ({"name": "ü", "data": None}, '{"Name":"ü"}'.encode()),
        ({"when": NOW}, b'{"when":1795222923}'),
        ({"when": NOW + timedelta(milliseconds=250)}, b'{"when":1795222923.25}'),
        ({"when": NOW.astimezone(timezone(timedelta(hours=3)))}, b'{"when":1795222923}'),
        ({"data": b"\0\1"}, b'{"data":"AAE="}'),
        ({"tags": [{"Key": "ab", "Value": "x"}, {}]}, b'{"tags":[{"Key":"ab","value":"x"},{}]}'),
        ({"times": {"a": NOW}}, b'{"times":{"a":1795222923}}'),
        ({"map": {"a": "b"}, "names": ["x"]}, b'{"map":{"a":"b"},"names":["x"]}'),
        ({"tree": {"forest": [{"tree": {}}]}}, b'{"tree":{"forest":[{"tree":{}}]}}'),
        ({"code": 204}, b"{}"),
    ],
)
def test_results_are_encoded(result: dict[str, Any], body: bytes) -> None:
    assert OutputCompiler(SHAPES).body("Result")(result) == body


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ({"Name": "x"}, KeyError),
        ({"tags": [{"key": "x"}]}, KeyError),
        ({"when": datetime(2026, 1, 1)}, TypeError),  # noqa: DTZ001
        ({"when": 5}, TypeError),
        ({"name": NOW}, TypeError),
        ({"name": b"x"}, TypeError),
        ({"data": "x"}, TypeError),
        ({"map": {1: "x"}}, TypeError),
    ],
)
def test_results_outside_the_model_raise_errors(result: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        OutputCompiler(SHAPES).body("Result")(result)


def test_without_an_output_shape_the_body_is_empty() -> None:
    encode = OutputCompiler(SHAPES).body(None)
    assert encode({}) == b""
    with pytest.raises(TypeError):
        encode({"name": "x"})


@pytest.mark.parametrize("length", [256, 100_000])
def test_long_texts_are_refused_quickly(compiler: InputCompiler, length: int) -> None:
    started = time.perf_counter()
    for shape in ("Version", "Name"):
        with pytest.raises(Violations):
            compiler.decoder(shape)("1" * length + "x")
    assert time.perf_counter() - started < 0.5


def told(compiler: InputCompiler, shape: str, value: object) -> str:
    with pytest.raises(Violations) as caught:
        compiler.decoder(shape)(value)
    return str(caught.value.error())


def test_all_violations_are_told_up_to_a_limit(compiler: InputCompiler) -> None:
    text = told(compiler, "Tree", {"forest": [{"tree": {"tag": {}}}] * 3})
    assert text.startswith("3 validation errors detected: Value at 'forest.1.member.tree.tag.key' failed")
    assert text.count("; Value at ") == 2
    text = told(compiler, "Tree", {"forest": [{"tree": {"tag": {}}}] * 2000})
    assert text.startswith("20 validation errors detected: ")
    assert text.count("Value at ") == 20


def test_a_rule_of_a_list_is_told_once(compiler: InputCompiler) -> None:
    assert told(compiler, "Map", {"AB": 1, "CD": 2}).startswith("1 validation error detected: ")


def test_a_wrong_type_hides_violations(compiler: InputCompiler) -> None:
    """AWS reads the whole input before it checks constraints."""
    for forest in ([{"tree": {"tag": {}}}, 7], [7, {"tree": {"tag": {}}}]):
        assert told(compiler, "Tree", {"forest": forest}).endswith("must be an object")
