"""Calls of an operator's function: by HTTP, or in Python. Each function has its own bounded pool.

A function that is slow, or never answers, delays no other function. If several accounts use it, one account gets at
most three quarters of its pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import ipaddress
import json
import socket
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal

import structlog

from thingmint.domain.hook_signatures import SIGNATURE_HEADER, signature
from thingmint.services.daemon_threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import httpx


ENTRY_POINTS = "thingmint.hooks"
"""The group of entry points in which packages offer functions."""

MAX_ANSWER = 65_536
"""Bytes of an answer."""

_RUNNING = 16  # calls of a function at once
_RUNNING_OF_ACCOUNT = 12  # of these, calls of one account
_WAITING = 64  # calls of one account that wait for a function
_LOOKED_UP = 5.0  # seconds for which the addresses of a host are used

Outcome = Literal[
    "ok",
    "denied",
    "empty",
    "invalid",
    "too_large",
    "wrong_key",
    "status",
    "forbidden",
    "unreachable",
    "timeout",
    "error",
    "overloaded",
    "misconfigured",
    "not_found",
]

_log = structlog.get_logger("thingmint.provisioning")


class CallFailed(Exception):
    """A call gave no usable answer. ``why`` is for the log: it has no secret, and nothing of the answer."""

    def __init__(self, outcome: Outcome, why: str) -> None:
        super().__init__(why)
        self.outcome = outcome
        self.why = why


@dataclass(frozen=True, slots=True)
class Function:
    """What is called in place of a Lambda function: a URL, or an entry point.

    Only ``accounts`` may refer to it; None is every account. The entry point is a name in the group
    ``thingmint.hooks``, or ``module:function``. ``secret_file`` is read for each call, so that the secret can be
    replaced at any time. Without ``ca_file``, the system's CA certificates verify the URL's certificate.
    """

    name: str
    accounts: frozenset[str] | None = None
    url: str | None = None
    entry_point: str | None = None
    secret: bytes | None = field(default=None, repr=False)
    secret_file: Path | None = None
    ca_file: Path | None = None

    def signing_secret(self) -> bytes | None:
        """Returns the secret that signs requests, if one is set. Raises OSError, and ValueError for an empty file."""
        if self.secret_file is None:
            return self.secret
        secret = self.secret_file.read_bytes().strip()
        if not secret:
            raise ValueError("is empty")
        return secret

    def check_files(self) -> None:
        """Raises OSError and ValueError if a file cannot be used."""
        self.signing_secret()
        if self.ca_file is not None:
            ssl.create_default_context(cafile=self.ca_file)


class Pool:
    """The bounds on the calls of one function. Each call has ``timeout`` seconds, in which it also waits."""

    def __init__(self, function: Function, timeout: float) -> None:
        self.function = function
        self.running = 0
        self._timeout = timeout
        self._call: RemoteCaller | ThreadCaller
        if function.url is not None:
            self._call = RemoteCaller(function, function.url)
        else:
            self._call = ThreadCaller(function, timeout)
        self._free = asyncio.Semaphore(_RUNNING)
        self._free_of: dict[str, asyncio.Semaphore] = {}
        self._waiting: Counter[str] = Counter()

    async def call(self, account: str, body: bytes) -> bytes:
        """Returns the answer. Raises CallFailed."""
        if self._waiting[account] >= _WAITING:
            raise CallFailed("overloaded", f"{_WAITING} calls of the account wait already")
        try:
            async with asyncio.timeout(self._timeout):
                release = await self._take(account)
                return await self._call(body, release)
        except TimeoutError:
            raise CallFailed("timeout", f"it took longer than {self._timeout:g} s") from None

    async def _take(self, account: str) -> Callable[[], None]:
        """Waits for a place in the pool. Returns the function that gives it back."""
        of_account = self._free_of.setdefault(account, asyncio.Semaphore(_RUNNING_OF_ACCOUNT))
        self._waiting[account] += 1
        try:
            await of_account.acquire()
            try:
                await self._free.acquire()
            except BaseException:
                of_account.release()
                raise
        finally:
            self._waiting[account] -= 1
        self.running += 1

        def release() -> None:
            self.running -= 1
            self._free.release()
            of_account.release()

        return release


class RemoteCaller:
    """Calls a URL with POST. Each call has a connection of its own: an idle one may end just when it is used."""

    def __init__(self, function: Function, url: str) -> None:
        self._function = function
        self._url = url
        self._addresses: Addresses | None = None
        if url.startswith("https:"):
            _system_cas()  # reading them takes milliseconds: not during a call

    async def __call__(self, body: bytes, release: Callable[[], None]) -> bytes:
        try:
            return await self._post(body)
        finally:
            release()

    async def _post(self, body: bytes) -> bytes:
        import httpx

        url = httpx.URL(self._url)
        headers = {
            "host": url.netloc.decode("ascii"),
            "content-type": "application/json",
            "accept-encoding": "identity",
            "connection": "close",
        }
        try:
            if secret := self._function.signing_secret():
                headers[SIGNATURE_HEADER] = signature(secret, body, time.time())
            tls = self._tls(url.scheme)
        except (OSError, ValueError) as error:
            raise CallFailed(
                "misconfigured", f"a file of the function cannot be used: {type(error).__name__}"
            ) from None
        if self._addresses is None:
            self._addresses = Addresses(url.raw_host.decode("ascii"))
        addresses = await self._addresses.get()
        # An address that does not answer must leave time for the next one. Pool.call limits the whole call.
        timeout = httpx.Timeout(None, connect=None if len(addresses) == 1 else 4.0 / len(addresses))
        async with httpx.AsyncClient(trust_env=False, verify=tls, timeout=timeout, headers=headers) as client:
            return await self._send(client, url, body, addresses)

    async def _send(self, client: httpx.AsyncClient, url: httpx.URL, body: bytes, addresses: Sequence[str]) -> bytes:
        """Sends the request to the first address that accepts a connection."""
        import httpx

        assert self._addresses is not None, "the call looked it up"
        name = {"sni_hostname": url.raw_host.decode("ascii")}
        failure = "no address"
        for address in addresses:
            try:
                target = url.copy_with(host=address)
                async with client.stream("POST", target, content=body, extensions=name) as response:
                    self._addresses.best = address
                    return await _read(response)
            except (httpx.ConnectError, httpx.ConnectTimeout, ssl.SSLError) as error:
                failure = type(error).__name__
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                failure = type(error).__name__
                break
        raise CallFailed("unreachable", failure)

    def _tls(self, scheme: str) -> ssl.SSLContext:
        """Raises OSError."""
        if scheme == "http":
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # not used
        ca_file = self._function.ca_file
        return _system_cas() if ca_file is None else ssl.create_default_context(cafile=ca_file)


@functools.cache
def _system_cas() -> ssl.SSLContext:
    return ssl.create_default_context()


async def _read(response: httpx.Response) -> bytes:
    """Returns the body. Raises CallFailed, and never decompresses: a small body could become a large one."""
    status = response.status_code
    if status in (401, 403):
        raise CallFailed("forbidden", f"it answered with status {status}")
    if status != 200:  # also a redirect: the event is sent to no other host
        raise CallFailed("status", f"it answered with status {status}")
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise CallFailed("invalid", "its answer is compressed")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > MAX_ANSWER:
            raise CallFailed("too_large", f"its answer has more than {MAX_ANSWER} bytes")
    return bytes(body)


class Addresses:
    """The addresses of a host. One thread looks them up for all calls, so a slow name server holds up one function."""

    def __init__(self, host: str) -> None:
        self.best: str | None = None
        """The address that last accepted a connection."""
        self._host = host
        self._found: Sequence[str] = ()
        self._until = 0.0
        self._lookup: asyncio.Future[Sequence[str]] | None = None

    async def get(self) -> Sequence[str]:
        """Returns the best address first. Raises CallFailed."""
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(self._host))]
        if time.monotonic() >= self._until:
            if self._lookup is None:
                self._lookup = in_thread(self._look_up, "hook")
                self._lookup.add_done_callback(self._looked_up)
            try:
                await asyncio.shield(self._lookup)
            except (OSError, UnicodeError) as error:
                raise CallFailed("unreachable", type(error).__name__) from None
        return sorted(self._found, key=lambda address: address != self.best)

    def _look_up(self) -> Sequence[str]:
        found = socket.getaddrinfo(self._host, None, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(each[4][0]) for each in found))

    def _looked_up(self, lookup: asyncio.Future[Sequence[str]]) -> None:
        self._lookup = None
        if not lookup.cancelled() and lookup.exception() is None:
            self._found, self._until = lookup.result(), time.monotonic() + _LOOKED_UP


class ThreadCaller:
    """Calls a Python function in a daemon thread. The thread keeps its place in the pool until the function returns."""

    def __init__(self, function: Function, timeout: float) -> None:
        self._name = function.name
        self._entry_point = function.entry_point or ""
        self._timeout = timeout
        self._loaded: Callable[[Any], Any] | None = None

    async def __call__(self, body: bytes, release: Callable[[], None]) -> bytes:
        try:
            running = in_thread(lambda: self._run(body), "hook")
        except RuntimeError:
            release()
            raise CallFailed("overloaded", "the process has no thread left") from None
        running.add_done_callback(lambda _: release())
        return await asyncio.shield(running)

    def _run(self, body: bytes) -> bytes:
        function = self._load()
        try:
            result = function(json.loads(body))
            if inspect.iscoroutine(result):
                result = asyncio.run(asyncio.wait_for(result, self._timeout))
        except BaseException as error:  # noqa: BLE001 - the operator's code, which may also call sys.exit()
            _log.warning("hook_raised", function=self._name, exc_info=True)
            raise CallFailed("error", type(error).__name__) from None
        try:
            answer = json.dumps(result).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise CallFailed("invalid", f"its answer is not JSON: {type(error).__name__}") from None
        if len(answer) > MAX_ANSWER:
            raise CallFailed("too_large", f"its answer has more than {MAX_ANSWER} bytes")
        return answer

    def _load(self) -> Callable[[Any], Any]:
        """Raises CallFailed."""
        if self._loaded is None:
            found = _entry_point(self._entry_point)
            try:
                self._loaded = found.load()
            except BaseException as error:  # noqa: BLE001 - the operator's code, as above
                _log.warning("hook_not_loaded", function=self._name, exc_info=True)
                raise CallFailed("misconfigured", f"it cannot be loaded: {type(error).__name__}") from None
        return self._loaded


def _entry_point(reference: str) -> EntryPoint:
    """Raises CallFailed."""
    if ":" in reference:
        return EntryPoint("", reference, ENTRY_POINTS)
    found = tuple(entry_points(group=ENTRY_POINTS, name=reference))
    if not found:
        raise CallFailed("not_found", f"no installed package has {reference} in {ENTRY_POINTS}")
    return found[0]
