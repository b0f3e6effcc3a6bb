"""The files of server certificates: when they are read again, and what is logged."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests import issuers
from tests.unit import vectors
from tests.unit.domain.test_server_certificates import KEY, MIDDLE, NOW, key_pem, names
from thingmint.domain.certificate_profiles import listener_profile
from thingmint.domain.server_certificates import read_server_certificate
from thingmint.settings import ConfigError, load
from thingmint.tls import ListenerTLS, ServerCertificateFiles, files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OTHER_KEY = vectors.ec_key("secp384r1")


class Server:
    """A server's certificates on a fake clock, with the files of its settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = vectors.FakeClock()
        authority = vectors.authority(profile=listener_profile(timedelta(days=90)))
        self.tls = ListenerTLS(authority, folder, self.clock)
        self.tls.renew(["localhost"])
        self.files = ServerCertificateFiles(self.tls, self.clock)
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"

    def write(self, key: Any = KEY, **facts: Any) -> int:
        """New files. Returns the serial number of the certificate."""
        serial = self.write_certificate(key, **facts)
        self.write_key(key)
        return serial

    def write_certificate(self, key: Any = KEY, **facts: Any) -> int:
        made = MIDDLE.sign("localhost", key, extensions=(names("localhost"),), **facts)
        self._replace(self.certificate, (issuers.pem(made) + MIDDLE.pem).encode())
        return made.serial_number

    def write_key(self, key: Any) -> None:
        self._replace(self.key, key_pem(key))

    def _replace(self, path: Path, content: bytes) -> None:
        new = path.with_suffix(".new")
        new.write_bytes(content)
        new.chmod(0o600)
        new.rename(path)

    def start(self, **settings: Any) -> list[Any]:
        """Uses the settings. Returns what is logged."""
        given = {"server_certificate": self.certificate, "server_key": self.key} | settings
        return self.logged(lambda: self.files.use(self.files.prepare(load(given))))

    def polls(self, count: int = 1) -> list[Any]:
        def poll() -> None:
            for _ in range(count):
                self.files.follow()

        return self.logged(poll)

    def logged(self, what: Callable[[], object]) -> list[Any]:
        with capture_logs() as logs:
            what()
        return [line["event"] for line in logs]

    @property
    def serials(self) -> set[int]:
        shown = [self.tls.follow(each)() for each in ("api", "grpc", "mqtt")]
        return {each.default[0].certificate.serial_number for each in shown if each is not None}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_files_that_rest_are_read(server: Server) -> None:
    first = server.write()
    assert server.start() == ["server_certificate_loaded"]
    assert server.polls(5) == []
    second = server.write()
    assert server.polls() == []  # they may still be changing
    assert server.serials == {first}
    assert server.polls() == ["server_certificate_loaded"]
    assert server.serials == {second}
    assert server.polls(5) == []


def test_files_that_keep_changing_are_waited_for(server: Server) -> None:
    first = server.write()
    server.start()
    for _ in range(5):
        last = server.write()
        assert server.polls() == []
    assert server.serials == {first}
    assert server.polls() == ["server_certificate_loaded"]
    assert server.serials == {last}


def test_a_key_that_follows_later_is_waited_for(server: Server) -> None:
    """The old certificate stays, and the log has one line, however often the files are looked at."""
    first = server.write()
    server.start()
    second = server.write_certificate(OTHER_KEY)
    with capture_logs() as logs:
        for _ in range(100):
            server.files.follow()
            server.clock.advance(seconds=2)
    [line] = logs
    assert (line["event"], line["log_level"]) == ("server_certificate_not_replaced", "error")
    assert line["why"] == f"{server.key} is not the key of the certificate for localhost"
    assert server.serials == {first}
    server.write_key(OTHER_KEY)
    assert server.polls(2) == ["server_certificate_loaded"]
    assert server.serials == {second}


def test_a_key_that_is_replaced_while_the_files_are_read_is_noticed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.write()
    server.start()
    second = server.write_certificate(OTHER_KEY)
    read = read_server_certificate

    def slow(*arguments: Any) -> Any:
        monkeypatch.undo()
        server.write_key(OTHER_KEY)
        return read(*arguments)

    monkeypatch.setattr(files, "read_server_certificate", slow)
    assert server.polls(2) == ["server_certificate_not_replaced"]
    assert server.polls(2) == ["server_certificate_loaded"]
    assert server.serials == {second}


