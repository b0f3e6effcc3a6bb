"""Connection limits when the process may open few files."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from thingmint.server.sockets import fit_to_files
from thingmint.settings import LISTENERS, ConnectionSettings

if TYPE_CHECKING:
    from thingmint.http.connection_limits import Limits
    from thingmint.settings import Listener

USUAL: dict[Listener, Limits] = {listener: ConnectionSettings().limits(listener) for listener in LISTENERS}
NEEDED = 4096 + 1024 + 3 * 2048 + 20_000 + 1024


def with_files(monkeypatch: pytest.MonkeyPatch, files: int, *, upstream: bool = False) -> dict[Listener, Limits]:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    return dict(fit_to_files(USUAL, upstream=upstream))


@pytest.mark.parametrize("files", [NEEDED + 256, 10**6, resource.RLIM_INFINITY])
def test_with_enough_files_the_limits_are_unchanged(monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    assert with_files(monkeypatch, files) == USUAL


@pytest.mark.parametrize("upstream", [False, True])
@pytest.mark.parametrize("files", [NEEDED + 200, 20_000, 4096, 1024, 300])
def test_with_few_files_all_limits_are_lowered(monkeypatch: pytest.MonkeyPatch, files: int, upstream: bool) -> None:
    limits = with_files(monkeypatch, files, upstream=upstream)
    used = sum(each.total for each in limits.values()) + 2 * limits["grpc"].total
    assert used + upstream * limits["mqtt"].total <= files - 250
    for each in limits.values():
        assert 1 <= each.per_address <= each.total
        assert each.reserve < each.total


@pytest.mark.parametrize(("files", "devices"), [(20_000, 20_000 - 256 - 12_288), (25_000, 25_000 - 256 - 12_288)])
def test_the_limit_of_devices_is_lowered_first(monkeypatch: pytest.MonkeyPatch, files: int, devices: int) -> None:
    limits = with_files(monkeypatch, files)
    assert limits["mqtt"].total == devices
    assert {**limits, "mqtt": USUAL["mqtt"]} == USUAL


def test_each_limit_is_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {each.total for each in with_files(monkeypatch, 100).values()} == {1}
