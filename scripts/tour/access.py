"""Access control: a user without and with a policy. The audit log: a changed record is detected."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tour import CheckFailed, aws, require
from tour.commands import access, thingmint

if TYPE_CHECKING:
    from tour import Tour

__all__ = ["users_and_audit"]

_PATIENCE = 10.0  # seconds; the server seals new records every half second
_POLL = 0.05


def users_and_audit(tour: Tour) -> None:
    tour.stage("Access control and the audit log, with thingmint access and boto3")

    with tour.step("thingmint access user create, key create") as step:
        access(tour, "user", "create", "alice")
        key = access(tour, "key", "create", "user/alice")
        credentials = {"aws_access_key_id": key["access_key_id"], "aws_secret_access_key": key["secret_access_key"]}
        alice = aws.client(tour.server, **credentials)
        step.result = f"created the user alice, with the access key {key['access_key_id']} and no policy"
    with tour.step("ListCertificates by alice") as step:
        refusal = aws.refused("AccessDeniedException", alice.list_certificates)
        step.result = f"{refusal}, because no policy allows it"
    with tour.step("thingmint access policy attach --policy thingmint/ReadOnly") as step:
        access(tour, "policy", "attach", "user/alice", "--policy", "thingmint/ReadOnly")
        alice.list_certificates()
        refusal = aws.refused("AccessDeniedException", alice.create_keys_and_certificate)
        step.result = f"allows ListCertificates immediately; CreateKeysAndCertificate is still {refusal}"

    with tour.step("thingmint audit verify") as step:
        sequence = _sealed_refusal(tour, key["access_key_id"])
        done = thingmint("audit", "verify", "--data-dir", str(tour.server.data_dir))
        require(done.returncode == 0, f"failed: {done.stderr.strip()}")
        step.result = done.stdout.splitlines()[0].rstrip(".")
    with tour.step(
        "thingmint audit verify, after that refusal was changed to a success in a copy of the database"
    ) as step:
        with tempfile.TemporaryDirectory(prefix="thingmint-forged-") as folder:
            _forge(tour, Path(folder), sequence)
            done = thingmint("audit", "verify", "--data-dir", folder)
        require(done.returncode == 1, f"ended with exit status {done.returncode}: {done.stdout.strip()}")
        require(f"record {sequence} " in done.stderr, f"did not report record {sequence}: {done.stderr.strip()}")
        step.result = f"detected it: {done.stderr.strip().removeprefix('thingmint: ')}"


def _sealed_refusal(tour: Tour, credential: str) -> int:
    """The sequence number of the refusal's record. Waits until the server has sealed the record."""
    deadline = time.monotonic() + _PATIENCE
    with closing(sqlite3.connect(tour.server.data_dir / "thingmint.db")) as database:
        while time.monotonic() < deadline:
            for sequence, text in database.execute(
                "SELECT sequence, record FROM audit_activity WHERE sequence IS NOT NULL"
            ):
                record = json.loads(text)
                if (record.get("credential"), record["event"]) == (credential, "CreateKeysAndCertificate"):
                    return int(sequence)
            time.sleep(_POLL)
    raise CheckFailed(f"there is no record of the refusal after {_PATIENCE:.0f} seconds")


def _forge(tour: Tour, folder: Path, sequence: int) -> None:
    """Changes the record as an attacker would who can write to the data directory but lacks the key of checkpoints."""
    for path in tour.server.data_dir.glob("audit*"):
        if path.suffix != ".key":
            shutil.copy(path, folder)
    with (
        closing(sqlite3.connect(tour.server.data_dir / "thingmint.db")) as original,
        closing(sqlite3.connect(folder / "thingmint.db")) as copy,
    ):
        original.backup(copy)
        statement = (
            "UPDATE audit_activity SET record = replace(record, '\"refused\"', '\"success\"') WHERE sequence = ?"
        )
        require(copy.execute(statement, (sequence,)).rowcount == 1, "there is no such record")
        copy.commit()
