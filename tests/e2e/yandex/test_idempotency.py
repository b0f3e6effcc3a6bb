"""Idempotency-Key: a repeated request makes one change, over gRPC and REST."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.e2e.yandex.certificates import certificate
from tests.e2e.yandex.clients import Refused

if TYPE_CHECKING:
    from tests.e2e.yandex.clients import Cloud


def new_key() -> str:
    return str(uuid.uuid4())


def other_wire(name: str) -> str:
    return "rest" if name == "grpc" else "grpc"


def test_the_same_request_returns_the_first_operation(cloud: Cloud, wire_name: str) -> None:
    device, pem, key = cloud.device(), certificate(), new_key()
    first = cloud.add(device, pem, wire_name, key=key)
    assert cloud.add(device, pem, wire_name, key=key) == first
    assert cloud.add(device, pem, other_wire(wire_name), key=key) == first
    with pytest.raises(Refused) as refused:
        cloud.add(device, pem, wire_name)
    assert refused.value.code == "ALREADY_EXISTS"


@pytest.mark.parametrize("key", ["x" * 257, "x" * 4000])
def test_keys_of_over_256_characters_are_refused(cloud: Cloud, wire_name: str, key: str) -> None:
    device = cloud.device()
    with pytest.raises(Refused) as refused:
        cloud.add(device, certificate(), wire_name, key=key)
    assert list(refused.value.violations) == ["idempotency_key"]
    assert cloud.certificates(device) == []


def test_an_empty_key_has_the_same_effect_on_both_protocols(cloud: Cloud) -> None:
    outcomes = []
    for wire_name in ("grpc", "rest"):
        try:
            outcomes.append("done" if cloud.add(cloud.device(), certificate(), wire_name, key="").done else "pending")
        except Refused as refused:
            outcomes.append(refused.code)
    assert outcomes[0] == outcomes[1]


def test_simultaneous_requests_with_one_key_make_one_change(cloud: Cloud) -> None:
    device, pem, key = cloud.device(), certificate(), new_key()
    with ThreadPoolExecutor(16) as pool:
        ids = [
            answer.id
            for answer in pool.map(lambda n: cloud.add(device, pem, ("grpc", "rest")[n % 2], key=key), range(32))
        ]
    assert len(set(ids)) == 1
    assert len(cloud.certificates(device)) == 1
