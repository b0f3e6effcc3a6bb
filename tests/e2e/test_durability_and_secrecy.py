"""Answered changes are never lost, and private keys are never stored."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import resource
import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.e2e.conftest import iot_client, registered
from tests.e2e.material import csr_pem, key, key_pem, secret_forms, self_signed_pem
from tests.e2e.signing import Signer
from tests.e2e.wire import connected, exchange, one_request, read_answer, until
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from thingmint.testing import RunningServer


# -- kill -9 ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Load:
    """The answers to clients: each certificate's status, or None after it was deleted. Only complete answers count."""

    server: RunningServer
    answered: dict[str, str | None] = field(default_factory=dict)
    # Changes without an answer: both outcomes are correct.
    open: set[str] = field(default_factory=set)
    private_keys: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def create_from_csrs(self) -> None:
        """Creates, activates, deactivates and deletes certificates over the native API while the server answers."""
        csr = csr_pem()
        with contextlib.suppress(OSError, http.client.HTTPException), self._connection() as connection:
            while True:
                cert_id = self._call(connection, "POST", "/v1/certificates", {"csr": csr})["data"]["id"]
                self.answered[cert_id] = "INACTIVE"
                for status in ("ACTIVE", "INACTIVE"):
                    self.open.add(cert_id)
                    self._call(connection, "PATCH", f"/v1/certificates/{cert_id}", {"status": status})
                    self.answered[cert_id] = status
                    self.open.discard(cert_id)
                if len(self.answered) % 3 == 0:
                    self.open.add(cert_id)
                    self._call(connection, "DELETE", f"/v1/certificates/{cert_id}", None)
                    self.answered[cert_id] = None
                    self.open.discard(cert_id)

    def create_keys(self) -> None:
        """Creates keys and certificates over the AWS API while the server answers."""
        signer = Signer.of(self.server)
        target = "/keys-and-certificate?setAsActive=true"
        with contextlib.suppress(OSError, http.client.HTTPException), self._connection() as connection:
            while True:
                connection.request("POST", target, headers=signer.headers("POST", target))
                answer = connection.getresponse()
                document = json.loads(answer.read())
                if answer.status != 200:
                    self.problems.append(document["message"])
                    return
                self.answered[document["certificateId"]] = "ACTIVE"
                self.private_keys.append(document["keyPair"]["PrivateKey"])

    @contextlib.contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.server.ports["http"], timeout=20)
        ) as connection:
            yield connection

    def _call(self, connection: http.client.HTTPConnection, method: str, target: str, body: Any) -> Any:
        headers = {"authorization": f"Bearer {self.server.token}"}
        connection.request(method, target, body=json.dumps(body) if body is not None else None, headers=headers)
        answer = connection.getresponse()
        document = json.loads(answer.read())
        if answer.status != 200:
            self.problems.append(document["error"]["message"])
            raise http.client.HTTPException
        return document


def under_load(load: Load, *, answers: int) -> None:
    """Runs clients, and kills the server under their load after that many certificates were answered."""
    threads = [threading.Thread(target=load.create_from_csrs) for _ in range(6)]
    threads += [threading.Thread(target=load.create_keys) for _ in range(3)]
    before = len(load.answered)
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(load.answered) >= before + answers, seconds=60, what="enough was answered")
    finally:
        load.server.kill()
        for thread in threads:
            thread.join(30)
    assert not load.problems


