"""Registries of devices, and what binds certificates to them (the vocabulary is Yandex IoT Core's)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from thingmint.domain.registration import Scope

__all__ = ["Binding", "Device", "DeviceRegistry", "OwnerKind", "free_text", "topic_aliases"]

_MAX_ALIASES = 5  # per device, Yandex's quota

OwnerKind = Literal["device", "registry"]


@dataclass(frozen=True, slots=True)
class DeviceRegistry:
    """``log_options`` are kept for their owner and mean nothing here."""

    id: str
    account: str
    folder: str
    name: str
    description: str
    labels: Mapping[str, str]
    log_options: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Device:
    id: str
    account: str
    folder: str
    registry: str
    name: str
    description: str
    labels: Mapping[str, str]
    topic_aliases: Mapping[str, str]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Binding:
    """A certificate that a device or a registry may show. ``pem`` is what was sent, byte for byte."""

    scope: Scope
    fingerprint: str
    sha1: str
    kind: OwnerKind
    owner: str
    pem: str
    made_registration: bool
    created_at: datetime


def free_text(value: str, field: str) -> str:
    """Text without rules of its own. NUL is the one character that not every store can keep. Raises Invalid."""
    if "\0" in value:
        raise Invalid(field, "must not contain NUL")
    return value


def topic_aliases(device: str, given: Mapping[str, str]) -> dict[str, str]:
    """A device's aliases; {id} stands for the id that the device only gets when it is made. Raises Invalid."""
    if len(given) > _MAX_ALIASES:
        raise Invalid("topic_aliases", f"must have at most {_MAX_ALIASES} entries")
    return {
        free_text(alias, "topic_aliases"): free_text(topic, "topic_aliases").replace("{id}", device)
        for alias, topic in given.items()
    }
