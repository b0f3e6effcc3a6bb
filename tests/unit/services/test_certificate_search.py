"""Searching certificates by filters, compared with a plain loop over all of them."""

from __future__ import annotations

import random
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit import vectors
from tests.unit.services.test_transfers import POLICY
from tests.world import OURS, THEIRS
from thingmint.domain.errors import Invalid
from thingmint.domain.status import Status
from thingmint.services import certificate_search
from thingmint.services.certificate_activity import CertificateActivity, LastSeen, read_last_seen
from thingmint.services.certificate_finding import find_certificates
from thingmint.services.certificate_search import CertificateFilter, search_certificates, search_states
from thingmint.services.pages import Cursor

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.services.certificate_search import FoundCertificate
    from thingmint.services.pages import Page
    from thingmint.store.engine import Transaction


async def _page(tx: Transaction, **given: Any) -> Page[FoundCertificate]:
    return await search_certificates(tx, **given)


async def listed(
    world: World, wanted: CertificateFilter, scope: Scope = OURS, *, limit: int = 3, ascending: bool = False
) -> list[FoundCertificate]:
    """All pages."""
    found: list[FoundCertificate] = []
    token = None
    query = world.query(scope)
    while True:
        page = await world.read(
            partial(_page, query=query, cursor=Cursor(limit, token), wanted=wanted, ascending=ascending)
        )
        found += page.items
        token = page.next_token
        if token is None:
            return found


async def ids(world: World, scope: Scope = OURS, /, *, ascending: bool = False, **wanted: Any) -> list[str]:
    found = await listed(world, CertificateFilter(**wanted), scope, ascending=ascending)
    return [each.registration.fingerprint for each in found]


async def fleet(world: World, rng: random.Random, number: int = 12) -> dict[str, dict[str, Any]]:
    """Facts about each of some certificates, by fingerprint."""
    await world.aws("CreatePolicy", policyName="p", policyDocument=POLICY)
    activity = CertificateActivity(world.store, world.clock)
    facts: dict[str, dict[str, Any]] = {}
    for n in range(number):
        world.clock.advance(seconds=60)
        ends = (vectors.NOW + timedelta(days=rng.randrange(1, 50))).replace(microsecond=0)
        name = f"unit {n % 3}"
        pem = vectors.certificate_pem(common_name=name, not_after=ends)
        status = rng.choice(("ACTIVE", "INACTIVE", "REVOKED"))
        id = (await world.aws("RegisterCertificateWithoutCA", certificatePem=pem, status=status))["certificateId"]
        arn = f"arn:aws:iot:{OURS.region}:{OURS.account}:cert/{id}"
        has_thing, has_policy, was_seen = (rng.random() < 0.5 for _ in range(3))
        if has_thing:
            await world.aws("CreateThing", thingName=f"thing-{n}")
            await world.aws("AttachThingPrincipal", thingName=f"thing-{n}", principal=arn)
        if has_policy:
            await world.aws("AttachPolicy", policyName="p", target=arn)
        if was_seen:
            activity.connected(OURS, id, f"client-{n}", "192.0.2.1")
        facts[id] = {
            "status": status,
            "ends": ends,
            "name": name,
            "thing": f"thing-{n}" if has_thing else None,
            "policy": has_policy,
            "seen": world.clock() if was_seen else None,
        }
    await activity.flush()
    return facts


def satisfies(facts: dict[str, Any], wanted: CertificateFilter) -> bool:
    seen = facts["seen"]
    return (
        wanted.status in (None, facts["status"])
        and (wanted.ends_from is None or facts["ends"] >= wanted.ends_from)
        and (wanted.ends_before is None or facts["ends"] < wanted.ends_before)
        and (wanted.seen_from is None or (seen is not None and seen >= wanted.seen_from))
        and (wanted.seen_before is None or (seen is not None and seen < wanted.seen_before))
        and not (wanted.never_seen and seen is not None)
        and not (wanted.without_policy and facts["policy"])
        and not (wanted.without_thing and facts["thing"])
        and (wanted.subject or facts["name"]).casefold() == facts["name"].casefold()
        and facts["name"].casefold().startswith((wanted.subject_prefix or "").casefold())
        and wanted.thing in (None, facts["thing"])
    )


