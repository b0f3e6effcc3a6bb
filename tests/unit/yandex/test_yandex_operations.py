"""What is declared of the contract's methods."""

from __future__ import annotations

from thingmint.yandex.contract import load
from thingmint.yandex.operations import OPEN, OPERATIONS

METHODS = load().methods


def test_every_declared_method_is_one_of_the_contract() -> None:
    assert OPERATIONS.keys() | OPEN.keys() <= METHODS.keys()
    assert not OPERATIONS.keys() & OPEN.keys()


def test_changes_are_the_methods_that_answer_operations() -> None:
    platform = {path for path in OPERATIONS if "OperationService" in path}
    assert len(platform) == 2
    for path in OPERATIONS.keys() - platform:
        assert OPERATIONS[path].writes == (METHODS[path].operation is not None), path
