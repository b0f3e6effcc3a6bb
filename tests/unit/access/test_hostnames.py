"""The commands for the host names of the instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tables import each_row
from thingmint.domain.errors import Invalid, NotFound
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
    assert await world.admin("hostname.add", name="b") == [{"name": "b"}, {"name": "a"}]
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
