"""Authenticates devices, registries and brokers of Yandex IoT Core that connect over MQTT.

Source: Yandex's page "Authorization in Yandex IoT Core". An owner is authenticated by a certificate that is bound to
it, or by its id and a password. If both are given, the password decides alone: a wrong one is refused although the
certificate is good, and with a correct one the certificate may be another owner's, or unknown.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import orjson

from thingmint.domain.arns import Scope
from thingmint.domain.names import source_of
from thingmint.domain.policies.decisions import Deny
from thingmint.domain.yandex_topics import OwnerKind, TopicOwner
from thingmint.services.device_facts import BoundTo, owner_dependencies
from thingmint.services.passwords import PASSWORDS
from thingmint.services.topic_aliases import all_aliases
from thingmint.store.queries import load_queries

if TYPE_CHECKING:
    from thingmint.services.device_facts import Dependency
    from thingmint.services.password_verification import PasswordVerifier
    from thingmint.store.engine import Fetcher, Store

_QUERIES = load_queries("owner_facts")
_ID = re.compile(r"[A-Za-z0-9_-]{1,50}")


class OwnerFacts(NamedTuple):
    """``registry`` is the device's, or the registry's own id; empty for a broker."""

    account: str
    kind: OwnerKind
    id: str
    region: str
    registry: str
    disabled: bool
    aliases: dict[str, str]

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)

    @property
    def flaw(self) -> str | None:
        return f"registry {self.registry} is disabled" if self.disabled else None

    @property
    def resource(self) -> str:
        return f"yandex:{self.kind}/{self.id}"

    @property
    def topics(self) -> TopicOwner:
        return TopicOwner(self.kind, self.id, self.registry, self.aliases)

    @property
    def dependencies(self) -> list[Dependency]:
        owner = BoundTo(self.kind, self.id, self.registry)
        return [(self.account, "", "account", self.account), *owner_dependencies(self.account, owner)]


class PasswordLogin(NamedTuple):
    """An owner whose password was correct."""

    owner: OwnerFacts
    password_id: str


async def find_owner(fetcher: Fetcher, account: str, id: str) -> OwnerFacts | None:
    if not _ID.fullmatch(id):
        return None
    rows = await fetcher.fetch_all(_QUERIES["owner_facts"], id, account)
    if not rows:
        return None
    kind, found, region, registry, disabled, aliases = rows[0]
    return OwnerFacts(account, kind, found, region, registry, bool(disabled), orjson.loads(aliases))


class OwnerAuthenticator:
    def __init__(self, store: Store, passwords: PasswordVerifier) -> None:
        self._store = store
        self._passwords = passwords

    async def find(self, account: str, id: str) -> OwnerFacts | None:
        return await find_owner(self._store, account, id)

    async def foreign(self, account: str, topics: TopicOwner, id: str) -> Deny | None:
        """The refusal of a topic that names the device ``id``, unless the device is in the owner's registry."""
        found = await self.find(account, id)
        if found is None or found.kind != "device" or found.registry != topics.registry:
            return Deny("the topic is of a device that is not in the registry")
        return None

    async def aliases_of(self, registry: str) -> dict[str, str]:
        """Return the topics by alias of all devices of a registry. Raises LimitExceeded and Unavailable."""
        return await self._store.read(lambda tx: all_aliases(tx, registry))

    async def log_in(
        self, account: str, user_name: str, password: str, address: str
    ) -> PasswordLogin | OwnerFacts | None:
        """Return the owner alone for a wrong password, and None for an unknown id. Both cost as much.

        Raises Throttled and Unavailable.
        """
        password_id = await self._passwords.verify(account, user_name, password, source_of(address))
        owner = await self.find(account, user_name)
        return PasswordLogin(owner, password_id) if owner is not None and password_id is not None else owner

    async def still_logged_in(self, account: str, user_name: str, password_id: str) -> OwnerFacts | None:
        """The owner, while it has the password that was correct when it connected. Raises Unavailable."""
        found = await self._store.read(lambda tx: PASSWORDS.find(tx, account, password_id))
        return await self.find(account, user_name) if found is not None and found.owner == user_name else None
