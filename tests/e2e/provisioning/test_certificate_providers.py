"""Certificate providers and functions: boto3, devices over MQTT, and receivers that answer in every wrong way."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import hmac
import json
import os
import re
import signal
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
from cryptography import x509

from tests.e2e.access.local_admin import LocalAdmin, allow, document, keys_of, refusal
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.logs import check_log
from tests.e2e.material import csr_pem, key, new_issuer
from tests.e2e.provisioning.support import CREATE_FROM_CSR, Device, Fleet, wait_until
from tests.issuers import fingerprint, pem
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from thingmint.testing import RunningServer

SECRET = "a secret of the tests"
CA = new_issuer("Factory")
DEFAULT_FOR = ["CreateCertificateFromCsr"]
PYTHON = """
import threading
released = threading.Event()
def raises(event): raise KeyError(event["clientId"])
def hangs(event): threading.Event().wait()
def echo(event): return {"certificatePem": event["certificateSigningRequest"]}
def allows(event): return {"allowProvisioning": True}
"""


def arn(name: str, account: str) -> str:
    return f"arn:aws:lambda:us-east-1:{account}:function:{name}"


# -- the operations -----------------------------------------------------------------------------------------------


@pytest.mark.both_engines
def test_a_provider_from_its_creation_to_its_end(iot: Any) -> None:
    account = iot.create_thing(thingName=f"t-{uuid4().hex}")["thingArn"].split(":")[4]
    name, function = f"p={uuid4().hex[:8]},@-", arn("sign", account)
    given = {"lambdaFunctionArn": function, "accountDefaultForOperations": DEFAULT_FOR, "clientToken": str(uuid4())}
    tags = [{"Key": "team", "Value": "lamps"}]
    created = iot.create_certificate_provider(certificateProviderName=name, tags=tags, **given)
    provider = created["certificateProviderArn"]
    assert (created["certificateProviderName"], provider.split(":", 5)[5]) == (name, f"certificateprovider/{name}")
    repeated = iot.create_certificate_provider(certificateProviderName=name, tags=tags, **given)
    assert repeated["certificateProviderArn"] == provider
    given["clientToken"] = str(uuid4())
    conflict = refusal(iot.create_certificate_provider, certificateProviderName=name, **given)
    assert conflict[:2] == (409, "ResourceAlreadyExistsException")
    second = refusal(iot.create_certificate_provider, certificateProviderName=f"{name}2", **given)
    assert second[:2] == (410, "LimitExceededException")

    described = iot.describe_certificate_provider(certificateProviderName=name)
    assert described["creationDate"] == described["lastModifiedDate"]
    assert (described["lambdaFunctionArn"], described["accountDefaultForOperations"]) == (function, DEFAULT_FOR)
    for order in (True, False):
        [listed] = iot.list_certificate_providers(ascendingOrder=order)["certificateProviders"]
        assert listed == {"certificateProviderName": name, "certificateProviderArn": provider}

    assert iot.list_tags_for_resource(resourceArn=provider)["tags"] == tags
    iot.tag_resource(resourceArn=provider, tags=[{"Key": "site", "Value": "north"}])
    iot.untag_resource(resourceArn=provider, tagKeys=["team"])
    assert iot.list_tags_for_resource(resourceArn=provider)["tags"] == [{"Key": "site", "Value": "north"}]

    iot.update_certificate_provider(certificateProviderName=name, lambdaFunctionArn=f"{function}2")
    found = iot.describe_certificate_provider(certificateProviderName=name)
    assert (found["lambdaFunctionArn"], found["creationDate"]) == (f"{function}2", described["creationDate"])
    iot.delete_certificate_provider(certificateProviderName=name)
    for operation in ("describe", "update", "delete"):
        call = getattr(iot, f"{operation}_certificate_provider")
        assert refusal(call, certificateProviderName=name)[:2] == (404, "ResourceNotFoundException")
    assert iot.list_certificate_providers()["certificateProviders"] == []
    assert refusal(iot.list_tags_for_resource, resourceArn=provider)[0] == 404


@pytest.mark.parametrize("function", ["sign", "arn:aws:iot:us-east-1:123456789012:function:sign", "x" * 2049, "\u00e9"])
def test_a_provider_needs_the_arn_of_a_function(iot: Any, function: str) -> None:
    given = {"certificateProviderName": "p", "accountDefaultForOperations": DEFAULT_FOR}
    refused = refusal(iot.create_certificate_provider, lambdaFunctionArn=function, **given)
    assert refused[:2] == (400, "InvalidRequestException")


def test_a_caller_needs_the_action_on_the_provider(server: RunningServer) -> None:
    local_admin, name = LocalAdmin(server), f"p-{uuid4().hex[:8]}"
    resource = f"arn:aws:iot:us-east-1:*:certificateprovider/{name}"
    given = {"lambdaFunctionArn": arn("sign", "123456789012"), "accountDefaultForOperations": DEFAULT_FOR}
    with local_admin.iot_of(allow("iot:*", resource), allow("iot:ListCertificateProviders")) as iot:
        refused = refusal(iot.create_certificate_provider, certificateProviderName=f"{name}x", **given)
        assert refused[:2] == (403, "AccessDeniedException")
        iot.create_certificate_provider(certificateProviderName=name, **given)
        assert len(iot.list_certificate_providers()["certificateProviders"]) == 1
        iot.delete_certificate_provider(certificateProviderName=name)


# -- functions that answer ----------------------------------------------------------------------------------------


@dataclass
class Receiver:
    """An HTTP server of functions: the path says how it answers. ``events`` have the path, the event and the header."""

    port: int = 0
    events: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    redirected: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Receiver]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                header = self.headers.get("thingmint-signature", "")
                receiver.events.append((self.path[1:], json.loads(body), header))
                with contextlib.suppress(OSError):
                    receiver.answer(self, body)

            def do_GET(self) -> None:
                receiver.redirected.append(self.path)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_port
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield self
            finally:
                self.released.set()
                server.shutdown()
                thread.join()

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        headers: dict[str, str] = {}
        status, sent = 200, b""
        match handler.path[1:]:
            case "sign":
                if is_signed(handler.headers.get("thingmint-signature", ""), body):
                    sent = json.dumps({"certificatePem": signed(json.loads(body))}).encode()
                else:
                    status = 403
            case "check":
                sent = b'{"allowProvisioning": true}'
            case "wrong-key":
                sent = json.dumps({"certificatePem": pem(CA.sign(key=key("secp384r1")))}).encode()
            case "not-json":
                sent = b"-----BEGIN CERTIFICATE-----"
            case "large":
                sent = json.dumps({"certificatePem": signed(json.loads(body)), "pad": "x" * 70_000}).encode()
            case "bomb":
                headers, sent = {"content-encoding": "gzip"}, gzip.compress(b" " * 100_000_000, 1)
            case "redirect":
                status, headers = 302, {"location": self.url("elsewhere")}
            case "e500":
                status, sent = 500, json.dumps({"certificatePem": signed(json.loads(body))}).encode()
            case "drip":
                handler.send_response(200)
                handler.end_headers()
                while not self.released.wait(1):
                    handler.wfile.write(b" ")
            case "slow":
                self.released.wait(60)
        handler.send_response(status)
        for name, value in {**headers, "content-length": str(len(sent))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(sent)


def signed(event: dict[str, Any]) -> str:
    csr = x509.load_pem_x509_csr(event["certificateSigningRequest"].encode())
    device: Any = key("secp256r1")
    assert csr.public_key() == device.public_key()
    return pem(CA.sign(event["clientId"], device))


def is_signed(header: str, body: bytes) -> bool:
    found = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", header)
    if found is None or abs(time.time() - int(found[1])) > 300:
        return False
    mac = hmac.new(SECRET.encode(), found[1].encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(mac, found[2])


@dataclass
class Site:
    """A server with two accounts, and functions. ``other`` is the second account's fleet."""

    fleet: Fleet
    other: Fleet
    receiver: Receiver
    config: Path

    @property
    def server(self) -> RunningServer:
        return self.fleet.server

    def use(self, function: str, fleet: Fleet | None = None) -> None:
        """Makes the function the account's certificate provider."""
        fleet = fleet or self.fleet
        given = {"certificateProviderName": "p", "lambdaFunctionArn": arn(function, fleet.account)}
        if fleet.iot.list_certificate_providers()["certificateProviders"]:
            fleet.iot.update_certificate_provider(**given)
        else:
            fleet.iot.create_certificate_provider(**given, accountDefaultForOperations=DEFAULT_FOR)

    def counted(self, metric: str, **labels: str) -> float:
        wanted = set(labels.items())
        text = httpx.get(f"{self.server.http_url}/metrics").text
        found = re.findall(rf"(?m)^thingmint_{metric}\{{(.*)\}} (\S+)$", text)
        return sum(float(value) for pairs, value in found if wanted <= set(re.findall(r'(\w+)="([^"]*)"', pairs)))


