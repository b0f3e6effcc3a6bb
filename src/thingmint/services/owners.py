"""Owners of certificates: what devices, registries and brokers of Yandex IoT Core have in common.

There is no table of brokers yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Generic, Literal, Protocol, TypeVar

from thingmint.domain.errors import Invalid, NotFound
from thingmint.store.table import record

OwnerKind = Literal["device", "registry", "broker"]


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
    def resources(self) -> tuple[str, ...]:
        """As policies name it and all that contain it, the narrowest first; the cloud is left out."""
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
    """What a call names by its id, which may not exist.

    That is an error only once the caller may know, and once no earlier call with the same idempotency key is found: a
    repeated deletion is answered although its device is gone.
    """

    noun: str
    id: str
    found: R_co | None

    def get(self) -> R_co:
        """Raises NotFound."""
        if self.found is None:
            raise NotFound(self.noun, self.id)
        return self.found


def check_text(value: str, field: str) -> str:
    """Text without rules of its own. NUL is the one character that not every store can keep. Raises Invalid."""
    if "\0" in value:
        raise Invalid(field, "must not contain NUL")
    return value
