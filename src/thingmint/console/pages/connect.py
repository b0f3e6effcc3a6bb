"""Connect a device: makes a thing with a certificate and a policy, and shows the code that connects it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from thingmint.console.device_code import code_for, topic_of
from thingmint.console.page import action, page, url
from thingmint.domain.arns import Scope, arn, arn_of
from thingmint.domain.errors import AlreadyExists, Disallowed, NotFound
from thingmint.domain.status import Status
from thingmint.services.certificate_activity import read_last_seen
from thingmint.services.certificates import register_new
from thingmint.services.device_policies import (
    DEVICE_POLICIES,
    VERSIONS,
    Target,
    attach_policy,
    create_policy,
)
from thingmint.services.hostnames import endpoint_of
from thingmint.services.issuing import discard, issue_with_keys
from thingmint.services.thing_principals import attach_to_known, certificates_of_thing
from thingmint.services.things import THINGS, Thing, insert_thing, thing_arn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.services.certificate_activity import LastSeen
    from thingmint.services.certificates import NewCertificate
    from thingmint.store.engine import Transaction

POLICY = "ConnectedThing"
_MAX_CERTIFICATES = 50
_ROOT = "ca.pem"
_THING = "${iot:Connection.Thing.ThingName}"


class File(NamedTuple):
    """A file that the device needs. ``title`` is for people."""

    name: str
    title: str
    text: str
    is_secret: bool = False


def kinds(current: str) -> list[tuple[str, str, bool]]:
    """The links to the pages that make a device."""
    found = (("Thing of AWS IoT", "/connect"), ("Device of Yandex IoT Core", "/connect/yandex/new"))
    return [(title, url(path), path == current) for title, path in found]


@page("/connect", "DescribeEndpoint")
async def connect(call: Call) -> Answer:
    call.may("iot:DescribeEndpoint")
    may_make = call.allows("iot:CreateThing") and call.allows("iot:CreateKeysAndCertificate")
    return call.render(
        "connect.html", kinds=kinds("/connect"), may_make=may_make, policy=POLICY, document=_document(call.scope)
    )


@action("/connect", "CreateKeysAndCertificate")
async def make(call: Call) -> Answer:
    """The answer is the only place that ever has the private key: nothing stores it, and no cache may keep it."""
    scope, name = call.scope, call.form.text("name")
    thing = Thing.new(scope, name, id=call.change.new_id(), type=None, attributes={}, now=call.change.now)
    for needed, resource in (
        ("iot:DescribeEndpoint", "*"),
        ("iot:CreateThing", thing.arn),
        ("iot:CreateKeysAndCertificate", "*"),
        ("iot:CreatePolicy", arn(scope, f"policy/{POLICY}")),
    ):
        call.may(needed, resource)
    new = await issue_with_keys(call.change)
    assert new.keys is not None, "it was made with keys"
    try:
        id = new.certificate.fingerprint
        call.may("iot:AttachPolicy", arn_of(scope, id))
        call.change.may("iot:AttachThingPrincipal", arn_of(scope, id), context={"iot:thingArn": thing.arn})
        host = await call.write(lambda tx: _make(tx, call, name, new), thingName=name, policyName=POLICY)
    except BaseException as error:
        discard(call.change, new, error)
        raise
    files = [
        File("device.key", "Private key", new.keys.private_pem, is_secret=True),
        File("device.pem", "Certificate", new.certificate.pem),
    ]
    return _shown(call, name, host, None, files, made=id)


@page("/connect/{name}", "DescribeThing")
async def follow(call: Call) -> Answer:
    """The same page without the private key. The page that shows the key follows this one."""
    name = call.path["name"]
    call.may("iot:DescribeEndpoint")
    for needed in ("iot:DescribeThing", "iot:ListThingPrincipals"):
        call.may(needed, thing_arn(call.scope, name))
    host, seen = await call.read(lambda tx: _read(tx, call, name))
    open_since = await _open_since(call, name, name)
    if open_since is None and seen is not None and seen.client_id not in ("", name):
        open_since = await _open_since(call, name, seen.client_id)
    return _shown(call, name, host, seen, [], open_since=open_since)


async def _make(tx: Transaction, call: Call, name: str, new: NewCertificate) -> str:
    """Makes all in one transaction. Returns the host name for devices."""
    change, scope, now = call.change, call.scope, call.change.now
    thing = Thing.new(scope, name, id=change.new_id(), type=None, attributes={}, now=now)
    if (known := await insert_thing(tx, change, thing)) is not None:
        reason = f"There already is a thing with the name {name}. Choose another name"
        raise AlreadyExists("thing", known.id, arn=known.arn, reason=reason)
    await _provide_policy(tx, call)
    registered = await register_new(tx, change, new, Status.ACTIVE)
    id = registered.registration.fingerprint
    await attach_policy(tx, scope, POLICY, Target("cert", id), now)
    await attach_to_known(tx, scope, name, id, now)
    return await endpoint_of(tx, change)


async def _provide_policy(tx: Transaction, call: Call) -> None:
    """Creates the policy. An existing one is used only if it says the same. Raises Disallowed."""
    scope, document = call.scope, _document(call.scope)
    known = await DEVICE_POLICIES.find(tx, *scope, POLICY)
    if known is None:
        await create_policy(tx, call.change, POLICY, document, {})
        return
    version = await VERSIONS.get(tx, *scope, POLICY, known.default_version)
    if version.document != document:
        reason = f"The policy {POLICY} was changed, so it may allow more than this page says. Delete or restore it"
        raise Disallowed("policy", POLICY, reason)


def _document(scope: Scope) -> str:
    """A policy under which a thing may connect under its own name and use the topics below it."""
    own = f"devices/{_THING}/*"
    statements = [
        ("iot:Connect", f"client/{_THING}"),
        (["iot:Publish", "iot:Receive"], f"topic/{own}"),
        ("iot:Subscribe", f"topicfilter/{own}"),
    ]
    allowed = [{"Effect": "Allow", "Action": each, "Resource": arn(scope, on)} for each, on in statements]
    lines = ",\n".join(f"    {json.dumps(each)}" for each in allowed).replace(', "Resource"', ',\n     "Resource"')
    return f'{{\n  "Version": "2012-10-17",\n  "Statement": [\n{lines}\n  ]\n}}'


async def _read(tx: Transaction, call: Call, name: str) -> tuple[str, LastSeen | None]:
    """The host name for devices, and the last connection with a certificate of the thing."""
    await THINGS.get(tx, *call.scope, name)
    fingerprints = await certificates_of_thing(tx, call.scope, name, _MAX_CERTIFICATES)
    seen = await read_last_seen(tx, call.scope, fingerprints)
    last = max(seen.values(), key=lambda each: each.seen_at, default=None)
    return await endpoint_of(tx, call.change), last


async def _open_since(call: Call, name: str, client_id: str) -> datetime | None:
    """When the thing connected under a client id, if it is connected. What is stored follows some seconds later."""
    try:
        client = await call.change.environment.messages.client(call.scope, client_id)
    except NotFound:
        return None
    thing = client.facts.thing if client.facts is not None else name
    is_thing = thing == name or (thing is None and client_id != name)
    return client.since if client.connected and is_thing else None


def root_file(call: Call, host: str) -> list[File]:
    """The certificate that devices have to trust; nothing if the operator's own certificate is shown to them."""
    root = call.parts.devices.root(host)
    return [File(_ROOT, "Root certificate of the server", root)] if root is not None else []


