"""Makes the folder of an old store: python -m tests.old_stores VERSION PROGRAM...

PROGRAM is the absolute path of that version's `thingmint`, such as /somewhere/.venv/bin/thingmint.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.old_stores import access, aws, yandex
from tests.old_stores.asking import Asker, Question
from tests.old_stores.kept import OldStore
from tests.old_stores.material import Material
from tests.old_stores.owners import Owner
from tests.old_stores.questions import ask_everything
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.testing import RunningServer

_HOSTS = {"one": ("one", "us-east-1"), "one-abroad": ("one", "eu-west-1"), "two": ("two", "eu-central-1")}


def main(version: str, *program: str) -> None:
    os.environ.pop("PYTHONPATH", None)  # it is for this version; the other version has its own modules
    store = OldStore.of(version)
    with tempfile.TemporaryDirectory(prefix="old-store-") as temporary:
        data, copy, material = Path(temporary) / "data", Path(temporary) / "copy", Material(Path(temporary))
        settings = _new_instance(material, data, program)
        pending = {"THINGMINT_YANDEX_OPERATIONS_PENDING": "1s"}  # so that refusals are recorded as operations too
        with running_server(data, program=program, environment=settings | pending) as server:
            _fill(server, material)
            assert server.stop() == 0  # stopping signs the chain of audit records
        with running_server(data, program=program, environment=settings) as server:
            _add_unchained_records(server, material)
            server.kill()
        store.keep(data, material, settings)
        store.restore(copy)
        with running_server(copy, program=program, environment=settings) as server:
            _record(server, store, material)


def _new_instance(material: Material, data: Path, program: Sequence[str]) -> dict[str, str]:
    """Creates the data directory with two accounts, and returns the settings of its server."""

    def made(*words: str) -> Any:
        command = [*program, *words, "--data-dir", str(data), "--output", "json"]
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)

    made("init", "--hostname", "localhost", "--hostname", "127.0.0.1", "--region", "eu-west-1")
    for name in ("one", "two"):
        regions = [region for owner, region in _HOSTS.values() if owner == name]
        options = [word for region in regions for word in ("--region", region)]
        material.keep_credentials(**{name: made("access", "account", "create", name, *options)})
    numbers = {name: told["account"] for name, told in material.credentials.items()}
    endpoints: dict[str, Any] = {
        f"{name}.example.org": {"account": numbers[account], "region": region}
        for name, (account, region) in _HOSTS.items()
    }
    endpoints["one-yandex.example.org"] = {**endpoints["one.example.org"], "cloud": "yandex"}
    return {
        "THINGMINT_ENDPOINTS": json.dumps(endpoints),
        "THINGMINT_QUOTAS": json.dumps({"certificates": 100_000, "devices": 100_000}),
    }


def _fill(server: RunningServer, material: Material) -> None:
    one, abroad, two = owners = [_owner(server, material, name) for name in _HOSTS]
    for setting, value in {"check_validity": "false", "keys_over_mqtt": "false", "suback_refusals": "true"}.items():
        two.local_admin.ask("account.set", name=setting, value=value)
    for owner in owners:
        aws.policies(owner)
        aws.certificates(owner)
        aws.things(owner)
    aws.shared_certificate(one, abroad, two)
    aws.cas_in_default_mode(one)
    aws.ca_in_sni_only_mode(two)
    for owner in (one, two):
        aws.provisioning(owner)
        yandex.devices(owner)
        access.principals(owner)
    for owner in owners:
        owner.close()


def _add_unchained_records(server: RunningServer, material: Material) -> None:
    owner = _owner(server, material, "one")
    for number in range(5):
        owner.iot.create_thing(thingName=f"last-{number}")
    owner.close()


def _owner(server: RunningServer, material: Material, name: str) -> Owner:
    account, region = _HOSTS[name]
    return Owner.of(server, material, material.credentials[account], region, f"{name}.example.org")


def _record(server: RunningServer, store: OldStore, material: Material) -> None:
    until = datetime.now(UTC).isoformat()
    asker = Asker(server, material)
    with store.recording() as answers:

        def ask(question: Question) -> list[dict[str, Any]]:
            pages = asker.ask(question)
            answers.append((question, pages))
            return pages

        ask_everything(ask, material, store.endpoints, _operations(server.data_dir), until)
    asker.close()


def _operations(data: Path) -> dict[str, list[str]]:
    """The ids of each account's operations, from the database: no API of 7c4c599 lists them."""
    found: dict[str, list[str]] = {}
    with closing(sqlite3.connect(data / "thingmint.db")) as connection:
        for account, id in connection.execute("SELECT account, id FROM operations ORDER BY id"):
            found.setdefault(account, []).append(id)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
