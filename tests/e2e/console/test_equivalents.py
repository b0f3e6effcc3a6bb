"""The code that the playground shows works as it stands, and gets the answer of "Try it"."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import grpc
import httpx
import pytest
from google.protobuf.json_format import ParseDict

from tests.e2e.commands import AWS, bare_environment
from tests.e2e.material import csr_pem, self_signed_pem
from thingmint.console.playground.catalogue import Catalogue
from thingmint.console.playground.equivalents import equivalents
from thingmint.console.playground.given import Given
from thingmint.console.playground.shown_code import Addresses, Equivalents
from thingmint.server.contracts import CONTRACTS
from thingmint.yandex.contract import load

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.signing import Signer
    from thingmint.testing import RunningServer

HOSTILE = 'it\'s a "test" $(id) `id` ${iot:ClientId} \\'
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
        {"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:*:*:topic/${iot:ClientId}/it's"},
    ],
}


@cache
def catalogue() -> Catalogue:
    return Catalogue.of({api: make() for api, make in CONTRACTS.items()})


@dataclass(frozen=True, slots=True)
class Shown:
    """Shows the code of calls, and runs it in ``folder``, where ``data`` is the server's data directory."""

    server: RunningServer
    folder: Path
    addresses: Addresses

    def of(self, api: str, id: str, /, **values: Any) -> Equivalents:
        named = {name.replace("__", "-"): value for name, value in values.items()}
        found = equivalents(catalogue().find(api, id), named, self.addresses, catalogue().schemas[api].resolved)
        assert found.missing == ()
        for file in found.files:
            assert file.text is not None
            self.folder.joinpath(file.name).write_text(file.text)
        return found

    def text(self, client: str, api: str, id: str, /, **values: Any) -> str:
        return next(each.text for each in self.of(api, id, **values).clients if each.id == client)

    def shell(self, client: str, api: str, id: str, /, *, secrets: dict[str, str] | None = None, **values: Any) -> Any:
        """The JSON that the command prints."""
        script = f"{self.of(api, id, **values).credentials}\n{self.text(client, api, id, **values)}"
        printed = self.run(["bash", "-ec", script], PATH=_PATH, **(secrets or {}))
        return json.loads(printed) if printed.strip() else None

    def python(self, client: str, api: str, id: str, /, *, secrets: dict[str, str] | None = None, **values: Any) -> Any:
        """The answer that the code has at its end, as JSON."""
        program = f"{self.text(client, api, id, **values)}\n{_ANSWER}"
        printed = self.run([sys.executable, "-c", program], **self.server.environment(), **(secrets or {}))
        return json.loads(printed.rpartition("\n=====\n")[2])

    def run(self, command: list[str], **variables: str) -> str:
        """What the command prints. The test fails if it fails."""
        env = bare_environment(**{"HOME": str(self.folder), "no_proxy": "localhost"} | variables)
        ran = subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=120, check=False
        )
        assert ran.returncode == 0, (command, ran.stdout, ran.stderr)
        return ran.stdout


_PATH = f"{AWS.parent}{os.pathsep}{os.environ['PATH']}"
_ANSWER = """
import json
from google.protobuf.json_format import MessageToDict
found = globals()["result"].response if "result" in globals() else globals()["answer"]
print("\\n=====\\n" + json.dumps(found if isinstance(found, dict) else MessageToDict(found), default=str))
"""


@pytest.fixture
def shown(server: RunningServer, tmp_path: Path) -> Shown:
    account = boto3.client("sts", **_of_sts(server)).get_caller_identity()["Account"]
    tmp_path.joinpath("data").symlink_to(server.data_dir)
    ports = server.ports
    addresses = Addresses(
        f"localhost:{ports['api']}",
        f"localhost:{ports['grpc']}",
        "localhost",
        ports["mqtt"],
        account,
        server.environment()["AWS_REGION"],
    )
    return Shown(server, tmp_path, addresses)


def _of_sts(server: RunningServer) -> dict[str, Any]:
    return server.boto3_arguments()


