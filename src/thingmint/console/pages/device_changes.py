"""Changes of a device, registry or broker of Yandex IoT Core: its certificates, its passwords, and its deletion.

Each kind has addresses of its own, so that each change has the name of the method that does the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from thingmint.console.page import action, page, url
from thingmint.console.rendering import shortened
from thingmint.console.yandex_owners import SERVICES, may_yandex
from thingmint.domain.errors import NotFound
from thingmint.services.bindings import bind, parse_submitted, unbind
from thingmint.services.device_registry import (
    BROKERS,
    DEVICES,
    REGISTRIES,
    Broker,
    Device,
    DeviceRegistry,
    delete_broker,
    delete_device,
    delete_registry,
    list_devices,
)
from thingmint.services.owners import Named
from thingmint.services.pages import Cursor
from thingmint.services.password_hashing import hash_password, new_password
from thingmint.services.passwords import add_password, delete_password

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.services.change import Change
    from thingmint.services.owners import Owner
    from thingmint.store.engine import Transaction
    from thingmint.store.table import Table

_LONGEST_ID = 50
_LONGEST_PEM = 20_000
_TABLES: Mapping[str, Table[Any]] = {"device": DEVICES, "registry": REGISTRIES, "broker": BROKERS}


@dataclass(frozen=True, slots=True)
class _Kind:
    """``name`` is device, registry or broker."""

    name: str

    @property
    def service(self) -> str:
        return SERVICES[self.name]

    def address(self, call: Call, form: str = "") -> str:
        return url(f"/devices/{self.name}/{call.path['id']}/{form}")

    async def owner(self, call: Call, method: str) -> Owner:
        """The owner that the address names, on which the caller may call the method. Raises Denied and NotFound."""
        id = call.path["id"]
        found: Owner | None = await call.read(lambda tx: _TABLES[self.name].find(tx, call.caller.account, id))
        resources = found.resources if found is not None else (f"yandex:{self.name}/{id[:_LONGEST_ID]}",)
        may_yandex(call, f"{self.service}.{method}", *resources)
        if found is None:
            raise NotFound(self.name, id[:_LONGEST_ID])
        return found

    async def write(
        self, call: Call, change: Callable[[Transaction, Change, Any], Awaitable[object]], **parameters: str
    ) -> None:
        """Changes the owner as it is in the transaction of the change."""
        account, id, context = call.caller.account, call.path["id"], call.yandex_change

        async def body(tx: Transaction) -> None:
            await change(tx, context, await _TABLES[self.name].get(tx, account, id))

        await call.write(body, **{f"{self.name}Id": id}, **parameters)


async def add_certificate(kind: _Kind, call: Call) -> Answer:
    await kind.owner(call, "AddCertificate")
    submitted = parse_submitted(
        call.yandex_change, call.form.text("certificate_data", _LONGEST_PEM), "certificate_data"
    )
    id = submitted.certificate.fingerprint

    async def added(tx: Transaction, change: Change, owner: Owner) -> None:
        tx.audit_resources.append(owner.resource)
        await bind(tx, change, owner, submitted)

    await kind.write(call, added, fingerprint=id)
    return call.done(f"/devices/{call.path['id']}", f"The certificate {shortened(id)} is added.")


async def ask_to_remove_certificate(kind: _Kind, call: Call) -> Answer:
    id = call.query.text("certificate", 64)
    return await _ask(
        kind,
        call,
        "DeleteCertificate",
        title="Remove this certificate?",
        consequence=f"The certificate {shortened(id)} is removed from the {kind.name}. A device that is connected "
        "with it is disconnected at once.",
        fields={"certificate": id},
        form="remove-certificate",
        button="Remove",
        command=f"yc iot {kind.name} certificate delete --{kind.name}-id {call.path['id']} --fingerprint {id}",
    )


async def remove_certificate(kind: _Kind, call: Call) -> Answer:
    await kind.owner(call, "DeleteCertificate")
    id = call.form.text("certificate", 64).lower()
    await kind.write(call, partial(_unbind, id), fingerprint=id)
    return call.done(f"/devices/{call.path['id']}", f"The certificate {shortened(id)} is removed.")


async def make_password(kind: _Kind, call: Call) -> Answer:
    """The answer is the only place that ever has the password in the clear."""
    owner = await kind.owner(call, "AddPassword")
    password = new_password()
    hashed = await hash_password(call.change.environment.passwords, owner.id, password)

    async def added(tx: Transaction, change: Change, owner: Owner) -> None:
        await add_password(tx, change, owner, hashed)

    await kind.write(call, added, passwordId=hashed.id)
    return call.render(
        "access_secret.html",
        noun="Password",
        name=owner.name or owner.id,
        rows=[("User name", owner.id), ("Password", password)],
        file=None,
        back=url(f"/devices/{owner.id}"),
        command=f"yc iot {kind.name} password add --{kind.name}-id {owner.id} --password PASSWORD",
    )


async def ask_to_remove_password(kind: _Kind, call: Call) -> Answer:
    id = call.query.text("password", _LONGEST_ID)
    return await _ask(
        kind,
        call,
        "DeletePassword",
        title="Remove this password?",
        consequence=f"The password {id} stops working. A device that is connected with it is disconnected at once.",
        fields={"password": id},
        form="remove-password",
        button="Remove",
        command=f"yc iot {kind.name} password delete --{kind.name}-id {call.path['id']} --password-id {id}",
    )


async def remove_password(kind: _Kind, call: Call) -> Answer:
    await kind.owner(call, "DeletePassword")
    id = call.form.text("password", _LONGEST_ID)
    await kind.write(call, partial(_delete_password, id), passwordId=id)
    return call.done(f"/devices/{call.path['id']}", "The password is removed.")


async def ask_to_delete(kind: _Kind, call: Call) -> Answer:
    owner = await kind.owner(call, "Delete")
    obstacle = ""
    if isinstance(owner, DeviceRegistry):
        parent = Named("registry", owner.id, owner)
        if (await call.read(lambda tx: list_devices(tx, call.yandex_change, parent, Cursor(1)))).items:
            obstacle = "It still has devices. Delete them first."
    return _confirm(
        kind,
        call,
        title=f"Delete the {kind.name} {owner.name or owner.id}?",
        consequence="Its certificates are removed from it, its passwords are deleted, and it is disconnected at once. "
        f"This cannot be undone: a new {kind.name} gets another id.",
        obstacle=obstacle,
        form="deleted",
        command=f"yc iot {kind.name} delete {owner.id}",
    )


async def delete(kind: _Kind, call: Call) -> Answer:
    owner = await kind.owner(call, "Delete")
    await kind.write(call, _delete)
    registry = owner.registry if isinstance(owner, Device) else None
    return call.done("/devices", f"The {kind.name} {owner.name or owner.id} is deleted.", **_of(registry))


async def _ask(kind: _Kind, call: Call, method: str, *, form: str, **shown: Any) -> Answer:
    """The page that asks before the owner's ``form`` is sent."""
    await kind.owner(call, method)
    return _confirm(kind, call, form=form, **shown)


