"""Reads and writes the payloads of the provisioning topics, in JSON and in CBOR.

The texts of rejections are those of AWS's documents, or those that the service was observed to send.
"""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import cbor2
import orjson

from thingmint.domain import errors

if TYPE_CHECKING:
    from collections.abc import Mapping


Format = Literal["json", "cbor"]

_MAX_SIZE = 65_536  # bytes
_SHOWABLE = re.compile(r"[A-Za-z0-9_:.-]{1,64}", re.ASCII)
_MAX_DEPTH = 4  # of CBOR; requests have two levels


class Unreadable(Exception):
    """The payload is invalid. The error has no text: nothing of the payload must get into logs or replies."""


def read_payload(payload: bytes, format: Format) -> Mapping[str, Any]:
    """Reads one map with text keys. Raises Unreadable for anything else, and for a repeated key."""
    if len(payload) > _MAX_SIZE:
        raise Unreadable
    document = _read_json(payload) if format == "json" else _read_cbor(payload)
    if not isinstance(document, dict) or not all(map(_is_text, document)):
        raise Unreadable
    return document


def write_payload(document: Mapping[str, object], format: Format) -> bytes:
    """Writes CBOR with definite lengths: parsers for small devices read no others."""
    return orjson.dumps(document) if format == "json" else cbor2.dumps(document)


def read_text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not _is_text(value):
        raise Unreadable
    assert isinstance(value, str)
    return value


def read_optional_text(document: Mapping[str, Any], name: str) -> str | None:
    return read_text(document, name) if name in document else None


def read_parameters(document: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Returns the template's parameters, if any, and the names of those that were converted from numbers or booleans.

    AWS documents only text. Some firmware sends numbers: a template uses their JSON text. Raises InvalidParameters,
    which names the parameter.
    """
    value = document.get("parameters", {})
    if not isinstance(value, dict) or not all(map(_is_text, value)):
        raise Unreadable
    texts, converted = {}, []
    for name, given in value.items():
        if isinstance(given, str):
            texts[name] = given
        elif isinstance(given, int) or (isinstance(given, float) and math.isfinite(given)):
            texts[name] = json.dumps(given)
            converted.append(name)
        if not _is_text(texts.get(name)):
            shown = name if _SHOWABLE.fullmatch(name) else "a parameter"
            raise errors.InvalidParameters(f"The value of {shown} must be text, a number or a boolean")
    return texts, converted


def _is_text(value: object) -> bool:
    """True for text without NUL and lone surrogates. JSON can escape these, but CBOR and the stores refuse them."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


def _read_json(payload: bytes) -> object:
    try:
        return json.loads(payload.decode(), object_pairs_hook=_without_repetition, parse_constant=_refuse)
    except (ValueError, RecursionError):  # bad UTF-8 and syntax, integers of thousands of digits, depth
        raise Unreadable from None


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise Unreadable
    return made


def _refuse(*_: object) -> NoReturn:
    raise Unreadable


class _EveryTag(dict[int, Any]):
    """Refuses the tags that the library decodes: shared references, rational numbers, regular expressions and more."""

    def __missing__(self, key: int) -> Any:
        return _refuse


def _read_cbor(payload: bytes) -> object:
    source = io.BytesIO(payload)
    try:
        decoder = cbor2.CBORDecoder(
            source,
            tag_hook=_refuse,
            semantic_decoders=_EveryTag(),
            max_depth=_MAX_DEPTH,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
        document: object = decoder.decode()
    except (cbor2.CBORError, ValueError, RecursionError):
        raise Unreadable from None
    if source.tell() != len(payload):
        raise Unreadable
    return document


_STEPS: Mapping[errors.ProvisioningRefused.Step, tuple[int, str]] = {
    "key": (403, "AccessDenied"),
    "template": (400, "InvalidTemplate"),
    "token": (400, "InvalidCertificateOwnershipToken"),
    "denied": (403, "AccessDenied"),
    "invocation": (400, "InvocationError"),
    "result": (400, "InvalidResult"),
}


@dataclass(frozen=True, slots=True)
class Rejection:
    status: int
    code: str
    message: str

    def document(self) -> dict[str, object]:
        return {"statusCode": self.status, "errorCode": self.code, "errorMessage": self.message}


def rejection_of(error: Exception, request_id: str) -> Rejection:
    """Returns the reply for an error. For an unexpected error it has only the request id, to be found in the log."""
    match error:
        case Unreadable():
            return Rejection(400, "InvalidPayload", "Message cannot be parsed")
        case errors.ProvisioningRefused():
            status, code = _STEPS[error.step]
            return Rejection(status, code, error.reason)
        case errors.ProvisioningFailed():
            return Rejection(400, "ProvisioningFailed", _failure(error, request_id))
        case errors.InvalidParameters():
            return Rejection(400, "InvalidParameters", str(error))
        case errors.InvalidSigningRequest():
            return Rejection(400, "InvalidCertificateSigningRequest", f"CSR violates constraints: {error}")
        case errors.Invalid():
            return Rejection(400, "InvalidRequest", str(error))
        case errors.LimitExceeded():
            # AWS has no such quota, and so no code. This is the control plane's LimitExceededException, named as the
            # other codes here are.
            return Rejection(410, "LimitExceeded", error.reason)
        case errors.Throttled():
            return Rejection(429, "Throttling", "Rate exceeded")
        case errors.Unavailable():
            return Rejection(503, "ServiceUnavailable", "The service is temporarily unavailable")
        case _:
            return Rejection(500, "InternalFailure", f"An internal failure occurred (Request ID: {request_id})")


def why(error: Exception) -> str:
    """Returns the reason for the audit log."""
    if isinstance(error, Unreadable):
        return "the payload cannot be parsed"
    return str(error) if isinstance(error, errors.DomainError) else type(error).__name__


def _failure(failed: errors.ProvisioningFailed, request_id: str) -> str:
    """Returns the message in AWS's form. It does not name the permission that the role lacks; the log does."""
    status, code, message = 400, "ResourceRegistrationFailureException", failed.reason
    if isinstance(failed.cause, errors.Denied):
        status, code = 403, "AccessDeniedException"
        message = "The provisioning role is not authorized to perform an action of the template"
    return (
        f"Register thing workflow execution terminates due to: {message} "
        f"(Service: AWSIot; Status Code: {status}; Error Code: {code}; Request ID: {request_id}; Proxy: null)"
    )