def some_filter(rng: random.Random, now: Any) -> CertificateFilter:
    def maybe(value: Any, otherwise: Any = None) -> Any:
        return value if rng.random() < 0.3 else otherwise

    search: dict[str, Any] = {}
    if rng.random() < 0.3:
        search = rng.choice(
            (
                {"subject": f"uNit {rng.randrange(4)}"},
                {"subject_prefix": rng.choice(("u", "UNIT", "unit 1", "units"))},
                {"thing": f"thing-{rng.randrange(12)}"},
            )
        )
    return CertificateFilter(
        status=maybe(rng.choice((Status.ACTIVE, Status.INACTIVE, Status.REVOKED))),
        ends_from=maybe(vectors.NOW + timedelta(days=rng.randrange(25))),
        ends_before=maybe(vectors.NOW + timedelta(days=rng.randrange(25, 50))),
        seen_from=maybe(now - timedelta(seconds=rng.randrange(600))),
        seen_before=maybe(now - timedelta(seconds=rng.randrange(600))),
        never_seen=maybe(True, False),
        without_policy=maybe(True, False),
        without_thing=maybe(True, False),
        **search,
    )


async def states_of(world: World, wanted: CertificateFilter, *, ascending: bool) -> list[tuple[str, str]]:
    """All pages of what is read for a change of many."""
    found: list[tuple[str, str]] = []
    token: str | None = ""
    while token is not None:
        cursor = Cursor(3, token)
        page = await world.read(
            partial(search_states, query=world.query(), cursor=cursor, wanted=wanted, ascending=ascending)
        )
        found += [(each.fingerprint, each.status) for each in page.items]
        token = page.next_token
    return found


async def test_any_filter_finds_what_a_loop_finds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_search, "_EXAMINED", 5)  # pages end before they are full
    rng = random.Random(7)
    facts = await fleet(world, rng)
    for _ in range(60):
        wanted = some_filter(rng, world.clock())
        ascending = rng.random() < 0.5
        found = [each.registration.fingerprint for each in await listed(world, wanted, ascending=ascending)]
        assert len(found) == len(set(found))
        assert set(found) == {id for id, about in facts.items() if satisfies(about, wanted)}, wanted
        states = await states_of(world, wanted, ascending=ascending)
        assert states == [(id, facts[id]["status"]) for id in found], wanted
        assert await listed(world, wanted, THEIRS) == []


@pytest.mark.parametrize(
    ("wanted", "is_exact"),
    [
        (CertificateFilter(), True),
        (CertificateFilter(subject_prefix="Pump"), True),
        (CertificateFilter(subject="насос"), True),
        (CertificateFilter(subject="x" * 256), False),
        (CertificateFilter(subject_prefix="ж" * 128), False),
        (CertificateFilter(subject_prefix="?"), False),
        (CertificateFilter(serial="1"), False),
    ],
)
def test_contents_are_read_only_if_a_key_does_not_tell(wanted: CertificateFilter, is_exact: bool) -> None:
    assert certificate_search._has_exact_key(wanted) is is_exact


async def test_the_order_is_that_of_the_filter(world: World) -> None:
    facts = await fleet(world, random.Random(3))
    by_age = list(facts)
    assert await ids(world) == by_age[::-1]
    assert await ids(world, ascending=True) == by_age
    by_expiry = sorted(facts, key=lambda each: facts[each]["ends"])
    found = await ids(world, ascending=True, ends_from=vectors.NOW)
    assert [facts[id]["ends"] for id in found] == [facts[id]["ends"] for id in by_expiry]
    seen = [id for id in by_age if facts[id]["seen"]]
    assert await ids(world, seen_from=vectors.NOW) == seen[::-1]


async def test_a_row_has_what_lists_show(world: World) -> None:
    facts = await fleet(world, random.Random(5))
    for each in await listed(world, CertificateFilter()):
        about = facts[each.registration.fingerprint]
        assert each.common_name == about["name"]
        assert each.thing == about["thing"]
        assert each.certificate.not_after == about["ends"]
        assert (each.last_seen.seen_at if each.last_seen else None) == about["seen"]
        assert each.owner is None


