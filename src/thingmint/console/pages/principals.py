"""Makes, disables and deletes users, roles and service accounts, and their keys and tokens."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

import orjson

from thingmint.access.administration import PrincipalKind
from thingmint.access.administration.credentials import CREDENTIALS
from thingmint.access.administration.principals import get_principal
from thingmint.console.administering import administer, administer_guarded, event_of
from thingmint.console.lockout import name_was_typed, warning_of
from thingmint.console.page import action, page, url
from thingmint.console.pages.access import DURATIONS, LIFETIMES, LISTS
from thingmint.console.policy_editor import drafted, sent_document
from thingmint.domain.errors import Invalid, NotFound
from thingmint.domain.policies import Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from thingmint.access.administration.credentials import Credential
    from thingmint.console.page import Call
    from thingmint.console.policy_editor import Draft
    from thingmint.http.messages import Answer
    from thingmint.store.engine import Transaction

    Handler = Callable[[Call], Awaitable[Answer]]

_ENTRY = "/access"
_LONGEST_NAME = 128
_CREDENTIALS = {"key": ("access-key", "authorized-key"), "token": ("api-token",), "session": ("session",)}
_CREATE = {"key": "key create", "token": "token create", "session": "session --principal"}
_TITLES = {"key": "Access key", "token": "API token", "session": "Session"}
_DISABLED = {"disable": "disabled", "enable": "enabled"}
_LONGEST_SESSIONS = [(f"{hours}h", f"{hours} hours" if hours > 1 else "1 hour") for hours in (1, 2, 4, 8, 12)]
_TRUST = """{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": "sts:AssumeRole",
      "Principal": {"Service": "iot.amazonaws.com"}
    }
  ]
}"""


def _new_page(kind: PrincipalKind) -> Handler:
    async def shown(call: Call) -> Answer:
        call.may(f"thingmint:{event_of(f'{kind}.create')}")
        return _form(call, kind, await _trust(call, _TRUST) if kind == "role" else None)

    return shown


def _new(kind: PrincipalKind) -> Handler:
    async def made(call: Call) -> Answer:
        name = call.form.text("name", _LONGEST_NAME)
        given: dict[str, Any] = {"name": name}
        if kind == "role":
            call.may("thingmint:CreateRole")
            draft = await _trust(call, sent_document(call))
            if not draft.may_be_saved:
                return _form(call, kind, draft, status=400)
            given |= {"trust_policy": draft.text, "max_session_duration": call.form.text("longest") or "1h"}
        await administer(call, f"{kind}.create", **given)
        return call.done(f"/access/{kind}/{name}", f"{_words(kind)} {name} is made. Attach a policy to it.")

    return made


@action("/access/new-role/check", "ListRoles", entry=_ENTRY, is_recorded=False)
async def check_trust_policy(call: Call) -> Answer:
    """The form of a new role with what the linter says. Nothing is read or changed."""
    call.may("thingmint:CreateRole")
    return _form(call, "role", await _trust(call, sent_document(call)))


def _status(kind: PrincipalKind, verb: str) -> Handler:
    async def changed(call: Call) -> Answer:
        name = call.path["name"]
        if verb == "disable":
            await administer_guarded(call, f"{kind}.disable", name_was_typed(call, kind, name), name=name)
        else:
            await administer(call, f"{kind}.{verb}", name=name)
        return call.done(f"/access/{kind}/{name}", f"{_words(kind)} {name} is {_DISABLED[verb]}.")

    return changed


def _confirm(kind: PrincipalKind, verb: str, form: str, consequence: str) -> Handler:
    """The page that asks before ``form`` is sent. ``verb`` is disable or delete."""

    async def asked(call: Call) -> Answer:
        call.may(f"thingmint:{event_of(f'{kind}.{verb}')}")
        name = call.path["name"]
        warning = await warning_of(call, kind, name)
        return call.render(
            "confirm.html",
            title=f"{verb.capitalize()} the {kind.replace('-', ' ')} {name}?",
            consequence=f"Its keys, tokens and sessions stop working {consequence}. {warning}",
            address=url(f"/access/{kind}/{name}/{form}"),
            fields={},
            typed=name if warning else "",
            button=verb.capitalize(),
            back=url(f"/access/{kind}/{name}"),
            command=f"thingmint access {kind} {verb} {name}",
        )

    return asked


def _delete(kind: PrincipalKind) -> Handler:
    async def deleted(call: Call) -> Answer:
        name = call.path["name"]
        await administer_guarded(call, f"{kind}.delete", name_was_typed(call, kind, name), name=name)
        return call.done(LISTS[kind][0], f"{_words(kind)} {name} is deleted.")

    return deleted


def _new_credential(kind: PrincipalKind, noun: str) -> Handler:
    """The answer is the only place that ever has the secret: nothing stores it as it is, and no cache may keep it."""

    async def made(call: Call) -> Answer:
        name = call.path["name"]
        given: dict[str, Any] = {"principal": f"{kind}/{name}"}
        if noun == "session":
            given |= {"duration": call.form.choice("duration", [value for value, _ in DURATIONS]) or "1h"}
        if noun == "token":
            lifetime = call.form.choice("lifetime", [value for value, _ in LIFETIMES])
            given |= {"lifetime": lifetime or None, "description": call.form.text("description")}
        answer = await administer(call, f"{noun}.create", **given)
        is_file = "private_key" in answer
        lines = orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode() if is_file else ""
        return call.render(
            "access_secret.html",
            name=name,
            noun="Authorized key" if is_file else _TITLES[noun],
            rows=[] if is_file else [(key.replace("_", " ").capitalize(), value) for key, value in answer.items()],
            file=lines,
            file_name=re.sub(r"[^A-Za-z0-9-]", "-", name),
            back=url(f"/access/{kind}/{name}"),
            command=f"thingmint access {_CREATE[noun]} {kind}/{name}",
        )

    return made


def _credential_status(kind: PrincipalKind, noun: str) -> Handler:
    async def changed(call: Call) -> Answer:
        verb = call.form.choice("verb", _DISABLED)
        if not verb:
            raise Invalid("verb", "is missing")
        call.may(f"thingmint:{_credential_event(verb, kind, noun)}")
        name, id = call.path["name"], await _own_credential(call, kind, noun, call.form.text("id"))
        await administer(call, f"{_command(noun)}.{verb}", id=id)
        return call.done(f"/access/{kind}/{name}", f"The {noun} {id} is {_DISABLED[verb]}.")

    return changed


def _confirm_credential_deletion(kind: PrincipalKind, noun: str) -> Handler:
    async def asked(call: Call) -> Answer:
        call.may(f"thingmint:{_credential_event('delete', kind, noun)}")
        name, id = call.path["name"], await _own_credential(call, kind, noun, call.query.text("id"))
        return call.render(
            "confirm.html",
            title=f"Delete the {noun} {id}?",
            consequence=f"Programs that use this {noun} of {name} are refused from now on. It cannot be restored.",
            address=url(f"/access/{kind}/{name}/{noun}-deleted"),
            fields={"id": id},
            button="Delete",
            back=url(f"/access/{kind}/{name}"),
            command=f"thingmint access {_command(noun)} delete {id}",
        )

    return asked


def _delete_credential(kind: PrincipalKind, noun: str) -> Handler:
    async def deleted(call: Call) -> Answer:
        call.may(f"thingmint:{_credential_event('delete', kind, noun)}")
        name, id = call.path["name"], await _own_credential(call, kind, noun, call.form.text("id"))
        await administer(call, f"{_command(noun)}.delete", id=id)
        return call.done(f"/access/{kind}/{name}", f"The {noun} {id} is deleted.")

    return deleted


def _command(noun: str) -> str:
    """The noun of the commands: those of keys are for sessions, too."""
    return "token" if noun == "token" else "key"


def _credential_event(verb: str, kind: PrincipalKind, noun: str) -> str:
    """The event: for a session that of an access key, whatever the principal is."""
    return event_of(f"key.{verb}") if noun == "session" else event_of(f"{noun}.{verb}", kind)


async def _own_credential(call: Call, kind: PrincipalKind, noun: str, id: str) -> str:
    """The id. Raises NotFound unless the principal of the path has such a credential."""

    async def find(tx: Transaction) -> Credential | None:
        principal = await get_principal(tx, call.caller.account, kind, call.path["name"])
        found = await CREDENTIALS.find(tx, id)
        return found if found is not None and found.principal == principal.id else None

    found = await call.read(find)
    if found is None or found.kind not in _CREDENTIALS[noun]:
        raise NotFound(noun, id)
    return id


async def _trust(call: Call, text: str) -> Draft:
    return await drafted(call, Kind.TRUST, text, url("/access/new-role/check"))


def _form(call: Call, kind: PrincipalKind, draft: Draft | None, status: int = 200) -> Answer:
    return call.render(
        "access_new.html",
        status=status,
        kind=kind,
        words=kind.replace("-", " "),
        name=call.form.text("name", _LONGEST_NAME) or call.query.text("name", _LONGEST_NAME),
        longest=call.form.text("longest"),
        choices=_LONGEST_SESSIONS,
        draft=draft,
        back=url(LISTS[kind][0]),
    )


def _words(kind: PrincipalKind) -> str:
    return f"The {kind.replace('-', ' ')}"


for _kind in get_args(PrincipalKind):
    _base = f"/access/{_kind}/{{name}}"
    page(f"/access/new-{_kind}", event_of(f"{_kind}.list"), entry=_ENTRY)(_new_page(_kind))
    _made = event_of(f"{_kind}.create")
    _form_again = check_trust_policy if _kind == "role" else None
    action(f"/access/new-{_kind}", _made, entry=_ENTRY, form=_form_again)(_new(_kind))
    _asked = page(f"{_base}/disable", event_of("policy.attached", _kind), entry=_ENTRY)(
        _confirm(_kind, "disable", "disable", "until it is enabled again")
    )
    for _verb in _DISABLED:
        action(f"{_base}/{_verb}", event_of(f"{_kind}.{_verb}"), entry=_ENTRY, form=_asked)(_status(_kind, _verb))
    _asked = page(f"{_base}/delete", event_of("policy.attached", _kind), entry=_ENTRY)(
        _confirm(_kind, "delete", "deleted", "at once, and cannot be restored")
    )
    action(f"{_base}/deleted", event_of(f"{_kind}.delete"), entry=_ENTRY, form=_asked)(_delete(_kind))
    for _noun in _CREDENTIALS:
        if _noun == "session" or (_noun == "key" and _kind != "role") or (_noun == "token" and _kind == "user"):
            action(f"{_base}/{_noun}s", event_of(f"{_noun}.create", _kind), entry=_ENTRY)(_new_credential(_kind, _noun))
        _listed, _changed, _deleted = (_credential_event(each, _kind, _noun) for each in ("list", "disable", "delete"))
        action(f"{_base}/{_noun}-status", _changed, entry=_ENTRY)(_credential_status(_kind, _noun))
        page(f"{_base}/delete-{_noun}", _listed, entry=_ENTRY)(_confirm_credential_deletion(_kind, _noun))
        action(f"{_base}/{_noun}-deleted", _deleted, entry=_ENTRY)(_delete_credential(_kind, _noun))
