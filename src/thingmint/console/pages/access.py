"""Who may use the APIs: principals with their keys and policies, and what policies say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from thingmint.access.administration import COMMANDS, inputs
from thingmint.access.administration.credentials import credentials_of
from thingmint.access.administration.policies import (
    MANAGED_POLICIES,
    POLICIES,
    is_managed,
    list_attached,
    managed_document,
)
from thingmint.access.administration.principals import get_principal, principals_after
from thingmint.console.page import page, url
from thingmint.domain.errors import NotFound
from thingmint.services.pages import Cursor, page_by_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from thingmint.access.administration.credentials import Credential
    from thingmint.access.administration.policies import Attached, Policy
    from thingmint.access.administration.principals import Principal
    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.services.pages import Page
    from thingmint.store.engine import Transaction

_ROWS = 50
_MAX_CREDENTIALS = 100
_LONGEST_NAME = 128
_KINDS = {
    "user": ("/access", "Users", "Users are people, or programs of your own."),
    "role": ("/access/roles", "Roles", "Users and other servers assume a role for a time."),
    "service-account": (
        "/access/service-accounts",
        "Service accounts",
        "Service accounts are programs, in the form of Yandex Cloud.",
    ),
}
"""The path, the title, and what principals of the kind are."""


@dataclass(frozen=True, slots=True)
class _Found:
    """``keys`` has access keys, authorized keys, sessions and tokens, as far as the caller may see them."""

    principal: Principal
    policies: Sequence[Attached]
    keys: Sequence[Credential]
    may_see_keys: bool


def _list_of(kind: str) -> Callable[[Call], Awaitable[Answer]]:
    path, title, what = _KINDS[kind]

    async def shown(call: Call) -> Answer:
        call.may(f"thingmint:{COMMANDS[f'{kind}.list'].event()}")
        cursor = Cursor(_ROWS, call.query.text("page", 2000), "page")

        async def body(tx: Transaction) -> Page[Principal]:
            async def fetch(after: str, limit: int) -> list[Principal]:
                return await principals_after(tx, call.caller.account, kind, after, limit)

            return await page_by_text(call.change, cursor, f"console {kind}s", fetch, lambda each: each.name)

        found = await call.read(body)
        return call.render(
            "access.html",
            principals=found.items,
            kind=kind,
            path=path,
            title=title,
            what=what,
            tabs=tabs_of(call, path),
            first=url(path) if cursor.token else None,
            next=url(path, page=found.next_token) if found.next_token else None,
        )

    return shown


def _one_of(kind: str) -> Callable[[Call], Awaitable[Answer]]:
    async def shown(call: Call) -> Answer:
        call.may(f"thingmint:{_attached_event(kind)}")
        name = call.path["name"]
        found = await call.read(lambda tx: _read(tx, call, kind, name))
        return call.render(
            "principal.html",
            found=found,
            principal=found.principal,
            kind=kind.replace("-", " "),
            trust=found.principal.trust_policy if call.allows("thingmint:ListRoles") else None,
            may_see_documents=call.allows("thingmint:GetPolicy"),
            may_see_audit=call.allows("thingmint:ListAudit"),
            back=_KINDS[kind],
            resource=f"{kind}/{name}",
        )

    return shown


def _attached_event(kind: str) -> str:
    return COMMANDS["policy.attached"].event(inputs.Principal(account="", principal=f"{kind}/any"))


async def _read(tx: Transaction, call: Call, kind: str, name: str) -> _Found:
    principal = await get_principal(tx, call.caller.account, kind, name)
    listed = COMMANDS["key.list"].event(inputs.Principal(account="", principal=f"{kind}/any"))
    may_keys = call.allows(f"thingmint:{listed}")
    may_tokens = call.allows("thingmint:ListApiTokens")
    keys = await credentials_of(tx, principal.id, _MAX_CREDENTIALS) if may_keys or may_tokens else []
    return _Found(
        principal,
        await list_attached(tx, principal.id),
        [key for key in keys if (may_tokens if key.kind == "api-token" else may_keys)],
        may_keys or may_tokens,
    )


for _kind, (_path, _, _) in _KINDS.items():
    page(_path, COMMANDS[f"{_kind}.list"].event(), entry="/access")(_list_of(_kind))
    page(f"/access/{_kind}/{{name}}", _attached_event(_kind), entry="/access")(_one_of(_kind))


@page("/access/policies", "ListPolicies")
async def policies(call: Call) -> Answer:
    call.may("thingmint:ListPolicies")
    cursor = Cursor(_ROWS, call.query.text("page", 2000), "page")

    async def body(tx: Transaction) -> Page[Policy]:
        async def fetch(after: str, limit: int) -> list[Policy]:
            return await POLICIES.page(tx, call.caller.account, after=after, limit=limit)

        return await page_by_text(call.change, cursor, "console policies", fetch, lambda each: each.name)

    found = await call.read(body)
    return call.render(
        "access_policies.html",
        policies=found.items,
        managed=MANAGED_POLICIES,
        tabs=tabs_of(call, "/access/policies"),
        first=url("/access/policies") if cursor.token else None,
        next=url("/access/policies", page=found.next_token) if found.next_token else None,
    )


@page("/access/policy", "GetPolicy")
async def policy(call: Call) -> Answer:
    call.may("thingmint:GetPolicy")
    name = call.query.text("name", _LONGEST_NAME)
    document: str | None
    if is_managed(name):
        document = managed_document(name, "*")
    else:
        found = await call.read(lambda tx: POLICIES.find(tx, call.caller.account, name))
        document = found.document if found else None
    if document is None:
        raise NotFound("policy", name)
    text = orjson.dumps(orjson.loads(document), option=orjson.OPT_INDENT_2).decode()
    return call.render("access_policy.html", name=name, document=text, is_managed=is_managed(name))


def tabs_of(call: Call, current: str) -> list[tuple[str, str, bool]]:
    """The views of access, as far as the caller may open them."""
    views = [(title, path, COMMANDS[f"{kind}.list"].event()) for kind, (path, title, _) in _KINDS.items()]
    views += [("Policies", "/access/policies", "ListPolicies"), ("Audit log", "/access/audit", "ListAudit")]
    return [
        (title, url(path), path == current)
        for title, path, event in views
        if path == current or call.allows(f"thingmint:{event}")
    ]
