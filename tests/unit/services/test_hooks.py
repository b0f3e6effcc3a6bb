"""Hooks that are Python functions. The end-to-end tests call hooks over HTTP."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from thingmint.domain.errors import ProvisioningRefused
from thingmint.services import hooks
from thingmint.services.hooks import Hook, HookTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LAMBDA = "arn:aws:lambda:us-east-1:111111111111:function:{}"
YES = {"allowProvisioning": True, "parameterOverrides": {"a": "b"}}
QUESTION = {"certificateId": "x"}
released = threading.Event()


def in_thread(question: Mapping[str, Any]) -> object:
    assert threading.current_thread() is not threading.main_thread()
    return YES if question == QUESTION else None


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
def _installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    known = ("in_thread", "awaited", "wrong", "endless", "broken")

    def entry_points(*, group: str, name: str) -> list[Entry]:
        return [Entry(name)] if group == "thingmint.hooks" and name in known else []

    monkeypatch.setattr(hooks, "entry_points", entry_points)
    released.clear()
    yield
    released.set()


@pytest.mark.parametrize("name", ["in_thread", "awaited"])
async def test_functions_are_found_by_the_name_in_the_arn(name: str) -> None:
    for arn in (LAMBDA.format(name), LAMBDA.format(f"{name}:PROD")):
        assert await HookTable({}).ask(Hook(arn), QUESTION) == {"a": "b"}


@pytest.mark.parametrize("name", ["in_thread", "awaited"])
async def test_functions_are_found_by_the_arn_in_the_settings(name: str) -> None:
    table = HookTable({"arn:aws:x:::y": f"entry-point:{name}"})
    assert await table.ask(Hook("arn:aws:x:::y"), QUESTION) == {"a": "b"}


@pytest.mark.parametrize(
    ("arn", "reason"),
    [
        (LAMBDA.format("wrong"), "The provisioning hook was not executed successfully."),
        (LAMBDA.format("broken"), "The provisioning hook was not executed successfully."),
        (LAMBDA.format("absent"), "Access denied while invoking Lambda function"),
        ("arn:aws:x:::in_thread", "Access denied while invoking Lambda function"),
    ],
)
async def test_failing_hooks_are_refusals_in_the_words_of_aws(arn: str, reason: str) -> None:
    with pytest.raises(ProvisioningRefused) as refused:
        await HookTable({}).ask(Hook(arn), QUESTION)
    assert (refused.value.step, refused.value.reason) == ("invocation", reason)


async def test_endless_functions_use_a_limited_number_of_threads() -> None:
    """When no thread is left, other calls time out; threads of functions that end are used again."""
    table, before = HookTable({}, timeout=0.05), threading.active_count()
    for _ in range(3):
        asked = [table.ask(Hook(LAMBDA.format("endless")), {}) for _ in range(10)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(answer, ProvisioningRefused) for answer in answers)
    assert threading.active_count() - before <= 16
    released.set()
    assert await HookTable({}, timeout=5).ask(Hook(LAMBDA.format("in_thread")), QUESTION) == {"a": "b"}
