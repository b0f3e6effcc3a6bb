"""The script of docs/moving-from-yandex.md that exports a fleet from Yandex IoT Core, with a stand-in for ``yc``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.markdown import ROOT, blocks_of

if TYPE_CHECKING:
    from pathlib import Path

# Answers by its arguments; fails once for the certificates of the last device, as a network does.
_YC = """\
#!/usr/bin/env bash
[ "$1 $2" != "config get" ] || { echo folder-1; exit; }
echo "$*" >> "$YC_LOG"
case "$*" in
*"device certificate list --device-id dev-3"*)
    [ -e "$YC_LOG.failed" ] || { touch "$YC_LOG.failed"; exit 1; }
    echo '[{"fingerprint": "dev-3"}]' ;;
*"device certificate list"*) echo "[{\\"fingerprint\\": \\"$6\\"}]" ;;
*"device list --registry-id reg-1"*) echo '[{"id": "dev-1"}, {"id": "dev-2"}]' ;;
*"device list --registry-id reg-2"*) echo '[{"id": "dev-3"}]' ;;
*"registry list "*) echo '[{"id": "reg-1"}, {"id": "reg-2"}]' ;;
*"broker list "*) echo '[{"id": "bro-1"}]' ;;
*) echo '[]' ;;
esac
"""
_FILES = [
    "aliases-reg-1.json",
    "aliases-reg-2.json",
    "broker-certs-bro-1.json",
    "brokers.json",
    "device-certs-reg-1/dev-1.json",
    "device-certs-reg-1/dev-2.json",
    "device-certs-reg-2/dev-3.json",
    "devices-reg-1.json",
    "devices-reg-2.json",
    "registries.json",
    "registry-certs-reg-1.json",
    "registry-certs-reg-2.json",
]


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not there")
def test_the_export_from_yandex_is_complete_after_a_failure(tmp_path: Path) -> None:
    blocks = blocks_of((ROOT / "docs" / "moving-from-yandex.md").read_text())
    script = next(block.text for block in blocks if "yc iot" in block.text)
    (tmp_path / "export-yandex.sh").write_text(script)
    yc = tmp_path / "bin" / "yc"
    yc.parent.mkdir()
    yc.write_text(_YC)
    yc.chmod(0o700)
    log = tmp_path / "calls"

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "export-yandex.sh"],
            cwd=tmp_path,
            env={"PATH": f"{yc.parent}:{os.environ['PATH']}", "YC_LOG": str(log)},
            capture_output=True,
            check=False,
            encoding="utf-8",
            timeout=60,
        )

    first = run()
    assert first.returncode != 0
    assert "complete" not in first.stdout
    calls = log.read_text().splitlines()
    second = run()
    assert second.returncode == 0, second.stderr
    export = tmp_path / "iot-export-folder-1"
    assert second.stdout.splitlines()[-1] == f"The export is complete: {export}"
    assert sorted(str(path.relative_to(export)) for path in export.rglob("*.json")) == _FILES
    assert json.loads((export / "device-certs-reg-2" / "dev-3.json").read_text()) == [{"fingerprint": "dev-3"}]
    assert [path for path in export.rglob("*") if path.name.endswith(".part") and path.stat().st_size] == []
    again = log.read_text().splitlines()[len(calls) :]
    assert again == ["iot device certificate list --device-id dev-3 --folder-id folder-1 --format json"]
    limited = [call for call in calls if " list" in call and "certificate" not in call]
    assert all("--limit 1000000" in call for call in limited), limited
    assert all("--folder-id folder-1 --format json" in call for call in calls)
