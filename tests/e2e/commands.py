"""The command line, run as people run it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from thingmint.testing import RunningServer

__all__ = ["AWS", "own_server", "thingmint"]

AWS = Path(sys.executable).with_name("aws")


def thingmint(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`thingmint ARGUMENTS`, with no terminal and with ``env`` on top of the tests' own environment."""
    return subprocess.run(
        [sys.executable, "-m", "thingmint", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | dict(env or {}),
        cwd=cwd,
        check=False,
    )


@contextlib.contextmanager
def own_server(
    data_dir: Path | None = None, *, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[RunningServer]:
    """A server for one test."""
    with running_server(data_dir, arguments=arguments, environment=environment) as server:
        yield server
