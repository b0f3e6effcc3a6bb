"""A server with buckets, and what its tests put into them."""

from __future__ import annotations

import json
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from tests.e2e.material import csr_pem
from tests.e2e.provisioning.support import TRUST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.e2e.access.local_admin import LocalAdmin
    from thingmint.testing import RunningServer

Json = dict[str, Any]

ACCOUNT = "123456789012"
PATIENCE = 120.0  # seconds
CSR = csr_pem()

TEMPLATE = json.dumps(
    {
        "Parameters": {"ThingName": {"Type": "String"}, "CSR": {"Type": "String"}, "Site": {"Type": "String"}},
        "Resources": {
            "thing": {
                "Type": "AWS::IoT::Thing",
                "Properties": {"ThingName": {"Ref": "ThingName"}, "AttributePayload": {"site": {"Ref": "Site"}}},
            },
            "certificate": {
                "Type": "AWS::IoT::Certificate",
                "Properties": {"CertificateSigningRequest": {"Ref": "CSR"}, "Status": "ACTIVE"},
            },
        },
    }
)
THINGS_ONLY = json.dumps(
    {
        "Parameters": {"ThingName": {"Type": "String"}},
        "Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}}}},
    }
)


def line(name: str, **further: str) -> str:
    """A line of TEMPLATE's parameters."""
    return json.dumps({"ThingName": name, "CSR": CSR, "Site": "north", **further})


@dataclass(frozen=True)
class Bulk:
    """``bucket`` is the folder that is the bucket ``fleet`` of the first account."""

    server: RunningServer
    iot: Any
    bucket: Path
    role: str

    @staticmethod
    def role_of(admin: LocalAdmin, name: str = "bulk") -> str:
        admin.ask("role.create", name=name, trust_policy=TRUST)
        admin.attach(f"role/{name}", {"Effect": "Allow", "Action": "iot:*", "Resource": "*"})
        return f"arn:aws:iam::{ACCOUNT}:role/{name}"

    def put(self, key: str, content: str | bytes | Sequence[str]) -> str:
        path = self.bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, (str, bytes)):
            content = "".join(f"{each}\n" for each in content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return key

    def arguments(self, key: str, **given: Any) -> Json:
        usual = {"templateBody": TEMPLATE, "inputFileBucket": "fleet", "inputFileKey": key, "roleArn": self.role}
        return usual | given

    def start(self, key: str, **given: Any) -> str:
        return str(self.iot.start_thing_registration_task(**self.arguments(key, **given))["taskId"])

    def shown(self, task: str) -> Json:
        shown: Json = self.iot.describe_thing_registration_task(taskId=task)
        return shown

    def ended(self, task: str) -> Json:
        """The task after its end."""
        return self.when(task, lambda shown: shown["status"] not in ("InProgress", "Cancelling"))

    def when(self, task: str, reached: Callable[[Json], bool]) -> Json:
        until = time.monotonic() + PATIENCE
        while not reached(shown := self.shown(task)):
            assert time.monotonic() < until, shown
            time.sleep(0.05)
        return shown

    def links(self, task: str, kind: str) -> list[str]:
        pages = self.iot.get_paginator("list_thing_registration_task_reports").paginate(taskId=task, reportType=kind)
        return [link for page in pages for link in page["resourceLinks"]]

    def report(self, task: str, kind: str) -> list[Json]:
        """The records of a report, fetched without credentials."""
        return [json.loads(record) for link in self.links(task, kind) for record in self.get(link).text.splitlines()]

    def get(self, link: str) -> httpx.Response:
        return httpx.get(link, verify=ssl.create_default_context(cafile=self.server.ca))
