"""scripts/docs_site.py: the order of the pages, the hashes of the policy, and the check of links."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "scripts/docs_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_each_page_is_in_the_navigation(script: ModuleType) -> None:
    sections = script.navigation((ROOT / "docs" / "README.md").read_text())
    titles = [title for section in sections for title in section]
    assert titles[2:6] == ["Tutorial", "How-to", "Reference", "Explanation"]
    pages = [page for section in sections for found in section.values() if isinstance(found, list) for page in found]
    files = {file for page in pages for file in page.values()}
    assert files >= {file.name for file in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {"SQLite or PostgreSQL": "databases.md"} in pages
    assert {"Working on Thingmint": "contributing.md"} in pages


def test_the_policy_has_the_hash_of_each_inline_script(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<script>a < b && "&amp;"</script><script src="x.js"></script><script type="application/json">{}</script>'
    )
    written = script.policy(tmp_path)
    digest = base64.b64encode(hashlib.sha256(b'a < b && "&amp;"').digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}'; " in written
    assert written.count("sha256-") == 1
    assert "unsafe-inline" not in written.partition("style-src")[0]


@pytest.mark.parametrize(
    ("written", "flaw"),
    [
        ('<a href="../">', None),
        ('<a href="../#top">', None),
        ('<a href="https://example.com/">', None),
        ('<a href="../nothing/">', "links to ../nothing/, which is not there"),
        ('<a href="../#nothing">', "links to ../#nothing, which has no such anchor"),
        ('<a href="#nothing">', "links to #nothing, which has no such anchor"),
        ('<link rel="stylesheet" href="https://example.com/a.css">', "loads https://example.com/a.css"),
        ('<script src="//example.com/a.js"></script>', "loads //example.com/a.js"),
        ('<img src="../nothing.png">', "loads ../nothing.png, which is not there"),
    ],
)
def test_broken_links_and_other_hosts_are_found(
    script: ModuleType, tmp_path: Path, written: str, flaw: str | None
) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "index.html").write_text('<h1 id="top">Home</h1>')
    (tmp_path / "page" / "index.html").write_text(written)
    assert list(script.broken_links(tmp_path)) == ([] if flaw is None else [f"page/index.html {flaw}"])


def test_pictures_for_light_and_dark_become_pictures_of_the_sites_colours(script: ModuleType) -> None:
    written = script._with_links(
        '<picture><source media="(prefers-color-scheme: dark)" srcset="docs/images/a-dark.png">\n'
        '<img alt="A page" src="docs/images/a-light.png" width="49%"></picture>',
        in_docs=False,
    )
    assert written == "![A page](images/a-light.png#only-light) ![A page](images/a-dark.png#only-dark)"
    assert script._with_links("![A page](images/a.png)", in_docs=True) == "![A page](images/a.png)"
