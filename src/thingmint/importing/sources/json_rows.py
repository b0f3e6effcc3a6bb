"""Reads lists of JSON objects of any length in bounded memory, whatever tool has written them."""

from __future__ import annotations

import codecs
import io
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import ijson
import orjson

from thingmint.importing.batches import SourceError
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Row = dict[str, Any]

_MAX_SMALL = 4 * 1024 * 1024  # bytes of a file that is read at once
_CHUNK = 65_536
_DEEPEST = 20  # lists and objects within each other
_CAPITAL = re.compile("[A-Z]")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:?\d\d)?")
# PowerShell writes UTF-16 where other shells write UTF-8.
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


class Damaged(SourceError):
    """A file is not what it should be. The text says where, and quotes nothing of it."""


class _AsUtf8(io.RawIOBase):
    """A file's content in UTF-8, in pieces. Raises UnicodeDecodeError."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._left = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._left:
            chunk = self._file.read(_CHUNK)
            self._left = self._decoder.decode(chunk, final=not chunk).encode()
            if not chunk:
                break
        given, self._left = (self._left, b"") if size < 0 else (self._left[:size], self._left[size:])
        return given


def rows_of(path: Path, name: str) -> Iterator[Row]:
    """The objects of a list in a file, with keys in snake case. Nothing, for ``null`` and for an empty file.

    ``name`` is the list's key if an object has the list, as the service's own answers do. Raises Damaged: the rows
    before the damage have come by then.
    """
    try:
        with path.open("rb") as file:
            yield from _rows(file, name)
    except OSError as error:
        raise Damaged(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise Damaged(f"{path} is not text in {error.encoding.upper()}") from None
    except (ijson.JSONError, ValueError) as error:
        # The parser's own text quotes the file.
        flaw = "ends in the middle: it was cut off" if "premature EOF" in str(error) else "is not a list in JSON"
        raise Damaged(f"{path} {flaw}") from None


def _rows(file: BinaryIO, name: str) -> Iterator[Row]:
    head = file.read(4)
    encoding = "utf-8"
    for mark, known in _MARKS:
        if head.startswith(mark):
            encoding = known
            head = head[len(mark) :]
            break
    file.seek(-len(head), io.SEEK_CUR)
    content = _Peeked(_AsUtf8(file, encoding))
    first = content.first()
    if first in (b"", b"n"):  # null
        if content.read().strip() not in (b"", b"null"):
            raise ValueError
        return
    if first not in (b"[", b"{"):
        raise ValueError
    yield from _built(ijson.basic_parse(content, use_float=True, multiple_values=True), None if first == b"[" else name)


def _built(events: Iterator[tuple[str, Any]], name: str | None) -> Iterator[Row]:
    """The objects of the lists in a stream of events; with a name, of the list that an object has by that name.

    ijson's own ``items`` takes memory with the square of the depth. Raises ValueError.
    """
    depth, at, within = 0, 1 if name is None else 2, name is None
    found = other = False
    builder: ijson.ObjectBuilder | None = None
    for event, value in events:
        closes = event in ("end_map", "end_array")
        depth -= closes
        if builder is not None:
            builder.event(event, value)
            if depth == at:
                yield in_snake_case(builder.value)
                builder = None
        elif name is not None and depth == 1 and event == "map_key":
            within = value == name
            found, other = found or within, other or not within
        elif within and not closes:
            if event != ("start_map" if depth == at else "start_array") and (depth == at or event != "null"):
                raise ValueError
            if depth == at:
                builder = ijson.ObjectBuilder()
                builder.event(event, value)
        depth += event in ("start_map", "start_array")
        if depth > _DEEPEST:
            raise ValueError
    if other and not found:  # an object of another kind, such as an error; an empty answer has no list at all
        raise ValueError


class _Peeked:
    """A file whose first character that is not white space can be looked at."""

    def __init__(self, file: _AsUtf8) -> None:
        self._file = file
        self._head = b""

    def first(self) -> bytes:
        while not self._head:
            chunk = self._file.read(_CHUNK)
            if not chunk:
                return b""
            self._head = chunk.lstrip()
        return self._head[:1]

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._file.read(size)
        given, self._head = (self._head, b"") if size < 0 else (self._head[:size], self._head[size:])
        return given + (self._file.read() if size < 0 else b"")


def small_rows(path: Path, name: str) -> list[Row]:
    """The same of a small file, which may have one object instead of a list. Raises Damaged, and FileNotFoundError."""
    try:
        if path.stat().st_size > _MAX_SMALL:
            raise Damaged(f"{path} is larger than {_MAX_SMALL // 1024 // 1024} MiB")
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(f"{path} cannot be read: {error.strerror}") from None
    if not content.strip():
        return []
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return list(rows_of(path, name))  # it may be in another encoding; else this says what is wrong
    if isinstance(found, dict):
        found = [found] if "id" in found else found.get(name, {} if found else [])
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise Damaged(f"{path} is not a list of objects")
    return [in_snake_case(row) for row in found]


def in_snake_case(row: Row) -> Row:
    """The object with its own keys, not those within, in snake case: tools write registryId or registry_id."""
    return {_CAPITAL.sub(lambda match: f"_{match[0].lower()}", key): value for key, value in row.items()}


def micros_of(time: object) -> int | None:
    """The microseconds since 1970 of a time as RFC 3339 writes it, or as protobuf's JSON does; None for others."""
    if isinstance(time, dict) and isinstance(time.get("seconds"), int | str):
        try:
            return int(time["seconds"]) * 1_000_000 + int(time.get("nanos") or 0) // 1000
        except ValueError:
            return None
    match = _TIME.fullmatch(time) if isinstance(time, str) else None
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in (None, 'Z', 'z') else zone}")
    except ValueError:
        return None
    return to_micros(moment.astimezone(UTC)) + int((fraction or "0").ljust(6, "0")[:6])
