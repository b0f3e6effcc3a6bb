"""The editors of the documents of a principal: the trust policy of a role, and the policy that restricts a token."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from thingmint.access.administration.credentials import CREDENTIALS, check_trust
from thingmint.access.administration.principals import get_principal
from thingmint.console.administering import administer, administer_guarded, event_of
from thingmint.console.page import action, page, url
from thingmint.console.pages.access import LIFETIMES
from thingmint.console.policy_editor import NEW_POLICY, drafted, pretty, sent_document
from thingmint.domain.errors import Conflict, Denied, Invalid, NotFound
from thingmint.domain.policies import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.access.administration.principals import Principal
    from thingmint.console.page import Call
    from thingmint.console.policy_editor import Draft
    from thingmint.http.messages import Answer
    from thingmint.store.engine import Transaction

_ENTRY = "/access"
_TRUST, _TOKEN, _NEW = "/access/role/{name}/trust", "/access/user/{name}/token-policy", "/access/user/{name}/new-token"
_CHANGES_TRUST, _RESTRICTS = f"thingmint:{event_of('role.trust')}", f"thingmint:{event_of('token.restrict')}"


@dataclass(frozen=True, slots=True)
class _Edited:
    """A document that the store has. ``warning`` is why a change of it to the draft needs ``typed``."""

    document: str
    typed: str = ""
    warning: str = ""

    @property
    def version(self) -> str:
        """What the form sends back, to notice that another person changed the document since."""
        return hashlib.sha256(self.document.encode()).hexdigest()


def _check(call: Call, noun: str, name: str, edited: _Edited) -> None:
    """Raises Conflict if the document is not the one that was opened, and Invalid if a name has to be typed."""
    if call.form.text("version", 64) != edited.version:
        raise Conflict(noun, name, f"The policy of the {noun} {name} was changed after you opened it. Open it again")
    if edited.warning and call.form.text("confirm") != edited.typed:
        raise Invalid("confirm", f"Type {edited.typed} to confirm")


# -- the trust policy of a role ---------------------------------------------------------------------------------------


@page(_TRUST, "ListRoles", entry=_ENTRY)
async def trust(call: Call) -> Answer:
    call.may("thingmint:ListRoles")
    call.may(_CHANGES_TRUST)
    edited = await call.read(lambda tx: _trust_of(tx, call, ""))
    return _trust_editor(call, await _trust_draft(call, pretty(edited.document)), edited.version)


@action(f"{_TRUST}/check", "ListRoles", entry=_ENTRY, is_recorded=False)
async def check_trust_policy(call: Call) -> Answer:
    """The editor with what the linter says, and with a warning if the person loses the role."""
    call.may("thingmint:ListRoles")
    call.may(_CHANGES_TRUST)
    draft = await _trust_draft(call, sent_document(call))
    edited = await call.read(lambda tx: _trust_of(tx, call, draft.text if draft.may_be_saved else ""))
    return _trust_editor(call, draft, call.form.text("version", 64), edited)


@action(f"{_TRUST}/save", event_of("role.trust"), entry=_ENTRY, form=check_trust_policy)
async def save_trust(call: Call) -> Answer:
    call.may(_CHANGES_TRUST)
    name, draft = call.path["name"], await _trust_draft(call, sent_document(call))
    if not draft.may_be_saved:
        return _trust_editor(call, draft, call.form.text("version", 64), status=400)

    async def guard(tx: Transaction) -> None:
        _check(call, "role", name, await _trust_of(tx, call, draft.text))

    await administer_guarded(call, "role.trust", guard, name=name, trust_policy=draft.text)
    return call.done(f"/access/role/{name}", "The trust policy is saved. It is in force at once.")


async def _trust_of(tx: Transaction, call: Call, new: str) -> _Edited:
    """The trust policy. Warns if the caller may assume the role with it, and not with the ``new`` one."""
    role = await get_principal(tx, call.caller.account, "role", call.path["name"])
    document = role.trust_policy or ""
    if not new or not _may_assume(call, role) or _may_assume(call, replace(role, trust_policy=new)):
        return _Edited(document)
    warning = "You may assume this role now. With the new trust policy you may not."
    return _Edited(document, role.name, warning)


def _may_assume(call: Call, role: Principal) -> bool:
    try:
        check_trust(call.caller, role)
    except Denied:
        return False
    return True


async def _trust_draft(call: Call, text: str) -> Draft:
    return await drafted(call, Kind.TRUST, text, url(f"/access/role/{call.path['name']}/trust/check"))


def _trust_editor(call: Call, draft: Draft, version: str, edited: _Edited | None = None, status: int = 200) -> Answer:
    name = call.path["name"]
    return _editor(
        call,
        draft,
        edited,
        status,
        title=f"Who may assume {name}",
        sentence="The trust policy names the callers that may assume the role. It is in force at once.",
        label="Trust policy, in JSON",
        save=url(f"/access/role/{name}/trust/save"),
        back=url(f"/access/role/{name}"),
        fields={"version": version},
        command=f"thingmint access role trust {name} --trust-policy trust.json",
    )


# -- the policy of a token that exists --------------------------------------------------------------------------------


@page(_TOKEN, event_of("token.list"), entry=_ENTRY)
async def token_policy(call: Call) -> Answer:
    call.may(f"thingmint:{event_of('token.list')}")
    call.may(_RESTRICTS)
    id = call.query.text("id")
    edited = await call.read(lambda tx: _restriction_of(tx, call, id))
    text = pretty(edited.document) if edited.document else NEW_POLICY
    return _token_editor(call, await _token_draft(call, text), id, edited.version, edited)


@action(f"{_TOKEN}/check", event_of("token.list"), entry=_ENTRY, is_recorded=False)
async def check_token_policy(call: Call) -> Answer:
    """The editor with what the linter says, and with a warning if the person is signed in with the token."""
    call.may(f"thingmint:{event_of('token.list')}")
    call.may(_RESTRICTS)
    id, draft = call.form.text("id"), await _token_draft(call, sent_document(call))
    edited = await call.read(lambda tx: _restriction_of(tx, call, id))
    return _token_editor(call, draft, id, call.form.text("version", 64), edited)


@action(f"{_TOKEN}/save", event_of("token.restrict"), entry=_ENTRY, form=check_token_policy)
async def save_token_policy(call: Call) -> Answer:
    call.may(_RESTRICTS)
    id, draft = call.form.text("id"), await _token_draft(call, sent_document(call))
    if not draft.may_be_saved:
        return _token_editor(call, draft, id, call.form.text("version", 64), status=400)

    async def guard(tx: Transaction) -> None:
        _check(call, "token", id, await _restriction_of(tx, call, id))

    await administer_guarded(call, "token.restrict", guard, id=id, policy=draft.text)
    return call.done(f"/access/user/{call.path['name']}", f"The token {id} is restricted. That is in force at once.")


async def _restriction_of(tx: Transaction, call: Call, id: str) -> _Edited:
    """The policy of a token; empty if it has none. Raises NotFound unless the user of the path has the token."""
    user = await get_principal(tx, call.caller.account, "user", call.path["name"])
    token = await CREDENTIALS.find(tx, id)
    if token is None or token.kind != "api-token" or token.principal != user.id:
        raise NotFound("token", id)
    if call.caller.credential != id:
        return _Edited(token.policy or "")
    warning = "You are signed in with this token. What the policy does not allow is refused to you at once."
    return _Edited(token.policy or "", user.name, warning)


async def _token_draft(call: Call, text: str) -> Draft:
    return await drafted(call, Kind.SESSION, text, url(f"/access/user/{call.path['name']}/token-policy/check"))


def _token_editor(
    call: Call, draft: Draft, id: str, version: str, edited: _Edited | None = None, status: int = 200
) -> Answer:
    name = call.path["name"]
    return _editor(
        call,
        draft,
        edited,
        status,
        title=f"Restrict the token {id}",
        sentence=f"The token can do what the policies of {name} and this policy allow. A later one can allow more.",
        label="Policy, in JSON",
        save=url(f"/access/user/{name}/token-policy/save"),
        back=url(f"/access/user/{name}"),
        fields={"id": id, "version": version},
        command=f"thingmint access token restrict {id} --policy restriction.json",
    )


# -- a new token with a policy ----------------------------------------------------------------------------------------


@page(_NEW, event_of("token.list"), entry=_ENTRY)
async def new_token(call: Call) -> Answer:
    call.may(f"thingmint:{event_of('token.create')}")
    return _new_editor(call, await _new_draft(call, NEW_POLICY))


@action(f"{_NEW}/check", event_of("token.list"), entry=_ENTRY, is_recorded=False)
async def check_new_token(call: Call) -> Answer:
    """The form with what the linter says."""
    call.may(f"thingmint:{event_of('token.create')}")
    return _new_editor(call, await _new_draft(call, sent_document(call)))


@action(f"{_NEW}/save", event_of("token.create"), entry=_ENTRY, form=check_new_token)
async def make_token(call: Call) -> Answer:
    """The answer is the only place that ever has the token."""
    call.may(f"thingmint:{event_of('token.create')}")
    name, draft = call.path["name"], await _new_draft(call, sent_document(call))
    if not draft.may_be_saved:
        return _new_editor(call, draft, status=400)
    lifetime = call.form.choice("lifetime", [value for value, _ in LIFETIMES])
    given = {"lifetime": lifetime or None, "description": call.form.text("description"), "policy": draft.text}
    answer = await administer(call, "token.create", principal=f"user/{name}", **given)
    return call.render(
        "access_secret.html",
        name=name,
        noun="API token",
        rows=[(key.capitalize(), value) for key, value in answer.items()],
        file="",
        file_name=name,
        back=url(f"/access/user/{name}"),
        command=_new_command(name),
    )


async def _new_draft(call: Call, text: str) -> Draft:
    """Raises NotFound if there is no such user."""
    await call.read(lambda tx: get_principal(tx, call.caller.account, "user", call.path["name"]))
    return await drafted(call, Kind.SESSION, text, url(f"/access/user/{call.path['name']}/new-token/check"))


def _new_command(name: str) -> str:
    return f"thingmint access token create user/{name} --lifetime 90d --policy restriction.json"


def _new_editor(call: Call, draft: Draft, status: int = 200) -> Answer:
    name = call.path["name"]
    return _editor(
        call,
        draft,
        None,
        status,
        title=f"New restricted token of {name}",
        sentence=f"The token can do what the policies of {name} and this policy allow.",
        label="Policy, in JSON",
        save=url(f"/access/user/{name}/new-token/save"),
        button="Make the token",
        back=url(f"/access/user/{name}"),
        fields={},
        lifetimes=LIFETIMES,
        lifetime=call.form.text("lifetime") if call.form.all("lifetime") else "90d",
        description=call.form.text("description"),
        command=_new_command(name),
    )


def _editor(call: Call, draft: Draft, edited: _Edited | None, status: int, **shown: Any) -> Answer:
    typed, warning = (edited.typed, edited.warning) if edited is not None else ("", "")
    given: Mapping[str, Any] = {"button": "Save", "lifetimes": [], **shown}
    return call.render("access_document.html", status=status, draft=draft, typed=typed, warning=warning, **given)