def request_certificate(device: Device) -> tuple[bool, Any]:
    payload = json.dumps({"certificateSigningRequest": csr_pem()}).encode()
    return device.ask(f"{CREATE_FROM_CSR}/json", payload)


def rejected(device: Device) -> tuple[int, str, str]:
    accepted, reply = request_certificate(device)
    assert not accepted, reply
    assert set(reply) == {"statusCode", "errorCode", "errorMessage"}
    return reply["statusCode"], reply["errorCode"], reply["errorMessage"]


def settings(receiver: Receiver, closed: int, silent: int, accounts: list[str]) -> str:
    first, second = accounts
    urls = {path: receiver.url(path) for path in ("sign", "check", "wrong-key", "not-json", "large", "bomb")}
    urls |= {path: receiver.url(path) for path in ("redirect", "e500", "drip", "slow")}
    urls |= {"closed": f"http://127.0.0.1:{closed}/", "silent": f"http://127.0.0.1:{silent}/"}
    text = "\n".join(
        f'[hooks.functions.{name}]\nurl = "{url}"\nsecret = "{SECRET}"\naccounts = ["{first}"'
        + (f', "{second}"]' if name in ("sign", "check") else "]")
        for name, url in urls.items()
    )
    text += f'\n[hooks.functions.theirs]\nurl = "{receiver.url("sign")}"\nsecret = "{SECRET}"\naccounts = ["{second}"]'
    for name in ("raises", "hangs", "echo"):
        text += f'\n[hooks.functions.{name}]\nentry_point = "functions_of_tests:{name}"\naccounts = ["{first}"]'
    return f"{text}\n"


