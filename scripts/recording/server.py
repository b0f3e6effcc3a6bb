"""`thingmint` with the time that a file has, so that recorded answers have the same times in each run."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from thingmint.services import certificates

CLOCK = "RECORDING_CLOCK"
"""The environment variable with the path of the file."""


def main() -> None:
    clock = Path(os.environ[CLOCK])
    certificates.utc_now = lambda: datetime.fromisoformat(clock.read_text())
    from thingmint.cli.main import run  # after the clock: modules take it from there

    run()


if __name__ == "__main__":
    main()
