"""Signs requests with botocore's signer but without boto3, to send requests that boto3 would not send."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from unittest import mock

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.e2e.wire import exchange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.e2e.wire import Answer
    from thingmint.testing import RunningServer

__all__ = ["Signer"]


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs requests as ``access_key_id`` for the plain HTTP listener of a server."""

    server: RunningServer
    access_key_id: str
    secret: str
    region: str
    service: str = "iot"
    session_token: str | None = None

    @classmethod
    def of(cls, server: RunningServer) -> Signer:
        env = server.environment()
        return cls(server, env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env["AWS_DEFAULT_REGION"])

    def headers(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        at: datetime | None = None,
    ) -> dict[str, str]:
        """All headers to send, including the signature. Every given header is signed."""
        request = AWSRequest(
            method=method, url=f"{self.server.http_url}{target}", data=body, headers={**self._host(), **(headers or {})}
        )
        with mock.patch("botocore.auth.get_current_datetime", return_value=_naive(at)):
            SigV4Auth(self._credentials(), self.service, self.region).add_auth(request)
        return dict(request.headers.items())

    def presigned(self, method: str, target: str, *, expires: int = 300, at: datetime | None = None) -> str:
        """The target of a presigned URL."""
        request = AWSRequest(method=method, url=f"{self.server.http_url}{target}", headers=self._host())
        with mock.patch("botocore.auth.get_current_datetime", return_value=_naive(at)):
            SigV4QueryAuth(self._credentials(), self.service, self.region, expires=expires).add_auth(request)
        url = request.url
        assert url is not None
        return url.removeprefix(self.server.http_url)

    def send(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        at: datetime | None = None,
    ) -> Answer:
        return exchange(self.server, method, target, self.headers(method, target, headers, body, at), body)

    def _credentials(self) -> Credentials:
        return Credentials(self.access_key_id, self.secret, self.session_token)

    def _host(self) -> dict[str, str]:
        return {"host": f"127.0.0.1:{self.server.ports['http']}"}


def _naive(at: datetime | None) -> datetime:
    """The time in UTC as a naive datetime, which botocore's signer expects."""
    return (at or datetime.now(UTC)).replace(tzinfo=None)
