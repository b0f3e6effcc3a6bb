"""The names by which clients reach the server, and by which devices choose an account."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.arns import Scope
from thingmint.domain.certificate_profiles import listener_profile
from thingmint.domain.errors import Unavailable
from thingmint.instance.clients import update_endpoints
from thingmint.services.hostnames import HostNames, list_account_hostnames, list_hostnames
from thingmint.settings.tables import Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.instance.layout import DataDirectory
    from thingmint.services.hostnames import AccountHostname
    from thingmint.settings import Settings
    from thingmint.store.engine import PublishedChange, Reader, Transaction
    from thingmint.tls import ListenerTLS

_RETRY_AFTER = 1.0  # seconds

_log = structlog.get_logger("thingmint.server")

_Stored = tuple[list[str], "list[AccountHostname]"]


@dataclass(slots=True)
class ServedNames:
    """The names of all accounts (``hostnames``), the first of which clients are given, and the names of one account.

    An account's names are stored ones, and those of the setting ``endpoints``, which win. ``host_names`` tells them to
    the gateway; ``addresses`` has the name that AWS clients of each account and region are told.
    """

    store: Reader
    directory: DataDirectory
    tls: ListenerTLS
    settings: Settings
    host_names: HostNames = field(default_factory=HostNames)
    addresses: dict[Scope, str] = field(default_factory=dict)
    hostnames: list[str] = field(default_factory=list)
    _of_accounts: list[AccountHostname] = field(default_factory=list)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)

    def all(self) -> list[str]:
        """The names in the certificate."""
        return list(dict.fromkeys([*self.hostnames, *self._endpoints()]))

    def yandex_host(self, account: str) -> str:
        """A name of the account under which Yandex's rules hold, or else one that is given to no account."""
        endpoints = self._endpoints()
        own = [name for name, each in endpoints.items() if (each.account, each.cloud) == (account, "yandex")]
        free = [name for name in self.hostnames if name not in endpoints and not name.startswith("*")]
        return (own or free or self.hostnames)[0]

    def changed(self, changes: Sequence[PublishedChange]) -> None:
        """Asks run() to look for new names. The change feed calls this: another process may have changed the names."""
        if any(change.kind == "access" for change in changes):
            self._asked.set()

    async def run(self, ports: Mapping[str, int]) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self.follow(ports)
            except (Unavailable, OSError) as error:
                _log.error("hostnames_not_followed", why=str(error))
                self._asked.set()
                await asyncio.sleep(_RETRY_AFTER)

    async def load(self) -> None:
        """Reads the names and issues the certificate, before the server listens. Raises Unavailable."""
        self._take(await self.store.read(_stored))
        self.tls.renew(self.all())

    async def follow(self, ports: Mapping[str, int]) -> None:
        """Calls refresh() if the names in the store have changed."""
        if await self.store.read(_stored) != (self.hostnames, self._of_accounts):
            await self.refresh(ports)

    async def refresh(self, ports: Mapping[str, int]) -> None:
        """Issues the certificate again and rewrites the client files, after a change of names or settings."""
        self._take(await self.store.read(_stored))
        profile = listener_profile(self.settings.listener_certificate_lifetime)
        await self.tls.renew_without_blocking(self.all, profile)
        self.write_endpoints(ports)

    def use(self, settings: Settings) -> None:
        """Lets devices that connect later choose their accounts by the names of ``settings``, too."""
        self.settings = settings
        self._tell()

    def write_endpoints(self, ports: Mapping[str, int]) -> None:
        name = self.hostnames[0]
        update_endpoints(
            self.directory,
            name,
            api_port=ports["api"],
            grpc_port=ports["grpc"],
            own_root_on_api=self.tls.shows_own("api", name),
            own_root_on_grpc=self.tls.shows_own("grpc", name),
        )

    def _take(self, stored: _Stored) -> None:
        self.hostnames, self._of_accounts = stored
        for each in self._of_accounts:
            if each.name in self.settings.endpoints:
                _log.warning("setting_overrides_hostname", name=each.name, account=each.scope.account)
        self._tell()

    def _tell(self) -> None:
        endpoints = self._endpoints()
        _tell(self.host_names, endpoints)
        self.addresses.clear()
        for name, each in endpoints.items():
            if each.cloud == "aws":
                self.addresses.setdefault(Scope(each.account, each.region), name)

    def _endpoints(self) -> dict[str, Endpoint]:
        return _endpoints(self.settings, self._of_accounts)


def account_names(settings: Settings, stored: Sequence[AccountHostname]) -> HostNames:
    """The names of one account each, without a server that follows their changes."""
    names = HostNames()
    _tell(names, _endpoints(settings, stored))
    return names


def _endpoints(settings: Settings, stored: Sequence[AccountHostname]) -> dict[str, Endpoint]:
    """The names of one account each: those of the setting first."""
    configured = settings.endpoints
    return configured | {each.name: _endpoint(each) for each in stored if each.name not in configured}


def _tell(host_names: HostNames, endpoints: Mapping[str, Endpoint]) -> None:
    scopes = {name: Scope(each.account, each.region) for name, each in endpoints.items()}
    host_names.replace(scopes, frozenset(name for name, each in endpoints.items() if each.cloud == "yandex"))


async def _stored(tx: Transaction) -> _Stored:
    return await list_hostnames(tx), await list_account_hostnames(tx)


def _endpoint(hostname: AccountHostname) -> Endpoint:
    return Endpoint(account=hostname.scope.account, region=hostname.scope.region, cloud=hostname.api)
