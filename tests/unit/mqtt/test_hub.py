"""Who is told of a change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.mqtt.hub import Hub

if TYPE_CHECKING:
    from thingmint.mqtt.protocol.reasons import Reason


class Connection:
    def __init__(self) -> None:
        self.told = 0

    def reconsider(self) -> None:
        self.told += 1

    def throw_out(self, reason: Reason, why: str) -> None:
        raise AssertionError

    def check(self, now: float) -> None:
        raise AssertionError


A = ("1", "r", "policy", "a")
B = ("1", "r", "policy", "b")
OTHER_ACCOUNT = ("2", "r", "policy", "a")


def test_only_those_concerned_are_told_and_once() -> None:
    hub, one, two = Hub(), Connection(), Connection()
    hub.follow(one, [A, B])
    hub.follow(two, [OTHER_ACCOUNT])
    hub.changed([A, B, A])
    assert (one.told, two.told) == (1, 0)
    hub.changed([OTHER_ACCOUNT])
    assert (one.told, two.told) == (1, 1)


def test_following_anew_replaces_what_was_followed() -> None:
    hub, one = Hub(), Connection()
    hub.follow(one, [A])
    hub.follow(one, [B])
    hub.changed([A])
    assert one.told == 0
    hub.changed([B])
    assert one.told == 1
    assert len(hub) == 1


def test_nothing_is_kept_of_a_connection_that_is_gone() -> None:
    hub, one = Hub(), Connection()
    hub.follow(one, [A, B])
    hub.remove(one)
    hub.remove(one)
    hub.changed([A, B])
    assert one.told == 0
    assert len(hub) == 0
    assert not hub._sole
    assert not hub._dependents


def test_a_connection_that_leaves_while_others_are_told_does_no_harm() -> None:
    hub, two = Hub(), Connection()

    class Leaving(Connection):
        def reconsider(self) -> None:
            hub.remove(self)

    hub.follow(Leaving(), [A])
    hub.follow(two, [A])
    hub.changed([A])
    assert two.told == 1


def test_what_several_hang_on_and_then_one() -> None:
    hub, one, two = Hub(), Connection(), Connection()
    hub.follow(one, [A, B])
    hub.follow(two, [A])
    assert set(hub.followed_by(one)) == {A, B}
    hub.changed([A])
    hub.remove(one)
    hub.changed([A, B])
    assert (one.told, two.told) == (1, 2)
    hub.follow(one, [A])
    hub.remove(two)
    hub.changed([A])
    assert (one.told, two.told) == (2, 2)
    hub.remove(one)
    assert not hub._sole
    assert not hub._dependents
