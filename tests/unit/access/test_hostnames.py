"""The commands for the host names of the instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.tables import each_row
from tests.world import ABROAD, OURS, THEIRS
from thingmint.domain.errors import AlreadyExists, DomainError, Invalid, NotFound
from thingmint.services.hostnames import (
    DEFAULT_HOSTNAMES,
    add_hostnames,
    canonical_hostname,
    give_hostnames,
    list_hostnames,
)

if TYPE_CHECKING:
    from tests.world import World


@each_row(
    ("before", "given", "after"),
    [
        (DEFAULT_HOSTNAMES, ["192.168.1.10"], ["192.168.1.10", *DEFAULT_HOSTNAMES]),
        (DEFAULT_HOSTNAMES, ["::1", "iot"], ["::1", "iot", "localhost", "127.0.0.1"]),
        (DEFAULT_HOSTNAMES, ["*.iot"], [*DEFAULT_HOSTNAMES, "*.iot"]),
        (DEFAULT_HOSTNAMES, [], list(DEFAULT_HOSTNAMES)),
        (["iot", *DEFAULT_HOSTNAMES], ["later"], ["iot", *DEFAULT_HOSTNAMES, "later"]),
        (["localhost", "iot"], ["later"], ["localhost", "iot", "later"]),
    ],
)
async def test_names_that_were_given_come_before_the_defaults(
    world: World, before: list[str], given: list[str], after: list[str]
) -> None:
    await world.write(lambda tx: add_hostnames(tx, before))
    new = await world.write(lambda tx: give_hostnames(tx, given))
    assert new == [name for name in given if name not in before]
    assert await world.read(list_hostnames) == after
    await world.write(lambda tx: tx.execute("DELETE FROM hostnames"))


@each_row(
    ("name", "canonical"),
    [
        ("IoT.Example", "iot.example"),
        ("*.example", "*.example"),
        ("2001:DB8::1", "2001:db8::1"),
        ("", None),
        ("a b", None),
        ("a..b", None),
        ("https://iot.example", None),
        ("iot.example:8443", None),
        ("*", None),
        ("a.*", None),
        (f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 63}", None),
    ],
)
def test_host_names_are_made_canonical_or_invalid(name: str, canonical: str | None) -> None:
    if canonical is not None:
        assert canonical_hostname(name) == canonical
        return
    with pytest.raises(Invalid, match="neither a DNS name nor an IP address"):
        canonical_hostname(name)


async def test_names_are_added_put_first_and_removed(world: World) -> None:
    async def names() -> list[str]:
        return [row["name"] for row in await world.admin("hostname.list")]

    await world.admin("hostname.add", name="b")
    await world.admin("hostname.add", name="A")
    assert [row["name"] for row in await world.admin("hostname.add", name="b")] == ["b", "a"]
    await world.admin("hostname.first", name="a")
    await world.admin("hostname.first", name="c")
    assert await names() == ["c", "a", "b"]
    assert await world.aws("DescribeEndpoint") == {"endpointAddress": "c"}
    await world.admin("hostname.add", name="*.c")
    for name in ("c", "a"):
        await world.admin("hostname.remove", name=name)
    assert await names() == ["b", "*.c"]
    with pytest.raises(NotFound):
        await world.admin("hostname.remove", name="c")
    for wrong in ({"verb": "first", "name": "*.c"}, {"verb": "remove", "name": "b"}, {"verb": "add", "name": "a b"}):
        with pytest.raises(Invalid):
            await world.admin(f"hostname.{wrong['verb']}", name=wrong["name"])
    await world.admin("hostname.remove", name="*.c")
    with pytest.raises(Invalid, match="it is the last one"):
        await world.admin("hostname.remove", name="b")
    assert await names() == ["b"]


def row(name: str, account: str | None = None, region: str | None = None, api: str | None = None) -> dict[str, Any]:
    return {"name": name, "account": account, "region": region, "api": api}


async def test_a_name_is_given_to_one_account(world: World) -> None:
    await world.admin("hostname.add", name="localhost")
    given = {"name": "MQTT.example", "account": OURS.account, "api": "yandex"}
    expected = [row("localhost"), row("mqtt.example", *OURS, "yandex")]
    for _ in range(2):
        assert await world.admin("hostname.add", **given) == expected
    abroad = {"name": "x.example", "account": OURS.account, "api": "aws", "region": ABROAD.region}
    home = {"name": "y.example", "account": THEIRS.account, "api": "aws"}
    assert await world.admin("hostname.add", **abroad) == [*expected, row("x.example", *ABROAD, "aws")]
    assert await world.admin("hostname.add", **home) == [
        *expected,
        row("x.example", *ABROAD, "aws"),
        row("y.example", *THEIRS, "aws"),
    ]
    for name in ("mqtt.example", "X.example", "y.example"):
        await world.admin("hostname.remove", name=name)
    assert await world.admin("hostname.list") == [row("localhost")]
    with pytest.raises(NotFound):
        await world.admin("hostname.remove", name="mqtt.example")


async def test_a_name_belongs_to_one_account_or_to_all(world: World) -> None:
    await world.admin("hostname.add", name="all.example")
    await world.admin("hostname.add", name="one.example", account=OURS.account, api="yandex")
    before = await world.admin("hostname.list")
    taken = f"one.example is a host name of account {OURS.account} \\(yandex, {OURS.region}\\): remove it first"
    for verb, given in (
        ("add", {"account": THEIRS.account, "api": "yandex"}),
        ("add", {"account": OURS.account, "api": "aws"}),
        ("add", {}),
        ("first", {}),
    ):
        with pytest.raises(AlreadyExists, match=taken):
            await world.admin(f"hostname.{verb}", name="one.example", **given)
    with pytest.raises(AlreadyExists, match=r"all\.example is a host name of all accounts"):
        await world.admin("hostname.add", name="all.example", account=OURS.account, api="aws")
    with pytest.raises(AlreadyExists, match=taken):
        await world.write(lambda tx: give_hostnames(tx, ["new.example", "one.example"]))
    assert await world.admin("hostname.list") == before


@each_row(
    ("given", "flaw"),
    [
        ({"api": "yandex"}, "account must be given"),
        ({"region": "us-east-1"}, "account must be given"),
        ({"account": OURS.account}, "api must be aws or yandex"),
        ({"account": OURS.account, "api": "azure"}, "must be aws or yandex"),
        ({"account": "1", "api": "aws"}, "account "),
        ({"account": "000000000000", "api": "aws"}, "account 000000000000 does not exist"),
        ({"account": OURS.account, "api": "yandex", "region": OURS.region}, "region cannot be given with api yandex"),
        ({"account": OURS.account, "api": "aws", "region": "mars-1"}, "region must be a region of account"),
        ({"account": OURS.account, "api": "aws", "name": "*.example"}, "cannot be given to an account"),
        ({"account": OURS.account, "api": "aws", "name": "10.0.0.1"}, "cannot be given to an account"),
        ({"account": OURS.account, "api": "aws", "name": "a b"}, "neither a DNS name"),
    ],
)
async def test_names_that_cannot_be_given_are_refused(world: World, given: dict[str, str], flaw: str) -> None:
    with pytest.raises(DomainError, match=flaw):
        await world.admin("hostname.add", **{"name": "one.example", **given})
    assert await world.admin("hostname.list") == []