def reload(server: RunningServer) -> None:
    def reloads() -> int:
        return server.output.read_bytes().count(b'"event":"reloaded"')

    before = reloads()
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: reloads() > before, "the settings were not read again")


@pytest.fixture(scope="module")
def site(new_store: Callable[[], dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "functions_of_tests.py").write_text(PYTHON)
    config = folder / "settings.toml"
    config.write_text("")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(Receiver().running())
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        with socket.create_server(("127.0.0.1", 0)) as unused:
            closed = unused.getsockname()[1]
        arguments = [f"--config={config}", "--log-format=json"]
        environment = {**new_store(), "PYTHONPATH": path}
        server = stack.enter_context(running_server(arguments=arguments, environment=environment))
        made = LocalAdmin(server).ask("account.create", name="other")
        iot, others = iot_client(server), iot_client(server, **keys_of(made))
        fleet = Fleet.of(server, iot, folder)
        other = fleet_of(server, others, folder, account_of(others))
        config.write_text(settings(receiver, closed, silent.getsockname()[1], [fleet.account, other.account]))
        reload(server)
        yield Site(fleet, other, receiver, config)
        iot.close()
        others.close()
        log = server.output.read_text(errors="replace")
        raised = [line for line in log.splitlines() if '"event":"hook_raised"' in line]
        check_log("\n".join(line for line in log.splitlines() if line not in raised))
        assert all("KeyError" in line for line in raised)
        assert SECRET not in log


def account_of(iot: Any) -> str:
    account: str = iot.create_thing(thingName="any")["thingArn"].split(":")[4]
    return account


def fleet_of(server: RunningServer, iot: Any, folder: Path, account: str) -> Fleet:
    """The fleet of a further account."""
    statements = [allow(["iot:Connect", "iot:Publish", "iot:Receive", "iot:Subscribe"], "*")]
    iot.create_policy(policyName="fleet-claim", policyDocument=document(*statements))
    fleet = Fleet(server, iot, folder, LocalAdmin(server, account), account, "", None)  # type: ignore[arg-type]
    fleet.claim = fleet.new_claim()
    return fleet


@pytest.mark.both_engines
def test_a_device_is_provisioned_with_the_providers_certificate(site: Site) -> None:
    site.use("sign")
    site.receiver.events.clear()
    fleet = site.fleet
    name = fleet.new_template(preProvisioningHook={"targetArn": arn("check", fleet.account)})
    with fleet.device() as device:
        accepted, made = request_certificate(device)
        assert accepted, made
        certificate = x509.load_pem_x509_certificate(made["certificatePem"].encode())
        certificate.verify_directly_issued_by(CA.certificate)
        assert made["certificateId"] == fingerprint(certificate)
        described = fleet.iot.describe_certificate(certificateId=made["certificateId"])["certificateDescription"]
        assert (described["status"], described["certificateMode"]) == ("PENDING_ACTIVATION", "SNI_ONLY")
        accepted, thing = device.register(name, made["certificateOwnershipToken"], SerialNumber=uuid4().hex)
        assert accepted, thing
        assert fleet.status(made["certificateId"]) == "ACTIVE"
    signing, checking = site.receiver.events
    event = {"principalId": fleet.claim.fingerprint, "clientId": device.client_id}
    assert (signing[0], {key: signing[1][key] for key in event}, set(signing[1]) - set(event)) == (
        "sign",
        event,
        {"certificateSigningRequest"},
    )
    assert (checking[0], checking[1]["certificatePem"]) == ("check", made["certificatePem"])
    assert is_signed(checking[2], json.dumps(checking[1], separators=(",", ":")).encode())
    with fleet.device(fleet.identity(made)):
        pass
    made_here = fleet.iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())  # REST does not ask it
    assert (
        fleet.iot.describe_certificate(certificateId=made_here["certificateId"])["certificateDescription"][
            "certificateMode"
        ]
        == "DEFAULT"
    )
    assert len(site.receiver.events) == 2

    def audited() -> list[dict[str, Any]]:
        done = in_process("audit", "export", "--data-dir", site.server.data_dir, "--event", "CreateCertificateFromCsr")
        records = [json.loads(line).get("record", {}) for line in done.stdout.splitlines()]
        return [record for record in records if record.get("clientId") == device.client_id]

    if (site.server.data_dir / "thingmint.db").exists():
        [record] = audited()
        assert (record["outcome"], record["certificateProvider"]) == ("success", "p")