def test_every_answered_change_survives_kill_9(tmp_path: Path) -> None:
    data = tmp_path / "data"
    load = None
    for answers in (200, 60, 200):
        with running_server(data, arguments=["--key-pool=8"]) as server:
            load = Load(server) if load is None else Load(server, load.answered, load.open, load.private_keys)
            check_kept(server, load.answered, load.open)
            under_load(load, answers=answers)
        # After a kill, SQLite's own tools find an intact database too.
        with contextlib.closing(sqlite3.connect(data / "thingmint.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    assert load is not None
    assert len(load.private_keys) > 3, "key generation took part in the load"
    assert None in load.answered.values(), "and so did deletions"
    with running_server(data) as server:
        check_kept(server, load.answered, load.open)
        assert exchange(server, "GET", "/readyz").status == 200
        search(server, *load.private_keys[:20])


def check_kept(server: RunningServer, answered: dict[str, str | None], open_changes: set[str]) -> None:
    with contextlib.closing(iot_client(server)) as iot:
        kept = dict(registered(iot))
    for cert_id, status in answered.items():
        if cert_id in open_changes:
            continue
        if status is None:
            assert cert_id not in kept, "a deleted certificate is back"
        else:
            assert kept.get(cert_id) == status, "a stored certificate differs from the answer"


# -- a disk that is full ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_file_may_grow(server: RunningServer, *, beyond: int) -> Iterator[None]:
    """Limits the server's process as a full disk would."""
    pid = server.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (beyond, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_answers_503_until_there_is_room(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server, contextlib.closing(iot_client(server)) as iot:
        kept = iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())["certificateId"]
        size = (server.data_dir / "thingmint.db-wal").stat().st_size
        with no_file_may_grow(server, beyond=size + 30_000):
            refused = None
            for _ in range(50):
                try:
                    iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())
                except iot.exceptions.ServiceUnavailableException as error:
                    refused = error.response
                    break
            assert refused is not None
            assert refused["ResponseMetadata"]["HTTPStatusCode"] == 503
            native = exchange(
                server, "POST", "/keys-and-certificate", {"authorization": f"Bearer {server.token}", "host": "x"}
            )
            assert (native.status, native.json()["error"]["code"]) == (503, "UNAVAILABLE")
            until(lambda: exchange(server, "GET", "/readyz").status == 503, seconds=10, what="the server is not ready")
            assert exchange(server, "GET", "/healthz").status == 200
        until(lambda: exchange(server, "GET", "/readyz").status == 200, seconds=10, what="the server is ready")
        late = iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())["certificateId"]
        assert {kept, late} <= {cert_id for cert_id, _ in registered(iot)}
        assert server.stop() == 0
        assert "Traceback" not in server.output.read_text()


def test_a_disk_too_full_for_the_log_answers_503(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", arguments=["--log-format=json"]) as server:
        try:
            with no_file_may_grow(server, beyond=10), connected(server) as sock:
                sock.settimeout(3)
                headers = {"authorization": f"Bearer {server.token}", "host": "localhost"}
                body = json.dumps({"csr": csr_pem()}).encode()
                sock.sendall(one_request("POST", "/v1/certificates", headers, body))
                assert read_answer(sock, bytearray()).status == 503
        finally:
            server.kill()  # it would not stop, because it waits for the callers that wait


# -- private keys -------------------------------------------------------------------------------------------------


def everything(server: RunningServer) -> Iterator[tuple[str, bytes]]:
    """The content of all files that a server leaves, and of its log."""
    for path in server.data_dir.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(server.data_dir)), path.read_bytes()
    yield "output", server.output.read_bytes()
    if server.process.poll() is None:
        for name in ("environ", "cmdline"):
            yield name, Path(f"/proc/{server.process.pid}/{name}").read_bytes()


def places_of(server: RunningServer, patterns: Iterable[bytes]) -> set[str]:
    wanted = list(patterns)
    return {place for place, content in everything(server) if any(pattern in content for pattern in wanted)}


def search(server: RunningServer, *private_pems: str) -> None:
    assert private_pems
    patterns = [form for pem in private_pems for form in secret_forms(pem)]
    assert all(len(pattern) >= 30 for pattern in patterns)
    assert places_of(server, patterns) == set()


def test_the_search_would_find_a_key(tmp_path: Path) -> None:
    """Shows that the search finds a key in each form in which a careless server could store it."""
    for kind in ("rsa2048", "secp256r1"):
        pem = key_pem(key(kind))
        forms = list(secret_forms(pem))
        private_key = key(kind)
        der = private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        logged = json.dumps({"body": pem.replace("\n", "\\n")}).encode()
        for leak in (pem.encode(), logged, b"prefix" + der + b"suffix"):
            assert any(form in leak for form in forms)


def test_generated_private_keys_are_nowhere(tmp_path: Path) -> None:
    data = tmp_path / "data"
    private_pems: list[str] = []
    ders: list[bytes] = []
    for log_format in ("console", "json"):
        with running_server(data, arguments=[f"--log-format={log_format}"]) as server:
            with contextlib.closing(iot_client(server)) as iot:
                made = [iot.create_keys_and_certificate() for _ in range(3)]
            private_pems += [answer["keyPair"]["PrivateKey"] for answer in made]
            native = exchange(server, "POST", "/keys-and-certificate", {"authorization": f"Bearer {server.token}"})
            private_pems.append(native.json()["data"]["private_key"])
            # A client that disconnects before its answer, and a client that never reads its answer.
            with connected(server) as sock:
                headers = {"authorization": f"Bearer {server.token}", "host": "localhost"}
                sock.sendall(one_request("POST", "/keys-and-certificate", headers))
            ders += [
                x509.load_pem_x509_certificate(answer["certificatePem"].encode()).public_bytes(Encoding.DER)
                for answer in made
            ]
            # Shows that the search finds stored data: the certificates are in the WAL or in the database.
            assert places_of(server, ders) & {"thingmint.db", "thingmint.db-wal"}
            search(server, *private_pems)
            if log_format == "console":
                server.kill()
            else:
                assert server.stop() == 0
                assert places_of(server, ders) == {"thingmint.db"}
            search(server, *private_pems)


def test_submitted_private_keys_are_nowhere(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", arguments=["--log-format=json"]) as server:
        signer = Signer.of(server)
        native = {"authorization": f"Bearer {server.token}"}
        submitted = []
        for kind in ("rsa2048", "secp256r1"):
            for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
                secret = key_pem(key(kind), form)
                submitted.append(secret)
                for csr in (csr_pem(kind) + secret, secret + csr_pem(kind), secret):
                    aws = signer.send(
                        "POST", "/certificates", body=json.dumps({"certificateSigningRequest": csr}).encode()
                    )
                    own = exchange(server, "POST", "/v1/certificates", native, json.dumps({"csr": csr}).encode())
                    assert (aws.status, own.status) == (400, 400)
                certificate = self_signed_pem(kind) + secret
                aws = signer.send(
                    "POST", "/certificate/register-no-ca", body=json.dumps({"certificatePem": certificate}).encode()
                )
                body = json.dumps({"certificate_pem": certificate}).encode()
                own = exchange(server, "POST", "/v1/certificates", native, body)
                assert (aws.status, own.status) == (400, 400)
                # In fields that are not for keys.
                quoted = base64.urlsafe_b64encode(secret.encode()).decode()
                for target in (f"/certificates/{quoted[:2000]}", f"/v1/certificates?marker={quoted[:1000]}"):
                    exchange(server, "GET", target, native)
                exchange(server, "POST", "/v1/certificates", native, secret.encode())
        search(server, *submitted)
        assert server.stop() == 0
        search(server, *submitted)


# -- credentials --------------------------------------------------------------------------------------------------


def test_credentials_are_only_in_their_files(tmp_path: Path) -> None:
    held = tmp_path / "passphrase"
    held.write_text("correct horse battery\n")
    variables = {"THINGMINT_CA_PASSPHRASE_FILE": str(held)}
    with running_server(tmp_path / "data", arguments=["--log-format=json"], environment=variables) as server:
        env = server.environment()
        with contextlib.closing(iot_client(server)) as iot:
            iot.create_keys_and_certificate()
            iot.generate_presigned_url("describe_endpoint")
        exchange(server, "GET", "/v1/certificates", {"authorization": f"Bearer {server.token}"})
        exchange(server, "GET", "/v1/certificates", {"authorization": f"Bearer {server.token[:-1]}"})
        secret = env["AWS_SECRET_ACCESS_KEY"]
        token_secret = server.token.split("_", 2)[2]
        assert len(secret) == 40
        for _ in range(2):
            assert places_of(server, [secret.encode(), base64.b64decode(secret)]) == {"clients/aws.env"}
            assert places_of(server, [token_secret.encode()]) == {"clients/token"}
            assert places_of(server, [bytes.fromhex((server.data_dir / "master.key").read_text())]) == set()
            assert places_of(server, [(server.data_dir / "master.key").read_bytes().strip()]) == {"master.key"}
            assert places_of(server, [b"correct horse battery"]) == set()
            if server.process.poll() is None:
                assert server.stop() == 0


def test_the_server_writes_no_core_dumps(server: RunningServer) -> None:
    limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]
