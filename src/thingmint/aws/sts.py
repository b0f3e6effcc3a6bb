"""The Security Token Service: who a caller is, and temporary credentials (three operations)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from thingmint.access.administration.credentials import check_trust, new_session
from thingmint.access.administration.declaring import AdminChange, check_document
from thingmint.access.administration.principals import PRINCIPALS, find_principal
from thingmint.access.authorization import authorize
from thingmint.aws.query_protocol import QueryError, answer_document, error_document, read_form
from thingmint.domain import errors
from thingmint.domain.arns import parse_role_arn
from thingmint.domain.policies import Kind
from thingmint.http.messages import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from thingmint.access.administration.declaring import Secrets
    from thingmint.access.audit import AuditedStore
    from thingmint.access.context import Caller, Outcome, RequestContext
    from thingmint.access.sigv4 import SigV4
    from thingmint.access.throttle import Throttle
    from thingmint.access.vault import Vault
    from thingmint.aws.query_protocol import QueryOperation
    from thingmint.domain.errors import DomainError
    from thingmint.http.messages import Incoming
    from thingmint.store.engine import Transaction

    _Given = tuple[QueryOperation, dict[str, Any]]

STATUS: Mapping[str, int] = {
    "AccessDenied": 403,
    "ExpiredToken": 403,
    "IncompleteSignature": 403,
    "InternalFailure": 500,
    "InvalidAction": 400,
    "InvalidClientTokenId": 403,
    "MalformedPolicyDocument": 400,
    "MalformedQueryString": 400,
    "MissingAuthenticationToken": 403,
    "NotImplemented": 501,
    "PackedPolicyTooLarge": 400,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "Throttling": 400,
    "ValidationError": 400,
}
"""The HTTP status of each code."""

_FLAWS: Mapping[errors.Unauthenticated.Flaw, str] = {
    "missing": "MissingAuthenticationToken",
    "malformed": "IncompleteSignature",
    "unknown": "InvalidClientTokenId",
    "wrong": "SignatureDoesNotMatch",
    "expired": "ExpiredToken",
}

# Members that would restrict the session, prove something, or change what policies see. Ignoring one would hide that.
_NOT_SERVED = (
    "PolicyArns",
    "ProvidedContexts",
    "SerialNumber",
    "SourceIdentity",
    "Tags",
    "TokenCode",
    "TransitiveTagKeys",
)
_AUDITED = ("RoleArn", "RoleSessionName", "DurationSeconds")
_MAX_POLICY = 2048  # characters, AWS's limit on a session's policy
_AN_HOUR, _HALF_A_DAY = 3600, 43200  # seconds

DEVIATIONS = {
    "GetSessionToken": (
        "`SerialNumber` and `TokenCode` (MFA) are refused, as leaving them out would change who may do what."
    ),
    "AssumeRole": (
        "Needs both the permission and the role's trust; at AWS, a trust policy that names a user of its own "
        "account is enough. Roles of other accounts are refused. PolicyArns, Tags, MFA and SourceIdentity are "
        "refused, as leaving them out would change who may do what."
    ),
}


@dataclass(frozen=True, slots=True)
class _Call:
    """What an operation may use."""

    context: RequestContext
    outcome: Outcome
    caller: Caller
    store: AuditedStore
    vault: Vault


async def _get_caller_identity(call: _Call, _members: Mapping[str, Any]) -> dict[str, Any]:
    caller = call.caller
    return {"Arn": caller.identity, "UserId": _user_id(caller.principal, caller.session), "Account": caller.account}


async def _assume_role(call: _Call, members: Mapping[str, Any]) -> dict[str, Any]:
    """The role must be of the caller's account. The caller needs sts:AssumeRole on it, and its trust policy decides."""
    caller, role_arn, name = call.caller, members["RoleArn"], members["RoleSessionName"]
    seconds, policy = members.get("DurationSeconds", _AN_HOUR), members.get("Policy")
    try:
        account, role_name = parse_role_arn(role_arn, "roleArn")
    except errors.Invalid:
        raise QueryError("ValidationError", "Request ARN is invalid") from None
    conditions = {"sts:RoleSessionName": name, "sts:ExternalId": members.get("ExternalId")}
    call.outcome.resource = role_arn
    if caller.is_device:  # the new session would not end with the certificate
        raise QueryError("AccessDenied", "Cannot call AssumeRole with the credentials of a device")
    authorize(call.context, "sts:AssumeRole", (role_arn,), conditions)
    if policy is not None and len(policy) > _MAX_POLICY:
        raise QueryError("PackedPolicyTooLarge", f"The session's policy must have at most {_MAX_POLICY} characters")
    check_document(policy, Kind.SESSION)
    if caller.session is not None and seconds > _AN_HOUR:
        raise QueryError(
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
        )

    async def body(tx: Transaction) -> tuple[str, Secrets]:
        role = await find_principal(tx, account, "role", role_name) if account == caller.account else None
        if role is None or role.status != "active":
            raise errors.Denied(caller.identity, "sts:AssumeRole", role_arn, explicit=False)
        check_trust(caller, role, conditions)
        if seconds > role.max_session_duration:
            reason = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            raise QueryError("ValidationError", reason)
        change = AdminChange(call.context.now, call.vault, request=call.context)
        return role.id, await new_session(tx, change, role, timedelta(seconds=seconds), policy, name)

    role_id, new = await call.store.write(body)
    arn = f"arn:aws:sts::{account}:assumed-role/{role_name}/{name}"
    assumed = {"AssumedRoleId": _user_id(role_id, name), "Arn": arn}
    return {"Credentials": _credentials(new), "AssumedRoleUser": assumed, **_packed_size(policy)}


