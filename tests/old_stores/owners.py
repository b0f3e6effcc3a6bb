"""The owner of resources in an old store: an account in one of its regions, with its clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.e2e.access.local_admin import LocalAdmin, keys_of
from tests.e2e.conftest import iot_client
from tests.e2e.mqtt.devices import Closed, Device
from tests.e2e.yandex.clients import Account, Cloud

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.e2e.mqtt.devices import Credential
    from tests.old_stores.material import Material
    from thingmint.testing import RunningServer


@dataclass(frozen=True)
class Owner:
    """``credentials`` are the answer of `thingmint access account create`; devices connect to ``endpoint``."""

    server: RunningServer
    material: Material
    credentials: Mapping[str, Any]
    region: str
    endpoint: str
    iot: Any
    local_admin: LocalAdmin
    cloud: Cloud

    @staticmethod
    def of(server: RunningServer, material: Material, told: Mapping[str, Any], region: str, endpoint: str) -> Owner:
        iot = iot_client(server, region_name=region, **keys_of(told))
        cloud = Cloud(server, Account(told["authorized_key"], told["folder"], told["token"]))
        return Owner(server, material, told, region, endpoint, iot, LocalAdmin(server, told["account"]), cloud)

    @property
    def account(self) -> str:
        number: str = self.credentials["account"]
        return number

    @property
    def place(self) -> str:
        return f"{self.account}-{self.region}"

    def arn(self, resource: str) -> str:
        return f"arn:aws:iot:{self.region}:{self.account}:{resource}"

    def cert(self, made: Credential) -> str:
        return self.arn(f"cert/{made.fingerprint}")

    def allow(self, made: Credential, policy: str = "everything") -> None:
        self.iot.attach_policy(policyName=policy, target=self.cert(made))

    def status(self, made: Credential, status: str) -> None:
        self.iot.update_certificate(certificateId=made.fingerprint, newStatus=status)

    def connects(self, made: Credential) -> bool:
        with Device(self.server, made, endpoint=self.endpoint) as device:
            try:
                device.connect("arriving")
            except Closed:
                return False
            return True

    def close(self) -> None:
        self.cloud.close()
        self.iot.close()
