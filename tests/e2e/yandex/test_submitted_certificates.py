"""AddCertificate accepts large certificates, and never stores a private key."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.yandex.certificates import (
    certificate,
    private_key_pem,
    rsa_spki,
    sha256_of,
)
from tests.e2e.yandex.clients import Refused

if TYPE_CHECKING:
    from tests.e2e.yandex.clients import Cloud


def test_certificates_of_64_kib_are_accepted(cloud: Cloud, wire_name: str) -> None:
    device, pem = cloud.device(), certificate(rsa_spki(512), version=1).ljust(64 * 1024, "\n")
    assert cloud.add(device, pem, wire_name).done
    [listed] = cloud.certificates(device)
    assert (listed.fingerprint, listed.certificate_data) == (sha256_of(pem), pem)
    with pytest.raises(Refused) as refused:
        cloud.add(device, f"{pem}\n", wire_name)
    assert refused.value.code == "INVALID_ARGUMENT"
    assert list(refused.value.violations) == ["certificate_data"]


def test_a_submitted_private_key_is_not_stored(cloud: Cloud, wire_name: str) -> None:
    key = private_key_pem()
    secret_lines = key.splitlines()[1:-1]
    with pytest.raises(Refused) as refused:
        cloud.add(cloud.device(), certificate() + key, wire_name, key="with-a-key")
    assert not any(line in str(refused.value.status) for line in secret_lines)
    # The refusal is logged, over gRPC only after the answer.
    time.sleep(0.5)
    log = cloud.server.output.read_text()
    files = [path for path in cloud.server.data_dir.rglob("*") if path.is_file()]
    assert any(path.name == "thingmint.db-wal" for path in files), "the WAL must be searched too"
    for content in (log.encode(), *(path.read_bytes() for path in files)):
        assert not any(line.encode() in content for line in secret_lines)
