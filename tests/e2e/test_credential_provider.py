"""The credential provider: devices get temporary credentials by their certificates, which end with the certificates."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import socket
import ssl
import subprocess
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from awscrt import auth, io
from awscrt.http import HttpProxyConnectionType, HttpProxyOptions

from tests.e2e.access.local_admin import LocalAdmin, allow, document, refusal
from tests.e2e.conftest import iot_client
from tests.e2e.logs import check_log
from tests.e2e.material import csr_pem, key, key_pem, self_signed_pem
from tests.e2e.wire import until
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from thingmint.testing import RunningServer

pytestmark = pytest.mark.both_engines

SERVICE = "credentials.iot.amazonaws.com"
TRUST = document({"Effect": "Allow", "Principal": {"Service": SERVICE}, "Action": "sts:AssumeRole"})
PATIENCE = 20.0  # seconds, for what should take no time
AUDIT = "/v1/audit?page_size=250&event=AssumeRoleWithCertificate"
MOST_BYTES = 2048  # awscrt's limit

Credentials = dict[str, str]


@pytest.fixture(scope="module")
def server(new_store: Callable[[], dict[str, str]]) -> Iterator[RunningServer]:
    arguments = ["--log-format=json", "--credentials-port=0"]
    with running_server(arguments=arguments, environment=new_store()) as running:
        yield running
        check_log(running.output.read_text(errors="replace"))


@pytest.fixture(scope="module")
def iot(server: RunningServer) -> Iterator[Any]:
    with contextlib.closing(iot_client(server)) as client:
        yield client


@dataclass(frozen=True)
class Fleet:
    """A server with an alias ``name`` for the role ``name``, which may list things, and devices that may use it."""

    server: RunningServer
    iot: Any
    admin: LocalAdmin
    folder: Path
    name: str

    @property
    def account(self) -> str:
        return str(self.admin.ask("account.list")[0]["id"])

    @property
    def role_arn(self) -> str:
        return f"arn:aws:iam::{self.account}:role/{self.name}"

    def alias_arn(self, name: str = "") -> str:
        return f"arn:aws:iot:us-east-1:{self.account}:rolealias/{name or self.name}"

    def role(self, name: str = "", trust: str = TRUST, **given: Any) -> str:
        """The ARN of a new role that may list things and ask who it is."""
        name = name or f"r-{secrets.token_hex(4)}"
        self.admin.ask("role.create", name=name, trust_policy=trust, **given)
        self.admin.attach(f"role/{name}", allow(["iot:ListThings", "sts:AssumeRole"]))
        return f"arn:aws:iam::{self.account}:role/{name}"

    def device(self, *statements: dict[str, Any]) -> Device:
        created = self.iot.create_certificate_from_csr(certificateSigningRequest=csr_pem(), setAsActive=True)
        policy = f"p-{secrets.token_hex(6)}"
        of_alias = allow("iot:AssumeRoleWithCertificate", self.alias_arn())
        self.iot.create_policy(policyName=policy, policyDocument=document(*(statements or (of_alias,))))
        self.iot.attach_policy(policyName=policy, target=created["certificateArn"])
        file = self.folder / f"{policy}.pem"
        file.write_text(created["certificatePem"] + key_pem(key("secp256r1")))
        return Device(self, file, created["certificateId"], created["certificateArn"], policy)

    def thing(self, device: Device, **given: Any) -> str:
        """The name of a new thing that the device's certificate is attached to."""
        name = f"t-{secrets.token_hex(6)}"
        self.iot.create_thing(thingName=name, **given)
        self.iot.attach_thing_principal(thingName=name, principal=device.arn)
        return name

    def client(self, credentials: Credentials, service: str = "iot") -> Any:
        arguments = self.server.boto3_arguments() | {
            "aws_access_key_id": credentials["accessKeyId"],
            "aws_secret_access_key": credentials["secretAccessKey"],
            "aws_session_token": credentials["sessionToken"],
        }
        return contextlib.closing(boto3.client(service, **arguments))

    def works(self, credentials: Credentials) -> bool:
        with self.client(credentials) as iot:
            try:
                iot.list_things()
            except iot.exceptions.ClientError as error:
                if error.response["Error"]["Code"] != "UnrecognizedClientException":
                    raise
                return False
            return True