def test_a_renewal_of_the_own_certificate_leaves_the_others(server: Server) -> None:
    first = server.write()
    server.start()
    server.tls.renew(["localhost", "iot.example.org"])
    assert server.serials == {first}
    shown = server.tls.follow("grpc")()
    assert shown is not None
    assert list(shown.by_name) == ["iot.example.org"]
    assert shown.by_name["iot.example.org"][0].covers("iot.example.org")


def test_host_names_that_no_certificate_covers_are_logged_once(server: Server, tmp_path: Path) -> None:
    server.write()
    (tmp_path / "named").mkdir()
    named = Server(tmp_path / "named")
    named.write()
    table = {"certificate": named.certificate, "key": named.key, "names": ["a.test"], "check_names": False}
    server.start(server_certificates={"named": table})

    def renewed(*hostnames: str) -> list[tuple[str, list[str]]]:
        with capture_logs() as logs:
            server.tls.renew(hostnames)
        return [(each["setting"], each["names"]) for each in logs if each["log_level"] == "warning"]

    assert renewed("localhost", "127.0.0.1", "a.test") == []
    assert renewed("localhost", "b.test", "192.0.2.1") == [("server-certificate", ["b.test", "192.0.2.1"])]
    assert renewed("localhost", "b.test", "192.0.2.1") == []
    assert renewed("a.test", "127.0.0.1") == [("server-certificate", ["127.0.0.1"])]


def test_a_change_of_the_same_size_and_time_is_noticed(server: Server) -> None:
    server.write()
    server.start()
    before = {path: path.stat() for path in (server.certificate, server.key)}
    serial = server.write()
    while server.certificate.stat().st_size != before[server.certificate].st_size:
        serial = server.write()
    for path, stat in before.items():
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    server.polls(2)
    assert server.serials == {serial}


def test_files_that_are_only_touched_change_nothing(server: Server) -> None:
    first = server.write()
    server.start()
    os.utime(server.certificate)
    assert server.polls(3) == []
    assert server.serials == {first}


def test_missing_files_are_logged_once_and_taken_when_they_are_back(server: Server) -> None:
    first = server.write()
    server.start()
    server.certificate.unlink()
    assert server.polls(9) == ["server_certificate_not_replaced"]
    assert server.serials == {first}
    second = server.write()
    assert server.polls(2) == ["server_certificate_loaded"]
    assert server.serials == {second}


def test_a_certificate_is_taken_when_it_becomes_valid(server: Server) -> None:
    """Its files do not change then."""
    server.write()
    server.start()
    second = server.write(begins=NOW + timedelta(hours=1))
    assert server.polls(3) == ["server_certificate_not_replaced"]
    server.clock.advance(minutes=59)
    assert server.polls(3) == []
    server.clock.advance(minutes=2)
    assert server.polls(3) == ["server_certificate_loaded"]
    assert server.serials == {second}


def test_a_reload_reads_all_files_at_once(server: Server) -> None:
    server.write()
    server.start()
    second = server.write()
    assert server.logged(lambda: server.files.follow(at_once=True)) == ["server_certificate_loaded"]
    assert server.serials == {second}
    server.key.unlink()
    for _ in range(2):  # a person who reloads again is told again
        assert server.logged(lambda: server.files.follow(at_once=True)) == ["server_certificate_not_replaced"]
    assert server.serials == {second}


def test_settings_that_do_not_change_keep_their_certificate(server: Server) -> None:
    """Their files may be unusable at the moment."""
    first = server.write()
    server.start()
    server.certificate.unlink()
    assert server.start(limits="aws") == []
    assert server.serials == {first}
    with pytest.raises(ConfigError, match=r"^server-certificates\.more: .*/cert\.pem cannot be read"):
        server.start(server_certificates={"more": {"certificate": server.certificate, "key": server.key}})
    assert server.serials == {first}


