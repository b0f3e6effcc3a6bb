"""The answer to a call as its page shows it: without secrets, and with what to do after a refusal."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from thingmint.console.playground.secrets import certificates_of, numbered, without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.console.playground.operations import Operation
    from thingmint.console.playground.schemas import Schemas
    from thingmint.console.playground.secrets import Saved
    from thingmint.http.invoking import Invoked

_MOST_SHOWN: Final = 200_000  # characters of an answer's body
_MOST_FILES: Final = 5
_THROTTLED: Final = frozenset({"ThrottlingException", "LimitExceededException", "RESOURCE_EXHAUSTED", "THROTTLED"})


class Shown(NamedTuple):
    """``text`` is the body, of which ``left_out`` characters are not shown. ``value`` is the body as JSON.
    ``files`` are the certificates in it.

    ``message`` is the API's own sentence about a refusal, ``meaning`` what its code means, ``advice`` what to do next.
    """

    status: int
    phrase: str
    code: str | None
    headers: Sequence[tuple[str, str]]
    text: str
    left_out: int
    value: Any
    secrets: tuple[Saved, ...]
    files: tuple[Saved, ...]
    milliseconds: float
    message: str
    meaning: str
    advice: str

    @property
    def is_refused(self) -> bool:
        return self.status >= HTTPStatus.BAD_REQUEST


@dataclass(frozen=True, slots=True)
class _Refusal:
    """The facts that advice depends on."""

    status: int
    code: str
    resource: str | None
    request: str
    permissions: Sequence[str]
    needs_one: bool
    region: str


def shown(operation: Operation, schemas: Schemas, invoked: Invoked, region: str) -> Shown:
    answer = invoked.answer
    value, secrets, text = _body(answer.body, operation.answer if answer.status == HTTPStatus.OK else None, schemas)
    refusal = _Refusal(
        answer.status,
        answer.code or "",
        invoked.outcome.resource,
        invoked.context.id,
        operation.permissions,
        operation.needs_one,
        region,
    )
    is_refused = answer.status >= HTTPStatus.BAD_REQUEST
    return Shown(
        status=answer.status,
        phrase=_phrase(answer.status),
        code=answer.code,
        headers=[(name.decode("latin-1"), content.decode("latin-1")) for name, content in answer.headers],
        text=text[:_MOST_SHOWN],
        left_out=max(0, len(text) - _MOST_SHOWN),
        value=value,
        secrets=secrets,
        files=tuple(islice(numbered(certificates_of(value)), _MOST_FILES)),
        milliseconds=(time.perf_counter() - invoked.context.started) * 1000,
        message=_message(value) if is_refused else "",
        meaning=next((each.meaning for each in operation.failures if each.code == answer.code), ""),
        advice=_advice(refusal) if is_refused else "",
    )


def _body(body: bytes, schema: Mapping[str, Any] | None, schemas: Schemas) -> tuple[Any, tuple[Saved, ...], str]:
    """The body as JSON without secrets, the secrets, and its text."""
    if not body:
        return None, (), ""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = body.decode("utf-8", "replace")
    value, secrets = without_secrets(value, schema, schemas)
    if isinstance(value, str):
        return value, secrets, value
    return value, secrets, orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _message(value: Any) -> str:
    """The sentence of an error in the form of any of the APIs."""
    if not isinstance(value, dict):
        return ""
    inner = value.get("error")
    found = value.get("message") or (inner.get("message") if isinstance(inner, dict) else None)
    return str(found) if found else ""


def _advice(refusal: _Refusal) -> str:
    if refusal.code in _THROTTLED or refusal.status == HTTPStatus.TOO_MANY_REQUESTS:
        return "Wait for a moment, and try again. If a quota is reached, delete what is not needed or raise the quota."
    match refusal.status:
        case HTTPStatus.BAD_REQUEST:
            return "Correct the field that the message names, and try again."
        case HTTPStatus.UNAUTHORIZED:
            return "The credential in the request itself is not accepted. Make a new one, and try again."
        case HTTPStatus.FORBIDDEN:
            allowed = (" or " if refusal.needs_one else " and ").join(refusal.permissions) or "this call"
            on = f" on {refusal.resource}" if refusal.resource and refusal.resource != "*" else ""
            return f"Ask an administrator for a policy that allows {allowed}{on}."
        case HTTPStatus.NOT_FOUND:
            return f"Check the name and the region, which is {refusal.region}; or look for it in the lists."
        case HTTPStatus.CONFLICT:
            return "Look at the resource that the message names, change what prevents the call, and try again."
        case HTTPStatus.NOT_IMPLEMENTED:
            return "Choose another operation: this server does not serve this one, or is not set up for it."
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return "The database cannot be used now. Try again in a moment."
        case _:
            return f"The server's log has the details under the request {refusal.request}."


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
