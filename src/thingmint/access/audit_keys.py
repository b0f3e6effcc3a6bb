"""The keys that sign the audit trail: the one in force, and those that were replaced, each up to where it was.

Replacing one is a statement, signed by the new key and, unless it was lost, by the one before.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class FormerKey:
    """``through`` is the last record, by stream, up to which its signatures count."""

    key: Ed25519PublicKey
    through: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AuditKeys:
    current: Ed25519PublicKey
    former: tuple[FormerKey, ...] = field(default=())

    @classmethod
    def read(cls, current: Ed25519PublicKey, statements: Path) -> AuditKeys:
        """With those that statements lead to from ``current``; a file that is not there holds none. Raises OSError."""
        try:
            lines = statements.read_text().splitlines()
        except FileNotFoundError:
            return cls(current)
        return cls(current, tuple(_former(current, lines)))

    def signed(self, signature: str, message: bytes, stream: str, sequence: int) -> bool:
        """Whether one of the keys signed ``message``, which is about the record ``sequence``. ``signature`` is base64.

        The signatures of a key that was replaced count for what was there when it was: it may be in other hands.
        """
        keys = [self.current, *(each.key for each in self.former if sequence <= each.through.get(stream, 0))]
        return any(_is_signed(key, signature, message) for key in keys)


def replacement(
    new: Ed25519PrivateKey,
    former: Ed25519PublicKey,
    former_key: Ed25519PrivateKey | None,
    through: Mapping[str, int],
    now: datetime,
) -> str:
    """The statement, as a line. ``former_key`` is None where it was lost."""
    fields: dict[str, Any] = {
        "time": now.astimezone(UTC).isoformat(timespec="seconds"),
        "key": key_text(new.public_key()),
        "former": key_text(former),
        "through": dict(through),
    }
    message = _message(fields)
    fields["signature"] = base64.b64encode(new.sign(message)).decode()
    fields["former_signature"] = base64.b64encode(former_key.sign(message)).decode() if former_key is not None else None
    return orjson.dumps(fields).decode()


def key_text(key: Ed25519PublicKey) -> str:
    """Its 32 bytes in base64, as statements name it."""
    return base64.b64encode(key.public_bytes_raw()).decode()


def _former(current: Ed25519PublicKey, lines: Iterable[str]) -> list[FormerKey]:
    """From the newest on. Statements of keys that no other leads to were interrupted, or are another instance's."""
    known, found = {key_text(current)}, []
    for line in reversed(list(lines)):
        try:
            fields = orjson.loads(line)
            new, former = (_key(fields[name]) for name in ("key", "former"))
            through = {str(stream): int(number) for stream, number in fields["through"].items()}
            signature = fields["signature"]
            message = _message(fields)
        except (AttributeError, KeyError, TypeError, ValueError):
            continue  # being written when the machine stopped
        if fields["key"] in known and _is_signed(new, signature, message):
            known.add(fields["former"])
            found.append(FormerKey(former, through))
    return found


def _key(text: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(text))


def _message(fields: Mapping[str, Any]) -> bytes:
    through = " ".join(f"{stream} {number}" for stream, number in sorted(fields["through"].items()))
    return f"thingmint audit key {fields['key']} replaces {fields['former']} {fields['time']} {through}".encode()


def _is_signed(key: Ed25519PublicKey, signature: str, message: bytes) -> bool:
    try:
        key.verify(base64.b64decode(signature), message)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True
