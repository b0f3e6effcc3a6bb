"""A server with something on every page, whose texts are hard to show, and the addresses of all its pages."""

from __future__ import annotations

import html
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from starlette.routing import Match, Route
from yandex.cloud.iot.broker.v1 import broker_pb2, broker_service_pb2

from tests.e2e.access.local_admin import allow, document
from tests.e2e.bulk.support import Bulk
from tests.e2e.console.browser import signed_in, until
from tests.e2e.console.world import ACCOUNT, World
from tests.e2e.material import key, self_signed_pem
from tests.e2e.mqtt.devices import credential
from tests.e2e.provisioning.support import TRUST
from tests.e2e.yandex.clients import PASSWORD, Cloud, done
from tests.issuers import new_issuer, pem
from thingmint.console import sign_in
from thingmint.console.page import PAGES
from thingmint.console.pages import load_pages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.console.browser import Browser
    from thingmint.console.page import Page
    from thingmint.testing import RunningServer

MARK = "zq7mark"
"""It is in each text and name that no other account may see."""
EVIL = f"{MARK} <script>window.changed = true</script><b>"
THING = f"{MARK}-pump"
LONG = f"{MARK}-{'l' * 120}"
"""A name of the greatest length, without a place to wrap it."""
_OF_EACH = 2
"""Addresses of each page, at most."""
_HREF = re.compile(r'\shref="(/console[^"#]*)')

load_pages()
assert sign_in.LINK_PATH  # its pages are declared too
GETS: dict[str, Page] = {page.path: page for page in PAGES if page.method == "GET"}
POSTS: dict[str, Page] = {page.path: page for page in PAGES if page.method == "POST"}


@dataclass
class Everything(World):
    """``addresses`` are those of pages, by the path with which the page is declared, below /console."""

    outsider: str = ""  # a token of another account's administrator
    addresses: dict[str, list[str]] = field(default_factory=dict)

    @property
    def pages(self) -> list[str]:
        return [address for found in self.addresses.values() for address in found]


@contextmanager
def everything(folder: Path) -> Iterator[Everything]:
    bucket = folder / "bucket"
    bucket.mkdir()
    buckets = {"fleet": {"url": bucket.as_uri(), "accounts": [ACCOUNT]}}
    environment = {"THINGMINT_BULK": json.dumps({"buckets": buckets})}
    with Everything.running(folder, arguments=["--log-format=json"], environment=environment) as made:
        made.outsider = made.local.ask("account.create", name="outsider")["token"]
        inactive = _certificates(made.iot)
        _policies(made.iot)
        _provisioning(made, bucket)
        _principals(made)
        registry, device, broker = _yandex(made.server)
        _connected(made)
        with signed_in(made.server) as browser:
            until(lambda: "just in time" in browser.get("/refusals").text)
            seeds = ["/", f"/certificates/{inactive}", f"/devices/{registry}", f"/devices/{device}", _record(browser)]
            seeds += [f"/devices/broker/{broker}/delete", f"/things/{THING}/delete"]
            seeds += [f"/connect/{THING}", f"/connect/yandex/{device}"]
            seeds += ["/playground/yandex/RegistryService.AddCertificate", "/playground/native/AddCertificate"]
            seeds += [f"/refusals/simulator?device={THING}&action=publish&name={MARK}/a"]
            _crawl(browser, seeds, made.addresses)
        yield made


