"""Replaces what differs from run to run, and what must be no secret, in recorded examples.

A value gets the same stand-in everywhere: an id in a request is the one that an earlier answer gave. Certificates are
replaced by certificates of the same form, whose ids are their fingerprints too.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from recording.certificates import (
    END,
    Key,
    fingerprint,
    made,
    named,
    pem,
    public_pem,
    rsa_public_key,
    signed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ADDRESS: Final = "203.0.113.17"
PORT: Final = 52144
MARKER: Final = "bmV4dCBwYWdl"
VERSION: Final = "1.0.0"
UNKNOWN: Final = ("0" * 64, f"are{'0' * 17}")
"""Ids that nothing has: of a certificate, and in the Yandex API."""

_CA: Final = Key("Thingmint device CA")
_SECRETS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("PrivateKey", "private_key"), "<the private key in PEM>"),
    **dict.fromkeys(("secret_access_key", "SecretAccessKey"), "EXAMPLE/secret/access/key/EXAMPLE/EXAMPL"),
    "session_token": "<the session token>",
    **dict.fromkeys(("iamToken", "iam_token"), "<the IAM token>"),
    "jwt": "<a JWT that the service account signed>",
    "password": "<a password of 14 or more>",
    "token": "<the token>",
    "yandexPassportOauthToken": "<an API token>",
}
"""Placeholders, by the name of the field."""
_MARKERS: Final = frozenset({"marker", "nextMarker", "next_marker", "nextToken", "nextPageToken", "pageToken"})
_FIXED: Final[Mapping[str, Any]] = {"free_bytes": 64 << 30, "id": 17, "idle": 1.5, "port": PORT, "version": VERSION}
"""Values by the name of the field, for values of the same type."""
_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)
_PUBLIC_KEY: Final = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----\n?", re.DOTALL)
_IDS: Final = re.compile(
    r"\b(?P<yandex>(?:are|aje|b1g)[0-9a-v]{17})\b"
    r"|\b(?P<uuid>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\b"
    r"|\b(?P<access_key>(?:AKIA|ASIA)[0-9A-Z]{16})\b"
    r"|\b(?P<digest>[0-9a-f]{64})\b"
    r"|\b(?P<token>[0-9a-f]{16})\b"
)
_TIME: Final = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00| UTC)")
_LINK: Final = re.compile(r"Expires=(\d+)&Signature=[0-9a-f]+")
_FREE: Final = re.compile(r"[\d,.]+ [GM]B are free")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_BASE32: Final = "0123456789abcdefghijklmnopqrstuv"
_LAST: Final = datetime(2100, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)


@dataclass
class StandIns:
    """``shift`` is added to times from ``since`` on. ``texts`` are parts of texts with their replacements.

    ``kept`` are ids that are the same in each run.
    """

    since: datetime
    shift: timedelta
    texts: dict[str, str]
    kept: set[str] = field(default_factory=lambda: set(UNKNOWN))
    _found: dict[str, str] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def keep(self, certificate: x509.Certificate) -> None:
        """Leaves a certificate of :mod:`recording.certificates` and its id as they are."""
        self.kept |= {fingerprint(certificate), pem(certificate)}

    def meet(self, value: Any) -> None:
        """Makes the stand-ins of the certificates in a JSON value, before their ids get others."""
        if isinstance(value, dict | list):
            for each in value.values() if isinstance(value, dict) else value:
                self.meet(each)
        elif isinstance(value, str):
            _CERTIFICATE.sub(self._certificate, value)

    def value(self, value: Any, name: str = "") -> Any:
        """A JSON value of a request or an answer, with stand-ins."""
        if isinstance(value, dict):
            own = {key: self.value(each, key) for key, each in value.items()}
            return {self.text(key): each for key, each in own.items()}
        if isinstance(value, list):
            return [self.value(each, name) for each in value]
        if isinstance(value, bool) or value is None:
            return value
        if name in _FIXED and isinstance(value, type(_FIXED[name])):
            return _FIXED[name]
        if isinstance(value, int | float):
            return self._number(value)
        if name in _SECRETS:
            return _SECRETS[name]
        if name in _MARKERS:
            return MARKER if value else value
        return self.text(value)

    def text(self, text: str) -> str:
        for old, new in self.texts.items():
            text = text.replace(old, new)
        text = _CERTIFICATE.sub(self._certificate, text)
        text = _PUBLIC_KEY.sub(self._public_key, text)
        text = _IDS.sub(self._id, text)
        text = _TIME.sub(self._time, text)
        text = _LINK.sub(lambda match: f"Expires={self._number(int(match[1]))}&Signature=EXAMPLE", text)
        text = _FREE.sub(f"{_FIXED['free_bytes'] / 10**9:.1f} GB are free", text)
        return _DATE.sub(self._date, text) if _DATE.fullmatch(text) else text

    def _number(self, value: float) -> float:
        """A number that may be a time, in seconds or milliseconds."""
        for unit in (1, 1000):
            if self.since.timestamp() <= value / unit <= _LAST.timestamp():
                moved = self._moved(datetime.fromtimestamp(value / unit, UTC))
                return value if moved is None else type(value)(moved.timestamp() * unit)
        return value

    def _time(self, match: re.Match[str]) -> str:
        given = datetime.fromisoformat(match[0].replace(" UTC", "Z"))
        moved = self._moved(given)
        return match[0] if moved is None else match[0].replace(f"{given.date()}", f"{moved.date()}")

    def _date(self, match: re.Match[str]) -> str:
        given = datetime.combine(date.fromisoformat(match[0]), datetime.min.time(), UTC)
        moved = self._moved(given)
        return match[0] if moved is None else f"{moved.date()}"

    def _moved(self, given: datetime) -> datetime | None:
        """The time with the shift; None for times that are the same in each run."""
        if given.year >= END.year or given < self.since - 60 * _DAY:
            return None
        return given + self.shift

    def _id(self, match: re.Match[str]) -> str:
        if match[0] in self.kept:
            return match[0]
        kind = match.lastgroup
        assert kind is not None
        prefix = match[0][:3] if kind == "yandex" else match[0][:4] if kind == "access_key" else ""
        return self._drawn(match[0], kind + prefix, lambda number: _id(kind, prefix, number))

    def _certificate(self, match: re.Match[str]) -> str:
        if match[0] in self.kept:
            return match[0]
        given = x509.load_pem_x509_certificate(match[0].encode())

        def make(number: int) -> str:
            stand_in = self._stand_in(given, number)
            self._found[fingerprint(given)] = fingerprint(stand_in)
            self._found[f"{given.serial_number:x}"] = f"{stand_in.serial_number:x}"
            self.texts[f"{given.serial_number:x}"] = f"{stand_in.serial_number:x}"
            self.kept |= {fingerprint(stand_in), pem(stand_in)}
            return pem(stand_in)

        return self._drawn(match[0], "certificate", make)

    def _stand_in(self, given: x509.Certificate, number: int) -> x509.Certificate:
        key: Any = given.public_key()
        if isinstance(key, rsa.RSAPublicKey):
            real, key = public_pem(key), rsa_public_key(f"certificate {number}")
            self._found[real] = public_pem(key)
        begin, end = (self._moved(each) or each for each in (given.not_valid_before_utc, given.not_valid_after_utc))
        subject = named(self.text(str(given.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)))
        return signed(made(subject, _CA.subject, key, f"certificate {number}", begin, end), _CA)

    def _public_key(self, match: re.Match[str]) -> str:
        if not isinstance(load_pem_public_key(match[0].encode()), rsa.RSAPublicKey):
            return match[0]
        return self._drawn(match[0], "public key", lambda number: public_pem(rsa_public_key(f"public key {number}")))

    def _drawn(self, given: str, kind: str, make: Callable[[int], str]) -> str:
        """The stand-in of ``given``, which a first use makes from its number among those of its kind."""
        if given not in self._found:
            self._counts[kind] = number = self._counts.get(kind, 0) + 1
            self._found[given] = made_now = make(number)
            self.kept.add(made_now)
        return self._found[given]


def _id(kind: str, prefix: str, number: int) -> str:
    digest = hashlib.sha256(f"{kind} {prefix} {number}".encode()).digest()
    match kind:
        case "yandex":
            return prefix + "".join(_BASE32[byte % 32] for byte in digest[:17])
        case "uuid":
            return str(uuid.UUID(bytes=digest[:16], version=4))
        case "access_key":
            return f"{prefix}EXAMPLE{number:09}"
        case _:
            return digest.hex()[: 16 if kind == "token" else None]
