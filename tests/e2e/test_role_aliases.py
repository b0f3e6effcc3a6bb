"""Role aliases over boto3: the five operations, tags, paging, bad input, other accounts, and a restart."""

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

_OTHERS_ROLE = "arn:aws:iam::999999999999:role/uploader"


@pytest.fixture
def role(iot: Any) -> str:
    account = iot.create_thing(thingName=_name())["thingArn"].split(":")[4]
    return f"arn:aws:iam::{account}:role/uploader"


def _name() -> str:
    return f"a-{uuid4().hex[:12]}"


def test_an_alias_from_its_creation_to_its_end(iot: Any, role: str) -> None:
    name = _name()
    created = iot.create_role_alias(
        roleAlias=name, roleArn=role, credentialDurationSeconds=900, tags=[{"Key": "team", "Value": "lamps"}]
    )
    arn = created["roleAliasArn"]
    assert (created["roleAlias"], arn.split(":", 5)[5]) == (name, f"rolealias/{name}")
    described = iot.describe_role_alias(roleAlias=name)["roleAliasDescription"]
    assert described["creationDate"] == described["lastModifiedDate"]
    assert {key: described[key] for key in ("roleAlias", "roleAliasArn", "roleArn", "owner")} == {
        "roleAlias": name,
        "roleAliasArn": arn,
        "roleArn": role,
        "owner": role.split(":")[4],
    }
    assert described["credentialDurationSeconds"] == 900

    assert iot.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "team", "Value": "lamps"}]
    iot.tag_resource(resourceArn=arn, tags=[{"Key": "site", "Value": "north"}])
    iot.untag_resource(resourceArn=arn, tagKeys=["team"])
    assert iot.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "site", "Value": "north"}]

    updated = iot.update_role_alias(roleAlias=name, roleArn=f"{role}-2", credentialDurationSeconds=43200)
    assert (updated["roleAlias"], updated["roleAliasArn"]) == (name, arn)
    described = iot.describe_role_alias(roleAlias=name)["roleAliasDescription"]
    assert (described["roleArn"], described["credentialDurationSeconds"]) == (f"{role}-2", 43200)

    assert refusal(iot.create_role_alias, roleAlias=name, roleArn=role)[:2] == (409, "ResourceAlreadyExistsException")
    iot.delete_role_alias(roleAlias=name)
    for operation in (iot.describe_role_alias, iot.update_role_alias, iot.delete_role_alias):
        assert refusal(operation, roleAlias=name)[:2] == (404, "ResourceNotFoundException")
    assert refusal(iot.list_tags_for_resource, resourceArn=arn)[:2] == (404, "ResourceNotFoundException")


def test_names_may_have_all_characters_of_the_model(iot: Any, role: str) -> None:
    name = f"{_name()}=,@_-"
    iot.create_role_alias(roleAlias=name, roleArn=role)
    assert iot.describe_role_alias(roleAlias=name)["roleAliasDescription"]["roleAlias"] == name
    iot.delete_role_alias(roleAlias=name)


def test_pages_have_each_alias_once_in_order(iot: Any, role: str) -> None:
    names = sorted(_name() for _ in range(5))
    for name in names:
        iot.create_role_alias(roleAlias=name, roleArn=role)
    for ascending in (True, False):
        pages = iot.get_paginator("list_role_aliases").paginate(
            ascendingOrder=ascending, PaginationConfig={"PageSize": 2}
        )
        listed = [name for page in pages for name in page["roleAliases"]]
        assert [name for name in listed if name in names] == (names if ascending else names[::-1])
    for name in names:
        iot.delete_role_alias(roleAlias=name)


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/role-aliases/a%20b", {"roleArn": _OTHERS_ROLE}),
        ("POST", f"/role-aliases/{'a' * 129}", {"roleArn": _OTHERS_ROLE}),
        ("POST", "/role-aliases/a", {}),
        ("POST", "/role-aliases/a", {"roleArn": "short"}),
        ("POST", "/role-aliases/a", {"roleArn": "x" * 2049}),
        ("POST", "/role-aliases/a", {"roleArn": "uploader-of-this-account"}),
        ("POST", "/role-aliases/a", {"roleArn": _OTHERS_ROLE, "credentialDurationSeconds": 899}),
        ("POST", "/role-aliases/a", {"roleArn": _OTHERS_ROLE, "credentialDurationSeconds": 43201}),
        ("POST", "/role-aliases/a", {"roleArn": _OTHERS_ROLE, "credentialDurationSeconds": "3600"}),
        ("PUT", "/role-aliases/a", {"credentialDurationSeconds": 0}),
        ("GET", "/role-aliases?pageSize=0", None),
        ("GET", "/role-aliases?pageSize=251", None),
        ("GET", "/role-aliases?marker=bm90LWEtbWFya2Vy", None),
    ],
)
def test_inputs_that_the_model_forbids_are_refused(
    signer: Signer, method: str, target: str, body: dict[str, Any] | None
) -> None:
    answer = signer.send(method, target, body=b"" if body is None else json.dumps(body).encode())
    assert (answer.status, answer.aws_code) == (400, "InvalidRequestException")


