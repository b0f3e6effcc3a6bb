"""What docs/operating.md tells operators to use: the systemd unit, the alerts, and keys under another passphrase."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e.commands import in_process
from tests.markdown import ROOT, blocks_of
from thingmint.testing import running_server

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "operating.md"
UNIT = ROOT / "packaging" / "thingmint.service"
_PROMETHEUS_OWN = {"process_max_fds", "process_open_fds"}


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing")
    unit = tmp_path / UNIT.name
    unit.write_text(
        UNIT.read_text().replace("/opt/thingmint/bin/thingmint", "/bin/true")
    )  # verify looks for the program
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_page_and_the_unit_name_the_same_files() -> None:
    page, unit = PAGE.read_text(), UNIT.read_text()
    [command] = re.findall(r"(?m)^ExecStart=(\S+) serve --config (\S+)$", unit)
    for path in command:
        assert path in page
    assert "useradd --system --shell /usr/sbin/nologin thingmint --home-dir /var/lib/thingmint\n" in page
    for line in ("User=thingmint", "Group=thingmint", "StateDirectory=thingmint"):
        assert f"\n{line}\n" in unit


def test_the_alerts_use_metrics_that_are_there() -> None:
    rules = "".join(block.text for block in blocks_of(PAGE.read_text()) if block.language == "yaml")
    used = set(re.findall(r"\b(?:thingmint|process)_\w+", rules))
    rows = re.findall(r"(?m)^\| `(thingmint_\w+)(?:\{([^}]*)\})?`", (ROOT / "docs" / "metrics.md").read_text())
    metrics = {name: set(labels.split(", ")) for name, labels in rows}
    assert len(used) > 10
    assert used - _PROMETHEUS_OWN <= set(metrics)
    by = re.findall(r"sum by \((\w+)\) \(rate\(thingmint_requests_total(?:\{(\w+))?", rules)
    assert {label for labels in by for label in labels if label} <= metrics["thingmint_requests_total"]
    assert len(by) == 2


def test_keys_that_openssl_encrypted_anew_are_opened(tmp_path: Path) -> None:
    data, passphrase = tmp_path / "data", tmp_path / "new-passphrase"
    done = in_process("init", "--data-dir", data)
    assert done.returncode == 0, done.stderr
    [block] = [block for block in blocks_of(PAGE.read_text()) if "openssl pkcs8" in block.text]
    subprocess.run(["bash", "-euc", block.text], cwd=tmp_path, check=True)
    keys = [(data / f"{name}.key").read_text() for name in ("ca", "device-ca", "audit")]
    assert all(key.startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----") for key in keys)
    with running_server(data, environment={"THINGMINT_CA_PASSPHRASE_FILE": str(passphrase)}) as server:
        assert server.stop() == 0
