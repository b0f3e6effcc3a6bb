"""RegisterThing over MQTT: the order of checks of template, token and hook, and one answer to identical requests."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.services.provisioning_support import ASKING, CLAIM, LAMBDA, ROLE, Provisioning, body
from tests.world import ABROAD, FINGERPRINT, OURS, THEIRS
from thingmint.domain.errors import InvalidParameters, ProvisioningFailed, ProvisioningRefused
from thingmint.domain.status import Status
from thingmint.domain.templates import CERTIFICATE_ID
from thingmint.services.provisioning import ProvisionedThing
from thingmint.store.table import id_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from thingmint.domain.arns import Scope


async def refusal(attempt: Awaitable[object]) -> tuple[str, str]:
    """Return the step that failed, and the reason."""
    with pytest.raises(ProvisioningRefused) as refused:
        await attempt
    return refused.value.step, refused.value.reason


INVALID_TOKEN = ("token", "Certificate ownership token is invalid.")


async def test_a_token_registers_a_thing_with_its_certificate(provisioning: Provisioning) -> None:
    name = await provisioning.template(body(Properties={}))
    made, token = await provisioning.create()
    assert await provisioning.register(name, token) == ProvisionedThing("lamp", {"site": "home"})
    assert await provisioning.status(made) == Status.ACTIVE
    assert await provisioning.world.shown(f"SELECT thing, {FINGERPRINT} FROM thing_principals") == [("lamp", made)]


async def test_a_template_without_a_thing_makes_none(provisioning: Provisioning) -> None:
    thing = await provisioning.register(await provisioning.template(body()), await provisioning.token())
    assert thing == ProvisionedThing(None, {"site": "home"})
    assert await provisioning.world.count("things") == 0


async def test_a_thing_is_registered_as_the_templates_role(provisioning: Provisioning) -> None:
    name = await provisioning.template(body())
    await provisioning.register(name, await provisioning.token())
    assert provisioning.roles == [(ROLE, f"arn:aws:iot:us-east-1:{OURS.account}:provisioningtemplate/{name}")]


# -- tokens -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["tmo_", "tmo_x", "x", "é", "tmo_é", "tmo_" * 200])
async def test_an_unknown_token_is_refused(provisioning: Provisioning, token: str) -> None:
    name = await provisioning.template(body())
    assert await refusal(provisioning.register(name, token)) == INVALID_TOKEN


async def test_a_token_is_valid_with_its_claim_only(provisioning: Provisioning) -> None:
    name, token = await provisioning.template(body()), await provisioning.token()
    provisioning.effects()
    assert await refusal(provisioning.register(name, token, claim="d" * 64)) == INVALID_TOKEN
    assert (provisioning.effects(), provisioning.roles) == ([], [])
    await provisioning.register(name, token, claim=CLAIM)


@pytest.mark.parametrize("scope", [THEIRS, ABROAD])
async def test_a_token_is_valid_in_one_account_and_region(provisioning: Provisioning, scope: Scope) -> None:
    """Even if claim and certificate are registered in other scopes too."""
    made, token = await provisioning.create()
    name = await provisioning.template(body(), scope)
    await provisioning.world.execute(
        "INSERT INTO registrations (certificate, account, region, status, mode, origin, created_at, modified_at, "
        "generation, version, made_by_binding) "
        f"VALUES ({id_of('$1')}, $2, $3, 'PENDING_ACTIVATION', 'SNI_ONLY', 'registered', 0, 0, $1, 1, 0)",
        bytes.fromhex(made),
        *scope,
    )
    assert await refusal(provisioning.register(name, token, scope)) == INVALID_TOKEN


async def test_a_token_is_valid_for_an_hour(provisioning: Provisioning) -> None:
    name, token = await provisioning.template(body()), await provisioning.token()
    provisioning.world.clock.advance(minutes=60)
    assert await refusal(provisioning.register(name, token)) == INVALID_TOKEN
    provisioning.world.clock.advance(microseconds=-1)
    await provisioning.register(name, token)


async def test_a_token_that_expires_during_the_hook_is_refused(provisioning: Provisioning) -> None:
    name = await provisioning.template(body(), **ASKING)
    made, token = await provisioning.create()
    provisioning.world.clock.advance(minutes=59)
    provisioning.hook_minutes = 1
    assert await refusal(provisioning.register(name, token)) == INVALID_TOKEN
    assert await provisioning.status(made) == Status.PENDING_ACTIVATION


@pytest.mark.parametrize(
    ("ends", "step"),
    [
        ([("UpdateCertificate", {"certificateId": CLAIM, "newStatus": "INACTIVE"})], "token"),
        ([("UpdateCertificate", {"certificateId": CLAIM, "newStatus": "REVOKED"})], "token"),
        (
            [
                ("UpdateCertificate", {"certificateId": CLAIM, "newStatus": "INACTIVE"}),
                ("DeleteCertificate", {"certificateId": CLAIM}),
            ],
            "token",
        ),
        ([("UpdateProvisioningTemplate", {"templateName": "t-0", "enabled": False})], "template"),
        ([("DeleteProvisioningTemplate", {"templateName": "t-0"})], "template"),
    ],
    ids=["INACTIVE", "REVOKED", "deleted", "template disabled", "template deleted"],
)
async def test_a_claim_or_template_that_ends_during_the_hook_provisions_nothing(
    provisioning: Provisioning, ends: list[tuple[str, dict[str, Any]]], step: str
) -> None:
    """The claim's connection is closed by then, but its request continues."""
    world = provisioning.world
    made, token = await provisioning.create()
    name = await provisioning.template(body(), **ASKING)
    ask = provisioning.ask

    async def meanwhile(arn: str, question: Mapping[str, object]) -> Mapping[str, str]:
        for operation, members in ends:
            await world.aws(operation, **members)
        return await ask(arn, question)

    provisioning.ask = meanwhile  # type: ignore[method-assign]
    assert (await refusal(provisioning.register(name, token)))[0] == step
    assert await provisioning.status(made) == Status.PENDING_ACTIVATION
    assert await world.count("things") == 0


