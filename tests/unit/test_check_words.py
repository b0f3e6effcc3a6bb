"""`scripts/check_words.py` finds the words of `scripts/words.toml`, wherever a reader meets them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_words", ROOT / "scripts/check_words.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def words(script: ModuleType) -> Any:
    return script.Words.read()


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("def open_door(): ...", "door"),
        ("class DoorSettings: ...", "door"),
        ("doors = 1", "door"),
        ("HTTPDoor = 1", "door"),
        ("def test_nobody_is_let_in(): ...", "nobody"),
        ("is_ready_made = True", "ready_made"),
        ("f(pinned=True)", "pinned"),
        ("x = 1  # whoever comes", "whoever"),
        ('"""Knocks at the house\'s\n\nnothing."""', "house"),
        ('def f():\n    """Strangers are refused."""', "stranger"),
        ('_log.info("a stranger came")', "a stranger came"),
        ('log.bind().log.warning("Refused")', "Refused"),
        ('error = "nobody may do that"', "nobody"),
        ('error = f"{name} lets nobody in"', "nobody"),
    ],
)
def test_retired_words_in_code_are_found(script: ModuleType, words: Any, source: str, word: str) -> None:
    assert word in [finding.word for finding in script.of_python("src/x.py", source, words)]


@pytest.mark.parametrize(
    "source",
    [
        "outdoor = indoors = 1",
        "yandex_passport_oauth_token = yandexPassportOauthToken",
        "x = 1  # the field `yandexPassportOauthToken`",
        '_log.info("unauthenticated_connection_refused", source="x")',
        'math.log("a b")',
        'name = "house"',
        "surface = interface",
    ],
)
def test_other_words_in_code_are_not_found(script: ModuleType, words: Any, source: str) -> None:
    assert list(script.of_python("src/x.py", source, words)) == []


def test_retired_words_in_documents_are_found_outside_of_code(script: ModuleType, words: Any) -> None:
    text = "# The door\n\n`door` is\n\n```sh\ncurl door\n```\n\nfor nobody,\nWhoever.\n"
    found = [(finding.line, finding.word) for finding in script.of_markdown("docs/x.md", text, words)]
    assert sorted(found) == [(1, "door"), (9, "nobody"), (10, "whoever")]


def test_each_retired_word_is_found(script: ModuleType, words: Any) -> None:
    for word in words.in_identifiers:
        assert word in [finding.word for finding in script.of_python("src/x.py", f"an_{word} = 1", words)]
    for word in words.in_prose:
        assert word in [finding.word for finding in script.of_markdown("docs/x.md", f"The {word} of it.", words)]
