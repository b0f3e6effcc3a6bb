"""The page of a thing: what it shows, and the changes that it makes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.unit.console.browser import Site, text_of
from tests.unit.console.test_pages import POLICY, allow, certificate_pem, user
from tests.world import OURS, THEIRS
from thingmint.access.context import Outcome
from thingmint.domain.arns import arn_of
from thingmint.mqtt.connection_log import context_of, device_caller

if TYPE_CHECKING:
    from tests.world import World


async def attached(world: World) -> list[str]:
    return (await world.aws("ListThingPrincipals", thingName="pump"))["principals"]  # type: ignore[no-any-return]


async def test_a_certificate_is_attached_and_detached(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump-7"))
    await world.aws("CreateThing", thingName="pump")
    await world.aws("CreatePolicy", policyName="water", policyDocument=POLICY)
    await world.aws("AttachPolicy", policyName="water", target=arn_of(OURS, id))
    browser = await site.signed_in()
    for given in (id, arn_of(OURS, id), id.upper()):
        answer = await browser.send("/things/pump/attach", "/things/pump", certificate=given)
        assert answer.status_code == 303, text_of(answer)
        assert await attached(world) == [arn_of(OURS, id)]
        text = text_of(await browser.get("/things/pump"))
        assert "pump-7" in text
        assert "water" in text
        await browser.send("/things/pump/detach", "/things/pump", certificate=id)
        assert await attached(world) == []
    events = {event for event, outcome, _ in await site.records() if outcome != "refused"}
    assert {"AttachThingPrincipal", "DetachThingPrincipal"} <= events


async def test_what_cannot_be_attached_is_refused(site: Site, world: World) -> None:
    await world.aws("CreateThing", thingName="pump")
    theirs = await world.certificate(THEIRS, certificate_pem("theirs"))
    browser = await site.signed_in()
    for given, status in (("", 400), ("x", 400), ("a" * 64, 404), (theirs, 404), (arn_of(THEIRS, theirs), 404)):
        answer = await browser.send("/things/pump/attach", "/things/pump", certificate=given)
        assert answer.status_code == status, given
    assert (await browser.send("/things/none/attach", "/things/pump", certificate=theirs)).status_code == 404
    assert await attached(world) == []


async def test_deleting_a_thing_asks_first_and_says_what_prevents_it(site: Site, world: World) -> None:
    id = await world.certificate(pem=certificate_pem("pump-7"))
    await world.aws("CreateThing", thingName="pump")
    await world.aws("AttachThingPrincipal", thingName="pump", principal=arn_of(OURS, id))
    browser = await site.signed_in()
    assert "/console/things/pump/delete" in (await browser.get("/things/pump")).text
    page = await browser.get("/things/pump/delete")
    assert "A certificate is attached to it. Detach it first." in text_of(page)
    assert "/deleted" not in page.text
    assert (await browser.send("/things/pump/deleted")).status_code == 409
    await browser.send("/things/pump/detach", certificate=id)
    assert "/console/things/pump/deleted" in (await browser.get("/things/pump/delete")).text
    assert (await browser.send("/things/pump/deleted")).status_code == 303
    assert (await browser.get("/things/pump")).status_code == 404
    assert (await browser.send("/things/pump/deleted")).status_code == 404


async def test_a_caller_sees_and_does_only_what_the_policies_allow(site: Site, world: World) -> None:
    id = await world.certificate()
    await world.aws("CreateThing", thingName="pump")
    await world.aws("AttachThingPrincipal", thingName="pump", principal=arn_of(OURS, id))
    reads = await site.signed_in(await user(world, "reads", allow("iot:List*", "iot:Describe*")))
    page = await reads.get("/things/pump")
    for form in ("/attach", "/detach", "/delete"):
        assert f"/console/things/pump{form}" not in page.text
    assert (await reads.get("/things/pump/delete")).status_code == 403
    for path in ("attach", "detach", "deleted"):
        assert (await reads.send(f"/things/pump/{path}", certificate=id)).status_code == 403, path
    only: dict[str, object] = {
        "Effect": "Allow",
        "Action": "iot:DetachThingPrincipal",
        "Resource": "*",
        "Condition": {"StringEquals": {"iot:thingArn": f"arn:aws:iot:{OURS.region}:{OURS.account}:thing/pump"}},
    }
    narrow = await site.signed_in(await user(world, "narrow", allow("iot:DescribeEndpoint"), only))
    answer = await narrow.send("/things/pump/detach", "/connect", certificate=id)
    assert answer.status_code == 303, text_of(answer)


async def test_the_timeline_has_connections_refusals_and_changes_in_sentences(site: Site, world: World) -> None:
    browser = await site.signed_in()
    id = await world.certificate(pem=certificate_pem("pump-7"))
    await world.aws("CreateThing", thingName="pump")
    await browser.send("/things/pump/attach", certificate=id)
    await browser.send(f"/certificates/{id}/status", status="INACTIVE")
    caller = device_caller(OURS, id, "pump")
    resource = f"arn:aws:iot:{OURS.region}:{OURS.account}:client/pump"
    site.trail.add(context_of("192.0.2.7", caller, "Connect", world.clock()), Outcome(resource=resource))
    refused = Outcome(status=135, code="NotAuthorized", resource=resource, details={"reason": "no statement"})
    site.trail.add(context_of("192.0.2.7", caller, "Publish", world.clock()), refused)
    await site.trail.close()
    text = text_of(await browser.get("/things/pump"))
    short = f"{id[:12]}\N{HORIZONTAL ELLIPSIS}"
    assert "Thing and certificate attached" in text
    assert text.lower().count("thing and certificate attached") == 1
    assert f"Certificate {short}: set to inactive" in text
    assert "Connected" in text
    assert f"with certificate {short}, from 192.0.2.7" in text
    assert "Refused to publish" in text
    assert not re.search(r"[a-z][A-Z][a-z]+[A-Z]", text.split("What happened")[1].split("The same from")[0])