async def test_created_resources_have_the_time_after_the_hook(provisioning: Provisioning) -> None:
    name = await provisioning.template(body(Properties={}), **ASKING)
    token = await provisioning.token()
    provisioning.hook_minutes = 1
    await provisioning.register(name, token)
    assert (await provisioning.world.aws("DescribeThing", thingName="lamp"))["thingName"] == "lamp"
    made_at = await provisioning.world.rows("SELECT created_at FROM things")
    assert made_at == [(int(provisioning.world.clock.now.timestamp() * 1_000_000),)]


@pytest.mark.parametrize("status", ["REVOKED", "PENDING_TRANSFER"])
async def test_a_token_of_a_revoked_or_transferred_certificate_is_refused(
    provisioning: Provisioning, status: str
) -> None:
    name, token = await provisioning.template(body()), await provisioning.token()
    await provisioning.world.execute("UPDATE registrations SET status = $1", status)
    assert await refusal(provisioning.register(name, token)) == INVALID_TOKEN


async def test_a_token_of_a_deleted_certificate_is_refused(provisioning: Provisioning) -> None:
    name = await provisioning.template(body())
    made, token = await provisioning.create()
    await provisioning.world.aws("UpdateCertificate", certificateId=made, newStatus="INACTIVE")
    await provisioning.world.aws("DeleteCertificate", certificateId=made)
    assert await refusal(provisioning.register(name, token)) == INVALID_TOKEN


# -- one success --------------------------------------------------------------------------------------------------


async def test_concurrent_identical_requests_get_one_answer(provisioning: Provisioning) -> None:
    name = await provisioning.template(body(Properties={"AttributePayload": {"site": {"Ref": "Site"}}}))
    token = await provisioning.token()
    requests = [provisioning.register(name, token, Site="a", x="y") for _ in range(5)]
    assert await asyncio.gather(*requests) == [ProvisionedThing("lamp", {"site": "a"})] * 5
    assert provisioning.effects().count("CreateThing thing/lamp") == 1


async def test_a_repeated_request_gets_the_same_answer_and_changes_nothing(provisioning: Provisioning) -> None:
    name, token = await provisioning.template(body(Properties={}), **ASKING), await provisioning.token()
    answer = await provisioning.register(name, token, Site="a", x="y")
    await provisioning.world.aws("DeleteThingGroup", thingGroupName="three")
    provisioning.asked.clear()
    provisioning.effects()
    provisioning.world.audit_resources()
    await provisioning.world.published()
    assert await provisioning.register(name, token, x="y", Site="a") == answer
    assert (provisioning.asked, provisioning.effects()) == ([], [])
    assert await provisioning.world.unchanged()


@pytest.mark.parametrize("parameters", [{}, {"Site": "a"}, {"Site": "b", "x": "y"}, {"Site": "a", "x": "y", "z": ""}])
async def test_a_used_token_is_refused_for_another_request(
    provisioning: Provisioning, parameters: dict[str, str]
) -> None:
    name, token = await provisioning.template(body()), await provisioning.token()
    await provisioning.register(name, token, Site="a", x="y")
    assert await refusal(provisioning.register(name, token, **parameters)) == INVALID_TOKEN


async def test_a_used_token_is_refused_for_another_template(provisioning: Provisioning) -> None:
    name, other = await provisioning.template(body()), await provisioning.template(body())
    token = await provisioning.token()
    await provisioning.register(name, token)
    assert await refusal(provisioning.register(other, token)) == INVALID_TOKEN


