"""An account made in another Thingmint is imported through the running server, and compared item by item."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e import material
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.importing.aws_accounts import (
    THINGS,
    document,
    findings,
    furnish,
    import_aws,
    new_instance,
    snapshot,
)
from tests.e2e.mqtt.devices import Device, credential
from tests.issuers import pem as pem_of
from thingmint.importing.sources.aws import calls, source
from thingmint.importing.sources.aws.calls import Calls
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thingmint.testing import RunningServer

REGION = "us-east-1"
JITP = json.dumps({"Resources": {"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}}}})  # fmt: skip  # noqa: E501


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Another Thingmint, with what moto does not serve, too."""
    data = new_instance(tmp_path_factory.mktemp("other"), "123456789012", REGION)
    with running_server(data, environment={"THINGMINT_LIMITS": "none"}) as server:
        iot = iot_client(server)
        furnish(iot)
        _furnish_further(iot)
        iot.close()
        yield server


def _furnish_further(iot: Any) -> None:
    role = "arn:aws:iam::123456789012:role/provision"
    hook = {"targetArn": "arn:aws:lambda:us-east-1:123456789012:function:ask"}
    tags = [{"Key": "team", "Value": "light"}]
    iot.create_provisioning_template(
        templateName="line", templateBody=JITP, provisioningRoleArn=role, preProvisioningHook=hook, tags=tags
    )
    iot.create_provisioning_template_version(templateName="line", templateBody=f"{JITP} ", setAsDefault=True)
    iot.create_provisioning_template(templateName="jitp", templateBody=JITP, provisioningRoleArn=role, type="JITP")
    issuer = material.new_issuer()
    code = iot.get_registration_code()["registrationCode"]
    iot.register_ca_certificate(
        caCertificate=issuer.pem,
        verificationCertificate=pem_of(issuer.sign(code)),
        setAsActive=True,
        allowAutoRegistration=True,
        registrationConfig={"templateName": "jitp"},
        tags=tags,
    )
    under = iot.register_certificate(
        certificatePem=pem_of(issuer.sign("lamp")), caCertificatePem=issuer.pem, status="ACTIVE"
    )
    iot.create_thing(thingName="lamp-of-ca")
    principal = {"principal": under["certificateArn"], "thingPrincipalType": "EXCLUSIVE_THING"}
    iot.attach_thing_principal(thingName="lamp-of-ca", **principal)
    for arn in ("policy/all", "thinggroup/house", "thingtype/lamp"):
        iot.tag_resource(resourceArn=f"arn:aws:iot:{REGION}:123456789012:{arn}", tags=tags)


def further(iot: Any) -> dict[str, Any]:
    """What only Thingmint serves, of an account."""
    templates, cas = {}, {}
    for each in iot.list_provisioning_templates()["templates"]:
        name = each["templateName"]
        found = _without_metadata(iot.describe_provisioning_template(templateName=name))
        versions = iot.list_provisioning_template_versions(templateName=name)["versions"]
        bodies = {
            version["versionId"]: _without_metadata(
                iot.describe_provisioning_template_version(templateName=name, versionId=version["versionId"])
            )
            for version in versions
        }
        templates[name] = (found, versions, bodies)
    for each in iot.list_ca_certificates()["certificates"]:
        found = _without_metadata(iot.describe_ca_certificate(certificateId=each["certificateId"]))
        for changing in ("generationId", "customerVersion"):
            found["certificateDescription"].pop(changing)
        cas[each["certificateId"]] = found
    arns = [arn for _, (found, *_) in templates.items() for arn in [found["templateArn"]]]
    arns += [found["certificateDescription"]["certificateArn"] for found in cas.values()]
    arns += [
        f"arn:aws:iot:{REGION}:123456789012:{name}" for name in ("policy/all", "thinggroup/house", "thingtype/lamp")
    ]
    tags = {arn: iot.list_tags_for_resource(resourceArn=arn)["tags"] for arn in arns}
    return {"templates": templates, "CA certificates": cas, "tags": tags}