def _shown(
    call: Call,
    name: str,
    host: str,
    seen: LastSeen | None,
    files: list[File],
    *,
    made: str | None = None,
    open_since: datetime | None = None,
) -> Answer:
    """``made`` is the id of the certificate that this call has made."""
    port = call.parts.devices.port
    return shown(
        call,
        host,
        files,
        title=name,
        updates="connect",
        updates_of={"of": name},
        here=url(f"/connect/{name}"),
        subject=("Open the thing", url(f"/things/{name}")),
        shown_once="private key",
        once="The private key was shown once, when the thing was made. If it was not saved, make another certificate.",
        certificate=made,
        policy=POLICY,
        is_made=made is not None,
        is_open=open_since is not None,
        connected_at=open_since or (seen.connected_at if seen is not None else None),
        address=seen.address if seen is not None else "",
        facts=[("Address", host), ("Port", port), ("Client id", name), ("Topic of the example", topic_of(name))],
        codes=code_for(name, host, port),
        refusals=url("/refusals", client_id=name),
        command=f"aws iot describe-thing --thing-name {name}\nthingmint session show {name}",
    )


def shown(call: Call, host: str, files: Sequence[File], **values: Any) -> Answer:
    """The page with the files to save, the code to run, and whether the device is connected."""
    all_files = [*files, *root_file(call, host)]
    return call.render(
        "connect_device.html",
        files=all_files,
        has_root=any(each.name == _ROOT for each in all_files),
        **values,
    )
