"""The native API: one plain request, as in published examples for AWS IoT."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tour import require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tour import Tour

__all__ = ["keys_and_certificate"]

_HOST = "iot.us-east-1.amazonaws.com"
_PATH = "/keys-and-certificate"
_HEADERS = {"accept": "application/json", "content-type": "application/json"}


def keys_and_certificate(tour: Tour) -> None:
    curl = shutil.which("curl")
    tour.stage(f"The native API, with {'curl' if curl else 'plain HTTP (curl is not installed)'}")

    with tour.step(f"POST http://{_HOST}{_PATH}") as step:
        headers = {**_HEADERS, "authorization": f"Bearer {tour.server.token}"}
        status, answer = _curl(tour, curl, headers) if curl else _http(tour, headers)
        require(status == 200, f"was answered with {status}: {answer}")
        data = answer["data"]
        tour.private_keys.append(data["private_key"])
        certificate = x509.load_pem_x509_certificate(data["certificate_pem"].encode())
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(tour.server.device_ca.read_bytes()))
        private_key = load_pem_private_key(data["private_key"].encode(), None)
        require(private_key.public_key() == certificate.public_key(), "returned the key of another certificate")
        require(data["arn"].startswith("arn:aws:iot:us-east-1:"), f"created {data['arn']}, in another region")
        step.result = "created a certificate in the host name's region; the private key belongs to it"
    tour.show("# The same request with curl. After make serve, use port 8080 and TOKEN=$(cat data/clients/token):")
    tour.show(_curl_line(tour))

    with tour.step("The same request without a token") as step:
        status, answer = _curl(tour, curl, _HEADERS) if curl else _http(tour, _HEADERS)
        code = answer["error"]["code"]
        require((status, code) == (401, "UNAUTHENTICATED"), f"was answered with {code} ({status})")
        step.result = f"refused with {code} ({status})"


def _arguments(tour: Tour) -> list[str]:
    here = f"{_HOST}:80:127.0.0.1:{tour.server.ports['http']}"
    return ["--noproxy", "*", "--connect-to", here, "--request", "POST", "--url", f"http://{_HOST}{_PATH}"]


def _curl_line(tour: Tour) -> str:
    headers = [f"--header {shlex.quote(f'{name}: {value}')}" for name, value in _HEADERS.items()]
    return f'curl {shlex.join(_arguments(tour))} {" ".join(headers)} --header "authorization: Bearer $TOKEN"'


def _curl(tour: Tour, curl: str, headers: Mapping[str, str]) -> tuple[int, Any]:
    """Status and answer. curl reads the headers from standard input: other users of the machine can read arguments."""
    quiet = ["--disable", "--silent", "--show-error", "--write-out", "\n%{http_code}"]
    done = subprocess.run(
        [curl, *quiet, *_arguments(tour), "--header", "@-"],
        input="".join(f"{name}: {value}\n" for name, value in headers.items()),
        capture_output=True,
        check=False,
        encoding="utf-8",
        env={"PATH": os.environ.get("PATH", os.defpath)},
        timeout=30,
    )
    require(done.returncode == 0, f"curl failed: {done.stderr.strip()}")
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def _http(tour: Tour, headers: Mapping[str, str]) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", tour.server.ports["http"], timeout=30)
    try:
        connection.request("POST", _PATH, headers={"host": _HOST, **headers})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
