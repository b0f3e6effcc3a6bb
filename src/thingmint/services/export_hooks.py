"""Sends the records of data stream exports to HTTP hooks, which stand for Yandex's data streams."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import httpx

    from thingmint.services.export_queue import ExportMessage, NumberedMessage
    from thingmint.services.exports import DataStreamExport

_TIMEOUT = 10.0  # seconds, for the whole call
_MAX_ANSWER = 65_536  # bytes that are read of an answer, whose content has no meaning
_CALLS_AT_ONCE = 16  # to one hook, of several registries


@dataclass(frozen=True, slots=True)
class ExportHook:
    """The URL for a stream of a database. A batch is sent when it is full, or ``cutoff`` seconds after its beginning.

    ``queue_bytes`` is the bound of the queue of each export. ``token_file`` is read for each call, so that the token
    can be replaced at any time. Without ``ca_file``, the system's CA certificates verify the hook's certificate.
    """

    database: str
    stream: str
    url: str
    batch: int = 1
    cutoff: float = 1.0
    queue_bytes: int = 64 * 1_048_576
    token_file: Path | None = None
    ca_file: Path | None = None


Hooks = dict[tuple[str, str], ExportHook]
"""By database and stream."""


class NotAccepted(Exception):
    """The hook did not accept a batch; the text says why."""


class HookClients:
    """HTTP clients, one for each hook."""

    def __init__(self, *, timeout: float = _TIMEOUT) -> None:
        self._timeout = timeout
        self._clients: dict[ExportHook, tuple[httpx.AsyncClient, asyncio.Semaphore]] = {}

    async def post(self, hook: ExportHook, export: DataStreamExport, messages: Sequence[NumberedMessage]) -> None:
        """Return when the hook has accepted the batch, with any status of 2xx. Raises NotAccepted."""
        body = {
            "export_id": export.id,
            "registry_id": export.registry,
            "database": export.database,
            "stream": export.stream,
            "first_number": messages[0].number,
            "messages": [as_record(each.message) for each in messages],
        }
        try:
            client, calls = self._client(hook)
            headers = {"content-type": "application/json", **_authorization(hook)}
        except (OSError, UnicodeError) as error:
            raise NotAccepted(f"a file of the hook cannot be read: {error}") from None
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        async with calls:
            await self._call(client, hook.url, headers, content)

    async def keep_only(self, hooks: Mapping[Any, ExportHook]) -> None:
        """Close the clients of other hooks."""
        for hook in self._clients.keys() - set(hooks.values()):
            await self._clients.pop(hook)[0].aclose()

    async def _call(self, client: httpx.AsyncClient, url: str, headers: Mapping[str, str], content: bytes) -> None:
        import httpx

        try:
            async with (
                asyncio.timeout(self._timeout),
                client.stream("POST", url, headers=headers, content=content) as response,
            ):
                if not response.is_success:  # also a redirect: the messages are sent to no other host
                    raise NotAccepted(f"it answered with status {response.status_code}")
                size = 0
                async for piece in response.aiter_raw():
                    size += len(piece)
                    if size > _MAX_ANSWER:
                        break
        except TimeoutError:
            raise NotAccepted(f"it took longer than {self._timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            raise NotAccepted(f"{type(error).__name__}: {error}") from None

    def _client(self, hook: ExportHook) -> tuple[httpx.AsyncClient, asyncio.Semaphore]:
        """Raises OSError."""
        import httpx

        if hook not in self._clients:
            client = httpx.AsyncClient(
                headers={"accept-encoding": "identity"},
                timeout=None,  # noqa: S113 - _call() limits the time of the whole call
                trust_env=False,
                verify=_tls(hook),
            )
            self._clients[hook] = client, asyncio.Semaphore(_CALLS_AT_ONCE)
        return self._clients[hook]


def check_files(hook: ExportHook) -> None:
    """Raises OSError and UnicodeError if a file of the hook cannot be used."""
    _tls(hook)
    _authorization(hook)


def _tls(hook: ExportHook) -> ssl.SSLContext:
    """Raises OSError."""
    return ssl.create_default_context(cafile=hook.ca_file)


def as_record(message: ExportMessage) -> dict[str, object]:
    """The record of a message in Yandex's form: the payload is text if it is UTF-8, else base64."""
    try:
        payload, is_base64 = message.payload.decode(), False
    except UnicodeDecodeError:
        payload, is_base64 = base64.b64encode(message.payload).decode(), True
    return {"device_id": message.device, "mqtt_topic": message.topic, "payload": payload, "is_base64": is_base64}


def _authorization(hook: ExportHook) -> dict[str, str]:
    """Raises OSError and UnicodeError."""
    if hook.token_file is None:
        return {}
    return {"authorization": f"Bearer {hook.token_file.read_text('ascii').strip()}"}
