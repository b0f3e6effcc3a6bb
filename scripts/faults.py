"""Kills the real server under mixed load many times, and checks that no answered write is lost or incomplete.

In each round clients create certificates, attach, change and delete them, register and provision things, and add
certificates to Yandex devices, until the server is killed (SIGKILL) at a random moment. The next server must have every
answered write, with its audit record. It may have a write that was not answered, but only completely. FOLDER has the
data and the answers, so that the next run continues where the last one ended. The exit status is 1 if a write is lost.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import shutil
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.devices import Devices
from benchmarks.fleet import csr_pem, key_pem
from benchmarks.load import LoadFailed
from benchmarks.provisioning import prepare_provisioning
from benchmarks.yandex import self_signed_pems
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thingmint.testing import RunningServer

LONGEST = 2.0  # seconds of load before a kill
PATIENCE = 20.0  # seconds
WHOLE_EVERY = 50  # rounds, between two checks of the whole database and audit log
DELETED = "deleted"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}
# A thing is created with these in one transaction; without any of them it is incomplete.
HALF_MADE = """
    SELECT t.name FROM things AS t WHERE NOT EXISTS (
        SELECT 1 FROM thing_principals AS p
        JOIN registrations AS r ON r.certificate = p.certificate AND r.status = 'ACTIVE'
        JOIN device_policy_attachments AS a ON a.certificate = p.certificate
        WHERE p.thing = t.name)