def test_a_certificate_is_warned_about_once_at_each_threshold(server: Server) -> None:
    server.write(ends=NOW + timedelta(days=30))
    server.start()
    found = []
    for _ in range(31 * 24):
        server.clock.advance(hours=1)
        with capture_logs() as logs:
            server.files.follow()
        found += [(line["event"], line.get("days"), line["log_level"]) for line in logs]
    assert found == [
        ("server_certificate_expires", 21, "warning"),
        ("server_certificate_expires", 7, "warning"),
        ("server_certificate_expires", 1, "warning"),
        ("server_certificate_expired", None, "error"),
    ]
    server.write(ends=server.clock() + timedelta(days=5))
    assert server.polls(2) == ["server_certificate_loaded", "server_certificate_expires"]


@pytest.mark.parametrize(("left", "days"), [(21, 21), (12, 12), (7, 7), (3, 3), (0.5, 1)])
def test_a_server_that_starts_late_warns_once(server: Server, left: float, days: int) -> None:
    server.write(ends=NOW + timedelta(days=left))
    settings = load({"server_certificate": server.certificate, "server_key": server.key})
    with capture_logs() as logs:
        server.files.use(server.files.prepare(settings))
        server.files.follow()
    assert [line["days"] for line in logs if line["event"] == "server_certificate_expires"] == [days]


def test_a_renewed_certificate_with_another_type_of_key_may_not_take_a_place(server: Server, tmp_path: Path) -> None:
    (tmp_path / "rsa").mkdir()
    rsa = Server(tmp_path / "rsa")
    first, old = server.write(), rsa.write(vectors.rsa_key())
    server.start(server_certificates={"old": {"certificate": rsa.certificate, "key": rsa.key}})
    shown = server.tls.follow("mqtt")()
    assert shown is not None
    assert [each.certificate.serial_number for each in shown.default] == [first, old]
    rsa.write(KEY)
    with capture_logs() as logs:
        for _ in range(3):
            server.files.follow()
    [line] = logs
    assert line["why"] == ("server-certificates.old and server-certificate are both on api, and both have EC keys")


def test_both_files_are_needed(tmp_path: Path) -> None:
    for given, missing in [("server_certificate", "server-key"), ("server_key", "server-certificate")]:
        with pytest.raises(ConfigError) as caught:
            load({given: tmp_path / "x"}).server_certificates_in_force()
        assert caught.value.setting == missing


def test_a_table_is_named_by_its_host_name_or_has_names(tmp_path: Path) -> None:
    files = {"certificate": tmp_path / "c", "key": tmp_path / "k"}
    tables = {"Mqtt.Example.org": {}, "*.x.test": {}, "fleet": {}, "v1.2": {}, "a.test": {"names": ["b.test"]}}
    settings = load({"server_certificates": {name: files | more for name, more in tables.items()}})
    found = {name: each.names for name, each in settings.server_certificates_in_force().items()}
    assert found == {
        "server-certificates.Mqtt.Example.org": ["mqtt.example.org"],
        "server-certificates.*.x.test": ["*.x.test"],
        "server-certificates.fleet": [],
        "server-certificates.v1.2": [],
        "server-certificates.a.test": ["b.test"],
    }


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"names": ["192.0.2.1"]}, "must be host names such as"),
        ({"names": ["a.*.test"]}, "must be host names such as"),
        ({"listeners": ["http"]}, "must be api, grpc or mqtt"),
        ({"listeners": []}, "must not be empty"),
        ({"key": None}, "must be a path"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, table: dict[str, Any], message: str) -> None:
    files = {"certificate": tmp_path / "c", "key": tmp_path / "k"}
    with pytest.raises(ConfigError, match=message):
        load({"server_certificates": {"fleet": files | table}})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("listeners = ['http']", "listeners.0: must be api, grpc or mqtt"),
        ("listeners = []", "fleet.listeners: must not be empty"),
        ("listener = ['mqtt']", "listener: is not a setting; did you mean listeners?"),
        ("names = 'a.test'", "names: must be a list"),
    ],
)
def test_mistakes_in_the_file_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thingmint.toml").write_text(f"[server_certificates.fleet]\ncertificate = 'c'\nkey = 'k'\n{line}")
    with pytest.raises(ConfigError) as caught:
        load({})
    assert message in str(caught.value)
