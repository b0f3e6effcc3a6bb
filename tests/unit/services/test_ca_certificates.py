"""AWS IoT's operations on CA certificates, registration codes, and certificates registered under CA certificates."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.issuers import Issuer, fingerprint, new_issuer, pem, rewritten
from tests.unit import vectors
from tests.unit.vectors import NOW
from tests.world import ABROAD, OURS, THEIRS, World, new_world, pages
from thingmint.domain.errors import (
    AlreadyExists,
    Ambiguous,
    Disallowed,
    DomainError,
    Invalid,
    InvalidCertificate,
    InvalidState,
    InvalidTemplate,
    LimitExceeded,
    NotFound,
    UnverifiedCertificate,
    WrongRegistrationCode,
)
from thingmint.domain.templates import CERTIFICATE_ID, Kind
from thingmint.services.certificates_under_ca import count_under_ca
from thingmint.services.quotas import Quotas
from thingmint.store.table import fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from thingmint.domain.arns import Scope

UNKNOWN = "0" * 64
DAY = timedelta(days=1)
ROLE = "arn:aws:iam::111111111111:role/provisions"
JITP_BODY = json.dumps(
    {
        "Parameters": {"AWS::IoT::Certificate::CommonName": {"Type": "String"}},
        "Resources": {
            "certificate": {
                "Type": "AWS::IoT::Certificate",
                "Properties": {"CertificateId": {"Ref": CERTIFICATE_ID}, "Status": "ACTIVE"},
            },
            "thing": {
                "Type": "AWS::IoT::Thing",
                "Properties": {"ThingName": {"Ref": "AWS::IoT::Certificate::CommonName"}},
            },
        },
    }
)
BY_BODY = {"templateBody": JITP_BODY, "roleArn": ROLE}


def issuer(common_name: str = "A Maker's Root", **facts: Any) -> Issuer:
    return new_issuer(common_name, now=NOW, **{"begins": NOW - DAY, "ends": NOW + DAY, **facts})


async def code_of(world: World, scope: Scope = OURS) -> str:
    code: str = (await world.aws("GetRegistrationCode", scope))["registrationCode"]
    return code


async def take(world: World, made: Issuer, scope: Scope = OURS, /, **members: Any) -> str:
    """Register a CA certificate as SNI_ONLY and ACTIVE, and return its id."""
    world.clock.advance(seconds=1)
    given = {"certificateMode": "SNI_ONLY", "setAsActive": True, **members}
    id: str = (await world.aws("RegisterCACertificate", scope, caCertificate=made.pem, **given))["certificateId"]
    return id


async def prove(world: World, made: Issuer, scope: Scope = OURS, /, **members: Any) -> str:
    """Register a CA certificate as DEFAULT with a verification certificate, and return its id."""
    verification = pem(made.sign(await code_of(world, scope)))
    return await take(world, made, scope, certificateMode="DEFAULT", verificationCertificate=verification, **members)


async def describe(world: World, id: str, scope: Scope = OURS) -> dict[str, Any]:
    """Return the description, with registrationConfig as one more member."""
    answer = await world.aws("DescribeCACertificate", scope, certificateId=id)
    return {**answer["certificateDescription"], "registrationConfig": answer["registrationConfig"]}


async def update(world: World, id: str, scope: Scope = OURS, /, **members: Any) -> None:
    await world.aws("UpdateCACertificate", scope, certificateId=id, **members)


async def delete(world: World, id: str, scope: Scope = OURS) -> None:
    await world.aws("DeleteCACertificate", scope, certificateId=id)


async def register(world: World, certificate: str, scope: Scope = OURS, /, **members: Any) -> str:
    """Register a certificate under its CA certificate, and return its id."""
    id: str = (await world.aws("RegisterCertificate", scope, certificatePem=certificate, **members))["certificateId"]
    return id


async def template(world: World, name: str, kind: Kind = Kind.JITP) -> None:
    members = {"templateName": name, "templateBody": JITP_BODY, "provisioningRoleArn": ROLE, "type": kind}
    await world.aws("CreateProvisioningTemplate", **members, enabled=True)


# -- registration codes -------------------------------------------------------------------------------------------


async def test_a_registration_code_stays_the_same_until_it_is_deleted(world: World) -> None:
    codes = {scope: await code_of(world, scope) for scope in (OURS, ABROAD, THEIRS)}
    assert len(set(codes.values())) == 3
    assert all(len(code) == 64 and int(code, 16) for code in codes.values())
    assert await code_of(world) == codes[OURS]
    await world.aws("DeleteRegistrationCode")
    with pytest.raises(NotFound, match="registration code of account 111111111111"):
        await world.aws("DeleteRegistrationCode")
    assert await code_of(world) != codes[OURS]
    assert await code_of(world, THEIRS) == codes[THEIRS]


async def test_a_verification_certificate_must_have_the_current_code(world: World) -> None:
    made = issuer()
    theirs, old = await code_of(world, THEIRS), await code_of(world)
    await world.aws("DeleteRegistrationCode")
    for code in (old, theirs):  # the first while the account has no code
        with pytest.raises(WrongRegistrationCode, match=r"^Registration code provided in the CN field"):
            await take(world, made, certificateMode="DEFAULT", verificationCertificate=pem(made.sign(code)))
        await code_of(world)
    forged = issuer().sign(await code_of(world))
    with pytest.raises(UnverifiedCertificate):
        await take(world, made, certificateMode="DEFAULT", verificationCertificate=pem(forged))
    assert (await world.count("ca_certificates"), await world.count("certificates")) == (0, 0)


# -- registering CA certificates ----------------------------------------------------------------------------------


async def test_a_registered_ca_certificate_is_described_as_given(world: World) -> None:
    made = issuer()
    id = await prove(world, made, setAsActive=False, tags=[{"Key": "a", "Value": "b"}])
    described = await describe(world, id)
    assert described.pop("generationId")
    assert described == {
        "certificateArn": f"arn:aws:iot:us-east-1:111111111111:cacert/{id}",
        "certificateId": made.fingerprint,
        "status": "INACTIVE",
        "certificatePem": made.pem,
        "ownedBy": OURS.account,
        "autoRegistrationStatus": "DISABLE",
        "creationDate": world.clock.now,
        "lastModifiedDate": world.clock.now,
        "customerVersion": 1,
        "validity": {
            "notBefore": made.certificate.not_valid_before_utc,
            "notAfter": made.certificate.not_valid_after_utc,
        },
        "certificateMode": "DEFAULT",
        "registrationConfig": None,
    }
    assert (world.audit_resources(), await world.published()) == ([f"cacert/{id}"], [("ca", id)])
    assert await world.rows("SELECT resource, key, value FROM tags") == [(f"cacert/{id}", "a", "b")]


@pytest.mark.parametrize(
    "members", [{"certificateMode": "DEFAULT"}, {"certificateMode": "SNI_ONLY", "verificationCertificate": "x"}]
)
async def test_the_mode_requires_or_forbids_a_verification_certificate(world: World, members: dict[str, str]) -> None:
    expected = "verification certificate for registering CA Certificates in " + members["certificateMode"]
    with pytest.raises(Disallowed, match=expected):
        await take(world, issuer(), **members)


@pytest.mark.parametrize("pem", ["garbage", issuer(extensions=()).pem, issuer(ends=NOW - DAY / 2).pem])
async def test_invalid_ca_certificates_are_refused(world: World, pem: str) -> None:
    with pytest.raises(InvalidCertificate, match=r"^caCertificate "):
        await world.aws("RegisterCACertificate", caCertificate=pem, certificateMode="SNI_ONLY")


async def test_only_one_account_can_register_a_ca_as_default(world: World) -> None:
    made = issuer()
    id = await prove(world, made)
    for scope in (OURS, THEIRS):
        with pytest.raises(AlreadyExists) as refused:
            await prove(world, made, scope)
        assert (refused.value.id, refused.value.arn) == (id, f"arn:aws:iot:us-east-1:{scope.account}:cacert/{id}")
    with pytest.raises(AlreadyExists):
        await take(world, made)
    await prove(world, made, ABROAD)
    await take(world, made, THEIRS)
    await update(world, id, newStatus="INACTIVE")
    await delete(world, id)
    await take(world, made)


async def test_ten_ca_certificates_can_have_one_subject(world: World) -> None:
    for _ in range(10):
        await take(world, issuer())
    with pytest.raises(LimitExceeded):
        await take(world, issuer())
    assert await world.count("ca_certificates") == 10
    await take(world, issuer("Another"))
    await take(world, issuer(), THEIRS)


@pytest.mark.parametrize(
    ("error", "config"),
    [
        (NotFound, {"templateName": "missing"}),
        (Invalid, {"templateName": "fleet"}),
        (InvalidTemplate, {"templateBody": "{}", "roleArn": ROLE}),
        (Invalid, {}),
    ],
)
async def test_a_registration_config_has_the_name_or_the_body_of_a_template(
    world: World, error: type[DomainError], config: dict[str, str]
) -> None:
    await template(world, "fleet", Kind.FLEET)
    with pytest.raises(error):
        await take(world, issuer(), registrationConfig=config)
    id = await take(world, issuer())
    with pytest.raises(error):
        await update(world, id, registrationConfig=config)
    assert (await describe(world, id))["registrationConfig"] is None


# -- changing and deleting CA certificates ------------------------------------------------------------------------


async def test_a_registration_config_is_replaced_and_removed(world: World) -> None:
    await template(world, "jitp")
    id = await take(world, issuer(), registrationConfig={"templateName": "jitp"}, allowAutoRegistration=True)
    named = {"templateBody": None, "templateName": "jitp", "roleArn": None}
    for members, config, automatic, version in (
        ({}, named, "ENABLE", 1),
        ({"newAutoRegistrationStatus": "DISABLE"}, named, "DISABLE", 2),
        ({"registrationConfig": BY_BODY, "newAutoRegistrationStatus": "ENABLE"}, BY_BODY, "ENABLE", 3),
        ({"removeAutoRegistration": True}, None, "DISABLE", 4),
    ):
        await update(world, id, **members)
        described = await describe(world, id)
        expected = None if config is None else {"templateName": None, **config}
        assert described["registrationConfig"] == expected
        assert (described["autoRegistrationStatus"], described["customerVersion"]) == (automatic, version)


async def test_only_a_change_of_status_is_published(world: World) -> None:
    id = await take(world, issuer())
    before = await describe(world, id)
    world.audit_resources()
    await world.published()
    world.clock.advance(seconds=5)
    await update(world, id, newAutoRegistrationStatus="ENABLE")
    assert (world.audit_resources(), await world.published()) == ([f"cacert/{id}"], [])
    await update(world, id, newStatus="INACTIVE")
    assert (world.audit_resources(), await world.published()) == ([f"cacert/{id}"], [("ca", id)])
    changed = {"status": "INACTIVE", "autoRegistrationStatus": "ENABLE", "customerVersion": 3}
    assert await describe(world, id) == {**before, **changed, "lastModifiedDate": world.clock.now}


async def test_an_update_without_a_difference_changes_nothing(world: World) -> None:
    id = await take(world, issuer())
    before = await describe(world, id)
    world.audit_resources()
    await world.published()
    world.clock.advance(seconds=5)
    await update(world, id)
    await update(world, id, newStatus="ACTIVE", newAutoRegistrationStatus="DISABLE")
    assert await describe(world, id) == before
    assert await world.unchanged()


@pytest.mark.parametrize("members", [{"newAutoRegistrationStatus": "ENABLE"}, {"registrationConfig": BY_BODY}])
async def test_auto_registration_cannot_be_set_and_removed_together(world: World, members: dict[str, Any]) -> None:
    id = await take(world, issuer())
    with pytest.raises(Invalid, match=r"^removeAutoRegistration must not be given together with"):
        await update(world, id, removeAutoRegistration=True, **members)


async def test_an_active_ca_certificate_cannot_be_deleted(world: World) -> None:
    id = await take(world, issuer(), tags=[{"Key": "a", "Value": "b"}])
    with pytest.raises(InvalidState, match=rf"must be deactivated \(not ACTIVE\) before deletion\. Id: {id}"):
        await delete(world, id)
    await update(world, id, newStatus="INACTIVE")
    world.audit_resources()
    await world.published()
    await delete(world, id)
    assert (world.audit_resources(), await world.published()) == ([f"cacert/{id}"], [("ca", id)])
    assert (await world.count("tags"), await world.count("certificates")) == (0, 0)
    with pytest.raises(NotFound):
        await describe(world, id)


async def test_the_content_stays_while_a_registration_references_it(world: World) -> None:
    """Two accounts register the certificate as a CA certificate, and one also as a device's certificate."""
    made = issuer()
    id = await take(world, made, setAsActive=False)
    await take(world, made, THEIRS, setAsActive=False)
    own = {"certificatePem": made.pem, "status": "INACTIVE"}
    await world.aws("RegisterCertificateWithoutCA", **own)
    await world.aws("DeleteCertificate", certificateId=id)
    await delete(world, id, THEIRS)
    assert (await describe(world, id))["certificatePem"] == made.pem
    await world.aws("RegisterCertificateWithoutCA", **own)
    await delete(world, id)
    assert await world.count("certificates") == 1
    await world.aws("DeleteCertificate", certificateId=id)
    assert await world.count("certificates") == 0


