"""Connect a device of Yandex IoT Core: makes it with a certificate or a password, and shows code that connects it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.console.page import action, page, url
from thingmint.console.pages.connect import File, kinds, shown
from thingmint.console.yandex_device_code import events_topic, yandex_code_for
from thingmint.console.yandex_owners import allows_yandex, is_online, live, may_yandex, registries_of
from thingmint.domain.errors import AlreadyExists, NotFound
from thingmint.domain.ids import IOT, new_id
from thingmint.domain.self_signed import self_signed
from thingmint.services.bindings import list_bindings, parse_submitted
from thingmint.services.device_activity import NO_ACTIVITY, read_activity
from thingmint.services.device_registry import (
    DEVICES,
    FOLDERS,
    REGISTRIES,
    Credentials,
    Device,
    DeviceRegistry,
    create_device,
    create_in_folder,
    list_folders,
)
from thingmint.services.owners import check_name
from thingmint.services.password_hashing import hash_password, new_password
from thingmint.store.table import from_micros

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.console.page import Call
    from thingmint.console.yandex_device_code import SignIn
    from thingmint.http.messages import Answer
    from thingmint.services.change import Change
    from thingmint.services.device_activity import Activity
    from thingmint.services.device_registry import Folder
    from thingmint.store.engine import Transaction

_LONGEST_ID = 50
_NEW = "new:"
"""What a choice begins with that makes a registry in a folder."""
_KEY_FILE, _PASSWORD_FILE = "device.key", "password.txt"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the form asks for. ``registry`` is made too if ``is_new``."""

    registry: DeviceRegistry
    device: Device
    is_new: bool


@page("/connect/yandex/new", "RegistryService.List")
async def form(call: Call) -> Answer:
    registries, folders = await call.read(lambda tx: _places(tx, call))
    if not registries and not folders:
        may_yandex(call, "RegistryService.List")
    choices = [(each.id, each.name or each.id) for each in registries]
    choices += [(f"{_NEW}{each.id}", f"A new registry in the folder {each.name or each.id}") for each in folders]
    return call.render(
        "connect_yandex.html", kinds=kinds("/connect/yandex/new"), choices=choices, registries=len(registries)
    )


@action("/connect/yandex/new", "DeviceService.Create")
async def make(call: Call) -> Answer:
    """The answer is the only place that ever has the private key or the password in the clear."""
    change = call.yandex_change
    chosen = call.form.choice("sign_in", ("certificate", "password"), "certificate")
    sign_in: SignIn = "password" if chosen == "password" else "certificate"
    wanted = await call.read(lambda tx: _wanted(tx, call))
    device = wanted.device
    if wanted.is_new:
        may_yandex(call, "DeviceService.Create", *wanted.registry.resources)
    credentials, files = await _credentials(change, device, sign_in)

    async def body(tx: Transaction) -> None:
        if wanted.is_new:
            await FOLDERS.get(tx, device.account, device.folder)
            await create_in_folder(tx, change, REGISTRIES, wanted.registry, Credentials())
        else:
            await REGISTRIES.get(tx, device.account, device.registry)
        await create_device(tx, change, device, credentials)

    try:
        await call.write(body, registryId=wanted.registry.id, deviceId=device.id)
    except AlreadyExists as error:
        raise AlreadyExists(error.kind, error.id, reason=_taken(error, wanted)) from None
    return _shown(call, device, sign_in, files, is_made=True)


@page("/connect/yandex/{id}", "DeviceService.Get")
async def follow(call: Call) -> Answer:
    """The same page without the secret. The page that shows it follows this one."""
    id = call.path["id"]
    device = await call.read(lambda tx: DEVICES.find(tx, call.caller.account, id))
    may_yandex(call, "DeviceService.Get", *(device.resources if device else (f"yandex:device/{id[:_LONGEST_ID]}",)))
    if device is None:
        raise NotFound("device", id[:_LONGEST_ID])
    bound, activity = await call.read(lambda tx: _read(tx, device))
    since, activity = await live(call, device, activity)
    is_open = since is not None or is_online(activity)
    connected_at = since or (from_micros(activity.auth_at) if activity.auth_at else None)
    return _shown(
        call,
        device,
        "certificate" if bound else "password",
        [],
        is_open=is_open,
        connected_at=connected_at,
        address=activity.auth_address,
    )


