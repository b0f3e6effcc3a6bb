"""The demo: a tour that says what it proved, and that fails loudly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.commands import bare_environment

ROOT = Path(__file__).resolve().parents[2]

_FAILING = """
import sys
sys.path.insert(0, {scripts!r})
import demo
from tour import native, require, yandex

def broken(tour):
    tour.stage("A stage")
    with tour.step("What holds") as step:
        step.proved = "holds"
    with tour.step("What does not hold"):
        {statement}
    raise AssertionError("the tour went on")

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
        timeout=100,
    )


def test_every_step_holds(tmp_path: Path) -> None:
    # Without a terminal, in a plain character set, next to somebody's own AWS account and proxy.
    done = _run(
        ["scripts/demo.py"],
        PYTHONIOENCODING="ascii",
        TMPDIR=str(tmp_path),
        AWS_PROFILE="production",
        AWS_SESSION_TOKEN="of-another-cloud",
        HTTPS_PROXY="http://127.0.0.1:9",
        HTTP_PROXY="http://127.0.0.1:9",
        https_proxy="http://127.0.0.1:9",  # gRPC reads this one
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("  ok ")]
    assert f"All {len(lines)} steps held." in done.stdout
    for proof in (
        "The private key: fits the certificate",
        "The certificate: chains to device-ca.pem",
        "DescribeCertificate: it is ACTIVE",
        "ListCertificates: lists it",
        "UpdateCertificate(newStatus=INACTIVE): deactivated it",
        "DeleteCertificate: removed it",
        "CreateCertificateFromCsr (P-256): signed",
        "A wrong secret: refused with InvalidSignatureException (403)",
        "POST http://iot.us-east-1.amazonaws.com/keys-and-certificate: an identity",
        "RegistryService.Create: the service account's key got an IAM token",
        "DeviceService.Create: a device in it",
        "A certificate as Yandex's guide makes them: RSA-4096, self-signed, CN=localhost",
        "DeviceService.AddCertificate: the SDK waited for operation",
        "ListCertificates: lists it",
        "The same certificate over AWS's API: the fingerprint is its certificateId, and it is ACTIVE",
        "UpdateCertificate(newStatus=INACTIVE) there: deactivated it",
        "AddCertificate once more: refused with ALREADY_EXISTS",
        "AWS's DeleteCertificate while it is a device's: refused with DeleteConflictException (409)",
        "The same device over REST: an IAM token",
        "DeleteCertificate, and Delete of device and registry: removed them",
        "thingmint access user create, key create: a user with the access key AKIA",
        "Her ListCertificates: refused with AccessDeniedException (403)",
        "thingmint access policy attach --policy thingmint/ReadOnly: lets her list at once",
        "thingmint audit verify: ",
        "Her refusal made a success by hand, in a copy of the database: caught: the audit trail was tampered with",
        "thingmint bundle, thingmint join: a second data directory with the same keys",
        "CreateKeysAndCertificate, CreatePolicy and AttachPolicy at the first: an identity",
        "The device connects to the second: on MQTT 5",
        "UpdateCertificate(newStatus=REVOKED) at the first: ended its connection to the second after ",
        "The device tries again at both: it is refused: NOT_AUTHORIZED",
        "SIGTERM: ended the server with exit status 0",
    ):
        assert any(line.startswith(f"  ok {proof}") for line in lines), proof
    assert "curl --noproxy '*' --connect-to iot.us-east-1.amazonaws.com:80:127.0.0.1:" in done.stdout
    assert "PRIVATE KEY-" not in done.stdout
    assert "\x1b" not in done.stdout
    assert list(tmp_path.iterdir()) == [], "the demo left something behind"


def test_the_first_failure_is_shown_with_the_log() -> None:
    program = _FAILING.format(scripts=str(ROOT / "scripts"), stages="", statement="require(1 > 2, 'is smaller')")
    done = _run(["-c", program])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "✓ What holds: holds" in done.stdout
    assert "✗ What does not hold: is smaller" in done.stdout
    assert "The end of the server's log" in done.stdout
    assert "ready" in done.stdout.partition("The end of the server's log")[2]
    assert "steps held" not in done.stdout


def test_it_does_without_curl_and_openssl_and_an_unexpected_error_is_a_failure_too(tmp_path: Path) -> None:
    stages = "native.keys_and_certificate, yandex.certificates, "
    statement = "raise KeyError('certificateId')"
    program = _FAILING.format(scripts=str(ROOT / "scripts"), stages=stages, statement=statement)
    done = _run(["-c", program], PATH=str(tmp_path))
    assert "there is no curl here" in done.stdout
    assert "there is no openssl here" in done.stdout
    assert done.returncode == 1, done.stdout + done.stderr
    assert "✗ What does not hold: KeyError: 'certificateId'" in done.stdout
    assert done.stdout.count("✗") == 1, done.stdout
    assert done.stderr == ""
