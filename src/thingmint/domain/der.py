"""Splits and builds DER (X.690) where the exact bytes matter."""

from __future__ import annotations

from typing import Final

BIT_STRING: Final = 0x03
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
CONSTRUCTED: Final = 0x20
"""The bit that is set in the tag of an element that consists of elements."""


def element(tag: int, content: bytes) -> bytes:
    """Return one element: tag, length in the shortest form, content."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def content(element: bytes) -> bytes:
    """Return the content of an element, which a strict parser must have accepted before."""
    return element[2 + (element[1] & 0x7F) :] if element[1] & 0x80 else element[2:]


def elements(element: bytes) -> list[bytes]:
    """Return the elements inside an element, each with tag and length. A strict parser must have accepted it before."""
    inside = content(element)
    found = []
    start = 0
    while start < len(inside):
        length = inside[start + 1]
        end = start + 2 + length
        if length & 0x80:
            end = start + 2 + (length & 0x7F)
            end += int.from_bytes(inside[start + 2 : end], "big")
        found.append(inside[start:end])
        start = end
    return found
