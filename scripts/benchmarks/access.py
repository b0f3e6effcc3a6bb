"""The cost of access control for a request: measures each part in this process, on a copy of the server's data."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.signed import Signer
from thingmint.access.audit import AuditLog
from thingmint.access.audit_sealer import Sealer, insert_sealed_activity
from thingmint.access.authorization import authorize
from thingmint.access.context import Outcome, RequestContext
from thingmint.access.directory import Directory
from thingmint.access.sigv4 import SigV4
from thingmint.http.messages import Request
from thingmint.instance.create import open_vault
from thingmint.instance.layout import DataDirectory
from thingmint.services.certificates import utc_now
from thingmint.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from thingmint.testing import RunningServer

__all__ = ["access_costs"]

_OPERATION = "iot:DescribeCertificate"
_BATCH = 256  # records, as the server writes them under load


def access_costs(server: RunningServer, certificate_id: str, count: int) -> dict[str, float]:
    """CPU seconds of each part for one DescribeCertificate, the mean of ``count``."""
    # As in the server: log entries below the level are not rendered.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    request = _parsed(Signer(server).describe(certificate_id))
    folder = Path(tempfile.mkdtemp(prefix="access-", dir=server.data_dir.parent))
    try:
        copy = DataDirectory(folder)
        with (
            closing(sqlite3.connect(server.data_dir / "thingmint.db")) as original,
            closing(sqlite3.connect(copy.database)) as target,
        ):
            original.backup(target)
        return asyncio.run(_measured(server, copy, request, certificate_id, count))
    finally:
        shutil.rmtree(folder)


async def _measured(
    server: RunningServer, copy: DataDirectory, request: Request, certificate_id: str, count: int
) -> dict[str, float]:
    store = SQLiteStore(copy.database)
    try:
        directory = Directory(store, open_vault(DataDirectory(server.data_dir), None), utc_now, lambda: False)
        sigv4 = SigV4(directory, utc_now)
        caller, scope = sigv4.verify(await sigv4.authenticate_head(request), request.body)
        resource = f"arn:aws:iot:{scope.region}:{scope.account}:cert/{certificate_id}"
        context = RequestContext(
            api="aws",
            operation="DescribeCertificate",
            method="GET",
            address="127.0.0.1",
            user_agent="Boto3 by way of a benchmark",
            now=utc_now(),
            caller=caller,
            scope=scope,
        )

        token = server.token  # reads a file, so it is not measured

        async def by_signature() -> None:
            sigv4.verify(await sigv4.authenticate_head(request), request.body)

        async def by_token() -> None:
            await directory.authenticate_token(token)

        async def authorization() -> None:
            authorize(context, _OPERATION, (resource,), {"aws:RequestedRegion": scope.region})

        trail = AuditLog(store, utc_now, insert_sealed_activity)
        sealer = Sealer(store, Ed25519PrivateKey.generate(), copy.audit_checkpoints, utc_now)

        async def audit() -> None:
            for _ in range(_BATCH):
                trail.add(context, Outcome(status=200))
            await trail.flush()
            await sealer.seal()

        return {
            "authentication, SigV4": await _cpu(by_signature, count),
            "authentication, API token": await _cpu(by_token, count),
            "authorization": await _cpu(authorization, count),
            "audit, written and sealed": await _cpu(audit, max(1, count // _BATCH)) / _BATCH,
        }
    finally:
        await store.close()


async def _cpu(call: Callable[[], Awaitable[None]], count: int) -> float:
    """The mean CPU seconds of a call, of all threads: a store commits in a separate one."""
    await call()
    start = time.process_time()
    for _ in range(count):
        await call()
    return (time.process_time() - start) / count


def _parsed(request: bytes) -> Request:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, target, _ = first.split(b" ")
    path, _, query = target.partition(b"?")
    headers = [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in lines)]
    return Request(method.decode(), path, query, headers, body)
