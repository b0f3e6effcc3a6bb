"""The declarations of the contract's methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from thingmint.domain.errors import Denied
from thingmint.yandex.contract import load
from thingmint.yandex.operations import OPEN, OPERATIONS, SERVED, WITHOUT_TRANSACTION
from thingmint.yandex.operations.declaring import YandexCall, authorize

if TYPE_CHECKING:
    from tests.world import World

METHODS = load().methods


def test_every_declared_method_is_one_of_the_contract() -> None:
    assert METHODS.keys() >= SERVED
    assert len(SERVED) == len(OPERATIONS) + len(OPEN) + len(WITHOUT_TRANSACTION)


def test_exactly_the_methods_that_return_operations_are_writes() -> None:
    platform = {path for path in OPERATIONS if "OperationService" in path}
    assert len(platform) == 2
    for path in OPERATIONS.keys() - platform:
        assert OPERATIONS[path].writes == (METHODS[path].operation is not None), path


async def test_each_resource_is_authorized_once_in_a_call(world: World) -> None:
    nothing = cast("Any", None)
    method = METHODS["/yandex.cloud.iot.devices.v1.DeviceService/Get"]
    call = YandexCall(parts=nothing, method=method, request=nothing, principal="aje1", port=443, request_id="r")
    for _ in range(2):
        authorize(world.query(), call, "yandex:device/d", "yandex:folder/f")
    assert world.asked == [("yandex:DeviceService.Get", "yandex:device/d")]
    world.denied.add("yandex:DeviceService.Get")
    with pytest.raises(Denied):
        authorize(world.query(), call, "yandex:device/d", "yandex:folder/g")
