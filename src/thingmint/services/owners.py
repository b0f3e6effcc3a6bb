"""Owners of certificates: what devices, registries and brokers of Yandex IoT Core have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Generic, Protocol, TypeVar

from thingmint.domain.errors import Invalid, NotFound
from thingmint.domain.yandex_topics import OwnerKind
from thingmint.store.table import record


@record
class Owner:
    kind: ClassVar[OwnerKind]

    id: str
    account: str
    folder: str
    name: str
    description: str
    labels: Mapping[str, str]
    created_at: datetime

    @property
    def resource(self) -> str:
        return f"yandex:{self.kind}/{self.id}"

    @property
    def parent(self) -> str:
        """The id of what it is in, where its name is unique."""
        return self.folder

    @property
    def resources(self) -> tuple[str, ...]:
        """The owner and what contains it, but not the cloud, as policies name them; the narrowest first."""
        return self.resource, f"yandex:folder/{self.folder}"


class InFolder(Protocol):
    """An owner, or a folder itself."""

    @property
    def folder(self) -> str: ...

    @property
    def resources(self) -> tuple[str, ...]: ...


R_co = TypeVar("R_co", bound=InFolder, covariant=True)


@dataclass(frozen=True, slots=True)
class Named(Generic[R_co]):
    """A resource that a call names by its id. It may not exist.

    NotFound is raised only after the caller is authorized, and after a search for an earlier call with the same
    idempotency key: a repeated deletion succeeds although the device no longer exists.
    """

    noun: str
    id: str
    found: R_co | None

    def get(self) -> R_co:
        """Return the resource. Raises NotFound."""
        if self.found is None:
            raise NotFound(self.noun, self.id)
        return self.found


NAME = re.compile(r"[a-zA-Z0-9_-]{1,50}")
"""The names of devices and registries (the contract of yandex.cloud.iot.devices.v1)."""


def check_name(name: str, field: str) -> str:
    """Return a name that is given. Raises Invalid."""
    if not NAME.fullmatch(name):
        raise Invalid(field, "must be 1 to 50 letters, digits, hyphens and underscores")
    return name


def check_text(value: str, field: str) -> str:
    """Return text that has no other rules. Raises Invalid for NUL, which not every store can keep."""
    if "\0" in value:
        raise Invalid(field, "must not contain NUL")
    return value
