"""Policies of an account, managed policies (thingmint/NAME, and yandex/ROLE on a resource), and their attachments."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from thingmint.access.administration import inputs
from thingmint.access.administration.declaring import Json, check_account, check_document, command, shown
from thingmint.access.administration.principals import get_principal
from thingmint.domain.errors import Conflict, Invalid, LimitExceeded, NotFound
from thingmint.domain.policies import Kind
from thingmint.domain.policies.managed import MANAGED_POLICIES as DOCUMENTS
from thingmint.domain.policies.managed import ROLES, role_policy
from thingmint.services.quotas import check_quota
from thingmint.store.table import Table, record, to_micros

if TYPE_CHECKING:
    from thingmint.access.administration.declaring import AdminChange
    from thingmint.store.engine import Transaction

_OURS = "thingmint/"
_YANDEX = "yandex/"

MANAGED_POLICIES = (*(f"{_OURS}{name}" for name in DOCUMENTS), *(f"{_YANDEX}{role}" for role in ROLES))

_MAX_ATTACHMENTS = 20


@record
class Policy:
    account: str
    name: str
    document: str
    created_at: datetime
    modified_at: datetime


@record
class Attachment:
    """``principal`` is an id; ``policy`` is the name of a policy of its account, or of a managed policy."""

    principal: str
    policy: str
    resource: str
    attached_at: datetime


class Expected(NamedTuple):
    """The policy that a change is made of, by when it was last changed, in microseconds. None: there is none yet."""

    modified_at: int | None


class Attached(NamedTuple):
    """``document`` is None for a managed policy."""

    policy: str
    resource: str
    document: str | None


POLICIES = Table(Policy, "policies", "policy", key=("account", "name"))
ATTACHMENTS = Table(Attachment, "policy_attachments", "policy attachment", key=("principal", "policy", "resource"))

_OF_ACCOUNT = f"{POLICIES.select}WHERE account = $1 ORDER BY name"
_REWRITE = "UPDATE policies SET document = $3, modified_at = $4 WHERE account = $1 AND name = $2"
_REWRITE_IF = f"{_REWRITE} AND modified_at = $5"
_IS_ATTACHED = (
    "SELECT 1 FROM policy_attachments AS a JOIN principals AS p ON p.id = a.principal "
    "WHERE a.policy = $2 AND p.account = $1 LIMIT 1"
)
_ATTACHED = (
    "SELECT a.policy, a.resource, y.document FROM policy_attachments AS a "
    "JOIN principals AS p ON p.id = a.principal "
    "LEFT JOIN policies AS y ON y.account = p.account AND y.name = a.policy "
    "WHERE a.principal = $1 ORDER BY a.policy, a.resource"
)


_ATTACHED_TO = (
    "SELECT p.kind, p.name, a.resource FROM principals AS p "
    "JOIN policy_attachments AS a ON a.principal = p.id AND a.policy = $2 "
    "WHERE p.account = $1 ORDER BY p.kind, p.name, a.resource LIMIT $3"
)


def is_managed(name: str) -> bool:
    """True for managed policies: an account's own policies have no slash in their names."""
    return "/" in name


def managed_document(name: str, resource: str) -> str | None:
    """The document, or None if there is no such policy. Raises Invalid for a resource on which no role is granted."""
    if name.startswith(_OURS):
        return DOCUMENTS.get(name.removeprefix(_OURS))
    role = name.removeprefix(_YANDEX)
    return role_policy(role, resource) if name.startswith(_YANDEX) and role in ROLES else None


class AttachedTo(NamedTuple):
    """``kind`` and ``name`` are the principal's."""

    kind: str
    name: str
    resource: str


async def attached_to(tx: Transaction, account: str, policy: str, limit: int) -> list[AttachedTo]:
    """The first principals of the account to which the policy is attached."""
    return [AttachedTo(*row) for row in await tx.fetch_all(_ATTACHED_TO, account, policy, limit)]


async def list_attached(tx: Transaction, principal: str) -> list[Attached]:
    """The policies that are attached to the principal with that id."""
    return [Attached(*row) for row in await tx.fetch_all(_ATTACHED, principal)]


