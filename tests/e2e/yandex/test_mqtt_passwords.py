"""Passwords over MQTT: wrong ones of every kind, floods of them, and whole fleets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.e2e.access.local_admin import LocalAdmin, allow, document
from tests.e2e.conftest import iot_client
from tests.e2e.mqtt.devices import Device, credential
from tests.e2e.yandex.clients import PASSWORD, Account, Cloud
from tests.e2e.yandex.owners import NAMES, WRONG, Owners
from thingmint.mqtt.protocol.packets import Connect
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.services.password_hashing import new_password
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from thingmint.mqtt.protocol.packets import Version

BAD = Reason.BAD_USER_NAME_OR_PASSWORD
LIMITED = {BAD, Reason.SERVER_BUSY}
UNKNOWN_ID = "are00000000000000000"

WRONG_PASSWORDS: dict[str, bytes | None] = {
    "none": None,
    "empty": b"",
    "another": WRONG.encode(),
    "in lower case": PASSWORD.lower().encode(),
    "with a space": PASSWORD.encode() + b" ",
    "with NUL": PASSWORD.encode() + b"\0",
    "only NUL": b"\0",
    "cut off": PASSWORD.encode()[:-1],
    "128 bytes": b"x" * 128,
    "129 bytes": b"x" * 129,
    "64 KiB": b"x" * 65_535,
    "not UTF-8": b"\xff\xfe" * 20,
    "half a character": "Correct-password-é".encode()[:-1],
    "of a generated form": new_password().encode(),
}


@pytest.fixture(scope="module")
def owners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owners]:
    """On a separate server, because wrong passwords are limited for each address."""
    with running_server(arguments=["--log-format=json"]) as server:
        cloud = Cloud(server)
        yield Owners(cloud, tmp_path_factory.mktemp("owners"))
        cloud.close()
        log = server.output.read_text(errors="replace")
        assert "Traceback" not in log
        assert PASSWORD not in log


@pytest.fixture
def source() -> str:
    """An address that no other test connects from."""
    _used.append(f"127.1.0.{len(_used) + 1}")
    return _used[-1]


_used: list[str] = []


@pytest.mark.parametrize("case", WRONG_PASSWORDS)
@pytest.mark.parametrize("version", [4, 5])
def test_a_wrong_password_is_refused_with_any_certificate(
    owners: Owners, source: str, case: str, version: Version
) -> None:
    unknown = credential(owners.folder)
    for certificate in (None, owners.credentials["device"], owners.credentials["other"], unknown):
        answer = owners.log_in(owners.device, WRONG_PASSWORDS[case], certificate, version, source=source)
        assert answer is BAD, certificate


@pytest.mark.parametrize("user_name", ["", UNKNOWN_ID, "x", "$devices", "?SDK=Python&Version=1", "é", "x" * 300])
def test_an_unknown_user_name_is_refused_with_the_certificate_of_any_owner(
    owners: Owners, source: str, user_name: str
) -> None:
    """The password decides where both are given, and this one is of no owner."""
    for name in NAMES:
        assert owners.log_in(user_name, PASSWORD, owners.credentials[name], source=source) is BAD
        assert owners.log_in(user_name, None, owners.credentials[name], source=source) is BAD


def test_an_unknown_certificate_does_not_help_to_find_ids(owners: Owners, source: str) -> None:
    """Ids that exist are answered like ids that do not, and count as wrong passwords alike."""
    for user_name in (UNKNOWN_ID, owners.device):
        made = credential(owners.folder)
        answers = [owners.log_in(user_name, WRONG, made, source=source) for _ in range(30)]
        assert answers[:10] == [BAD] * 10
        assert set(answers[10:]) <= LIMITED
        assert Reason.SERVER_BUSY in answers, "the limit holds for unknown ids too"


def test_owners_of_another_account_are_refused_like_unknown_ones(owners: Owners, source: str) -> None:
    made = LocalAdmin(owners.cloud.server).ask("account.create", name="other")
    cloud = Cloud(owners.cloud.server, Account(made["authorized_key"], made["folder"], made["token"]))
    registry = cloud.registry(password=PASSWORD)
    for certificate in (None, owners.credentials["device"], credential(owners.folder)):
        assert owners.log_in(registry, PASSWORD, certificate, source=source) is BAD
    cloud.close()


def test_a_good_password_decides_whatever_the_certificate_is(owners: Owners) -> None:
    unknown = credential(owners.folder)
    for name in NAMES:
        for certificate in (None, unknown, *owners.credentials.values()):
            assert owners.log_in(owners.ids[name], PASSWORD, certificate) is Reason.SUCCESS


def test_a_password_without_a_user_name_counts_as_none(owners: Owners) -> None:
    """MQTT 5 allows it. The certificate decides."""
    assert owners.log_in(None, WRONG, owners.credentials["device"], version=5) is Reason.SUCCESS
    assert owners.log_in(None, PASSWORD, version=5) is Reason.NOT_AUTHORIZED


def test_user_names_of_aws_clients_mean_nothing_with_their_certificates(owners: Owners) -> None:
    iot = iot_client(owners.cloud.server)
    made = credential(owners.folder)
    arn = iot.register_certificate_without_ca(certificatePem=made.pem, status="ACTIVE")["certificateArn"]
    iot.create_policy(policyName="all", policyDocument=document(allow("iot:*")))
    iot.attach_policy(policyName="all", target=arn)
    iot.close()
    for user_name in ("?SDK=Python&Version=1.2", "", "thermometer", UNKNOWN_ID, "é" * 100):
        for password in (None, b"", b"\xff", b"x" * 60_000):
            assert owners.log_in(user_name, password, made) is Reason.SUCCESS
    with Device(owners.cloud.server, made) as device:
        device.connect("aws", username="?SDK=Python")
        assert device.subscribe("any/topic") == [1], "AWS's rules hold"


def test_a_flood_of_wrong_passwords_is_limited_and_others_are_served(owners: Owners, source: str) -> None:
    flooding = True
    answers: list[Any] = []

    def flood(number: int) -> None:
        while flooding:
            user_name = owners.device if number % 2 else f"are{number:017}"
            answers.append(owners.log_in(user_name, WRONG, source=source))

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(flood, number) for number in range(8)]
        try:
            while len(answers) < 200:
                with owners.connected("other", "served") as device:
                    assert device.publish("$me/device/events") is Reason.SUCCESS
                assert owners.log_in(owners.ids["other"], PASSWORD) is Reason.SUCCESS
        finally:
            flooding = False
        for future in futures:
            future.result()
    assert set(answers) <= LIMITED
    assert set(answers) != {BAD}
    assert owners.log_in(owners.device, PASSWORD) is Reason.SUCCESS, "from another address"


def test_attempts_that_end_at_once_do_no_harm(owners: Owners, source: str) -> None:
    for number in range(50):
        with Device(owners.cloud.server, None, 4, source=source) as device:
            device.send(Connect(4, "client", username=owners.device, password=b"wrong %d" % number))
    assert owners.log_in(owners.device, PASSWORD) is Reason.SUCCESS


def test_a_fleet_with_generated_passwords_comes_back_at_once(owners: Owners) -> None:
    """After a power cut, from one address: no password is wrong, so no limit holds."""
    passwords = [new_password() for _ in range(200)]
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda password: owners.cloud.device(owners.registry, password=password), passwords))
    server = owners.cloud.server
    devices = [Device(server, None, 4) for _ in ids]
    try:
        for device, id, password in zip(devices, ids, passwords, strict=True):
            device.send(Connect(4, "client", username=id, password=password.encode()))
        for device in devices:
            assert device.read(patience=60).reason is Reason.SUCCESS  # type: ignore[union-attr]
    finally:
        for device in devices:
            device.drop()


def test_a_remembered_password_is_not_limited(owners: Owners, source: str) -> None:
    cloud = owners.cloud
    device = cloud.device(owners.registry, password=PASSWORD)
    assert owners.log_in(device, PASSWORD, source=source) is Reason.SUCCESS
    assert Reason.SERVER_BUSY in [owners.log_in(device, WRONG, source=source) for _ in range(30)]
    assert owners.log_in(device, PASSWORD, source=source) is Reason.SUCCESS
