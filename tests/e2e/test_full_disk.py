"""A full disk: work that writes nothing continues, and all work continues when there is room again."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import orjson
import pytest
from botocore.exceptions import ClientError

from tests.e2e.access.local_admin import keys_of
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.material import csr_pem
from tests.e2e.mqtt.conftest import opened_gateway
from tests.e2e.mqtt.devices import Closed
from tests.e2e.wire import exchange, until
from tests.e2e.yandex.clients import Cloud, Refused
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.mqtt.conftest import Devices, Gateway
    from thingmint.testing import RunningServer

UNAVAILABLE = 14  # google.rpc.Code


class Disk(Protocol):
    """A disk that a test can fill. ``trouble`` is the server's message about it."""

    trouble: str

    def fill(self) -> None: ...

    def free(self) -> None: ...


class SmallDisk:
    """A separate file system, filled by files."""

    trouble = "the disk is full"

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        with self._ballast.open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(4096))

    def free(self) -> None:
        self._ballast.unlink()


class NoFileGrows:
    """A limit of the process under which no byte can be written to any file. It needs no privilege."""

    trouble = "files cannot be written: File too large"

    def __init__(self, server: RunningServer) -> None:
        self._pid = server.process.pid

    def fill(self) -> None:
        self._limit(0)

    def free(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 20 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m,mode=0700", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(params=["a full disk", "no file may grow"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Gateway, Disk]]:
    full = request.param == "a full disk"
    folder = request.getfixturevalue("small_disk") if full else tmp_path
    with opened_gateway(folder) as gateway:
        yield gateway, SmallDisk(folder) if full else NoFileGrows(gateway.server)


def metric(server: RunningServer, name: str) -> float:
    text = exchange(server, "GET", "/metrics").body.decode()
    [line] = [line for line in text.splitlines() if line.startswith(f"thingmint_{name} ")]
    return float(line.split()[1])


def refusal(call: Callable[..., Any], **members: Any) -> str | None:
    """The code of the error, or None."""
    try:
        call(**members)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return None


def is_taken(mine: Devices) -> bool:
    return refusal(mine.iot.create_thing, thingName="lamp") is None


def audited(data: Path) -> list[dict[str, Any]]:
    done = in_process("audit", "export", "--data-dir", data)
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["record"] for line in done.stdout.splitlines()]


def finished(server: RunningServer) -> list[dict[str, Any]]:
    """Stops the server. Returns its audit records in order."""
    assert server.stop() == 0
    assert "Traceback" not in server.output.read_text(errors="replace")
    done = in_process("audit", "verify", "--data-dir", server.data_dir)
    assert done.returncode == 0, done.stderr
    return audited(server.data_dir)


def test_reads_and_devices_work_while_nothing_can_be_written(served: tuple[Gateway, Disk]) -> None:
    gateway, disk = served
    server, mine = gateway.server, gateway.mine
    lamp, cloud = mine.credential(), Cloud(server)
    authorized = {"authorization": f"Bearer {server.token}", "host": "localhost"}
    device = mine.connected(lamp, "early")
    device.subscribe("news")
    cloud.registry(name="before")
    disk.fill()
    until(lambda: not is_taken(mine), seconds=10, what="changes are refused")
    for turn in range(3):
        assert refusal(mine.iot.create_thing, thingName=f"late-{turn}") == "ServiceUnavailableException"
        with pytest.raises(Refused) as refused:
            cloud.registry(name="late")
        assert refused.value.status.code == UNAVAILABLE
        assert "disk" not in refused.value.status.message, "the state of the disk is not for callers"
        native = exchange(server, "POST", "/v1/certificates", authorized, orjson.dumps({"csr": csr_pem()}))
        assert (native.status, native.json()["error"]["code"]) == (503, "UNAVAILABLE")
        mine.iot.describe_certificate(certificateId=lamp.fingerprint)
        assert exchange(server, "GET", "/v1/audit", authorized).status == 200
        assert device.publish("news", b"%d" % turn) is Reason.SUCCESS
        assert device.receive().payload == b"%d" % turn
        mine.connected(lamp, f"late-{turn}").disconnect()
        state = exchange(server, "GET", "/readyz")
        assert (state.status, state.json()["reason"]) == (503, f"changes are refused: {disk.trouble}")
        assert metric(server, "store_ready") == 0
        time.sleep(1)  # in which the server tries the store again
    disk.free()
    until(lambda: exchange(server, "GET", "/readyz").status == 200, seconds=10, what="the server is ready")
    assert metric(server, "store_ready") == 1
    assert refusal(mine.iot.create_thing, thingName="after") is None
    assert cloud.registry(name="after")
    assert device.is_open
    device.drop()
    until(lambda: metric(server, "audit_records_waiting") == 0, seconds=10, what="no audit record waits")
    assert metric(server, "audit_records_lost_total") == 0
    cloud.close()
    events = Counter(record["event"] for record in finished(server) if record["account"] == mine.account)
    assert events["DescribeCertificate"] == 3
    assert events["Connect"] == 4


