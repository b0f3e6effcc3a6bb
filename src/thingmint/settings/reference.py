"""The settings' subjects, former names and examples, for --help, error messages and docs/settings.md."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal, get_args, get_origin

from pydantic import BaseModel

from thingmint.domain.durations import written
from thingmint.settings.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic.fields import FieldInfo

GROUPS: Final[Mapping[str, Sequence[str]]] = {
    "Data": ("data_dir", "store", "store_file", "disk_reserve_bytes"),
    "Listening": (
        "host",
        "api_port",
        "http_port",
        "grpc_port",
        "mqtt_port",
        "mqtt_alpn_port",
        "credentials_port",
        "mqtt_proxy_socket",
        "mqtt_proxy_port",
        "mqtt_proxy_fingerprints",
    ),
    "TLS, certificates and keys": (
        "tls_profile",
        "server_certificate",
        "server_key",
        "server_certificates",
        "listener_certificate_lifetime",
        "ca_key",
        "ca_passphrase",
        "ca_passphrase_file",
        "master_key",
        "master_key_file",
        "key_pool",
        "reinstate_revoked",
    ),
    "Devices": (
        "endpoints",
        "default_account",
        "hooks",
        "presence",
        "export_hooks",
        "bulk",
        "mqtt_rates",
        "mqtt_outage_grace",
    ),
    "Broker": ("broker",),
    "Limits and quotas": (
        "limits",
        "quotas",
        "connections",
        "unauthenticated_rate",
        "unauthenticated_request_bytes",
        "authenticated_request_bytes",
    ),
    "Access and audit log": ("dev", "audit_retention", "audit_activity_retention", "audit_activity_bytes"),
    "Console": ("console",),
    "Yandex API": (
        "yandex_fingerprint",
        "yandex_operations_pending",
        "yandex_metadata_port",
        "yandex_metadata_service_account",
    ),
    "Log": ("log_format",),
}
"""The settings by subject, in the order of the page."""

RELOADED: Final = frozenset(
    {
        "audit_activity_bytes",
        "audit_activity_retention",
        "audit_retention",
        "bulk",
        "connections",
        "endpoints",
        "export_hooks",
        "hooks",
        "listener_certificate_lifetime",
        "mqtt_rates",
        "presence",
        "server_certificate",
        "server_certificates",
        "server_key",
        "unauthenticated_rate",
    }
)
"""The settings that SIGHUP puts in force. A change of another one needs a restart."""

FORMER_NAMES: Final[Mapping[str, str]] = {"mqtt_proxy_edges": "mqtt_proxy_fingerprints"}
"""The new names of settings, by their former names."""


_KINDS: Final[Mapping[str, str]] = {
    "list": "a list",
    "dict": "a table",
    "int": "a whole number",
    "bool": "true or false",
    "timedelta": "a duration such as 90d, 12h, 30m or 45s",
    "Path": "a path",
    "str": "text",
    "SecretStr": "text",
}
"""What a value must be, by a word of the field's annotation. The first word that occurs counts."""


def default_of(name: str) -> str:
    """The default as a user writes it, or "none"."""
    value = Settings.model_fields[name].default
    if value in (None, {}, []):
        return "none"
    return str(value).lower() if isinstance(value, bool) else written(value)


def help_of(name: str) -> str:
    """The help text of the setting's flag."""
    return f"{Settings.model_fields[name].description} (default: {default_of(name)})"


def field_at(path: Sequence[int | str]) -> FieldInfo | None:
    """The field that a setting's path names, such as ``("quotas", "users")``; None if it names no field."""
    model: type[BaseModel] | None = Settings
    field: FieldInfo | None = None
    for part in path:
        if part == "[key]" or isinstance(part, int):
            continue
        if model is not None and part in model.model_fields:
            field = model.model_fields[str(part)]
            model = _model_in(field.annotation)
        elif field is None:
            return None
    return field


def kind_of(field: FieldInfo) -> str:
    """What a value of the field must be."""
    if choices := _choices(field.annotation):
        *firsts, last = choices
        return f"must be {', '.join(firsts)} or {last}"
    if _model_in(field.annotation) is None:
        for word, kind in _KINDS.items():
            if re.search(rf"\b{word}\b", str(field.annotation)):
                return f"must be {kind}{bounds_of(field)}"
    return "must be a table"


def example_of(field: FieldInfo, *, in_file: bool) -> str | None:
    """A value, as it is written in the file or in a variable; None where the message has all values already."""
    value = field.examples[0] if field.examples else field.default
    if value is None or isinstance(value, (bool, timedelta)) or _choices(field.annotation):
        return None
    if isinstance(value, str) and value.startswith(("{", "[")):
        return value if in_file else json.dumps(tomllib.loads(f"value = {value}")["value"])
    return f'"{value}"' if in_file and not isinstance(value, int) else str(value)


def bounds_of(field: FieldInfo) -> str:
    """The bounds of a number or a duration, to follow what it must be: " from 0 to 65535"."""
    found = {}
    for part in (*field.metadata, *(each for arg in get_args(field.annotation) for each in _metadata(arg))):
        for bound in ("ge", "le"):
            if (value := getattr(part, bound, None)) is not None:
                found[bound] = written(value)
    match found:
        case {"ge": least, "le": most}:
            return f" from {least} to {most}"
        case {"ge": least}:
            return f" of at least {least}"
        case _:
            return ""


def _metadata(annotation: object) -> Sequence[object]:
    return [each for part in getattr(annotation, "__metadata__", ()) for each in getattr(part, "metadata", [part])]


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The table that a field holds, also one of several."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _choices(annotation: object) -> Sequence[str]:
    """The texts that a field can be."""
    literals = (part for part in (annotation, *get_args(annotation)) if get_origin(part) is Literal)
    return [str(choice) for literal in literals for choice in get_args(literal)]