def try_it(signer: Signer, id: str, **values: Any) -> Any:
    """The answer to the request that the form makes."""
    named = {name.replace("__", "-"): value for name, value in values.items()}
    request = Given.of(catalogue().find("aws", id), named).request()
    target = f"{request.path}?{request.query}" if request.query else request.path
    headers = signer.headers(request.method, target, dict(request.headers), request.body)
    sent = httpx.request(
        request.method, f"{signer.server.http_url}{target}", headers=headers, content=request.body, trust_env=False
    )
    assert sent.status_code == 200, sent.text
    return sent.json()


def plain(answer: Any) -> Any:
    """An answer without what differs: times, which clients write in their own ways, and boto3's metadata."""
    if isinstance(answer, dict):
        return {name: plain(each) for name, each in answer.items() if name != "ResponseMetadata" and not _is_time(name)}
    return [plain(each) for each in answer] if isinstance(answer, list) else answer


def _is_time(name: str) -> bool:
    return name.lower().endswith(("date", "at", "timestamp", "time", "before", "after"))


def curl_signs_any_path() -> bool:
    version = re.match(r"curl (\d+)\.(\d+)", subprocess.check_output(["curl", "--version"], text=True))
    return version is not None and (int(version[1]), int(version[2])) >= (8, 16)


@pytest.mark.parametrize("client", ["curl", "aws", "boto3"])
def test_calls_of_aws_work_as_shown(client: str, shown: Shown, signer: Signer) -> None:
    """Path, query, header and body; lists, maps, times, documents and files."""
    run = shown.python if client == "boto3" else shown.shell
    name, policy, group = f"lamp-{client}", f"p-{client}", f"g-{client}"
    attributes = {"a": "b.c", "place": "hall/2"}
    thing = run(client, "aws", "CreateThing", thingName=name, attributePayload={"attributes": attributes})
    assert thing["thingName"] == name
    asked: list[tuple[str, dict[str, Any]]] = [
        ("DescribeThing", {"thingName": name}),
        ("ListThings", {"attributeName": "place", "attributeValue": "hall/2", "maxResults": 1}),
        ("DescribeEndpoint", {"endpointType": "iot:Data-ATS"}),
    ]
    document = json.dumps(POLICY, indent=2)
    made = run(
        client, "aws", "CreatePolicy", policyName=policy, policyDocument=document, tags=[{"Key": "a", "Value": "b c"}]
    )
    assert made["policyDocument"] == document
    properties = {"thingGroupDescription": HOSTILE}
    run(client, "aws", "CreateThingGroup", thingGroupName=group, thingGroupProperties=properties)
    certificate = run(client, "aws", "CreateKeysAndCertificate", setAsActive=True)
    arn = certificate["certificateArn"]
    csr = run(client, "aws", "CreateCertificateFromCsr", certificateSigningRequest=csr_pem("secp256r1", f"x-{client}"))
    pem = self_signed_pem("secp256r1", f"own-{client}")
    own = run(client, "aws", "RegisterCertificateWithoutCA", certificatePem=pem, status="ACTIVE")
    assert (
        try_it(signer, "DescribeCertificate", certificateId=own["certificateId"])["certificateDescription"][
            "certificatePem"
        ].strip()
        == pem.strip()
    )
    run(client, "aws", "AttachPolicy", policyName=policy, target=arn)
    run(client, "aws", "AttachThingPrincipal", thingName=name, x__amzn__principal=arn)
    topic = f"{made['policyArn'].rpartition(':')[0]}:topic/it's/it's"
    asked_for = {"actionType": "PUBLISH", "resources": [topic]}
    asked += [
        ("GetPolicy", {"policyName": policy}),
        ("DescribeThingGroup", {"thingGroupName": group}),
        ("ListPrincipalThings", {"x__amzn__principal": arn}),
        ("ListTagsForResource", {"resourceArn": made["policyArn"]}),
        ("ListTargetsForPolicy", {"policyName": policy, "pageSize": 2}),
        ("ListCertificates", {"isAscendingOrder": False, "pageSize": 2}),
        ("DescribeCertificate", {"certificateId": csr["certificateId"]}),
        ("TestAuthorization", {"principal": arn, "clientId": "it's", "authInfos": [asked_for]}),
    ]
    for id, values in asked:
        assert plain(run(client, "aws", id, **values)) == plain(try_it(signer, id, **values)), id
    target = {"target": arn}
    if client != "curl" or curl_signs_any_path():
        assert plain(run(client, "aws", "ListAttachedPolicies", **target)) == plain(
            try_it(signer, "ListAttachedPolicies", **target)
        )


