"""Hooks that are Python functions. Those behind HTTP are asked by the end-to-end tests, from a real server."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from thingmint.domain.errors import ProvisioningRefused
from thingmint.services import hooks
from thingmint.services.hooks import Hook, HookTable

if TYPE_CHECKING:
    from collections.abc import Mapping

LAMBDA = "arn:aws:lambda:us-east-1:111111111111:function:{}"
YES = {"allowProvisioning": True, "parameterOverrides": {"a": "b"}}
released = threading.Event()


def in_thread(question: Mapping[str, Any]) -> object:
    assert threading.current_thread() is not threading.main_thread()
    return YES if question == {"certificateId": "x"} else None


async def awaited(question: Mapping[str, Any]) -> object:
    await asyncio.sleep(0)
    return await asyncio.to_thread(in_thread, question)


def wrong(question: Mapping[str, Any]) -> object:
    raise KeyError(question["certificateId"])


def endless(_: Mapping[str, Any]) -> object:
    released.wait(30)
    return YES


class Entry:
    def __init__(self, name: str) -> None:
        self.name = name

    def load(self) -> Any:
        if self.name == "broken":
            raise ImportError
        return globals()[self.name]


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ("in_thread", "awaited", "wrong", "endless", "broken")

    def entry_points(*, group: str, name: str) -> list[Entry]:
        return [Entry(name)] if group == "thingmint.hooks" and name in known else []

    monkeypatch.setattr(hooks, "entry_points", entry_points)


def ask(table: HookTable, arn: str) -> Mapping[str, str]:
    async def run() -> Mapping[str, str]:
        try:
            return await table.ask(Hook(arn), {"certificateId": "x"})
        finally:
            await table.close()

    return asyncio.run(run())


@pytest.mark.parametrize("name", ["in_thread", "awaited"])
def test_a_function_by_its_name_or_by_the_table(name: str) -> None:
    assert ask(HookTable({}), LAMBDA.format(name)) == {"a": "b"}
    assert ask(HookTable({}), LAMBDA.format(f"{name}:PROD")) == {"a": "b"}
    assert ask(HookTable({"arn:aws:x:::y": f"entry-point:{name}"}), "arn:aws:x:::y") == {"a": "b"}


@pytest.mark.parametrize(
    ("arn", "step", "reason"),
    [
        (LAMBDA.format("wrong"), "invocation", "The provisioning hook was not executed successfully."),
        (LAMBDA.format("broken"), "invocation", "The provisioning hook was not executed successfully."),
        (LAMBDA.format("absent"), "invocation", "Access denied while invoking Lambda function"),
        ("arn:aws:x:::in_thread", "invocation", "Access denied while invoking Lambda function"),
    ],
)
def test_functions_that_do_not_answer(arn: str, step: str, reason: str) -> None:
    with pytest.raises(ProvisioningRefused, match=reason) as refused:
        ask(HookTable({}), arn)
    assert refused.value.step == step


def test_functions_that_never_end() -> None:
    """Each keeps a thread; when there are none left, others wait no longer than they may, and those that end do."""

    async def run() -> None:
        table = HookTable({}, timeout=0.05)
        for _ in range(3):
            asked = [table.ask(Hook(LAMBDA.format("endless")), {}) for _ in range(10)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(answer, ProvisioningRefused) for answer in answers)
        assert threading.active_count() < 30
        released.set()
        patient = HookTable({}, timeout=5)
        assert await patient.ask(Hook(LAMBDA.format("in_thread")), {"certificateId": "x"}) == {"a": "b"}

    try:
        asyncio.run(run())
    finally:
        released.set()
