"""The names by which a person knows certificates, for pages that have only their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.arns import arn_of
from thingmint.services.certificates import find_registered
from thingmint.services.thing_principals import things_of_certificate
from thingmint.store.search_keys import serial_and_common_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thingmint.console.page import Call
    from thingmint.store.engine import Transaction


def name_of(common_name: str | None, thing: str | None) -> str:
    """The common name and the thing; empty if the certificate has neither."""
    if thing is None or thing == common_name:
        return common_name or thing or ""
    return f"{common_name}, thing {thing}" if common_name else f"thing {thing}"


async def names_of(tx: Transaction, call: Call, ids: Iterable[str]) -> dict[str, str]:
    """The names of a page of certificates; empty for those that the caller may not know."""
    found = dict.fromkeys(ids, "")
    for id in found:
        if not call.allows("iot:DescribeCertificate", arn_of(call.scope, id)):
            continue
        registered = await find_registered(tx, call.scope, id)
        if registered is not None:
            _, common_name = serial_and_common_name(registered.certificate.der)
            things = await things_of_certificate(tx, call.scope, id, 1)
            found[id] = name_of(common_name, next(iter(things), None))
    return found
