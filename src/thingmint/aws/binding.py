"""Where the members of an operation's input travel: labels, query, headers and body, read into one dict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from thingmint.aws import percent
from thingmint.aws.decoding import BodyField, InputCompiler, fields_decoder, load_body
from thingmint.aws.scalars import Decoder, Shape, Violation, scalar_decoder
from thingmint.identity.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Parse", "bind_input"]

Parse = Callable[[tuple[str, ...], bytes, Mapping[bytes, bytes], bytes], dict[str, Any]]
"""Labels, raw query, headers by lower-case name, body."""


def bind_input(shape: Shape, labels: Sequence[str], shapes: Mapping[str, Shape], compiler: InputCompiler) -> Parse:
    """Compiles the reader of one operation's requests; it raises Invalid and nothing else.

    The wire name of a member is the field of its Invalid, or ``body``. Raises ValueError for a model that needs what
    is not served here: lists or maps outside the body, header prefixes, payloads that are not structures.
    """
    label_fields: dict[str, tuple[str, str, Decoder]] = {}
    query_fields: list[BodyField] = []
    header_fields: list[tuple[bytes, str, str, bool, Decoder]] = []
    body_fields: list[BodyField] = []
    for member, reference in shape["members"].items():
        location = reference.get("location")
        wire = reference.get("locationName", member)
        required = member in shape.get("required", ())
        if location is None:
            body_fields.append(compiler.field(shape, member))
            continue
        decode = scalar_decoder(shapes[reference["shape"]], text=True)
        if location == "uri":
            label_fields[wire] = wire, member, decode
        elif location == "querystring":
            query_fields.append((wire, member, required, decode))
        elif location == "header" and shapes[reference["shape"]]["type"] == "string":
            header_fields.append((wire.lower().encode(), wire, member, required, decode))
        else:
            raise ValueError(f"{member}: the location {location} is not known")
    if sorted(label_fields) != sorted(labels):
        raise ValueError(f"the labels {labels} do not fit the members {sorted(label_fields)}")
    ordered = tuple(label_fields[name] for name in labels)
    headers_table = tuple(header_fields)
    read_query = _query_reader(query_fields)
    read_body = _body_reader(shape, body_fields)
    reads_no_body = any(required for _, _, required, _ in body_fields)

    def parse(labels: tuple[str, ...], query: bytes, headers: Mapping[bytes, bytes], body: bytes) -> dict[str, Any]:
        out: dict[str, Any] = {}
        wire = ""
        try:
            for text, (wire, member, decode) in zip(labels, ordered, strict=True):
                out[member] = decode(text)
            if read_query is not None:
                read_query(query, out)
            for key, wire, member, required, decode in headers_table:  # noqa: B007
                raw = headers.get(key)
                if raw is not None:
                    out[member] = decode(_header_text(raw))
                elif required:
                    raise Violation("is required")
            wire = ""
            if body or reads_no_body:
                out.update(read_body(body))
        except Violation as violation:
            raise Invalid(violation.field or wire, violation.reason) from None
        return out

    return parse


def _header_text(raw: bytes) -> str:
    """HTTP says octets (RFC 9110 section 5.5): UTF-8 is what new clients send, Latin-1 what http.client does."""
    raw = raw.strip(b" \t")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _query_reader(fields: Sequence[BodyField]) -> Callable[[bytes, dict[str, Any]], None] | None:
    if not fields:
        return None
    names = {wire.encode(): wire for wire, _, _, _ in fields}
    decoders = {wire: (member, decode) for wire, member, _, decode in fields}
    required = tuple((wire, member) for wire, member, needed, _ in fields if needed)

    def read(query: bytes, out: dict[str, Any]) -> None:
        if query:
            for wire, text in percent.query_values(query, names).items():
                member, decode = decoders[wire]
                try:
                    out[member] = decode(text)
                except Violation as violation:
                    violation.path.append(f".{wire}")
                    raise
        for wire, member in required:
            if member not in out:
                raise Violation("is required", f".{wire}")

    return read


def _body_reader(shape: Shape, fields: Sequence[BodyField]) -> Callable[[bytes], dict[str, Any]]:
    if not fields:
        return _no_members
    if "payload" not in shape:
        decode = fields_decoder(fields)
        return lambda body: decode(load_body(body))
    if len(fields) != 1 or fields[0][1] != shape["payload"]:
        raise ValueError(f"members {[member for _, member, _, _ in fields]} beside the payload {shape['payload']}")
    decode_payload = fields_decoder(fields)
    wire = fields[0][0]
    return lambda body: decode_payload({wire: load_body(body)} if body else {})


def _no_members(body: bytes) -> dict[str, Any]:
    load_body(body)  # what is there must still be a JSON object
    return {}
