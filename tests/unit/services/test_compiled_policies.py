"""The cache of compiled documents is bounded, and lets other tasks run between two documents."""

from __future__ import annotations

import asyncio
import json

import pytest

from thingmint.domain.errors import MalformedPolicy
from thingmint.domain.policies import Kind
from thingmint.services.compiled_policies import CompiledPolicies


def document(number: int) -> str:
    return json.dumps({"Statement": [{"Effect": "Allow", "Action": "*", "Resource": f"a:{number:0100}"}]})


def test_a_document_is_compiled_once_for_each_name_and_kind() -> None:
    policies = CompiledPolicies()
    first = policies.get(Kind.DEVICE, "p", document(1))
    assert policies.get(Kind.DEVICE, "p", document(1)) is first
    for kind, name in ((Kind.DEVICE, "q"), (Kind.IDENTITY, "p")):
        other = policies.get(kind, name, document(1))
        assert (other.kind, other.name) == (kind, name)


def test_the_least_recently_used_documents_are_dropped() -> None:
    policies = CompiledPolicies(max_characters=3 * len(document(0)))
    first, second, _third = (policies.get(Kind.DEVICE, "p", document(number)) for number in range(3))
    assert policies.get(Kind.DEVICE, "p", document(0)) is first
    policies.get(Kind.DEVICE, "p", document(3))
    assert policies.get(Kind.DEVICE, "p", document(0)) is first
    assert policies.get(Kind.DEVICE, "p", document(1)) is not second
    huge = document(4) + " " * 1000
    assert policies.get(Kind.DEVICE, "p", huge) is not policies.get(Kind.DEVICE, "p", huge)


async def test_other_tasks_run_between_two_documents() -> None:
    policies, turns = CompiledPolicies(), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(other())
    documents = [(f"p{number}", document(number)) for number in range(20)]
    await policies.compile_ahead(Kind.DEVICE, documents)
    assert turns >= 19
    turns = 0
    await policies.compile_ahead(Kind.DEVICE, documents)
    assert turns == 0
    running.cancel()


async def test_a_malformed_document_raises_only_when_it_is_used() -> None:
    policies = CompiledPolicies()
    await policies.compile_ahead(Kind.DEVICE, [("bad", "{}"), ("good", document(1))])
    with pytest.raises(MalformedPolicy):
        policies.get(Kind.DEVICE, "bad", "{}")
