"""The `thingmint` command, as the operator of the toured server runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tour import require

if TYPE_CHECKING:
    from tour import Tour

__all__ = ["access", "thingmint"]


def access(tour: Tour, *arguments: str) -> Any:
    """The JSON that `thingmint access ...` printed. Raises CheckFailed."""
    done = thingmint("access", *arguments, "--data-dir", str(tour.server.data_dir), "--output", "json")
    require(done.returncode == 0, f"failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def thingmint(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "thingmint", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        encoding="utf-8",
        env={name: value for name, value in os.environ.items() if not name.startswith("THINGMINT_")} | variables,
        timeout=30,
    )
