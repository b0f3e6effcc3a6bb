"""Parsers that read an operation's input from path labels, query, headers and body into one dict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from thingmint.aws.contract import percent
from thingmint.aws.contract.decoding import Field, InputCompiler, fields_decoder, load_body
from thingmint.aws.contract.scalars import Shape, scalar_decoder
from thingmint.aws.contract.violations import Violations, member_part, missing

if TYPE_CHECKING:
    from collections.abc import Sequence


Parse = Callable[[tuple[str, ...], bytes, Mapping[bytes, bytes], bytes], dict[str, Any]]
"""Labels, raw query, headers by lower-case name, body."""


def bind_input(shape: Shape, labels: Sequence[str], shapes: Mapping[str, Shape], compiler: InputCompiler) -> Parse:
    """The parser of one operation's requests, which raises Invalid and nothing else: one for all violated constraints.

    The field of an Invalid is the member's name on the wire, or ``body``. Raises ValueError if the model has something
    that is not implemented here: lists or maps outside the body, header prefixes, payloads of other types than
    structures and blobs.
    """
    located = _by_location(shape, shapes, compiler)
    by_label = {field[0]: field for field in located["uri"]}
    if sorted(by_label) != sorted(labels):
        raise ValueError(f"the labels {labels} do not fit the members {sorted(by_label)}")
    in_path = tuple(by_label[name] for name in labels)
    read_query = _query_reader(located["querystring"])
    read_headers = _header_reader(located["header"])
    read_body = _body_reader(shape, located["body"], shapes)
    needs_body = any(required for _, _, required, _ in located["body"])

    def parse(labels: tuple[str, ...], query: bytes, headers: Mapping[bytes, bytes], body: bytes) -> dict[str, Any]:
        out: dict[str, Any] = {}
        found: Violations | None = None
        try:
            for text, (wire, member, _, decode) in zip(labels, in_path, strict=True):
                try:
                    out[member] = decode(text)
                except Violations as violations:
                    found = violations.within(member_part(wire, member), found)
            if read_query is not None:
                found = read_query(query, out, found)
            if read_headers is not None:
                found = read_headers(headers, out, found)
            if body or needs_body:
                try:
                    out.update(read_body(body))
                except Violations as violations:
                    found = violations.after(found)
        except Violations as violations:
            found = violations
        if found is not None:
            raise found.error()
        return out

    return parse


def _by_location(shape: Shape, shapes: Mapping[str, Shape], compiler: InputCompiler) -> dict[str, list[Field]]:
    located: dict[str, list[Field]] = {"uri": [], "querystring": [], "header": [], "body": []}
    for member, reference in shape["members"].items():
        location = reference.get("location", "body")
        if location == "body":
            located[location].append(compiler.field(shape, member))
        elif location in located:
            wire = reference.get("locationName", member)
            decode = scalar_decoder(shapes[reference["shape"]], text=True)
            located[location].append((wire, member, member in shape.get("required", ()), decode))
        else:
            raise ValueError(f"{member}: the location {location} is not supported")
    return located


def _header_text(raw: bytes) -> str:
    """A header's text. RFC 9110 section 5.5 leaves the encoding open: new clients send UTF-8, http.client Latin-1."""
    raw = raw.strip(b" \t")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


_ReadHeaders = Callable[[Mapping[bytes, bytes], dict[str, Any], Violations | None], Violations | None]
_ReadQuery = Callable[[bytes, dict[str, Any], Violations | None], Violations | None]


def _header_reader(fields: Sequence[Field]) -> _ReadHeaders | None:
    if not fields:
        return None
    table = tuple((wire.lower().encode(), *field) for field in fields for wire in field[:1])

    def read(headers: Mapping[bytes, bytes], out: dict[str, Any], found: Violations | None) -> Violations | None:
        for key, wire, member, required, decode in table:
            raw = headers.get(key)
            if raw is None:
                if required:
                    found = missing(member_part(wire, member)).after(found)
                continue
            try:
                out[member] = decode(_header_text(raw))
            except Violations as violations:
                found = violations.within(member_part(wire, member), found)
        return found

    return read


def _query_reader(fields: Sequence[Field]) -> _ReadQuery | None:
    if not fields:
        return None
    names = {wire.encode(): wire for wire, _, _, _ in fields}
    are_optional = not any(required for _, _, required, _ in fields)

    def read(query: bytes, out: dict[str, Any], found: Violations | None) -> Violations | None:
        if not query and are_optional:
            return found
        values = percent.query_values(query, names)
        for wire, member, required, decode in fields:
            text = values.get(wire)
            if text is None:
                if required:
                    found = missing(member_part(wire, member)).after(found)
                continue
            try:
                out[member] = decode(text)
            except Violations as violations:
                found = violations.within(member_part(wire, member), found)
        return found

    return read


def _body_reader(
    shape: Shape, fields: Sequence[Field], shapes: Mapping[str, Shape]
) -> Callable[[bytes], dict[str, Any]]:
    if not fields:
        return _no_members
    if "payload" not in shape:
        decode = fields_decoder(fields)
        return lambda body: decode(load_body(body))
    if len(fields) != 1 or fields[0][1] != shape["payload"]:
        raise ValueError(f"members {[member for _, member, _, _ in fields]} beside the payload {shape['payload']}")
    wire, member, required, _ = fields[0]
    if shapes[shape["members"][member]["shape"]]["type"] == "blob":
        return _blob_reader(wire, member, required=required)
    decode_payload = fields_decoder(fields)
    return lambda body: decode_payload({wire: load_body(body)} if body else {})


def _blob_reader(wire: str, member: str, *, required: bool) -> Callable[[bytes], dict[str, Any]]:
    """The whole body is the member, as it was sent."""

    def read(body: bytes) -> dict[str, Any]:
        if required and not body:
            raise missing(member_part(wire, member))
        return {member: body}

    return read


def _no_members(body: bytes) -> dict[str, Any]:
    load_body(body)  # if there is a body, it must still be a JSON object
    return {}
