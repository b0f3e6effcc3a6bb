"""Fleet provisioning from end to end: a device connects with a claim certificate and gets its own certificate."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.devices import Devices
from benchmarks.figures import Figure
from benchmarks.fleet import csr_pem, key_pem
from benchmarks.measuring import measured
from thingmint import admin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.bench import Bench
    from benchmarks.load import Outcome
    from thingmint.testing import RunningServer

__all__ = ["PROVISIONING_STEPS", "prepare_provisioning", "provisioning"]

PROVISIONING_STEPS = 2

_AT_ONCE = 16  # devices
_WARM_UP = 0.5  # seconds

_TRUST = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "iot.amazonaws.com"}}
_CLAIM = {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}
_DEVICE = {
    "Effect": "Allow",
    "Action": ["iot:Connect", "iot:Publish"],
    "Resource": ["arn:aws:iot:*:*:client/${iot:ClientId}", "arn:aws:iot:*:*:topic/bench/${iot:ClientId}/*"],
}


def provisioning(bench: Bench) -> list[Figure]:
    folder = Path(tempfile.mkdtemp(prefix="provisioning-", dir=bench.server.data_dir.parent))
    key = ec.generate_private_key(ec.SECP256R1())
    csr = csr_pem(key)
    try:
        template, claim = prepare_provisioning(bench.server, folder, csr, key_pem(key))
        figures = []
        with Devices(bench.server.ports["mqtt"], bench.server.ca, [claim]) as devices:
            for whose, sent in (("from a CSR (P-256)", csr), ("with keys (RSA-2048)", None)):
                what = f"Provisioning {whose}, {_AT_ONCE} devices at once"
                bench.step(what)
                how = {"template": template, "csr": sent, "key": key_pem(key), "folder": str(folder)}
                run = partial(_run, devices, how)
                bench.wait_for_pool()
                run(_WARM_UP)
                rate, cost = measured(bench.server.process.pid, partial(run, bench.seconds(6)))
                figures.append(Figure("provisioning", what, rate, "/s", cost=cost))
        return figures
    finally:
        shutil.rmtree(folder)


def _run(devices: Devices, how: Mapping[str, Any], seconds: float) -> Outcome:
    return devices.provision(_AT_ONCE, seconds, prefix=uuid.uuid4().hex, **how)


def prepare_provisioning(server: RunningServer, folder: Path, csr: str, key: str) -> tuple[str, Path]:
    """The name of a new template, and a file with a claim certificate and its key."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    _operate(server, "role.create", name=name, trust_policy=_document(_TRUST))
    _operate(server, "policy.attach", principal=f"role/{name}", policy="thingmint/ProvisioningOnly")
    client: Any = boto3.session.Session().client("iot", **server.boto3_arguments())
    client.create_policy(policyName=f"{name}-claim", policyDocument=_document(_CLAIM))
    device_policy = client.create_policy(policyName=f"{name}-device", policyDocument=_document(_DEVICE))
    account = device_policy["policyArn"].split(":")[4]
    client.create_provisioning_template(
        templateName=name,
        enabled=True,
        provisioningRoleArn=f"arn:aws:iam::{account}:role/{name}",
        templateBody=_template(f"{name}-device"),
    )
    made = client.create_certificate_from_csr(certificateSigningRequest=csr, setAsActive=True)
    client.attach_policy(policyName=f"{name}-claim", target=made["certificateArn"])
    client.close()
    claim = folder / "claim.pem"
    claim.write_text(made["certificatePem"] + key)
    return name, claim


def _operate(server: RunningServer, command: str, **given: str) -> None:
    admin.call(server.data_dir / "admin.sock", "access", name=command, given=given)


def _template(policy: str) -> str:
    certificate = {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}
    resources = {
        "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "SerialNumber"}}},
        "certificate": {"Type": "AWS::IoT::Certificate", "Properties": certificate},
        "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": policy}},
    }
    return json.dumps({"Parameters": {"SerialNumber": {"Type": "String"}}, "Resources": resources})


def _document(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
