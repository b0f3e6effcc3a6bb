"""New, empty accounts of the session's server."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import LocalAdmin, keys_of
from tests.e2e.conftest import iot_client
from tests.e2e.material import self_signed_pem
from tests.e2e.signing import Signer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from thingmint.testing import RunningServer


@dataclass(frozen=True)
class Tenant:
    """An account, its administrator's boto3 client, and a signer for requests that boto3 refuses to send."""

    number: str
    iot: Any
    signer: Signer

    def arn(self, resource: str) -> str:
        return f"arn:aws:iot:us-east-1:{self.number}:{resource}"

    def certificate(self) -> str:
        """Register a certificate, and return its ARN."""
        arn: str = self.iot.register_certificate_without_ca(certificatePem=self_signed_pem())["certificateArn"]
        return arn


@pytest.fixture
def new_tenant(server: RunningServer) -> Iterator[Callable[[], Tenant]]:
    with contextlib.ExitStack() as stack:

        def make() -> Tenant:
            new = LocalAdmin(server).ask("account.create", name=f"things-{secrets.token_hex(4)}")
            iot = stack.enter_context(contextlib.closing(iot_client(server, **keys_of(new))))
            signer = Signer(server, new["access_key_id"], new["secret_access_key"], "us-east-1")
            return Tenant(new["account"], iot, signer)

        yield make


@pytest.fixture
def tenant(new_tenant: Callable[[], Tenant]) -> Tenant:
    return new_tenant()
