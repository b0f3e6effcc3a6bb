"""Calls AWS IoT: no faster than allowed, and again when AWS throttles or fails."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, SSLError
from botocore.exceptions import ConnectionError as NotConnected

from thingmint.importing.batches import SourceError
from thingmint.importing.sources.aws.permissions import action_of, documented_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from botocore.client import BaseClient

Answer = dict[str, Any]

_PATIENCE = 15 * 60.0  # seconds for which a call is repeated that AWS throttles, or that fails there
_UNREACHABLE_PATIENCE = 60.0  # the same if nothing answers
_FIRST_PATIENCE = 5.0  # the same if nothing has ever answered: the address may be wrong
_TELL_EVERY = 30.0  # seconds
_LONGEST_WAIT = 60.0
_SLOWER = 0.05  # seconds between calls without a limit, after the first throttling
WORKERS = 16
"""Calls at the same time; one takes up to some 300 ms."""

_PAGE = 250  # the most that AWS returns at once

_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "NotAuthorizedException", "UnauthorizedException"})
_THROTTLED = frozenset(
    {
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_NOT_SERVED = frozenset(
    {
        "InvalidAction",
        "MethodNotAllowedException",
        "NotImplementedException",
        "UnknownOperationException",
        "UnsupportedOperationException",
    }
)
_REJECTED = frozenset({"InvalidPaginationTokenException", "InvalidRequestException", "ValidationException"})

GO_ON = "then run the same command again: the import goes on where it stopped"


class CallError(Exception):
    """A call that is useless to repeat."""

    reason: str
    """A sentence without the operation."""

    def __init__(self, operation: str, code: str) -> None:
        super().__init__(f"{operation}: {self.reason} ({code})")
        self.operation = operation
        self.code = code


class NotThere(CallError):
    reason = "the resource does not exist any more"


class Denied(CallError):
    reason = "the credentials do not allow it"


class NotServed(CallError):
    reason = "the server does not know this operation"


class Rejected(CallError):
    """The input is not accepted, such as a marker that is too old."""

    reason = "the input is not accepted"


class _Passing(NamedTuple):
    """A fault that passes: ``why``, and for how many seconds the call is repeated."""

    why: str
    patience: float


class _Pace:
    """When the next call of an operation may be made.

    Throttling makes the calls slower, success slowly faster again, up to ``rate`` a second (0: no limit). So other
    programs of the account keep a part of its quota.
    """

    def __init__(self, rate: float) -> None:
        self._shortest = 1 / rate if rate else 0.0
        self._seconds = self._shortest  # between two calls
        self._next = 0.0
        self._lock = threading.Lock()

    def take(self, now: float) -> float:
        """Return how many seconds the caller has to wait."""
        with self._lock:
            start = max(self._next, now)
            self._next = start + self._seconds
            return start - now

    def slow_down(self, until: float) -> None:
        with self._lock:
            self._next = max(self._next, until)
            self._seconds = min(max(1.5 * self._seconds, _SLOWER), _LONGEST_WAIT)

    def speed_up(self) -> None:
        with self._lock:
            faster = 0.98 * self._seconds
            self._seconds = max(faster, self._shortest) if faster > _SLOWER / 10 else self._shortest


class Calls:
    """Calls the operations of one region. Its methods may be used by several threads.

    ``rate`` is the calls a second of each operation; None means AWS's documented rates, 0 no limit. ``tell`` takes a
    line for people now and then while calls fail.
    """

    def __init__(
        self,
        client: BaseClient,
        rate: float | None = None,
        *,
        sleep: Callable[[float], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._rate = rate
        self._closed = threading.Event()
        self._sleep = sleep or self._closed.wait
        self._monotonic = monotonic
        self._tell = tell
        self._told = -_TELL_EVERY
        self._paces: dict[str, _Pace] = {}
        self._lock = threading.Lock()
        self._not_served: dict[str, str] = {}
        self._reached = False
        self.answered: set[str] = set()
        """The operations that had a result."""

    def end(self) -> None:
        """End the calls of other threads soon, with a SourceError."""
        self._closed.set()

    def close(self) -> None:
        """Close the connections. Call it when no thread makes a call any more."""
        self.end()
        self._client.close()

    def rate_of(self, operation: str) -> float:
        """Return the calls a second, 0 for no limit."""
        return documented_rate(operation) if self._rate is None else self._rate

    def call(self, operation: str, **given: Any) -> Answer:
        """Return the answer. Raises NotThere, Denied, NotServed, Rejected; SourceError if the import has to stop."""
        if operation in self._not_served:
            raise NotServed(operation, self._not_served[operation])
        method = getattr(self._client, xform_name(operation))
        pace, failures, since = self._pace(operation), 0, self._monotonic()
        while True:
            wait = pace.take(self._monotonic())
            if wait > 0:
                self._sleep(wait)
            if self._closed.is_set():
                raise SourceError("The import was stopped")
            try:
                answer: Answer = method(**given)
            except (ClientError, BotoCoreError) as error:
                fault = self._passing(operation, error)
                if self._monotonic() - since > fault.patience:
                    seconds = f"{fault.patience:g} seconds"
                    raise SourceError(f"{operation} has failed for {seconds}: {fault.why}; wait, {GO_ON}") from None
                failures += 1
                if failures > 1:
                    self._tell_now_and_then(f"{operation}: {fault.why}; trying again")
                # All threads that call this operation wait, because AWS counts their calls together.
                wait = min(2.0**failures / 2, _LONGEST_WAIT) * random.uniform(0.5, 1)  # noqa: S311
                pace.slow_down(self._monotonic() + wait)
                continue
            pace.speed_up()
            self._reached = True
            self.answered.add(operation)
            return answer

    def page(self, operation: str, key: str, marker: str | None = None, **given: Any) -> tuple[list[Any], str | None]:
        """Return a page of a list, and the marker of the next one; None after the last."""
        shape = self._client.meta.service_model.operation_model(operation).input_shape
        members = shape.members if shape is not None else {}
        token, size = ("marker", "pageSize") if "marker" in members else ("nextToken", "maxResults")
        if size in members:
            given[size] = min(_PAGE, int(members[size].metadata.get("max", _PAGE)))
        if marker is not None:
            given[token] = marker
        answer = self.call(operation, **given)
        following = answer.get("nextMarker" if token == "marker" else "nextToken") or None  # noqa: S105
        if following is not None and following == marker:
            raise SourceError(f"{operation} returns the same page again and again")
        return answer.get(key) or [], following

    def all(self, operation: str, key: str, **given: Any) -> Iterator[Any]:
        """Yield all entries of a list."""
        marker: str | None = None
        while True:
            entries, marker = self.page(operation, key, marker, **given)
            yield from entries
            if marker is None:
                return

    def _pace(self, operation: str) -> _Pace:
        with self._lock:
            if operation not in self._paces:
                self._paces[operation] = _Pace(self.rate_of(operation))
            return self._paces[operation]

    def _tell_now_and_then(self, line: str) -> None:
        with self._lock:
            now = self._monotonic()
            if now - self._told < _TELL_EVERY:
                return
            self._told = now
        self._tell(line)

    def _passing(self, operation: str, error: ClientError | BotoCoreError) -> _Passing:
        """Return the fault if repeating the call may help. Raises the others."""
        if not isinstance(error, ClientError):
            if isinstance(error, SSLError):
                advice = "set AWS_CA_BUNDLE to the CA certificate of the endpoint"
                raise SourceError(f"The endpoint's TLS certificate is not accepted: {advice}, {GO_ON}") from None
            if isinstance(error, HTTPClientError | NotConnected):
                patience = _UNREACHABLE_PATIENCE if self._reached else _FIRST_PATIENCE
                return _Passing(f"no answer ({type(error).__name__})", patience)
            # All others are about profiles, credentials and their renewal.
            raise SourceError(f"AWS cannot be called: {error}; {_renewal()}") from None
        self._reached = True
        about = error.response.get("Error", {})
        code, status = str(about.get("Code", "")), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _CREDENTIALS:
            raise SourceError(f"AWS does not accept the credentials ({code}): {_renewal()}") from None
        if code in _THROTTLED or status == 429:
            return _Passing(f"AWS throttles the calls ({code})", _PATIENCE)
        if code in _DENIED or status in (401, 403):
            raise Denied(operation, f"{code}: allow {action_of(operation)}") from None
        if code == "ResourceNotFoundException":
            raise NotThere(operation, code) from None
        # A code of digits is no code: what answered does not know the operation, and its answer has no AWS error.
        if code in _NOT_SERVED or status in (405, 501) or (code.isdigit() and status in (404, 500)):
            self._not_served[operation] = code if not code.isdigit() else f"HTTP status {status}"
            raise NotServed(operation, self._not_served[operation]) from None
        if status >= 500:
            return _Passing(f"AWS fails ({code})", _PATIENCE)
        if code in _REJECTED or status == 400:
            raise Rejected(operation, code) from None
        raise SourceError(f"{operation} fails ({code}, HTTP status {status})") from None


def _renewal() -> str:
    return f"renew them (with a profile of IAM Identity Center: aws sso login), {GO_ON}"