def test_a_role_of_another_account_is_refused(iot: Any) -> None:
    name = _name()
    status, code, message = refusal(iot.create_role_alias, roleAlias=name, roleArn=_OTHERS_ROLE)
    assert (status, code, message) == (403, "AccessDeniedException", "Cross-account pass role is not allowed.")
    assert refusal(iot.describe_role_alias, roleAlias=name)[0] == 404


def test_a_caller_needs_the_action_on_the_alias_and_may_have_to_pass_the_role(server: RunningServer, role: str) -> None:
    local_admin, name = LocalAdmin(server), _name()
    alias = f"arn:aws:iot:us-east-1:*:rolealias/{name}"
    with local_admin.iot_of(allow("iot:*", alias), allow("iam:PassRole", role)) as iot:
        iot.create_role_alias(roleAlias=name, roleArn=role)
        iot.update_role_alias(roleAlias=name, credentialDurationSeconds=1200)
        assert refusal(iot.update_role_alias, roleAlias=name, roleArn=f"{role}2")[1] == "AccessDeniedException"
        for operation in (iot.describe_role_alias, iot.delete_role_alias):
            assert refusal(operation, roleAlias=f"{name}x")[:2] == (403, "AccessDeniedException")
        assert iot.describe_role_alias(roleAlias=name)["roleAliasDescription"]["roleArn"] == role
        iot.delete_role_alias(roleAlias=name)


def test_an_account_has_at_most_100_aliases(server: RunningServer) -> None:
    made = LocalAdmin(server).ask("account.create", name=_name())
    role = f"arn:aws:iam::{made['account']}:role/uploader"
    with contextlib.closing(iot_client(server, **keys_of(made))) as iot:
        for number in range(100):
            iot.create_role_alias(roleAlias=f"a-{number}", roleArn=role)
        message = "The quota of 100 role aliases for each region of an account is used up"
        refused = refusal(iot.create_role_alias, roleAlias="a-100", roleArn=role)
        assert refused == (410, "LimitExceededException", message)
        assert refusal(iot.create_role_alias, roleAlias="a-1", roleArn=role)[:2] == (
            409,
            "ResourceAlreadyExistsException",
        )
        iot.delete_role_alias(roleAlias="a-0")
        iot.create_role_alias(roleAlias="a-100", roleArn=role)


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
            account = iot.create_thing(thingName="any")["thingArn"].split(":")[4]
            iot.create_role_alias(roleAlias=name, roleArn=f"arn:aws:iam::{account}:role/uploader")
            before = iot.describe_role_alias(roleAlias=name)["roleAliasDescription"]
            assert others.list_role_aliases()["roleAliases"] == []
            for operation in (others.describe_role_alias, others.update_role_alias, others.delete_role_alias):
                assert refusal(operation, roleAlias=name)[:2] == (404, "ResourceNotFoundException")
    with running_server(tmp_path / "data", environment=store) as server, contextlib.closing(iot_client(server)) as iot:
        assert iot.describe_role_alias(roleAlias=name)["roleAliasDescription"] == before
