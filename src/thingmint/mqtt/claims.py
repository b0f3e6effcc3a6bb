"""What the holder of a provisioning claim may do, without any policy being attached."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thingmint.domain.arns import Scope


@functools.lru_cache(maxsize=1024)
def claim_policy(scope: Scope, template: str) -> tuple[str, str]:
    """Name and text of a policy that is good for provisioning by one template, under any client id."""
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