@dataclass(frozen=True)
class Device:
    fleet: Fleet
    file: Path
    id: str
    arn: str
    policy: str

    def ask(self, alias: str = "", thing: str | None = None, **given: Any) -> tuple[int, Mapping[str, str], Any]:
        path = f"/role-aliases/{alias or self.fleet.name}/credentials"
        headers = {"x-amzn-iot-thingname": thing} if thing is not None else {}
        return ask(self.fleet.server, self.file, path, headers, **given)

    def credentials(self, thing: str | None = None) -> Credentials:
        status, _, body = self.ask(thing=thing)
        assert status == 200, body
        made: Credentials = body["credentials"]
        return made

    def refused(self, alias: str = "", thing: str | None = None) -> tuple[int, str, str]:
        status, headers, body = self.ask(alias, thing)
        assert set(body) == {"message"}
        return status, headers["x-amzn-errortype"], body["message"]


def ask(
    server: RunningServer,
    file: Path | None,
    path: str,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    host: str = "localhost",
) -> tuple[int, Mapping[str, str], Any]:
    """Status, headers and JSON of the answer to a device with that certificate and key."""
    context = ssl.create_default_context(cafile=server.ca)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if file is not None:
        context.load_cert_chain(file)
    connection = HTTPSConnection(host, server.ports["credentials"], context=context, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request(method, path, headers=dict(headers or {}))
        answer = connection.getresponse()
        raw = answer.read()
        assert len(raw) <= MOST_BYTES
        assert answer.getheader("content-type") == "application/json"
        assert answer.getheader("x-amzn-requestid")
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(raw)


def fleet_of(server: RunningServer, iot: Any, folder: Path, name: str = "") -> Fleet:
    fleet = Fleet(server, iot, LocalAdmin(server), folder, name or f"up-{secrets.token_hex(4)}")
    fleet.role(fleet.name)
    iot.create_role_alias(roleAlias=fleet.name, roleArn=fleet.role_arn)
    return fleet


@pytest.fixture
def fleet(server: RunningServer, iot: Any, tmp_path: Path) -> Fleet:
    return fleet_of(server, iot, tmp_path)


# -- good answers -------------------------------------------------------------------------------------------------


def test_credentials_have_the_permissions_of_the_role(fleet: Fleet) -> None:
    device, before = fleet.device(), datetime.now(UTC)
    status, headers, body = device.ask()
    assert status == 200
    assert headers["cache-control"] == "no-store"
    assert set(body) == {"credentials"}
    made = body["credentials"]
    assert set(made) == {"accessKeyId", "secretAccessKey", "sessionToken", "expiration"}
    ends = datetime.strptime(made["expiration"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs(ends - before - timedelta(hours=1)) < timedelta(minutes=2)
    with fleet.client(made) as iot, fleet.client(made, "sts") as sts:
        iot.list_things()
        assert refusal(iot.list_policies)[1] == "AccessDeniedException"
        told = sts.get_caller_identity()
    assert told["Arn"] == f"arn:aws:sts::{fleet.account}:assumed-role/{fleet.name}/{device.id}"
    assert told["UserId"].endswith(f":{device.id}")


def test_each_request_gets_other_credentials_and_all_of_them_work(fleet: Fleet) -> None:
    device = fleet.device()
    first, second = device.credentials(), device.credentials()
    assert set(first.values()).isdisjoint({*second.values()} - {second["expiration"]})
    assert fleet.works(first)
    assert fleet.works(second)
    assert not fleet.works(first | {"sessionToken": second["sessionToken"]})
    assert not fleet.works(first | {"sessionToken": first["sessionToken"][:-8] + "AAAAAAA="})
    assert not fleet.works(first | {"sessionToken": "tmd_"})


def test_the_alias_says_how_long_credentials_are_valid(fleet: Fleet) -> None:
    fleet.iot.update_role_alias(roleAlias=fleet.name, credentialDurationSeconds=900)
    before = datetime.now(UTC)
    ends = datetime.fromisoformat(fleet.device().credentials()["expiration"])
    assert abs(ends - before - timedelta(minutes=15)) < timedelta(minutes=2)


def test_curl_gets_credentials(fleet: Fleet) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not there")
    device = fleet.device()
    thing = fleet.thing(device)
    url = f"https://localhost:{fleet.server.ports['credentials']}/role-aliases/{fleet.name}/credentials"
    arguments = ["-sS", "--fail", "--cacert", str(fleet.server.ca), "--cert", str(device.file)]
    done = subprocess.run(
        [curl, *arguments, "-H", f"x-amzn-iot-thingname: {thing}", url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert fleet.works(json.loads(done.stdout)["credentials"])


class Tunnel:
    """A proxy for CONNECT that leads every name and port to one port of this machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.asked: list[str] = []
        self._threads: list[threading.Thread] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._connect, args=[client], daemon=True))
            self._threads[-1].start()

    def _connect(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        self.asked.append(head.split(b"\r\n")[0].decode())
        server = socket.create_connection(("127.0.0.1", self._port))
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        back = threading.Thread(target=self._copy, args=[server, client], daemon=True)
        back.start()
        with client, server:
            self._copy(client, server)
            back.join(PATIENCE)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Waits for the connections that are open."""
        self._listening.close()
        for thread in self._threads:
            thread.join(PATIENCE)


def test_awscrts_provider_gets_credentials(fleet: Fleet) -> None:
    """It always connects to port 443, names a thing, and refuses answers of more than 2,048 bytes."""
    device = fleet.device()
    thing = fleet.thing(device)
    certificate, mark, private = device.file.read_text().partition("-----BEGIN PRIVATE KEY")
    options = io.TlsContextOptions.create_client_with_mtls(certificate.encode(), (mark + private).encode())
    options.override_default_trust_store_from_path(ca_filepath=str(fleet.server.ca))
    tunnel = Tunnel(fleet.server.ports["credentials"])
    proxy = HttpProxyOptions("127.0.0.1", tunnel.port, connection_type=HttpProxyConnectionType.Tunneling)
    provider = auth.AwsCredentialsProvider.new_x509(
        endpoint="localhost",
        thing_name=thing,
        role_alias=fleet.name,
        tls_ctx=io.ClientTlsContext(options),
        http_proxy_options=proxy,
    )
    got = provider.get_credentials().result(PATIENCE)
    del provider
    tunnel.close()
    assert tunnel.asked[0].startswith("CONNECT localhost:443 ")
    made = {
        "accessKeyId": got.access_key_id,
        "secretAccessKey": got.secret_access_key,
        "sessionToken": got.session_token,
    }
    assert fleet.works({name: str(value) for name, value in made.items()})


def test_answers_are_short_even_with_the_longest_names(server: RunningServer, iot: Any, tmp_path: Path) -> None:
    fleet = fleet_of(server, iot, tmp_path, "r" * 64)
    alias = "a" * 128
    iot.create_role_alias(roleAlias=alias, roleArn=fleet.role_arn)
    device = fleet.device(allow("iot:AssumeRoleWithCertificate", fleet.alias_arn(alias)))
    thing = "t" * 128
    iot.create_thing(thingName=thing)
    iot.attach_thing_principal(thingName=thing, principal=device.arn)
    status, _, body = device.ask(alias, thing)
    assert status == 200
    assert len(json.dumps(body)) <= MOST_BYTES
    assert fleet.works(body["credentials"])


# -- the errors ---------------------------------------------------------------------------------------------------

INVALID = (403, "AccessDeniedException", "Certificate is invalid on this endpoint")
NO_THING = (403, "AccessDeniedException", "Invalid thing name passed")
DENIED = (403, "AccessDeniedException", "Access Denied")
NOT_ASSUMED = (
    400,
    "InvalidRequestException",
    "Unable to assume the role, or the role to assume does not exist",
)


def test_a_certificate_that_is_not_registered_or_not_active_is_invalid(fleet: Fleet) -> None:
    device = fleet.device()
    device.file.write_text(self_signed_pem() + key_pem(key("secp256r1")))
    assert device.refused() == INVALID
    for status in ("INACTIVE", "REVOKED"):
        device = fleet.device()
        fleet.iot.update_certificate(certificateId=device.id, newStatus=status)
        assert device.refused() == INVALID
        assert device.refused("nothing", "nothing") == INVALID
    for path in ("/", f"/role-aliases/{fleet.name}/credentials"):
        code, headers, body = ask(fleet.server, None, path)
        assert (code, headers["x-amzn-errortype"], body["message"]) == INVALID


def test_a_thing_must_be_attached_to_the_certificate(fleet: Fleet) -> None:
    device, other = fleet.device(), fleet.device(allow("iot:Connect"))
    own, of_other = fleet.thing(device), fleet.thing(other)
    assert fleet.works(device.credentials(own))
    for thing in (of_other, "nothing", "", "no thing%00", "*", "x" * 129):
        assert device.refused(thing=thing) == NO_THING
    assert other.refused(thing=own) == NO_THING  # before the policy is asked
    assert other.refused(thing=of_other) == DENIED
    assert device.refused("nothing", "nothing") == NO_THING


def test_a_certificate_that_one_thing_has_exclusively_is_no_other_things(fleet: Fleet) -> None:
    device = fleet.device()
    fleet.iot.create_thing(thingName=f"x-{device.id[:12]}")
    fleet.iot.attach_thing_principal(
        thingName=f"x-{device.id[:12]}", principal=device.arn, thingPrincipalType="EXCLUSIVE_THING"
    )
    assert fleet.works(device.credentials(f"x-{device.id[:12]}"))
    assert device.refused(thing="another") == NO_THING
    assert fleet.works(device.credentials())


def test_the_policy_must_allow_the_action_on_the_alias(fleet: Fleet) -> None:
    other = f"o-{secrets.token_hex(4)}"
    fleet.iot.create_role_alias(roleAlias=other, roleArn=fleet.role_arn)
    device = fleet.device()
    assert device.refused(other) == DENIED
    assert device.refused("unknown") == DENIED  # so it does not learn which aliases there are
    denying = fleet.device(
        allow("iot:AssumeRoleWithCertificate"),
        {**allow("iot:AssumeRoleWithCertificate", fleet.alias_arn()), "Effect": "Deny"},
    )
    assert denying.refused() == DENIED
    assert denying.ask(other)[0] == 200
    assert fleet.device(allow("iot:*", fleet.alias_arn())).ask()[0] == 200


def test_an_unknown_alias_is_not_found(fleet: Fleet) -> None:
    device = fleet.device(allow("iot:AssumeRoleWithCertificate"))
    assert device.refused("nothing") == (404, "ResourceNotFoundException", "Role alias does not exist")


def test_the_role_must_exist_and_trust_the_service(fleet: Fleet) -> None:
    device = fleet.device(allow("iot:AssumeRoleWithCertificate"))
    wrong = TRUST.replace(SERVICE, "iot.amazonaws.com")
    for role in (f"arn:aws:iam::{fleet.account}:role/nothing", fleet.role(trust=wrong)):
        alias = f"n-{secrets.token_hex(4)}"
        fleet.iot.create_role_alias(roleAlias=alias, roleArn=role)
        assert device.refused(alias) == NOT_ASSUMED
    fleet.admin.ask("role.disable", name=fleet.name)
    assert device.refused() == NOT_ASSUMED
    fleet.admin.ask("role.enable", name=fleet.name)
    assert device.ask()[0] == 200


def test_the_duration_is_at_most_what_the_role_allows(fleet: Fleet) -> None:
    device = fleet.device(allow("iot:AssumeRoleWithCertificate"))
    alias = f"l-{secrets.token_hex(4)}"
    fleet.iot.create_role_alias(
        roleAlias=alias, roleArn=fleet.role(max_session_duration="2h"), credentialDurationSeconds=7201
    )
    assert device.refused(alias) == (
        400,
        "InvalidRequestException",
        "The requested CredentialDurationSeconds exceeds the MaxSessionDuration set for the role",
    )
    fleet.iot.update_role_alias(roleAlias=alias, credentialDurationSeconds=7200)
    assert device.ask(alias)[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/topics/a"),
        ("GET", "/role-aliases/ALIAS"),
        ("GET", "/role-aliases//credentials"),
        ("GET", "/role-aliases/a%20b/credentials"),
        ("GET", "/role-aliases/a%00/credentials"),
        ("GET", f"/role-aliases/{'a' * 129}/credentials"),
        ("GET", "/role-aliases/ALIAS/credentials/"),
        ("POST", "/role-aliases/ALIAS/credentials"),
    ],
)
def test_other_paths_are_not_found(fleet: Fleet, method: str, path: str) -> None:
    status, _, body = ask(fleet.server, fleet.device().file, path.replace("ALIAS", fleet.name), method=method)
    assert (status, body["message"]) == (404, "Not Found")
    assert body["traceId"]


def test_an_alias_may_be_percent_encoded(fleet: Fleet) -> None:
    alias = f"a=b,c@{secrets.token_hex(4)}"
    fleet.iot.create_role_alias(roleAlias=alias, roleArn=fleet.role_arn)
    device = fleet.device(allow("iot:AssumeRoleWithCertificate", fleet.alias_arn(alias)))
    assert device.ask(alias.replace("=", "%3D").replace("@", "%40"))[0] == 200
    assert device.ask(alias)[0] == 200


# -- policies -----------------------------------------------------------------------------------------------------


def test_device_policies_know_the_thing_only_with_the_header(fleet: Fleet) -> None:
    only_own = allow("iot:AssumeRoleWithCertificate", Condition={"Bool": {"iot:Connection.Thing.IsAttached": "true"}})
    device = fleet.device(only_own)
    thing = fleet.thing(device)
    assert device.refused() == DENIED
    made = device.credentials(thing)
    assert fleet.works(made)
    by_client_id = fleet.device(allow("iot:AssumeRoleWithCertificate", fleet.alias_arn("${iot:ClientId}")))
    assert by_client_id.refused(thing=fleet.thing(by_client_id)) == DENIED


def test_the_roles_policies_know_the_certificate_the_thing_and_its_type(fleet: Fleet) -> None:
    type_name = f"type-{secrets.token_hex(4)}"
    fleet.iot.create_thing_type(thingTypeName=type_name)
    device = fleet.device()
    thing = fleet.thing(device, thingTypeName=type_name)
    known = {
        "credentials-iot:ThingName": thing,
        "credentials-iot:ThingTypeName": type_name,
        "credentials-iot:AwsCertificateId": device.id,
    }
    fleet.admin.attach(f"role/{fleet.name}", allow("iot:ListPolicies", Condition={"StringEquals": known}))
    with fleet.client(device.credentials(thing)) as iot:
        iot.list_policies()
    with fleet.client(device.credentials()) as iot:  # without the header, the thing is not known
        assert refusal(iot.list_policies)[1] == "AccessDeniedException"


def test_other_credentials_cannot_be_made_of_them(fleet: Fleet) -> None:
    """A session made by STS would outlive the certificate."""
    trust = document({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"})
    other = fleet.role(trust=trust)
    with fleet.client(fleet.device().credentials(), "sts") as sts:
        assert refusal(sts.assume_role, RoleArn=other, RoleSessionName="longer")[:2] == (403, "AccessDenied")
        assert refusal(sts.get_session_token)[:2] == (403, "AccessDenied")


# -- credentials end with what they were made from -----------------------------------------------------------------


def _deactivate(fleet: Fleet, device: Device, _thing: str) -> None:
    fleet.iot.update_certificate(certificateId=device.id, newStatus="INACTIVE")


def _revoke(fleet: Fleet, device: Device, _thing: str) -> None:
    fleet.iot.update_certificate(certificateId=device.id, newStatus="REVOKED")


def _detach_policy(fleet: Fleet, device: Device, _thing: str) -> None:
    fleet.iot.detach_policy(policyName=device.policy, target=device.arn)


def _change_policy(fleet: Fleet, device: Device, _thing: str) -> None:
    lesser = document(allow("iot:Connect"))
    fleet.iot.create_policy_version(policyName=device.policy, policyDocument=lesser, setAsDefault=True)


def _detach_thing(fleet: Fleet, device: Device, thing: str) -> None:
    fleet.iot.detach_thing_principal(thingName=thing, principal=device.arn)


def _delete_alias(fleet: Fleet, _device: Device, _thing: str) -> None:
    fleet.iot.delete_role_alias(roleAlias=fleet.name)


def _replace_alias(fleet: Fleet, device: Device, thing: str) -> None:
    _delete_alias(fleet, device, thing)
    fleet.iot.create_role_alias(roleAlias=fleet.name, roleArn=fleet.role_arn)


def _other_role(fleet: Fleet, _device: Device, _thing: str) -> None:
    fleet.iot.update_role_alias(roleAlias=fleet.name, roleArn=fleet.role())


def _disable_role(fleet: Fleet, _device: Device, _thing: str) -> None:
    fleet.admin.ask("role.disable", name=fleet.name)


def _replace_role(fleet: Fleet, _device: Device, _thing: str) -> None:
    fleet.admin.ask("role.delete", name=fleet.name)
    fleet.role(fleet.name)


@pytest.mark.parametrize(
    "end",
    [
        _deactivate,
        _revoke,
        _detach_policy,
        _change_policy,
        _detach_thing,
        _delete_alias,
        _replace_alias,
        _other_role,
        _disable_role,
        _replace_role,
    ],
)
def test_credentials_end_at_once(fleet: Fleet, end: Callable[[Fleet, Device, str], None]) -> None:
    device, other = fleet.device(), fleet.device()
    thing = fleet.thing(device)
    made, of_other = device.credentials(thing), other.credentials()
    assert fleet.works(made)
    end(fleet, device, thing)
    assert not fleet.works(made)
    concerns_all = end in (_delete_alias, _replace_alias, _other_role, _disable_role, _replace_role)
    assert fleet.works(of_other) is not concerns_all


def test_credentials_stay_valid_after_a_restart_and_where_none_are_given(
    tmp_path: Path, new_store: Callable[[], dict[str, str]]
) -> None:
    store = new_store()
    with (
        running_server(tmp_path / "data", arguments=["--credentials-port=0"], environment=store) as server,
        contextlib.closing(iot_client(server)) as iot,
    ):
        fleet = fleet_of(server, iot, tmp_path)
        device = fleet.device()
        made = device.credentials()
    with running_server(tmp_path / "data", environment=store) as server, contextlib.closing(iot_client(server)) as iot:
        assert "credentials" not in server.ports
        again = Fleet(server, iot, LocalAdmin(server), tmp_path, fleet.name)
        assert again.works(made)
        iot.update_certificate(certificateId=device.id, newStatus="INACTIVE")
        assert not again.works(made)


# -- the listener -------------------------------------------------------------------------------------------------


def test_the_secrets_are_in_no_log_and_no_record(fleet: Fleet) -> None:
    device = fleet.device()
    made = device.credentials()

    def records() -> str:
        with fleet.admin.bearer(fleet.server.token) as native:
            return native.get(AUDIT).text

    until(lambda: device.arn in records(), seconds=PATIENCE, what="the audit log has the record")
    text = records() + fleet.server.output.read_text()
    assert made["accessKeyId"] in text
    assert '"event":"AssumeRoleWithCertificate"' in text
    assert f'"source":"{SERVICE}"' in text
    for secret in (made["secretAccessKey"], made["sessionToken"]):
        assert secret not in text


def test_a_refusal_is_explained_in_the_log_only(fleet: Fleet) -> None:
    device = fleet.device(allow("iot:AssumeRoleWithCertificate", fleet.alias_arn("other")))
    assert device.refused() == DENIED

    def explained() -> bool:
        with fleet.admin.bearer(fleet.server.token) as native:
            found = native.get(AUDIT).json()["data"]["records"]
            return any(record["principal"] == device.arn and record.get("closest") for record in found)

    until(explained, seconds=PATIENCE, what="the audit log has the explanation")


def test_a_connection_serves_several_requests(fleet: Fleet) -> None:
    context = ssl.create_default_context(cafile=fleet.server.ca)
    context.load_cert_chain(fleet.device().file)
    connection = HTTPSConnection("localhost", fleet.server.ports["credentials"], context=context, timeout=PATIENCE)
    with contextlib.closing(connection):
        for _ in range(3):
            connection.request("GET", f"/role-aliases/{fleet.name}/credentials")
            answer = connection.getresponse()
            assert answer.status == 200
            assert json.loads(answer.read())["credentials"]


def test_a_device_that_asks_too_often_is_throttled_and_others_are_not(fleet: Fleet) -> None:
    device, other = fleet.device(), fleet.device()
    answers = [device.ask() for _ in range(40)]
    throttled = [headers for status, headers, _ in answers if status == 429]
    assert throttled
    assert throttled[0]["x-amzn-errortype"] == "ThrottlingException"
    assert int(throttled[0]["retry-after"]) >= 1
    assert other.ask()[0] == 200


def test_the_host_name_selects_the_account(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", arguments=["--credentials-port=0"]) as server:
        admin = LocalAdmin(server)
        other = admin.ask("account.create", name="other")["account"]
        admin.ask("hostname.add", name="other.localhost", account=other, api="aws")
        with contextlib.closing(iot_client(server)) as iot:
            fleet = fleet_of(server, iot, tmp_path)
            device = fleet.device()
            assert device.ask()[0] == 200
            context = ssl.create_default_context(cafile=server.ca)
            context.load_cert_chain(device.file)

            def head() -> bytes:
                with (
                    contextlib.suppress(ssl.SSLCertVerificationError),  # the certificate does not have the name yet
                    socket.create_connection(("127.0.0.1", server.ports["credentials"]), PATIENCE) as raw,
                    context.wrap_socket(raw, server_hostname="other.localhost") as tls,
                ):
                    tls.sendall(f"GET /role-aliases/{fleet.name}/credentials HTTP/1.1\r\nhost: x\r\n\r\n".encode())
                    return tls.recv(4096)
                return b""

            assert until(head, seconds=PATIENCE, what="the certificate has the name").startswith(b"HTTP/1.1 403 ")


def test_the_server_stops_while_a_device_is_connected(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", arguments=["--credentials-port=0"]) as server:
        with contextlib.closing(iot_client(server)) as iot:
            device = fleet_of(server, iot, tmp_path).device()
        context = ssl.create_default_context(cafile=server.ca)
        context.load_cert_chain(device.file)
        with (
            socket.create_connection(("127.0.0.1", server.ports["credentials"]), PATIENCE) as raw,
            context.wrap_socket(raw, server_hostname="localhost"),
            socket.create_connection(("127.0.0.1", server.ports["credentials"]), PATIENCE),
        ):
            assert server.stop() == 0
