"""Who may do what: a user without and with a policy, and an audit trail that shows who touched it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tour import NotSo, aws, require
from tour.commands import access, thingmint

if TYPE_CHECKING:
    from tour import Tour

__all__ = ["users_and_audit"]

_PATIENCE = 10.0  # seconds; the server seals new records every half second
_POLL = 0.05


def users_and_audit(tour: Tour) -> None:
    tour.stage("Access control and the audit trail, with thingmint access and boto3")

    with tour.step("thingmint access user create, key create") as step:
        access(tour, "user", "create", "alice")
        key = access(tour, "key", "create", "user/alice")
        credentials = {"aws_access_key_id": key["access_key_id"], "aws_secret_access_key": key["secret_access_key"]}
        hers = aws.client(tour.server, **credentials)
        step.proved = f"a user with the access key {key['access_key_id']}, and no policy"
    with tour.step("Her ListCertificates") as step:
        refusal = aws.refused("AccessDeniedException", hers.list_certificates)
        step.proved = f"{refusal}, as nothing allows it"
    with tour.step("thingmint access policy attach --policy thingmint/ReadOnly") as step:
        access(tour, "policy", "attach", "user/alice", "--policy", "thingmint/ReadOnly")
        hers.list_certificates()
        refusal = aws.refused("AccessDeniedException", hers.create_keys_and_certificate)
        step.proved = f"lets her list at once; her CreateKeysAndCertificate is still {refusal}"

    with tour.step("thingmint audit verify") as step:
        sequence = _sealed_refusal(tour, key["access_key_id"])
        done = thingmint("audit", "verify", "--data-dir", str(tour.server.data_dir))
        require(done.returncode == 0, f"says: {done.stderr.strip()}")
        step.proved = done.stdout.splitlines()[0].rstrip(".")
    with tour.step("Her refusal made a success by hand, in a copy of the database") as step:
        with tempfile.TemporaryDirectory(prefix="thingmint-forged-") as folder:
            _forge(tour, Path(folder), sequence)
            done = thingmint("audit", "verify", "--data-dir", folder)
        require(done.returncode == 1, f"left audit verify with exit status {done.returncode}: {done.stdout.strip()}")
        require(f"record {sequence} " in done.stderr, f"is not what audit verify found: {done.stderr.strip()}")
        step.proved = f"caught: {done.stderr.strip().removeprefix('thingmint: ')}"


def _sealed_refusal(tour: Tour, credential: str) -> int:
    """The number of the refusal's record, once the server has chained it."""
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
    raise NotSo(f"has no record of the refusal after {_PATIENCE:.0f} seconds")


def _forge(tour: Tour, folder: Path, sequence: int) -> None:
    """What somebody would do who can write to the data directory, and has not the key for checkpoints."""
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
        require(copy.execute(statement, (sequence,)).rowcount == 1, "has no such record")
        copy.commit()
