"""docs/glossary.md: each word once in a table, in order, with a name that the code has."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from tests.documents import names_in, page, plain, sections, tables

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "thingmint"
WORDS = ROOT / "scripts" / "words.toml"
SECTIONS = sections(page("glossary"))
CONCEPTS = {title: tables(text)[0] for title, text in SECTIONS.items() if tables(text)}
DEFINED = {title: rows for title, rows in CONCEPTS.items() if "in the code" in rows[0]}


@pytest.mark.parametrize("section", CONCEPTS)
def test_words_are_in_order_and_defined(section: str) -> None:
    rows = CONCEPTS[section]
    if "word" in rows[0]:
        words = [plain(row["word"]).lower() for row in rows]
        assert words == sorted(words)
    assert all(all(row.values()) for row in rows)


def test_names_in_the_code_exist() -> None:
    classes = {
        node.name
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    for rows in DEFINED.values():
        for row in rows:
            assert set(names_in(row["in the code"])) <= classes, row["word"]


def test_words_that_stand_for_one_thing_are_defined() -> None:
    words = {plain(row["word"]) for rows in CONCEPTS.values() for row in rows if "word" in row}
    required = {
        "CA certificate", "CSR", "account", "binding", "certificate", "claim certificate", "client id", "connection",
        "device", "device registry", "operation", "policy", "principal", "provisioning template", "region",
        "registration", "registry", "session", "thing",
    }  # fmt: skip
    assert required <= words


def test_words_with_two_meanings_are_the_only_ones_defined_twice() -> None:
    words = [plain(row["word"]) for rows in DEFINED.values() for row in rows]
    twice = {word for word in words if words.count(word) > 1}
    assert twice <= {plain(row["word"]) for row in CONCEPTS["Words with two meanings"]}


def test_definitions_do_not_use_retired_words() -> None:
    retired = {word for words in tomllib.loads(WORDS.read_text("utf-8")).values() for word in words}
    for rows in DEFINED.values():
        for row in rows:
            used = {word.strip('.,;:()"').lower() for word in plain(row["here"]).split()}
            assert not used & retired, row["word"]
