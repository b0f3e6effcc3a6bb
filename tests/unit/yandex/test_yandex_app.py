"""The Yandex API without its protocols: the order in which a call is checked, and its audit record."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from thingmint.access.audit import AuditedStore
from thingmint.access.context import Outcome, RequestContext
from thingmint.access.iam import IamTokens
from thingmint.access.throttle import FailureThrottle, Rate, Throttle
from thingmint.domain.errors import NotFound, Throttled, Unauthenticated
from thingmint.yandex.app import YandexApi
from thingmint.yandex.contract import load
from thingmint.yandex.contract.validation import InvalidRequest
from thingmint.yandex.errors import Unimplemented
from thingmint.yandex.operations import OPERATIONS
from thingmint.yandex.operations.declaring import YandexParts

if TYPE_CHECKING:
    from tests.world import World

METHODS = {method.label: method for method in load().methods.values()}


class Caller:
    """Calls methods of one API as the first account's administrator."""

    def __init__(self, world: World, *, burst: float = 100, pending: timedelta = timedelta()) -> None:
        async def hostnames() -> list[str]:
            return ["things.test"]

        self.world = world
        self.tokens = IamTokens(world.directory, b"k" * 32, world.clock)
        parts = YandexParts(
            contract=load(), tokens=self.tokens, hostnames=hostnames, pending=pending, sha1_fingerprints=False
        )
        store = AuditedStore(world.store, world.clock)
        throttle = Throttle(Rate(0.001, burst), {}, lambda: 0.0)
        self.api = YandexApi(parts, throttle, FailureThrottle(None), store, world.environment, world.clock)
        self.outcome = Outcome()

    async def call(self, label: str, *, token: bool = True, **fields: Any) -> Any:
        method = METHODS[label]
        headers = []
        if token:
            headers.append((b"authorization", b"Bearer " + (await self._token()).encode()))
        context = RequestContext(api="yandex", operation=label, now=self.world.clock())
        self.outcome = Outcome()
        context = await self.api.authenticate(context, method, headers)
        request = method.request_class(**fields)
        return await self.api.serve(context, self.outcome, method, request, port=443, idempotency_key=None)

    async def audit_records(self) -> list[dict[str, Any]]:
        return [orjson.loads(row[0]) for row in await self.world.rows("SELECT record FROM audit_records ORDER BY id")]

    async def _token(self) -> str:
        return (await self.tokens.for_api_token(self.world.ours.token)).token


async def test_a_call_is_authenticated_before_anything_else(world: World) -> None:
    for label in ("DeviceService.Get", "DeviceDataService.Publish"):
        with pytest.raises(Unauthenticated):
            await Caller(world).call(label, token=False)


@pytest.fixture
def not_served(monkeypatch: pytest.MonkeyPatch) -> str:
    """A method that is not served in this test: all are."""
    monkeypatch.delitem(OPERATIONS, "/yandex.cloud.iot.broker.v1.BrokerService/Get")
    return "BrokerService.Get"


async def test_a_call_is_throttled_before_it_is_checked_further(world: World, not_served: str) -> None:
    caller = Caller(world, burst=1)
    for label, error in ((not_served, Unimplemented), ("DeviceService.Get", InvalidRequest)):
        with pytest.raises(error):
            await caller.call(label)
        with pytest.raises(Throttled):
            await caller.call(label)


async def test_what_is_not_served_is_not_validated(world: World, not_served: str) -> None:
    with pytest.raises(Unimplemented, match=re.escape(not_served)):
        await Caller(world).call(not_served, broker_id="x" * 51)


async def test_a_call_is_validated_before_it_is_authorized(world: World) -> None:
    await world.admin("policy.detach", principal="administrator", policy="thingmint/Administrator")
    with pytest.raises(InvalidRequest):
        await Caller(world).call("DeviceService.Get", device_id="x" * 51)


async def test_open_methods_need_no_token_but_are_validated(world: World) -> None:
    caller = Caller(world)
    answer = await caller.call("ApiEndpointService.Get", token=False, api_endpoint_id="iam")
    assert (answer.id, answer.address) == ("iam", "things.test:443")
    with pytest.raises(NotFound):
        await caller.call("ApiEndpointService.Get", token=False, api_endpoint_id="x")
    with pytest.raises(InvalidRequest):
        await caller.call("IamTokenService.Create", token=False)
    with pytest.raises(Unauthenticated):
        await caller.call("IamTokenService.CreateForServiceAccount", token=False)


async def test_the_outcome_has_the_caller_that_got_or_revoked_a_token(world: World) -> None:
    caller = Caller(world)
    made = await caller.call("IamTokenService.Create", token=False, yandex_passport_oauth_token=world.ours.token)
    assert caller.outcome.caller is not None
    assert caller.outcome.caller.account == world.ours.account
    assert made.iam_token.startswith("t1.")
    await caller.call("IamTokenService.Revoke", token=False, iam_token=made.iam_token)
    assert caller.outcome.caller is not None
    with pytest.raises(Unauthenticated):
        await caller.tokens.authenticate(made.iam_token)


async def test_the_audit_record_of_a_change_names_the_changed_resource(world: World) -> None:
    caller = Caller(world)
    made = await caller.call("RegistryService.Create", folder_id=world.ours.folder, name="r")
    assert caller.outcome.recorded
    record = (await caller.audit_records())[-1]
    assert (record["outcome"], record["resource"]) == ("success", f"yandex:folder/{world.ours.folder}")
    [registry] = record["resources"]
    assert registry.startswith("yandex:registry/are")
    assert made.done


async def test_a_refusal_in_a_pending_operation_is_audited_immediately(world: World) -> None:
    caller = Caller(world, pending=timedelta(seconds=5))
    made = await caller.call("RegistryService.Create", folder_id="b1g0")
    assert not made.done
    assert caller.outcome.code == "NOT_FOUND"
    record = (await caller.audit_records())[-1]
    assert (record["outcome"], record["error"], record["resources"]) == ("refused", "NOT_FOUND", [])