@pytest.mark.parametrize("elsewhere", [ABROAD, THEIRS])
async def test_a_ca_certificate_exists_in_its_scope_only(world: World, elsewhere: Scope) -> None:
    id = await take(world, issuer(), setAsActive=False)
    for attempt in (
        describe(world, id, elsewhere),
        update(world, id, elsewhere, newStatus="ACTIVE"),
        delete(world, id, elsewhere),
        describe(world, UNKNOWN),
        update(world, UNKNOWN, newStatus="ACTIVE"),
        delete(world, UNKNOWN),
    ):
        with pytest.raises(NotFound, match="CA certificate"):
            await attempt
    assert (await describe(world, id))["status"] == "INACTIVE"


async def test_lists_have_every_ca_certificate_once_by_age(world: World) -> None:
    await template(world, "jitp")
    config = {"templateName": "jitp"}
    made = [await take(world, issuer(str(n)), **({"registrationConfig": config} if n % 2 else {})) for n in range(5)]
    await take(world, issuer(), THEIRS)

    async def ids(**wanted: Any) -> list[str]:
        async def page(members: Mapping[str, Any]) -> Mapping[str, Any]:
            return await world.aws("ListCACertificates", OURS, **members, **wanted)

        found = await pages(page, "certificates", 2, size="pageSize", token="marker", next_token="nextMarker")
        return [ca["certificateId"] for ca in found]

    assert await ids(ascendingOrder=True) == made
    assert await ids() == made[::-1]
    assert await ids(ascendingOrder=True, templateName="jitp") == made[1::2]
    [first, *_] = (await world.aws("ListCACertificates", ascendingOrder=True))["certificates"]
    described = await describe(world, made[0])
    assert first == {name: described[name] for name in ("certificateArn", "certificateId", "status", "creationDate")}


