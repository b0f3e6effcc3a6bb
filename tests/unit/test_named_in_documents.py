"""Variables, metrics, managed policies and requests that documents name exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.markdown import ROOT, blocks_of, documents, files, spans_of
from thingmint.access.administration.policies import MANAGED_POLICIES
from thingmint.native.endpoints import ENDPOINTS
from thingmint.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS = documents()
# Those that are no settings: of clients, and of the tests themselves.
OTHER_VARIABLES = re.compile(r"THINGMINT_(?:YC_\w+|TEST_\w+|CONFIG)")


def _names(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _code_of(document: Path) -> str:
    text = document.read_text()
    return "\n".join([*spans_of(text), *(block.text for block in blocks_of(text))])


@pytest.mark.parametrize("document", DOCUMENTS, ids=_names)
def test_variables_are_settings_or_read_by_some_file(document: Path) -> None:
    known = {f"THINGMINT_{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(r"\bTHINGMINT_[A-Z_]*[A-Z]\b", _code_of(document)))
    unknown = {name for name in named if name.partition("__")[0] not in known}
    others = {name for name in unknown if OTHER_VARIABLES.fullmatch(name) and _is_read(name)}
    assert unknown - others == set()


def _is_read(name: str) -> bool:
    return any(name in path.read_text() for path in files("*.py", "*.sh") if path.name != "test_named_in_documents.py")


@pytest.mark.parametrize("document", DOCUMENTS, ids=_names)
def test_metrics_are_in_the_table_of_metrics(document: Path) -> None:
    """A test with a server compares that table with what the server tells."""
    known = set(re.findall(r"\bthingmint_\w+", (ROOT / "docs" / "metrics.md").read_text()))
    named = {name for span in spans_of(document.read_text()) for name in re.findall(r"\bthingmint_\w+", span)}
    assert named - known == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=_names)
def test_managed_policies_exist(document: Path) -> None:
    named = set(re.findall(r"(?<![\w/.])(?:thingmint/[A-Z]\w+|yandex/[\w.]*\w)", _code_of(document)))
    modules = {name for name in named if (ROOT / "src" / "thingmint" / name).exists()}
    assert {name for name in named - modules if not name.endswith(".py")} - set(MANAGED_POLICIES) == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=_names)
def test_requests_of_the_native_api_exist(document: Path) -> None:
    patterns = [
        (endpoint.method, re.compile(re.sub(r"\{\w+\}", r"(?:[\\w{}$-]+)", endpoint.path))) for endpoint in ENDPOINTS
    ]
    named = re.findall(r"\b(GET|POST|PUT|PATCH|DELETE) (/v1/[\w/{}-]+\w\}?)", "\n".join(spans_of(document.read_text())))
    unknown = [
        (method, path)
        for method, path in named
        if not re.search(r"NOUN|VERB", path)
        and not any(method == known and pattern.fullmatch(path) for known, pattern in patterns)
    ]
    assert unknown == []