def _certificates(iot: Any) -> str:
    """The id of the last one, which is inactive, so it can be deleted."""
    names = (EVIL, f"{MARK}{'x' * (64 - len(MARK))}", f"{MARK} " + "\N{CYRILLIC CAPITAL LETTER ZHE}" * 20)
    iot.create_thing_type(thingTypeName=f"{MARK}-type", thingTypeProperties={"thingTypeDescription": EVIL})
    attributes = {"model": f"{MARK}-{'m' * 200}"}
    iot.create_thing(thingName=THING, thingTypeName=f"{MARK}-type", attributePayload={"attributes": attributes})
    iot.create_thing(thingName=LONG)
    iot.create_thing_group(thingGroupName=f"{MARK}-group", thingGroupProperties={"thingGroupDescription": EVIL})
    iot.add_thing_to_thing_group(thingGroupName=f"{MARK}-group", thingName=THING)
    for number, name in enumerate(names):
        pem, status = self_signed_pem(common_name=name), "ACTIVE" if number < len(names) - 1 else "INACTIVE"
        made = iot.register_certificate_without_ca(certificatePem=pem, status=status)
        iot.attach_thing_principal(thingName=THING, principal=made["certificateArn"])
    now = datetime.now(UTC)
    root = new_issuer(EVIL[:64], now=now, begins=now - timedelta(days=30), ends=now + timedelta(days=10))
    iot.register_ca_certificate(caCertificate=root.pem, certificateMode="SNI_ONLY", setAsActive=True)
    return str(made["certificateId"])


def _policies(iot: Any) -> None:
    statements = [allow("iot:Connect", "*"), allow("iot:Publish", f"arn:aws:iot:*:*:topic/{MARK}/" + "${iot:ClientId}")]
    iot.create_policy(policyName=f"{MARK}-policy", policyDocument=document(*statements))
    wider = [*statements, allow("iot:Subscribe", f"arn:aws:iot:*:*:topicfilter/{EVIL}")]
    iot.create_policy_version(policyName=f"{MARK}-policy", policyDocument=document(*wider), setAsDefault=True)
    iot.create_policy(policyName=LONG, policyDocument=document(*statements))
    iot.attach_policy(policyName=LONG, target=f"arn:aws:iot:us-east-1:{ACCOUNT}:thinggroup/{MARK}-group")
    iot.attach_policy(policyName=f"{MARK}-policy", target=f"arn:aws:iot:us-east-1:{ACCOUNT}:thinggroup/{MARK}-group")


def _provisioning(made: Everything, folder: Path) -> None:
    iot, bulk = made.iot, Bulk(made.server, made.iot, folder, Bulk.role_of(made.local))
    body = json.dumps({
        "Parameters": {
            "SerialNumber": {"Type": "String", "Default": EVIL},
            "AWS::IoT::Certificate::Id": {"Type": "String"},
        },
        "Resources": {
            "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "SerialNumber"}}},
            "certificate": {
                "Type": "AWS::IoT::Certificate",
                "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}},
            },
        },
    })  # fmt: skip
    template = {"templateName": f"{MARK}-template", "templateBody": body, "provisioningRoleArn": bulk.role}
    iot.create_provisioning_template(**template, description=EVIL, enabled=True)
    iot.create_provisioning_template_version(templateName=f"{MARK}-template", templateBody=body.replace("<b>", "<i>"))
    iot.create_provisioning_claim(templateName=f"{MARK}-template")
    bulk.put(f"{MARK}.json", ['{"ThingName": 7}', "{"])
    bulk.ended(bulk.start(f"{MARK}.json"))
    results = [["thing", "refused", EVIL, EVIL], ["certificate", "noted", MARK, "x" * 300]]
    id = made.admin("import.start", source="test", origin=EVIL, identity=MARK)["id"]
    made.admin("import.apply", id=id, after={}, place={"n": 1}, items=[], results=results)


def _principals(made: Everything) -> None:
    local, policy = made.local, f"{MARK}-access"
    # A condition may have any text.
    condition = {"StringEquals": {"aws:RequestTag/site": EVIL}}
    local.ask("policy.put", name=policy, document=document(allow("iot:ListThings", Condition=condition)))
    made.principal("user", f"{MARK}-user", policy)
    made.principal("role", f"{MARK}-role", policy, trust_policy=TRUST)
    made.principal("service-account", f"{MARK}-service", policy)
    local.ask("key.create", principal=f"user/{MARK}-user")
    local.ask("token.create", principal=f"user/{MARK}-user", lifetime="1h")