def test_the_path_that_old_versions_of_curl_sign_wrongly_has_a_note(shown: Shown) -> None:
    [curl] = [each for each in shown.of("aws", "ListAttachedPolicies", target="arn:x").clients if each.id == "curl"]
    assert "8.16" in curl.note


@pytest.mark.parametrize("client", ["curl", "yandexcloud", "grpcurl"])
def test_calls_of_yandex_work_as_shown(client: str, shown: Shown) -> None:
    if client == "grpcurl" and shutil.which("grpcurl") is None:
        pytest.skip("grpcurl was not found")
    folder = shown.server.environment("yandex")["THINGMINT_YC_FOLDER_ID"]
    token = {"IAM_TOKEN": _iam_token(shown)}

    def run(id: str, secrets: dict[str, str] | None = None, **values: Any) -> Any:
        if client == "yandexcloud":
            return shown.python(client, "yandex", id, secrets=token | (secrets or {}), **values)
        answer = shown.shell(client, "yandex", id, secrets=secrets, **values)
        result = answer.get("response", answer)
        return {_camel(key): value for key, value in result.items() if key != "@type"}

    labels = {"a-b": "c"}
    registry = run("RegistryService.Create", folderId=folder, name=f"r-{client}", labels=labels, description=HOSTILE)
    assert (registry["description"], registry["labels"]) == (HOSTILE, {"a-b": "c"})
    pem = self_signed_pem("secp256r1", f"yandex-{client}")
    device = run(
        "DeviceService.Create",
        registryId=registry["id"],
        name="boiler",
        topicAliases={f"x/{client}": "$devices/{id}/events"},
        password="seen",
        secrets={"PASSWORD": "Pa55word-\"'$x-0123456789"},
    )
    added = run(
        "DeviceService.AddCertificate",
        device_id=device["id"],
        certificateData=pem,
        Idempotency__Key=str(uuid4()),
    )
    assert added["certificateData"] == pem
    run("DeviceService.Update", device_id=device["id"], updateMask="description", description="x")
    found = run("DeviceService.Get", device_id=device["id"], deviceView="FULL")
    assert found["description"] == "x"
    assert found["topicAliases"] == {f"x/{client}": f"$devices/{device['id']}/events"}
    assert len(run("DeviceService.ListPasswords", device_id=device["id"])["passwords"]) == 1
    assert len(run("DeviceService.List", registryId=registry["id"], pageSize=1)["devices"]) == 1
    run("DeviceDataService.Publish", device_id=device["id"], topic=f"$devices/{device['id']}/events", data="aGVsbG8=")


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda each: each[1].upper(), name)


def _iam_token(shown: Shown) -> str:
    script = f'{shown.of("yandex", "DeviceService.List", folderId="x").credentials}\nprintf %s "$IAM_TOKEN"'
    return shown.run(["bash", "-ec", script])


def test_the_message_of_grpcurl_is_taken_over_grpc(shown: Shown) -> None:
    """For machines without grpcurl: the words of its command are what a channel of grpcio sends."""
    folder = shown.server.environment("yandex")["THINGMINT_YC_FOLDER_ID"]
    values = {"folderId": folder, "name": "by-grpc", "description": HOSTILE}
    text = shown.text("grpcurl", "yandex", "RegistryService.Create", **values)
    script = f"words() {{ printf '%s\\0' \"$@\"; }}\nwords {text}"
    env = bare_environment(IAM_TOKEN=_iam_token(shown))
    words = subprocess.check_output(["bash", "-c", script], env=env, text=True).split("\0")[1:-1]
    address, path = words[-2:]
    given = dict(zip(words[:-2:2], words[1:-2:2], strict=True))
    method = load().methods[f"/{path}"]
    root = grpc.ssl_channel_credentials(shown.folder.joinpath(given["-cacert"]).read_bytes())
    name, value = given["-H"].split(": ")
    with grpc.secure_channel(address, root, [("grpc.enable_http_proxy", 0)]) as channel:
        call: Any = channel.unary_unary(
            f"/{path}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.response_class.FromString,
        )
        operation = call(ParseDict(json.loads(given["-d"]), method.request_class()), metadata=((name, value),))
    assert operation.done


