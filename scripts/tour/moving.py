"""Moving fleets here with `thingmint import`: an export of Yandex IoT Core, and an account of AWS IoT."""

from __future__ import annotations

import csv
import hashlib
import json
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thingmint.domain.ids import FOLDER, IOT, new_id
from thingmint.testing import running_server
from tour import aws, require
from tour.commands import access, thingmint
from tour.devices import connected5, save
from tour.yandex_devices import SECONDS, YandexClient, expired_certificate

if TYPE_CHECKING:
    from tour import Tour

__all__ = ["from_aws", "from_yandex"]

_CREATED_AT = "2021-03-04T05:06:07.891Z"


def from_yandex(tour: Tour) -> None:
    tour.stage("A fleet from Yandex IoT Core, with thingmint import yandex and paho-mqtt")
    with tempfile.TemporaryDirectory(prefix="thingmint-moving-") as folder:
        _from_yandex(tour, Path(folder))


def _from_yandex(tour: Tour, folder: Path) -> None:
    registry, boiler, meter = (new_id(IOT) for _ in range(3))
    export, passwords = folder / "export", folder / "passwords.csv"
    with tour.step("An export as Yandex's migration guide has people write it") as step:
        files = {owner: expired_certificate(folder, owner) for owner in (registry, boiler)}
        _write_export(export, registry, [boiler, meter], {owner: paths[0] for owner, paths in files.items()})
        step.result = "a registry, a device whose certificate expired in 2021, a device that used a password"
    with tour.step("thingmint import yandex --dry-run") as step:
        found = _imported(tour, "yandex", str(export), "--dry-run")
        require(found["counts"]["device.new"] == 2, f"found {found['counts']}")
        require(found["finding_count"] == 1, f"has the findings {found['findings']}")
        step.result = f"two devices would come; one finding: {found['findings'][0]['reason']}"
    with tour.step("thingmint import yandex --new-passwords, while the server runs") as step:
        counts = _imported(tour, "yandex", str(export), "--new-passwords", str(passwords))["counts"]
        require((counts["registry.new"], counts["device.new"]) == (1, 2), f"imported {counts}")
        rows = {row["device"]: row["password"] for row in csv.DictReader(passwords.read_text().splitlines())}
        require(rows.keys() == {meter}, f"made passwords for {sorted(rows)}")
        step.result = "imported all with their ids, and made a password for the second device"
    clients: list[YandexClient] = []
    try:
        with tour.step("The registry and the device, with their old certificates") as step:
            listener, device = (YandexClient(tour, owner, files[owner]) for owner in (registry, boiler))
            clients += (listener, device)
            for each in clients:
                require(each.connected.get(timeout=SECONDS), "refused the connection")
            listener.client.subscribe("$devices/+/events/#", qos=1)
            require(listener.subscribed.wait(SECONDS), "did not answer the subscription")
            device.client.publish("boiler/temperature", b"65", qos=1)
            got = listener.messages.get(timeout=SECONDS)
            require(got == (f"$devices/{boiler}/events/temperature", b"65"), f"delivered {got}")
            step.result = f"the device published to its alias, and the registry received 65 on {got[0]}"
        with tour.step("The other device, with its new password") as step:
            clients.append(YandexClient(tour, "meter", login=(meter, rows[meter])))
            require(clients[-1].connected.get(timeout=SECONDS), "refused the connection")
            step.result = "accepted"
    finally:
        for each in clients:
            each.close()
    with tour.step("thingmint import yandex again") as step:
        counts = _imported(tour, "yandex", str(export))["counts"]
        require(all(key.endswith(".same") for key in counts), f"found {counts}")
        step.result = "everything is there already, and nothing changed"


def from_aws(tour: Tour) -> None:
    tour.stage("An account of AWS IoT, with thingmint import aws and AWS's device SDK")
    with tempfile.TemporaryDirectory(prefix="thingmint-moving-") as folder:
        _from_aws(tour, Path(folder))


