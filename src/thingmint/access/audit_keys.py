"""The keys that sign the audit log: the current key, and former keys, each valid up to its replacement.

Each replacement has a statement, signed by the new key and, unless it was lost, by the former key.
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
    """``through`` is, for each stream, the last record for which the key's signatures are valid."""

    key: Ed25519PublicKey
    through: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AuditKeys:
    current: Ed25519PublicKey
    former: tuple[FormerKey, ...] = field(default=())

    @classmethod
    def read(cls, current: Ed25519PublicKey, statements: Path) -> AuditKeys:
        """``current`` and the former keys that the statements lead to. The file may be missing. Raises OSError."""
        try:
            lines = statements.read_text().splitlines()
        except FileNotFoundError:
            return cls(current)
        return cls(current, tuple(_former(current, lines)))

    def signed(self, signature: str, message: bytes, stream: str, sequence: int) -> bool:
        """True if a valid key signed ``message``, which is about the record ``sequence``. ``signature`` is base64.

        A former key's signatures are valid only for records up to its replacement: an attacker may have the key.
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
    """The statement that a key was replaced, as one line. ``former_key`` is None if that key was lost."""
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
    """The key's 32 bytes in base64, as in statements."""
    return base64.b64encode(key.public_bytes_raw()).decode()


def _former(current: Ed25519PublicKey, lines: Iterable[str]) -> list[FormerKey]:
    """The former keys, newest first, found from ``current`` backwards.

    Other statements are ignored: their replacement was interrupted, or they are another instance's.
    """
    known, found = {key_text(current)}, []
    for line in reversed(list(lines)):
        try:
            fields = orjson.loads(line)
            new, former = (_key(fields[name]) for name in ("key", "former"))
            through = {str(stream): int(number) for stream, number in fields["through"].items()}
            signature = fields["signature"]
            message = _message(fields)
        except (AttributeError, KeyError, TypeError, ValueError):
            continue  # incomplete, because the machine stopped while the line was written
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
