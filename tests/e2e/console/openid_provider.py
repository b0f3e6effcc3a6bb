"""The OpenID Connect provider of npm's `oidc-provider`, which `make services` installs, as a process."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT = "thingmint"
SECRET = "a secret: with a colon, 100 % + 1"  # in the header it has to be encoded (RFC 6749, 2.3.1)
PEOPLE = {
    "alice": ["staff", "operators"],
    "bob": ["staff"],
    "carol": ["viewers", "staff", "operators"],
    "dave": [],
    "erin": ["<script>window.changed = true</script>", "viewers"],
}
MODULES = Path(__file__).resolve().parents[3] / "build" / "oidc-provider" / "node_modules"
SCRIPT = Path(__file__).with_name("provider") / "provider.mjs"


@dataclass
class Provider:
    issuer: str
    process: subprocess.Popen[str]

    def admit(self, console: str) -> None:
        """Allows the console at that address to be the client."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(f"{console}/console/sign-in/oidc/callback", file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "ready\n"


@contextmanager
def openid_provider(*, in_userinfo: bool = False, port: int = 0) -> Iterator[Provider]:
    """A provider that puts the groups into its ID tokens, or only into the answers of its userinfo endpoint."""
    node = shutil.which("node")
    if node is None or not MODULES.is_dir():
        pytest.skip("oidc-provider was not found: make services installs it")
    client = {"id": CLIENT, "secret": SECRET, "in_userinfo": in_userinfo, "people": PEOPLE}
    command = [node, str(SCRIPT), str(MODULES), str(port), json.dumps(client)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Provider(process.stdout.readline().strip(), process)
        finally:
            process.kill()


def port_of(provider: Provider) -> int:
    return urlsplit(provider.issuer).port or 0