"""


class Lost(Exception):
    """The store does not match the answers."""


@dataclass
class Answered:
    """The answers of one round, by the fingerprints of certificates. ``requests`` are the ids of requests that write.

    Each object is created and changed by one client, and not changed in later rounds.
    """

    statuses: dict[str, str] = field(default_factory=dict)
    attached: list[str] = field(default_factory=list)
    bound: list[str] = field(default_factory=list)
    things: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


class Clients:
    """The load of one round: threads that run until the server is gone."""

    def __init__(self, server: RunningServer, folder: Path) -> None:
        self.answered = Answered()
        self.failures: list[BaseException] = []
        self._server = server
        self._folder = folder / uuid.uuid4().hex
        self._folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._csr = csr_pem(self._key)
        self._iot = self._client()
        self._policy = f"faults-{uuid.uuid4().hex}"
        self._iot.create_policy(policyName=self._policy, policyDocument=json.dumps(POLICY))
        self._template, self._claim = prepare_provisioning(server, self._folder, self._csr, key_pem(self._key))
        self._loads = [self._certificates, self._certificates, self._things, self._yandex, self._devices]
        self._threads = [threading.Thread(target=self._until_gone, args=[load]) for load in self._loads]

    def start(self) -> None:
        """Starts the threads; returns after the first answer."""
        for thread in self._threads:
            thread.start()
        deadline = time.monotonic() + PATIENCE
        while not self.answered.requests and time.monotonic() < deadline:
            time.sleep(0.01)

    def end(self) -> Answered:
        """Waits for the threads after the server is gone; returns the answers. Raises unexpected errors of clients."""
        for thread in self._threads:
            thread.join()
        # A provisioned device writes its certificate and key to a file before it connects with them.
        for own in self._folder.glob("[0-9]*.pem"):
            if (pem := own.read_bytes()).endswith(b"-----END PRIVATE KEY-----\n"):
                self.answered.statuses[_fingerprint(pem)] = "ACTIVE"
                self.answered.attached.append(_fingerprint(pem))
        shutil.rmtree(self._folder)
        if self.failures:
            raise self.failures[0]
        return self.answered

    def _until_gone(self, load: Callable[[], None]) -> None:
        try:
            load()
        except (OSError, BotoCoreError, http.client.HTTPException, LoadFailed) as error:
            if self._server.process.poll() is None and not self._dying():
                self.failures.append(error)
        except BaseException as error:  # noqa: BLE001 - it is raised at the end of the round
            self.failures.append(error)

    def _dying(self) -> bool:
        """True if the server ends soon: a connection can be closed a moment before the process is gone."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._server.process.wait(2)
        return self._server.process.poll() is not None

    def _client(self) -> Any:
        config = Config(retries={"total_max_attempts": 1}, max_pool_connections=1)
        return boto3.session.Session().client("iot", **self._server.boto3_arguments(), config=config)

    def _call(self, method: Callable[..., Any], **members: Any) -> Any:
        answer = method(**members)
        self.answered.requests.append(answer["ResponseMetadata"]["RequestId"])
        return answer

    def _certificates(self) -> None:
        iot, statuses = self._client(), self.answered.statuses
        while True:
            made = self._call(iot.create_certificate_from_csr, certificateSigningRequest=self._csr)
            id, arn = made["certificateId"], made["certificateArn"]
            statuses[id] = "INACTIVE"
            self._call(iot.attach_policy, policyName=self._policy, target=arn)
            self.answered.attached.append(id)
            for status in ("ACTIVE", "INACTIVE"):
                del statuses[id]  # until the answer, both statuses are right
                self._call(iot.update_certificate, certificateId=id, newStatus=status)
                statuses[id] = status
            if len(statuses) % 2:
                self.answered.attached.remove(id)
                self._call(iot.detach_policy, policyName=self._policy, target=arn)
                del statuses[id]
                self._call(iot.delete_certificate, certificateId=id)
                statuses[id] = DELETED

    def _things(self) -> None:
        iot = self._client()
        resources = {
            "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Name"}}},
            "certificate": {
                "Type": "AWS::IoT::Certificate",
                "Properties": {"CertificateSigningRequest": self._csr, "Status": "ACTIVE"},
            },
            "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": self._policy}},
        }
        body = json.dumps({"Parameters": {"Name": {"Type": "String"}}, "Resources": resources})
        while True:
            name = f"faults-{uuid.uuid4().hex}"
            made = self._call(iot.register_thing, templateBody=body, parameters={"Name": name})
            self.answered.things[name] = _fingerprint(made["certificatePem"].encode())

    def _yandex(self) -> None:
        trust = ssl.create_default_context(cafile=str(self._server.ca))
        connection = http.client.HTTPSConnection("localhost", self._server.ports["api"], timeout=20, context=trust)
        token = self._post(connection, "/iam/v1/tokens", yandexPassportOauthToken=self._server.token)["iamToken"]
        folder = self._server.environment("yandex")["THINGMINT_YC_FOLDER_ID"]
        base, name = "/iot-devices/v1", f"f{uuid.uuid4().hex}"
        registry = self._post(connection, f"{base}/registries", token, folderId=folder, name=name)["response"]["id"]
        pems = self_signed_pems(sys.maxsize)
        for number in range(sys.maxsize):
            made = self._post(connection, f"{base}/devices", token, registryId=registry, name=f"d{number}")
            for pem, _ in zip(pems, range(10), strict=False):
                path = f"{base}/devices/{made['response']['id']}/certificates"
                self._post(connection, path, token, certificateData=pem)
                self.answered.bound.append(_fingerprint(pem.encode()))

    def _post(self, connection: http.client.HTTPConnection, path: str, token: str = "", **members: str) -> Any:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        connection.request("POST", path, json.dumps(members), {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        document = json.loads(answer.read())
        if answer.status != 200:
            raise Lost(f"{path} was answered with {answer.status}: {document}")
        if token:  # creating a token is not a write
            self.answered.requests.append(answer.headers["x-request-id"])
        return document

    def _devices(self) -> None:
        """Fleet provisioning over MQTT."""
        how = {"template": self._template, "csr": self._csr, "key": key_pem(self._key), "folder": str(self._folder)}
        with Devices(self._server.ports["mqtt"], self._server.ca, [self._claim]) as devices:
            devices.provision(2, 60.0, prefix=uuid.uuid4().hex, **how)


def _fingerprint(pem: bytes) -> str:
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()


@dataclass
class Rounds:
    """The answers of all rounds so far. Each round is a line in a file."""

    path: Path
    seed: int
    done: list[Answered] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path, seed: int | None) -> Rounds:
        if not path.exists():
            path.write_text(json.dumps({"seed": seed or int.from_bytes(os.urandom(4))}) + "\n")
        first, *lines = path.read_text().splitlines()
        return cls(path, json.loads(first)["seed"], [Answered(**json.loads(line)) for line in lines])

    def add(self, answered: Answered) -> None:
        self.done.append(answered)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(answered)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def moment(self) -> float:
        """Seconds of load before the next kill."""
        return random.Random(f"{self.seed} {len(self.done)}").uniform(0.05, LONGEST)


def check(database: Path, rounds: Sequence[Answered]) -> None:
    """Raises Lost if the database lacks an answered write, or has an incomplete one."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
        ids = {key: fingerprint.hex() for key, fingerprint in store.execute("SELECT id, fingerprint FROM certificates")}
        statuses = {ids[key]: status for key, status in store.execute("SELECT certificate, status FROM registrations")}
        attached = {ids.get(key) for (key,) in store.execute("SELECT certificate FROM device_policy_attachments")}
        bound = {ids[key] for (key,) in store.execute("SELECT certificate FROM bindings")}
        things = {name: ids[key] for name, key in store.execute("SELECT thing, certificate FROM thing_principals")}
        records = store.execute("SELECT record FROM audit_records").fetchall()
        half_made = store.execute(HALF_MADE).fetchall() + store.execute("PRAGMA foreign_key_check").fetchall()
    requests = {json.loads(record).get("request") for (record,) in records}
    lost: list[object] = [*half_made]
    for told in rounds:
        lost += [(id, status) for id, status in told.statuses.items() if statuses.get(id, DELETED) != status]
        lost += [(id, "attachment") for id in told.attached if id not in attached]
        lost += [(id, "binding") for id in told.bound if id not in bound or statuses.get(id) != "ACTIVE"]
        lost += [(name, "thing") for name, id in told.things.items() if things.get(name) != id]
        lost += [(id, "audit record") for id in told.requests if id not in requests]
    if lost:
        raise Lost(f"{len(lost)} writes are lost or incomplete, such as {lost[:5]}")


def check_whole(data: Path) -> None:
    """Raises Lost if the database is damaged or the audit log does not verify. No server must be running."""
    with contextlib.closing(sqlite3.connect(data / "thingmint.db")) as store:
        if (found := store.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
            raise Lost(f"the database is damaged: {found[:5]}")
    command = [sys.executable, "-m", "thingmint", "audit", "verify", f"--data-dir={data}"]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    if verified.returncode:
        raise Lost(f"the audit log does not verify: {verified.stdout}{verified.stderr}")


def run(folder: Path, kills: int, seed: int | None, step: Callable[[Rounds], None]) -> Rounds:
    """Runs rounds until there were ``kills`` of them, including those of earlier runs. Raises Lost."""
    folder.mkdir(parents=True, exist_ok=True)
    rounds, data = Rounds.load(folder / "answered.jsonl", seed), folder / "data"
    step(rounds)
    while len(rounds.done) < kills:
        with running_server(data, arguments=("--log-format=json", "--limits=none")) as server:
            check(data / "thingmint.db", rounds.done)
            clients = Clients(server, folder)
            clients.start()
            time.sleep(rounds.moment())
            server.kill()
            rounds.add(clients.end())
        (folder / "data.log").unlink()
        if len(rounds.done) % WHOLE_EVERY == 0:
            check_whole(data)
        step(rounds)
    with running_server(data) as server:
        check(data / "thingmint.db", rounds.done)
        server.stop()
    check_whole(data)
    return rounds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, help="of the random moments (default: a new one for each FOLDER)")
    arguments = parser.parse_args()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("kills", total=arguments.kills)

        def step(rounds: Rounds) -> None:
            progress.update(task, completed=len(rounds.done), description=f"kills, seed {rounds.seed}")

        try:
            rounds = run(arguments.folder.absolute(), arguments.kills, arguments.seed, step)
        except Lost as lost:
            progress.console.print(f"LOST: {lost}", markup=False, style="bold red")
            return 1
        except KeyboardInterrupt:
            return 130
    writes = sum(len(told.requests) for told in rounds.done)
    print(
        f"{len(rounds.done)} kills, {writes} answered writes over HTTPS, and devices provisioned over MQTT: none lost"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
