"""AWS IoT's credential provider: a device exchanges its certificate for temporary credentials of a role.

"Authorizing direct calls to AWS services using AWS IoT Core credential provider" in AWS's guide. awscrt, Greengrass and
the Kinesis Video producer parse exactly this JSON. awscrt refuses answers of more than 2,048 bytes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import orjson

from thingmint.access.context import Caller
from thingmint.access.device_credentials import NoCredentials
from thingmint.domain.arns import arn, arn_of
from thingmint.domain.errors import DomainError, Failed, Invalid, Throttled, Unauthenticated, Unavailable
from thingmint.http.messages import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.access.context import Outcome, RequestContext
    from thingmint.access.device_credentials import DeviceSessionIssuer
    from thingmint.access.throttle import Throttle
    from thingmint.http.messages import Incoming
    from thingmint.services.authentication_decisions import Accepted, AuthenticationRequest

OPERATION = "AssumeRoleWithCertificate"

_PATH = re.compile(rb"/role-aliases/([^/]{1,384})/credentials")
_ALIAS = re.compile(r"[\w=,@-]{1,128}", re.ASCII)
_THING = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_THING_HEADER = b"x-amzn-iot-thingname"

CODES: Mapping[int, str] = {
    400: "InvalidRequestException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    500: "InternalFailureException",
    503: "ServiceUnavailableException",
}
"""The error type of each HTTP status."""


class _UnknownPath(DomainError):
    """Nothing is served at this method and path."""


@dataclass(slots=True)
class _Asked:
    """``alias`` is None if the path names none. ``device`` is set by authenticate()."""

    alias: str | None
    request: AuthenticationRequest | None
    device: Accepted | None = None


class CredentialProvider:
    """An HttpApi. ``per_device`` limits how often one certificate gets credentials, ``throttle`` an account."""

    def __init__(self, issuer: DeviceSessionIssuer, throttle: Throttle, per_device: Throttle) -> None:
        self._issuer = issuer
        self._throttle = throttle
        self._per_device = per_device

    def route(self, context: RequestContext, incoming: Incoming) -> tuple[RequestContext, _Asked]:
        alias = _alias(incoming.raw_path) if incoming.method == "GET" else None
        request, thing = incoming.device, incoming.header(_THING_HEADER)
        if request is not None and thing is not None:
            request = replace(request, thing=thing.decode("latin-1"))
        return context.of(OPERATION if alias is not None else "-", api="credentials"), _Asked(alias, request)

    async def authenticate(self, context: RequestContext, route: _Asked, incoming: Incoming) -> RequestContext:
        del incoming
        request = route.request
        if request is None or request.fingerprint is None:
            raise Unauthenticated("missing", "Certificate is invalid on this endpoint", "no client certificate")
        if request.thing is not None and not _THING.fullmatch(request.thing):
            # No thing has that name. The store may refuse it, so it is looked for under a name that no thing has.
            request = replace(request, thing="")
        route.device = device = await self._issuer.authenticate(request)
        caller = Caller(
            account=device.scope.account,
            regions=(device.scope.region,),
            principal=device.fingerprint,
            name=device.thing or "",
            arn=arn_of(device.scope, device.fingerprint),
            credential=device.fingerprint,
            policies=(),
        )
        return context.by(caller, device.scope)

    async def decode(self, context: RequestContext, route: _Asked, incoming: Incoming) -> tuple[RequestContext, None]:
        await incoming.whole()
        assert context.caller is not None, "devices are authenticated first"
        self._throttle.take(context.caller.account, OPERATION)
        self._per_device.take(f"{context.caller.account} {context.caller.principal}", OPERATION)
        if route.alias is None:
            raise _UnknownPath("Not Found")
        thing = route.request.thing if route.request is not None else None
        named = thing is not None and _THING.fullmatch(thing)
        return replace(context, parameters={"thing": str(thing)} if named else None), None

    async def serve(self, context: RequestContext, outcome: Outcome, route: _Asked, given: None) -> Answer:
        del given
        device, request, alias = route.device, route.request, route.alias
        assert device is not None, "devices are authenticated first"
        assert request is not None, "devices are authenticated first"
        assert alias is not None, "decode() refuses other paths"
        outcome.resource = arn(device.scope, f"rolealias/{alias}")
        try:
            made = await self._issuer.issue(device, request, alias)
        except NoCredentials as refusal:
            outcome.details = {"reason": refusal.why}
            outcome.explain = refusal.explain
            raise
        outcome.details = {"role": made.role, "accessKeyId": made.access_key_id}
        answer = {
            "credentials": {
                "accessKeyId": made.access_key_id,
                "secretAccessKey": made.secret_access_key,
                "sessionToken": made.session_token,
                "expiration": made.ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        }
        return Answer(200, [*_headers(context), (b"cache-control", b"no-store")], orjson.dumps(answer))

    def refuse(self, context: RequestContext, error: DomainError) -> Answer:
        status, message = _status_of(error)
        code, headers = CODES[status], _headers(context)
        body = {"message": message}
        if isinstance(error, _UnknownPath):
            code, body["traceId"] = "UnknownOperationException", context.id
        if isinstance(error, Throttled):
            headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
        headers.append((b"x-amzn-errortype", code.encode()))
        return Answer(status, headers, orjson.dumps(body), code)


def _status_of(error: DomainError) -> tuple[int, str]:
    match error:
        case NoCredentials():
            return error.status, error.message
        case Unauthenticated():
            return 403, error.message
        case _UnknownPath():
            return 404, str(error)
        case Throttled():
            return 429, str(error)
        case Failed():
            return 500, str(error)
        case Unavailable():
            return 503, str(error)
        case Invalid():
            return 400, str(error)
        case _:
            raise AssertionError(f"{type(error).__name__} is not mapped to an error of the credential provider")


def _alias(raw_path: bytes) -> str | None:
    """The alias that the path names, if it is one."""
    match = _PATH.fullmatch(raw_path)
    if match is None:
        return None
    alias = unquote_to_bytes(match[1]).decode("ascii", "replace")
    return alias if _ALIAS.fullmatch(alias) else None


def _headers(context: RequestContext) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"application/json"), (b"x-amzn-requestid", context.id.encode())]
