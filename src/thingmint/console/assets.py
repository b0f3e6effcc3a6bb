"""The files that pages load: their addresses have a hash of the content, so browsers keep them for ever."""

from __future__ import annotations

import functools
import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thingmint.console.answers import ROOT, file_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.http.messages import Answer

_FOLDER = Path(__file__).parent / "static"
_MEDIA = {
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".woff2": b"font/woff2",
}
_COMPRESSED = (".css", ".js", ".svg")
_URL = re.compile(r"url\(([\w.-]+)\)")


@dataclass(frozen=True, slots=True)
class _Asset:
    plain: Answer
    compressed: Answer | None


class Assets:
    """``paths`` are the addresses by file name."""

    def __init__(self, folder: Path = _FOLDER) -> None:
        self.paths: dict[str, str] = {}
        self._assets: dict[str, _Asset] = {}
        # A stylesheet names other files, so their addresses have to be known before its own hash.
        files = sorted((file for file in folder.iterdir() if file.suffix in _MEDIA), key=lambda f: f.suffix == ".css")
        for file in files:
            self._add(file.name, file.suffix, file.read_bytes())

    def find(self, path: str, *, accepts_gzip: bool) -> Answer | None:
        """The answer for the path below ``/console/static/``, or None if there is no such file."""
        asset = self._assets.get(path)
        if asset is None:
            return None
        return asset.compressed if accepts_gzip and asset.compressed is not None else asset.plain

    def _add(self, name: str, suffix: str, content: bytes) -> None:
        if suffix == ".css":
            content = _URL.sub(lambda m: f"url({self.paths[m[1]]})", content.decode()).encode()
        address = f"{name.removesuffix(suffix)}.{hashlib.sha256(content).hexdigest()[:12]}{suffix}"
        self.paths[name] = f"{ROOT}/static/{address}"
        media, compressed = _MEDIA[suffix], None
        if suffix in _COMPRESSED:
            headers = [(b"content-encoding", b"gzip"), (b"vary", b"accept-encoding")]
            compressed = file_answer(gzip.compress(content, mtime=0), media, headers)
        self._assets[address] = _Asset(file_answer(content, media), compressed)


@functools.cache
def assets() -> Assets:
    """The product's files, read once."""
    return Assets()


def paths() -> Mapping[str, str]:
    return assets().paths
