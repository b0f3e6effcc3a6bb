"""The host name that the console tells devices of Yandex IoT Core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.unit.vectors import NOW
from tests.world import OURS, THEIRS
from thingmint.server.served_names import ServedNames
from thingmint.services.hostnames import AccountHostname, HostnameApi

if TYPE_CHECKING:
    from thingmint.domain.arns import Scope


class Settings:
    endpoints: dict[str, Any] = {}  # noqa: RUF012


def names(*of_accounts: tuple[Scope, str, HostnameApi], shared: list[str]) -> ServedNames:
    unused = cast("Any", None)
    found = ServedNames(unused, unused, unused, cast("Any", Settings()), hostnames=shared)
    found._of_accounts = [AccountHostname(scope, name, api, NOW) for scope, name, api in of_accounts]
    return found


@pytest.mark.parametrize(
    ("of_accounts", "expected"),
    [
        ([], "iot.example.org"),
        ([(OURS, "ours.example.org", "yandex")], "ours.example.org"),
        ([(OURS, "aws.example.org", "aws"), (OURS, "ours.example.org", "yandex")], "ours.example.org"),
        ([(OURS, "aws.example.org", "aws"), (THEIRS, "theirs.example.org", "yandex")], "iot.example.org"),
    ],
)
def test_the_name_is_one_under_which_the_rules_of_yandex_hold(
    of_accounts: list[tuple[Scope, str, HostnameApi]], expected: str
) -> None:
    found = names(*of_accounts, shared=["*.example.org", "iot.example.org"])
    assert found.yandex_host(OURS.account) == expected