async def test_markers_are_valid_for_their_own_list_only(world: World) -> None:
    await template(world, "jitp")
    for n in range(3):
        await take(world, issuer(str(n)))
    marker = (await world.aws("ListCACertificates", pageSize=2, ascendingOrder=True))["nextMarker"]
    for scope, members in (
        (THEIRS, {"ascendingOrder": True}),
        (OURS, {}),
        (OURS, {"ascendingOrder": True, "templateName": "jitp"}),
    ):
        with pytest.raises(Invalid, match=r"^marker "):
            await world.aws("ListCACertificates", scope, marker=marker, **members)


# -- registering certificates under a CA certificate --------------------------------------------------------------


async def test_a_certificate_is_registered_under_the_ca_certificate_that_signed_it(world: World) -> None:
    made = issuer()
    ca = await take(world, made)
    certificate = made.sign(serial=0xABC)
    for given in ({}, {"caCertificatePem": made.pem}):
        world.audit_resources()
        id = await register(world, pem(certificate), status="ACTIVE", **given)
        assert world.audit_resources() == [f"cert/{id}"]
        described = (await world.aws("DescribeCertificate", certificateId=id))["certificateDescription"]
        assert (described["caCertificateId"], described["status"], described["certificateMode"]) == (
            ca,
            "ACTIVE",
            "SNI_ONLY",
        )
        assert await world.shown(f"SELECT {fingerprint_of('ca')}, serial FROM registrations") == [(ca, "abc")]
        with pytest.raises(AlreadyExists) as refused:
            await register(world, pem(certificate), **given)
        assert refused.value.id == id == fingerprint(certificate)
        await world.aws("UpdateCertificate", certificateId=id, newStatus="INACTIVE")
        await world.aws("DeleteCertificate", certificateId=id)


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({}, "INACTIVE"),
        ({"setAsActive": True}, "ACTIVE"),
        ({"setAsActive": True, "status": "INACTIVE"}, "INACTIVE"),
        ({"status": "REVOKED"}, "REVOKED"),
    ],
)
async def test_a_certificate_gets_the_mode_of_its_ca_and_the_requested_status(
    world: World, members: dict[str, Any], status: str
) -> None:
    made = issuer()
    await prove(world, made)
    id = await register(world, pem(made.sign()), **members)
    described = (await world.aws("DescribeCertificate", certificateId=id))["certificateDescription"]
    assert (described["certificateMode"], described["status"]) == ("DEFAULT", status)