def test_calls_of_the_native_api_work_as_shown(shown: Shown) -> None:
    made = shown.shell("curl", "native", "CreateKeysAndCertificate", setAsActive="true")["data"]
    assert made["status"] == "ACTIVE"
    signed = shown.shell("curl", "native", "AddCertificate", csr=csr_pem("secp256r1"), status="INACTIVE")["data"]
    shown.shell("curl", "native", "UpdateCertificate", id=signed["id"], status="ACTIVE")
    found = shown.shell("curl", "native", "SearchCertificates", id_prefix=signed["id"][:8], never_seen=True)["data"]
    assert [(each["id"], each["status"]) for each in found["certificates"]] == [(signed["id"], "ACTIVE")]
    shown.shell("curl", "native", "policy-put", name="by-curl", document=json.dumps(POLICY))


def test_the_thingmint_command_works_as_shown(shown: Shown) -> None:
    signed = shown.shell("curl", "native", "AddCertificate", csr=csr_pem("secp256r1", "cli"), status="INACTIVE")["data"]
    found = shown.text("thingmint", "native", "SearchCertificates", id_prefix=signed["id"][:8])
    put = shown.text("thingmint", "native", "policy-put", name="by-cli", document=json.dumps(POLICY))
    show = shown.text("thingmint", "native", "policy-show", name="by-cli")
    printed = shown.run(["bash", "-ec", "\n".join([found, put, show])], PATH=_PATH, COLUMNS="200")
    assert signed["id"][:8] in printed
    assert "by-cli" in printed


@pytest.mark.parametrize("format", ["json", "cbor"])
def test_devices_get_certificates_over_mqtt_as_shown(format: str, shown: Shown, iot: Any) -> None:
    made = iot.create_keys_and_certificate(setAsActive=True)
    shown.folder.joinpath("ca.pem").write_bytes(shown.server.ca.read_bytes())
    shown.folder.joinpath("device.pem").write_text(made["certificatePem"])
    shown.folder.joinpath("device.key").write_text(made["keyPair"]["PrivateKey"])
    statement = {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}
    name = f"provisioning-{format}"
    iot.create_policy(policyName=name, policyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    iot.attach_policy(policyName=name, target=made["certificateArn"])
    requests: list[tuple[str, dict[str, Any]]] = [
        ("CreateKeysAndCertificate", {"setAsActive": True}),
        ("CreateCertificateFromCsr", {"certificateSigningRequest": csr_pem("secp256r1", format)}),
    ]
    for id, values in requests:
        program = shown.text(f"mqtt-{format}", "aws", id, **values)
        printed = shown.run([sys.executable, "-c", program])
        topic, _, answer = printed.partition("\n")
        assert topic.endswith(f"/{format}/accepted"), printed
        assert "certificateOwnershipToken" in answer
        assert ("privateKey" in answer) == (id == "CreateKeysAndCertificate")


def test_terraform_takes_the_code_as_it_is_formatted(shown: Shown) -> None:
    if shutil.which("terraform") is None:
        pytest.skip("terraform was not found")
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("aws", "CreatePolicy", {"policyName": HOSTILE, "policyDocument": json.dumps(POLICY)}),
        (
            "aws",
            "CreateThingGroup",
            {"thingGroupName": "g", "thingGroupProperties": {"thingGroupDescription": HOSTILE}},
        ),
        ("aws", "RegisterCertificateWithoutCA", {"certificatePem": self_signed_pem("secp256r1"), "status": "ACTIVE"}),
        ("aws", "DescribeEndpoint", {}),
        ("yandex", "DeviceService.Create", {"registryId": "r", "name": "x", "topicAliases": {"a/b": "$devices/{id}"}}),
    ]
    for api, id, values in calls:
        text = shown.text("terraform", api, id, **values)
        command = ["terraform", "fmt", "-check", "-diff", "-"]
        ran = subprocess.run(command, input=f"{text}\n", capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout) == (0, ""), ran
