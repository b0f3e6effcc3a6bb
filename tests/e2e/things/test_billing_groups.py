"""Billing groups over boto3: the eight operations, tags, paging, bad input, other accounts, and a restart."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.e2e.access.local_admin import LocalAdmin, allow, keys_of, refusal
from tests.e2e.conftest import iot_client
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.signing import Signer
    from thingmint.testing import RunningServer

pytestmark = pytest.mark.both_engines


def _name() -> str:
    return f"g-{uuid4().hex[:12]}"


def test_a_group_from_its_creation_to_its_end(iot: Any) -> None:
    name, thing = _name(), _name()
    properties = {"billingGroupDescription": "the north"}
    made = iot.create_billing_group(
        billingGroupName=name, billingGroupProperties=properties, tags=[{"Key": "team", "Value": "lamps"}]
    )
    arn = made["billingGroupArn"]
    assert (made["billingGroupName"], arn.split(":", 5)[5]) == (name, f"billinggroup/{name}")
    described = iot.describe_billing_group(billingGroupName=name)
    assert described["billingGroupId"] == made["billingGroupId"]
    assert (described["version"], described["billingGroupProperties"]) == (1, properties)
    assert "creationDate" in described["billingGroupMetadata"]
    assert refusal(iot.create_billing_group, billingGroupName=name)[:2] == (409, "ResourceAlreadyExistsException")
    changed = {"billingGroupName": name, "billingGroupProperties": {"billingGroupDescription": "the south"}}
    assert iot.update_billing_group(**changed, expectedVersion=1)["version"] == 2
    assert refusal(iot.update_billing_group, **changed, expectedVersion=1)[:2] == (409, "VersionConflictException")
    assert iot.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "team", "Value": "lamps"}]

    made = iot.create_thing(thingName=thing, billingGroupName=name)
    assert iot.describe_thing(thingName=thing)["billingGroupName"] == name
    assert iot.list_things_in_billing_group(billingGroupName=name)["things"] == [thing]
    iot.remove_thing_from_billing_group(billingGroupArn=arn, thingArn=made["thingArn"])
    assert "billingGroupName" not in iot.describe_thing(thingName=thing)
    iot.add_thing_to_billing_group(billingGroupName=name, thingName=thing)
    assert iot.describe_thing(thingName=thing)["billingGroupName"] == name

    stale = refusal(iot.delete_billing_group, billingGroupName=name, expectedVersion=1)
    assert stale[:2] == (409, "VersionConflictException")
    for _ in range(2):
        iot.delete_billing_group(billingGroupName=name)
    assert "billingGroupName" not in iot.describe_thing(thingName=thing)
    for call in (iot.describe_billing_group, iot.list_things_in_billing_group):
        assert refusal(call, billingGroupName=name)[:2] == (404, "ResourceNotFoundException")
    iot.delete_thing(thingName=thing)


def test_pages_have_each_group_and_thing_once_in_order(iot: Any) -> None:
    prefix = _name()
    names = sorted(f"{prefix}-{number}" for number in range(5))
    for name in names:
        iot.create_billing_group(billingGroupName=name)
        iot.create_thing(thingName=name, billingGroupName=names[0])
    pages = iot.get_paginator("list_billing_groups").paginate(namePrefixFilter=prefix, PaginationConfig={"PageSize": 2})
    assert [group["groupName"] for page in pages for group in page["billingGroups"]] == names
    pages = iot.get_paginator("list_things_in_billing_group").paginate(
        billingGroupName=names[0], PaginationConfig={"PageSize": 2}
    )
    assert [thing for page in pages for thing in page["things"]] == names


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/billing-groups/a%20b", {}),
        ("POST", f"/billing-groups/{'a' * 129}", {}),
        ("POST", "/billing-groups/a", {"billingGroupProperties": {"billingGroupDescription": "x" * 2029}}),
        ("POST", "/billing-groups/a", {"billingGroupProperties": {"billingGroupDescription": "\n"}}),
        ("PATCH", "/billing-groups/a", {}),
        ("PATCH", "/billing-groups/a", {"billingGroupProperties": {}, "expectedVersion": "1"}),
        ("DELETE", "/billing-groups/a?expectedVersion=x", None),
        ("GET", "/billing-groups?maxResults=0", None),
        ("GET", "/billing-groups?namePrefixFilter=a%20b", None),
        ("GET", "/billing-groups?nextToken=x", None),
        ("PUT", "/billing-groups/addThingToBillingGroup", {"billingGroupName": "a"}),
        ("PUT", "/billing-groups/addThingToBillingGroup", {"thingName": "a"}),
        ("PUT", "/billing-groups/removeThingFromBillingGroup", {"billingGroupArn": "a", "thingName": "a"}),
    ],
)
def test_inputs_that_the_model_forbids_are_refused(
    signer: Signer, method: str, target: str, body: dict[str, Any] | None
) -> None:
    answer = signer.send(method, target, body=b"" if body is None else json.dumps(body).encode())
    assert (answer.status, answer.aws_code) == (400, "InvalidRequestException")


def test_a_caller_needs_the_action_on_the_group_and_on_the_thing(server: RunningServer, iot: Any) -> None:
    name = _name()
    thing = iot.create_thing(thingName=name)["thingArn"]
    group = iot.create_billing_group(billingGroupName=name)["billingGroupArn"]
    local_admin, both = LocalAdmin(server), {"billingGroupName": name, "thingName": name}
    for allowed in (group, thing):
        with local_admin.iot_of(allow("iot:*", allowed)) as caller:
            assert refusal(caller.add_thing_to_billing_group, **both)[:2] == (403, "AccessDeniedException")
    with local_admin.iot_of(allow("iot:*", [group, thing])) as caller:
        caller.add_thing_to_billing_group(**both)


def test_other_accounts_see_nothing_and_a_restart_changes_nothing(
    tmp_path: Path, new_store: Callable[[], dict[str, str]]
) -> None:
    store, name = new_store(), _name()
    with running_server(tmp_path / "data", environment=store) as server:
        other = LocalAdmin(server).ask("account.create", name="other")
        with (
            contextlib.closing(iot_client(server)) as iot,
            contextlib.closing(iot_client(server, **keys_of(other))) as others,
        ):
            iot.create_billing_group(billingGroupName=name)
            iot.create_thing(thingName="lamp", billingGroupName=name)
            before = iot.describe_billing_group(billingGroupName=name)
            assert others.list_billing_groups()["billingGroups"] == []
            assert refusal(others.describe_billing_group, billingGroupName=name)[0] == 404
            others.create_thing(thingName="lamp")
            assert refusal(others.add_thing_to_billing_group, billingGroupName=name, thingName="lamp")[0] == 404
    with running_server(tmp_path / "data", environment=store) as server, contextlib.closing(iot_client(server)) as iot:
        after = iot.describe_billing_group(billingGroupName=name)
        assert {**after, "ResponseMetadata": None} == {**before, "ResponseMetadata": None}
        assert iot.describe_thing(thingName="lamp")["billingGroupName"] == name
