"""The policies of users, roles and service accounts: the list, one policy, and its editor."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from thingmint.access.administration import PrincipalKind
from thingmint.access.administration.policies import (
    MANAGED_POLICIES,
    POLICIES,
    Expected,
    attached_to,
    is_managed,
    managed_document,
)
from thingmint.console.administering import administer, administer_guarded, administer_with, event_of, may_run
from thingmint.console.lockout import name_was_typed, warning_of
from thingmint.console.page import action, links_of, page, url
from thingmint.console.pages.access import tabs_of
from thingmint.console.policy_editor import NEW_POLICY, drafted, pretty, sent_document
from thingmint.domain.errors import Invalid, NotFound
from thingmint.domain.policies import Kind
from thingmint.services.pages import page_by_text
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from thingmint.access.administration.policies import Policy
    from thingmint.console.page import Call
    from thingmint.console.policy_editor import Draft
    from thingmint.http.messages import Answer
    from thingmint.services.pages import Page
    from thingmint.store.engine import Transaction

_ROWS = 50
_MAX_ATTACHED = 100
_LONGEST_NAME = 128
_LONGEST_TIME = 18  # digits
_ENTRY = "/access"


@page("/access/policies", "ListPolicies")
async def policies(call: Call) -> Answer:
    call.may("thingmint:ListPolicies")
    cursor = call.cursor(_ROWS)

    async def body(tx: Transaction) -> Page[Policy]:
        async def fetch(after: str, limit: int) -> list[Policy]:
            return await POLICIES.page(tx, call.caller.account, after=after, limit=limit)

        return await page_by_text(call.change, cursor, "console policies", fetch, lambda each: each.name)

    found = await call.read(body)
    return call.render(
        "access_policies.html",
        policies=found.items,
        managed=MANAGED_POLICIES,
        may_put=may_run(call, "policy.put"),
        tabs=tabs_of(call, "/access/policies"),
        **links_of("/access/policies", cursor, found.next_token),
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
    principals = await call.read(lambda tx: attached_to(tx, call.caller.account, name, _MAX_ATTACHED + 1))
    kinds = [kind for kind in get_args(PrincipalKind) if may_run(call, "policy.attached", kind)]
    return call.render(
        "access_policy.html",
        name=name,
        draft=await drafted(call, Kind.IDENTITY, pretty(document)),
        is_managed=is_managed(name),
        attached=[each for each in principals[:_MAX_ATTACHED] if each.kind in kinds],
        has_more=len(principals) > _MAX_ATTACHED,
        kinds=kinds,
        attaching=[kind for kind in get_args(PrincipalKind) if may_run(call, "policy.attach", kind)],
        detaching=[kind for kind in get_args(PrincipalKind) if may_run(call, "policy.detach", kind)],
        takes_resource=name.startswith("yandex/"),
        may_put=not is_managed(name) and may_run(call, "policy.put"),
        may_delete=not is_managed(name) and may_run(call, "policy.delete"),
    )


@page("/access/policy/edit", "GetPolicy")
async def edit(call: Call) -> Answer:
    """The editor of a policy, or without a name of a new one."""
    name = call.query.text("name", _LONGEST_NAME)
    call.may("thingmint:CreatePolicy")
    if not name:
        return _editor(call, await _drafted(call, NEW_POLICY), "", "", "")
    call.may("thingmint:GetPolicy")
    found = await call.read(lambda tx: POLICIES.get(tx, call.caller.account, name))
    return _editor(call, await _drafted(call, pretty(found.document)), name, name, str(to_micros(found.modified_at)))


@action("/access/policy/check", "GetPolicy", entry=_ENTRY, is_recorded=False)
async def check(call: Call) -> Answer:
    """The editor with what the linter says. Nothing is read or changed."""
    call.may("thingmint:CreatePolicy")
    name, was, since = _names(call)
    return _editor(call, await _drafted(call, sent_document(call)), name, was, since)


@action("/access/policy/save", "CreatePolicy", entry=_ENTRY, form=check)
async def save(call: Call) -> Answer:
    call.may("thingmint:CreatePolicy")
    (name, was, since), document = _names(call), sent_document(call)
    draft = await _drafted(call, document)
    if not draft.may_be_saved:
        return _editor(call, draft, name, was, since, status=400)
    if was and was != name:
        raise Invalid("name", "cannot be changed; make a new policy")
    expected = Expected(_number(since) if was else None)
    await administer_with(call, "policy.put", {"expected": expected}, name=name, document=document)
    return call.done("/access/policy", f"The policy {name} is saved. It is in force at once.", name=name)


@page("/access/policy/delete", "GetPolicy", entry=_ENTRY)
async def confirm_deletion(call: Call) -> Answer:
    call.may("thingmint:DeletePolicy")
    name = call.query.text("name", _LONGEST_NAME)
    await call.read(lambda tx: POLICIES.get(tx, call.caller.account, name))
    return call.render(
        "confirm.html",
        title=f"Delete the policy {name}?",
        consequence="It can be deleted while it is attached to no principal. Its document cannot be restored.",
        address=url("/access/policy/deleted"),
        fields={"name": name},
        button="Delete",
        back=url("/access/policy", name=name),
        command=f"thingmint access policy delete {name}",
    )


@action("/access/policy/deleted", "DeletePolicy", entry=_ENTRY)
async def delete(call: Call) -> Answer:
    name = call.form.text("name", _LONGEST_NAME)
    await administer(call, "policy.delete", name=name)
    return call.done("/access/policies", f"The policy {name} is deleted.")


def _attachment(verb: str, kind: PrincipalKind) -> Callable[[Call], Awaitable[Answer]]:
    """What attaches or detaches. The form has the field ``back`` if its page is that of the policy."""

    async def changed(call: Call) -> Answer:
        name, policy = call.form.text("name", _LONGEST_NAME), call.form.text("policy", _LONGEST_NAME)
        resource = call.form.text("resource") or "*"
        given = {"principal": f"{kind}/{name}", "policy": policy, "resource": resource}
        if verb == "detach":
            await administer_guarded(call, "policy.detach", name_was_typed(call, kind, name, detached=policy), **given)
        else:
            await administer(call, "policy.attach", **given)
        said = f"The policy {policy} is {'attached to' if verb == 'attach' else 'detached from'} {kind}/{name}."
        if call.form.text("back"):
            return call.done("/access/policy", said, name=policy)
        return call.done(f"/access/{kind}/{name}", said)

    return changed


def _confirm_detaching(kind: PrincipalKind) -> Callable[[Call], Awaitable[Answer]]:
    """Asks for the name of a principal that loses its access: from a link, or after a form without the name."""

    async def asked(call: Call) -> Answer:
        call.may(f"thingmint:{event_of('policy.detach', kind)}")
        given = call.form if call.form.all("policy") else call.query
        name, policy = given.text("name", _LONGEST_NAME), given.text("policy", _LONGEST_NAME)
        warning = await warning_of(call, kind, name, detached=policy)
        fields = {"name": name, "policy": policy, "resource": given.text("resource") or "*"}
        return call.render(
            "confirm.html",
            title=f"Detach {policy} from {kind}/{name}?",
            consequence=f"What only this policy allows is refused from now on. {warning}",
            address=url(f"/access/detach/{kind}"),
            fields=fields | ({"back": "1"} if given.text("back") else {}),
            typed=name if warning else "",
            button="Detach",
            back=url(f"/access/{kind}/{name}"),
            command=f"thingmint access policy detach {kind}/{name} --policy {policy}",
        )

    return asked


for _kind in get_args(PrincipalKind):
    action(f"/access/attach/{_kind}", event_of("policy.attach", _kind), entry=_ENTRY)(_attachment("attach", _kind))
    _asked = page(f"/access/detach/{_kind}", event_of("policy.attached", _kind), entry=_ENTRY)(
        _confirm_detaching(_kind)
    )
    action(f"/access/detach/{_kind}", event_of("policy.detach", _kind), entry=_ENTRY, form=_asked)(
        _attachment("detach", _kind)
    )


async def _drafted(call: Call, text: str) -> Draft:
    return await drafted(call, Kind.IDENTITY, text, url("/access/policy/check"))


def _names(call: Call) -> tuple[str, str, str]:
    """The name in the form, the name of the policy that is changed, and when that was last changed."""
    form = call.form
    return form.text("name", _LONGEST_NAME), form.text("was", _LONGEST_NAME), form.text("since", 32)


def _number(text: str) -> int:
    """Raises Invalid."""
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_TIME):
        raise Invalid("since", "must be the time at which the policy was changed")
    return int(text)


def _editor(call: Call, draft: Draft, name: str, was: str, since: str, status: int = 200) -> Answer:
    return call.render("access_policy_edit.html", status=status, draft=draft, name=name, was=was, since=since)
