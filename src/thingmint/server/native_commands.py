"""Runs reads and changes of the native API for the command line: as the local administrator, without a token."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from thingmint.access.administration.accounts import list_accounts, list_regions
from thingmint.access.audit_records import AuditRecords
from thingmint.access.local_admin import local_request, recorded
from thingmint.domain.arns import Scope
from thingmint.domain.errors import DomainError, NotFound
from thingmint.native.declaring import Call
from thingmint.native.endpoints import ENDPOINTS
from thingmint.native.schemas import checked
from thingmint.services.certificates import utc_now
from thingmint.services.change import Change
from thingmint.services.refusals import NO_ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from thingmint.access.audit import AuditedStore, AuditLog
    from thingmint.domain.policies import ContextValue
    from thingmint.services.change import Environment
    from thingmint.store.engine import Transaction


def native_command(store: AuditedStore, trail: AuditLog, environment: Environment) -> Callable[..., Awaitable[Any]]:
    """Returns the command ``native``: the "data" of an endpoint's answer. It raises DomainErrors.

    ``operation`` is the endpoint's name. Without ``account`` it is the first account, without ``region`` the account's
    home region.
    """
    endpoints = {endpoint.operation: endpoint for endpoint in ENDPOINTS}
    audit = AuditRecords(store, environment.page_tokens)

    async def native(
        operation: str,
        account: str | None = None,
        region: str | None = None,
        path: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        endpoint = endpoints[operation]
        context = local_request(operation, utc_now())
        try:
            scope = await store.read(lambda tx: _scope(tx, account, region))
            given = checked(endpoint.query, query or {}), checked(endpoint.body, body or {})
        except DomainError:
            with recorded(context, trail):
                raise
        context = replace(context, account=scope.account)
        with recorded(context, trail) as outcome:
            call = Call(
                change=Change(scope, context.now, environment, _anything),
                allows=lambda _action, _resource: True,
                store=store.of(context, outcome),
                administer=_refuse,
                audit=audit,
                path=dict(path or {}),
                query=given[0],
                body=given[1],
            )
            result = await endpoint.handler(call)
        return result.model_dump(mode="json") if result is not None else None

    return native


async def _scope(tx: Transaction, account: str | None, region: str | None) -> Scope:
    """The account and region to work in; NO_ACCOUNT for the account "none". Raises NotFound."""
    if account == "none":
        return NO_ACCOUNT
    accounts = [each.id for each in await list_accounts(tx)]
    account = account or accounts[0]
    regions = await list_regions(tx, account) if account in accounts else []
    if not regions:
        raise NotFound("account", account)
    region = region or regions[0]
    if region not in regions:
        raise NotFound("region", region)
    return Scope(account, region)


def _anything(action: str, resources: Sequence[str], context: Mapping[str, ContextValue]) -> None:
    """Allows everything: the local administrator can read the database anyway."""


async def _refuse(*_given: Any, **_more: Any) -> Any:
    raise NotFound("command", "access")
