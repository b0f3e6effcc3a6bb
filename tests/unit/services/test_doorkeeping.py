"""What the door learns of a certificate, and which announcements make it look again."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit import vectors
from tests.unit.services.door_support import ABROAD, OURS, THEIRS, UNKNOWN, House, document, in_house
from thingmint.domain.status import Status
from thingmint.services.device_policies import Target
from thingmint.services.doorkeeping import AttachedThing, BoundTo, Claim, Passport, PolicyDocument
from thingmint.store.times import from_micros, to_micros

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.domain.registration import Scope


async def passport_of(house: House, fingerprint: str, client_id: str = "c", scope: Scope | None = OURS) -> Passport:
    passport = await house.door.passport(scope, fingerprint, thing_name=client_id)
    assert passport is not None
    return passport


async def claim(house: House, fingerprint: str, scope: Scope = OURS, expires_at: datetime = vectors.NOW) -> None:
    await house.run(
        "INSERT INTO provisioning_templates (account, region, name, type, enabled, role_arn, default_version, "
        "last_version, created_at, modified_at) VALUES ($1, $2, 'template', 'FLEET_PROVISIONING', 1, '', 1, 1, 0, 0)",
        *scope,
    )
    await house.run(
        "INSERT INTO provisioning_claims (account, region, fingerprint, template, expires_at, created_at) "
        "VALUES ($1, $2, $3, 'template', $4, 0)",
        *scope,
        fingerprint,
        to_micros(expires_at),
    )


def test_a_lone_certificate(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        pem = vectors.certificate_pem()
        fingerprint = await house.certificate(pem=pem, status=Status.REVOKED)
        registered = await house.certificates.describe(OURS, fingerprint)
        passport = await passport_of(house, fingerprint)
        assert passport == Passport(
            scope=OURS,
            fingerprint=fingerprint,
            registration=registered.registration,
            certificate=registered.certificate,
            claim=None,
            bound_to=None,
            thing=None,
            policies=(),
            settings={},
            dependencies=frozenset({("certificate", fingerprint), ("account", OURS.account), ("thing", "c")}),
        )
        assert passport.certificate is not None
        assert passport.certificate.der == ssl.PEM_cert_to_DER_cert(pem)
        assert passport.certificate.not_after == vectors.NOW.replace(microsecond=0) + timedelta(days=365)
        assert passport.claim is None

    in_house(tmp_path, test)


def test_only_the_default_versions_of_attached_policies(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        fingerprint = await house.certificate()
        for name in ("b", "a", "loose"):
            await house.policy(name)
        for name in ("b", "a"):
            await house.policies.attach(OURS, name, Target("cert", fingerprint))
        await house.policies.create_version(OURS, "a", document("second"), default=True)
        await house.policies.create_version(OURS, "b", document("second"), default=False)
        await house.group("g")
        await house.thing("t", "g")
        await house.principal("t", fingerprint)
        await house.policy("of-group")
        await house.policies.create_version(OURS, "of-group", document("second"), default=False)
        await house.policies.attach(OURS, "of-group", Target("thinggroup", "g"))
        own = (PolicyDocument("a", 2, document("second")), PolicyDocument("b", 1, document("b")))
        inherited = PolicyDocument("of-group", 1, document("of-group"))
        assert (await passport_of(house, fingerprint, "t")).policies == (*own, inherited)
        passport = await passport_of(house, fingerprint)
        assert passport.policies == own
        assert {name for kind, name in passport.dependencies if kind == "policy"} == {"a", "b"}

    in_house(tmp_path, test)


async def plant(house: House) -> str:
    """A tree of groups, things in it with policies, and the fingerprint of a certificate without any thing."""
    await house.group("root")
    await house.group("middle", "root")
    await house.group("leaf", "middle")
    await house.group("bare", "root")
    await house.group("other")
    await house.thing("t", "leaf", "bare", attributes='{"colour": "red"}')
    await house.thing("u", "other")
    await house.thing("alone")
    fingerprint = await house.certificate()
    for name, target in (
        ("own", Target("cert", fingerprint)),
        ("at-root", Target("thinggroup", "root")),
        ("at-leaf", Target("thinggroup", "leaf")),
        ("at-other", Target("thinggroup", "other")),
    ):
        await house.policy(name)
        await house.policies.attach(OURS, name, target)
    await house.policies.attach(OURS, "own", Target("thinggroup", "leaf"))  # twice, and told once
    return fingerprint


def names(passport: Passport) -> list[str]:
    return [policy.name for policy in passport.policies]


def on(passport: Passport, kind: str) -> set[str]:
    return {name for of, name in passport.dependencies if of == kind}


def test_the_thing_named_like_the_client(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        fingerprint = await plant(house)
        await house.principal("t", fingerprint)
        await house.principal("alone", fingerprint)
        passport = await passport_of(house, fingerprint, "t")
        assert passport.thing == AttachedThing("t", None, {"colour": "red"}, exclusive=False)
        assert names(passport) == ["at-leaf", "at-root", "own"]
        assert on(passport, "thinggroup") == {"root", "middle", "leaf", "bare"}
        assert on(passport, "thing") == {"t"}
        assert on(passport, "policy") == {"at-leaf", "at-root", "own"}

        passport = await passport_of(house, fingerprint, "alone")
        assert passport.thing == AttachedThing("alone", None, {}, exclusive=False)
        assert (names(passport), on(passport, "thinggroup")) == (["own"], set())

        for stranger in ("u", "T", "nothing", ""):  # not attached to that one, or there is none
            passport = await passport_of(house, fingerprint, stranger)
            assert (passport.thing, names(passport)) == (None, ["own"])
            assert (on(passport, "thing"), on(passport, "thinggroup")) == ({stranger}, set())

    in_house(tmp_path, test)


@pytest.mark.parametrize("client_id", ["t", "u", "nothing"])
def test_an_exclusive_thing_whatever_the_client_is_called(tmp_path: Path, client_id: str) -> None:
    async def test(house: House) -> None:
        fingerprint = await plant(house)
        await house.principal("t", fingerprint, exclusive=True)
        await house.principal("u", await house.certificate(), exclusive=True)
        passport = await passport_of(house, fingerprint, client_id)
        assert passport.thing == AttachedThing("t", None, {"colour": "red"}, exclusive=True)
        assert names(passport) == ["at-leaf", "at-root", "own"]
        assert on(passport, "thing") == {"t", client_id}

    in_house(tmp_path, test)


def test_a_things_type(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        fingerprint = await plant(house)
        await house.principal("t", fingerprint)
        await house.run(
            "INSERT INTO thing_types (account, region, name, id, searchable_attributes, created_at) "
            "VALUES ($1, $2, 'lamp', 'i', '[]', 0)",
            *OURS,
        )
        await house.run("UPDATE things SET type = 'lamp' WHERE name = 't'")
        passport = await passport_of(house, fingerprint, "t")
        assert passport.thing is not None
        assert passport.thing.type == "lamp"

    in_house(tmp_path, test)


def test_each_scope_has_its_own(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        pem = vectors.certificate_pem()
        scopes = (OURS, ABROAD, THEIRS)
        for scope in scopes:
            fingerprint = await house.certificate(scope, pem=pem)
            await house.policy("p", scope, document(scope.region))
            await house.policies.attach(scope, "p", Target("cert", fingerprint))
            await house.group("g", scope=scope)
            await house.thing("t", "g", scope=scope, attributes=f'{{"of": "{scope.account}"}}')
            await house.principal("t", fingerprint, scope=scope)
        await house.policy("more", THEIRS)
        await house.policies.attach(THEIRS, "more", Target("thinggroup", "g"))
        for account in (OURS.account, THEIRS.account):
            await house.run("INSERT INTO account_settings (account, name, value) VALUES ($1, 'for', $1)", account)
        for scope in scopes:
            passport = await passport_of(house, fingerprint, "t", scope)
            assert passport.registration is not None
            assert passport.registration.scope == passport.scope == scope
            assert names(passport) == (["more", "p"] if scope == THEIRS else ["p"])
            assert passport.policies[-1].document == document(scope.region)
            assert passport.thing is not None
            assert passport.thing.attributes == {"of": scope.account}
            assert passport.settings == {"for": scope.account}

    in_house(tmp_path, test)


def test_without_a_scope_only_one_can_be_meant(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        pem = vectors.certificate_pem()
        assert await house.door.candidates(UNKNOWN) == []
        assert await house.door.passport(None, UNKNOWN, thing_name="c") is None
        fingerprint = await house.certificate(THEIRS, pem=pem)
        assert await house.door.passport(OURS, fingerprint, thing_name="c") is None
        assert (await passport_of(house, fingerprint, scope=None)).scope == THEIRS
        await house.certificate(OURS, pem=pem)
        assert await house.door.candidates(fingerprint) == [OURS, THEIRS]
        assert await house.door.passport(None, fingerprint, thing_name="c") is None
        assert (await passport_of(house, fingerprint, scope=OURS)).scope == OURS

    in_house(tmp_path, test)


def test_a_claim(tmp_path: Path) -> None:
    """Its certificate is registered nowhere, and may not even be kept."""

    async def test(house: House) -> None:
        expires_at = datetime(2027, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
        await claim(house, UNKNOWN, expires_at=expires_at)
        for scope in (OURS, None):
            passport = await passport_of(house, UNKNOWN, scope=scope)
            assert (passport.scope, passport.registration, passport.certificate) == (OURS, None, None)
            assert passport.claim == Claim("template", expires_at)
            assert ("certificate", UNKNOWN) in passport.dependencies
        assert await house.door.passport(THEIRS, UNKNOWN, thing_name="c") is None
        assert await house.door.candidates(UNKNOWN) == [OURS]

        fingerprint = await house.certificate(THEIRS)
        await claim(house, fingerprint, THEIRS)
        passport = await passport_of(house, fingerprint, scope=None)
        assert passport.registration is not None
        assert passport.claim is not None
        assert passport.claim.template == "template"

    in_house(tmp_path, test)


def test_what_it_is_bound_to(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        pem = vectors.certificate_pem()
        fingerprint = await house.certificate(pem=pem)
        await house.certificate(ABROAD, pem=pem)
        await house.run(
            "INSERT INTO bindings (account, region, fingerprint, kind, owner, made_registration, created_at) "
            "VALUES ($1, $2, $3, 'device', 'are1', 0, 0)",
            *OURS,
            fingerprint,
        )
        assert (await passport_of(house, fingerprint)).bound_to == BoundTo("device", "are1")
        assert (await passport_of(house, fingerprint, scope=ABROAD)).bound_to is None

    in_house(tmp_path, test)


def test_what_a_passport_hangs_on(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        fingerprint = await plant(house)
        await house.principal("t", fingerprint)
        passport = await passport_of(house, fingerprint, "t")
        kinds: list[tuple[Any, str]] = [
            ("certificate", fingerprint),
            ("policy", "own"),
            ("policy", "at-leaf"),
            ("policy", "at-root"),
            ("thing", "t"),
            ("thinggroup", "bare"),
            ("thinggroup", "leaf"),
            ("thinggroup", "middle"),
            ("thinggroup", "root"),
            ("account", OURS.account),
        ]
        assert passport.dependencies == set(kinds)

    in_house(tmp_path, test)


def test_notices_from_a_time_on(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        fingerprint = await house.certificate()
        times = []
        for status in (Status.ACTIVE, Status.INACTIVE, Status.REVOKED):
            house.clock.advance(seconds=1)
            times.append(to_micros(house.clock.now))
            await house.certificates.set_status(OURS, fingerprint, status)
        for skipped in range(3):
            notices = await house.door.notices_since(from_micros(times[skipped]))
            assert [notice.created_at for notice in notices] == times[skipped:]
            assert {notice[2:] for notice in notices} == {(*OURS, "certificate", fingerprint)}
        assert await house.door.notices_since(from_micros(times[-1] + 1)) == []

    in_house(tmp_path, test)


def test_everything_is_found_along_an_index(tmp_path: Path) -> None:
    """A connection costs the same in a large store."""

    async def test(house: House) -> None:
        fingerprint = await plant(house)
        await house.principal("t", fingerprint)
        connections = (house.store.store._reader, house.store.store._writer)
        statements: set[str] = set()
        for connection in connections:
            connection.set_trace_callback(statements.add)
        for client_id in ("t", "u"):
            await passport_of(house, fingerprint, client_id, None)
        for connection in connections:
            connection.set_trace_callback(None)
        ours = [sql for sql in statements if sql.startswith(("SELECT", "WITH", "DELETE", "UPDATE"))]
        assert len(ours) >= 8
        for sql in ours:
            plan = [row[3] for row in connections[0].execute(f"EXPLAIN QUERY PLAN {sql}")]
            for step in plan:
                word, _, what = step.partition(" ")
                assert word != "SCAN" or what in ("lineage", "targets", "attached", "CONSTANT ROW"), (sql, plan)
                assert "(account=? AND region=?)" not in step, (sql, plan)

    in_house(tmp_path, test)
