"""Splits BER (X.690) into elements, for input that is not DER.

The work is bounded by the length of the input: no function reads a byte twice, and none calls itself.
"""

from __future__ import annotations

from typing import Final

_MAX_DEPTH: Final = 32  # of elements of indefinite length within each other
_MAX_LENGTH_BYTES: Final = 4
_END: Final = b"\0\0"


class Malformed(ValueError):
    """The bytes are not the expected elements."""


def first(data: bytes) -> bytes:
    """Return the element at the beginning of ``data``. Raises Malformed."""
    return data[: _end(data, 0)]


def content(element: bytes) -> bytes:
    """Return the content of an element. Raises Malformed."""
    start, size = _header(element, 0)
    return element[start:-2] if size is None else element[start : start + size]


def elements(element: bytes) -> list[bytes]:
    """Return the elements inside an element, each with tag and length. Raises Malformed."""
    inside = content(element)
    found, at, size = [], 0, len(inside)
    while at < size:
        # Fast path: most elements are short, with a tag and a length of one byte each.
        end = at + 2 + inside[at + 1] if at + 1 < size and inside[at + 1] < 0x80 and ~inside[at] & 0x1F else size + 1
        if end > size:
            end = _end(inside, at)
        found.append(inside[at:end])
        at = end
    return found


def _header(data: bytes, at: int) -> tuple[int, int | None]:
    """Return the start and the size of the content of the element at ``at``. The size is None for indefinite length."""
    try:
        tag, length, at = data[at], data[at + 1], at + 2
        if tag & 0x1F == 0x1F:
            raise Malformed("a tag of more than one byte")  # X.509 has none
        if length < 0x80:
            return at, length
        if length == 0x80:
            if not tag & 0x20:
                raise Malformed("a primitive element of indefinite length")
            return at, None
    except IndexError:
        raise Malformed("the bytes end within a header") from None
    digits = data[at : at + (length & 0x7F)]
    if len(digits) < length & 0x7F or len(digits.lstrip(b"\0")) > _MAX_LENGTH_BYTES:
        raise Malformed("a length that cannot be")
    return at + len(digits), int.from_bytes(digits, "big")


def _end(data: bytes, at: int) -> int:
    """Return the end of the element at ``at``."""
    depth = 0
    while True:
        if depth and data[at : at + 2] == _END:
            depth, at = depth - 1, at + 2
        else:
            at, size = _header(data, at)
            if size is None:
                depth += 1
                if depth > _MAX_DEPTH:
                    raise Malformed("too many elements within each other")
                continue
            at += size
            if at > len(data):
                raise Malformed("the bytes end within an element")
        if depth == 0:
            return at
