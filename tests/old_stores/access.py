"""Fills an account with the administrator's commands: principals, policies, all kinds of credentials in all states."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.e2e.access.local_admin import allow, deny, document
from tests.e2e.provisioning.support import TRUST

if TYPE_CHECKING:
    from tests.old_stores.owners import Owner

_LIST = document(allow("iot:List*"), deny("iot:ListThings"))
_LONG = "3650d"


def principals(owner: Owner) -> None:
    ask, keep, number = owner.local_admin.ask, owner.material, owner.account
    ask("policy.put", name="lister", document=_LIST)
    ask("policy.put", name="unused", document=_LIST)
    ask("policy.put", name="gone", document=_LIST)
    ask("policy.delete", name="gone")
    for name in ("reader", "nobody", "off", "gone"):
        ask("user.create", name=name)
        keep.keep_credentials(**{f"{name}-{number}": ask("key.create", principal=f"user/{name}")})
    ask("user.disable", name="off")
    ask("user.delete", name="gone")
    ask("policy.attach", principal="user/reader", policy="lister")
    ask("policy.attach", principal="user/off", policy="thingmint/FullAccess")
    ask("policy.attach", principal="user/nobody", policy="unused")
    ask("policy.detach", principal="user/nobody", policy="unused")
    for state in ("disabled", "deleted"):
        key = ask("key.create", principal="user/reader")
        keep.keep_credentials(**{f"key-{state}-{number}": key})
        ask(f"key.{state.removesuffix('d')}", id=key["access_key_id"])
    tokens = {"narrow": {"policy": _LIST, "lifetime": _LONG, "description": "ci"}, "disabled": {}, "deleted": {}}
    for state, given in tokens.items():
        token = ask("token.create", principal="user/reader", **given)
        keep.keep_credentials(**{f"token-{state}-{number}": token})
        if state != "narrow":
            id = ask("token.list", principal="user/reader")[-1]["id"]
            ask(f"token.{state.removesuffix('d')}", id=id)
    ask("role.create", name="assumed", trust_policy=TRUST)
    ask("role.create", name="off", trust_policy=TRUST)
    ask("role.disable", name="off")
    ask("policy.attach", principal="role/assumed", policy="thingmint/ReadOnly")
    sessions = {"plain": {}, "narrow": {"policy": json.dumps(json.loads(_LIST)), "duration": "36h"}}
    for kind, given in sessions.items():
        keep.keep_credentials(**{f"session-{kind}-{number}": ask("session.create", principal="role/assumed", **given)})
    for name, role in (("viewer", "yandex/iot.viewer"), ("editor", "yandex/iot.editor"), ("off", "yandex/admin")):
        ask("service-account.create", name=name)
        keep.keep_credentials(**{f"sa-{name}-{number}": ask("key.create", principal=f"service-account/{name}")})
        folder = f"yandex:folder/{owner.cloud.folder}"
        ask("policy.attach", principal=f"service-account/{name}", policy=role, resource=folder)
    ask("service-account.disable", name="off")
    ask("folder.create", name="spare")
