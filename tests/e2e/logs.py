"""What the log of a server must not have at the end of its tests."""

from __future__ import annotations

import json

# A machine that stands still for a second makes every server suspend its connections, and resume them at once.
_OF_A_BUSY_MACHINE = "connections_suspended"


def check_log(log: str) -> None:
    """Fail on a traceback and on events of level error. The log is JSON, with other lines at its start."""
    assert "Traceback" not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{") and '"level":"error"' in line]
    assert [line for line in lines if line["event"] != _OF_A_BUSY_MACHINE] == []