def _from_aws(tour: Tour, folder: Path) -> None:
    with tour.step("A second server stands in for AWS") as step:
        account = access(tour, "account", "list")[0]["id"]
        data_dir, region = folder / "aws", tour.server.environment("aws")["AWS_REGION"]
        done = thingmint("init", "--data-dir", str(data_dir), "--account-id", account, "--region", region)
        require(done.returncode == 0, f"thingmint init failed: {done.stderr.strip()}")
        step.result = f"it has the same account number, {account}, so ARNs stay"
    with running_server(data_dir) as other:
        with tour.step("A thing in a group, with a policy and a certificate, at the second server") as step:
            there = aws.client(other)
            made, files = _account(tour, there, folder)
            step.result = f"created sensor-1, and the certificate {made['certificateId']}"
        with tour.step("thingmint import aws --endpoint-url, while both servers run") as step:
            variables = {**other.environment("aws"), "NO_PROXY": "localhost", "no_proxy": "localhost"}
            source = ("--endpoint-url", variables["AWS_ENDPOINT_URL_IOT"], "--region", region, "--rate", "none")
            counts = _imported(tour, "aws", *source, **variables)["counts"]
            require(counts["certificate.new"] == counts["thing.new"] == 1, f"imported {counts}")
            step.result = "imported all of it"
        with tour.step("DescribeCertificate, DescribeThing, ListAttachedPolicies, GetPolicy at both servers") as step:
            here = aws.client(tour.server)
            require(_described(here, made) == _described(there, made), "the answers differ")
            certificate = here.describe_certificate(certificateId=made["certificateId"])["certificateDescription"]
            require(certificate["certificateMode"] == "SNI_ONLY", "has another mode than SNI_ONLY")
            step.result = "the answers are the same, except for the certificate's mode: SNI_ONLY here"
    with tour.step("The device connects to this server over MQTT 5, with its old certificate") as step:
        connected5(tour.server, files, "sensor-1").stop()
        step.result = "accepted, under the imported policy of its group"


def _account(tour: Tour, iot: Any, folder: Path) -> tuple[Any, tuple[str, str]]:
    """Makes a small account. Returns the certificate's ids, and the files of it and its key."""
    iot.create_thing_group(thingGroupName="greenhouse")
    iot.create_thing(thingName="sensor-1", attributePayload={"attributes": {"bay": "7"}})
    iot.add_thing_to_thing_group(thingGroupName="greenhouse", thingName="sensor-1")
    statement = {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": statement})
    policy = iot.create_policy(policyName="greenhouse", policyDocument=document)
    iot.attach_policy(policyName="greenhouse", target=policy["policyArn"].replace("policy/", "thinggroup/"))
    made = iot.create_keys_and_certificate(setAsActive=True)
    iot.attach_thing_principal(thingName="sensor-1", principal=made["certificateArn"])
    private_key = made["keyPair"]["PrivateKey"]
    tour.private_keys.append(private_key)
    return made, save(folder, "sensor-1", made["certificatePem"], private_key)


def _described(iot: Any, made: Any) -> Any:
    certificate = iot.describe_certificate(certificateId=made["certificateId"])["certificateDescription"]
    group = iot.describe_thing_group(thingGroupName="greenhouse")["thingGroupArn"]
    return (
        {key: certificate[key] for key in ("certificateArn", "certificatePem", "status", "creationDate")},
        iot.describe_thing(thingName="sensor-1")["attributes"],
        iot.list_attached_policies(target=group)["policies"],
        iot.get_policy(policyName="greenhouse")["policyDocument"],
    )


def _imported(tour: Tour, source: str, *arguments: str, **variables: str) -> Any:
    """The JSON that `thingmint import ...` printed. Raises CheckFailed."""
    data_dir = str(tour.server.data_dir)
    done = thingmint("import", source, *arguments, "--data-dir", data_dir, "--output", "json", **variables)
    require(done.returncode == 0, f"failed: {done.stderr.strip()} {done.stdout}")
    return json.loads(done.stdout)


def _write_export(export: Path, registry: str, devices: list[str], certificates: dict[str, Path]) -> None:
    """The first device has an alias; ``certificates`` are files by the ids of their owners."""
    certificates_of = export / f"device-certs-{registry}"
    certificates_of.mkdir(parents=True)

    def write(path: Path, *rows: dict[str, str]) -> None:
        path.write_text(json.dumps(rows))

    def certificates_rows(kind: str, owner: str) -> list[dict[str, str]]:
        if owner not in certificates:
            return []
        pem = certificates[owner].read_text()
        sha1 = hashlib.sha1(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
        return [{f"{kind}_id": owner, "fingerprint": sha1, "certificate_data": pem, "created_at": _CREATED_AT}]

    row = {"id": registry, "folder_id": new_id(FOLDER), "name": "from-yandex", "status": "ACTIVE"}
    write(export / "registries.json", {**row, "created_at": _CREATED_AT})
    write(export / "brokers.json")
    write(export / f"registry-certs-{registry}.json", *certificates_rows("registry", registry))
    rows = [{"id": id, "registry_id": registry, "name": f"device-{number}"} for number, id in enumerate(devices)]
    write(export / f"devices-{registry}.json", *({**row, "created_at": _CREATED_AT} for row in rows))
    alias = {"device_id": devices[0], "alias": "boiler/", "topic_prefix": f"$devices/{devices[0]}/events/"}
    write(export / f"aliases-{registry}.json", alias)
    for device in devices:
        write(certificates_of / f"{device}.json", *certificates_rows("device", device))
