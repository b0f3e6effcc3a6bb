"""Principals: users, roles and service accounts. Each may do nothing until a policy is attached."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, get_args

from thingmint.access.administration import inputs
from thingmint.access.administration.declaring import Json, check_account, check_document, command, shown
from thingmint.access.administration.inputs import PrincipalKind
from thingmint.domain.arns import Scope
from thingmint.domain.errors import AlreadyExists, Invalid, NotFound
from thingmint.domain.ids import PRINCIPAL, new_id, new_uuid
from thingmint.domain.policies import Kind
from thingmint.services.jobs import Job, add_job, job
from thingmint.services.quotas import Probed, check_quota
from thingmint.store.table import BoundedDelete, Table, record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thingmint.access.administration.declaring import AdminChange, Apply
    from thingmint.store.engine import Transaction

_QUOTAS: Mapping[PrincipalKind, Probed] = {"user": "users", "role": "roles", "service-account": "service_accounts"}


@record
class Principal:
    """Only a role has a ``trust_policy``: it names the callers that may assume the role.

    ``max_session_duration`` is a role's, in seconds. It limits what callers get from STS and the credential provider.
    """

    id: str
    account: str
    kind: str
    name: str
    created_at: datetime
    status: str = "active"
    trust_policy: str | None = None
    max_session_duration: int = 3600

    @property
    def arn(self) -> str:
        return principal_arn(self.account, self.kind, self.name)


PRINCIPALS = Table(Principal, "principals", "principal", key=("id",), unique="(account, kind, name)")

_BY_NAME = f"{PRINCIPALS.select}WHERE account = $1 AND kind = $2 AND name = $3"
_OF_KIND = f"{PRINCIPALS.select}WHERE account = $1 AND kind = $2 ORDER BY name"
_AFTER = f"{PRINCIPALS.select}WHERE account = $1 AND kind = $2 AND name > $3 ORDER BY name LIMIT $4"
_FIRST = f"{PRINCIPALS.select}WHERE kind = 'user' ORDER BY created_at, id LIMIT 1"
_DETACH_POLICIES = "DELETE FROM policy_attachments WHERE principal = $1"
_CREDENTIALS = BoundedDelete("credentials", ("id",), "principal = $1")
_DELETED = "deleted"
_SHORTEST_MAXIMUM, _LONGEST_MAXIMUM = 3600, 43200  # seconds, IAM's bounds of MaxSessionDuration
_CREDENTIALS_OF_DELETED = "credentials of a deleted principal"


def principal_arn(account: str, kind: str, name: str) -> str:
    return f"arn:aws:iam::{account}:{kind}/{name}"


async def find_principal(tx: Transaction, account: str, kind: str, name: str) -> Principal | None:
    row = await tx.fetch_one(_BY_NAME, account, kind, name)
    return PRINCIPALS.load(row) if row is not None else None


async def get_principal(tx: Transaction, account: str, kind: str, name: str) -> Principal:
    """Raises NotFound."""
    principal = await find_principal(tx, account, kind, name)
    if principal is None:
        raise NotFound(kind, name)
    return principal


async def principals_after(tx: Transaction, account: str, kind: str, after: str, limit: int) -> list[Principal]:
    """Up to ``limit`` principals of a kind by name, whose names come after ``after``."""
    return PRINCIPALS.load_all(await tx.fetch_all(_AFTER, account, kind, after, limit))


async def find_first_user(tx: Transaction) -> Principal:
    """The administrator that was made with the instance."""
    row = await tx.fetch_one(_FIRST)
    assert row is not None, "an instance is made with an administrator"
    return PRINCIPALS.load(row)


def _of_each(
    verb: str,
    summary: str,
    input: type[inputs.Input],
    event: str,
    kinds: Sequence[PrincipalKind] = get_args(PrincipalKind),
    **fixed: Any,
) -> Callable[[Apply], Apply]:
    """Declares the command for each kind of principal."""

    def declare(apply: Apply) -> Apply:
        for kind in kinds:
            noun = kind.replace("-", " ")
            command(f"{kind}.{verb}", summary.format(noun), input, event, kind=kind, **fixed)(apply)
        return apply

    return declare


@command("role.create", "Make a role that others may assume", inputs.NewRole, "CreateRole")
async def create_role(tx: Transaction, change: AdminChange, given: inputs.NewRole) -> Json:
    longest = int(given.max_session_duration.total_seconds())
    if not _SHORTEST_MAXIMUM <= longest <= _LONGEST_MAXIMUM:
        raise Invalid("max_session_duration", "must be between 1 hour and 12 hours")
    return await _create(tx, change, given, "role", trust_policy=given.trust_policy, max_session_duration=longest)


@command("role.trust", "Replace the trust policy of a role", inputs.TrustPolicy, "UpdateAssumeRolePolicy")
async def replace_trust_policy(tx: Transaction, _change: AdminChange, given: inputs.TrustPolicy) -> Json:
    """Replaces the document. Sessions of callers that assumed the role before stay valid."""
    check_document(given.trust_policy, Kind.TRUST, given.name)
    role = await get_principal(tx, given.account, "role", given.name)
    await PRINCIPALS.update(tx, replace(role, trust_policy=given.trust_policy))
    tx.audit_resources.append(role.arn)
    return {"name": given.name}


@_of_each("list", "List the {}s of an account", inputs.InAccount, "List{Principal}s")
async def list_principals(
    tx: Transaction, _change: AdminChange, given: inputs.InAccount, *, kind: PrincipalKind
) -> list[Json]:
    rows = await tx.fetch_all(_OF_KIND, given.account, kind)
    return [_shown(principal) for principal in PRINCIPALS.load_all(rows)]


@_of_each("enable", "Accept a {} again", inputs.Named, "Update{Principal}", status="active")
@_of_each("disable", "Refuse a {} until it is enabled again", inputs.Named, "Update{Principal}", status="disabled")
async def set_status(
    tx: Transaction, _change: AdminChange, given: inputs.Named, *, kind: PrincipalKind, status: str
) -> Json:
    principal = await get_principal(tx, given.account, kind, given.name)
    await PRINCIPALS.update(tx, replace(principal, status=status))
    tx.audit_resources.append(principal.arn)
    return {"name": given.name, "status": status}


@_of_each("delete", "Delete a {} and its credentials", inputs.Named, "Delete{Principal}")
async def delete_principal(tx: Transaction, change: AdminChange, given: inputs.Named, *, kind: PrincipalKind) -> Json:
    """Deletes the principal. Its credentials stop working immediately."""
    principal = await get_principal(tx, given.account, kind, given.name)
    await tx.execute(_DETACH_POLICIES, principal.id)
    if await _CREDENTIALS.step(tx, principal.id):  # sessions, of which there may be any number
        # All look-ups filter by kind or by the status active, so this row is no longer found.
        await PRINCIPALS.update(tx, replace(principal, kind=_DELETED, name=principal.id, status=_DELETED))
        id, payload = change.once(new_uuid), {"principal": principal.id}
        await add_job(tx, Scope(given.account, ""), id, _CREDENTIALS_OF_DELETED, payload, change.now)
    else:
        await PRINCIPALS.delete(tx, principal.id)
    tx.audit_resources.append(principal.arn)
    return {"name": given.name, "deleted": True}


@job(_CREDENTIALS_OF_DELETED)
async def _delete_credentials_of_deleted(tx: Transaction, job: Job) -> bool:
    principal = job.payload["principal"]
    if await _CREDENTIALS.step(tx, principal):
        return True
    await PRINCIPALS.delete(tx, principal)
    return False


@_of_each(
    "create",
    "Make a {}; it may do nothing at first",
    inputs.Named,
    "Create{Principal}",
    ("user", "service-account"),
)
async def create(tx: Transaction, change: AdminChange, given: inputs.Named, *, kind: PrincipalKind) -> Json:
    return await _create(tx, change, given, kind)


async def _create(
    tx: Transaction, change: AdminChange, given: inputs.Named, kind: PrincipalKind, **of_role: Any
) -> Json:
    check_document(of_role.get("trust_policy"), Kind.TRUST, given.name)
    id = change.once(lambda: new_id(PRINCIPAL))
    new = Principal(id, given.account, kind, given.name, change.now, **of_role)
    await check_account(tx, given.account)
    if not await PRINCIPALS.insert(tx, new):
        raise AlreadyExists(kind, given.name)
    await check_quota(tx, change.quotas, _QUOTAS[kind], given.account)
    tx.audit_resources.append(new.arn)
    return _shown(new)


def _shown(principal: Principal) -> Json:
    created_at = shown(principal.created_at)
    return {"id": principal.id, "name": principal.name, "status": principal.status, "created_at": created_at}
