"""The kind ``ca``: CA certificates that an account has registered at AWS IoT.

It has: region, id, pem, status (ACTIVE or INACTIVE), auto_registration, mode (DEFAULT or SNI_ONLY), registration_config
(template_name or template_body, role_arn) or null, created_at, modified_at, tags.

The account has proven at AWS that it has the CA's key, so it need not prove it again here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from thingmint.domain.arns import Scope
from thingmint.domain.ca_certificates import CaCertificate, RegistrationConfig, parse_ca_certificate
from thingmint.domain.errors import Invalid, InvalidTemplate
from thingmint.domain.templates import Kind
from thingmint.importing.kinds.aws_fields import (
    complete,
    in_regions,
    region_in,
    subject,
    tags_in,
    time_in,
)
from thingmint.importing.kinds.declaring import kind, text_in
from thingmint.services.ca_certificates import (
    CA_CERTIFICATES,
    MAX_SAME_SUBJECT,
    CaRegistration,
    CaStatus,
    check_config,
    find_by_subject,
)
from thingmint.services.ca_owners import claim_default_mode
from thingmint.services.certificate_contents import keep_content
from thingmint.services.imports import Result
from thingmint.services.tags import put_tags
from thingmint.services.templates import TEMPLATES
from thingmint.store.outbox import publish_change

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.importing.batches import Item
    from thingmint.services.change import Change
    from thingmint.store.engine import Transaction

_COMPARED = ("status", "auto_registration", "template_body", "template_name", "role_arn")


@dataclass(frozen=True, slots=True)
class _PreparedCa:
    new: CaRegistration
    ca: CaCertificate
    about: str
    tags: Mapping[str, str]
    results: list[Result]

    @property
    def region(self) -> str:
        return self.new.scope.region


def _prepare(change: Change, item: Item) -> _PreparedCa:
    scope = Scope(change.account, region_in(item))
    ca = parse_ca_certificate(text_in(item, "pem", 65_536), "pem")
    change.environment.own_authorities.check(ca.content.public_key(), "pem")
    fingerprint = ca.certificate.fingerprint
    tags, results = tags_in(item, "ca")
    if item.get("id") not in (None, fingerprint):
        results.append(Result("ca", "noted", subject(item), f"its id here is {fingerprint}, the SHA-256 of its DER"))
    config = None
    try:
        config = _config_in(item)
        check_config(config)
    except (Invalid, InvalidTemplate) as error:
        reason = f"it came without its registration configuration and registers no devices: {error}"
        results.append(Result("ca", "noted", subject(item), reason))
        config = None
    automatic = item.get("auto_registration") is True and (
        config is not None or item.get("registration_config") is None
    )
    mode: Literal["DEFAULT", "SNI_ONLY"] = "SNI_ONLY" if item.get("mode") == "SNI_ONLY" else "DEFAULT"
    created_at = time_in(item, "created_at", change.now)
    modified_at = time_in(item, "modified_at", change.now, created_at)
    body, name, role = (config.template_body, config.template_name, config.role_arn) if config else (None, None, None)
    status = CaStatus.ACTIVE if item.get("status") == "ACTIVE" else CaStatus.INACTIVE
    kept = (scope, 0, fingerprint, ca.subject, status, mode, automatic, body, name, role)
    return _PreparedCa(CaRegistration(*kept, "", 1, created_at, modified_at), ca, subject(item), tags, results)


def _config_in(item: Item) -> RegistrationConfig | None:
    config = item.get("registration_config")
    if config is None:
        return None
    if not isinstance(config, dict):
        raise Invalid("registration_config", "must be an object")
    body, name, role = (text_in(config, key, 20_480) or None for key in ("template_body", "template_name", "role_arn"))
    return RegistrationConfig(body, name, role)


@in_regions
async def _add(
    tx: Transaction, change: Change, prepared: Sequence[_PreparedCa], *, dry_run: bool
) -> list[list[Result]]:
    return [await _add_one(tx, change, each, dry_run=dry_run) for each in prepared]


async def _add_one(tx: Transaction, change: Change, each: _PreparedCa, *, dry_run: bool) -> list[Result]:
    new, results = each.new, list(each.results)
    there = await CA_CERTIFICATES.find(tx, *new.scope, new.fingerprint)
    if new.template_name is not None and not dry_run:
        template = await TEMPLATES.find(tx, *new.scope, new.template_name)
        if template is None or template.kind is not Kind.JITP:
            reason = f"it registers no devices: there is no JITP template {new.template_name} here"
            results.append(Result("ca", "noted", each.about, reason))
            new = replace(new, auto_registration=False, template_name=None, role_arn=None)
    if there is not None:
        differs = [name.replace("_", " ") for name in _COMPARED if getattr(there, name) != getattr(new, name)]
        if there.mode == "DEFAULT" and new.mode == "SNI_ONLY":
            differs.append("mode")
        given = ("ca", each.about, new.resource, each.tags)
        return [await complete(tx, change, *given, differs=differs, dry_run=dry_run), *results]
    if len(await find_by_subject(tx, new.scope, new.subject, MAX_SAME_SUBJECT)) >= MAX_SAME_SUBJECT:
        reason = f"{MAX_SAME_SUBJECT} CA certificates have the same subject, and no more can"
        return [Result("ca", "refused", each.about, reason), *results]
    if not dry_run:
        results += await _insert(tx, change, new, each)
    return [Result("ca", "new", each.about), *results]


async def _insert(tx: Transaction, change: Change, new: CaRegistration, each: _PreparedCa) -> list[Result]:
    results = []
    id = await keep_content(tx, change.new_certificate_id(), each.ca.certificate)
    if new.mode == "DEFAULT" and not await claim_default_mode(
        tx, new.scope, new.fingerprint, each.ca.key_id, change.now
    ):
        new = replace(new, mode="SNI_ONLY")
        reason = (
            "it is SNI_ONLY here, because another account has it in DEFAULT mode: its devices must send the account's "
            "host name (thingmint access hostname add)"
        )
        results.append(Result("ca", "noted", each.about, reason))
    await CA_CERTIFICATES.insert(tx, replace(new, certificate=id, generation=change.new_id()))
    await put_tags(tx, new.scope, new.resource, each.tags)
    await publish_change(tx, new.scope, "ca", new.fingerprint, change.now)
    return results


kind("ca", _prepare, subject)(_add)
