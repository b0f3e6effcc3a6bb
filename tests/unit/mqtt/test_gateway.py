"""The gateway's certificates."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.unit.domain.test_server_certificates import KEY, MIDDLE
from tests.unit.vectors import certificate, ec_key
from thingmint.domain.server_certificates import ServerCertificate, ShownCertificates
from thingmint.domain.tls_profiles import TLS_PROFILES
from thingmint.mqtt.gateway import Gateway
from thingmint.mqtt.tls.contexts import Contexts, build_context


async def test_certificates_that_cannot_be_used_now_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, for example: a chain needs a temporary file."""
    old = build_context(ServerCertificate(certificate(ec_key().public_key()), ec_key()))
    new = ShownCertificates((ServerCertificate(MIDDLE.sign("localhost", KEY), KEY, (MIDDLE.certificate,)),))
    gateway: Any = object.__new__(Gateway)
    gateway._contexts, gateway._tls_profile = Contexts(old), TLS_PROFILES["default"]
    changes = [None, new, None, None, None]
    gateway._certificates = lambda: changes.pop(0)
    attempts: list[bool] = []
    make = tempfile.NamedTemporaryFile

    def full(**arguments: Any) -> Any:
        attempts.append(gateway._contexts.default is old)
        if len(attempts) < 3:
            raise OSError(28, "No space left on device")
        return make(**arguments)

    async def sleep(seconds: float) -> None:
        del seconds
        if not changes:
            raise asyncio.CancelledError

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await gateway._follow_certificates()
    assert attempts == [True, True, True]
    assert gateway._contexts.default is not old
    assert [line["event"] for line in logs] == ["listener_certificate_not_shown"]
