"""Writes the files of others that the console serves, from npm packages of pinned versions, and checks their hashes.

The files are committed: this is needed only to take a later version. Change the version, run it, look at what changed
in the package, and enter the new hashes here. It needs npm.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

STATIC = Path(__file__).resolve().parent.parent / "src" / "thingmint" / "console" / "static"


class Vendored(NamedTuple):
    """A file of a package, its name here, and the SHA-256 of its content."""

    package: str
    path: str
    name: str
    sha256: str


HTMX = "htmx.org@2.0.11"  # 4.x loads extensions in another way, and is not used yet
SSE = "htmx-ext-sse@2.2.4"
INTER = "@fontsource-variable/inter@5.3.0"
VENDORED = (
    Vendored(
        HTMX, "dist/htmx.min.js", "htmx.min.js", "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"
    ),
    Vendored(HTMX, "LICENSE", "htmx.LICENSE.txt", "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38"),
    Vendored(SSE, "dist/sse.min.js", "sse.min.js", "98a46496de0c3605fbffdce9167ba427bdd9553184f83f149c261891a92c0136"),
    Vendored(SSE, "LICENSE", "sse.LICENSE.txt", "a17d224ce9afdc21ec9491b76a2f5d036d19aa641ac4f85ca29c21f9f7e54fdf"),
    Vendored(
        INTER,
        "files/inter-latin-wght-normal.woff2",
        "inter-latin.woff2",
        "3100e775e8616cd2611beecfa23a4263d7037586789b43f035236a2e6fbd4c62",
    ),
    Vendored(
        INTER,
        "files/inter-cyrillic-wght-normal.woff2",
        "inter-cyrillic.woff2",
        "71d5ee93cc1e9f1d520a3a8b66456de18c7879d8df09d57fcd2eaff75fef0075",
    ),
    Vendored(INTER, "LICENSE", "inter.LICENSE.txt", "3b0a5fca3d17942cde889069889dedbbbd075e9b599968c82a95f4d944e9b345"),
)


def main() -> int:
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for package in dict.fromkeys(each.package for each in VENDORED):
            archive = _fetch(package, Path(folder))
            with tarfile.open(archive) as opened:
                for each in VENDORED:
                    if each.package == package:
                        wrong += _write(opened, each)
    print("\n".join(wrong) or f"wrote {len(VENDORED)} files to {STATIC}")
    return 1 if wrong else 0


def _fetch(package: str, folder: Path) -> Path:
    """The package's archive, from the registry that npm is set up for."""
    command = ["npm", "pack", "--silent", f"--pack-destination={folder}", package]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    return folder / name


def _write(archive: tarfile.TarFile, file: Vendored) -> list[str]:
    content = archive.extractfile(f"package/{file.path}")
    assert content is not None, f"{file.path} is no file of {file.package}"
    found = content.read()
    sha256 = hashlib.sha256(found).hexdigest()
    if sha256 != file.sha256:
        return [f"{file.package} {file.path}: its SHA-256 is {sha256}, not {file.sha256}; nothing was written"]
    (STATIC / file.name).write_bytes(found)
    return []


if __name__ == "__main__":
    sys.exit(main())
