"""AWS's query protocol, as far as the Security Token Service needs it: requests in forms, answers in XML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from botocore.loaders import Loader

from thingmint.domain.errors import DomainError

if TYPE_CHECKING:
    from collections.abc import Iterator

    Shape = Mapping[str, Any]

VERSION = "2011-06-15"
_NAMESPACE = f"https://sts.amazonaws.com/doc/{VERSION}/"
_MAX_FIELDS = 200
_INTEGER = re.compile(r"-?[0-9]{1,9}")


class QueryError(DomainError):
    """A refusal with a code of the service."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class QueryOperation:
    """``members`` has the model's shape of each scalar member of the input."""

    name: str
    members: Mapping[str, Shape]
    required: frozenset[str]

    def parse(self, fields: Mapping[str, str]) -> dict[str, Any]:
        """The scalar members of the input. Raises QueryError with all violations, in AWS's words."""
        parsed: dict[str, Any] = {}
        found = []
        for name, shape in self.members.items():
            given = fields.get(name)
            if given is None:
                if name in self.required:
                    found.append((name, "must not be null"))
                continue
            found += [(name, flaw) for flaw in _flaws(shape, given)]
            parsed[name] = int(given) if shape["type"] == "integer" and _INTEGER.fullmatch(given) else given
        if found:
            count = f"{len(found)} validation error{'s' if len(found) > 1 else ''} detected"
            # AWS quotes the value, which an answer of this server never does.
            texts = [f"Value at '{_lower(name)}' failed to satisfy constraint: Member {why}" for name, why in found]
            raise QueryError("ValidationError", f"{count}: {'; '.join(texts)}")
        return parsed


def load_contract() -> dict[str, QueryOperation]:
    """The operations of the Security Token Service."""
    model: Any = Loader().load_service_model("sts", "service-2", VERSION)
    shapes = model["shapes"]
    operations = {}
    for name, operation in model["operations"].items():
        shape = shapes[operation["input"]["shape"]] if "input" in operation else {}
        members = {member: shapes[ref["shape"]] for member, ref in shape.get("members", {}).items()}
        scalars = {member: each for member, each in members.items() if each["type"] in ("string", "integer")}
        operations[name] = QueryOperation(name, scalars, frozenset(shape.get("required", ())))
    return operations


def read_form(query: bytes, body: bytes) -> dict[str, str]:
    """The fields of the query string and of the form in the body. Raises QueryError."""
    try:
        pairs = parse_qsl(
            b"&".join(part for part in (query, body) if part).decode(),
            keep_blank_values=True,
            max_num_fields=_MAX_FIELDS,
            errors="strict",
        )
    except ValueError:  # not UTF-8, or too many fields
        raise QueryError("MalformedQueryString", "The query string contains a syntax error") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise QueryError("MalformedQueryString", "A parameter was given more than once")
    return fields


def answer_document(operation: str, result: Mapping[str, Any], request_id: str) -> bytes:
    inner = "".join(_elements({f"{operation}Result": result}))
    return (
        f'<{operation}Response xmlns="{_NAMESPACE}">{inner}'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>"
    ).encode()


def error_document(code: str, message: str, request_id: str, *, is_sender: bool) -> bytes:
    error = {"Type": "Sender" if is_sender else "Receiver", "Code": code, "Message": message}
    inner = "".join(_elements({"Error": error, "RequestId": request_id}))
    return f'<ErrorResponse xmlns="{_NAMESPACE}">{inner}</ErrorResponse>'.encode()


def _elements(members: Mapping[str, Any]) -> Iterator[str]:
    for name, value in members.items():
        if value is None:
            continue
        content = "".join(_elements(value)) if isinstance(value, Mapping) else escape(str(value))
        yield f"<{name}>{content}</{name}>"


def _flaws(shape: Shape, text: str) -> Iterator[str]:
    """The violated constraints, in AWS's words."""
    least, most, pattern = shape.get("min"), shape.get("max"), shape.get("pattern")
    if shape["type"] == "integer":
        if not _INTEGER.fullmatch(text):
            yield "must be an integer"
        elif least is not None and int(text) < least:
            yield f"must have value greater than or equal to {least}"
        elif most is not None and int(text) > most:
            yield f"must have value less than or equal to {most}"
        return
    if least is not None and len(text) < least:
        yield f"must have length greater than or equal to {least}"
    if most is not None and len(text) > most:
        yield f"must have length less than or equal to {most}"
    elif pattern is not None and not re.fullmatch(pattern, text, re.ASCII):
        yield f"must satisfy regular expression pattern: {pattern}"


def _lower(name: str) -> str:
    return name[0].lower() + name[1:]
