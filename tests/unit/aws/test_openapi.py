"""The OpenAPI document of AWS IoT's control plane says what the contract accepts."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import validate

from thingmint.aws import openapi
from thingmint.aws.contract import load_contract, load_model
from thingmint.aws.contract.portable_patterns import portable
from thingmint.aws.contract.scalars import scalar_decoder
from thingmint.aws.contract.violations import Violations
from thingmint.aws.error_meanings import MEANINGS
from thingmint.aws.operations import OPERATIONS
from thingmint.domain.errors import Invalid

MODEL = load_model()
SHAPES = MODEL["shapes"]
PATTERNS = sorted({shape["pattern"] for shape in SHAPES.values() if "pattern" in shape})
TRANSLATED = {pattern: text for pattern in PATTERNS if (text := portable(pattern)) is not None}
# As the parts of texts: all of Latin, what Java, Python and ECMAScript read differently, and Unicode beyond 16 bits.
_CHARACTERS = [*map(chr, range(0x180)), *"\u0660\u2028\u2029\u200b\uff21\ufeff\U0001f600"]


document = cache(openapi.document)


def _operations() -> dict[str, tuple[str, str, dict[str, Any]]]:
    return {
        operation["operationId"]: (method.upper(), path, operation)
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    }


def _accepts(pattern: str, text: str) -> bool:
    try:
        scalar_decoder({"type": "string", "pattern": pattern, "max": 10_000}, text=False)(text)
    except Violations:
        return False
    return True


def test_the_document_is_valid() -> None:
    validate(document())


def test_every_operation_is_described_where_it_is_routed() -> None:
    found, contract = _operations(), load_contract().operations
    assert found.keys() == contract.keys()
    for name, operation in contract.items():
        method, path, described = found[name]
        assert (method, path) == (operation.method, operation.uri.replace("+}", "}"))
        greedy = {each["name"] for each in described["parameters"] if each.get("x-greedy")}
        assert greedy == set(re.findall(r"\{(\w+)\+\}", operation.uri))
        in_path = {each["name"] for each in described["parameters"] if each["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\+?\}", operation.uri))


def test_served_operations_are_marked() -> None:
    served = {name for name, (_, _, operation) in _operations().items() if operation["x-thingmint-served"]}
    assert served == set(OPERATIONS)


def test_every_operation_has_a_tag() -> None:
    assert [name for name in load_contract().operations if openapi.tag_of(name) == "Others"] == []


def test_errors_have_the_statuses_of_the_model() -> None:
    whole, contract = document(), load_contract()
    for name, (_, _, operation) in _operations().items():
        statuses: dict[str, str] = {}
        for status, response in operation["responses"].items():
            if status != "200":
                written = whole["components"]["responses"].get(response.get("$ref", "").rpartition("/")[2], response)
                codes = written["headers"]["x-amzn-errortype"]["schema"]["enum"]
                statuses |= dict.fromkeys(codes, status)
        declared = contract.operations[name].errors
        assert {code: statuses[code] for code in declared} == {
            code: str(contract.error_status[code]) for code in declared
        }
        assert statuses["AccessDeniedException"] == "403"
        assert name in OPERATIONS or statuses["NotImplementedException"] == "501"


def test_every_code_has_a_meaning_that_is_used() -> None:
    codes = set()
    for response in document()["components"]["responses"].values():
        codes.update(response["headers"]["x-amzn-errortype"]["schema"]["enum"])
    assert codes == MEANINGS.keys()


def test_headers_and_queries_are_parameters_and_not_in_the_body() -> None:
    found = _operations()
    in_header = {
        each["name"] for _, _, operation in found.values() for each in operation["parameters"] if each["in"] == "header"
    }
    assert {"x-amzn-principal", "x-amz-tagging"} <= in_header
    assert all(name.startswith("x-amz") for name in in_header)
    parameters = {each["name"]: each for each in found["CreateKeysAndCertificate"][2]["parameters"]}
    assert parameters["setAsActive"]["schema"] == {"type": "boolean", "default": False}
    assert "requestBody" not in found["CreateKeysAndCertificate"][2]


def test_members_are_required_as_in_the_contract() -> None:
    schemas, contract = document()["components"]["schemas"], load_contract().operations
    for name, (_, _, described) in _operations().items():
        required = sum(each["required"] and each["in"] != "path" for each in described["parameters"])
        if "requestBody" in described:
            (media,) = described["requestBody"]["content"].values()
            members = schemas[media["schema"].get("$ref", "").rpartition("/")[2]].get("required", [])
            has_payload = "payload" in SHAPES[MODEL["operations"][name]["input"]["shape"]]
            required += described["requestBody"]["required"] if has_payload else len(members)
        missing = 0
        try:
            contract[name].parse(("1",) * contract[name].uri.count("{"), b"", {}, b"")
        except Invalid as error:
            missing = str(error).count("Member must not be null")
        assert missing == required, name


def test_only_patterns_with_classes_of_unicode_are_moved() -> None:
    assert all(re.search(r"\\p\{[CLN]\}", pattern) for pattern in PATTERNS if pattern not in TRANSLATED)
    moved = set(re.findall(r"'x-pattern': '((?:[^'\\]|\\.)*)'", str(document())))
    assert {text.replace("\\\\", "\\") for text in moved} == set(PATTERNS) - TRANSLATED.keys()


def test_translated_patterns_accept_the_same_characters_as_the_contract() -> None:
    for pattern, translated in TRANSLATED.items():
        for character in _CHARACTERS:
            for text in (character, f"a{character}", f"1{character}1", character * 40, f"{character}\n", ""):
                assert _accepts(pattern, text) == bool(re.search(translated, text)), (pattern, text)


@given(st.data(), st.sampled_from(sorted(TRANSLATED)))
def test_the_contract_accepts_what_translated_patterns_match(data: st.DataObject, pattern: str) -> None:
    text = data.draw(st.from_regex(TRANSLATED[pattern]))
    assert _accepts(pattern, text)


def test_translated_patterns_have_only_escapes_that_ecmascript_knows() -> None:
    for translated in TRANSLATED.values():
        escaped = re.findall(r"\\(x[0-9a-fA-F]{2}|.)", translated)
        assert all(each[0] in "x^$\\.*+?()[]{}|/-nrtf" for each in escaped), translated


@pytest.mark.parametrize("pattern", [r"[\S-]", r"[^-a]", r"\b"])
def test_other_constructs_are_refused_when_the_document_is_made(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"pattern|class"):
        portable(pattern)