@command("policy.put", "Write a policy", inputs.PolicyDocument, "CreatePolicy")
async def put_policy(
    tx: Transaction, change: AdminChange, given: inputs.PolicyDocument, expected: Expected | None = None
) -> Json:
    """Creates the policy, or replaces its document, with immediate effect for all principals that have it.

    Raises Conflict if it is not as ``expected``.
    """
    check_document(given.document, Kind.IDENTITY, given.name)
    await check_account(tx, given.account)
    row = (given.account, given.name, given.document, to_micros(change.now))
    if expected is not None and expected.modified_at is not None:
        if not await tx.execute(_REWRITE_IF, *row, expected.modified_at):
            reason = f"The policy {given.name} was changed after you opened it. Open it again"
            raise Conflict("policy", given.name, reason)
    elif not await POLICIES.insert(tx, Policy(*row[:3], change.now, change.now)):
        if expected is not None:
            raise Conflict("policy", given.name, f"There already is a policy {given.name}. Open it to change it")
        await tx.execute(_REWRITE, *row)
    await check_quota(tx, change.quotas, "policies", given.account)
    tx.audit_resources.append(_arn(given))
    return {"name": given.name}


@command("policy.show", "Show a policy", inputs.NamedPolicy, "GetPolicy")
async def show_policy(tx: Transaction, _change: AdminChange, given: inputs.NamedPolicy) -> Json:
    """The document of an account's policy or of a managed policy."""
    if is_managed(given.name):
        document = managed_document(given.name, "*")
        if document is None:
            raise NotFound("policy", given.name)
    else:
        document = (await POLICIES.get(tx, given.account, given.name)).document
    return {"name": given.name, "document": document}


@command("policy.list", "List the policies, managed ones too", inputs.InAccount, "ListPolicies")
async def list_policies(tx: Transaction, _change: AdminChange, given: inputs.InAccount) -> list[Json]:
    own = POLICIES.load_all(await tx.fetch_all(_OF_ACCOUNT, given.account))
    return [
        *({"name": row.name, "ready_made": False, "modified_at": shown(row.modified_at)} for row in own),
        *({"name": name, "ready_made": True, "modified_at": None} for name in MANAGED_POLICIES),
    ]


@command("policy.delete", "Delete a policy that is not attached", inputs.NamedPolicy, "DeletePolicy")
async def delete_policy(tx: Transaction, _change: AdminChange, given: inputs.NamedPolicy) -> Json:
    await POLICIES.get(tx, given.account, given.name)
    if await tx.fetch_one(_IS_ATTACHED, given.account, given.name):
        raise Conflict("policy", given.name, f"Policy {given.name} is attached: detach it first")
    await POLICIES.delete(tx, given.account, given.name)
    tx.audit_resources.append(_arn(given))
    return {"name": given.name, "deleted": True}


@command("policy.attach", "Attach a policy to a principal", inputs.Attachment, "Attach{Principal}Policy")
async def attach_policy(tx: Transaction, change: AdminChange, given: inputs.Attachment) -> Json:
    """Attaches the policy to the principal. Only a Yandex role (yandex/ROLE) takes a resource."""
    kind, name = given.parsed
    policy, resource = given.policy, given.resource
    if is_managed(policy) and managed_document(policy, resource) is None:
        raise NotFound("policy", policy)
    if resource != "*" and not policy.startswith(_YANDEX):
        raise Invalid("resource", "can be given for a Yandex role only")
    if resource.startswith("yandex:cloud/") and resource != f"yandex:cloud/{given.account}":
        raise NotFound("cloud", resource.removeprefix("yandex:cloud/"))
    principal = await get_principal(tx, given.account, kind, name)
    if not is_managed(policy):
        await POLICIES.get(tx, given.account, policy)
    await ATTACHMENTS.insert(tx, Attachment(principal.id, policy, resource, change.now))
    if len(await list_attached(tx, principal.id)) > _MAX_ATTACHMENTS:
        raise LimitExceeded(kind, name, f"At most {_MAX_ATTACHMENTS} policies can be attached")
    tx.audit_resources.append(principal.arn)
    return {"principal": given.principal, "policy": policy, "resource": resource}


@command("policy.detach", "Detach a policy", inputs.Attachment, "Detach{Principal}Policy")
async def detach_policy(tx: Transaction, _change: AdminChange, given: inputs.Attachment) -> Json:
    principal = await get_principal(tx, given.account, *given.parsed)
    if not await ATTACHMENTS.delete(tx, principal.id, given.policy, given.resource):
        raise NotFound("policy attachment", given.policy)
    tx.audit_resources.append(principal.arn)
    return {"principal": given.principal, "policy": given.policy, "resource": given.resource, "detached": True}


@command("policy.attached", "List the policies of a principal", inputs.Principal, "ListAttached{Principal}Policies")
async def show_attached(tx: Transaction, _change: AdminChange, given: inputs.Principal) -> list[Json]:
    principal = await get_principal(tx, given.account, *given.parsed)
    return [{"policy": row.policy, "resource": row.resource} for row in await list_attached(tx, principal.id)]


def _arn(given: inputs.PolicyDocument | inputs.NamedPolicy) -> str:
    return f"arn:aws:iam::{given.account}:policy/{given.name}"
