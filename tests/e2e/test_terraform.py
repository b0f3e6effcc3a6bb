"""Terraform with AWS's provider: every resource type that is served is applied, does not drift, and is destroyed.

Runs if Terraform is installed, and TF_CLI_CONFIG_FILE names a configuration with a mirror of the provider: hundreds
of megabytes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.access.local_admin import LocalAdmin
from tests.e2e.material import csr_pem, new_issuer, self_signed_pem
from tests.e2e.provisioning.support import TRUST
from thingmint.testing import running_server

if TYPE_CHECKING:
    from thingmint.testing import RunningServer

CONFIGURATION = Path(__file__).with_name("terraform") / "main.tf"
_PATIENCE = 300.0  # seconds

pytestmark = [
    pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not there"),
    pytest.mark.skipif(
        not Path(os.environ.get("TF_CLI_CONFIG_FILE", "/")).is_file(),
        reason="TF_CLI_CONFIG_FILE names no configuration with a mirror",
    ),
]


def variables(server: RunningServer) -> dict[str, str]:
    local_admin = LocalAdmin(server)
    local_admin.ask("role.create", name="fleet", trust_policy=TRUST)
    account = local_admin.ask("account.list")[0]["id"]
    return {
        "role": f"arn:aws:iam::{account}:role/fleet",
        "authorities": json.dumps([new_issuer().pem for _ in range(2)]),
        "certificate": self_signed_pem(),
        "csr": csr_pem(),
    }


@pytest.mark.timeout(6 * _PATIENCE)
def test_every_resource_type_is_applied_without_drift_and_destroyed(tmp_path: Path) -> None:
    shutil.copy(CONFIGURATION, tmp_path)
    with running_server() as server:
        given = {f"TF_VAR_{name}": value for name, value in variables(server).items()}
        environment = os.environ | server.environment() | given

        def terraform(*arguments: str, word: str = "first") -> None:
            done = subprocess.run(
                ["terraform", *arguments, "-no-color"],
                cwd=tmp_path,
                env=environment | {"TF_VAR_word": word},
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr  # 2: the plan has changes

        terraform("init", "-input=false")
        for word in ("first", "second"):
            terraform("apply", "-auto-approve", word=word)
            terraform("plan", "-detailed-exitcode", word=word)
        terraform("destroy", "-auto-approve", word="second")
