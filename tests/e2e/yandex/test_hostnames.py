"""Host names that an operator gives to an account: whose devices connect under them, and by which rules."""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from cryptography import x509

from tests.e2e.access.local_admin import LocalAdmin, allow, document
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.databases import several
from tests.e2e.mqtt.devices import Closed, Device, credential
from tests.e2e.test_reload import Reloads, until
from tests.e2e.yandex.clients import PASSWORD, Account, Cloud
from tests.e2e.yandex.mqtt_clients import Client, Pair, connected
from thingmint.admin import AdminError
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thingmint.testing import RunningServer

pytestmark = pytest.mark.both_engines

MQTT = "mqtt.cloud.yandex.net"


class Tenant:
    """An account with a Yandex device, by certificate and by password, and an AWS device that is allowed everything."""

    def __init__(self, server: RunningServer, folder: Path, new: dict[str, Any]) -> None:
        self.id = new["account"]
        self.cloud = Cloud(server, Account(new["authorized_key"], new["folder"], new["token"]))
        self.pair = Pair(folder, self.id)
        self.registry = self.cloud.registry(password=PASSWORD)
        fields = {"certificates": [{"certificate_data": self.pair.pem}], "password": PASSWORD}
        self.device = self.cloud.device(self.registry, **fields)
        iot = iot_client(server, aws_access_key_id=new["access_key_id"], aws_secret_access_key=new["secret_access_key"])
        made = credential(folder)
        arn = iot.register_certificate_without_ca(certificatePem=made.pem, status="ACTIVE")["certificateArn"]
        iot.create_policy(policyName="all", policyDocument=document(allow("iot:*")))
        iot.attach_policy(policyName="all", target=arn)
        self.iot, self.aws_device = iot, replace(made, arn=arn)
        # A Yandex device with a policy of AWS that denies everything.
        certificate = self.cloud.certificates(self.device)[0].fingerprint
        iot.create_policy(policyName="none", policyDocument=document(allow("iot:Connect", "arn:aws:iot:*:*:client/x")))
        iot.attach_policy(policyName="none", target=arn.rpartition("/")[0] + f"/{certificate}")


@pytest.fixture(scope="module")
def tenants(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Tenant, Tenant]]:
    """Two accounts that are not the default one; the second has the name of Yandex's MQTT server."""
    admin, folder = LocalAdmin(server), tmp_path_factory.mktemp("hostnames")
    made = [Tenant(server, folder, admin.ask("account.create", name=name)) for name in ("h-one", "h-two")]
    give(admin, MQTT, made[1])
    yield made[0], made[1]
    admin.ask("hostname.remove", name=MQTT)
    for tenant in made:
        tenant.cloud.close()


def give(admin: LocalAdmin, name: str, tenant: Tenant, api: str = "yandex") -> None:
    """Returns when the certificate covers the name: each listener follows by itself."""
    admin.ask("hostname.add", name=name, account=tenant.id, api=api)
    until(lambda: name in certificate_names(admin.server), "the certificate does not follow")


def certificate_names(server: RunningServer) -> list[str]:
    pem = ssl.get_server_certificate(("127.0.0.1", server.ports["mqtt"]))
    names = x509.load_pem_x509_certificate(pem.encode()).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return names.value.get_values_for_type(x509.DNSName)


def test_the_certificate_covers_a_name_of_an_account(server: RunningServer, tenants: tuple[Tenant, Tenant]) -> None:
    until(lambda: MQTT in certificate_names(server), "the certificate does not follow")


@pytest.mark.parametrize("version", [4, 5])
def test_devices_of_the_account_connect_without_policies(tenants: tuple[Tenant, Tenant], version: int) -> None:
    _, two = tenants
    server = two.cloud.server
    for credentials in ((two.pair,), (None, two.device, PASSWORD), (two.pair, two.device, PASSWORD)):
        with connected(server, *credentials, version=version, host=MQTT) as client:
            assert client.subscribe("$me/device/commands") == [1]
            assert client.publish("$me/device/events")
            assert not client.publish("any/topic")


def test_credentials_of_another_account_are_refused_as_unknown_ones(
    tenants: tuple[Tenant, Tenant], tmp_path: Path
) -> None:
    one, two = tenants
    server = two.cloud.server
    unknown = Pair(tmp_path, "unknown")

    def refused(*credentials: Any) -> int | None:
        client = Client(server, *credentials, host=MQTT)
        assert not client.connect()
        return client.refused

    assert refused(one.pair) == refused(unknown)
    assert refused(None, one.device, PASSWORD) == refused(None, "are00000000000000000", PASSWORD)
    assert refused(None, one.registry, PASSWORD) == refused(None, "are00000000000000000", PASSWORD)
    assert refused(two.pair, one.device, PASSWORD) == refused(None, two.device, "Wrong-password-000")


def test_an_aws_device_is_refused_under_a_name_of_yandex(tenants: tuple[Tenant, Tenant]) -> None:
    _, two = tenants
    admin = LocalAdmin(two.cloud.server)
    give(admin, "aws.example.org", two, "aws")
    with Device(two.cloud.server, two.aws_device, endpoint="aws.example.org") as device:
        assert device.connect("aws-1").reason is Reason.SUCCESS
    with Device(two.cloud.server, two.aws_device, endpoint=MQTT) as device:
        with pytest.raises(Closed) as refused:
            device.connect("aws-1")
        assert refused.value.reason is Reason.NOT_AUTHORIZED
    admin.ask("hostname.remove", name="aws.example.org")


