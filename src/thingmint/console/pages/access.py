"""Who may use the APIs: the lists of principals, and one of them with its keys and policies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from thingmint.access.administration.credentials import credentials_of
from thingmint.access.administration.policies import MANAGED_POLICIES, POLICIES, list_attached
from thingmint.access.administration.principals import get_principal, principals_after
from thingmint.console.administering import event_of, may_run
from thingmint.console.lockout import ADMINISTRATOR, warning_of
from thingmint.console.page import links_of, page
from thingmint.console.policy_editor import pretty
from thingmint.services.device_registry import list_folders
from thingmint.services.pages import page_by_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from thingmint.access.administration.credentials import Credential
    from thingmint.access.administration.policies import Attached
    from thingmint.access.administration.principals import Principal
    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.services.pages import Page
    from thingmint.store.engine import Transaction

_ROWS = 50
_MAX_CREDENTIALS = 100
_LONGEST_NAME = 128
LISTS = {
    "user": ("/access", "Users", "Users are people, or programs of your own."),
    "role": ("/access/roles", "Roles", "Users and other servers assume a role for a time."),
    "service-account": (
        "/access/service-accounts",
        "Service accounts",
        "Service accounts are programs, in the form of Yandex Cloud.",
    ),
}
"""The path, the title, and what principals of the kind are."""
LIFETIMES = [
    ("1d", "1 day"),
    ("7d", "7 days"),
    ("30d", "30 days"),
    ("90d", "90 days"),
    ("365d", "1 year"),
    ("", "No end"),
]
"""Of a new token."""
DURATIONS = [("15m", "15 minutes"), ("1h", "1 hour"), ("12h", "12 hours"), ("36h", "36 hours")]
"""Of a new session."""
_MAX_CHOICES = 100
_OLD = timedelta(days=90)  # of a key that should be replaced, or that was not used for so long
_NEW = timedelta(days=7)  # of a key that was perhaps not used yet


@dataclass(frozen=True, slots=True)
class _Found:
    """``keys`` has access keys, authorized keys, sessions and tokens, as far as the caller may see them."""

    principal: Principal
    policies: Sequence[Attached]
    keys: Sequence[Credential]
    may_see_keys: bool
    attachable: Sequence[str]
    has_more_policies: bool
    folders: Sequence[tuple[str, str]]


def _list_of(kind: str) -> Callable[[Call], Awaitable[Answer]]:
    path, title, what = LISTS[kind]

    async def shown(call: Call) -> Answer:
        call.may(f"thingmint:{event_of(f'{kind}.list')}")
        cursor = call.cursor(_ROWS)

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
            may_make=may_run(call, f"{kind}.create"),
            tabs=tabs_of(call, path),
            **links_of(path, cursor, found.next_token),
        )

    return shown


def _one_of(kind: str) -> Callable[[Call], Awaitable[Answer]]:
    async def shown(call: Call) -> Answer:
        call.may(f"thingmint:{event_of('policy.attached', kind)}")
        name = call.path["name"]
        found = await call.read(lambda tx: _read(tx, call, kind, name))
        return call.render(
            "principal.html",
            found=found,
            principal=found.principal,
            kind=kind,
            words=kind.replace("-", " "),
            may=_permissions(call, kind),
            guarded=await _guarded(call, kind, name, found),
            marks={key.id: mark for key in found.keys if (mark := _mark(key, call.change.now))},
            lifetimes=LIFETIMES,
            durations=DURATIONS,
            trust=pretty(found.principal.trust_policy or "") if call.allows("thingmint:ListRoles") else None,
            may_see_documents=call.allows("thingmint:GetPolicy"),
            may_see_audit=call.allows("thingmint:ListAudit"),
            back=LISTS[kind],
            resource=f"{kind}/{name}",
        )

    return shown


async def _guarded(call: Call, kind: str, name: str, found: _Found) -> bool:
    """True if disabling the principal, or detaching the administrator's policy, asks for its name first."""
    is_administrator = any(each.policy == ADMINISTRATOR for each in found.policies)
    if not is_administrator and found.principal.id != call.caller.principal:
        return False
    return bool(await warning_of(call, kind, name))