def _yandex(server: RunningServer) -> tuple[str, str, str]:
    """The ids of a registry, a device and a broker."""
    cloud = Cloud(server)
    registry = cloud.registry(name=f"{MARK}-registry", description=EVIL, labels={"site": MARK})
    device = cloud.device(registry, name=f"{MARK}-device", description=EVIL, password=PASSWORD)
    request = broker_service_pb2.CreateBrokerRequest(folder_id=cloud.folder, name=f"{MARK}-broker", description=EVIL)
    broker = done(cloud.grpc.call("BrokerService/Create", request), broker_pb2.Broker).id
    cloud.add(device, self_signed_pem(common_name=EVIL))
    cloud.close()
    return registry, device, broker


def _connected(made: Everything) -> None:
    """A connected device, and refusals of others."""
    refused, good = credential(made.folder, name=EVIL[:64]), credential(made.folder, name=MARK)
    for each in (refused, good):
        registered = made.iot.register_certificate_without_ca(certificatePem=each.pem, status="ACTIVE")
    made.refuse(refused, EVIL)
    made.iot.attach_policy(policyName=f"{MARK}-policy", target=registered["certificateArn"])
    made.refuse(good, MARK, lambda device: device.publish(f"{EVIL}/not-allowed"))
    _just_in_time(made)
    made.connect(good, EVIL)


def _just_in_time(made: Everything) -> None:
    """A device that waits for its activation: the reason of its refusals has the id of its CA."""
    now = datetime.now(UTC)
    root = new_issuer(f"{MARK} just in time", now=now, begins=now - timedelta(days=30), ends=now + timedelta(days=90))
    given = {"certificateMode": "SNI_ONLY", "setAsActive": True, "allowAutoRegistration": True}
    made.iot.register_ca_certificate(caCertificate=root.pem, **given)
    device = made.credential("just-in-time", pem(root.sign(MARK, key("secp256r1"))), chain=root.pem)
    host = made.iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
    for _ in range(2):
        made.refuse(device, f"{MARK}{'w' * 121}", endpoint=host)


def _record(browser: Browser) -> str:
    """The address of the audit record of a call from the playground."""
    shown = browser.post("/playground/native/ListCertificates").text
    found = re.search(r'"/console(/playground/record/[^"]+)"', html.unescape(shown))
    return found[1] if found else "/playground/record/0/0"


def _crawl(browser: Browser, seeds: list[str], found: dict[str, list[str]]) -> None:
    """Follows the links of pages, up to a number for each page that is declared."""
    waiting, seen = list(seeds), set(seeds)
    while waiting:
        address = waiting.pop(0)
        template = template_of(address)
        if template is None or GETS[template].is_open or len(found.get(template, ())) >= _OF_EACH:
            continue
        with browser.client.stream("GET", f"/console{address}") as answer:
            if not answer.headers["content-type"].startswith("text/html"):
                continue  # a file, or a stream of events
            answer.read()
        assert answer.status_code == 200, (address, answer.text[-2000:])
        found.setdefault(template, []).append(address)
        for link in _HREF.findall(answer.text):
            path = html.unescape(link).removeprefix("/console")
            assert "&amp;" not in path, (address, path)  # it was escaped twice
            if path not in seen and not path.startswith("/static/"):
                seen.add(path)
                waiting.append(path)


def template_of(address: str) -> str | None:
    """The path with which the page of an address is declared."""
    scope = {"type": "http", "method": "GET", "path": address.partition("?")[0]}
    return next((path for path, route in _ROUTES if route.matches(scope)[0] is Match.FULL), None)


async def _unused() -> None: ...


# Paths without parameters first, as the console itself looks for them.
_ROUTES = [(path, Route(path, _unused, methods=["GET"])) for path in sorted(GETS, key=lambda path: "{" in path)]