async def _get_session_token(call: _Call, members: Mapping[str, Any]) -> dict[str, Any]:
    """A session of the caller, which needs no permission for it."""
    caller, seconds = call.caller, members.get("DurationSeconds", _HALF_A_DAY)
    call.outcome.resource = caller.arn
    if caller.credential.startswith("ASIA"):
        raise QueryError("AccessDenied", "Cannot call GetSessionToken with session credentials")

    async def body(tx: Transaction) -> Secrets:
        change = AdminChange(call.context.now, call.vault, request=call.context)
        principal = await PRINCIPALS.get(tx, caller.principal)
        return await new_session(tx, change, principal, timedelta(seconds=seconds), None)

    return {"Credentials": _credentials(await call.store.write(body))}


SERVED: Mapping[str, Callable[[_Call, Mapping[str, Any]], Awaitable[dict[str, Any]]]] = {
    "GetCallerIdentity": _get_caller_identity,
    "AssumeRole": _assume_role,
    "GetSessionToken": _get_session_token,
}


class StsApi:
    """A SignedApi. Requests have no path of their own: they are told apart by the service that they are signed for."""

    signing_names: Sequence[str] = ("sts",)

    def __init__(
        self,
        contract: Mapping[str, QueryOperation],
        sigv4: SigV4,
        throttle: Throttle,
        store: AuditedStore,
        vault: Vault,
    ) -> None:
        self._contract = contract
        self._sigv4 = sigv4
        self._throttle = throttle
        self._store = store
        self._vault = vault

    def is_route(self, method: str, raw_path: bytes) -> bool:
        del method, raw_path
        return False

    def route(self, context: RequestContext, incoming: Incoming) -> tuple[RequestContext, None]:
        del incoming
        return context.of("-", api="sts"), None

    async def authenticate(self, context: RequestContext, route: None, incoming: Incoming) -> RequestContext:
        del route
        claim = await self._sigv4.authenticate_head(incoming, self.signing_names)
        return context.by(*self._sigv4.verify(claim, (await incoming.whole()).body))

    async def decode(self, context: RequestContext, route: None, incoming: Incoming) -> tuple[RequestContext, _Given]:
        del route
        request = await incoming.whole()
        if request.method not in ("GET", "POST") or request.raw_path != b"/":
            raise QueryError("InvalidAction", "There is no operation at this method and path")
        fields = read_form(request.query, request.body if request.method == "POST" else b"")
        operation = self._contract.get(fields.get("Action", ""))
        if operation is None:
            raise QueryError("InvalidAction", "Could not find the operation in the version 2011-06-15")
        context = context.of(operation.name)
        assert context.caller is not None, "callers are authenticated first"
        self._throttle.take(context.caller.account, operation.name)
        if operation.name not in SERVED:
            raise QueryError("NotImplemented", f"{operation.name} is not served by Thingmint.")
        for name in fields:
            if name.partition(".")[0] in _NOT_SERVED:
                raise QueryError("NotImplemented", f"{name.partition('.')[0]} is not served by Thingmint.")
        members = operation.parse(fields)
        audited = {name: str(value) for name, value in members.items() if name in _AUDITED}
        return replace(context, parameters=audited or None), (operation, members)

    async def serve(self, context: RequestContext, outcome: Outcome, route: None, given: _Given) -> Answer:
        del route
        operation, members = given
        assert context.caller is not None, "callers are authenticated first"
        call = _Call(context, outcome, context.caller, self._store.of(context, outcome), self._vault)
        result = await SERVED[operation.name](call, members)
        return Answer(200, _headers(context), answer_document(operation.name, result, context.id))

    def refuse(self, context: RequestContext, error: DomainError) -> Answer:
        code, message = _code_of(error)
        status = STATUS[code]
        headers = _headers(context)
        if isinstance(error, errors.Throttled):
            headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
        return Answer(status, headers, error_document(code, message, context.id, is_sender=status < 500), code)


def _code_of(error: DomainError) -> tuple[str, str]:
    """The code and the message of an error."""
    match error:
        case QueryError():
            return error.code, error.message
        case errors.Unauthenticated():
            return _FLAWS[error.flaw], error.message
        case errors.Denied():
            refused = f"User: {error.principal} is not authorized to perform: {error.action}"
            explicit = " with an explicit deny" if error.explicit else ""
            return "AccessDenied", f"{refused} on resource: {error.resource}{explicit}"
        case errors.MalformedPolicy():
            return "MalformedPolicyDocument", str(error)
        case errors.Throttled():
            return "Throttling", str(error)
        case errors.Failed():
            return "InternalFailure", str(error)
        case errors.Unavailable():
            return "ServiceUnavailable", str(error)
        case errors.Invalid():
            return "ValidationError", str(error)
        case errors.NotFound():  # the caller was deleted meanwhile
            return "InvalidClientTokenId", "The security token included in the request is invalid."
        case _:
            raise AssertionError(f"{type(error).__name__} is not mapped to an error of STS")


def _user_id(principal: str, session: str | None) -> str:
    return principal if session is None else f"{principal}:{session}"


def _credentials(new: Secrets) -> dict[str, str]:
    return {
        "AccessKeyId": new["access_key_id"],
        "SecretAccessKey": new["secret_access_key"],
        "SessionToken": new["session_token"],
        "Expiration": new["expires_at"],
    }


def _packed_size(policy: str | None) -> dict[str, int]:
    """How much of the space for the session's policy is used, in percent."""
    return {} if policy is None else {"PackedPolicySize": math.ceil(len(policy) * 100 / _MAX_POLICY)}


def _headers(context: RequestContext) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"text/xml"), (b"x-amzn-requestid", context.id.encode())]
