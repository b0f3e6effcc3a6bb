"""Checks the licence of each locked and installed package, from the package's metadata.

What Thingmint needs at run time has to have a permissive licence, or one whose conditions end at its own files. What
only tests and checks use may have others: it is not shipped.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"

AT_RUN_TIME = frozenset(
    {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0"},
)
FOR_TOOLS = AT_RUN_TIME | {"GPL-2.0-only", "GPL-3.0-or-later", "LGPL-2.1-only"}

# Texts that packages have instead of an SPDX expression, with the licence of those that are locked now.
SPDX_OF = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "asl 2": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd license": "BSD-3-Clause",
    "dual license": "Apache-2.0 OR BSD-3-Clause",
    "isc license": "ISC",
    "lgplv2": "LGPL-2.1-only",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "public domain, python, 2-clause bsd, gpl 3 (see copying.txt)": "PSF-2.0 AND BSD-2-Clause AND GPL-3.0-or-later",
}


def main() -> int:
    flaws = []
    for file, allowed in (("runtime.txt", AT_RUN_TIME), ("dev.txt", FOR_TOOLS)):
        for name in locked(REQUIREMENTS / file):
            try:
                expression = licence(importlib.metadata.distribution(name).metadata)
            except importlib.metadata.PackageNotFoundError:
                flaws.append(f"{file}: {name} is not installed; run make install")
                continue
            if expression is None:
                flaws.append(f"{file}: the metadata of {name} has no licence that scripts/licences.py knows")
            elif not permits(expression, allowed):
                flaws.append(f"{file}: {name} has the licence {expression}, which scripts/licences.py does not allow")
    print("\n".join(flaws) or "the licences of all locked packages are allowed")
    return 1 if flaws else 0


def locked(file: Path) -> Iterator[str]:
    """The packages that the file has for this interpreter."""
    for line in file.read_text().splitlines():
        if re.match(r"\w", line):
            requirement = Requirement(line.removesuffix("\\"))
            if requirement.marker is None or requirement.marker.evaluate():
                yield requirement.name


def licence(metadata: importlib.metadata.PackageMetadata) -> str | None:
    """The SPDX expression of the package, or None if its metadata has neither one nor a text in SPDX_OF."""
    classifiers = metadata.get_all("Classifier") or []
    told = [text for name in ("License-Expression", "License") for text in metadata.get_all(name) or []]
    told += [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License :: OSI Approved :: ")]
    for text in told:
        # One package has a complete classifier in the place of the licence's name.
        words = text.partition("\n")[0].strip().rpartition(" :: ")[2]
        try:
            return str(canonicalize_license_expression(SPDX_OF.get(words.lower(), words)))
        except InvalidLicenseExpression:
            continue
    return None


def permits(expression: str, allowed: Collection[str]) -> bool:
    """True if the canonical SPDX expression can be met with the allowed licences. AND binds closer than OR."""
    tokens = re.findall(r"[()]|[^\s()]+", expression)

    def either() -> bool:
        met = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            met = both() or met
        return met

    def both() -> bool:
        met = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            met = one() and met
        return met

    def one() -> bool:
        token = tokens.pop(0)
        if token != "(":
            return token in allowed
        met = either()
        tokens.pop(0)
        return met

    met = either()
    return met and not tokens  # tokens are left after WITH, for example, which no package here uses


if __name__ == "__main__":
    sys.exit(main())
