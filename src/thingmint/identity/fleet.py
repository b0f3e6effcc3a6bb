"""Registries of devices, and what binds certificates to them (the vocabulary is Yandex IoT Core's)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from thingmint.identity.registration import Scope

__all__ = ["Binding", "Device", "DeviceRegistry", "OwnerKind"]

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
