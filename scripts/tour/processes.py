"""Two processes with one PostgreSQL database: a change at one process disconnects a device of the other."""

from __future__ import annotations

import contextlib
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from thingmint.testing import running_server
from thingmint.testing.postgres import NoPostgres, Postgres
from tour import CheckFailed, aws, require
from tour.commands import thingmint
from tour.devices import connected5, save

if TYPE_CHECKING:
    from thingmint.testing import RunningServer
    from tour import Tour

__all__ = ["sharing_a_database"]

_PATIENCE = 15.0  # seconds
_ALLOWED = 1.0 + 1.0  # seconds: 1 s as documented, and 1 s for a busy machine

_ANYTHING = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}}'


def sharing_a_database(tour: Tour) -> None:
    try:
        database = Postgres()
    except NoPostgres as error:
        tour.stage("Two processes with one PostgreSQL database: skipped")
        tour.show(f"# PostgreSQL was not found: {error}")
        return
    tour.stage("Two processes with one PostgreSQL database, with boto3 and AWS's device SDK")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="thingmint-processes-")))
        with tour.step("thingmint init, with an empty database") as step:
            stack.enter_context(database)
            store = {"THINGMINT_STORE": database.url()}
            _run("init", "--data-dir", str(folder / "first"), **store)
            require(not (folder / "first" / "thingmint.db").exists(), "created a database file too")
            step.result = "the data directory has the keys, PostgreSQL has the records"
        with tour.step("thingmint bundle, thingmint join") as step:
            _share_keys(folder)
            step.result = "created a second data directory with the same keys"
        with tour.step("thingmint serve, twice") as step:
            first, second = (
                stack.enter_context(running_server(folder / name, environment=store)) for name in ("first", "second")
            )
            ports = first.ports["mqtt"], second.ports["mqtt"]
            step.result = f"devices can connect to port {ports[0]} of the first process and {ports[1]} of the second"
        _walk(tour, first, second, folder)


def _walk(tour: Tour, first: RunningServer, second: RunningServer, folder: Path) -> None:
    iot = aws.client(first)
    with tour.step("CreateKeysAndCertificate, CreatePolicy and AttachPolicy at the first process") as step:
        made = iot.create_keys_and_certificate(setAsActive=True)
        id_ = made["certificateId"]
        iot.create_policy(policyName="anything", policyDocument=_ANYTHING)
        iot.attach_policy(policyName="anything", target=made["certificateArn"])
        described = aws.client(second).describe_certificate(certificateId=id_)["certificateDescription"]
        require(described["certificatePem"] == made["certificatePem"], "the second process returns another certificate")
        step.result = f"the second process immediately returns the certificate, as {described['status']}"
    files = save(folder, "device", made["certificatePem"], made["keyPair"]["PrivateKey"])
    closed: Future[str] = Future()
    with tour.step("The device connects to the second process over MQTT 5") as step:
        device = connected5(second, files, "device", closed=closed)
        step.result = "accepted"
    with tour.step("UpdateCertificate(newStatus=REVOKED) at the first process") as step:
        iot.update_certificate(certificateId=id_, newStatus="REVOKED")
        started = time.perf_counter()
        why = closed.result(_PATIENCE)
        took = time.perf_counter() - started
        device.stop()
        require(took < _ALLOWED, f"the second process closed the connection only after {took:.1f} s")
        step.result = f"the second process closed the device's connection after {took:.1f} s: {why}"
    with tour.step("The device connects again, to each process") as step:
        refusals = []
        for server in (first, second):
            try:
                connected5(server, files, "device").stop()
            except CheckFailed as refused:
                refusals.append(str(refused))
        require(len(refusals) == 2, "a process accepted the connection")
        step.result = " and ".join(dict.fromkeys(refusals))
    with tour.step("SIGTERM to both processes") as step:
        statuses = [server.stop() for server in (first, second)]
        require(statuses == [0, 0], f"the exit statuses are {statuses}")
        step.result = "both stopped with exit status 0"


def _share_keys(folder: Path) -> None:
    bundle, passphrase = str(folder / "keys.bundle"), folder / "passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_text("correct horse battery staple")
    for command, data in (("bundle", "first"), ("join", "second")):
        _run(command, bundle, "--data-dir", str(folder / data), "--passphrase-file", str(passphrase))


def _run(*arguments: str, **variables: str) -> None:
    """Raises CheckFailed."""
    done = thingmint(*arguments, **variables)
    require(done.returncode == 0, f"thingmint {arguments[0]} failed: {done.stderr.strip()}")
