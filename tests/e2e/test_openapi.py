"""The native API's OpenAPI document is as strict as the server: Schemathesis finds no difference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx

from tests.e2e.material import self_signed_pem
from thingmint.testing import running_server

_ROOT = Path(__file__).parents[2]
_SECONDS = 60


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with running_server(arguments=["--limits", "none"]) as server:
        headers = {"authorization": f"Bearer {server.token}"}
        with httpx.Client(base_url=server.http_url, headers=headers, timeout=20) as client:
            for _ in range(2):
                client.post("/v1/certificates", json={"certificate_pem": self_signed_pem()}).raise_for_status()
            markers = {
                name: client.get(path, params={"page_size": 1}).json()["data"]["next_marker"]
                for name, path in _lists(client)
            }
        markers = {name: marker for name, marker in markers.items() if marker is not None}
        assert markers
        ran = subprocess.run(
            [
                Path(sys.executable).with_name("st"),
                *("run", f"{server.http_url}/openapi.json", f"--url={server.http_url}"),
                *("--header", f"Authorization: Bearer {server.token}"),
                *("--max-time", str(_SECONDS), "--seed", "7", "--no-color"),
            ],
            cwd=tmp_path,
            env=os.environ
            | {
                "MARKERS": json.dumps(markers),
                "PYTHONPATH": os.pathsep.join((str(_ROOT), *sys.path)),
                "SCHEMATHESIS_HOOKS": "tests.openapi_formats",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr
        still = httpx.get(f"{server.http_url}/v1/certificates", headers=headers)
        assert still.status_code == 200, "the token was used up, so not much was tried"


def _lists(client: httpx.Client) -> list[tuple[str, str]]:
    """The name of each list with pages, as in the format of its marker, and its path."""
    document = client.get("/openapi.json").json()
    return [
        (parameter["schema"]["format"].removeprefix("marker-of-"), path)
        for path, methods in document["paths"].items()
        for parameter in methods.get("get", {}).get("parameters", ())
        if parameter["name"] == "marker"
    ]
