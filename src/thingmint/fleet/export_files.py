"""The files of an export. They are in DIR.part until the export is complete; then it is renamed."""

from __future__ import annotations

import csv
import os
import shutil
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Any

import orjson
from cryptography import x509

from thingmint.fleet.durable_files import write_durably
from thingmint.importing.sources.csv_columns import COLUMNS, SERIAL_ATTRIBUTE, SHOWN_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_MARK = "export.json"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Json = dict[str, Any]


class ExportError(Exception):
    """The export cannot be written. The text says why, and what to do."""


class ExportFolder:
    """Files below DIR.part, which becomes DIR at the end. All are readable by their owner only."""

    def __init__(self, path: Path) -> None:
        """Make DIR.part, and remove what an interrupted export has left there. Raises ExportError and OSError."""
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        if path.exists():
            raise ExportError(f"{path} exists: choose another directory, or remove it")
        if self.part.exists():
            if not (self.part / _MARK).is_file():
                raise ExportError(f"{self.part} exists and is no interrupted export: remove it")
            shutil.rmtree(self.part)
        self.part.mkdir(mode=0o700, parents=True)
        write_durably(self.part / _MARK, b'{"complete": false}\n')
        self._files = ExitStack()

    def open(self, name: str) -> IO[bytes]:
        """Open a new file, which ``finish`` closes. Its directory is made if it is missing."""
        return self._files.enter_context(self._open(name))

    def write(self, name: str, content: bytes) -> None:
        with self._open(name) as file:
            file.write(content)

    def finish(self, report: Mapping[str, Any]) -> None:
        """Make everything durable, and give the directory its name."""
        self._files.close()
        os.sync()  # one for all files, of which there may be a million
        write_durably(self.part / _MARK, orjson.dumps({**report, "complete": True}, option=orjson.OPT_INDENT_2))
        self.part.rename(self.path)
        os.sync()

    def close(self) -> None:
        self._files.close()

    def _open(self, name: str) -> IO[bytes]:
        path = self.part / name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:
            for folder in (*reversed(path.parent.relative_to(self.part).parents), path.parent.relative_to(self.part)):
                (self.part / folder).mkdir(mode=0o700, exist_ok=True)  # parents=True would leave those open to others
            descriptor = os.open(path, flags, 0o600)
        return os.fdopen(descriptor, "wb")


class CsvExport:
    """devices.csv, certificates/, and definitions.jsonl: what the rows name, as items of an import."""

    def __init__(self, folder: ExportFolder) -> None:
        self._folder = folder
        self._table = folder.open("devices.csv")
        self._definitions = folder.open("definitions.jsonl")
        self._folders: set[str] = set()
        self.left_out = 0
        """Certificates of registries and brokers that are not ACTIVE: an import would make them so."""
        self._write_row((*COLUMNS, *SHOWN_COLUMNS))

    def definition(self, item: Mapping[str, Any]) -> None:
        kept = {name: value for name, value in item.items() if name != "depth"}
        self._definitions.write(orjson.dumps(kept, option=orjson.OPT_APPEND_NEWLINE))

    def owner(self, noun: str, owner: Mapping[str, Any]) -> None:
        """Write the definition of a registry or a broker, and that of its folder the first time."""
        if owner["folder"] not in self._folders:
            self._folders.add(owner["folder"])
            self.definition({"kind": "folder", "id": owner["folder"]})
        certificates = [{"pem": each["pem"], "created_at": each["created_at"]} for each in _active(owner)]
        self.left_out += len(owner["certificates"]) - len(certificates)
        self.definition({"kind": noun, **owner, "certificates": certificates})

    def thing(self, region: str, thing: Mapping[str, Any]) -> None:
        attributes = dict(thing["attributes"])
        row = {
            "name": thing["name"],
            "type": thing["type"] or "",
            "serial": attributes.pop(SERIAL_ATTRIBUTE, ""),
            "attributes": _json(attributes),
            "groups": " ".join(thing["groups"]),
            "region": region,
        }
        for certificate in thing["certificates"] or [None]:
            self._write({**row, **self._certificate(certificate)} if certificate is not None else row)

    def certificate(self, region: str, certificate: Mapping[str, Any]) -> None:
        self._write({"region": region, **self._certificate(certificate)})

    def device(self, device: Mapping[str, Any]) -> None:
        row = {
            "name": device["name"],
            "attributes": _json(device["labels"]),
            "created_at": _time(device["created_at"]),
            "registry": device["registry"],
            "device_id": device["id"],
            "description": device["description"],
            "topic_aliases": _json(device["topic_aliases"]),
        }
        for certificate in device["certificates"] or [None]:
            self._write({**row, **self._shown(certificate)} if certificate is not None else row)

    def _certificate(self, certificate: Mapping[str, Any]) -> dict[str, str]:
        return {
            **self._shown(certificate),
            "policies": " ".join(certificate["policies"]),
            "exclusive": "true" if certificate.get("exclusive") else "",
            "ca": certificate["ca"] or "",
            "mode": certificate["mode"] if certificate["ca"] else "",
            "created_at": _time(certificate["created_at"]),
        }

    def _shown(self, certificate: Mapping[str, Any]) -> dict[str, str]:
        """The columns about the certificate. Its file is written unless another row has it."""
        id, pem = certificate["id"], certificate["pem"].encode()
        name = f"certificates/{id[:2]}/{id}.pem"
        if not (self._folder.part / name).exists():
            self._folder.write(name, pem)
        return {
            "certificate": name,
            "status": certificate["status"],
            "certificate_id": id,
            "certificate_serial": _serial(pem),
        }

    def _write(self, row: Mapping[str, str]) -> None:
        self._write_row([row.get(column, "") for column in (*COLUMNS, *SHOWN_COLUMNS)])

    def _write_row(self, fields: Sequence[str]) -> None:
        line = _Line()
        csv.writer(line, lineterminator="\n").writerow(fields)
        self._table.write(line.text.encode())


