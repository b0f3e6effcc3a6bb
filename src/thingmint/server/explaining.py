"""The local command "why", and what it needs of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.access.administration.accounts import list_accounts, list_regions
from thingmint.domain.arns import Scope
from thingmint.domain.errors import NotFound
from thingmint.services.certificates import utc_now
from thingmint.services.device_authentication import DeviceAuthenticator
from thingmint.services.device_decisions import Question
from thingmint.services.device_explanations import Asked, Explainer, LiveConnection
from thingmint.services.owner_authentication import OwnerAuthenticator
from thingmint.services.password_verification import PasswordVerifier
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from thingmint.instance.create import Instance
    from thingmint.mqtt.connected_clients import ConnectedClients
    from thingmint.services.hostnames import HostNames
    from thingmint.services.password_hashing import PasswordHasher
    from thingmint.settings import Settings
    from thingmint.store.engine import Reader, Transaction

    Explain = Callable[..., Awaitable[list[dict[str, Any]]]]
    """Takes what is asked, the accounts and regions to look in, and ``is_limited``, as Explainer.explain does."""


async def default_account(store: Reader, settings: Settings) -> str | None:
    """The account of devices whose account follows from neither host name nor certificate. Raises ConfigError."""
    if settings.default_account == "none":
        return None
    accounts = [account.id for account in await store.read(list_accounts)]
    if settings.default_account is None:
        return accounts[0]
    if settings.default_account not in accounts:
        raise ConfigError("default-account", f"there is no account {settings.default_account}")
    return settings.default_account


def explaining(
    instance: Instance,
    settings: Settings,
    host_names: HostNames,
    passwords: PasswordHasher,
    clients: ConnectedClients,
) -> Explain:
    """Explains what devices may do, as this server decides."""
    store = instance.store
    owners = OwnerAuthenticator(store, PasswordVerifier(store, passwords, lambda: False))

    def connections_of(scope: Scope, client_id: str, limit: int) -> list[LiveConnection]:
        return [
            LiveConnection(connected.certificate_id, connected.peer.address, connected.peer.sni, name)
            for name, connected in clients.of_client_id(scope, client_id, limit)
        ]

    async def explain(asked: Asked, scopes: Sequence[Scope], *, is_limited: bool) -> list[dict[str, Any]]:
        account_of_others = await default_account(store, settings)
        authenticator = DeviceAuthenticator(store, host_names, utc_now, account_of_others, owners=owners)
        reinstate = settings.reinstate_revoked
        explainer = Explainer(store, authenticator, owners, utc_now, connections_of, reinstate_revoked=reinstate)
        return await explainer.explain(asked, scopes, is_limited=is_limited)

    return explain


def why_command(store: Reader, explain: Explain) -> Callable[..., Awaitable[list[dict[str, Any]]]]:
    """The command, which takes an account and region, each may be None, and the fields of ``Asked``."""

    async def why(
        account: str | None, region: str | None, questions: list[tuple[Any, str, bool]], **asked: Any
    ) -> list[dict[str, Any]]:
        scopes = await store.read(lambda tx: _scopes(tx, account, region))
        given = Asked(questions=[Question(*each) for each in questions], **asked)
        return await explain(given, scopes, is_limited=account is not None or region is not None)

    return why


async def _scopes(tx: Transaction, account: str | None, region: str | None) -> list[Scope]:
    """All accounts and regions, or those that were chosen. Raises NotFound."""
    accounts = [each.id for each in await list_accounts(tx)]
    if account is not None and account not in accounts:
        raise NotFound("account", account)
    scopes = [
        Scope(each, of)
        for each in (accounts if account is None else [account])
        for of in await list_regions(tx, each)
        if region in (None, of)
    ]
    if not scopes:
        raise NotFound("region", region or "")
    return scopes