def _without_metadata(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


def test_an_account_in_another_thingmint_comes_item_by_item(other: RunningServer, tmp_path: Path) -> None:
    data = new_instance(tmp_path, "123456789012", REGION)
    with running_server(data) as server:
        status, report = import_aws(data, other.api_url, env=other.environment())
        there, here = iot_client(other), iot_client(server)
        try:
            assert snapshot(here) == snapshot(there)
            assert further(here) == further(there)
            modes = _modes(there), _modes(here)
        finally:
            there.close()
            here.close()
    assert status == 0, "all that is there came"
    assert not [key for key in report["counts"] if key.endswith((".refused", ".conflict", ".completed", ".same"))]
    assert set(modes[0].values()) == {("DEFAULT", False), ("SNI_ONLY", False), ("DEFAULT", True)}
    assert set(modes[1].values()) == {("SNI_ONLY", False), ("DEFAULT", True)}, "only a customer's CA is in DEFAULT mode"
    told = findings(report)
    assert told["template", "noted"] == ["us-east-1: jitp", "us-east-1: line", "us-east-1: line"]
    assert told["host_name", "noted"] == [REGION]


def _modes(iot: Any) -> dict[str, tuple[str, bool]]:
    """The mode of each certificate, and whether it has a CA certificate."""
    found = {}
    for each in iot.list_certificates(pageSize=250)["certificates"]:
        about = iot.describe_certificate(certificateId=each["certificateId"])["certificateDescription"]
        found[each["certificateId"]] = (about["certificateMode"], "caCertificateId" in about)
    return found


def test_devices_connect_with_their_old_certificates(other: RunningServer, tmp_path: Path) -> None:
    made = credential(tmp_path)
    there = iot_client(other)
    try:
        arn = there.register_certificate_without_ca(certificatePem=made.pem, status="ACTIVE")["certificateArn"]
        there.create_policy(policyName="devices", policyDocument=document())
        there.attach_policy(policyName="devices", target=arn)
    finally:
        there.close()
    data = new_instance(tmp_path, "123456789012", REGION)
    import_aws(data, other.api_url, env=other.environment())
    name = "iot.example.org"
    words = ("--account", "123456789012", "--api", "aws", "--region", REGION)
    assert in_process("access", "hostname", "add", name, *words, "--data-dir", data).returncode == 0
    environment = {"THINGMINT_DEFAULT_ACCOUNT": "none"}
    with running_server(data, environment=environment) as server:
        device = Device(server, made, endpoint=name)
        try:
            assert device.connect("lamp").reason is Reason.SUCCESS
        finally:
            device.drop()


def test_credentials_that_are_not_accepted_stop_the_import(other: RunningServer, tmp_path: Path) -> None:
    data = new_instance(tmp_path, "123456789012", REGION)
    wrong = other.environment() | {"AWS_SECRET_ACCESS_KEY": "wrong"}
    done = in_process(
        "import", "aws", "--data-dir", data, "--endpoint-url", other.api_url, "--region", REGION, env=wrong
    )
    assert done.returncode == 1
    assert "AWS does not accept the credentials" in done.stderr
    assert "the import goes on where it stopped" in done.stderr


def test_an_import_goes_on_with_new_credentials_when_the_old_ones_ended(
    other: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = new_instance(tmp_path, "123456789012", REGION)
    first = _made(other, "access", "key", "create", "user/administrator")
    call, count = Calls.call, 0

    def call_until_the_key_ends(self: Calls, operation: str, **given: Any) -> Any:
        nonlocal count
        count += 1
        if count == 90:
            _made(other, "access", "key", "disable", first["access_key_id"])
        return call(self, operation, **given)

    monkeypatch.setattr(Calls, "call", call_until_the_key_ends)
    monkeypatch.setattr(source, "MAX_ITEMS", 5)
    words = ("import", "aws", "--data-dir", data, "--endpoint-url", other.api_url, "--rate", "none", "--output", "json")
    keys = {
        "AWS_ACCESS_KEY_ID": first["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": first["secret_access_key"],
    }
    stopped = in_process(*words, env=other.environment() | keys)
    assert stopped.returncode == 1
    assert "AWS does not accept the credentials (UnrecognizedClientException)" in stopped.stderr
    (begun,) = json.loads(in_process("import", "list", "--data-dir", data, "--output", "json").stdout)
    assert begun["finished_at"] is None
    assert begun["counts"]["thing.new"] > 0
    status, report = import_aws(data, other.api_url, env=other.environment())
    assert (status, report["id"]) == (0, begun["id"])
    assert report["counts"]["thing.new"] == THINGS + 1
    with running_server(data) as server:
        there, here = iot_client(other), iot_client(server)
        try:
            assert snapshot(here) == snapshot(there)
            assert further(here) == further(there)
        finally:
            there.close()
            here.close()


def test_an_import_goes_on_when_a_server_that_vanished_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vanishing").mkdir()
    vanishing = new_instance(tmp_path / "vanishing", "123456789012", REGION)
    data = new_instance(tmp_path, "123456789012", REGION)
    call, count = Calls.call, 0
    monkeypatch.setattr(calls, "_UNREACHABLE_PATIENCE", 1.0)
    monkeypatch.setattr(source, "MAX_ITEMS", 5)
    with running_server(vanishing, environment={"THINGMINT_LIMITS": "none"}) as server:
        there = iot_client(server)
        furnish(there)
        expected = snapshot(there)
        there.close()

        def call_until_it_vanishes(self: Calls, operation: str, **given: Any) -> Any:
            nonlocal count
            count += 1
            if count == 90:
                server.kill()
            return call(self, operation, **given)

        monkeypatch.setattr(Calls, "call", call_until_it_vanishes)
        words = ("import", "aws", "--data-dir", data, "--endpoint-url", server.api_url, "--rate", "none")
        stopped = in_process(*words, env=server.environment())
        assert stopped.returncode == 1
        assert "no answer" in stopped.stderr
        assert "the import goes on where it stopped" in stopped.stderr
    (begun,) = json.loads(in_process("import", "list", "--data-dir", data, "--output", "json").stdout)
    assert begun["counts"]["thing.new"] > 0
    port = f"--api-port={server.ports['api']}"
    with running_server(vanishing, arguments=[port], environment={"THINGMINT_LIMITS": "none"}) as server:
        status, report = import_aws(data, server.api_url, env=server.environment())
    assert (status, report["id"]) == (0, begun["id"])
    with running_server(data) as server:
        here = iot_client(server)
        assert snapshot(here) == expected
        here.close()


def _made(server: RunningServer, *command: str) -> Any:
    done = in_process(*command, "--data-dir", server.data_dir, "--output", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_region_that_the_account_does_not_have_is_told(other: RunningServer, tmp_path: Path) -> None:
    data = new_instance(tmp_path, "123456789012", "eu-west-1")
    words = ("--data-dir", data, "--endpoint-url", other.api_url, "--rate", "none")
    done = in_process("import", "aws", *words, "--region", REGION, env=other.environment())
    assert done.returncode == 1
    assert "thingmint access region add us-east-1 --account 123456789012" in done.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--rate", "fast"), "rate"),
        (("--rate", "0"), "rate"),
        (("--profile", "missing"), "missing"),
        ((), "There are no credentials"),
    ],
)
def test_faults_in_the_command_line_are_told(tmp_path: Path, options: tuple[str, ...], reason: str) -> None:
    done = in_process("import", "aws", "--data-dir", tmp_path, *options, env={"AWS_DEFAULT_REGION": REGION})
    assert done.returncode == 2
    assert reason in done.stderr


def test_the_permissions_that_it_needs_are_printed() -> None:
    done = in_process("import", "aws", "--permissions")
    assert json.loads(done.stdout)["Statement"][0]["Action"][0] == "iot:DescribeCACertificate"
