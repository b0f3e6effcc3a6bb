"""Builds the documentation site from docs/ with Zensical, and the policy for browsers that the server sends with it.

The site is build/docs/site, the policy build/docs/policy. Broken links and anchors fail the build.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "build" / "docs"

# Files of the repository that are pages of the site too, with their names there.
_PAGES_BESIDE = {"README.md": "readme.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
_HOME = "README.md"
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
_PICTURE = re.compile(  # GitHub shows the one that is for the reader's colours
    r'<picture><source media="\(prefers-color-scheme: dark\)" srcset="docs/(?P<dark>[^"]+)">\s*'
    r'<img alt="(?P<text>[^"]*)" src="docs/(?P<light>[^"]+)"[^>]*></picture>'
)
_FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
_ENTRY = re.compile(r"\[([^\]]+)\]\(([\w./-]+\.md)\)")
_POLICY = (
    "default-src 'self'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "worker-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)


class BuildError(Exception):
    """The documents have a flaw, or Zensical cannot build them."""


def build(target: Path = BUILT) -> None:
    """Writes the site and the policy below ``target``. Raises BuildError."""
    shutil.rmtree(target, ignore_errors=True)
    pages = target / "pages"
    pages.mkdir(parents=True)
    _write_pages(pages)
    config = target / "mkdocs.yml"
    config.write_text(json.dumps(_config(navigation((ROOT / "docs" / _HOME).read_text())), indent=2))
    program = Path(sys.executable).with_name("zensical")
    done = subprocess.run(
        [program, "build", "--strict", "--clean", f"--config-file={config}"],
        cwd=target,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise BuildError(f"Zensical cannot build the site:\n{done.stdout}{done.stderr}")
    if flaws := sorted(broken_links(target / "site")):
        raise BuildError("\n".join(flaws))
    (target / "policy").write_text(policy(target / "site"))


def navigation(index: str) -> list[dict[str, object]]:
    """The site's navigation: the sections and pages of docs/README.md, in its order."""
    entries: list[dict[str, object]] = [{"Documentation": _HOME}, {"Thingmint": _PAGES_BESIDE["README.md"]}]
    for section in index.split("\n## ")[1:]:
        title = section.partition("\n")[0].partition(":")[0]
        pages = [{_capital(text): _address(link)} for text, link in _ENTRY.findall(section)]
        entries.append({title: pages})
    entries.append({"Reporting a weakness": _PAGES_BESIDE["SECURITY.md"]})
    return entries


def policy(site: Path) -> str:
    """The Content-Security-Policy that lets the site's own inline scripts run, and no others."""
    hashes = set()
    for file in site.rglob("*.html"):
        for script in _Page.of(file).scripts:
            digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            hashes.add(f"'sha256-{digest}'")
    return _POLICY.format(hashes=" ".join(sorted(hashes)))


def broken_links(site: Path) -> Iterator[str]:
    """A line for each link of a page that leads to no file or no anchor of the site, and for each picture or script
    that is not there or on another host."""
    pages = {file.resolve(): _Page.of(file) for file in site.rglob("*.html")}
    for file, page in pages.items():
        name = file.relative_to(site.resolve())
        yield from (f"{name} loads {address}" for address in page.loads if urlsplit(address).netloc)
        if file.name == "404.html":
            continue  # its links start at the site's root
        for address in page.loads:
            parts = urlsplit(address)
            if not parts.scheme and not parts.netloc and parts.path and not (file.parent / parts.path).is_file():
                yield f"{name} loads {address}, which is not there"
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            found = (file.parent / parts.path).resolve() if parts.path else file
            if found.is_dir():
                found /= "index.html"
            if not found.is_file():
                yield f"{name} links to {link}, which is not there"
            elif parts.fragment and found in pages and parts.fragment not in pages[found].anchors:
                yield f"{name} links to {link}, which has no such anchor"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.anchors: set[str] = set()
        self._in_script = False

    @classmethod
    def of(cls, file: Path) -> _Page:
        page = cls()
        page.feed(file.read_text())
        page.close()
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.anchors.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.loads.add(given.get("href", ""))
        if "src" in given:
            self.loads.add(given["src"])
        if tag == "script" and "src" not in given and given.get("type") != "application/json":
            self._in_script = True
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data


def _write_pages(pages: Path) -> None:
    for file in sorted((ROOT / "docs").glob("*.md")):
        (pages / file.name).write_text(_with_links(file.read_text(), in_docs=True))
    shutil.copytree(ROOT / "docs" / "images", pages / "images")
    for name, page in _PAGES_BESIDE.items():
        (pages / page).write_text(_with_links((ROOT / name).read_text(), in_docs=False))


def _with_links(text: str, *, in_docs: bool) -> str:
    """The page with links for the site. Files that are not pages there are named without a link."""

    def changed(link: re.Match[str]) -> str:
        label, target = link[1], link[2]
        path, _, anchor = target.partition("#")
        if not path or urlsplit(target).scheme:
            return link[0]
        address = _address(path if in_docs else f"../{path}")
        if address is None:
            return label
        return f"[{label}]({address}{'#' + anchor if anchor else ''})"

    def linked(part: str) -> str:
        return _LINK.sub(changed, part if in_docs else _PICTURE.sub(_of_theme, part))

    return "".join(part if part.startswith("```") else linked(part) for part in _FENCE.split(text))


def _of_theme(picture: re.Match[str]) -> str:
    """Both files of a picture, of which the site's style sheet shows the one for the colours that a reader chose."""
    return " ".join(f"![{picture['text']}]({picture[kind]}#only-{kind})" for kind in ("light", "dark"))


def _address(path: str) -> str | None:
    """The page of the site for a path relative to docs/, or None if the site has no such page."""
    file = (ROOT / "docs" / path).resolve()
    if file == ROOT / "docs":
        return _HOME
    if file.parent == ROOT / "docs":
        return file.name
    return _PAGES_BESIDE.get(file.relative_to(ROOT).as_posix())


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _config(nav: list[dict[str, object]]) -> dict[str, object]:
    schemes = {"default": ("slate", "weather-night", "dark"), "slate": ("default", "weather-sunny", "light")}
    return {
        "site_name": "Thingmint",
        "docs_dir": "pages",
        "site_dir": "site",
        "use_directory_urls": True,
        "nav": nav,
        "plugins": ["search"],
        "theme": {
            "name": "material",
            "language": "en",
            "font": False,
            "features": ["navigation.sections", "navigation.top", "content.code.copy", "search.highlight"],
            "palette": [
                {
                    "scheme": scheme,
                    "media": f"(prefers-color-scheme: {'light' if scheme == 'default' else 'dark'})",
                    "toggle": {"icon": f"material/{icon}", "name": f"Switch to {other}"},
                }
                for scheme, (_, icon, other) in schemes.items()
            ],
        },
        "markdown_extensions": [
            "tables",
            "attr_list",
            {"toc": {"permalink": True, "slugify": {"object": "pymdownx.slugs.slugify", "kwds": {"case": "lower"}}}},
            {"pymdownx.highlight": {"pygments_lang_class": True}},
            "pymdownx.superfences",
        ],
    }


if __name__ == "__main__":
    try:
        build()
    except BuildError as error:
        sys.exit(str(error))
    print("The site is in build/docs/site. A server that runs from this clone has it at /docs on the API port")
