"""Lists that have ids also have the names that a person knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.console.browser import Site, text_of
from tests.unit.console.test_pages import POLICY, allow, certificate_pem, user
from tests.world import OURS
from thingmint.console.rendering import brief
from thingmint.domain.arns import arn_of

if TYPE_CHECKING:
    from tests.world import World


async def test_confirmations_and_targets_name_certificates(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump-7"))
    await world.aws("CreateThing", thingName="station-7")
    await world.aws("AttachThingPrincipal", thingName="station-7", principal=arn_of(OURS, id))
    await world.aws("CreatePolicy", policyName="water", policyDocument=POLICY)
    await world.aws("AttachPolicy", policyName="water", target=arn_of(OURS, id))
    name, short = "pump-7, thing station-7", f"{id[:12]}\N{HORIZONTAL ELLIPSIS}"
    browser = await site.signed_in()
    token = await browser.token()
    asked = await browser.post("/certificates/change", form_token=token, id=id, status="INACTIVE")
    assert f"{name} {short}" in text_of(asked)
    assert f"Certificate {short} {name}" in text_of(await browser.get("/policies/one?name=water"))
    actions = ("iot:GetPolicy", "iot:ListTargetsForPolicy", "iot:ListCertificates", "iot:UpdateCertificate")
    narrow = await site.signed_in(await user(world, "narrow", allow(*actions)))
    page = text_of(await narrow.get("/policies/one?name=water"))
    assert id[:12] in page
    assert "pump-7" not in page
    asked = await narrow.post(
        "/certificates/change", form_token=await narrow.token("/certificates"), id=id, status="INACTIVE"
    )
    assert "pump-7" not in text_of(asked)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"cert/{'a' * 64}", f"cert/{'a' * 12}\N{HORIZONTAL ELLIPSIS}"),
        ("x" * 40, "x" * 40),
        ("x" * 41, f"{'x' * 39}\N{HORIZONTAL ELLIPSIS}"),
    ],
)
def test_a_brief_text_has_short_ids(text: str, shown: str) -> None:
    assert brief(text) == shown