class _Line:
    """What csv.writer writes to."""

    text = ""

    def write(self, text: str) -> None:
        self.text += text


class JsonList:
    """A JSON array that is written row by row."""

    def __init__(self, folder: ExportFolder, name: str) -> None:
        self._file = folder.open(name)
        self._between = b"[\n"

    def add(self, row: Mapping[str, Any]) -> None:
        kept = {name: value for name, value in row.items() if value not in (None, "", {}, [])}
        self._file.write(self._between + orjson.dumps(kept))
        self._between = b",\n"

    def close(self) -> None:
        self._file.write(b"[]\n" if self._between == b"[\n" else b"\n]\n")
        self._file.close()


class YandexExport:
    """The files that Yandex's migration guide has people write, one set for each registry."""

    def __init__(self, folder: ExportFolder) -> None:
        self._folder = folder
        self.left_out = 0
        """Certificates that are not ACTIVE. The layout has no status, so an import would make them ACTIVE."""
        self._lists = {"registry": JsonList(folder, "registries.json"), "broker": JsonList(folder, "brokers.json")}

    def owner(self, noun: str, owner: Mapping[str, Any]) -> None:
        """Write a registry or a broker with its certificates."""
        disabled = {"status": "DISABLED" if owner["disabled"] else "ACTIVE"} if noun == "registry" else {}
        row = {**_common(owner), "folder_id": owner["folder"], **disabled, "log_options": owner["log_options"]}
        self._lists[noun].add(row)
        self._certificates(f"{noun}-certs-{owner['id']}.json", noun, owner)

    def registry(self, id: str) -> RegistryFiles:
        return RegistryFiles(self, self._folder, id)

    def certificates_of_device(self, registry: str, device: Mapping[str, Any]) -> None:
        self._certificates(f"device-certs-{registry}/{device['id']}.json", "device", device)

    def close(self) -> None:
        for each in self._lists.values():
            each.close()

    def _certificates(self, name: str, noun: str, owner: Mapping[str, Any]) -> None:
        rows = [
            {
                f"{noun}_id": owner["id"],
                "fingerprint": each["id"],
                "certificate_data": each["pem"],
                "created_at": _time(each["created_at"]),
            }
            for each in _active(owner)
        ]
        self.left_out += len(owner["certificates"]) - len(rows)
        self._folder.write(name, orjson.dumps(rows, option=orjson.OPT_INDENT_2) + b"\n")


class RegistryFiles:
    """The lists of one registry: its devices, and their topic aliases."""

    def __init__(self, export: YandexExport, folder: ExportFolder, registry: str) -> None:
        self._export = export
        self._registry = registry
        self._devices = JsonList(folder, f"devices-{registry}.json")
        self._aliases = JsonList(folder, f"aliases-{registry}.json")

    def device(self, device: Mapping[str, Any]) -> None:
        aliases = device["topic_aliases"]
        self._devices.add({**_common(device), "registry_id": self._registry, "topic_aliases": aliases})
        for alias, target in aliases.items():
            self._aliases.add({"device_id": device["id"], "topic_prefix": target, "alias": alias})
        self._export.certificates_of_device(self._registry, device)

    def close(self) -> None:
        self._devices.close()
        self._aliases.close()


def _active(owner: Mapping[str, Any]) -> list[Json]:
    return [each for each in owner["certificates"] if each["status"] == "ACTIVE"]


def _common(owner: Mapping[str, Any]) -> Json:
    return {
        "id": owner["id"],
        "created_at": _time(owner["created_at"]),
        "name": owner["name"],
        "description": owner["description"],
        "labels": owner["labels"],
    }


def _json(value: Mapping[str, str]) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode() if value else ""


def _time(micros: int) -> str:
    return (_EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")


def _serial(pem: bytes) -> str:
    """The certificate's serial number in hex; empty if the certificate is too odd to be read."""
    try:
        return f"{x509.load_pem_x509_certificate(pem).serial_number:x}"
    except ValueError:
        return ""