async def test_certificates_are_found_by_what_a_person_knows(world: World) -> None:
    facts = await fleet(world, random.Random(2))
    registry = await world.registry()
    device = await world.device(registry)
    bound = vectors.certificate_pem(common_name="bound")
    await world.yandex("DeviceService.AddCertificate", device_id=device, certificate_data=bound)
    everything = await listed(world, CertificateFilter(), limit=50)
    first = next(each for each in everything if each.thing)
    id, serial = first.registration.fingerprint, first.serial

    async def found(text: str, scope: Scope = OURS) -> list[tuple[str, str]]:
        rows = await world.read(lambda tx: find_certificates(tx, world.query(scope), text))
        return [(by, each.registration.fingerprint) for by, each in rows.certificates]

    assert ("id", id) in await found(id[:6].upper())
    assert await found(id) == [("id", id)]
    assert await found(f"0{serial}") == [("serial", id)]
    assert await found(f" {first.thing} ") == [("thing", id)]
    assert {one for by, one in await found("unit 1")} == {i for i, about in facts.items() if about["name"] == "unit 1"}
    (by_device,) = await found(device)
    assert by_device[0] == "device"
    (one,) = await listed(world, CertificateFilter(device=device))
    assert (one.owner, one.common_name) == (("device", device), "bound")
    for text in (id, serial or "", first.thing or "", "unit 1", device, "", "\0", "x" * 100_000, "\ud800"):
        assert await found(text, THEIRS) == []


async def test_a_prefix_skips_other_accounts_certificates(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_search, "_EXAMINED", 2)
    ours = {await world.certificate() for _ in range(3)}
    theirs = {await world.certificate(THEIRS) for _ in range(3)}
    for id in ours | theirs:
        assert await ids(world, id_prefix=id[:8]) == ([id] if id in ours else [])


@pytest.mark.parametrize("wanted", [{"id_prefix": "abc"}, {"id_prefix": "xyz1"}, {"thing": "a", "serial": "1"}])
async def test_a_filter_that_cannot_be_is_refused(world: World, wanted: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        await listed(world, CertificateFilter(**wanted))


async def test_a_token_of_another_search_is_refused(world: World) -> None:
    for _ in range(3):
        await world.certificate()
    page = await world.read(lambda tx: search_certificates(tx, world.query(), Cursor(1), CertificateFilter()))
    other = CertificateFilter(status=Status.ACTIVE)
    for scope, wanted in ((OURS, other), (THEIRS, CertificateFilter())):
        with pytest.raises(Invalid):
            await world.read(partial(_page, query=world.query(scope), cursor=Cursor(1, page.next_token), wanted=wanted))


async def last_seen(world: World, fingerprint: str, scope: Scope = OURS) -> Any:
    return (await world.read(lambda tx: read_last_seen(tx, scope, [fingerprint]))).get(fingerprint)


async def test_last_seen_is_the_newest_and_ends_with_the_registration(world: World) -> None:
    id = await world.certificate()
    first, second = (CertificateActivity(world.store, world.clock) for _ in range(2))
    begun = world.clock()
    first.connected(OURS, id, "a", "192.0.2.1")
    world.clock.advance(seconds=5)
    second.connected(OURS, id, "b", "192.0.2.2")
    second.connected(THEIRS, id, "c", "")  # it is not registered there
    await second.flush()
    await first.flush()  # later, with an earlier time
    seen = await last_seen(world, id)
    connected = begun + timedelta(seconds=5)
    assert seen == LastSeen("b", "192.0.2.2", connected, None, connected)
    world.clock.advance(seconds=5)
    first.disconnected(OURS, id, "a", "192.0.2.1")
    await first.flush()
    later = await last_seen(world, id)
    ended = begun + timedelta(seconds=10)
    assert later == seen._replace(disconnected_at=ended, seen_at=ended)
    assert await last_seen(world, id, THEIRS) is None
    await world.aws("UpdateCertificate", certificateId=id, newStatus="INACTIVE")
    await world.aws("DeleteCertificate", certificateId=id)
    first.connected(OURS, id, "late", "")
    await first.flush()
    assert await world.count("certificate_activity") == 0


async def test_open_connections_are_seen_again(world: World) -> None:
    id = await world.certificate()
    activity = CertificateActivity(world.store, world.clock, lambda: [(*OURS, id)])
    activity.connected(OURS, id, "a", "192.0.2.1")
    await activity.flush()
    world.clock.advance(seconds=3600)
    await activity.touch()
    seen = await last_seen(world, id)
    assert (seen.client_id, seen.seen_at, seen.disconnected_at) == ("a", world.clock(), None)
    assert seen.connected_at == world.clock() - timedelta(seconds=3600)


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({}, "registrations_by_age (account=? AND region=?)"),
        ({"never_seen": True}, "registrations_by_age (account=? AND region=?)"),
        ({"status": Status.REVOKED}, "registrations_by_status (account=? AND region=? AND status=?)"),
        ({"ca": "ab" * 32}, "registrations_by_ca (ca=? AND account=? AND region=?)"),
        ({"ends_from": vectors.NOW}, "registrations_by_not_after (account=? AND region=? AND not_after>?)"),
        ({"seen_before": vectors.NOW}, "certificate_activity_by_time (account=? AND region=? AND seen_at<?)"),
        ({"thing": "a"}, "thing_principals_by_thing (account=? AND region=? AND thing=?)"),
        ({"device": "a"}, "bindings_by_owner (owner=?)"),
        ({"serial": "1"}, "registrations_by_serial_key (serial_key=?)"),
        ({"subject": "a"}, "registrations_by_common_name (account=? AND region=? AND common_name=?)"),
        (
            {"subject_prefix": "a"},
            "registrations_by_common_name (account=? AND region=? AND common_name>? AND common_name<?)",
        ),
        ({"thing_prefix": "a"}, "thing_principals_by_thing (account=? AND region=? AND thing>? AND thing<?)"),
        ({"id_prefix": "abcd"}, "certificates_by_fingerprint (fingerprint>? AND fingerprint<?)"),
    ],
)
async def test_a_search_goes_along_the_index_of_its_filter(world: World, wanted: dict[str, Any], index: str) -> None:
    """A plan with an index can still read all rows of an account, so the test names the columns that are used."""
    await fleet(world, random.Random(1), 3)
    world.store.statements.clear()
    await listed(world, CertificateFilter(**wanted), limit=2)
    first, *further = list((await world.query_plans()).values())
    assert any(index in line for line in first), first
    for line in [line for plan in [first[1:], *further] for line in plan]:
        assert "(account=? AND region=?)" not in line
        assert "SCAN" not in line


