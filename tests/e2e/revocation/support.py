"""An account with connected devices, whose access calls of all APIs can end."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.empty_pb2 import Empty

from tests.e2e.access.local_admin import allow, document
from tests.e2e.mqtt.devices import Credential, Device, credential
from tests.e2e.provisioning.support import template
from tests.e2e.yandex.clients import METHODS, done

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx

    from tests.e2e.provisioning.support import Fleet
    from tests.e2e.yandex.clients import Cloud

ALL = allow(["iot:Connect", "iot:Publish", "iot:Receive", "iot:Subscribe"])


@dataclass(frozen=True)
class AllApis:
    """One account, over all APIs."""

    fleet: Fleet
    cloud: Cloud
    native: httpx.Client
    folder: Path

    @property
    def iot(self) -> Any:
        return self.fleet.iot

    def arn(self, resource: str) -> str:
        return f"arn:aws:iot:us-east-1:{self.fleet.account}:{resource}"

    def certificate(self, **facts: Any) -> Credential:
        """Returns a registered certificate without a policy."""
        made = credential(self.folder, **facts)
        self.iot.register_certificate_without_ca(certificatePem=made.pem, status="ACTIVE")
        return made

    def policy(self, *statements: Any) -> str:
        name = new_name("policy")
        self.iot.create_policy(policyName=name, policyDocument=document(*statements))
        return name

    def attach(self, policy: str, target: Credential | str) -> str:
        arn = target if isinstance(target, str) else self.arn(f"cert/{target.fingerprint}")
        self.iot.attach_policy(policyName=policy, target=arn)
        return policy

    def connected(self, *statements: Any, client_id: str | None = None, **facts: Any) -> Connected:
        """Returns a connected device with a new policy, which allows everything unless ``statements`` are given."""
        made = self.certificate(**facts)
        policy = self.attach(self.policy(*(statements or (ALL,))), made)
        return self.connect(made, client_id, policy)

    def connect(
        self, made: Credential | None, client_id: str | None = None, policy: str = "", **login: Any
    ) -> Connected:
        client_id = client_id or new_name("device")
        device = Device(self.fleet.server, made)
        device.connect(client_id, **login)
        return Connected(self, made, client_id, device, policy, login)

    def thing(self, *groups: str, **attributes: str) -> str:
        name = new_name("thing")
        self.iot.create_thing(thingName=name, attributePayload={"attributes": attributes})
        for group in groups:
            self.iot.add_thing_to_thing_group(thingGroupName=group, thingName=name)
        return name

    def group(self, policy: str | None = None) -> str:
        name = new_name("group")
        self.iot.create_thing_group(thingGroupName=name)
        if policy is not None:
            self.attach(policy, self.arn(f"thinggroup/{name}"))
        return name

    def of_group(self) -> tuple[Connected, str]:
        """Returns a device that may connect because its thing is in a group, and the group."""
        group = self.group(self.policy(ALL))
        thing, made = self.thing(group), self.certificate()
        self.iot.attach_thing_principal(thingName=thing, principal=self.arn(f"cert/{made.fingerprint}"))
        return self.connect(made, thing), group

    def with_attribute(self) -> Connected:
        """Returns a device that may connect while the attribute ``may`` of its thing is "yes"."""
        thing = self.thing(may="yes")
        made = self.certificate()
        only = allow("iot:Connect", Condition={"StringEquals": {"iot:Connection.Thing.Attributes[may]": "yes"}})
        policy = self.attach(self.policy(only), made)
        self.iot.attach_thing_principal(thingName=thing, principal=self.arn(f"cert/{made.fingerprint}"))
        return self.connect(made, thing, policy)

    def operation(self, method: str, **fields: Any) -> Any:
        """The Operation of a change over the Yandex API, which is done."""
        operation = self.cloud.grpc.call(method, METHODS[method].input_type._concrete_class(**fields))
        assert operation.done
        assert operation.WhichOneof("result") == "response", operation
        return operation

    def yandex(self, method: str, **fields: Any) -> None:
        done(self.operation(method, **fields), Empty)

    def template(self, resources: Any = None, **parts: Any) -> str:
        """Returns the name of a new provisioning template."""
        body = template() if resources is None else document_of(resources)
        return self.fleet.new_template(body, **parts)


@dataclass(frozen=True)
class Connected:
    """A device that is connected as ``client_id``, with a certificate or a login, and its policy."""

    apis: AllApis
    made: Credential | None
    client_id: str
    device: Device
    policy: str
    login: Mapping[str, Any]

    @property
    def id(self) -> str:
        assert self.made is not None
        return self.made.fingerprint

    @property
    def arn(self) -> str:
        return self.apis.arn(f"cert/{self.id}")


def new_name(what: str) -> str:
    return f"{what}-{secrets.token_hex(6)}"


def document_of(resources: Any) -> str:
    return json.dumps({"Parameters": {"SerialNumber": {"Type": "String"}}, "Resources": resources})
