"""The files that pages load: their addresses have a hash of the content, so browsers keep them for ever."""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from thingmint.console.answers import ROOT, file_answer
from thingmint.http.compression import File

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.http.messages import Answer, Incoming

_FOLDER = Path(__file__).parent / "static"
_MEDIA = {
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".woff2": b"font/woff2",
}
_URL = re.compile(r"url\(([\w.-]+)\)")


class Assets:
    """``paths`` are the addresses by file name."""

    def __init__(self, folder: Path = _FOLDER) -> None:
        self.paths: dict[str, str] = {}
        self._files: dict[str, File] = {}
        # A stylesheet names other files, so their addresses have to be known before its own hash.
        files = sorted((file for file in folder.iterdir() if file.suffix in _MEDIA), key=lambda f: f.suffix == ".css")
        for file in files:
            self._add(file.name, file.suffix, file.read_bytes())

    def find(self, path: str, incoming: Incoming) -> Answer | None:
        """The answer for the path below ``/console/static/``, or None if there is no such file."""
        file = self._files.get(path)
        return None if file is None else file.answer(incoming)

    def _add(self, name: str, suffix: str, content: bytes) -> None:
        if suffix == ".css":
            content = _URL.sub(lambda m: f"url({self.paths[m[1]]})", content.decode()).encode()
        address = f"{name.removesuffix(suffix)}.{hashlib.sha256(content).hexdigest()[:12]}{suffix}"
        self.paths[name] = f"{ROOT}/static/{address}"
        self._files[address] = File.of(file_answer(content, _MEDIA[suffix]))


@functools.cache
def assets() -> Assets:
    """The product's files, read once."""
    return Assets()


def paths() -> Mapping[str, str]:
    return assets().paths
