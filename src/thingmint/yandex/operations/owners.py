"""The methods that all kinds of owners have: certificates and operations; and what Create and Update have in common."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.json_format import MessageToDict

from thingmint.domain.errors import Invalid
from thingmint.domain.ids import IOT, new_id
from thingmint.services.bindings import bind, list_bindings, parse_submitted, unbind
from thingmint.services.device_registry import BROKERS, DEVICES, REGISTRIES, Credentials
from thingmint.services.operations import list_operations
from thingmint.services.owners import check_text
from thingmint.services.password_hashing import hash_password
from thingmint.yandex.contract.answers import timestamp
from thingmint.yandex.operations.answering import as_of
from thingmint.yandex.operations.declaring import by_id, cursor, id_of, reads, writes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from thingmint.domain.certificates import Certificate
    from thingmint.services.bindings import SubmittedCertificate
    from thingmint.services.change import Change, Query
    from thingmint.services.owners import Named, Owner
    from thingmint.store.engine import Transaction
    from thingmint.store.table import Table
    from thingmint.yandex.contract.answers import Fields
    from thingmint.yandex.operations.declaring import YandexCall

OWNERS: Mapping[str, Table[Any]] = {
    "yandex.cloud.iot.devices.v1.DeviceService": DEVICES,
    "yandex.cloud.iot.devices.v1.RegistryService": REGISTRIES,
    "yandex.cloud.iot.broker.v1.BrokerService": BROKERS,
}


R = TypeVar("R", bound="Owner")

_CAPITAL = re.compile("[A-Z]")


def new_fields(change: Change, request: Any) -> dict[str, Any]:
    """The fields of a new record of any kind. Raises Invalid."""
    return {
        "id": new_id(IOT),
        "account": change.account,
        "name": request.name,
        "description": check_text(request.description, "description"),
        "labels": dict(request.labels),
        "created_at": change.now,
    }


def named_fields(request: Any) -> frozenset[str]:
    """The fields that an Update changes: those of its mask, or all that can be updated if it has none.

    A field that is named and not sent becomes empty (Yandex: "Update" of each resource). The mask may spell names as
    the contract does or in camel case. Raises Invalid.
    """
    updatable = frozenset(field.name for field in request.DESCRIPTOR.fields) - {"update_mask"}
    updatable = frozenset(name for name in updatable if not name.endswith("_id"))
    named = frozenset(_CAPITAL.sub(lambda match: f"_{match[0].lower()}", path) for path in request.update_mask.paths)
    if not named <= updatable:
        raise Invalid("update_mask", f"names what cannot be updated; it may name {', '.join(sorted(updatable))}")
    return named or updatable


def updated(request: Any, owner: R, further: Mapping[str, Callable[[Any], Any]]) -> R:
    """The owner with the fields that an Update changes. ``further`` reads the fields that not all kinds have.

    Raises Invalid.
    """
    description = partial(check_text, field="description")
    readers: dict[str, Callable[[Any], Any]] = {"name": str, "description": description, "labels": dict, **further}
    return replace(owner, **{name: readers[name](getattr(request, name)) for name in named_fields(request)})


def log_options(given: Any) -> dict[str, Any]:
    """LogOptions as they are kept."""
    return MessageToDict(given, preserving_proto_field_name=True)


def id_of_new(call: YandexCall, parent: Named[Any], new: tuple[Owner, Any]) -> Fields:
    """The metadata of the Operation of Create."""
    return {f"{new[0].kind}_id": new[0].id}


def common_fields(owner: Owner) -> dict[str, Any]:
    """The fields of a message of any kind."""
    return {
        "id": owner.id,
        "created_at": timestamp(owner.created_at),
        "name": owner.name,
        "description": owner.description,
        "labels": owner.labels,
    }


async def initial_credentials(change: Change, request: Any, owner: str) -> Credentials:
    """The certificates and the password of a Create, for an owner of that id. Raises Invalid and Throttled."""
    certificates = [
        parse_submitted(change, entry.certificate_data, f"certificates[{index}].certificate_data")
        for index, entry in enumerate(request.certificates)
    ]
    if not request.password:
        return Credentials(certificates)
    return Credentials(certificates, await hash_password(change.environment.passwords, owner, request.password))


async def _list(tx: Transaction, query: Query, call: YandexCall, named: Named[Owner]) -> Fields:
    found = await list_bindings(tx, named.get())
    return {
        "certificates": [
            _fields(named, _shown(call, each.certificate), each.pem, each.binding.created_at) for each in found
        ]
    }


async def _parse_submitted(change: Change, call: YandexCall, named: Named[Owner]) -> SubmittedCertificate:
    return parse_submitted(change, call.request.certificate_data, "certificate_data")


async def _add(
    tx: Transaction, change: Change, call: YandexCall, named: Named[Owner], submitted: SubmittedCertificate
) -> Fields:
    owner = named.get()
    tx.audit_resources.append(owner.resource)
    await bind(tx, change, owner, submitted)
    return _fields(named, _shown(call, submitted.certificate), submitted.pem, change.now)


def _added(call: YandexCall, named: Named[Owner], submitted: SubmittedCertificate) -> Fields:
    return {**id_of(call, named), "fingerprint": _shown(call, submitted.certificate)}


async def _delete(tx: Transaction, change: Change, call: YandexCall, named: Named[Owner]) -> Fields:
    await unbind(tx, change, named.get(), call.request.fingerprint.lower())
    return {}


def _deleted(call: YandexCall, named: Named[Owner]) -> Fields:
    return {**id_of(call, named), "fingerprint": call.request.fingerprint}


def _shown(call: YandexCall, certificate: Certificate) -> str:
    """The fingerprint in the form that this instance is configured to show."""
    return certificate.sha1 if call.parts.sha1_fingerprints else certificate.fingerprint


def _fields(named: Named[Owner], fingerprint: str, pem: str, created_at: datetime) -> Fields:
    return {
        f"{named.noun}_id": named.id,
        "fingerprint": fingerprint,
        "certificate_data": pem,
        "created_at": timestamp(created_at),
    }


async def _list_operations(tx: Transaction, query: Query, call: YandexCall, named: Named[Owner]) -> Fields:
    page = await list_operations(tx, query, named.get().id, cursor(call.request))
    operations = [as_of(query.now, recorded, call.parts.contract) for recorded in page.items]
    return {"operations": operations, "next_page_token": page.next_token}


for _service, _table in OWNERS.items():
    _find, _noun = by_id(_table), _table.noun
    reads(f"{_service}/ListOperations", find=_find)(_list_operations)
    reads(f"{_service}/ListCertificates", find=_find)(_list)
    _adding = writes(
        f"{_service}/AddCertificate", f"Add {_noun} certificate", find=_find, prepare=_parse_submitted, metadata=_added
    )
    _adding(_add)
    writes(f"{_service}/DeleteCertificate", f"Delete {_noun} certificate", find=_find, metadata=_deleted)(_delete)
