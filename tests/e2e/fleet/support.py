"""A server for which fleets are made, and what the command leaves in its directory."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.e2e.commands import in_process

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.testing import RunningServer

TEMPLATE = {
    "Parameters": {"SerialNumber": {"Type": "String"}, "Site": {"Type": "String", "Default": "home"}},
    "Resources": {
        "certificate": {
            "Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"},
        },
        "thing": {
            "Type": "AWS::IoT::Thing",
            "Properties": {
                "ThingName": {"Fn::Join": ["", ["lamp-", {"Ref": "SerialNumber"}]]},
                "AttributePayload": {"site": {"Ref": "Site"}},
            },
        },
        "policy": {
            "Type": "AWS::IoT::Policy",
            "Properties": {
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}],
                }
            },
        },
    },
}


def new_template(server: RunningServer, iot: Any, name: str = "lamp") -> None:
    listed = in_process("access", "account", "list", "--data-dir", server.data_dir, "--output", "json")
    role = f"arn:aws:iam::{json.loads(listed.stdout)[0]['id']}:role/fleet"
    body = json.dumps(TEMPLATE)
    iot.create_provisioning_template(templateName=name, templateBody=body, enabled=True, provisioningRoleArn=role)


@dataclass(frozen=True)
class MadeDevice:
    """A line of manifest.csv, and the device's directory."""

    folder: Path
    line: dict[str, str]

    @property
    def thing(self) -> str:
        return self.line["thing"]

    def check(self) -> None:
        """Key, request and certificate must fit one another and the line."""
        key = load_pem_private_key((self.folder / "key.pem").read_bytes(), None).public_key()
        certificate = x509.load_pem_x509_certificate((self.folder / "certificate.pem").read_bytes())
        assert key == certificate.public_key()
        assert key == x509.load_pem_x509_csr((self.folder / "csr.pem").read_bytes()).public_key()
        assert f"{certificate.serial_number:x}" == self.line["serial_number"]


def made_devices(folder: Path) -> list[MadeDevice]:
    with (folder / "manifest.csv").open(newline="") as file:
        return [MadeDevice(folder / line["name"], line) for line in csv.DictReader(file)]


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    """`thingmint ARGUMENTS`, running."""
    return subprocess.Popen(
        [sys.executable, "-m", "thingmint", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