INVALID = (400, "InvalidResult", "Certificate provider result is in an invalid format.")
NOT_EXECUTED = (400, "InvocationError", "The certificate provider was not executed successfully.")
NOT_REACHED = (400, "InvocationError", "A failure occurred while invoking the certificate provider.")
NOT_ALLOWED = (400, "InvocationError", "Access denied while invoking Lambda function")


def test_a_failed_function_gives_the_device_an_error_and_no_certificate(site: Site) -> None:
    wrong_key = "The certificate of the certificate provider has another key than the CSR."
    expected = {
        "wrong-key": ((400, "InvalidResult", wrong_key), "wrong_key"),
        "not-json": (INVALID, "invalid"),
        "large": (INVALID, "too_large"),
        "bomb": (INVALID, "invalid"),
        "redirect": (NOT_EXECUTED, "status"),
        "e500": (NOT_EXECUTED, "status"),
        "closed": (NOT_REACHED, "unreachable"),
        "raises": (NOT_EXECUTED, "error"),
        "echo": (INVALID, "invalid"),
        "theirs": (NOT_ALLOWED, "not_found"),
        "unknown": (NOT_ALLOWED, "not_found"),
    }
    before = len(site.fleet.iot.list_certificates(pageSize=250)["certificates"])
    with site.fleet.device() as device:
        for function, (reply, outcome) in expected.items():
            shown = "" if outcome == "not_found" else function
            labels = {"function": shown, "use": "certificate_provider", "outcome": outcome}
            counted = site.counted("hook_calls_total", **labels)
            site.use(function)
            assert rejected(device) == reply, function
            assert site.counted("hook_calls_total", **labels) == counted + 1, function
        site.use("sign")  # the device goes on
        assert request_certificate(device)[0]
    assert site.receiver.redirected == []
    assert len(site.fleet.iot.list_certificates(pageSize=250)["certificates"]) == before + 1
    done = in_process("audit", "export", "--data-dir", site.server.data_dir)
    assert SECRET not in done.stdout