async def test_a_status_that_callers_cannot_set_is_reported_first(world: World) -> None:
    with pytest.raises(InvalidState, match="PENDING_ACTIVATION"):
        await register(world, "garbage", status="PENDING_ACTIVATION")


async def test_a_certificate_is_refused_unless_an_active_ca_certificate_signed_it(world: World) -> None:
    async def refusal(certificate: str, **given: str) -> str:
        with pytest.raises((InvalidState, UnverifiedCertificate, Ambiguous)) as refused:
            await register(world, certificate, **given)
        error: Any = refused.value
        return f"{type(error).__name__}: {error.reason}"

    made, namesake, other = issuer(), issuer(), issuer("Another")
    by_made, signed = {"caCertificatePem": made.pem}, pem(made.sign())
    unknown = "InvalidState: No CA certificate exists for the given certificate"
    mismatch = (
        "UnverifiedCertificate: The issuer of the certificate did not match the subject of the provided CA certificate."
    )
    forged = (
        "UnverifiedCertificate: The signature of the certificate failed verification against the provided CA "
        "certificate."
    )
    assert await refusal(signed) == await refusal(signed, **by_made) == unknown
    await take(world, made, THEIRS)
    assert await refusal(signed) == await refusal(signed, **by_made) == unknown
    ca = await take(world, made)
    assert await refusal(signed, caCertificatePem=other.pem) == mismatch
    assert await refusal(signed, caCertificatePem=namesake.pem) == forged
    assert await refusal(pem(namesake.sign())) == forged
    assert await refusal(pem(namesake.sign()), **by_made) == forged
    assert await refusal(vectors.certificate_pem()) == unknown
    await take(world, namesake)
    assert (await refusal(signed)).startswith("Ambiguous: Several CA certificates have the certificate's issuer")
    await update(world, ca, newStatus="INACTIVE")
    assert await refusal(signed, **by_made) == "InvalidState: The CA certificate is not active"
    assert await world.count("registrations") == 0
    await update(world, ca, newStatus="ACTIVE")
    await register(world, signed, **by_made)


