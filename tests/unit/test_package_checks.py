"""What scripts/licences.py allows, and what scripts/audit.py concludes from pip-audit's answer."""

from __future__ import annotations

import email
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.tables import each_row

if TYPE_CHECKING:
    from types import ModuleType

    import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_script", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@each_row(
    ("expression", "permitted"),
    [
        ("MIT", True),
        ("GPL-2.0-only", False),
        ("GPL-2.0-only OR MIT", True),
        ("MIT OR GPL-2.0-only", True),
        ("GPL-2.0-only AND MIT", False),
        ("MIT AND Apache-2.0", True),
        ("MIT OR GPL-2.0-only AND ISC", True),
        ("(MIT OR GPL-2.0-only) AND ISC", True),
        ("(MIT OR ISC) AND GPL-2.0-only", False),
        ("MIT AND (GPL-2.0-only OR LGPL-2.1-only)", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
    ],
)
def test_a_licence_is_permitted_if_its_alternatives_allow_it(expression: str, permitted: bool) -> None:
    licences: Any = script("licences")
    assert licences.permits(expression, licences.AT_RUN_TIME) is permitted


@each_row(
    ("metadata", "expression"),
    [
        ("License-Expression: mit or apache-2.0", "MIT OR Apache-2.0"),
        ("License: BSD-3-Clause", "BSD-3-Clause"),
        ("License: Apache License 2.0", "Apache-2.0"),
        ("License: License :: OSI Approved :: Apache Software License", "Apache-2.0"),
        ("License: see the file\nClassifier: License :: OSI Approved :: MIT License", "MIT"),
        ("License: see the file", None),
        ("Classifier: Programming Language :: Python", None),
    ],
)
def test_the_licence_is_found_in_each_form_of_metadata(metadata: str, expression: str | None) -> None:
    assert script("licences").licence(email.message_from_string(metadata)) == expression


LOOKED_UP = {"name": "anyio", "version": "4", "vulns": []}
SKIPPED = {"name": "rich", "skip_reason": "not found"}
VULNERABLE = {"name": "idna", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}


@each_row(
    ("packages", "status"),
    [
        ([LOOKED_UP], 0),
        ([LOOKED_UP, VULNERABLE], 1),
        ([SKIPPED, VULNERABLE], 1),
        ([LOOKED_UP, SKIPPED], 2),
        ([], 2),
    ],
)
def test_an_audit_that_could_not_look_does_not_pass(packages: list[dict[str, Any]], status: int) -> None:
    assert script("audit").report(packages) == status


def test_an_audit_names_what_it_found_and_what_it_could_not_look_up(capsys: pytest.CaptureFixture[str]) -> None:
    script("audit").report([LOOKED_UP, SKIPPED, VULNERABLE])
    output = capsys.readouterr().out
    assert "idna 1: CVE-1, fixed in 2" in output
    assert "2 of 3 packages were looked up; 1 have a known vulnerability" in output
    assert "rich" in output