async def _read(tx: Transaction, call: Call, kind: str, name: str) -> _Found:
    principal = await get_principal(tx, call.caller.account, kind, name)
    may_keys = may_run(call, "key.list", kind)
    may_tokens = may_run(call, "token.list")
    keys = await credentials_of(tx, principal.id, _MAX_CREDENTIALS) if may_keys or may_tokens else []
    return _Found(
        principal,
        await list_attached(tx, principal.id),
        [key for key in keys if (may_tokens if key.kind == "api-token" else may_keys)],
        may_keys or may_tokens,
        *await _attachable(tx, call, kind),
        await _folders(tx, call),
    )


async def _attachable(tx: Transaction, call: Call, kind: str) -> tuple[list[str], bool]:
    """The policies that the caller may attach, and True if the account has more: the first ones by name are listed."""
    if not (may_run(call, "policy.attach", kind) and may_run(call, "policy.list")):
        return [], False
    own = await POLICIES.page(tx, call.caller.account, after="", limit=_MAX_CHOICES + 1)
    return [*(each.name for each in own[:_MAX_CHOICES]), *MANAGED_POLICIES], len(own) > _MAX_CHOICES


async def _folders(tx: Transaction, call: Call) -> list[tuple[str, str]]:
    if not may_run(call, "folder.list"):
        return []
    return [(each.id, each.name) for each in (await list_folders(tx, call.caller.account))[:_MAX_CHOICES]]


def _permissions(call: Call, kind: str) -> dict[str, bool]:
    """Which buttons the page has."""
    return {
        "change": may_run(call, f"{kind}.disable"),
        "delete": may_run(call, f"{kind}.delete"),
        "attach": may_run(call, "policy.attach", kind),
        "detach": may_run(call, "policy.detach", kind),
        "new_key": kind != "role" and may_run(call, "key.create", kind),
        "new_token": kind == "user" and may_run(call, "token.create"),
        "trust": kind == "role" and may_run(call, "role.trust"),
        "restrict": kind == "user" and may_run(call, "token.restrict"),
        "new_session": may_run(call, "session.create", kind),
        "change_key": may_run(call, "key.disable", kind),
        "change_token": may_run(call, "token.disable"),
        "change_session": may_run(call, "key.disable"),
        "delete_key": may_run(call, "key.delete", kind),
        "delete_token": may_run(call, "token.delete"),
        "delete_session": may_run(call, "key.delete"),
    }


def _mark(key: Credential, now: datetime) -> str | None:
    """What to say about an active key or token that should be replaced or deleted."""
    if key.kind == "session" or key.status != "active" or (key.expires_at is not None and key.expires_at <= now):
        return None
    if now - (key.last_used_at or key.created_at) > (_OLD if key.last_used_at else _NEW):
        return "Unused"
    return "Old" if now - key.created_at > _OLD else None


for _kind, (_path, _, _) in LISTS.items():
    page(_path, event_of(f"{_kind}.list"), entry="/access")(_list_of(_kind))
    page(f"/access/{_kind}/{{name}}", event_of("policy.attached", _kind), entry="/access")(_one_of(_kind))


def tabs_of(call: Call, current: str) -> list[tuple[str, str, bool]]:
    """The views of access, as far as the caller may open them."""
    views = [(title, path, f"thingmint:{event_of(f'{kind}.list')}") for kind, (path, title, _) in LISTS.items()]
    views += [
        ("Policies", "/access/policies", "thingmint:ListPolicies"),
        ("Device policies", "/policies", "iot:ListPolicies"),
        ("Audit log", "/access/audit", "thingmint:ListAudit"),
    ]
    return call.tabs(views, current)
