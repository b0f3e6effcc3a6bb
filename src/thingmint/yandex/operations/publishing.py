"""Publish of the three data services: a message as if the named device, registry or broker sent it over MQTT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from thingmint.domain.errors import Invalid, InvalidState, TopicDenied
from thingmint.domain.policies.decisions import Deny
from thingmint.domain.yandex_topics import MAX_TOPIC
from thingmint.services.device_registry import BROKERS, DEVICES, REGISTRIES
from thingmint.services.last_messages import is_permanent
from thingmint.services.owner_authentication import find_owner
from thingmint.services.owners import check_text
from thingmint.services.topic_aliases import all_aliases
from thingmint.yandex.operations.declaring import by_id, reads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.domain.arns import Scope
    from thingmint.services.change import Change, Query
    from thingmint.services.owner_authentication import OwnerFacts
    from thingmint.services.owners import Named, Owner
    from thingmint.store.engine import Transaction
    from thingmint.store.table import Table
    from thingmint.yandex.contract.answers import Fields
    from thingmint.yandex.operations.declaring import Find, YandexCall

_SERVICES: Mapping[str, Table[Any]] = {
    "yandex.cloud.iot.devices.v1.DeviceDataService": DEVICES,
    "yandex.cloud.iot.devices.v1.RegistryDataService": REGISTRIES,
    "yandex.cloud.iot.broker.v1.BrokerDataService": BROKERS,
}


class _Publication(NamedTuple):
    scope: Scope
    space: str
    sender: str
    topic: str
    is_permanent: bool
    is_exported: bool


def _of(find: Find) -> Find:
    async def publication(tx: Transaction, query: Query, call: YandexCall) -> _Publication:
        named: Named[Owner] = await find(tx, query, call)
        named.get()
        owner = await find_owner(tx, query.account, named.id)
        assert owner is not None, "it was found in this transaction"
        if owner.flaw is not None:
            raise InvalidState(named.noun, named.id, owner.flaw)
        topic = await _canonical(tx, owner, _checked(call.request.topic))
        sender, space = owner.id if owner.kind == "device" else "", owner.registry or owner.id
        keeps, of_broker = is_permanent(topic), owner.kind == "broker"
        return _Publication(owner.scope, space, sender, topic, keeps and not of_broker, not keeps and not of_broker)

    return publication


def _checked(topic: str) -> str:
    if not {"+", "#"}.isdisjoint(check_text(topic, "topic")):
        raise Invalid("topic", "must not have wildcards: + or #")
    if len(topic.encode()) > MAX_TOPIC:
        raise Invalid("topic", f"must have at most {MAX_TOPIC} bytes")
    return topic


async def _canonical(tx: Transaction, owner: OwnerFacts, name: str) -> str:
    """The canonical topic. Raises TopicDenied."""
    topics = owner.topics
    if owner.kind == "registry" and not name.startswith("$"):
        topics = topics.with_aliases(await all_aliases(tx, owner.id))
    canonical = topics.publishes(name)
    if not isinstance(canonical, Deny) and (id := topics.device_named(canonical)) is not None:
        device = await DEVICES.find(tx, owner.account, id)
        if device is None or device.registry != owner.registry:
            canonical = Deny("the topic is of a device that is not in the registry")
    if isinstance(canonical, Deny):
        raise TopicDenied(f"{owner.kind} {owner.id}", canonical.reason)
    return canonical


async def _publish(change: Change, call: YandexCall, publication: _Publication) -> None:
    environment, payload = change.environment, call.request.data
    space, topic = publication.space, publication.topic
    if publication.is_permanent:
        await environment.last_messages.keep(space, topic, payload)
    elif publication.is_exported:
        queued = environment.exports.keep(space, publication.sender, topic, payload)
        if queued is not None:
            await queued
    await environment.messages.publish_of_owner(publication.scope, space, topic, payload)


async def _answer(tx: Transaction, change: Change, call: YandexCall, publication: _Publication, _: None) -> Fields:
    return {}


for _service, _table in _SERVICES.items():
    reads(f"{_service}/Publish", find=_of(by_id(_table)), prepare=_publish)(_answer)
