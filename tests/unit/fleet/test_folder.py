"""The directory of a run: what a kill leaves behind is used or made again, and what is complete stays."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.unit import vectors
from thingmint.domain.certificate_profiles import DEVICE
from thingmint.domain.issuing_ca import CertificateRequest
from thingmint.fleet.devices import Device
from thingmint.fleet.folder import FolderError, RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_PLAN = {"kind": "template", "start": 1, "size": 3}
_DEVICES = [Device(place, place + 1, f"d{place + 1}", {}) for place in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    opened = RunFolder.new(tmp_path / "lamps", _PLAN, b"ca")
    opened.count_done()
    yield opened
    opened.close()


def _answers(requests: Sequence[str]) -> list[dict[str, Any]]:
    authority = vectors.authority(vectors.ca_key(), DEVICE, vectors.NOW)
    answers = []
    for request in requests:
        csr = x509.load_pem_x509_csr(request.encode())
        made = authority.sign(authority.prepare(CertificateRequest(csr.subject, csr.public_key()), vectors.NOW))
        answer = {"name": "thing", "certificate_id": made.fingerprint, "certificate_pem": made.pem}
        answers.append({**answer, "not_after": made.not_after.isoformat(timespec="seconds")})
    return answers


def test_keys_and_requests_are_made_once(folder: RunFolder) -> None:
    first = folder.requests(_DEVICES, "p256")
    assert folder.requests(_DEVICES, "p256") == first
    for device, request in zip(_DEVICES, first, strict=True):
        files = folder.path / device.name
        key = load_pem_private_key((files / "key.pem").read_bytes(), None)
        assert key.public_key() == x509.load_pem_x509_csr(request.encode()).public_key()
        assert {each.stat().st_mode & 0o777 for each in files.iterdir()} == {0o600}
        assert files.stat().st_mode & 0o777 == 0o700


def test_a_request_that_is_missing_or_damaged_is_made_for_the_same_key(folder: RunFolder) -> None:
    before = [x509.load_pem_x509_csr(each.encode()).public_key() for each in folder.requests(_DEVICES, "p256")]
    (folder.path / "d1" / "csr.pem").unlink()
    (folder.path / "d2" / "csr.pem").write_text("-----BEGIN CERTIFICATE REQUEST-----\n")
    (folder.path / "d3" / "csr.pem").write_bytes((folder.path / "d2" / "csr.pem").read_bytes())
    after = [x509.load_pem_x509_csr(each.encode()).public_key() for each in folder.requests(_DEVICES, "p256")]
    assert after == before


def test_a_damaged_key_is_never_replaced(folder: RunFolder) -> None:
    folder.requests(_DEVICES, "p256")
    (folder.path / "d1" / "key.pem").write_text("damaged")
    with pytest.raises(FolderError, match=r"d1/key.pem is damaged"):
        folder.requests(_DEVICES, "p256")


@pytest.mark.parametrize("torn", ["2,d2,th", "2,d2,thing,00,00,2049-12-31", "2"])
def test_half_a_line_of_the_manifest_is_dropped(folder: RunFolder, torn: str) -> None:
    requests = folder.requests(_DEVICES, "p256")
    folder.complete(_DEVICES[:1], requests[:1], _answers(requests[:1]))
    manifest = folder.path / "manifest.csv"
    whole = manifest.read_text()
    manifest.write_text(whole + torn)
    assert folder.count_done() == 1
    assert manifest.read_text() == whole
    folder.complete(_DEVICES[1:], requests[1:], _answers(requests[1:]))
    assert folder.count_done() == 3
    assert list(folder.names()) == ["d1", "d2", "d3"]


def test_half_a_header_is_written_again(folder: RunFolder) -> None:
    manifest = folder.path / "manifest.csv"
    whole = manifest.read_text()
    assert whole == "number,name,thing,certificate_id,serial_number,not_after\n"
    manifest.write_text("number,na")
    assert folder.count_done() == 0
    assert manifest.read_text() == whole


def test_a_manifest_of_others_is_refused(folder: RunFolder) -> None:
    manifest = folder.path / "manifest.csv"
    manifest.write_text(f"{manifest.read_text()}7,d7,thing,00,00,x\n")
    with pytest.raises(FolderError, match="changed by hand: line 2"):
        folder.count_done()


def test_certificates_must_fit_the_keys(folder: RunFolder) -> None:
    requests = folder.requests(_DEVICES, "p256")
    with pytest.raises(FolderError, match="the certificate of d1 has another key"):
        folder.complete(_DEVICES, requests, _answers(requests[::-1]))
    assert folder.count_done() == 0
    assert not (folder.path / "d1" / "certificate.pem").exists()


def test_the_archive_has_all_files_and_then_the_keys_may_go(folder: RunFolder) -> None:
    requests = folder.requests(_DEVICES, "p256")
    folder.complete(_DEVICES, requests, _answers(requests))
    key = (folder.path / "d1" / "key.pem").read_bytes()
    archive = folder.write_zip()
    assert archive.stat().st_mode & 0o777 == 0o600
    folder.remove_keys()
    folder.remove_keys()
    assert folder.write_zip() == archive  # it stays, as the keys are only in it
    with zipfile.ZipFile(archive) as packed:
        assert packed.read("d1/key.pem") == key
        assert len(packed.namelist()) == 2 + 3 * 3
    assert not list(folder.path.glob("*/key.pem"))
    assert len(list(folder.path.glob("*/certificate.pem"))) == 3


def test_only_one_process_uses_a_directory(folder: RunFolder) -> None:
    with pytest.raises(FolderError, match="another process makes devices"):
        RunFolder.begun(folder.path)


def test_only_new_and_empty_directories_are_taken(tmp_path: Path) -> None:
    assert RunFolder.begun(tmp_path / "none") is None
    assert RunFolder.begun(tmp_path) is None
    (tmp_path / ".run.json.new").touch()
    assert RunFolder.begun(tmp_path) is None
    (tmp_path / "notes").touch()
    with pytest.raises(FolderError, match="in use for something else"):
        RunFolder.begun(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(FolderError, match=r"run.json is damaged"):
        RunFolder.begun(tmp_path)
