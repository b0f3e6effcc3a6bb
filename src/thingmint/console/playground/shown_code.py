"""What the playground shows of a call in other clients, and where these find the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from thingmint.console.playground.held_values import KeptFile

CREDENTIALS: Final = "data/clients"
ROOT: Final = "data/ca.pem"


class Equivalent(NamedTuple):
    """The same call in one client. ``id`` is for the page's elements; ``note`` says what it needs."""

    id: str
    title: str
    text: str
    note: str = ""


class Equivalents(NamedTuple):
    """``credentials`` are the commands to run before. The code reads ``files`` and the variables of ``secrets``.

    ``missing`` are the fields for which a word in capitals stands.
    """

    credentials: str
    files: tuple[KeptFile, ...]
    secrets: tuple[str, ...]
    missing: tuple[str, ...]
    clients: tuple[Equivalent, ...]


@dataclass(frozen=True, slots=True)
class Addresses:
    """``api`` and ``grpc`` are a host with its port. ``own_root``: their certificates are of this server's own CA.

    ``is_home``: the region is the home region of the account.
    """

    api: str
    grpc: str
    mqtt_host: str
    mqtt_port: int
    account: str
    region: str
    own_root: bool = True
    is_home: bool = True

    @property
    def url(self) -> str:
        return f"https://{self.api}"
