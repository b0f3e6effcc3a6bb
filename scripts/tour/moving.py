"""Moving fleets here with `thingmint import`: an export of Yandex IoT Core."""

from __future__ import annotations

import csv
import hashlib
import json
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thingmint.domain.ids import FOLDER, IOT, new_id
from tour import require
from tour.commands import thingmint
from tour.yandex_devices import SECONDS, YandexClient, expired_certificate

if TYPE_CHECKING:
    from tour import Tour

__all__ = ["from_yandex"]

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
        found = _imported(tour, str(export), "--dry-run")
        require(found["counts"]["device.new"] == 2, f"found {found['counts']}")
        require(found["finding_count"] == 1, f"has the findings {found['findings']}")
        step.result = f"two devices would come; one finding: {found['findings'][0]['reason']}"
    with tour.step("thingmint import yandex --new-passwords, while the server runs") as step:
        counts = _imported(tour, str(export), "--new-passwords", str(passwords))["counts"]
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
        counts = _imported(tour, str(export))["counts"]
        require(all(key.endswith(".same") for key in counts), f"found {counts}")
        step.result = "everything is there already, and nothing changed"


def _imported(tour: Tour, *arguments: str) -> Any:
    """The JSON that `thingmint import yandex ...` printed. Raises CheckFailed."""
    data_dir = str(tour.server.data_dir)
    done = thingmint("import", "yandex", *arguments, "--data-dir", data_dir, "--output", "json")
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
