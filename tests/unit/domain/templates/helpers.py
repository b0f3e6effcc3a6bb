"""Short ways to write templates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from thingmint.domain.templates import CERTIFICATE_ID, Kind, parse_template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.domain.templates import Plan, Template

ID = "ab" * 32
CERTIFICATE = {
    "Type": "AWS::IoT::Certificate",
    "Properties": {"CertificateId": {"Ref": CERTIFICATE_ID}, "Status": "Active"},
}


def resource(kind: str, properties: object, **more: object) -> dict[str, Any]:
    return {"Type": f"AWS::IoT::{kind}", "Properties": properties, **more}


def thing(name: object = "lamp", *, overrides: object = None, **properties: object) -> dict[str, Any]:
    return resource("Thing", {"ThingName": name, **properties}, OverrideSettings=overrides)


def template(
    resources: Mapping[str, object] | None = None,
    *,
    kind: Kind = Kind.FLEET,
    parameters: Mapping[str, object] | None = None,
    **sections: object,
) -> Template:
    """Return a template. A certificate is added unless ``resources`` has one or the kind does not require one."""
    found = dict(resources or {})
    if kind is not Kind.BULK:
        found = {"certificate": CERTIFICATE, **found}
    declared = {name: {"Type": "String"} for name in ("SerialNumber", "Location")}
    body = {"Parameters": {**declared, **(parameters or {})}, "Resources": found, **sections}
    return parse_template(json.dumps(body), kind)


def resolve(template: Template, given: Mapping[str, Any] | None = None, **context: str) -> Plan:
    return template.resolve(given or {}, {CERTIFICATE_ID: ID, **context})


def value(expression: object, given: Mapping[str, Any] | None = None, **sections: object) -> str:
    """Return the value of ``expression``, which is put into the device's configuration."""
    made = template(DeviceConfiguration={"it": expression}, **sections)  # type: ignore[arg-type]
    return resolve(made, given).device_configuration["it"]
