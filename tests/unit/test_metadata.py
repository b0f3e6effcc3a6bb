"""The version, the changelog and the classifiers agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import Version

import thingmint

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION = Version(thingmint.__version__)


def test_the_first_version_in_the_changelog_is_this_one() -> None:
    headings = re.findall(r"(?m)^## (\d\S+) \((.*)\)$", (ROOT / "CHANGELOG.md").read_text())
    number, date = headings[0]
    assert number == VERSION.base_version
    assert (date == "not released") == VERSION.is_devrelease
    versions = [Version(number) for number, _ in headings]
    assert versions == sorted(versions, reverse=True)
    assert all(date != "not released" for _, date in headings[1:])


def test_the_version_is_written_in_one_place() -> None:
    assert "version" not in PROJECT
    assert PROJECT["dynamic"] == ["version"]
    assert str(VERSION) == thingmint.__version__, "not in the form of PEP 440"


def test_the_classifiers_name_pythons_that_are_supported() -> None:
    pythons = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if ":: Python :: 3." in text]
    assert pythons
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(python) for python in pythons)
    assert (VERSION.major == 0) == any("Alpha" in text or "Beta" in text for text in PROJECT["classifiers"])