def test_another_accounts_arn_is_refused_like_an_unknown_one(site: Site) -> None:
    given = {"certificateProviderName": "p", "lambdaFunctionArn": arn("sign", site.other.account)}
    site.use("sign")
    site.fleet.iot.update_certificate_provider(**given)
    with site.fleet.device() as device:
        assert rejected(device) == NOT_ALLOWED


def test_a_slow_function_delays_neither_other_functions_nor_other_accounts(site: Site) -> None:
    """All that hangs is rejected in the end. Meanwhile, the pool of the slow function is full."""
    waiting: dict[str, list[Device]] = {}
    with contextlib.ExitStack() as devices:
        for function, calls in (("drip", 1), ("silent", 1), ("hangs", 1), ("slow", 14)):
            site.use(function)
            waiting[function] = [devices.enter_context(site.fleet.device()) for _ in range(calls)]
            for device in waiting[function]:
                device.send(f"{CREATE_FROM_CSR}/json", json.dumps({"certificateSigningRequest": csr_pem()}).encode())
            full = min(calls, 12)
            running = {"function": function}
            wait_until(lambda: site.counted("hook_calls_running", **running) >= full, function)  # noqa: B023
        site.use("sign", site.other)
        with site.other.device() as device:
            assert request_certificate(device)[0]
        site.use("sign")
        with site.fleet.device() as device:
            assert request_certificate(device)[0]
        for each in [device for function in waiting.values() for device in function]:
            topic, reply = each.replies.get(timeout=60)
            assert topic.endswith("/rejected")
            assert tuple(json.loads(reply).values()) == NOT_EXECUTED
    for function in waiting:
        assert site.counted("hook_calls_total", function=function, outcome="timeout") >= 1
    assert site.counted("hook_calls_running", function="hangs") == 1  # its thread cannot be ended
    assert site.counted("hook_calls_running", function="slow") == 0


def test_a_provider_and_its_functions_survive_a_restart(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("")
    with Receiver().running() as receiver:
        arguments, data = [f"--config={config}"], tmp_path / "data"
        with (
            running_server(data, arguments=arguments) as server,
            contextlib.closing(iot_client(server)) as iot,
        ):
            fleet = Fleet.of(server, iot, tmp_path)
            given = {"lambdaFunctionArn": arn("sign", fleet.account), "accountDefaultForOperations": DEFAULT_FOR}
            iot.create_certificate_provider(certificateProviderName="p", **given)
            before = iot.describe_certificate_provider(certificateProviderName="p")
        (tmp_path / "secret").write_text(f"{SECRET}\n")
        config.write_text(
            f'[hooks.functions.sign]\nurl = "{receiver.url("sign")}"\nsecret_file = "{tmp_path / "secret"}"\n'
            f'accounts = ["{fleet.account}"]\n'
        )
        with (
            running_server(data, arguments=arguments) as server,
            contextlib.closing(iot_client(server)) as iot,
        ):
            described = iot.describe_certificate_provider(certificateProviderName="p")
            assert described | {"ResponseMetadata": 0} == before | {"ResponseMetadata": 0}
            with Device(server, fleet.claim, "lamp") as device:
                assert request_certificate(device)[0]
