"""Imports that are killed, or lose their server or their disk: the same command goes on, and nothing comes twice."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.e2e.commands import in_process
from tests.e2e.importing.support import (
    expected_devices,
    import_yandex,
    new_instance,
    rows,
    run_import,
    stored_devices,
)
from tests.yandex_exports import Export
from thingmint.services.password_hashing import sha256
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_KILLS = 50
# Forked from a process that has imported everything: else a kill comes before the import begins.
_PROCESSES = multiprocessing.get_context("forkserver")
_PRELOADED = ["tests.e2e.importing.support", "thingmint.server.local_commands", "thingmint.cli.import_runner"]


@pytest.fixture(scope="module", autouse=True)
def preloaded() -> None:
    _PROCESSES.set_forkserver_preload(_PRELOADED)


def made_export(count: int = 2200, bare: int = 200) -> tuple[Export, list[str]]:
    export = Export()
    registry = export.add_registry("boilers")
    other = export.add_registry("valves")
    export.add_broker("plant")
    export.add_devices(registry, count // 2)
    export.add_devices(other, count // 2)
    return export, [export.add_device(registry, f"bare-{number}", certificates=0) for number in range(bare)]


def killed(arguments: tuple[Any, ...], environment: dict[str, str], seconds: float) -> bool:
    """Whether the import was killed before it ended."""
    process = _PROCESSES.Process(target=run_import, args=arguments, kwargs={"store": environment})
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode != 0


@pytest.mark.both_engines
@pytest.mark.timeout(300)
def test_kills_at_random_moments(new_store: Callable[[], dict[str, str]], engine: str, tmp_path: Path) -> None:
    moments, left = random.Random(15), _KILLS if engine == "sqlite" else 10
    export, bare = made_export()
    folder = export.write(tmp_path / "export")
    while left > 0:
        place = tmp_path / str(left)
        place.mkdir()
        store, passwords = new_store(), place / "passwords.csv"
        data = new_instance(place, **store)
        arguments = (folder, data, "--new-passwords", passwords)
        longest = 0.2
        while killed(arguments, store, moments.uniform(0, longest)):
            left -= 1
            longest *= 1.05  # a busy machine may get nowhere before such a kill
        (ended,) = list_imports(data, store)
        assert ended["finished_at"] is not None
        assert ended["counts"] == {
            "folder.new": 1, "registry.new": 2, "broker.new": 1, "device.new": 2400, "certificate.new": 2203
        }  # fmt: skip
        kept = dict(line.split(",") for line in passwords.read_text().splitlines()[1:])
        assert set(kept) == set(bare)
        assert import_yandex(folder, data, store=store)["counts"]["device.same"] == 2400
        if engine == "sqlite":
            assert stored_devices(data) == expected_devices(export)
            hashes = dict(rows(data, "SELECT owner, hash FROM passwords"))
            assert hashes == {device: sha256(device, password) for device, password in kept.items()}
            events = [orjson.loads(record)["event"] for (record,) in rows(data, "SELECT record FROM audit_records")]
            assert (events.count("StartImport"), events.count("FinishImport")) == (2, 2)


def list_imports(data: Path, store: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    done = in_process("import", "list", "--data-dir", data, "--output", "json", env=store)
    listed: list[dict[str, Any]] = orjson.loads(done.stdout)
    return listed


def test_a_server_that_is_killed(tmp_path: Path) -> None:
    export, _ = made_export()
    folder = export.write(tmp_path / "export")
    with running_server(tmp_path / "data") as server:
        process = _PROCESSES.Process(target=run_import, args=(folder, server.data_dir))
        process.start()
        while not rows(server.data_dir, "SELECT 1 FROM devices LIMIT 1"):
            time.sleep(0.005)
        server.kill()
        process.join()
    assert process.exitcode == 0  # the function returned: the command itself ended with 1
    (before,) = list_imports(tmp_path / "data")
    assert before["finished_at"] is None
    with running_server(tmp_path / "data") as server:
        report = import_yandex(folder, server.data_dir)
    assert (report["id"], report["counts"]["device.new"]) == (before["id"], 2400)
    assert stored_devices(tmp_path / "data") == expected_devices(export)


def test_a_lost_server_says_how_to_go_on(tmp_path: Path) -> None:
    export, _ = made_export(200, 0)
    folder = export.write(tmp_path / "export")
    with running_server(tmp_path / "data") as server:
        server.process.send_signal(19)  # SIGSTOP: it accepts, and does not answer
        try:
            process = _PROCESSES.Process(target=_import_and_keep, args=(folder, server.data_dir, tmp_path / "said"))
            process.start()
            time.sleep(0.5)
            server.kill()
            process.join()
        finally:
            server.process.poll()
    status, said = orjson.loads((tmp_path / "said").read_bytes())
    assert status == 1
    assert "the running server does not answer" in said


def _import_and_keep(folder: Path, data: Path, said: Path) -> None:
    done = run_import(folder, data)
    said.write_bytes(orjson.dumps([done.returncode, done.stderr]))


def test_a_full_disk(tmp_path: Path) -> None:
    export, _ = made_export()
    folder, data = export.write(tmp_path / "export"), new_instance(tmp_path)
    process = _PROCESSES.Process(target=_import_on_a_full_disk, args=(folder, data, tmp_path / "said"))
    process.start()
    process.join()
    status, said = orjson.loads((tmp_path / "said").read_bytes())
    assert status == 1, said
    assert "the same command goes on from there" in said
    report = import_yandex(folder, data)
    assert report["counts"]["device.new"] == 2400
    assert stored_devices(data) == expected_devices(export)


def _import_on_a_full_disk(folder: Path, data: Path, said: Path) -> None:
    """Files cannot grow any further than the store has grown half way."""
    _, whole = resource.getrlimit(resource.RLIMIT_FSIZE)
    output = os.open(said, os.O_WRONLY | os.O_CREAT, 0o600)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, whole))
    done = run_import(folder, data)
    os.write(output, orjson.dumps([done.returncode, done.stderr]))


def test_another_export_in_the_same_place_is_another_import(tmp_path: Path) -> None:
    export, _ = made_export(300, 0)
    data = new_instance(tmp_path)
    folder = export.write(tmp_path / "export")
    first = import_yandex(folder, data)
    export.add_device(next(iter(export.devices)), "one more")
    second = import_yandex(export.write(folder), data)
    assert first["id"] != second["id"]
    assert (second["counts"]["device.new"], second["counts"]["device.same"]) == (1, 300)
    third = import_yandex(folder, data, "--again")
    assert third["id"] not in (first["id"], second["id"])
