"""The demo prints the result of each step, and ends with the first failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.commands import bare_environment

ROOT = Path(__file__).resolve().parents[2]

_FAILING = """
import sys
sys.path.insert(0, {scripts!r})
import demo
from tour import native, require, yandex

def broken(tour):
    tour.stage("A stage")
    with tour.step("A good step") as step:
        step.result = "passed"
    with tour.step("A bad step"):
        {statement}
    raise AssertionError("the tour continued")

sys.exit(demo.main([{stages}broken]))
"""


def _run(arguments: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=bare_environment(HOME=os.environ["HOME"]) | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        encoding="utf-8",
        timeout=300,
    )


@pytest.mark.timeout(300)
def test_every_step_passes(tmp_path: Path) -> None:
    # Without a terminal, in an ASCII locale, and with an AWS account and a proxy in the environment.
    done = _run(
        ["scripts/demo.py"],
        PYTHONIOENCODING="ascii",
        TMPDIR=str(tmp_path),
        AWS_PROFILE="production",
        AWS_SESSION_TOKEN="of-another-cloud",
        HTTPS_PROXY="http://127.0.0.1:9",
        HTTP_PROXY="http://127.0.0.1:9",
        https_proxy="http://127.0.0.1:9",  # gRPC reads this variable
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("  ok ")]
    assert f"All {len(lines)} steps passed." in done.stdout
    for expected in (
        "CreateKeysAndCertificate(setAsActive=True): created the certificate arn:aws:iot:",
        "The private key: belongs to the certificate",
        "The certificate: is issued by device-ca.pem",
        "DescribeCertificate: the certificate is ACTIVE",
        "ListCertificates: returned this certificate",
        "UpdateCertificate(newStatus=INACTIVE): deactivated the certificate",
        "DeleteCertificate: deleted the certificate",
        "CreateCertificateFromCsr (P-256): issued a certificate",
        "CreateKeysAndCertificate with a wrong secret access key: refused with InvalidSignatureException (403)",
        "POST http://iot.us-east-1.amazonaws.com/keys-and-certificate: created a certificate",
        "RegistryService.Create: got an IAM token for the service account's key, and created the registry",
        "DeviceService.Create: created the device",
        "A certificate made as in Yandex's guide: RSA-4096, self-signed, CN=localhost",
        "DeviceService.AddCertificate: added it (operation",
        "DeviceService.ListCertificates: returned this certificate",
        "DescribeCertificate of the AWS API: returned the same certificate, as ACTIVE",
        "UpdateCertificate(newStatus=INACTIVE) of the AWS API: deactivated the certificate",
        "DeviceService.AddCertificate a second time: refused with ALREADY_EXISTS",
        "DeleteCertificate of the AWS API, while the device has the certificate: refused with DeleteConflictException",
        "The same device over REST: got an IAM token",
        "DeleteCertificate, and Delete of the device and the registry: deleted all three",
        "thingmint access user create, key create: created the user alice, with the access key AKIA",
        "ListCertificates by alice: refused with AccessDeniedException (403)",
        "thingmint access policy attach --policy thingmint/ReadOnly: allows ListCertificates immediately",
        "thingmint audit verify: ",
        "thingmint audit verify, after that refusal was changed to a success in a copy of the database: detected it: ",
        "thingmint import yandex --dry-run: two devices would come",
        "thingmint import yandex --new-passwords, while the server runs: imported all with their ids",
        "The registry and the device, with their old certificates: the device published to its alias",
        "The other device, with its new password: accepted",
        "thingmint import yandex again: everything is there already",
        "thingmint import aws --endpoint-url, while both servers run: imported all of it",
        "DescribeCertificate, DescribeThing, ListAttachedPolicies, GetPolicy at both servers: the answers are the same",
        "The device connects to this server over MQTT 5, with its old certificate: accepted",
        "thingmint bundle, thingmint join: created a second data directory with the same keys",
        "CreateKeysAndCertificate, CreatePolicy and AttachPolicy at the first process: the second process immediately",
        "The device connects to the second process over MQTT 5: accepted",
        "UpdateCertificate(newStatus=REVOKED) at the first process: the second process closed the device's connection",
        "The device connects again, to each process: refused with NOT_AUTHORIZED",
        "SIGTERM: the server stopped with exit status 0",
    ):
        assert any(line.startswith(f"  ok {expected}") for line in lines), expected
    assert "curl --noproxy '*' --connect-to iot.us-east-1.amazonaws.com:80:127.0.0.1:" in done.stdout
    assert "PRIVATE KEY-" not in done.stdout
    assert "\x1b" not in done.stdout
    assert list(tmp_path.iterdir()) == [], "the demo left files behind"


def test_the_first_failure_is_shown_with_the_log() -> None:
    program = _FAILING.format(scripts=str(ROOT / "scripts"), stages="", statement="require(1 > 2, 'is smaller')")
    done = _run(["-c", program])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "✓ A good step: passed" in done.stdout
    assert "✗ A bad step: is smaller" in done.stdout
    assert "The end of the server's log" in done.stdout
    assert "ready" in done.stdout.partition("The end of the server's log")[2]
    assert "steps passed" not in done.stdout


def test_the_demo_needs_no_curl_or_openssl_and_an_unexpected_error_fails_the_step(tmp_path: Path) -> None:
    stages = "native.keys_and_certificate, yandex.certificates, "
    statement = "raise KeyError('certificateId')"
    program = _FAILING.format(scripts=str(ROOT / "scripts"), stages=stages, statement=statement)
    done = _run(["-c", program], PATH=str(tmp_path))
    assert "curl is not installed" in done.stdout
    assert "openssl is not installed" in done.stdout
    assert done.returncode == 1, done.stdout + done.stderr
    assert "✗ A bad step: KeyError: 'certificateId'" in done.stdout
    assert done.stdout.count("✗") == 1, done.stdout
    assert done.stderr == ""
