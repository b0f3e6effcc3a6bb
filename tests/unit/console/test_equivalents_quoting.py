"""What is written as code of a language reads back in that language as it was, whatever the text is."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thingmint.console.playground.writing import (
    HCL,
    JSON,
    PYTHON,
    FromEnvironment,
    FromFile,
    json_command,
    leaves,
    python_call,
    shell_command,
    shell_word,
    written,
)

HOSTILE = [
    *(
        "",
        " ",
        "-x",
        "--",
        "'",
        '"',
        "\\",
        "\\'",
        "`id`",
        "$(id)",
        "$HOME",
        "${iot:ClientId}",
        "$${a}",
        "%{if true}",
        "%%{",
    ),
    *(
        "a\nb",
        "a\r\nb",
        "\t",
        "\x1b[31m",
        "\x7f",
        "\x85",
        "\u2028",
        "\u202e",
        "!x",
        "*",
        "~",
        "#",
        ";",
        "&&",
        "|",
        "<a>",
    ),
    *("\\(env)", "\\u0041", "\\n", "'''", '"""', "{{7*7}}", "</script>", "Ж", "😀", "\U000e0001", "file:///etc/passwd"),
]
TEXTS = st.one_of(
    st.sampled_from(HOSTILE), st.text(), st.lists(st.sampled_from(HOSTILE), min_size=2, max_size=5).map("".join)
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(TEXTS, inner, max_size=5)),
    max_leaves=20,
)
WITHOUT_NUL = TEXTS.filter(lambda text: "\0" not in text)


@pytest.fixture(scope="module")
def bash() -> str:
    found = shutil.which("bash")
    assert found is not None
    return found


@settings(max_examples=20)
@given(texts=st.lists(WITHOUT_NUL, min_size=1, max_size=30))
def test_a_shell_reads_words_back(bash: str, texts: list[str]) -> None:
    script = f"printf '%s\\0' {shell_command([shell_word(text) for text in texts])}"
    read = subprocess.run([bash, "-c", script], capture_output=True, check=True).stdout
    assert read.decode().split("\0")[:-1] == texts


@given(text=WITHOUT_NUL)
def test_words_have_only_characters_that_a_page_keeps(text: str) -> None:
    assert all(each.isprintable() or each == "\n" for each in shell_word(text))


@given(value=VALUES)
def test_python_reads_values_back(value: Any) -> None:
    assert ast.literal_eval(written(value, PYTHON)) == value
    assert ast.literal_eval(written(value, PYTHON, width=1)) == value


@given(arguments=st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES))
def test_python_reads_calls_back(arguments: dict[str, Any]) -> None:
    call = ast.parse(python_call("f", arguments), mode="eval").body
    assert isinstance(call, ast.Call)
    assert {each.arg: ast.literal_eval(each.value) for each in call.keywords} == arguments


@given(value=VALUES)
def test_json_reads_values_back(value: Any) -> None:
    for text in (written(value, JSON), written(value, JSON, width=1)):
        assert json.loads(text) == value
        assert all(each.isprintable() or each == "\n" for each in text)


@given(text=TEXTS)
def test_hcl_reads_texts_back(text: str) -> None:
    assert _read_hcl(written(text, HCL)) == text


@settings(max_examples=10)
@given(value=st.dictionaries(WITHOUT_NUL, st.one_of(WITHOUT_NUL, st.integers(0, 9), st.booleans()), max_size=5))
def test_jq_puts_files_and_secrets_into_json(bash: str, value: dict[str, Any], tmp_path_factory: Any) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq was not found")
    folder = tmp_path_factory.mktemp("jq")
    folder.joinpath("key.pem").write_text('-----BEGIN\n"$x"\\(1)\n')
    asked = {"given": value, "file": FromFile("key.pem"), "secret": [FromEnvironment("SECRET")]}
    command, _ = json_command(asked)
    assert command is not None
    env = {"SECRET": 'a"\\`$(id)', "PATH": "/usr/bin:/bin"}
    read = subprocess.run([bash, "-c", command], capture_output=True, check=True, cwd=folder, env=env).stdout
    assert json.loads(read) == {"given": value, "file": '-----BEGIN\n"$x"\\(1)\n', "secret": ['a"\\`$(id)']}


def test_short_values_stay_on_one_line() -> None:
    assert written({"a": [1, "b"]}, JSON) == '{"a": [1, "b"]}'
    assert written({"a": True, "b": None}, PYTHON) == '{"a": True, "b": None}'
    assert written({"a": "${b}", "c d": 1}, HCL) == '{ a = "$${b}", "c d" = 1 }'


def test_leaves_are_the_values_in_lists_and_objects() -> None:
    assert list(leaves({"a": [1, {"b": "c"}], "d": None})) == [1, "c", None]


def _read_hcl(literal: str) -> str:
    """The text of a quoted template of HCL without expressions, by the rules of its specification."""
    assert literal[0] == literal[-1] == '"'
    read, rest = [], literal[1:-1]
    escapes = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
    while rest:
        if rest.startswith(("$${", "%%{")):
            read.append(rest[0] + "{")
            rest = rest[3:]
        elif (code := re.match(r"\\(?:u([0-9a-f]{4})|U([0-9a-f]{8}))", rest)) is not None:
            read.append(chr(int(code[1] or code[2], 16)))
            rest = rest[code.end() :]
        elif rest[0] == "\\":
            read.append(escapes[rest[1]])
            rest = rest[2:]
        else:
            assert not rest.startswith(("${", "%{", "\n", '"'))
            read.append(rest[0])
            rest = rest[1:]
    return "".join(read)
