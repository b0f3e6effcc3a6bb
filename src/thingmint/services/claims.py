"""Claim certificates that a trusted user requests for a device, to provision it in the next few minutes.

These certificates are not registered: no list contains them, and nothing can be attached to them.
"""

from __future__ import annotations

import functools
import json
from datetime import datetime
from typing import TYPE_CHECKING

from thingmint.domain.arns import Scope, arn
from thingmint.store.table import BoundedDelete, Fingerprint, Table, record, to_micros

if TYPE_CHECKING:
    from thingmint.domain.certificates import Certificate
    from thingmint.services.change import Change
    from thingmint.services.templates import ProvisioningTemplate
    from thingmint.store.engine import Store, Transaction

_KEY = ("account", "region", "fingerprint")
_MAX_LISTED = 50
_EXPIRED = BoundedDelete("provisioning_claims", _KEY, "expires_at <= $1")


@record
class Claim:
    """A claim is invalid once its template was deleted. ``template_generation`` shows if another has its name now."""

    scope: Scope
    fingerprint: Fingerprint
    template: str
    template_generation: str
    expires_at: datetime
    created_at: datetime


CLAIMS = Table(Claim, "provisioning_claims", "claim", key=_KEY)

# All claims that are not expired yet are few: they live for minutes.
_LIVE = (
    f"{CLAIMS.select}WHERE expires_at > $1 AND account = $2 AND region = $3 AND template = $4 "
    "AND template_generation = $5 ORDER BY expires_at DESC LIMIT $6"
)


async def create_claim(
    tx: Transaction, change: Change, template: str, generation: str, certificate: Certificate
) -> None:
    """Store a claim certificate for the template of that name and generation."""
    fingerprint, expires_at = certificate.fingerprint, certificate.not_after
    await CLAIMS.insert(tx, Claim(change.scope, fingerprint, template, generation, expires_at, change.now))
    tx.audit_resources.append(arn(change.scope, f"provisioningtemplate/{template}"))


async def live_claims(tx: Transaction, template: ProvisioningTemplate, now: datetime) -> list[Claim]:
    """Return the newest claims of a template that can be used still, 50 at most."""
    given = to_micros(now), *template.scope, template.name, template.generation, _MAX_LISTED
    return CLAIMS.load_all(await tx.fetch_all(_LIVE, *given))


async def delete_expired_claims(store: Store, now: datetime) -> None:
    """Delete expired claims. The job runner calls this periodically."""
    await _EXPIRED.run(store, to_micros(now))


@functools.lru_cache(maxsize=1024)
def claim_policy(scope: Scope, template: str) -> tuple[str, str]:
    """Return the name and the document of the policy of a claim: provisioning with one template, with any client id."""
    arn = f"arn:aws:iot:{scope.region}:{scope.account}:"
    topics = (
        "$aws/certificates/create/*",
        "$aws/certificates/create-from-csr/*",
        f"$aws/provisioning-templates/{template}/provision/*",
    )
    statements = [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": f"{arn}client/*"},
        {
            "Effect": "Allow",
            "Action": ["iot:Publish", "iot:Receive"],
            "Resource": [f"{arn}topic/{topic}" for topic in topics],
        },
        {
            "Effect": "Allow",
            "Action": "iot:Subscribe",
            "Resource": [f"{arn}topicfilter/{topic}" for topic in topics],
        },
    ]
    return f"claim of {template}", json.dumps({"Version": "2012-10-17", "Statement": statements})