async def test_a_serial_number_is_registered_once_under_a_ca_certificate(world: World) -> None:
    made, other = issuer(), issuer("Another")
    await take(world, made)
    await take(world, other)
    first = made.sign(serial=7)
    await register(world, pem(first))
    for again in (made.sign(serial=7), rewritten(first)):
        with pytest.raises(AlreadyExists) as refused:
            await register(world, pem(again))
        assert refused.value.id == fingerprint(first)
    await register(world, pem(other.sign(serial=7)))
    await take(world, made, THEIRS)
    await register(world, pem(first), THEIRS)


async def test_a_list_by_ca_has_the_certificates_that_are_registered_under_it(world: World) -> None:
    made = issuer()
    ca = await take(world, made)
    await take(world, made, THEIRS)
    ids = []
    for _ in range(5):
        world.clock.advance(seconds=1)
        ids.append(await register(world, pem(made.sign())))
    await world.aws("RegisterCertificateWithoutCA", certificatePem=pem(made.sign()))

    async def listed(**wanted: Any) -> list[Any]:
        async def page(members: Mapping[str, Any]) -> Mapping[str, Any]:
            return await world.aws("ListCertificatesByCA", caCertificateId=ca, **members, **wanted)

        return await pages(page, "certificates", 2, size="pageSize", token="marker", next_token="nextMarker")

    assert [item["certificateId"] for item in await listed()] == ids[::-1]
    ascending = await listed(ascendingOrder=True)
    assert [item["certificateId"] for item in ascending] == ids
    everything = (await world.aws("ListCertificates", ascendingOrder=True))["certificates"]
    assert ascending[0] == next(item for item in everything if item["certificateId"] == ids[0])
    marker = (await world.aws("ListCertificatesByCA", caCertificateId=ca, pageSize=2))["nextMarker"]
    for scope, whose in ((OURS, UNKNOWN), (THEIRS, ca)):
        none = await world.aws("ListCertificatesByCA", scope, caCertificateId=whose)
        assert none == {"certificates": [], "nextMarker": None}
        with pytest.raises(Invalid, match=r"^marker "):
            await world.aws("ListCertificatesByCA", scope, caCertificateId=whose, marker=marker)


