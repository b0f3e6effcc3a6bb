"""The methods of passwords, which devices, registries and brokers have alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.services.password_hashing import NewPassword, hash_password
from thingmint.services.passwords import Password, add_password, delete_password, list_passwords
from thingmint.yandex.contract.answers import timestamp
from thingmint.yandex.operations.declaring import by_id, id_of, reads, writes
from thingmint.yandex.operations.owners import OWNERS

if TYPE_CHECKING:
    from thingmint.services.change import Change, Query
    from thingmint.services.owners import Named, Owner
    from thingmint.store.engine import Transaction
    from thingmint.yandex.contract.answers import Fields
    from thingmint.yandex.operations.declaring import YandexCall


async def _list(tx: Transaction, query: Query, call: YandexCall, named: Named[Owner]) -> Fields:
    return {"passwords": [_fields(named, each) for each in await list_passwords(tx, named.get().id)]}


async def _hash(change: Change, call: YandexCall, named: Named[Owner]) -> NewPassword:
    return await hash_password(change.environment.passwords, named.id, call.request.password)


async def _add(tx: Transaction, change: Change, call: YandexCall, named: Named[Owner], new: NewPassword) -> Fields:
    return _fields(named, await add_password(tx, change, named.get(), new))


def _added(call: YandexCall, named: Named[Owner], new: NewPassword) -> Fields:
    return {**id_of(call, named), "password_id": new.id}


async def _delete(tx: Transaction, change: Change, call: YandexCall, named: Named[Owner]) -> Fields:
    await delete_password(tx, change, named.get(), call.request.password_id)
    return {}


def _deleted(call: YandexCall, named: Named[Owner]) -> Fields:
    return {**id_of(call, named), "password_id": call.request.password_id}


def _fields(named: Named[Owner], password: Password) -> Fields:
    return {f"{named.noun}_id": named.id, "id": password.id, "created_at": timestamp(password.created_at)}


for _service, _table in OWNERS.items():
    _find, _noun = by_id(_table), _table.noun
    reads(f"{_service}/ListPasswords", find=_find)(_list)
    writes(f"{_service}/AddPassword", f"Add {_noun} password", find=_find, prepare=_hash, metadata=_added)(_add)
    writes(f"{_service}/DeletePassword", f"Delete {_noun} password", find=_find, metadata=_deleted)(_delete)
