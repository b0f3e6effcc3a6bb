"""Write the examples of the OpenAPI documents: src/thingmint/{aws,yandex,native}/examples.json.

It starts a temporary server on free ports, calls every served operation, and replaces ids, times, keys, passwords and
tokens by values that are the same in each run. With a folder as argument, the files are written there.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import jwt

from recording import aws_certificates, aws_fleet, native, server, yandex
from recording.aws_certificates import ACCOUNT, OTHER_ACCOUNT
from recording.callers import BearerCaller, SignedCaller
from recording.device import Device
from recording.recorder import Clock, Recorder, wait_until
from recording.stand_ins import ADDRESS, StandIns
from thingmint import admin
from thingmint.aws import openapi as aws_openapi
from thingmint.native import openapi as native_openapi
from thingmint.testing import RunningServer, running_server
from thingmint.yandex import openapi as yandex_openapi

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from recording.recorder import Json

SOURCE = Path(__file__).resolve().parents[1] / "src" / "thingmint"
_HOSTNAME = "thingmint.example.org"
_BEGIN = datetime(2026, 3, 2, 9, tzinfo=UTC)  # of the written examples, a Monday
_WEEK = timedelta(days=7)
_PORTS = {"api": 8443, "http": 8080, "grpc": 9443, "mqtt": 8883}
_PROGRAM = (sys.executable, str(Path(server.__file__)))


def main(arguments: list[str]) -> int:
    target = Path(arguments[0]) if arguments else None
    for api, examples in recorded().items():
        path = (SOURCE / api if target is None else target / api) / "examples.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{json.dumps(examples, indent=1, ensure_ascii=False)}\n", "utf-8")
        print(f"wrote {path}: {sum(map(len, examples.values()))} examples of {len(examples)} operations")
    return 0


def recorded() -> Mapping[str, Json]:
    """The examples by API and operation."""
    with tempfile.TemporaryDirectory(prefix="thingmint-examples-") as name, ExitStack() as stack:
        world = stack.enter_context(_world(Path(name)))
        native.accounts(world.native)
        made = aws_certificates.record(world.aws)
        aws_fleet.record(world.aws, made["certificateArn"])
        _record_provisioning(world)
        native.principals(world.native)
        native.certificates(world.native)
        _record_devices(world, made)
        _record_yandex(world)
        aws_fleet.bulk(world.aws, world.bucket)
        world.aws.check_permissions(r"not authorized to perform: (\S+) on")
        for recorder in (world.native, world.yandex):
            recorder.check_permissions(r"is not authorized to perform (\S+) on")
        return {api: recorder.written() for api, recorder in world.recorders.items()}


def _record_provisioning(world: _World) -> None:
    world.aws("CreateProvisioningClaim", templateName="lamps")
    table = world.folder / "devices.csv"
    table.write_text("name,attributes.site\nlamp-50,berlin\nlamp-17,rome\n")
    command = [*_PROGRAM, "import", "csv", str(table), f"--data-dir={world.server.data_dir}"]
    subprocess.run(command, env=os.environ | world.variables, check=False, capture_output=True)
    native.provisioning(world.native)


def _record_devices(world: _World, made: Json) -> None:
    """A lamp that is connected, and is refused a subscription."""
    certificate, key = world.folder / "lamp.crt", world.folder / "lamp.key"
    certificate.write_text(made["certificatePem"])
    key.write_text(made["keyPair"]["PrivateKey"])
    with Device(world.server, "lamp-17", identity=(certificate, key)) as device:
        device.subscribe("lamps/lamp-17/commands")
        device.publish("lamps/lamp-17/state", b"on")
        device.subscribe("commands/#")
        world.aws("GetThingConnectivityData", "A thing whose device is connected", thingName="lamp-17")
        native.fleet(world.native, "lamp-17")
    principal = {"x-amzn-principal": made["certificateArn"]}
    world.aws("DetachThingPrincipal", "The certificate of a lamp", thingName="lamp-17", **principal)


def _record_yandex(world: _World) -> None:
    key = json.loads((world.server.data_dir / "clients" / "yandex-sa.json").read_text())
    folder = world.server.environment("yandex")["THINGMINT_YC_FOLDER_ID"]

    def connect(device: str) -> None:
        with Device(world.server, "lamp", login=(device, yandex.PASSWORD)):
            pass
        wait_until(lambda: "lastDisconnectTime" in _monitoring(world.yandex, device), "disconnection")

    home = yandex.Home(folder, key["service_account_id"])
    yandex.record(world.yandex, home, _jwt(key, world.yandex.clock.now), connect)


def _monitoring(recorder: Recorder, device: str) -> Json:
    found: Json = recorder.poll("DeviceService.Get", device_id=device, deviceView="FULL").get("monitoringData", {})
    return found


def _jwt(key: Mapping[str, str], now: datetime) -> str:
    claims = {
        "iss": key["service_account_id"],
        "aud": "https://iam.api.cloud.yandex.net/iam/v1/tokens",
        "iat": now,
        "exp": now + timedelta(minutes=59),
    }
    return jwt.encode(claims, key["private_key"], algorithm="PS256", headers={"kid": key["id"]})


@dataclass(frozen=True)
class _World:
    folder: Path
    server: RunningServer
    variables: Mapping[str, str]
    recorders: Mapping[str, Recorder]

    @property
    def aws(self) -> Recorder:
        return self.recorders["aws"]

    @property
    def yandex(self) -> Recorder:
        return self.recorders["yandex"]

    @property
    def native(self) -> Recorder:
        return self.recorders["native"]

    @property
    def bucket(self) -> Path:
        return self.folder / "bucket"


def _start() -> datetime:
    """A time more than a day ago, whole weeks from the time of the written examples: weekdays stay as they are."""
    weeks = (datetime.now(UTC) - timedelta(days=1) - _BEGIN) // _WEEK
    return _BEGIN + weeks * _WEEK


@contextmanager
def _world(folder: Path) -> Iterator[_World]:
    start = _start()
    clock = Clock(folder / "clock", start)
    (folder / "bucket").mkdir()
    buckets = {"fleet": {"url": (folder / "bucket").as_uri(), "accounts": [ACCOUNT]}}
    variables = {server.CLOCK: str(clock.file), "THINGMINT_BULK": json.dumps({"buckets": buckets})}
    data = folder / "data"
    command = [*_PROGRAM, "init", f"--data-dir={data}", f"--account-id={ACCOUNT}", f"--hostname={_HOSTNAME}"]
    subprocess.run(command, env=os.environ | variables, check=True, capture_output=True)
    with running_server(data, arguments=["--limits=none"], environment=variables, program=_PROGRAM) as running:
        texts = {f":{running.ports[name]}": f":{port}" for name, port in _PORTS.items()}
        stand_ins = StandIns(start, _BEGIN - start, {**texts, "127.0.0.1": ADDRESS, str(folder): "/srv"})
        yield _World(folder, running, variables, _recorders(running, clock, stand_ins))


def _recorders(running: RunningServer, clock: Clock, stand_ins: StandIns) -> Mapping[str, Recorder]:
    http = httpx.Client(base_url=running.http_url, timeout=60, trust_env=False)
    https = httpx.Client(  # the Yandex API tells the port that was asked
        base_url=running.api_url, timeout=60, trust_env=False, verify=ssl.create_default_context(cafile=running.ca)
    )
    environment = running.environment()

    def ask(command: str, **given: Any) -> Any:
        return admin.call(running.data_dir / "admin.sock", "access", name=command, given=given)

    other = ask("account.create", name="partner", id=OTHER_ACCOUNT)
    ask("user.create", name="viewer")
    key, token = (ask(f"{noun}.create", principal="user/viewer") for noun in ("key", "token"))
    aws_callers = {
        "administrator": SignedCaller(
            http, clock, environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
        ),
        "other": SignedCaller(http, clock, other["access_key_id"], other["secret_access_key"]),
        "viewer": SignedCaller(http, clock, key["access_key_id"], key["secret_access_key"]),
    }
    tokens = {"administrator": running.token, "viewer": token["token"], "unknown": "tma_unknown"}
    channel = _channel(running)
    iam = {name: _iam_token(http, token) for name, token in tokens.items() if name != "unknown"}
    iam |= {"anonymous": "", "unknown": "t1.unknown.token"}
    documents = {"aws": aws_openapi, "yandex": yandex_openapi, "native": native_openapi}
    callers: Mapping[str, Mapping[str, Any]] = {
        "aws": aws_callers,
        "yandex": {name: BearerCaller(https, token, channel) for name, token in iam.items()},
        "native": {name: BearerCaller(http, token) for name, token in tokens.items()},
    }
    return {api: Recorder(each.document(), callers[api], clock, stand_ins) for api, each in documents.items()}


def _channel(running: RunningServer) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(running.ca.read_bytes())
    return grpc.secure_channel(f"localhost:{running.ports['grpc']}", credentials)


def _iam_token(http: httpx.Client, token: str) -> str:
    answer = http.post("/iam/v1/tokens", json={"yandexPassportOauthToken": token})
    return str(answer.raise_for_status().json()["iamToken"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
