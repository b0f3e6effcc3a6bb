"""The text of distinguished names, also of those whose encoding the strict reader refuses.

Manufacturers write "_", "@", "*" and "&" into PrintableString, UTF-8 into strings of any type, and sets in any order.
"""

from __future__ import annotations

import contextlib
from typing import Final, NamedTuple

from cryptography import x509

from thingmint.domain import ber
from thingmint.domain.certificate_parts import TLS_STRINGS
from thingmint.domain.der import SEQUENCE, element
from thingmint.domain.x509_pieces import read_name

Texts = list[tuple[x509.ObjectIdentifier, str]]

_SET: Final = 0x31
_OID: Final = 0x06
_UTF8_STRING: Final = 0x0C
_MAX_OID_BYTES: Final = 64
_MAX_BYTES: Final = 4096  # of a name that the lenient reader reads, and of the subject of a certificate that we issue

# Tags of string types, each with the encoding of its text.
_ENCODINGS: Final = {
    0x0C: "utf-8",
    0x12: "ascii",  # NumericString
    0x13: "ascii",  # PrintableString
    0x14: "ascii",  # TeletexString: beyond ASCII each library reads it in its own way
    0x16: "ascii",  # IA5String
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}


class _Attribute(NamedTuple):
    """``type`` is the content of the object identifier."""

    type: bytes
    tag: int
    value: bytes


def texts_in(name: x509.Name) -> Texts:
    return [(each.oid, each.value) for each in name if isinstance(each.value, str)]


def texts_of(name: bytes) -> Texts:
    """Return the attributes of a name that are text. They are safe to base decisions on.

    If the strict reader refuses the name, the result is all attributes or none. It is all of them only if they have one
    string type and contain no control characters such as NUL.
    """
    try:
        return texts_in(read_name(name))
    except ValueError:
        pass
    if len(name) > _MAX_BYTES:
        return []
    try:
        attributes = [attribute for group in _groups(name) for attribute in group]
        if len({attribute.tag for attribute in attributes}) > 1:
            return []
        texts = [(_oid(each.type), each.value.decode(_ENCODINGS[each.tag])) for each in attributes]
    except (ValueError, KeyError):
        return []
    return texts if all(text.isprintable() for _, text in texts) else []


def for_issuing(subject: bytes) -> x509.Name:
    """Return the name unchanged, or in UTF8String if the strict reader or the TLS library cannot read it.

    Raises ValueError with a phrase that fits after "a subject".
    """
    if len(subject) > _MAX_BYTES:
        raise ValueError(f"of more than {_MAX_BYTES} bytes")
    try:
        groups = _groups(subject)
    except ValueError:
        raise ValueError("that cannot be read") from None
    if all(attribute.tag in TLS_STRINGS for group in groups for attribute in group):
        with contextlib.suppress(ValueError):
            return read_name(subject)
    # X.690 11.6: the members of a set are in ascending order.
    groups_in_der = [element(_SET, b"".join(sorted(map(_as_utf8, group)))) for group in groups if group]
    try:
        return read_name(element(SEQUENCE, b"".join(groups_in_der)))
    except ValueError:
        raise ValueError("with an attribute whose type cannot be read") from None


def _groups(name: bytes) -> list[list[_Attribute]]:
    """Return the attributes of a name: a SEQUENCE OF SET OF SEQUENCE { type, value } (RFC 5280 4.1.2.4).

    Raises ValueError.
    """
    groups = ber.elements(name)
    if any(group[0] != _SET for group in groups):
        raise ber.Malformed("not a name")
    return [[_attribute(pair) for pair in ber.elements(group)] for group in groups]


def _attribute(pair: bytes) -> _Attribute:
    oid, value = ber.elements(pair) if pair[0] == SEQUENCE else (b"", b"")
    if oid[:1] != bytes([_OID]):
        raise ber.Malformed("an attribute without a type")
    return _Attribute(ber.content(oid), value[0], ber.content(value))


def _oid(content: bytes) -> x509.ObjectIdentifier:
    """Decode an object identifier (X.690 8.19). Raises ValueError."""
    if not content or content[-1] & 0x80 or len(content) > _MAX_OID_BYTES:
        raise ber.Malformed("half an object identifier, or a very long one")
    arcs, arc = [], 0
    for byte in content:
        arc = arc << 7 | byte & 0x7F
        if not byte & 0x80:
            arcs.append(arc)
            arc = 0
    top = min(arcs[0] // 40, 2)
    return x509.ObjectIdentifier(".".join(str(arc) for arc in (top, arcs[0] - 40 * top, *arcs[1:])))


def _as_utf8(attribute: _Attribute) -> bytes:
    """Return the attribute encoded with a UTF8String. Raises ValueError."""
    encoding = _ENCODINGS.get(attribute.tag)
    if encoding is None:
        raise ValueError("with an attribute that is not text")
    try:
        text = attribute.value.decode("utf-8" if encoding == "ascii" else encoding)
    except UnicodeDecodeError:
        if encoding != "ascii":
            raise ValueError("with text that cannot be read") from None
        text = attribute.value.decode("latin-1")  # as OpenSSL and Go read it
    if not text or not text.isprintable():
        raise ValueError("with an attribute that is empty or contains control characters")
    return element(SEQUENCE, element(_OID, attribute.type) + element(_UTF8_STRING, text.encode()))
