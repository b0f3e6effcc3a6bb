"""Pre-provisioning hooks, which decide whether a device is provisioned, and with which parameters.

AWS invokes a Lambda function. Here the function's ARN is mapped to a URL, to which the question is sent with POST, or
to a Python function that an installed package provides in the entry point group ``thingmint.hooks``.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import re
import ssl
import threading
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import structlog

from thingmint.domain.errors import Invalid, ProvisioningRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx


ENTRY_POINTS = "thingmint.hooks"
ENTRY_POINT_SCHEME = "entry-point"

PAYLOAD_VERSION = "2020-04-01"

_TIMEOUT = 5.0  # seconds, AWS's
_MAX_ANSWER = 65_536  # bytes
_CONNECTIONS = 64
_THREADS = 16

_ARN = re.compile(r"arn:[^:]+:[^:]+:[^:]*:[^:]*:.+", re.DOTALL)
_FUNCTION = re.compile(r"arn:[^:]+:lambda:[^:]*:[^:]*:function:([^:]+)(?::[^:]+)?")

_log = structlog.get_logger("thingmint.provisioning")


@dataclass(frozen=True, slots=True)
class Hook:
    """The pre-provisioning hook of a template. Raises Invalid unless ``target_arn`` is an ARN."""

    target_arn: str
    payload_version: str = PAYLOAD_VERSION

    def __post_init__(self) -> None:
        if not _ARN.fullmatch(self.target_arn):
            raise Invalid("preProvisioningHook.targetArn", "must be an ARN")


class HookTable:
    """Calls hooks. ``targets`` has URLs by ARN. A Lambda function without one may be an entry point of its name."""

    def __init__(self, targets: Mapping[str, str], *, timeout: float = _TIMEOUT) -> None:
        self._targets = targets
        self._timeout = timeout
        self._client: httpx.AsyncClient | None = None
        self._threads = asyncio.Semaphore(_THREADS)
        self._functions: dict[str, Callable[..., Any]] = {}

    def replace(self, targets: Mapping[str, str]) -> None:
        self._targets = targets

    async def ask(self, hook: Hook, question: Mapping[str, object]) -> Mapping[str, str]:
        """Return the parameters that the hook overrides. Raises ProvisioningRefused, in AWS's words."""
        target = hook.target_arn
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._answer(target, question)
            return _overrides(answer)
        except ProvisioningRefused as refused:
            _log.warning("hook_refused_device", hook=target, why=refused.reason)
            raise
        except TimeoutError:
            raise _failed(target, f"it took longer than {self._timeout:g} s") from None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _answer(self, target: str, question: Mapping[str, object]) -> object:
        url = self._targets.get(target)
        function = _FUNCTION.fullmatch(target)
        if url is not None and not url.startswith(f"{ENTRY_POINT_SCHEME}:"):
            return await self._post(target, url, question)
        name = url.partition(":")[2] if url is not None else function[1] if function is not None else ""
        found = self._function(target, name)
        if found is None:
            _log.warning("hook_not_found", hook=target)
            raise ProvisioningRefused("invocation", "Access denied while invoking Lambda function")
        return await self._call(target, found, dict(question))

    # By HTTP.

    async def _post(self, target: str, url: str, question: Mapping[str, object]) -> object:
        import httpx

        try:
            async with self._http().stream("POST", url, json=question) as response:
                if response.status_code in (401, 403):
                    raise ProvisioningRefused("invocation", "Access denied while invoking Lambda function")
                if response.status_code != 200:  # also a redirect: send the question to no other host
                    raise _failed(target, f"it answered with status {response.status_code}")
                body = bytearray()
                async for piece in response.aiter_raw():
                    body += piece
                    if len(body) > _MAX_ANSWER:
                        raise _unusable()
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            _log.warning("hook_unreachable", hook=target, error=type(error).__name__)
            reason = "A failure occurred while invoking the provisioning hook."
            raise ProvisioningRefused("invocation", reason) from None
        if not body.strip():
            return None
        try:
            return json.loads(body.decode())
        except (ValueError, RecursionError):
            raise _unusable() from None

    def _http(self) -> httpx.AsyncClient:
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(
                headers={"accept-encoding": "identity"},  # no compressed answer, which could expand beyond the limit
                limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
                timeout=None,  # noqa: S113 - ask() limits the time of the whole call
                trust_env=False,
                verify=ssl.create_default_context(),
            )
        return self._client

    # In Python.

    async def _call(self, target: str, function: Callable[..., Any], question: dict[str, object]) -> object:
        try:
            if inspect.iscoroutinefunction(function):
                return await function(question)
            return await self._in_thread(function, question)
        except TimeoutError:
            raise
        except Exception as error:  # noqa: BLE001 - the operator's code: the device is refused, whatever the error is
            _log.warning("hook_failed", hook=target, exc_info=True)
            raise _failed(target, type(error).__name__) from None

    async def _in_thread(self, function: Callable[..., Any], question: dict[str, object]) -> object:
        """Run a function in a daemon thread. Unlike a pool's thread, it cannot keep the server from stopping."""
        await self._threads.acquire()
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[object] = loop.create_future()

        def arrived(result: object, error: Exception | None) -> None:
            self._threads.release()
            if outcome.done():
                return
            if error is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(result)

        def run() -> None:
            result, failure = None, None
            try:
                result = function(question)
            except Exception as error:  # noqa: BLE001 - raised in the task that awaits the outcome
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: no task waits any more
                loop.call_soon_threadsafe(arrived, result, failure)

        threading.Thread(target=run, name="hook", daemon=True).start()
        return await outcome

    def _function(self, target: str, name: str) -> Callable[..., Any] | None:
        if name not in self._functions:
            found = tuple(entry_points(group=ENTRY_POINTS, name=name)) if name else ()
            if not found:
                return None
            try:
                self._functions[name] = found[0].load()
            except Exception as error:  # noqa: BLE001 - the operator's code, as above
                _log.warning("hook_not_loaded", hook=target, exc_info=True)
                raise _failed(target, type(error).__name__) from None
        return self._functions[name]


def _overrides(answer: object) -> Mapping[str, str]:
    if answer is None:
        raise ProvisioningRefused("result", "The provisioning hook did not return a response.")
    if not isinstance(answer, dict) or not isinstance(allowed := answer.get("allowProvisioning"), bool):
        raise _unusable()
    overrides = answer.get("parameterOverrides")
    overrides = {} if overrides is None else overrides
    if not isinstance(overrides, dict) or not all(isinstance(text, str) for pair in overrides.items() for text in pair):
        raise _unusable()
    if not allowed:
        raise ProvisioningRefused("denied", "Access Denied")
    return overrides


def _failed(target: str, why: str) -> ProvisioningRefused:
    _log.warning("hook_failed", hook=target, why=why)
    return ProvisioningRefused("invocation", "The provisioning hook was not executed successfully.")


def _unusable() -> ProvisioningRefused:
    return ProvisioningRefused("result", "Provisioning hook result is in an invalid format.")
