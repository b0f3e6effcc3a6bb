"""What provisioning stores, and what it deletes: tokens, unclaimed certificates, settings, keys."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from tests.e2e.access.local_admin import database
from tests.e2e.commands import thingmint
from tests.e2e.conftest import iot_client
from tests.e2e.provisioning.support import CREATE, Fleet, rejection, serial, wait_until
from tests.e2e.test_durability_and_secrecy import places_of, search
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INVALID_TOKEN = (400, "InvalidCertificateOwnershipToken", "Certificate ownership token is invalid.")


@contextlib.contextmanager
def own_fleet(tmp_path: Path, known: Fleet | None = None) -> Iterator[Fleet]:
    """A separate server; with ``known``, the same server after a restart."""
    with (
        running_server(tmp_path / "data", arguments=["--log-format=json"]) as server,
        contextlib.closing(iot_client(server)) as iot,
    ):
        if known is None:
            yield Fleet.of(server, iot, tmp_path)
        else:
            known.server, known.iot = server, iot
            known.local_admin = type(known.local_admin)(server)
            yield known


def test_unclaimed_certificates_are_deleted_at_start(tmp_path: Path) -> None:
    with own_fleet(tmp_path) as fleet:
        name = fleet.new_template()
        with fleet.device() as device:
            made = {what: device.certificate() for what in ("claimed", "unclaimed", "fresh", "activated", "attached")}
            tokens = {what: each["certificateOwnershipToken"] for what, each in made.items()}
            ids = {what: each["certificateId"] for what, each in made.items()}
            assert device.register(name, tokens["claimed"], SerialNumber=serial())[0]
        fleet.iot.update_certificate(certificateId=ids["activated"], newStatus="INACTIVE")
        fleet.iot.create_thing(thingName="by-hand")
        principal = f"arn:aws:iot:us-east-1:{fleet.account}:cert/{ids['attached']}"
        fleet.iot.attach_thing_principal(thingName="by-hand", principal=principal)
        fleet.iot.create_provisioning_claim(templateName=name)
        assert fleet.server.stop() == 0
    with database(tmp_path / "data") as db:
        assert db.execute("SELECT count(*) FROM ownership_tokens").fetchone() == (5,)
        # Only the hash of a token is stored.
        assert not any(token.encode() in (tmp_path / "data" / "thingmint.db").read_bytes() for token in tokens.values())
        fresh = bytes.fromhex(ids["fresh"])
        db.execute("UPDATE ownership_tokens SET expires_at = 1 WHERE fingerprint != ?", (fresh,))
        db.execute("UPDATE provisioning_claims SET expires_at = 1")
    with own_fleet(tmp_path, fleet) as fleet:

        def known() -> set[str]:
            return {each["certificateId"] for each in fleet.iot.list_certificates(pageSize=250)["certificates"]}

        wait_until(lambda: ids["unclaimed"] not in known(), "the unclaimed certificate still exists")
        assert set(ids.values()) - known() == {ids["unclaimed"]}
        with fleet.device() as device:
            for what in ("unclaimed", "activated", "attached", "claimed"):
                assert rejection(device, name, tokens[what], SerialNumber=serial()) == INVALID_TOKEN
            assert device.register(name, tokens["fresh"], SerialNumber=serial())[0]
        assert fleet.server.stop() == 0
    with database(tmp_path / "data") as db:
        assert db.execute("SELECT fingerprint FROM ownership_tokens").fetchall() == [(fresh,)]
        assert db.execute("SELECT count(*) FROM provisioning_claims").fetchone() == (0,)
        kept = db.execute("SELECT count(*) FROM certificates WHERE fingerprint = ?", (bytes.fromhex(ids["unclaimed"]),))
        assert kept.fetchone() == (0,)


def test_a_lost_answer_is_repeated_after_a_power_failure(tmp_path: Path) -> None:
    with own_fleet(tmp_path) as fleet:
        name, number = fleet.new_template(), serial()
        with fleet.device() as device:
            token = device.certificate()["certificateOwnershipToken"]
            first = device.register(name, token, SerialNumber=number)
            assert first[0]
        fleet.server.kill()
    with own_fleet(tmp_path, fleet) as fleet, fleet.device() as device:
        assert device.register(name, token, SerialNumber=number) == first


def test_an_account_can_forbid_keys_over_mqtt(tmp_path: Path) -> None:
    with own_fleet(tmp_path) as fleet, fleet.device() as device:
        words = ("access", "account", "set", "keys_over_mqtt")
        done = thingmint(*words, "false", "--data-dir", fleet.server.data_dir)
        assert (done.returncode, done.stdout) == (0, "keys_over_mqtt: False\n"), done.stderr
        assert fleet.local_admin.ask("account.show")["keys_over_mqtt"] is False
        accepted, reply = device.ask(f"{CREATE}/json")
        assert not accepted
        assert reply == {
            "statusCode": 403,
            "errorCode": "AccessDenied",
            "errorMessage": "This account makes no keys over MQTT: send a certificate signing request",
        }
        assert device.certificate()["certificateId"]
        assert fleet.iot.create_keys_and_certificate()["certificateId"], "the control plane still makes keys"
        fleet.local_admin.ask("account.set", name="keys_over_mqtt", value="true")
        assert device.ask(f"{CREATE}/json")[0]
    with database(tmp_path / "data") as db:
        assert db.execute("SELECT count(*) FROM account_settings").fetchone() == (0,)


def test_requests_are_throttled(tmp_path: Path) -> None:
    arguments = ["--log-format=json", "--limits=aws"]
    with (
        running_server(tmp_path / "data", arguments=arguments) as server,
        contextlib.closing(iot_client(server)) as iot,
    ):
        fleet = Fleet.of(server, iot, tmp_path)
        with fleet.device() as device:
            answers = [device.register("not-there", None) for _ in range(20)]
        codes = [reply["errorCode"] for _, reply in answers]
        assert codes[:10] == ["InvalidTemplate"] * 10
        throttled = [reply for _, reply in answers if reply["errorCode"] == "Throttling"]
        assert throttled
        assert throttled[0] == {"statusCode": 429, "errorCode": "Throttling", "errorMessage": "Rate exceeded"}


def test_keys_made_over_mqtt_are_not_stored(tmp_path: Path) -> None:
    keys: list[str] = []
    tokens: list[bytes] = []

    def provision(device: Any, name: str, format: str) -> None:
        accepted, made = device.ask(f"{CREATE}/{format}")
        assert accepted
        keys.append(made["privateKey"])
        tokens.append(made["certificateOwnershipToken"].encode())
        rejection(device, name, made["certificateOwnershipToken"])
        assert device.register(name, made["certificateOwnershipToken"], SerialNumber=serial())[0]

    with own_fleet(tmp_path) as fleet:
        name = fleet.new_template()
        for format in ("json", "cbor"):
            with fleet.device() as device:
                provision(device, name, format)
        with fleet.device() as device:  # disconnects before the reply
            device.send(f"{CREATE}/json", b"")
        search(fleet.server, *keys)
        assert places_of(fleet.server, tokens) == set()
        assert places_of(fleet.server, [fleet.claim.fingerprint.encode()]), "the search finds stored text"
        fleet.server.kill()
        search(fleet.server, *keys)
    with own_fleet(tmp_path, fleet):
        pass
    search(fleet.server, *keys)
    assert places_of(fleet.server, tokens) == set()
