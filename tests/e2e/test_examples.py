"""`make examples` writes the examples that the repository has: a new run of the calls gives the same bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.api_documents import MAKERS

_ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_a_new_run_writes_the_same_examples(tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, _ROOT / "scripts" / "examples.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_ROOT)
    assert done.returncode == 0, done.stderr[-5000:]
    for api in MAKERS:
        new = (tmp_path / api / "examples.json").read_text("utf-8").splitlines()
        kept = (_ROOT / "src" / "thingmint" / api / "examples.json").read_text("utf-8").splitlines()
        changed = [
            f"{index}: {old} | {line}"
            for index, (old, line) in enumerate(zip(kept, new, strict=False), 1)
            if old != line
        ]
        assert new == kept, f"run `make examples`; these lines of {api}/examples.json changed: {changed[:10]}"