async def _places(tx: Transaction, call: Call) -> tuple[list[DeviceRegistry], list[Folder]]:
    """The registries in which the caller may make devices, and the folders in which registries too."""
    registries = [
        each for each in await registries_of(tx, call) if allows_yandex(call, "DeviceService.Create", *each.resources)
    ]
    folders = [
        each
        for each in await list_folders(tx, call.caller.account)
        if allows_yandex(call, "RegistryService.Create", *each.resources)
        and allows_yandex(call, "DeviceService.Create", *each.resources)
    ]
    return registries, folders


async def _wanted(tx: Transaction, call: Call) -> _Wanted:
    """Raises Denied, Invalid and NotFound."""
    account, chosen, now = call.caller.account, call.form.text("registry", _LONGEST_ID + len(_NEW)), call.change.now
    is_new = chosen.startswith(_NEW)
    if is_new:
        id = chosen.removeprefix(_NEW)[:_LONGEST_ID]
        may_yandex(call, "RegistryService.Create", f"yandex:folder/{id}")
        folder = await FOLDERS.get(tx, account, id)
        name = check_name(call.form.text("registry_name"), "registry_name")
        registry = DeviceRegistry(new_id(IOT), account, folder.id, name, "", {}, now, {})
    else:
        found = await REGISTRIES.find(tx, account, chosen)
        may_yandex(call, "DeviceService.Create", *(found.resources if found else (f"yandex:registry/{chosen}",)))
        if found is None:
            raise NotFound("registry", chosen)
        registry = found
    name = check_name(call.form.text("name"), "name")
    device = Device(new_id(IOT), account, registry.folder, name, "", {}, now, registry.id, {})
    return _Wanted(registry, device, is_new)


async def _credentials(change: Change, device: Device, sign_in: SignIn) -> tuple[Credentials, list[File]]:
    """What the device signs in with, as it is stored, and the files that the device needs of it."""
    if sign_in == "password":
        password = new_password()
        hashed = await hash_password(change.environment.passwords, device.id, password)
        return Credentials(password=hashed), [File(_PASSWORD_FILE, "Password", password, is_secret=True)]
    keys = await change.environment.keys.take(change.account)
    pem = self_signed(keys, device.name, change.now)
    files = [
        File(_KEY_FILE, "Private key", keys.private_pem, is_secret=True),
        File("device.pem", "Certificate", pem),
    ]
    return Credentials([parse_submitted(change, pem, "certificate")]), files


async def _read(tx: Transaction, device: Device) -> tuple[bool, Activity]:
    """Whether it has a certificate, and what it did last."""
    found = await read_activity(tx, [device.id])
    return bool(await list_bindings(tx, device)), found.get(device.id, NO_ACTIVITY)


def _taken(error: AlreadyExists, wanted: _Wanted) -> str:
    what, name = ("registry", wanted.registry.name) if error.kind == "registry" else ("device", wanted.device.name)
    return f"There already is a {what} with the name {name}. Choose another name"


def _shown(
    call: Call,
    device: Device,
    sign_in: SignIn,
    files: list[File],
    *,
    is_made: bool = False,
    is_open: bool = False,
    connected_at: datetime | None = None,
    address: str = "",
) -> Answer:
    host, port = call.parts.devices.yandex_host(call.caller.account), call.parts.devices.port
    here = url(f"/connect/yandex/{device.id}")
    secret = "private key" if sign_in == "certificate" else "password"
    lost = "add another certificate" if sign_in == "certificate" else "add another password"
    return shown(
        call,
        host,
        files,
        title=device.name or device.id,
        updates="device",
        updates_of={"of": device.id},
        here=here,
        subject=("Open the device", url(f"/devices/{device.id}")),
        shown_once=secret,
        once=f"The {secret} was shown once, when the device was made. If it was not saved, {lost}.",
        certificate=None,
        policy="",
        is_made=is_made,
        is_open=is_open,
        connected_at=connected_at,
        address=address,
        facts=[
            ("Address", host),
            ("Port", port),
            ("Client id of the example", device.id),
            *([("User name", device.id)] if sign_in == "password" else []),
            ("Topic of the example", events_topic(device.id)),
        ],
        codes=yandex_code_for(device.id, host, port, sign_in),
        refusals=url("/refusals", client_id=device.id),
        command=f"yc iot device get {device.id}\nthingmint session show {device.id} --owner {device.id}",
    )
