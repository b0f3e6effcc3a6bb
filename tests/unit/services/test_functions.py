"""The operator's functions: who may refer to one, the limits of Python functions, and what is counted."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from typing import TYPE_CHECKING, Any, get_args

import pytest
import structlog

from tests.world import OURS, THEIRS
from thingmint.services import function_calls, functions
from thingmint.services.function_calls import CallFailed, Function
from thingmint.services.functions import Functions, FunctionTable, Use

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ACCOUNT, OTHER = OURS.account, THEIRS.account
EVENT = {"certificateId": "x", "clientId": "d\u00e9"}
ANSWER = {"allowProvisioning": True}
USES = get_args(Use)
released = threading.Event()


def arn(name: str, account: str = ACCOUNT) -> str:
    return f"arn:aws:lambda:us-east-1:{account}:function:{name}"


async def call(table: FunctionTable, name: str, account: str = ACCOUNT, use: Any = "certificate_provider") -> object:
    return await table.call(account, arn(name), use, EVENT, lambda answer: answer)


async def failure(table: FunctionTable, name: str, account: str = ACCOUNT, use: Any = "certificate_provider") -> str:
    with pytest.raises(CallFailed) as failed:
        await call(table, name, account, use)
    return failed.value.outcome


async def ended(table: FunctionTable, name: str) -> None:
    while dict(table.running())[name,]:  # noqa: ASYNC110 - a number
        await asyncio.sleep(0.01)


def counted(table: FunctionTable) -> dict[tuple[str, ...], float]:
    return {tuple(labels): number for labels, number in table.counts()}


# -- Python functions ---------------------------------------------------------------------------------------------


def in_thread(event: Mapping[str, Any]) -> object:
    assert threading.current_thread() is not threading.main_thread()
    return ANSWER if event == EVENT else None


async def awaited(event: Mapping[str, Any]) -> object:
    await asyncio.sleep(0)
    return in_thread(event)


def raises(event: Mapping[str, Any]) -> object:
    raise KeyError(event["certificateId"])


def exits(_: Mapping[str, Any]) -> object:
    raise SystemExit(3)


def endless(_: Mapping[str, Any]) -> object:
    released.wait(60)
    return ANSWER


def no_json(_: Mapping[str, Any]) -> object:
    return {"certificatePem": b"bytes"}


def large(_: Mapping[str, Any]) -> object:
    return {"certificatePem": "x" * 70_000}


class Entry:
    def __init__(self, name: str) -> None:
        self.name = name

    def load(self) -> Any:
        if self.name == "broken":
            raise ImportError
        return globals()[self.name]


PYTHON = ("in_thread", "awaited", "raises", "exits", "endless", "no_json", "large", "broken")


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    class Entries(list[Entry]):
        @property
        def names(self) -> set[str]:
            return {each.name for each in self}

    def entry_points(*, group: str, name: str | None = None) -> Entries:
        return Entries(Entry(each) for each in PYTHON if group == "thingmint.hooks" and name in (None, each))

    monkeypatch.setattr(function_calls, "entry_points", entry_points)
    monkeypatch.setattr(functions, "entry_points", entry_points)
    released.clear()
    yield
    released.set()


def python_table(timeout: float = 30.0, **further: Function) -> FunctionTable:
    names = {name: Function(name, frozenset({ACCOUNT}), entry_point=name) for name in (*PYTHON, "absent")}
    return FunctionTable(Functions({**names, **further}), timeout=timeout)


@pytest.mark.parametrize("name", ["in_thread", "awaited", "in_thread:PROD", "in_thread:$LATEST", "in_thread:7"])
async def test_python_functions_run_in_a_thread(name: str) -> None:
    table = python_table()
    assert await call(table, name) == ANSWER
    assert counted(table) == {(name.partition(":")[0], "certificate_provider", "ok"): 1}


async def test_a_function_can_be_named_by_its_module() -> None:
    of_module = Function("x", frozenset({ACCOUNT}), entry_point="json:dumps")
    assert await call(python_table(x=of_module), "x") == json.dumps(EVENT)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("raises", "error"),
        ("exits", "error"),
        ("broken", "misconfigured"),
        ("absent", "not_found"),
        ("no_json", "invalid"),
        ("large", "too_large"),
        ("unknown", "not_found"),
    ],
)
async def test_failures_of_python_functions_are_counted(name: str, outcome: str) -> None:
    table = python_table()
    assert await failure(table, name) == outcome
    assert counted(table) == {(name if name != "unknown" else "", "certificate_provider", outcome): 1}


async def test_hung_functions_keep_their_threads_and_take_none_of_others() -> None:
    table, before = python_table(timeout=0.2), threading.active_count()
    for _ in range(3):
        answers = await asyncio.gather(*(call(table, "endless") for _ in range(30)), return_exceptions=True)
        assert {getattr(answer, "outcome", None) for answer in answers} == {"timeout"}
    assert threading.active_count() - before <= 16
    assert dict(table.running())["endless",] <= 16
    assert await call(python_table(), "in_thread") == ANSWER
    released.set()
    async with asyncio.timeout(30):
        await ended(table, "endless")


async def test_calls_beyond_the_queue_are_refused_at_once() -> None:
    table = python_table(timeout=60)
    running = [asyncio.create_task(call(table, "endless")) for _ in range(200)]
    done, _ = await asyncio.wait(running, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    assert done
    refused = [task for task in running if task.done()]
    assert {getattr(task.exception(), "outcome", None) for task in refused} == {"overloaded"}
    released.set()
    assert [await task for task in running if task not in refused]


async def test_an_account_leaves_places_of_a_shared_function_to_others() -> None:
    waiting = threading.Semaphore(0)

    def slow(event: Mapping[str, Any]) -> object:
        return waiting.acquire(timeout=60) if event["clientId"] == "slow" else True

    globals()["endless_for_one"] = slow
    shared = Function("s", frozenset({ACCOUNT, OTHER}), entry_point=f"{__name__}:endless_for_one")
    table = python_table(s=shared)
    event = {"clientId": "slow"}
    running = [
        asyncio.create_task(table.call(ACCOUNT, arn("s"), "certificate_provider", event, bool)) for _ in range(60)
    ]
    await asyncio.sleep(0)
    assert await call(table, "s", OTHER) is True
    assert not any(task.done() for task in running)
    for _ in running:
        waiting.release()
    assert all([await task for task in running])


# -- the table ----------------------------------------------------------------------------------------------------


async def test_a_function_of_other_accounts_does_not_exist() -> None:
    table = python_table()
    with structlog.testing.capture_logs() as logged:
        outcomes = {await failure(table, name, OTHER, use) for name in ("in_thread", "none") for use in USES}
    assert outcomes == {"not_found"}
    assert counted(table) == {("", use, "not_found"): 2 for use in USES}
    assert {each["why"] for each in logged} == {"the settings have no such function for this account"}


@pytest.mark.parametrize(
    "arn",
    ["arn:aws:x:::in_thread", "in_thread", arn("in_thread", "x"), f"{arn('in_thread')}:a:b", f"{arn('in_thread')}\n"],
)
async def test_only_arns_of_lambda_functions_name_functions(arn: str) -> None:
    with pytest.raises(CallFailed) as failed:
        await python_table().call(ACCOUNT, arn, "certificate_provider", EVENT, bool)
    assert failed.value.outcome == "not_found"


async def test_arns_of_earlier_settings_are_for_pre_provisioning_alone() -> None:
    table = FunctionTable(Functions({}, {arn("old"): Function(arn("old"), entry_point="in_thread")}))
    assert await call(table, "old", use="pre_provisioning") == ANSWER
    assert await failure(table, "old") == "not_found"


async def test_installed_functions_need_no_entry_until_the_settings_name_functions() -> None:
    table = FunctionTable(Functions())
    assert await call(table, "in_thread", OTHER, "pre_provisioning") == ANSWER
    assert await failure(table, "in_thread") == "not_found"
    table.replace(Functions({"mine": Function("mine", frozenset({ACCOUNT}), entry_point="in_thread")}))
    assert await failure(table, "in_thread", OTHER, "pre_provisioning") == "not_found"
    assert await call(table, "mine", use="pre_provisioning") == ANSWER


async def test_a_changed_table_keeps_the_pools_of_functions_that_did_not_change() -> None:
    table = python_table(timeout=0.1)
    await asyncio.gather(*(call(table, "endless") for _ in range(16)), return_exceptions=True)
    hung = dict(table.running())["endless",]
    table.replace(Functions({"endless": Function("endless", frozenset({ACCOUNT}), entry_point="endless")}))
    assert dict(table.running()) == {("endless",): hung}


async def test_a_host_that_cannot_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def hang(host: str, *_: object, **__: object) -> object:
        calls.append(host)
        released.wait(60)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    slow = Function("slow", frozenset({ACCOUNT}), "https://hooks.example.org/", secret=b"key")
    table, before = FunctionTable(Functions({"slow": slow}), timeout=0.2), threading.active_count()
    for _ in range(3):
        answers = await asyncio.gather(*(call(table, "slow") for _ in range(20)), return_exceptions=True)
        assert {getattr(each, "outcome", None) for each in answers} == {"timeout"}
    assert (calls, threading.active_count() - before) == (["hooks.example.org"], 1)
    released.set()
    assert await failure(table, "slow") in ("timeout", "unreachable")