async def test_a_token_can_be_used_after_a_failure(provisioning: Provisioning) -> None:
    name, token = await provisioning.template(body(Properties={})), await provisioning.token()
    provisioning.world.denied.add("iot:CreateThing")
    with pytest.raises(ProvisioningFailed):
        await provisioning.register(name, token)
    provisioning.world.denied.clear()
    await provisioning.register(name, token)


# -- templates and hooks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (None, "Template with name none does not exist."),
        ({"enabled": False}, "Template t-0 is not enabled."),
        ({"type": "JITP"}, "Template t-0 is not of type FLEET_PROVISIONING."),
    ],
)
async def test_the_template_is_checked_before_the_token(
    provisioning: Provisioning, members: dict[str, Any] | None, reason: str
) -> None:
    name = "none" if members is None else await provisioning.template(body(), **members)
    assert await refusal(provisioning.register(name, None)) == ("template", reason)


@pytest.mark.parametrize(
    ("token", "reason"),
    [(None, "Certificate ownership token cannot be empty."), ("", "Certificate ownership token cannot be empty.")],
)
async def test_a_request_without_a_token_is_refused(provisioning: Provisioning, token: str | None, reason: str) -> None:
    name = await provisioning.template(body())
    assert await refusal(provisioning.register(name, token)) == ("token", reason)


async def test_the_token_is_checked_before_the_hook_is_called(provisioning: Provisioning) -> None:
    name = await provisioning.template(body(), **ASKING)
    assert await refusal(provisioning.register(name, "tmo_x")) == INVALID_TOKEN
    assert provisioning.asked == []


def with_unknown_parameter() -> str:
    return json.dumps({**json.loads(body()), "DeviceConfiguration": {"x": {"Ref": "Unknown"}}})


async def test_the_hook_is_called_before_the_parameters_are_checked(provisioning: Provisioning) -> None:
    name, token = await provisioning.template(with_unknown_parameter(), **ASKING), await provisioning.token()
    provisioning.refusal = ProvisioningRefused("denied", "no")
    assert await refusal(provisioning.register(name, token)) == ("denied", "no")


async def test_the_parameters_are_checked_before_the_role_is_assumed(provisioning: Provisioning) -> None:
    name, token = await provisioning.template(with_unknown_parameter()), await provisioning.token()
    with pytest.raises(InvalidParameters, match="Cannot resolve reference value: Unknown"):
        await provisioning.register(name, token)
    assert provisioning.roles == []


async def test_a_hook_gets_the_request(provisioning: Provisioning) -> None:
    name = await provisioning.template(body(), **ASKING)
    made, token = await provisioning.create()
    await provisioning.register(name, token, Site="a")
    (question,) = provisioning.asked
    pem = (await provisioning.world.aws("DescribeCertificate", certificateId=made))["certificateDescription"]
    assert question == {
        "claimCertificateId": CLAIM,
        "certificateId": made,
        "certificatePem": pem["certificatePem"],
        "templateArn": f"arn:aws:iot:us-east-1:{OURS.account}:provisioningtemplate/{name}",
        "clientId": "device",
        "parameters": {"Site": "a"},
    }


@pytest.mark.parametrize(("account", "asked"), [(THEIRS.account, False), ("999999999999", True)])
async def test_hooks_of_other_accounts_are_not_called(provisioning: Provisioning, account: str, asked: bool) -> None:
    """A hook's ARN from AWS may contain an account id that is not an account of this instance; it is called."""
    hook = {"preProvisioningHook": {"targetArn": LAMBDA.replace(OURS.account, account)}}
    name = await provisioning.template(body(), **hook)
    provisioning.expected_hook = LAMBDA.replace(OURS.account, account)
    if asked:
        await provisioning.register(name, await provisioning.token())
    else:
        with pytest.raises(ProvisioningRefused, match=r"^Access denied while invoking Lambda function$"):
            await provisioning.register(name, await provisioning.token())
    assert bool(provisioning.asked) is asked


async def test_a_hook_overrides_parameters(provisioning: Provisioning) -> None:
    name, token = await provisioning.template(body(), **ASKING), await provisioning.token()
    provisioning.overrides = {"Site": "attic"}
    assert (await provisioning.register(name, token, Site="a")).device_configuration == {"site": "attic"}


async def test_hooks_and_devices_cannot_select_another_certificate(provisioning: Provisioning) -> None:
    name = await provisioning.template(body(), **ASKING)
    (other, _), (made, token) = await provisioning.create(), await provisioning.create()
    provisioning.overrides = {CERTIFICATE_ID: other}
    await provisioning.register(name, token, **{CERTIFICATE_ID: other})
    assert await provisioning.status(made) == Status.ACTIVE
    assert await provisioning.status(other) == Status.PENDING_ACTIVATION