@pytest.mark.sqlite
async def test_what_lists_show_is_read_by_key(world: World) -> None:
    await fleet(world, random.Random(1), 3)
    world.store.statements.clear()
    assert len(await listed(world, CertificateFilter(), limit=5)) == 3
    plans = list((await world.query_plans()).values())
    assert len(plans) == 4
    for line in [line for plan in plans[1:] for line in plan if not line.startswith("CORRELATED")]:
        assert (
            "PRIMARY KEY" in line
            or "by_fingerprint (fingerprint=?)" in line
            or "bindings_1 (certificate=? AND account=?)" in line
        ), line


@pytest.mark.sqlite
async def test_what_a_change_of_many_needs_is_read_by_key(world: World) -> None:
    await fleet(world, random.Random(1), 3)
    world.store.statements.clear()
    assert len(await states_of(world, CertificateFilter(), ascending=False)) == 3
    _, plan = list((await world.query_plans()).values())
    assert all("PRIMARY KEY" in line for line in plan), plan


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("wanted", "position"),
    [
        ({"ends_from": vectors.NOW, "ends_before": vectors.NOW + timedelta(days=60)}, "(not_after,certificate)"),
        ({"seen_from": vectors.NOW, "seen_before": vectors.NOW + timedelta(days=60)}, "(seen_at,certificate)"),
        ({"subject_prefix": "UNIT"}, "(common_name,certificate)"),
        ({"thing_prefix": "thing"}, "(thing,certificate)"),
    ],
)
@pytest.mark.parametrize("ascending", [True, False])
async def test_a_further_page_begins_at_its_position(
    world: World, wanted: dict[str, Any], position: str, *, ascending: bool
) -> None:
    """Else the second page of a million rows reads the rows of all pages before it."""
    await fleet(world, random.Random(8), 6)
    world.store.statements.clear()
    assert len(await listed(world, CertificateFilter(**wanted), limit=1, ascending=ascending)) > 1
    sign = ">" if ascending else "<"
    assert any(f"{position}{sign}" in plan[0] for plan in (await world.query_plans()).values())