def test_describe_endpoint_answers_a_name_of_aws_only(tenants: tuple[Tenant, Tenant]) -> None:
    _, two = tenants
    admin = LocalAdmin(two.cloud.server)

    def endpoint() -> str:
        address: str = two.iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
        return address

    assert endpoint() == "localhost"
    give(admin, "aws.example.org", two, "aws")
    assert endpoint() == "aws.example.org"
    admin.ask("hostname.remove", name="aws.example.org")
    assert endpoint() == "localhost"


def test_a_name_moves_to_another_account(tenants: tuple[Tenant, Tenant]) -> None:
    one, two = tenants
    admin, name = LocalAdmin(one.cloud.server), "moving.example.org"
    with pytest.raises(AdminError, match="is a host name of account"):
        admin.ask("hostname.add", name=MQTT, account=one.id, api="yandex")
    for owner, other in ((one, two), (two, one)):
        give(admin, name, owner)
        with connected(owner.cloud.server, owner.pair, host=name):
            assert not Client(owner.cloud.server, other.pair, host=name).connect()
        admin.ask("hostname.remove", name=name)
    until(lambda: name not in certificate_names(one.cloud.server), "the certificate does not follow")
    assert not Client(one.cloud.server, None, one.device, PASSWORD, host=name, verify=False).connect()


def test_the_command_line_gives_lists_and_removes_a_name(tenants: tuple[Tenant, Tenant]) -> None:
    one, _ = tenants
    data = one.cloud.server.data_dir

    def run(*words: str) -> Any:
        done = in_process("access", "hostname", *words, "--data-dir", data, "--output", "json")
        assert done.returncode == 0, done.stderr
        return orjson.loads(done.stdout)

    expected = {"name": "cli.example.org", "account": one.id, "region": "us-east-1", "api": "yandex"}
    assert expected in run("add", "cli.example.org", "--account", one.id, "--api", "yandex")
    table = in_process("access", "hostname", "list", "--data-dir", data).stdout
    assert ["cli.example.org", one.id, "us-east-1", "yandex"] in [line.split() for line in table.splitlines()]
    refused = in_process(
        "access", "hostname", "add", "cli.example.org", "--account", one.id, "--api", "aws", "--data-dir", data
    )
    assert refused.returncode != 0
    told = f"cli.example.org is a host name of account {one.id} (yandex, us-east-1): remove it first"
    assert told in refused.stderr
    init = in_process("init", "--hostname", "cli.example.org", "--data-dir", data)
    assert (init.returncode, init.stderr) == (1, f"thingmint: {told}\n")
    assert expected not in run("remove", "cli.example.org")


def test_init_refuses_a_name_of_an_account(tmp_path: Path) -> None:
    data = ("--data-dir", tmp_path / "data")
    assert in_process("init", *data).returncode == 0
    account = orjson.loads(in_process("access", "account", "list", *data, "--output=json").stdout)[0]["id"]
    name = ("one.example.org", "--account", account, "--api", "yandex")
    assert in_process("access", "hostname", "add", *name, *data).returncode == 0
    refused = in_process("init", "--hostname", "one.example.org", *data)
    assert refused.returncode == 1
    assert refused.stderr.startswith("thingmint: one.example.org is a host name of account")


def test_a_name_of_the_setting_overrides_a_stored_one(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("")
    with running_server(arguments=[f"--config={config}", "--log-format=json"]) as server:
        admin = LocalAdmin(server)
        one, two = (Tenant(server, tmp_path, admin.ask("account.create", name=name)) for name in ("first", "second"))
        give(admin, MQTT, two)
        with connected(server, two.pair, host=MQTT):
            pass
        setting = f'[endpoints."{MQTT}"]\naccount = "{one.id}"\nregion = "us-east-1"\ncloud = "yandex"\n'
        reload = Reloads(server, config)
        reload(setting)
        with connected(server, one.pair, host=MQTT):
            assert not Client(server, two.pair, host=MQTT).connect()
        (told,) = reload.lines("setting_overrides_hostname")
        assert (told["name"], told["account"]) == (MQTT, two.id)
        reload("")
        with connected(server, two.pair, host=MQTT):
            pass


def test_other_processes_follow(tmp_path: Path, url: str) -> None:
    with several(tmp_path, url) as (first, second):
        tenant = Tenant(first, tmp_path, LocalAdmin(first).ask("account.create", name="tenant"))
        assert not Client(second, tenant.pair, host=MQTT, verify=False).connect()
        LocalAdmin(first).ask("hostname.add", name=MQTT, account=tenant.id, api="yandex")
        until(lambda: all(MQTT in certificate_names(each) for each in (first, second)), "a process does not follow")
        with connected(second, tenant.pair, host=MQTT):
            pass
        LocalAdmin(second).ask("hostname.remove", name=MQTT)
        until(lambda: MQTT not in certificate_names(first), "the other process does not follow")
        assert not Client(first, tenant.pair, host=MQTT, verify=False).connect()
        done = in_process("init", "--hostname", "all.example.org", "--data-dir", first.data_dir)
        assert done.returncode == 0, done.stderr
        until(lambda: "all.example.org" in certificate_names(second), "the other process does not follow")