def _confirm(kind: _Kind, call: Call, *, form: str, **shown: Any) -> Answer:
    shown = {"obstacle": "", "fields": {}, "button": "Delete", "back": url(f"/devices/{call.path['id']}")} | shown
    return call.render("confirm.html", address=kind.address(call, form), **shown)


async def _unbind(id: str, tx: Transaction, change: Change, owner: Owner) -> None:
    await unbind(tx, change, owner, id)


async def _delete_password(id: str, tx: Transaction, change: Change, owner: Owner) -> None:
    await delete_password(tx, change, owner, id)


async def _delete(tx: Transaction, change: Change, owner: Device | DeviceRegistry | Broker) -> None:
    match owner:
        case Device():
            await delete_device(tx, change, owner)
        case DeviceRegistry():
            await delete_registry(tx, change, owner)
        case Broker():
            await delete_broker(tx, change, owner)


def _of(registry: str | None) -> dict[str, str]:
    return {"registry": registry} if registry is not None else {}


for _kind in map(_Kind, SERVICES):
    _base = f"/devices/{_kind.name}/{{id}}"
    for _form, _method, _function in (
        ("add-certificate", "AddCertificate", add_certificate),
        ("remove-certificate", "DeleteCertificate", remove_certificate),
        ("add-password", "AddPassword", make_password),
        ("remove-password", "DeletePassword", remove_password),
        ("deleted", "Delete", delete),
    ):
        action(f"{_base}/{_form}", f"{_kind.service}.{_method}", entry="/things")(partial(_function, _kind))
    for _form, _asked in (
        ("remove-certificate", ask_to_remove_certificate),
        ("remove-password", ask_to_remove_password),
        ("delete", ask_to_delete),
    ):
        page(f"{_base}/{_form}", f"{_kind.service}.Get", entry="/things")(partial(_asked, _kind))