def test_access_can_be_revoked_on_a_full_disk(small_disk: Path) -> None:
    """The reserve is released for that, and made again when there is room."""
    disk = SmallDisk(small_disk)
    with opened_gateway(small_disk) as gateway:
        server, mine = gateway.server, gateway.mine
        reserve = server.data_dir / "reserve"
        lamps = [mine.credential() for _ in range(3)]
        devices = [mine.connected(lamp) for lamp in lamps]
        assert reserve.stat().st_blocks * 512 >= 8 * 1024 * 1024
        disk.fill()
        mine.set_status(lamps[0], "REVOKED")  # the first change on the full disk
        until(lambda: not is_taken(mine), seconds=10, what="changes are refused")
        assert not reserve.exists()
        mine.set_status(lamps[1], "INACTIVE")
        for policy in mine.iot.list_attached_policies(target=lamps[2].arn)["policies"]:
            mine.iot.detach_policy(policyName=policy["policyName"], target=lamps[2].arn)
        for lamp, device in zip(lamps, devices, strict=True):
            device.until_closed()
            device.drop()
            with pytest.raises(Closed):
                mine.connected(lamp)
        assert refusal(mine.iot.create_thing, thingName="late") == "ServiceUnavailableException"
        disk.free()
        until(reserve.exists, seconds=10, what="the reserve is made again")
        until(lambda: is_taken(mine), seconds=10, what="changes are accepted")
        records = finished(server)
        changed = [r["event"] for r in records if r["resource"] in [lamp.arn for lamp in lamps]]
        assert changed.count("UpdateCertificate") == 2
        assert sum(r.get("count", 1) for r in records if r["error"] == "NotAuthorized") >= 3


def test_a_server_that_is_killed_on_a_full_disk_starts_again(small_disk: Path) -> None:
    disk = SmallDisk(small_disk)
    with opened_gateway(small_disk) as gateway:
        mine = gateway.mine
        lamp = mine.credential()
        disk.fill()
        until(lambda: not is_taken(mine), seconds=10, what="changes are refused")
        disk.fill()  # the space that the server released too
        mine.server.kill()
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(running_server(mine.server.data_dir))
            iot = stack.enter_context(contextlib.closing(iot_client(server, **keys_of(mine.keys))))
            assert iot.describe_certificate(certificateId=lamp.fingerprint)
            assert refusal(iot.create_thing, thingName="late") == "ServiceUnavailableException"
            disk.free()
            until(lambda: refusal(iot.create_thing, thingName="after") is None, seconds=10, what="changes are accepted")


def test_output_that_cannot_be_written_does_not_end_the_server(tmp_path: Path) -> None:
    """Neither the welcome text nor the log: both may go to a file on the full disk."""
    listeners = tmp_path / "data" / "listeners.json"
    command = [sys.executable, "-m", "thingmint", "serve", f"--data-dir={listeners.parent}"]
    command += ["--api-port=0", "--http-port=0", "--grpc-port=0", "--mqtt-port=0", "--key-pool=0"]
    with Path("/dev/full").open("wb") as full, subprocess.Popen(command, stdout=full, stderr=full) as process:
        try:
            until(listeners.exists, seconds=30, what="the server is ready")
            url = f"http://127.0.0.1:{json.loads(listeners.read_text())['http']}/healthz"
            for _ in range(3):
                assert httpx.get(url, trust_env=False).status_code == 200
        finally:
            process.terminate()
        assert process.wait(20) == 0