async def test_registering_under_a_ca_certificate_counts_for_the_quota(tmp_path: Path) -> None:
    async with new_world(tmp_path, quotas=Quotas(certificates=1)) as world:
        made = issuer()
        await take(world, made)
        await register(world, pem(made.sign()))
        with pytest.raises(LimitExceeded):
            await register(world, pem(made.sign()))
        assert await world.count("registrations") == 1


@pytest.mark.sqlite
async def test_pages_of_a_list_by_ca_run_along_an_index(world: World) -> None:
    plan = await world.rows(
        "EXPLAIN QUERY PLAN SELECT certificate FROM registrations WHERE account = 'a' AND region = 'r' "
        "AND ca = 1 ORDER BY created_at DESC, certificate DESC LIMIT 5"
    )
    assert [row[3] for row in plan] == [
        "SEARCH registrations USING COVERING INDEX registrations_by_ca (ca=? AND account=? AND region=?)"
    ]


async def test_certificates_are_counted_up_to_a_limit(world: World) -> None:
    root = issuer()
    id = await take(world, root)
    for name in ("a", "b", "c"):
        await world.aws("RegisterCertificate", certificatePem=pem(root.sign(name)))

    async def counted(scope: Scope, most: int) -> int:
        return await world.store.read(lambda tx: count_under_ca(tx, scope, id, most))

    assert [await counted(OURS, most) for most in (2, 3, 9)] == [2, 3, 3]
    assert await counted(THEIRS, 9) == 0
