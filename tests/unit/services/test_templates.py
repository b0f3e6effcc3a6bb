"""Templates and their versions, with a real store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.services.template_support import (
    ABROAD,
    LAMBDA,
    OURS,
    ROLE,
    THEIRS,
    Workshop,
    body,
    new_template,
    with_workshop,
)
from thingmint.domain.errors import (
    AlreadyExists,
    Conflict,
    Invalid,
    InvalidTemplate,
    LimitExceeded,
    NotFound,
)
from thingmint.domain.provisioning import Hook, TemplateVersion
from thingmint.domain.template import CERTIFICATE_ID, Kind
from thingmint.services.templates import TemplateChange

if TYPE_CHECKING:
    from pathlib import Path

ID = "ab" * 32


def test_a_template_is_as_it_was_made(tmp_path: Path) -> None:
    async def scenario(workshop: Workshop) -> None:
        hook = Hook(LAMBDA)
        new = new_template(description="for lamps", enabled=False, hook=hook, tags={"b": "2", "a": ""})
        made = await workshop.templates.create(OURS, new)
        assert (made.default_version, made.last_version) == (1, 1)
        assert made.created_at == made.modified_at == workshop.clock.now
        assert made.arn == "arn:aws:iot:us-east-1:111111111111:provisioningtemplate/lamps"
        template, version = await workshop.templates.describe(OURS, "lamps")
        assert template == made
        assert (template.kind, template.description, template.enabled) == (Kind.FLEET, "for lamps", False)
        assert (template.role_arn, template.hook) == (ROLE, hook)
        assert hook.payload_version == "2020-04-01"
        assert version == TemplateVersion(1, new.body, made.created_at)
        tags = await workshop.rows("SELECT account, region, resource, key, value FROM tags ORDER BY key")
        assert tags == [(*OURS, "provisioningtemplate/lamps", key, value) for key, value in (("a", ""), ("b", "2"))]

    with_workshop(tmp_path, scenario)


def test_a_name_is_taken_once_in_its_account_and_region(tmp_path: Path) -> None:
    async def scenario(workshop: Workshop) -> None:
        await workshop.templates.create(OURS, new_template(description="first", tags={"a": "1"}))
        with pytest.raises(AlreadyExists) as caught:
            await workshop.templates.create(OURS, new_template(description="second", tags={"a": "2"}))
        assert (caught.value.kind, caught.value.id) == ("provisioning template", "lamps")
        assert (await workshop.templates.describe(OURS, "lamps"))[0].description == "first"
        assert await workshop.rows("SELECT value FROM tags") == [("1",)]
        for scope in (ABROAD, THEIRS):
            with pytest.raises(NotFound):
                await workshop.templates.describe(scope, "lamps")
            await workshop.templates.create(scope, new_template(description=scope.region))
        assert (await workshop.templates.describe(OURS, "lamps"))[0].description == "first"

    with_workshop(tmp_path, scenario)


def test_nothing_is_made_of_a_body_or_a_hook_that_is_refused(tmp_path: Path) -> None:
    async def scenario(workshop: Workshop) -> None:
        with pytest.raises(InvalidTemplate, match="Template must have certificate resource"):
            await workshop.templates.create(OURS, new_template(body="{}"))
        with pytest.raises(Invalid, match="preProvisioningHook is only for templates of the type FLEET_PROVISIONING"):
            await workshop.templates.create(OURS, new_template(kind=Kind.JITP, hook=Hook(LAMBDA)))
        assert await workshop.templates.list(OURS, limit=10, token=None) == ([], None)
        await workshop.templates.create(OURS, new_template(kind=Kind.JITP))
        with pytest.raises(InvalidTemplate):
            await workshop.templates.create_version(OURS, "lamps", "[]", default=True)
        with pytest.raises(Invalid, match="only for templates of the type"):
            await workshop.templates.update(OURS, "lamps", TemplateChange(hook=Hook(LAMBDA), enabled=False))
        template, _ = await workshop.templates.describe(OURS, "lamps")
        assert (template.kind, template.enabled, template.last_version) == (Kind.JITP, True, 1)

    with_workshop(tmp_path, scenario)
    for bad in ("", "x", "https://example.com/hook", "arn:aws:lambda"):
        with pytest.raises(Invalid, match="must be an ARN"):
            Hook(bad)


def test_changes(tmp_path: Path) -> None:
    hook = Hook(LAMBDA, "2021-01-01")
    steps: list[tuple[TemplateChange, dict[str, Any]]] = [
        (TemplateChange(), {}),
        (TemplateChange(enabled=False), {"enabled": False}),
        (TemplateChange(enabled=True), {"enabled": True}),
        (TemplateChange(description=""), {"description": ""}),
        (TemplateChange(description="x", role_arn=ROLE + "2"), {"description": "x", "role_arn": ROLE + "2"}),
        (TemplateChange(hook=hook), {"hook": hook}),
        (TemplateChange(default_version=2), {"default_version": 2}),
        (TemplateChange(remove_hook=True), {"hook": None}),
        (TemplateChange(remove_hook=True), {}),
    ]
    fields = ("enabled", "description", "role_arn", "hook", "default_version", "last_version", "kind")

    async def scenario(workshop: Workshop) -> None:
        await workshop.templates.create(OURS, new_template())
        await workshop.templates.create(THEIRS, new_template())
        await workshop.templates.create_version(OURS, "lamps", body(a="2"), default=False)
        for change, expected in steps:
            before, _ = await workshop.templates.describe(OURS, "lamps")
            workshop.clock.advance(seconds=1)
            await workshop.templates.update(OURS, "lamps", change)
            after, version = await workshop.templates.describe(OURS, "lamps")
            assert {name: getattr(after, name) for name in fields} == {
                **{name: getattr(before, name) for name in fields},
                **expected,
            }
            assert after.modified_at == workshop.clock.now > after.created_at == before.created_at
            assert version.version == after.default_version
        theirs, _ = await workshop.templates.describe(THEIRS, "lamps")
        assert (theirs.description, theirs.modified_at) == (None, theirs.created_at)

    with_workshop(tmp_path, scenario)


def test_changes_that_are_refused_change_nothing(tmp_path: Path) -> None:
    async def scenario(workshop: Workshop) -> None:
        made = await workshop.templates.create(OURS, new_template())
        workshop.clock.advance(seconds=1)
        with pytest.raises(NotFound) as caught:
            await workshop.templates.update(OURS, "lamps", TemplateChange(default_version=2, enabled=False))
        assert (caught.value.kind, caught.value.id) == ("provisioning template version", "lamps:2")
        with pytest.raises(Invalid, match="removePreProvisioningHook must not be given together with"):
            await workshop.templates.update(OURS, "lamps", TemplateChange(hook=Hook(LAMBDA), remove_hook=True))
        assert (await workshop.templates.describe(OURS, "lamps"))[0] == made

    with_workshop(tmp_path, scenario)


def test_versions(tmp_path: Path) -> None:
    async def scenario(workshop: Workshop) -> None:
        templates = workshop.templates
        made = await templates.create(OURS, new_template(body=body(v="1")))
        for number in range(2, 6):
            workshop.clock.advance(seconds=1)
            template, version = await templates.create_version(OURS, "lamps", body(v=str(number)), default=number == 3)
            assert version == TemplateVersion(number, body(v=str(number)), workshop.clock.now)
            assert template.default_version == (1 if number < 3 else 3)
        with pytest.raises(LimitExceeded) as caught:
            await templates.create_version(OURS, "lamps", body(v="6"), default=True)
        assert caught.value.reason == "Template lamps has 5 versions already"
        template, version = await templates.describe(OURS, "lamps")
        assert (template.default_version, version.body) == (3, body(v="3"))
        assert template.modified_at == version.created_at > made.modified_at

        with pytest.raises(Invalid, match="versionId is that of the default version, which cannot be deleted"):
            await templates.delete_version(OURS, "lamps", 3)
        await templates.delete_version(OURS, "lamps", 5)
        for call in (templates.delete_version, templates.describe_version):
            for unknown in (0, -1, 5, 6, 2**31 - 1):
                with pytest.raises(NotFound) as missing:
                    await call(OURS, "lamps", unknown)
                assert missing.value.kind == "provisioning template version"
        # A number is never used again.
        _, version = await templates.create_version(OURS, "lamps", body(v="6"), default=False)
        assert version.version == 6
        _, page, token = await templates.list_versions(OURS, "lamps", limit=10, token=None)
        assert ([item.version for item in page], token) == ([6, 4, 3, 2, 1], None)
        assert (await templates.describe_version(OURS, "lamps", 2))[1].body == body(v="2")

    with_workshop(tmp_path, scenario)


def test_pages(tmp_path: Path) -> None:
    async def scenario(workshop: Workshop) -> None:
        names = ["A", "Z", "_", "a", "b-1", "b1", "z"]
        for name in reversed(names):
            await workshop.templates.create(OURS, new_template(name))
        await workshop.templates.create(ABROAD, new_template("abroad"))
        await workshop.templates.create(THEIRS, new_template("theirs"))
        for limit in (1, 2, 3, 7, 250):
            found: list[str] = []
            token: str | None = None
            while True:
                page, token = await workshop.templates.list(OURS, limit=limit, token=token)
                assert 0 < len(page) <= limit
                found += [template.name for template in page]
                if token is None:
                    break
            assert found == names
        for _ in range(4):
            await workshop.templates.create_version(OURS, "a", body(), default=False)
        numbers: list[int] = []
        while True:
            _, versions, token = await workshop.templates.list_versions(OURS, "a", limit=2, token=token)
            numbers += [version.version for version in versions]
            if token is None:
                break
        assert numbers == [5, 4, 3, 2, 1]

        _, list_token = await workshop.templates.list(OURS, limit=1, token=None)
        _, _, version_token = await workshop.templates.list_versions(OURS, "a", limit=1, token=None)
        for scope, token in ((THEIRS, list_token), (ABROAD, list_token), (OURS, version_token), (OURS, "x")):
            with pytest.raises(Invalid, match="nextToken is not one that this list returned"):
                await workshop.templates.list(scope, limit=1, token=token)
        for name, token in (("b1", version_token), ("a", list_token)):
            with pytest.raises(Invalid, match="nextToken is not one that this list returned"):
                await workshop.templates.list_versions(OURS, name, limit=1, token=token)

    with_workshop(tmp_path, scenario)


def test_deleting_takes_everything_along(tmp_path: Path) -> None:
    async def scenario(workshop: Workshop) -> None:
        for scope in (OURS, THEIRS):
            for name in ("lamps", "lamps2"):
                await workshop.templates.create(scope, new_template(name, tags={"a": "1"}))
        await workshop.templates.create_version(OURS, "lamps", body(), default=False)
        claim = await workshop.claims.create(OURS, "lamps")
        other = await workshop.claims.create(OURS, "lamps2")
        await workshop.templates.delete(OURS, "lamps")
        with pytest.raises(NotFound):
            await workshop.templates.delete(OURS, "lamps")
        assert await workshop.claims.find(claim.claim.fingerprint) == []
        assert await workshop.claims.find(other.claim.fingerprint) == [other.claim]
        # Every gateway closes what the claim has open.
        assert await workshop.rows("SELECT account, region, kind, name FROM outbox") == [
            (*OURS, "certificate", claim.claim.fingerprint)
        ]
        for table, left in (("tags", 3), ("provisioning_template_versions", 3), ("provisioning_templates", 3)):
            assert await workshop.rows(f"SELECT count(*) FROM {table}") == [(left,)]
        again = await workshop.templates.create(OURS, new_template())
        assert again.last_version == 1

    with_workshop(tmp_path, scenario)


def test_a_template_that_a_ca_provisions_by_cannot_be_deleted(tmp_path: Path) -> None:
    async def scenario(workshop: Workshop) -> None:
        await workshop.templates.create(OURS, new_template())
        await workshop.templates.create(THEIRS, new_template())
        await workshop.execute(
            "INSERT INTO certificates (fingerprint, der, not_before, not_after) VALUES ($1, $2, 0, 0)", ID, b""
        )
        await workshop.execute(
            "INSERT INTO ca_certificates (account, region, fingerprint, subject, status, mode, auto_registration, "
            "template_name, generation, version, created_at, modified_at) "
            "VALUES ($1, $2, $3, $4, 'ACTIVE', 'DEFAULT', 1, 'lamps', '', 1, 0, 0)",
            *OURS,
            ID,
            b"",
        )
        with pytest.raises(Conflict) as caught:
            await workshop.templates.delete(OURS, "lamps")
        assert caught.value.reason == "Template lamps is used by a CA certificate"
        await workshop.templates.describe(OURS, "lamps")
        await workshop.templates.delete(THEIRS, "lamps")

    with_workshop(tmp_path, scenario)


def test_what_devices_are_provisioned_by(tmp_path: Path) -> None:
    async def scenario(workshop: Workshop) -> None:
        await workshop.templates.create(OURS, new_template(body=body(v="1")))
        await workshop.templates.create(THEIRS, new_template(kind=Kind.JITP, body=body(v="1")))
        for number in (1, 2):
            template, compiled = await workshop.templates.compiled(OURS, "lamps")
            assert template.default_version == number
            assert compiled.kind is Kind.FLEET
            plan = compiled.resolve({}, {CERTIFICATE_ID: ID})
            assert plan.device_configuration == {"v": str(number)}
            assert (await workshop.templates.compiled(OURS, "lamps"))[1] is compiled
            await workshop.templates.create_version(OURS, "lamps", body(v="2"), default=True)
        assert (await workshop.templates.compiled(THEIRS, "lamps"))[1].kind is Kind.JITP

    with_workshop(tmp_path, scenario)


def test_templates_that_are_not_there(tmp_path: Path) -> None:
    async def scenario(workshop: Workshop) -> None:
        templates = workshop.templates
        await templates.create(THEIRS, new_template())
        for call in (
            templates.describe(OURS, "lamps"),
            templates.compiled(OURS, "lamps"),
            templates.update(OURS, "lamps", TemplateChange(enabled=False)),
            templates.delete(OURS, "lamps"),
            templates.create_version(OURS, "lamps", body(), default=False),
            templates.describe_version(OURS, "lamps", 1),
            templates.delete_version(OURS, "lamps", 1),
            templates.list_versions(OURS, "lamps", limit=1, token=None),
            workshop.claims.create(OURS, "lamps"),
        ):
            with pytest.raises(NotFound) as caught:
                await call
            assert (caught.value.kind, caught.value.id) == ("provisioning template", "lamps")
        assert (await templates.describe(THEIRS, "lamps"))[0].enabled

    with_workshop(tmp_path, scenario)
