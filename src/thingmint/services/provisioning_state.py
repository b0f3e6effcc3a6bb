"""What exists of what a provisioning template makes for a device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from thingmint.services.billing_groups import find_group_of
from thingmint.services.certificates import find_registered
from thingmint.services.device_policies import DEVICE_POLICIES, Target, attached_policies
from thingmint.services.thing_group_members import groups_of
from thingmint.services.thing_principals import things_of_certificate
from thingmint.services.things import THINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.domain.arns import Scope
    from thingmint.domain.status import Status
    from thingmint.domain.templates import Plan
    from thingmint.store.engine import Transaction

_MAX_THINGS = 100


@dataclass(frozen=True, slots=True)
class ThingState:
    type: str | None
    attributes: Mapping[str, str]
    groups: tuple[str, ...]
    billing_group: str | None


@dataclass(frozen=True, slots=True)
class State:
    """What exists of what a plan names. ``policies`` are those that exist, ``attached`` those of the certificate.

    ``things`` are those of the certificate.
    """

    thing: ThingState | None
    status: Status | None
    things: tuple[str, ...]
    attached: tuple[str, ...]
    policies: frozenset[str]


_HIDDEN = ThingState(None, {}, (), None)


async def read_state(tx: Transaction, scope: Scope, certificate: str, plan: Plan) -> State:
    """What exists now of what the plan names. ``certificate`` is the id of the device's."""
    registered = await find_registered(tx, scope, certificate)
    thing = await THINGS.find(tx, *scope, plan.thing.name) if plan.thing is not None else None
    found = None
    if thing is not None:
        groups = tuple(group.name for group in await groups_of(tx, scope, thing.name))
        billing = await find_group_of(tx, thing)
        found = ThingState(thing.type, thing.attributes, groups, billing.name if billing is not None else None)
    known = [each.name for each in plan.policies if await DEVICE_POLICIES.find(tx, *scope, each.name) is not None]
    return State(
        thing=found,
        status=registered.registration.status if registered is not None else None,
        things=tuple(await things_of_certificate(tx, scope, certificate, _MAX_THINGS)),
        attached=tuple(sorted(await attached_policies(tx, scope, Target("cert", certificate)))),
        policies=frozenset(known),
    )


def without_values(state: State | None) -> State | None:
    """The state for a caller who may not describe the thing: it exists, and no more."""
    return replace(state, thing=_HIDDEN) if state is not None else None
